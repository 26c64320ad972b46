// MQTT.js against a broker on 127.0.0.1: node claims.mjs PORT
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import mqtt from 'mqtt'

const port = Number(process.argv[2])
const patience = 20_000
const subscribers = 8
const publishers = 2
const messages = 20
const protocol = { '3.1': 3, '3.1.1': 4, '5.0': 5 }
const megabyte = Buffer.alloc(1 << 20)
for (let n = 0, state = 1; n < megabyte.length; n++) {
  state = Math.imul(state, 1664525) + 1013904223 >>> 0
  megabyte[n] = state >>> 24
}
const reason = {
  noMatchingSubscribers: 0x10,
  noSubscriptionExisted: 0x11,
  badAuthenticationMethod: 0x8c,
  sessionTakenOver: 0x8e
}

// A client that is not connected yet, with its messages in a queue from the first one on.
function start (version, name, options) {
  const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, {
    clientId: `mqttjs-${name}-${process.pid}`,
    protocolVersion: protocol[version],
    protocolId: version === '3.1' ? 'MQIsdp' : 'MQTT',
    reconnectPeriod: 0,
    connectTimeout: patience,
    ...options
  })
  const queue = []
  const waiting = []
  client.on('message', (topic, payload, { qos, retain, properties }) => {
    const message = { topic, payload, qos, retain, properties }
    if (waiting.length > 0) waiting.shift()(message)
    else queue.push(message)
  })
  client.message = async () => queue.shift() ?? await within(new Promise(resolve => waiting.push(resolve)))
  client.expect = async (topic, payload, qos, retain = false) => {
    const got = await client.message()
    assert.deepEqual({ topic: got.topic, qos: got.qos, retain: got.retain }, { topic, qos, retain })
    assert.equal(Buffer.compare(got.payload, Buffer.from(payload)), 0, `${payload.slice(0, 20)} came otherwise`)
    return got
  }
  return client
}

async function connect (version, name, options = {}) {
  const client = start(version, name, options)
  client.connack = await within(new Promise((resolve, reject) => {
    client.once('connect', resolve)
    client.once('error', reject)
  }))
  return client
}

function persistent (version, name) {
  const properties = version === '5.0' ? { properties: { sessionExpiryInterval: 600 } } : {}
  return connect(version, name, { clean: false, ...properties })
}

function within (promise) {
  let timer
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error('nothing came')), patience)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

function each (count, make) {
  return Promise.all(Array.from({ length: count }, (_, n) => make(n)))
}

function end (...clients) {
  return within(Promise.all(clients.flat().map(client => client.endAsync())))
}

const reachesEverySubscriber = qos => async (version, topic) => {
  const hearing = await each(subscribers, n => connect(version, `s${n}`))
  const speaking = await each(publishers, n => connect(version, `p${n}`))
  await Promise.all(hearing.map(client => client.subscribeAsync(`${topic}/#`, { qos: 2 })))
  // This client does not heed Receive Maximum, 20 by default: no more than that are on their way.
  await Promise.all(speaking.flatMap((client, p) => Array.from({ length: messages }, (_, n) =>
    within(client.publishAsync(`${topic}/${p}`, `${n}`, { qos })))))
  for (const client of hearing) {
    const got = speaking.map(() => [])
    for (let n = 0; n < messages * publishers; n++) {
      const message = await client.message()
      assert.equal(message.qos, qos)
      got[Number(message.topic.split('/').pop())].push(Number(message.payload.toString()))
    }
    for (const ofPublisher of got) assert.deepEqual(ofPublisher, Array.from({ length: messages }, (_, n) => n))
  }
  await end(hearing, speaking)
}

