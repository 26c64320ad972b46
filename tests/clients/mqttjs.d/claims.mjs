// MQTT.js against a broker on 127.0.0.1: node claims.mjs PORT
import assert from 'node:assert/strict'
import mqtt from 'mqtt'

const port = Number(process.argv[2])
const root = `clients/mqttjs/${process.pid}`
const patience = 20_000

// A client that is connected, with its messages in a queue from the first one on.
async function client (protocolVersion, name, options = {}) {
  const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, {
    clientId: `mqttjs-${name}-${process.pid}`,
    protocolVersion,
    protocolId: protocolVersion === 3 ? 'MQIsdp' : 'MQTT',
    reconnectPeriod: 0,
    connectTimeout: patience,
    ...options
  })
  const messages = []
  const waiting = []
  client.on('message', (topic, payload, packet) => {
    const message = { topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain }
    Object.defineProperty(message, 'properties', { value: packet.properties })
    if (waiting.length > 0) waiting.shift()(message)
    else messages.push(message)
  })
  await within(new Promise((resolve, reject) => {
    client.once('connect', resolve)
    client.once('error', reject)
  }))
  client.expect = async (topic, payload, qos, retain = false) => {
    const message = messages.shift() ?? await within(new Promise(resolve => waiting.push(resolve)))
    assert.deepEqual(message, { topic, payload, qos, retain })
    return message
  }
  return client
}

function within (promise) {
  let timer
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error('nothing came')), patience)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

async function everyQosArrives (version) {
  const topic = `${root}/qos/${version}`
  const subscriber = await client(version, 's')
  const publisher = await client(version, 'p')
  await subscriber.subscribeAsync(topic, { qos: 2 })
  for (const qos of [0, 1, 2]) {
    // This client does not heed Receive Maximum: no more than that are on their way.
    for (let n = 0; n < 100; n += 20) {
      const sent = []
      for (let m = n; m < n + 20; m++) sent.push(publisher.publishAsync(topic, `${m}`, { qos }))
      await within(Promise.all(sent))
    }
    for (let n = 0; n < 100; n++) await subscriber.expect(topic, `${n}`, qos)
  }
  await subscriber.endAsync()
  await publisher.endAsync()
}

async function retainedMessagesAreKeptAndCleared (version) {
  const topic = `${root}/retained/${version}`
  const publisher = await client(version, 'p')
  await publisher.publishAsync(topic, 'kept', { qos: 1, retain: true })
  const subscriber = await client(version, 's')
  await subscriber.subscribeAsync(topic, { qos: 1 })
  await subscriber.expect(topic, 'kept', 1, true)
  await publisher.publishAsync(topic, '', { qos: 1, retain: true })
  await subscriber.expect(topic, '', 1)
  await subscriber.endAsync()
  await publisher.endAsync()
}

async function aSessionWaitsForItsClient (version) {
  const topic = `${root}/session/${version}`
  const options = { clean: false }
  if (version === 5) options.properties = { sessionExpiryInterval: 600 }
  const first = await client(version, 'session', options)
  await first.subscribeAsync(topic, { qos: 1 })
  await first.endAsync()
  const publisher = await client(version, 'p')
  for (let n = 0; n < 50; n++) await publisher.publishAsync(topic, `${n}`, { qos: 1 })
  const again = await client(version, 'session', options)
  for (let n = 0; n < 50; n++) await again.expect(topic, `${n}`, 1)
  await again.endAsync()
  await (await client(version, 'session')).endAsync()
  await publisher.endAsync()
}

async function aWillIsPublished (version) {
  const topic = `${root}/will/${version}`
  const watcher = await client(version, 'watcher')
  await watcher.subscribeAsync(topic, { qos: 1 })
  const lost = await client(version, 'lost', { will: { topic, payload: Buffer.from('gone'), qos: 1, retain: false } })
  lost.on('error', () => {})
  lost.stream.destroy()
  await watcher.expect(topic, 'gone', 1)
  await watcher.endAsync()
}

async function propertiesAndAliasesAreForwarded (version) {
  if (version !== 5) return
  const topic = `${root}/properties`
  const subscriber = await client(5, 's')
  // Aliases as this client assigns them by itself.
  const publisher = await client(5, 'p', { autoAssignTopicAlias: true })
  await subscriber.subscribeAsync(topic, { qos: 1, properties: { subscriptionIdentifier: 300 } })
  const properties = {
    contentType: 'text/plain',
    responseTopic: 'answer',
    correlationData: Buffer.from('42'),
    userProperties: { a: ['1', '2'] }
  }
  for (let n = 0; n < 5; n++) {
    await publisher.publishAsync(topic, `${n}`, { qos: 1, properties: { ...properties } })
    const got = (await subscriber.expect(topic, `${n}`, 1)).properties
    for (const [name, value] of Object.entries(properties)) {
      assert.deepEqual(JSON.parse(JSON.stringify(got[name])), JSON.parse(JSON.stringify(value)), name)
    }
    assert.equal(got.subscriptionIdentifier, 300)
  }
  await subscriber.endAsync()
  await publisher.endAsync()
}

for (const version of [3, 4, 5]) {
  for (const claim of [
    everyQosArrives,
    retainedMessagesAreKeptAndCleared,
    aSessionWaitsForItsClient,
    aWillIsPublished,
    propertiesAndAliasesAreForwarded
  ]) {
    try {
      await claim(version)
    } catch (error) {
      console.error(`mqttjs: ${claim.name} of version ${version}: ${error.message}`)
      process.exit(1)
    }
  }
}
