"""The original's own mosquitto_pub and mosquitto_sub, as Debian installs them: mosquitto_claims.py PORT"""

import os
import re
import subprocess
import sys
import time

from table import (
    BAD_AUTHENTICATION_METHOD,
    MEGABYTE,
    MESSAGES,
    NO_MATCHING_SUBSCRIBERS,
    PATIENCE_SECS,
    PUBLISHERS,
    SESSION_TAKEN_OVER,
    SUBSCRIBERS,
    equal,
    report,
    topics,
)

PORT = sys.argv[1]
VERSIONS = {"3.1": "mqttv31", "3.1.1": "mqttv311", "5.0": "mqttv5"}
TIMED_OUT = 27
topic_of = topics("mosquitto")


def command(program, version, *arguments):
    # The programs of the package, whatever is first in PATH, with lines as they come.
    return ["stdbuf", "-oL", f"/usr/bin/{program}", "-V", VERSIONS[version], "-p", PORT, *map(str, arguments)]


def run(program, version, *arguments, status=0, payload=b""):
    """What it prints, once it has ended with that status."""
    made = command(program, version, *arguments)
    done = subprocess.run(made, input=payload, capture_output=True, timeout=PATIENCE_SECS, check=False)
    equal(f"status of {program}, which says {done.stderr!r}", done.returncode, status)
    return done.stdout.decode()


def pub(version, *arguments, **more):
    return run("mosquitto_pub", version, *arguments, **more)


