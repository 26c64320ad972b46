"""aiomqtt, with all clients in one event loop: aiomqtt_claims.py PORT

It shows neither CONNACK's session present nor the reason codes of PUBACK and UNSUBACK to its users.
"""

import asyncio
import os
import socket
import sys
from contextlib import AsyncExitStack

from aiomqtt import Client, MqttCodeError, MqttError, ProtocolVersion, Will
from paho.mqtt.subscribeoptions import SubscribeOptions

from properties import properties
from table import (
    BAD_AUTHENTICATION_METHOD,
    MEGABYTE,
    MESSAGES,
    PATIENCE_SECS,
    PUBLISHERS,
    SESSION_TAKEN_OVER,
    SUBSCRIBERS,
    equal,
    report,
    topics,
)

PORT = int(sys.argv[1])
PROTOCOLS = {"3.1": ProtocolVersion.V31, "3.1.1": ProtocolVersion.V311, "5.0": ProtocolVersion.V5}
topic_of = topics("aiomqtt")


def connection(version, name, clean=True, will=None, **connect):
    five = version == "5.0"
    more = {"clean_start": clean, "properties": properties("CONNECT", **connect)} if five else {"clean_session": clean}
    return Client(
        "127.0.0.1",
        PORT,
        identifier=f"aiomqtt-{name}-{os.getpid()}",
        protocol=PROTOCOLS[version],
        will=will,
        timeout=PATIENCE_SECS,
        **more,
    )


def persistent(version, name):
    return connection(version, name, False, **({"SessionExpiryInterval": 600} if version == "5.0" else {}))


async def message(client):
    return await asyncio.wait_for(anext(client.messages), PATIENCE_SECS)


async def expect(client, topic, payload, qos, retain=False):
    got = await message(client)
    payload = payload.encode() if isinstance(payload, str) else payload
    seen = (got.topic.value, len(got.payload), got.payload[:20], got.qos, bool(got.retain))
    equal("message", seen, (topic, len(payload), payload[:20], qos, retain))
    assert got.payload == payload, "the payload is not what was sent"
    return got


async def reaches_every_subscriber(version, topic, qos):
    async with AsyncExitStack() as stack:
        subscribers = [await stack.enter_async_context(connection(version, f"s{n}")) for n in range(SUBSCRIBERS)]
        publishers = [await stack.enter_async_context(connection(version, f"p{n}")) for n in range(PUBLISHERS)]
        for subscriber in subscribers:
            await subscriber.subscribe(f"{topic}/#", 2)

        async def publish(p, publisher):
            for n in range(MESSAGES):
                await publisher.publish(f"{topic}/{p}", f"{n}", qos)

        await asyncio.gather(*(publish(p, publisher) for p, publisher in enumerate(publishers)))
        for subscriber in subscribers:
            got = {f"{topic}/{p}": [] for p in range(PUBLISHERS)}
            for _ in range(MESSAGES * PUBLISHERS):
                one = await message(subscriber)
                equal("QoS", one.qos, qos)
                got[one.topic.value].append(one.payload.decode())
            for of_publisher in got.values():
                equal("messages of a publisher", of_publisher, [f"{n}" for n in range(MESSAGES)])


async def qos_0_reaches_every_subscriber(version, topic):
    await reaches_every_subscriber(version, topic, 0)


async def qos_1_reaches_every_subscriber(version, topic):
    await reaches_every_subscriber(version, topic, 1)


async def qos_2_reaches_every_subscriber(version, topic):
    await reaches_every_subscriber(version, topic, 2)


async def a_megabyte_arrives_intact(version, topic):
    async with connection(version, "s1") as one, connection(version, "s2") as two, connection(version, "p") as publisher:
        for subscriber in (one, two):
            await subscriber.subscribe(topic, 2)
        for qos in range(3):
            await publisher.publish(topic, MEGABYTE, qos)
            for subscriber in (one, two):
                await expect(subscriber, topic, MEGABYTE, qos)