const inAll = {
  qos_0_reaches_every_subscriber: reachesEverySubscriber(0),
  qos_1_reaches_every_subscriber: reachesEverySubscriber(1),
  qos_2_reaches_every_subscriber: reachesEverySubscriber(2),

  async a_megabyte_arrives_intact (version, topic) {
    const [one, two, publisher] = await each(3, n => connect(version, `c${n}`))
    for (const client of [one, two]) await client.subscribeAsync(topic, { qos: 2 })
    for (const qos of [0, 1, 2]) {
      await within(publisher.publishAsync(topic, megabyte, { qos }))
      for (const client of [one, two]) await client.expect(topic, megabyte, qos)
    }
    await end(one, two, publisher)
  },

  async a_retained_message_is_kept_and_cleared (version, topic) {
    const publisher = await connect(version, 'p')
    await publisher.publishAsync(topic, 'kept', { qos: 1, retain: true })
    const subscriber = await connect(version, 's')
    await subscriber.subscribeAsync(topic, { qos: 1 })
    await subscriber.expect(topic, 'kept', 1, true)
    await publisher.publishAsync(topic, '', { qos: 1, retain: true })
    await subscriber.expect(topic, '', 1)
    await end(subscriber)
    const late = await connect(version, 's')
    await late.subscribeAsync(topic, { qos: 1 })
    await publisher.publishAsync(topic, 'fresh', { qos: 1 })
    await late.expect(topic, 'fresh', 1)
    await end(late, publisher)
  },

  async a_will_follows_an_abrupt_close (version, topic) {
    const watcher = await connect(version, 'watcher')
    await watcher.subscribeAsync(topic, { qos: 2 })
    for (const qos of [0, 1, 2]) {
      const lost = await connect(version, 'lost', { will: { topic, payload: Buffer.from(`gone ${qos}`), qos, retain: false } })
      lost.on('error', () => {})
      lost.stream.destroy()
      await watcher.expect(topic, `gone ${qos}`, qos)
    }
    await end(watcher)
  },

  async no_will_follows_a_disconnect (version, topic) {
    const watcher = await connect(version, 'watcher')
    await watcher.subscribeAsync(topic, { qos: 1 })
    await end(await connect(version, 'leaving', { will: { topic, payload: Buffer.from('gone'), qos: 1, retain: false } }))
    await sleep(500)
    const publisher = await connect(version, 'p')
    await publisher.publishAsync(topic, 'still here', { qos: 1 })
    await watcher.expect(topic, 'still here', 1)
    await end(watcher, publisher)
  },

  async a_session_keeps_messages_while_away (version, topic) {
    const first = await persistent(version, 'session')
    assert.equal(first.connack.sessionPresent, false)
    await first.subscribeAsync(topic, { qos: 2 })
    await end(first)
    const publisher = await connect(version, 'p')
    for (const qos of [1, 2]) {
      for (let n = 0; n < messages; n++) await within(publisher.publishAsync(topic, `${n}`, { qos }))
    }
    const again = await persistent(version, 'session')
    if (version !== '3.1') assert.equal(again.connack.sessionPresent, true)
    // A QoS 2 message is shown when it is released, so that only those of one QoS are shown in order.
    const got = { 1: [], 2: [] }
    for (let n = 0; n < 2 * messages; n++) {
      const { qos, payload } = await again.message()
      got[qos].push(Number(payload.toString()))
    }
    for (const qos of [1, 2]) assert.deepEqual(got[qos], Array.from({ length: messages }, (_, n) => n))
    await end(again)
    await end(await connect(version, 'session'), publisher)
  },

  async a_second_connection_takes_over (version, topic) {
    const first = await connect(version, 'twice')
    first.on('error', () => {})
    const closed = new Promise(resolve => first.once('close', resolve))
    const second = await connect(version, 'twice')
    await within(closed)
    await second.subscribeAsync(topic, { qos: 1 })
    await second.publishAsync(topic, 'mine', { qos: 1 })
    await second.expect(topic, 'mine', 1)
    await end(second)
  },

  async suback_grants_the_qos_asked_for (version, topic) {
    const client = await connect(version, 's')
    const asked = { [`${topic}/2`]: { qos: 2 }, [`${topic}/0`]: { qos: 0 }, [`${topic}/1`]: { qos: 1 } }
    const granted = await within(client.subscribeAsync(asked))
    assert.deepEqual(granted.map(({ topic, qos }) => [topic, qos]), [2, 0, 1].map(qos => [`${topic}/${qos}`, qos]))
    await end(client)
  }
}

