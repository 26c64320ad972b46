"""Eclipse Paho for Python, with a thread for each client: paho_claims.py PORT"""

import os
import queue
import socket
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.subscribeoptions import SubscribeOptions

from properties import properties
from table import (
    BAD_AUTHENTICATION_METHOD,
    MEGABYTE,
    MESSAGES,
    NO_MATCHING_SUBSCRIBERS,
    NO_SUBSCRIPTION_EXISTED,
    PATIENCE_SECS,
    PUBLISHERS,
    SESSION_TAKEN_OVER,
    SUBSCRIBERS,
    equal,
    report,
    topics,
)

PORT = int(sys.argv[1])
VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}
topic_of = topics("paho")


class Client:
    """A client whose events come out of queues."""

    def __init__(self, version, name, clean=True, will=None, accepted=True, **connect):
        five = version == "5.0"
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            f"paho-{name}-{os.getpid()}",
            protocol=VERSIONS[version],
            clean_session=None if five else clean,
            reconnect_on_failure=False,
        )
        self.connected, self.messages, self.gone = queue.Queue(), queue.Queue(), queue.Queue()
        self.subscribed, self.unsubscribed, self.published = queue.Queue(), queue.Queue(), queue.Queue()
        self.client.on_connect = lambda _c, _u, flags, code, _p: self.connected.put((flags, code))
        self.client.on_message = lambda _c, _u, message: self.messages.put(message)
        self.client.on_subscribe = lambda _c, _u, _mid, codes, _p: self.subscribed.put(codes)
        self.client.on_unsubscribe = lambda _c, _u, _mid, codes, _p: self.unsubscribed.put(codes)
        self.client.on_publish = lambda _c, _u, _mid, code, _p: self.published.put(code)
        self.client.on_disconnect = lambda _c, _u, _flags, code, _p: self.gone.put(code)
        if will:
            self.client.will_set(*will)
        more = {"clean_start": clean, "properties": properties("CONNECT", **connect)} if five else {}
        self.client.connect("127.0.0.1", PORT, keepalive=60, **more)
        self.client.loop_start()
        flags, self.code = self.connected.get(timeout=PATIENCE_SECS)
        self.session_present = flags.session_present
        assert self.code.is_failure != accepted, f"CONNACK with {self.code}"

    def subscribe(self, *arguments, **named):
        self.client.subscribe(*arguments, **named)
        return [code.value for code in self.subscribed.get(timeout=PATIENCE_SECS)]

    def unsubscribe(self, topic):
        self.client.unsubscribe(topic)
        return [code.value for code in self.unsubscribed.get(timeout=PATIENCE_SECS)]

    def publish(self, topic, payload, qos, retain=False, **named):
        sent = properties("PUBLISH", **named) if named else None
        self.client.publish(topic, payload, qos, retain, sent)
        return self.published.get(timeout=PATIENCE_SECS).value

    def expect(self, topic, payload, qos, retain=False):
        got = self.messages.get(timeout=PATIENCE_SECS)
        payload = payload.encode() if isinstance(payload, str) else payload
        seen = (got.topic, len(got.payload), got.payload[:20], got.qos, bool(got.retain))
        equal("message", seen, (topic, len(payload), payload[:20], qos, retain))
        assert got.payload == payload, "the payload is not what was sent"
        return got

    def disconnect(self):
        self.client.disconnect()
        self.gone.get(timeout=PATIENCE_SECS)
        self.client.loop_stop()

    def lose_connection(self):
        """Without DISCONNECT, and without coming back."""
        self.client.socket().shutdown(socket.SHUT_RDWR)
        self.gone.get(timeout=PATIENCE_SECS)
        self.client.loop_stop()


def persistent(version):
    return {"clean": False, **({"SessionExpiryInterval": 600} if version == "5.0" else {})}


def reaches_every_subscriber(version, topic, qos):
    subscribers = [Client(version, f"s{n}") for n in range(SUBSCRIBERS)]
    publishers = [Client(version, f"p{n}") for n in range(PUBLISHERS)]
    for subscriber in subscribers:
        subscriber.subscribe(f"{topic}/#", 2)
    for n in range(MESSAGES):
        for p, publisher in enumerate(publishers):
            publisher.publish(f"{topic}/{p}", f"{n}", qos)
    for subscriber in subscribers:
        got = {f"{topic}/{p}": [] for p in range(PUBLISHERS)}
        for _ in range(MESSAGES * PUBLISHERS):
            message = subscriber.messages.get(timeout=PATIENCE_SECS)
            equal("QoS", message.qos, qos)
            got[message.topic].append(message.payload.decode())
        for of_publisher in got.values():
            equal("messages of a publisher", of_publisher, [f"{n}" for n in range(MESSAGES)])
    for client in subscribers + publishers:
        client.disconnect()