async def a_retained_message_is_kept_and_cleared(version, topic):
    async with connection(version, "p") as publisher:
        await publisher.publish(topic, "kept", 1, True)
        async with connection(version, "s") as subscriber:
            await subscriber.subscribe(topic, 1)
            await expect(subscriber, topic, "kept", 1, True)
            await publisher.publish(topic, "", 1, True)
            await expect(subscriber, topic, "", 1)
        async with connection(version, "s") as late:
            await late.subscribe(topic, 1)
            await publisher.publish(topic, "fresh", 1)
            await expect(late, topic, "fresh", 1)


async def a_will_follows_an_abrupt_close(version, topic):
    async with connection(version, "watcher") as watcher:
        await watcher.subscribe(topic, 2)
        for qos in range(3):
            try:
                async with connection(version, "lost", will=Will(topic, f"gone {qos}", qos)) as lost:
                    # There is no public way to leave without DISCONNECT.
                    lost._client.socket().shutdown(socket.SHUT_RDWR)
                    await message(lost)
            except MqttError:
                pass
            await expect(watcher, topic, f"gone {qos}", qos)


async def no_will_follows_a_disconnect(version, topic):
    async with connection(version, "watcher") as watcher, connection(version, "p") as publisher:
        await watcher.subscribe(topic, 1)
        async with connection(version, "leaving", will=Will(topic, "gone", 1)):
            pass
        await asyncio.sleep(0.5)
        await publisher.publish(topic, "still here", 1)
        await expect(watcher, topic, "still here", 1)


async def a_session_keeps_messages_while_away(version, topic):
    async with persistent(version, "session") as subscriber:
        await subscriber.subscribe(topic, 2)
    async with connection(version, "p") as publisher:
        # A QoS 2 message is shown when it is released, so that only those of one QoS are shown in order.
        for qos in (1, 2):
            for n in range(MESSAGES):
                await publisher.publish(topic, f"{n}", qos)
    async with persistent(version, "session") as subscriber:
        for qos in (1, 2):
            for n in range(MESSAGES):
                await expect(subscriber, topic, f"{n}", qos)
    async with connection(version, "session"):
        pass


async def until_taken_over(version, connected):
    """The error of a connection whose client identifier another one takes."""
    try:
        async with connection(version, "twice") as first:
            connected.set()
            await message(first)
    except MqttError as error:
        return error
    raise AssertionError("the first connection got a message")


async def a_second_connection_takes_over(version, topic):
    connected = asyncio.Event()
    first = asyncio.create_task(until_taken_over(version, connected))
    await asyncio.wait_for(connected.wait(), PATIENCE_SECS)
    async with connection(version, "twice") as second:
        await first
        await second.subscribe(topic, 1)
        await second.publish(topic, "mine", 1)
        await expect(second, topic, "mine", 1)


async def a_disconnect_names_the_takeover(version, _topic):
    connected = asyncio.Event()
    first = asyncio.create_task(until_taken_over(version, connected))
    await asyncio.wait_for(connected.wait(), PATIENCE_SECS)
    async with connection(version, "twice"):
        equal("DISCONNECT", (await first).__cause__.rc.value, SESSION_TAKEN_OVER)


async def suback_grants_the_qos_asked_for(version, topic):
    async with connection(version, "s") as client:
        codes = await client.subscribe([(f"{topic}/{qos}", qos) for qos in (2, 0, 1)])
        equal("SUBACK", [code.value for code in codes], [2, 0, 1])


async def properties_arrive_as_sent(version, topic):
    sent = {
        "PayloadFormatIndicator": 1,
        "ContentType": "text/plain",
        "ResponseTopic": "answer",
        "CorrelationData": b"\x00\xff42",
        "UserProperty": [("b", "1"), ("a", "2"), ("b", "1"), ("", "")],
    }
    async with connection(version, "s") as subscriber, connection(version, "p") as publisher:
        identifier = properties("SUBSCRIBE", SubscriptionIdentifier=300)
        await subscriber.subscribe(topic, options=SubscribeOptions(qos=1), properties=identifier)
        await publisher.publish(topic, "?", 1, properties=properties("PUBLISH", **sent))
        got = (await expect(subscriber, topic, "?", 1)).properties
        for name, value in sent.items():
            equal(name, getattr(got, name), value)
        equal("SubscriptionIdentifier", got.SubscriptionIdentifier, [300])