const in5 = {
  async a_disconnect_names_the_takeover (version) {
    const first = await connect(version, 'twice')
    let code
    first.on('disconnect', packet => { code = packet.reasonCode })
    first.on('error', () => {})
    const closed = new Promise(resolve => first.once('close', resolve))
    const second = await connect(version, 'twice')
    await within(closed)
    assert.equal(code, reason.sessionTakenOver)
    await end(second)
  },

  async properties_arrive_as_sent (version, topic) {
    const [subscriber, publisher] = await each(2, n => connect(version, `c${n}`))
    await subscriber.subscribeAsync(topic, { qos: 1, properties: { subscriptionIdentifier: 300 } })
    const properties = {
      payloadFormatIndicator: true,
      contentType: 'text/plain',
      responseTopic: 'answer',
      correlationData: Buffer.from([0, 255, 42]),
      // As an object, that is, in order for each name.
      userProperties: { b: ['1', '0', '1'], a: '2' }
    }
    await publisher.publishAsync(topic, '?', { qos: 1, properties: { ...properties } })
    const got = (await subscriber.expect(topic, '?', 1)).properties
    for (const [name, value] of Object.entries(properties)) {
      assert.deepEqual(JSON.parse(JSON.stringify(got[name])), JSON.parse(JSON.stringify(value)), name)
    }
    assert.equal(got.subscriptionIdentifier, 300)
    await end(subscriber, publisher)
  },

  async an_alias_stands_for_its_topic (version, topic) {
    const subscriber = await connect(version, 's')
    // This client gives the aliases, and leaves out the topic, by itself; ten are the default's most.
    const publisher = await connect(version, 'p', { autoAssignTopicAlias: true })
    assert.equal(publisher.connack.properties.topicAliasMaximum, 10)
    await subscriber.subscribeAsync(`${topic}/#`, { qos: 1 })
    let shortest = Infinity
    publisher.on('packetsend', packet => {
      if (packet.cmd === 'publish') shortest = Math.min(shortest, packet.topic.length)
    })
    // Within the ten, so that they are used; then beyond, so that they change their topics.
    const sent = Array.from({ length: 48 }, (_, n) => [`${topic}/${n % (n < 24 ? 6 : 12)}`, `${n}`])
    for (const [name, payload] of sent) await publisher.publishAsync(name, payload, { qos: 1 })
    assert.equal(shortest, 0, 'it used no alias')
    const got = new Map()
    for (let n = 0; n < sent.length; n++) {
      const message = await subscriber.message()
      got.set(message.payload.toString(), message.topic)
    }
    for (const [name, payload] of sent) assert.equal(got.get(payload), name)
    await end(subscriber, publisher)
  },

  async a_message_expires (version, topic) {
    const first = await persistent(version, 'session')
    await first.subscribeAsync(`${topic}/queued`, { qos: 1 })
    await end(first)
    const publisher = await connect(version, 'p')
    for (const [payload, messageExpiryInterval] of [['short', 1], ['long', 600]]) {
      const properties = { messageExpiryInterval }
      await publisher.publishAsync(`${topic}/queued`, payload, { qos: 1, properties })
      await publisher.publishAsync(`${topic}/retained/${payload}`, payload, { qos: 1, retain: true, properties })
    }
    await sleep(2500)
    const session = await persistent(version, 'session')
    const queued = (await session.expect(`${topic}/queued`, 'long', 1)).properties.messageExpiryInterval
    assert(queued > 500 && queued < 600, `${queued} s are left of 600 for what was queued`)
    await session.subscribeAsync(`${topic}/retained/#`, { qos: 1 })
    const retained = (await session.expect(`${topic}/retained/long`, 'long', 1, true)).properties.messageExpiryInterval
    assert(retained > 500 && retained < 600, `${retained} s are left of 600 for what was retained`)
    await publisher.publishAsync(`${topic}/queued`, 'last', { qos: 1 })
    await session.expect(`${topic}/queued`, 'last', 1)
    await publisher.publishAsync(`${topic}/retained/long`, '', { qos: 1, retain: true })
    await end(session)
    await end(await connect(version, 'session'), publisher)
  },

  async a_session_expires (version, topic) {
    for (const [name, sessionExpiryInterval] of [['short', 1], ['long', 600]]) {
      const client = await connect(version, name, { clean: false, properties: { sessionExpiryInterval } })
      await client.subscribeAsync(topic, { qos: 1 })
      await end(client)
    }
    await sleep(2500)
    for (const [name, present] of [['short', false], ['long', true]]) {
      const client = await connect(version, name, { clean: false })
      assert.equal(client.connack.sessionPresent, present, name)
      await end(client)
    }
  },

  async puback_says_that_nobody_subscribed (version, topic) {
    const [publisher, subscriber] = await each(2, n => connect(version, `c${n}`))
    const publish = () => new Promise((resolve, reject) => {
      publisher.publish(topic, '?', { qos: 1 }, (error, packet) => error ? reject(error) : resolve(packet))
    })
    const codes = []
    publisher.on('packetreceive', packet => { if (packet.cmd === 'puback') codes.push(packet.reasonCode) })
    await within(publish())
    await subscriber.subscribeAsync(topic, { qos: 1 })
    await within(publish())
    assert.deepEqual(codes, [reason.noMatchingSubscribers, 0])
    await end(publisher, subscriber)
  },

  async unsuback_says_that_nothing_was_there (version, topic) {
    const client = await connect(version, 's')
    await client.subscribeAsync(topic, { qos: 1 })
    const packet = await within(client.unsubscribeAsync([topic, `${topic}/never`]).catch(error => error.packet))
    assert.deepEqual(packet.granted, [0, reason.noSubscriptionExisted])
    await end(client)
  },

  async connack_says_why_it_refuses (version) {
    const client = start(version, 'refused', { properties: { authenticationMethod: 'unheard of' } })
    const error = await within(new Promise(resolve => {
      client.once('error', resolve)
      client.once('connect', resolve)
    }))
    assert.equal(error.code, reason.badAuthenticationMethod)
    await end(client)
  }
}

let status = 0
for (const version of Object.keys(protocol)) {
  for (const [claim, holds] of Object.entries(version === '5.0' ? { ...inAll, ...in5 } : inAll)) {
    try {
      await holds(version, `clients/mqttjs/${process.pid}/${claim}/${version}`)
      console.log(version, claim)
    } catch (error) {
      status = 1
      console.error(`mqttjs: ${version} ${claim}: ${error.message}`)
    }
  }
}
process.exit(status)