def qos_0_reaches_every_subscriber(version, topic):
    reaches_every_subscriber(version, topic, 0)


def qos_1_reaches_every_subscriber(version, topic):
    reaches_every_subscriber(version, topic, 1)


def qos_2_reaches_every_subscriber(version, topic):
    reaches_every_subscriber(version, topic, 2)


def a_megabyte_arrives_intact(version, topic):
    subscribers = [Client(version, f"s{n}") for n in range(2)]
    publisher = Client(version, "p")
    for subscriber in subscribers:
        subscriber.subscribe(topic, 2)
    for qos in range(3):
        publisher.publish(topic, MEGABYTE, qos)
        for subscriber in subscribers:
            subscriber.expect(topic, MEGABYTE, qos)
    for client in [*subscribers, publisher]:
        client.disconnect()


def a_retained_message_is_kept_and_cleared(version, topic):
    publisher = Client(version, "p")
    publisher.publish(topic, "kept", 1, True)
    subscriber = Client(version, "s")
    subscriber.subscribe(topic, 1)
    subscriber.expect(topic, "kept", 1, True)
    publisher.publish(topic, "", 1, True)
    subscriber.expect(topic, "", 1, False)
    subscriber.disconnect()
    late = Client(version, "s")
    late.subscribe(topic, 1)
    publisher.publish(topic, "fresh", 1)
    late.expect(topic, "fresh", 1)
    late.disconnect()
    publisher.disconnect()


def a_will_follows_an_abrupt_close(version, topic):
    watcher = Client(version, "watcher")
    watcher.subscribe(topic, 2)
    for qos in range(3):
        Client(version, "lost", will=(topic, f"gone {qos}", qos, False)).lose_connection()
        watcher.expect(topic, f"gone {qos}", qos)
    watcher.disconnect()


def no_will_follows_a_disconnect(version, topic):
    watcher = Client(version, "watcher")
    watcher.subscribe(topic, 1)
    Client(version, "leaving", will=(topic, "gone", 1, False)).disconnect()
    time.sleep(0.5)
    publisher = Client(version, "p")
    publisher.publish(topic, "still here", 1)
    watcher.expect(topic, "still here", 1)
    publisher.disconnect()
    watcher.disconnect()


def a_session_keeps_messages_while_away(version, topic):
    subscriber = Client(version, "session", **persistent(version))
    equal("session present at first", bool(subscriber.session_present), False)
    subscriber.subscribe(topic, 2)
    subscriber.disconnect()
    publisher = Client(version, "p")
    # This client shows a QoS 2 message when it is released, so that only those of one QoS are shown in order.
    for qos in (1, 2):
        for n in range(MESSAGES):
            publisher.publish(topic, f"{n}", qos)
    subscriber = Client(version, "session", **persistent(version))
    if version != "3.1":
        equal("session present", bool(subscriber.session_present), True)
    for qos in (1, 2):
        for n in range(MESSAGES):
            subscriber.expect(topic, f"{n}", qos)
    subscriber.disconnect()
    Client(version, "session").disconnect()
    publisher.disconnect()


def a_second_connection_takes_over(version, topic):
    first = Client(version, "twice")
    second = Client(version, "twice")
    first.gone.get(timeout=PATIENCE_SECS)
    first.client.loop_stop()
    second.subscribe(topic, 1)
    second.publish(topic, "mine", 1)
    second.expect(topic, "mine", 1)
    second.disconnect()


def suback_grants_the_qos_asked_for(version, topic):
    client = Client(version, "s")
    equal("SUBACK", client.subscribe([(f"{topic}/{qos}", qos) for qos in (2, 0, 1)]), [2, 0, 1])
    client.disconnect()


def a_disconnect_names_the_takeover(version, _topic):
    first = Client(version, "twice")
    second = Client(version, "twice")
    equal("DISCONNECT", first.gone.get(timeout=PATIENCE_SECS).value, SESSION_TAKEN_OVER)
    first.client.loop_stop()
    second.disconnect()