async def an_alias_stands_for_its_topic(version, topic):
    async with connection(version, "s") as subscriber, connection(version, "p") as publisher:
        await subscriber.subscribe(f"{topic}/#", 1)
        for n, name in enumerate((f"{topic}/one", "", f"{topic}/two", "")):
            await publisher.publish(name, f"{n}", 1, properties=properties("PUBLISH", TopicAlias=1))
        # Messages of different topics have no order.
        got = sorted([(m.payload, m.topic.value) for m in [await message(subscriber) for _ in range(4)]])
        wanted = [(b"0", "one"), (b"1", "one"), (b"2", "two"), (b"3", "two")]
        equal("messages", got, [(payload, f"{topic}/{level}") for payload, level in wanted])


async def a_message_expires(version, topic):
    async with persistent(version, "session") as session:
        await session.subscribe(f"{topic}/queued", 1)
    async with connection(version, "p") as publisher:
        for payload, expiry in (("short", 1), ("long", 600)):
            sent = properties("PUBLISH", MessageExpiryInterval=expiry)
            await publisher.publish(f"{topic}/queued", payload, 1, properties=sent)
            await publisher.publish(f"{topic}/retained/{payload}", payload, 1, True, properties=sent)
        await asyncio.sleep(2.5)
        async with persistent(version, "session") as session:
            left = (await expect(session, f"{topic}/queued", "long", 1)).properties.MessageExpiryInterval
            assert 500 < left < 600, f"{left} s are left of 600 for what was queued"
            await session.subscribe(f"{topic}/retained/#", 1)
            left = (await expect(session, f"{topic}/retained/long", "long", 1, True)).properties.MessageExpiryInterval
            assert 500 < left < 600, f"{left} s are left of 600 for what was retained"
            await publisher.publish(f"{topic}/queued", "last", 1)
            await expect(session, f"{topic}/queued", "last", 1)
        await publisher.publish(f"{topic}/retained/long", "", 1, True)
    async with connection(version, "session"):
        pass


async def a_session_expires(version, topic):
    for name, expiry in (("short", 1), ("long", 600)):
        async with connection(version, name, False, SessionExpiryInterval=expiry) as client:
            await client.subscribe(topic, 1)
    await asyncio.sleep(2.5)
    async with connection(version, "short", False) as short, connection(version, "long", False) as long:
        # Only the subscription of the session that is still there can show the difference here.
        async with connection(version, "p") as publisher:
            await publisher.publish(topic, "who is there?", 1)
        await expect(long, topic, "who is there?", 1)
        await asyncio.sleep(0.5)
        equal("messages of the session that expired", len(short.messages), 0)


async def connack_says_why_it_refuses(version, _topic):
    try:
        async with connection(version, "refused", AuthenticationMethod="unheard of"):
            raise AssertionError("it does not refuse")
    except MqttCodeError as error:
        equal("CONNACK", error.rc.value, BAD_AUTHENTICATION_METHOD)


IN_ALL = [
    qos_0_reaches_every_subscriber,
    qos_1_reaches_every_subscriber,
    qos_2_reaches_every_subscriber,
    a_megabyte_arrives_intact,
    a_retained_message_is_kept_and_cleared,
    a_will_follows_an_abrupt_close,
    no_will_follows_a_disconnect,
    a_session_keeps_messages_while_away,
    a_second_connection_takes_over,
    suback_grants_the_qos_asked_for,
]
IN_5 = [
    a_disconnect_names_the_takeover,
    properties_arrive_as_sent,
    an_alias_stands_for_its_topic,
    a_message_expires,
    a_session_expires,
    connack_says_why_it_refuses,
]

report(
    "aiomqtt",
    {"3.1": IN_ALL, "3.1.1": IN_ALL, "5.0": IN_ALL + IN_5},
    lambda claim, version: asyncio.run(claim(version, topic_of(claim, version))),
)