def sub(version, *arguments, **more):
    return run("mosquitto_sub", version, "-W", PATIENCE_SECS // 2, *arguments, **more)


def numbers():
    return "".join(f"{n}\n" for n in range(MESSAGES)).encode()


class Listener:
    """A mosquitto_sub in the background, whose SUBACK has come. Its debug lines are told from messages by a mark."""

    def __init__(self, version, form, *arguments):
        options = ("-W", PATIENCE_SECS, "-d", "-F", f"> {form}", *arguments)
        self.process = subprocess.Popen(
            command("mosquitto_sub", version, *options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines = []
        self.until("Subscribed")

    def until(self, text):
        for line in self.process.stdout:
            self.lines.append(line)
            if text in line:
                return
        self.process.wait()
        raise AssertionError(f"no {text!r} came before the end: {self.lines}")

    def heard(self):
        """The messages, once it has got all that it waits for."""
        self.lines.extend(self.process.stdout)
        equal(f"status of mosquitto_sub, which says {self.lines[-5:]}", self.process.wait(), 0)
        return [line[2:].rstrip("\n") for line in self.lines if line.startswith("> ")]

    def kill(self):
        self.process.kill()
        self.process.wait()


def session(version, name, *arguments, secs=600, **more):
    """A mosquitto_sub whose session stays."""
    stays = ("-c", "-x", secs) if version == "5.0" else ("-c",)
    return sub(version, *stays, "-i", f"clients-{name}-{os.getpid()}", *arguments, **more)


def forget(version, name, topic):
    """A clean session of the same name ends it."""
    sub(version, "-i", f"clients-{name}-{os.getpid()}", "-t", f"{topic}/unheard", "-E")


def reaches_every_subscriber(version, topic, qos):
    wanted = ("%q %t %p", "-q", 2, "-t", f"{topic}/#", "-C", MESSAGES * PUBLISHERS)
    listeners = [Listener(version, *wanted) for _ in range(SUBSCRIBERS)]
    publishers = []
    for p in range(PUBLISHERS):
        made = command("mosquitto_pub", version, "-q", qos, "-t", f"{topic}/{p}", "-l")
        publisher = subprocess.Popen(made, stdin=subprocess.PIPE)
        publisher.stdin.write(numbers())
        publisher.stdin.close()
        publishers.append(publisher)
    for publisher in publishers:
        equal("status of mosquitto_pub", publisher.wait(PATIENCE_SECS), 0)
    for listener in listeners:
        got = listener.heard()
        for p in range(PUBLISHERS):
            of_publisher = [line for line in got if f"{topic}/{p} " in line]
            equal("messages of a publisher", of_publisher, [f"{qos} {topic}/{p} {n}" for n in range(MESSAGES)])


def qos_0_reaches_every_subscriber(version, topic):
    reaches_every_subscriber(version, topic, 0)


def qos_1_reaches_every_subscriber(version, topic):
    reaches_every_subscriber(version, topic, 1)


def qos_2_reaches_every_subscriber(version, topic):
    reaches_every_subscriber(version, topic, 2)


def a_megabyte_arrives_intact(version, topic):
    for qos in range(3):
        listener = Listener(version, "%x", "-q", 2, "-t", topic, "-C", 1)
        pub(version, "-q", qos, "-t", topic, "-s", payload=MEGABYTE)
        assert listener.heard() == [MEGABYTE.hex()], f"QoS {qos}: the payload is not what was sent"


def a_retained_message_is_kept_and_cleared(version, topic):
    pub(version, "-t", topic, "-m", "kept", "-r", "-q", 1)
    got = sub(version, "-q", 1, "-t", f"{topic}/#", "-C", 1, "-F", "%r %q %t %p")
    equal("what is retained", got, f"1 1 {topic} kept\n")
    pub(version, "-t", topic, "-n", "-r", "-q", 1)
    equal("what is left", sub(version, "-t", topic, "-C", 1, "-W", 1, status=TIMED_OUT), "")


def a_will_follows_an_abrupt_close(version, topic):
    for qos in range(3):
        watcher = Listener(version, "%q %p", "-t", topic, "-q", 2, "-C", 1)
        will = ("--will-topic", topic, "--will-payload", "gone", "--will-qos", qos)
        Listener(version, "%p", "-t", f"{topic}/unheard", *will).kill()
        equal("the will", watcher.heard(), [f"{qos} gone"])


def no_will_follows_a_disconnect(version, topic):
    watcher = Listener(version, "%p", "-t", topic, "-q", 1, "-C", 1)
    sub(version, "-t", f"{topic}/unheard", "-E", "--will-topic", topic, "--will-payload", "gone", "--will-qos", 1)
    time.sleep(0.5)
    pub(version, "-t", topic, "-m", "still here", "-q", 1)
    equal("what came", watcher.heard(), ["still here"])


def a_session_keeps_messages_while_away(version, topic):
    session(version, "session", "-q", 2, "-t", topic, "-E")
    for qos in (1, 2):
        pub(version, "-t", topic, "-q", qos, "-l", payload=numbers())
    got = session(version, "session", "-q", 2, "-t", f"{topic}/unheard", "-C", 2 * MESSAGES, "-F", "%q %p").splitlines()
    equal("what came while away", got, [f"{qos} {n}" for qos in (1, 2) for n in range(MESSAGES)])
    forget(version, "session", topic)


def a_second_connection_takes_over(version, topic):
    name = f"clients-twice-{os.getpid()}"
    first = Listener(version, "%p", "-t", topic, "-i", name)
    pub(version, "-t", f"{topic}/unheard", "-i", name, "-m", "mine", "-q", 1)
    # Where this client is told why, it ends; else it comes back by itself after a second.
    try:
        first.until("Subscribed")
    except AssertionError:
        equal("version of a client that does not come back", version, "5.0")
    first.kill()


def suback_grants_the_qos_asked_for(version, topic):
    for qos in (2, 0, 1):
        got = sub(version, "-d", "-q", qos, "-t", f"{topic}/{qos}", "-t", f"{topic}/{qos}/#", "-E")
        assert f"Subscribed (mid: 1): {qos}, {qos}\n" in got, got


def a_disconnect_names_the_takeover(version, topic):
    name = f"clients-twice-{os.getpid()}"
    first = Listener(version, "%p", "-t", topic, "-i", name)
    try:
        pub(version, "-t", f"{topic}/unheard", "-i", name, "-m", "mine", "-q", 1)
        first.until(f"Received DISCONNECT ({SESSION_TAKEN_OVER})")
    finally:
        first.kill()


def properties_arrive_as_sent(version, topic):
    listener = Listener(version, "%p %F %C %R %D %P", "-t", topic, "-C", 1)
    sent = {"payload-format-indicator": "1", "content-type": "text/plain", "response-topic": "answer"}
    arguments = [argument for name, value in sent.items() for argument in ("-D", "publish", name, value)]
    arguments += ["-D", "publish", "correlation-data", "42"]
    for name, value in (("b", "1"), ("a", "2"), ("b", "1")):
        arguments += ["-D", "publish", "user-property", name, value]
    pub(version, "-t", topic, "-m", "?", *arguments)
    equal("properties", listener.heard(), ["? 1 text/plain answer 42 b:1 a:2 b:1"])


def an_alias_stands_for_its_topic(version, topic):
    listener = Listener(version, "%t %p", "-q", 1, "-t", f"{topic}/#", "-C", MESSAGES)
    # From the second line on, this client leaves out the topic.
    pub(version, "-q", 1, "-t", f"{topic}/one", "-l", "-D", "publish", "topic-alias", 1, payload=numbers())
    equal("messages", listener.heard(), [f"{topic}/one {n}" for n in range(MESSAGES)])


def a_message_expires(version, topic):
    session(version, "session", "-q", 1, "-t", f"{topic}/queued", "-E")
    for payload, secs in (("short", 1), ("long", 600)):
        expiry = ("-m", payload, "-q", 1, "-D", "publish", "message-expiry-interval", secs)
        pub(version, "-t", f"{topic}/queued", *expiry)
        pub(version, "-t", f"{topic}/retained/{payload}", *expiry, "-r")
    time.sleep(2.5)
    for got in (
        session(version, "session", "-q", 1, "-t", f"{topic}/unheard", "-C", 1, "-F", "%p %E"),
        sub(version, "-q", 1, "-t", f"{topic}/retained/#", "-C", 1, "-F", "%p %E"),
    ):
        assert re.fullmatch("long 5[0-9][0-9]\n", got), f"what came with the seconds left: {got!r}"
    pub(version, "-t", f"{topic}/retained/long", "-n", "-r", "-q", 1)
    forget(version, "session", topic)


def a_session_expires(version, topic):
    session(version, "short", "-q", 1, "-t", topic, "-E", secs=1)
    session(version, "long", "-q", 1, "-t", topic, "-E")
    time.sleep(2.5)
    pub(version, "-t", topic, "-m", "who is there?", "-q", 1)
    equal("the long session", session(version, "long", "-t", f"{topic}/unheard", "-C", 1), "who is there?\n")
    unheard = ("-t", f"{topic}/unheard", "-C", 1, "-W", 1)
    equal("the short session", session(version, "short", *unheard, secs=1, status=TIMED_OUT), "")
    forget(version, "long", topic)


def puback_says_that_nobody_subscribed(version, topic):
    def publish():
        return re.findall("received PUBACK .*RC:([0-9]+)", pub(version, "-t", topic, "-m", "?", "-q", 1, "-d"))

    equal("PUBACK", publish(), [str(NO_MATCHING_SUBSCRIBERS)])
    listener = Listener(version, "%p", "-t", topic, "-q", 1, "-C", 1)
    equal("PUBACK with a subscriber", publish(), ["0"])
    equal("what came", listener.heard(), ["?"])


def connack_says_why_it_refuses(version, topic):
    unheard_of = ("-D", "connect", "authentication-method", "unheard of")
    pub(version, "-t", topic, "-m", "never", *unheard_of, status=BAD_AUTHENTICATION_METHOD)


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
    connack_says_why_it_refuses,
]

report(
    "mosquitto",
    {"3.1": IN_ALL, "3.1.1": IN_ALL, "5.0": IN_ALL + IN_5},
    lambda claim, version: claim(version, topic_of(claim, version)),
)