def properties_arrive_as_sent(version, topic):
    subscriber, publisher = Client(version, "s"), Client(version, "p")
    subscriber.subscribe(
        topic, options=SubscribeOptions(qos=1), properties=properties("SUBSCRIBE", SubscriptionIdentifier=300)
    )
    sent = {
        "PayloadFormatIndicator": 1,
        "ContentType": "text/plain",
        "ResponseTopic": "answer",
        "CorrelationData": b"\x00\xff42",
        "UserProperty": [("b", "1"), ("a", "2"), ("b", "1"), ("", "")],
    }
    publisher.publish(topic, "?", 1, **sent)
    got = subscriber.expect(topic, "?", 1).properties
    for name, value in sent.items():
        equal(name, getattr(got, name), value)
    equal("SubscriptionIdentifier", got.SubscriptionIdentifier, [300])
    subscriber.disconnect()
    publisher.disconnect()


def an_alias_stands_for_its_topic(version, topic):
    subscriber, publisher = Client(version, "s"), Client(version, "p")
    subscriber.subscribe(f"{topic}/#", 1)
    publisher.publish(f"{topic}/one", "1", 1, TopicAlias=1)
    publisher.publish("", "2", 1, TopicAlias=1)
    publisher.publish(f"{topic}/two", "3", 1, TopicAlias=1)
    publisher.publish("", "4", 1, TopicAlias=1)
    # Messages of different topics have no order.
    got = sorted((m.payload, m.topic) for m in (subscriber.messages.get(timeout=PATIENCE_SECS) for _ in range(4)))
    wanted = [(b"1", "one"), (b"2", "one"), (b"3", "two"), (b"4", "two")]
    equal("messages", got, [(payload, f"{topic}/{level}") for payload, level in wanted])
    subscriber.disconnect()
    publisher.disconnect()


def a_message_expires(version, topic):
    session = Client(version, "session", **persistent(version))
    session.subscribe(f"{topic}/queued", 1)
    session.disconnect()
    publisher = Client(version, "p")
    for place, retain in (("queued", False), ("retained/short", True)):
        publisher.publish(f"{topic}/{place}", "short", 1, retain, MessageExpiryInterval=1)
    for place, retain in (("queued", False), ("retained/long", True)):
        publisher.publish(f"{topic}/{place}", "long", 1, retain, MessageExpiryInterval=600)
    time.sleep(2.5)
    session = Client(version, "session", **persistent(version))
    left = session.expect(f"{topic}/queued", "long", 1).properties.MessageExpiryInterval
    assert 500 < left < 600, f"{left} s are left of 600 for what was queued"
    session.subscribe(f"{topic}/retained/#", 1)
    left = session.expect(f"{topic}/retained/long", "long", 1, True).properties.MessageExpiryInterval
    assert 500 < left < 600, f"{left} s are left of 600 for what was retained"
    publisher.publish(f"{topic}/queued", "last", 1)
    session.expect(f"{topic}/queued", "last", 1)
    publisher.publish(f"{topic}/retained/long", "", 1, True)
    session.disconnect()
    Client(version, "session").disconnect()
    publisher.disconnect()


def a_session_expires(version, topic):
    for name, expiry in (("short", 1), ("long", 600)):
        client = Client(version, name, clean=False, SessionExpiryInterval=expiry)
        client.subscribe(topic, 1)
        client.disconnect()
    time.sleep(2.5)
    for name, present in (("short", False), ("long", True)):
        client = Client(version, name, clean=False)
        equal(f"session present of {name}", bool(client.session_present), present)
        client.disconnect()


def puback_says_that_nobody_subscribed(version, topic):
    publisher, subscriber = Client(version, "p"), Client(version, "s")
    for qos in (1, 2):
        equal(f"QoS {qos}", publisher.publish(topic, "alone", qos), NO_MATCHING_SUBSCRIBERS if qos == 1 else 0)
    subscriber.subscribe(topic, 1)
    equal("with a subscriber", publisher.publish(topic, "heard", 1), 0)
    publisher.disconnect()
    subscriber.disconnect()


def unsuback_says_that_nothing_was_there(version, topic):
    client = Client(version, "s")
    client.subscribe(topic, 1)
    equal("UNSUBACK", client.unsubscribe([topic, f"{topic}/never"]), [0, NO_SUBSCRIPTION_EXISTED])
    client.disconnect()


def connack_says_why_it_refuses(version, _topic):
    client = Client(version, "refused", accepted=False, AuthenticationMethod="unheard of")
    equal("CONNACK", client.code.value, BAD_AUTHENTICATION_METHOD)
    client.client.loop_stop()


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
    puback_says_that_nobody_subscribed,
    unsuback_says_that_nothing_was_there,
    connack_says_why_it_refuses,
]

report(
    "paho",
    {"3.1": IN_ALL, "3.1.1": IN_ALL, "5.0": IN_ALL + IN_5},
    lambda claim, version: claim(version, topic_of(claim, version)),
)
