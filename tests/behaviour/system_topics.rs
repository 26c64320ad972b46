//! `$SYS`: the topics of the original, with the values that the original shows in the same situation.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::broker::Setup;
use crate::client::Client;
use crate::wire::{Got, Publish, V5, V311, connect, publish, subscribe};
use crate::{Bench, Test, test};

/// Each that counts has a broker of its own, by lines of its own.
const LINES: &str = "allow_anonymous true\nsys_interval 1\n";

pub const TESTS: &[Test] = &[
    test!(topics_of_the_original_are_there_retained_at_qos_2).setup(Setup::With(LINES)),
    test!(no_wildcard_of_the_first_level_matches_them).setup(Setup::With(LINES)),
    test!(clients_are_counted).setup(Setup::With(
        "allow_anonymous true\nsys_interval 1\n# clients\n",
    )),
    test!(subscriptions_are_counted).setup(Setup::With(
        "allow_anonymous true\nsys_interval 1\n# subscriptions\n",
    )),
    test!(messages_received_are_counted).setup(Setup::With(
        "allow_anonymous true\nsys_interval 1\n# received\n",
    )),
    test!(retained_publishes_and_those_of_qos_2_are_counted_too)
        .setup(Setup::With(
            "allow_anonymous true\nsys_interval 1\n# qos 2\n",
        ))
        .original_breaks("leaves them out"),
    test!(messages_sent_are_counted).setup(Setup::With(
        "allow_anonymous true\nsys_interval 1\n# sent\n",
    )),
    test!(retained_messages_are_counted).setup(Setup::With(
        "allow_anonymous true\nsys_interval 1\n# retained\n",
    )),
    test!(what_a_full_queue_drops_is_counted).setup(Setup::With(
        "allow_anonymous true\nsys_interval 1\nmax_queued_messages 5\n",
    )),
    test!(packets_of_each_type_are_counted)
        .setup(Setup::With(
            "allow_anonymous true\nsys_interval 1\n# packets\n",
        ))
        .original_breaks("lists the topics in its manual and never publishes them"),
];

/// What is published of every broker, from the start.
const NUMBERS: &[&str] = &[
    "bytes/received",
    "bytes/sent",
    "clients/active",
    "clients/connected",
    "clients/disconnected",
    "clients/expired",
    "clients/inactive",
    "clients/maximum",
    "clients/total",
    "heap/current",
    "heap/maximum",
    "messages/received",
    "messages/sent",
    "messages/stored",
    "publish/bytes/received",
    "publish/bytes/sent",
    "publish/messages/dropped",
    "publish/messages/received",
    "publish/messages/sent",
    "retained messages/count",
    "shared_subscriptions/count",
    "store/messages/bytes",
    "store/messages/count",
    "subscriptions/count",
];

const LOADS: &[&str] = &[
    "bytes/received",
    "bytes/sent",
    "connections",
    "messages/received",
    "messages/sent",
    "publish/dropped",
    "publish/received",
    "publish/sent",
    "sockets",
];

/// A client that is told what these topics say.
struct Watch {
    client: Client,
    values: BTreeMap<String, String>,
}

impl Watch {
    fn new(bench: &Bench<'_>, topics: &[&str]) -> Self {
        let mut client = bench.clean(V311, "watch");
        let filters: Vec<String> = topics.iter().map(|t| format!("$SYS/broker/{t}")).collect();
        let filters: Vec<(&str, u8)> = filters.iter().map(|f| (&**f, 0)).collect();
        client.send(&subscribe(V311, 1, &filters));
        let values = BTreeMap::new();
        Self { client, values }
    }

    fn learn(&mut self) -> Publish {
        loop {
            match self.client.next() {
                Got::Publish(message) => {
                    let topic = message.topic.strip_prefix("$SYS/broker/").unwrap();
                    let value = String::from_utf8(message.payload.clone()).unwrap();
                    self.values.insert(topic.into(), value);
                    return message;
                }
                // Values may come before it, and in between.
                Got::Suback(1, _) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until these topics say so, all at the same time.
    fn until(&mut self, expected: &[(&str, u64)]) {
        let is_so = |values: &BTreeMap<String, String>| {
            let of = |topic: &str| values.get(topic)?.parse().ok();
            expected.iter().all(|(topic, n)| of(topic) == Some(*n))
        };
        let start = Instant::now();
        while !is_so(&self.values) {
            let late = start.elapsed() > Duration::from_secs(30);
            assert!(!late, "{:?} instead of {expected:?}", self.values);
            self.learn();
        }
    }

    /// Waits for so many further updates. The uptime must be watched, and changes with each.
    fn updates(&mut self, count: usize) {
        let mut seen = 0;
        while seen < count {
            seen += usize::from(self.learn().topic == "$SYS/broker/uptime");
        }
    }

    fn number(&self, topic: &str) -> u64 {
        // Nothing was said yet.
        self.values.get(topic).map_or(0, |n| n.parse().unwrap())
    }
}

fn topics_of_the_original_are_there_retained_at_qos_2(bench: &Bench<'_>) {
    let mut watch = Watch::new(bench, &["uptime"]);
    watch.updates(2);
    let mut client = bench.clean(V5, "all");
    client.subscribe("$SYS/#", 2);
    let mut seen = BTreeMap::new();
    let wanted = 2 + NUMBERS.len() + 3 * LOADS.len();
    let mut found = 0;
    while found < wanted {
        let message = client.receive();
        assert_eq!(message.qos, 2);
        let topic = message
            .topic
            .strip_prefix("$SYS/broker/")
            .unwrap()
            .to_owned();
        let load = topic.strip_prefix("load/").and_then(|t| t.rsplit_once('/'));
        let known = match load {
            Some((name, span)) => {
                LOADS.contains(&name) && ["1min", "5min", "15min"].contains(&span)
            }
            None => NUMBERS.contains(&&*topic) || topic == "uptime" || topic == "version",
        };
        let is_new = seen.insert(topic, message.payload).is_none();
        // What changes meanwhile comes live.
        assert!(message.retain || !is_new || known);
        found += usize::from(known && is_new);
    }
    let text = |topic: &str| String::from_utf8(seen[topic].clone()).unwrap();
    for topic in NUMBERS {
        assert!(text(topic).parse::<u64>().is_ok(), "{topic}");
    }
    for load in LOADS {
        let value = text(&format!("load/{load}/15min"));
        let (_, fraction) = value.split_once('.').unwrap();
        assert!(
            value.parse::<f64>().is_ok() && fraction.len() == 2,
            "{value}"
        );
    }
    let uptime = text("uptime");
    let seconds = uptime.strip_suffix(" seconds").unwrap();
    assert!(seconds.parse::<u64>().is_ok(), "{uptime}");
    assert!(text("version").starts_with("mosquitto version "));
}

fn no_wildcard_of_the_first_level_matches_them(bench: &Bench<'_>) {
    let mut client = bench.clean(V311, "c");
    client.subscribe("#", 0);
    client.subscribe("+/broker/#", 0);
    let mut watch = Watch::new(bench, &["uptime"]);
    watch.updates(3);
    client.ping();
}

fn clients_are_counted(bench: &Bench<'_>) {
    let mut watch = Watch::new(bench, &["clients/+"]);
    let is = |connected, disconnected, total, maximum| {
        [
            ("clients/connected", connected),
            ("clients/active", connected),
            ("clients/disconnected", disconnected),
            ("clients/inactive", disconnected),
            ("clients/total", total),
            ("clients/maximum", maximum),
        ]
    };
    watch.until(&is(1, 0, 1, 1));
    let transient: Vec<Client> = (0..3)
        .map(|n| bench.clean(V311, &format!("t{n}")))
        .collect();
    let session = |n| connect(V311, &bench.id(&format!("p{n}"))).persistent();
    let stored: Vec<Client> = (0..2).map(|n| bench.client(&session(n))).collect();
    watch.until(&is(6, 0, 6, 6));
    stored.into_iter().for_each(Client::disconnect);
    watch.until(&is(4, 2, 6, 6));
    transient.into_iter().for_each(Client::drop_connection);
    watch.until(&is(1, 2, 3, 6));
    let _back = bench.client(&session(0));
    // A clean start forgets the other session.
    bench.client(&session(1).clean(true)).disconnect();
    watch.until(&is(2, 0, 2, 6));
    assert_eq!(watch.number("clients/expired"), 0);
}

fn subscriptions_are_counted(bench: &Bench<'_>) {
    let mut watch = Watch::new(bench, &["subscriptions/count"]);
    watch.until(&[("subscriptions/count", 1)]);
    let mut transient = bench.clean(V5, "t");
    let mut stored = bench.client(&connect(V311, &bench.id("p")).persistent());
    for filter in ["a", "a", "b/#"] {
        transient.subscribe(&bench.topic(filter), 1);
        stored.subscribe(&bench.topic(filter), 1);
    }
    watch.until(&[("subscriptions/count", 5)]);
    stored.disconnect();
    transient.unsubscribe(&bench.topic("a"));
    watch.until(&[("subscriptions/count", 4)]);
    transient.disconnect();
    watch.until(&[("subscriptions/count", 3)]);
}

fn messages_received_are_counted(bench: &Bench<'_>) {
    let topics = [
        "messages/received",
        "publish/messages/received",
        "publish/bytes/received",
    ];
    let mut watch = Watch::new(bench, &topics);
    let mut publisher = bench.clean(V311, "p");
    for n in 1..=10 {
        publisher.publish(&publish(&bench.topic("t"), "five5", 0, 0));
        publisher.publish(&publish(&bench.topic("t"), "five5", 1, n));
    }
    publisher.ping();
    // Two CONNECTs, a SUBSCRIBE, the ping.
    watch.until(&[
        ("messages/received", 24),
        ("publish/messages/received", 20),
        ("publish/bytes/received", 100),
    ]);
}

fn retained_publishes_and_those_of_qos_2_are_counted_too(bench: &Bench<'_>) {
    let mut watch = Watch::new(bench, &["publish/messages/received"]);
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&bench.topic("t"), "x", 0, 0).retain());
    publisher.publish(&publish(&bench.topic("t"), "x", 2, 1));
    watch.until(&[("publish/messages/received", 2)]);
}

fn messages_sent_are_counted(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watch = Watch::new(
        bench,
        &["publish/messages/sent", "publish/bytes/sent", "uptime"],
    );
    watch.updates(2);
    let before = ["publish/messages/sent", "publish/bytes/sent"].map(|t| watch.number(t));
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 0);
    let mut publisher = bench.clean(V311, "p");
    let payload = "x".repeat(100);
    for n in 1..=500 {
        publisher.publish(&publish(&topic, &payload, 1, n));
        subscriber.expect_message(&topic, &payload, 0, false);
    }
    let (mut messages, mut bytes, mut updates) = (0, 0, 2);
    while messages < 500 || bytes < 50_000 {
        watch.updates(1);
        updates += 1;
        messages = watch.number("publish/messages/sent") - before[0];
        bytes = watch.number("publish/bytes/sent") - before[1];
    }
    // What the watch itself is sent counts too: three topics each time.
    assert!(messages <= 500 + 3 * updates, "{messages}");
    assert!(bytes <= 50_000 + 3 * 20 * updates, "{bytes}");
}

fn retained_messages_are_counted(bench: &Bench<'_>) {
    let mut watch = Watch::new(bench, &["retained messages/count", "uptime"]);
    // Those of `$SYS` count too, and may still become more.
    watch.updates(2);
    let mut before = 0;
    while before == 0 || watch.number("retained messages/count") != before {
        before = watch.number("retained messages/count");
        watch.updates(3);
    }
    let mut publisher = bench.clean(V311, "p");
    for n in 0..7 {
        publisher.publish(&publish(&bench.topic(&n.to_string()), "x", 0, 0).retain());
    }
    watch.until(&[("retained messages/count", before + 7)]);
    for n in 0..4 {
        publisher.publish(&publish(&bench.topic(&n.to_string()), "", 0, 0).retain());
    }
    publisher.publish(&publish(&bench.topic("6"), "other", 0, 0).retain());
    watch.until(&[("retained messages/count", before + 3)]);
}

fn what_a_full_queue_drops_is_counted(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watch = Watch::new(bench, &["publish/messages/dropped"]);
    watch.until(&[("publish/messages/dropped", 0)]);
    let mut absent = bench.client(&connect(V311, &bench.id("s")).persistent());
    absent.subscribe(&topic, 1);
    absent.disconnect();
    let mut publisher = bench.clean(V311, "p");
    for n in 1..=20 {
        publisher.publish(&publish(&topic, "x", 1, n));
    }
    watch.until(&[("publish/messages/dropped", 15)]);
}

fn packets_of_each_type_are_counted(bench: &Bench<'_>) {
    let mut watch = Watch::new(bench, &["mqtt/+/received", "mqtt/+/sent"]);
    let mut client = bench.clean(V5, "c");
    client.subscribe(&bench.topic("t"), 1);
    client.unsubscribe(&bench.topic("t"));
    client.publish(&publish(&bench.topic("t"), "x", 1, 9));
    client.publish(&publish(&bench.topic("t"), "x", 2, 9));
    client.ping();
    client.disconnect();
    watch.until(&[
        ("mqtt/connect/received", 2),
        ("mqtt/connack/sent", 2),
        ("mqtt/subscribe/received", 2),
        ("mqtt/suback/sent", 2),
        ("mqtt/unsubscribe/received", 1),
        ("mqtt/unsuback/sent", 1),
        ("mqtt/publish/received", 2),
        ("mqtt/puback/sent", 1),
        ("mqtt/pubrec/sent", 1),
        ("mqtt/pubrel/received", 1),
        ("mqtt/pubcomp/sent", 1),
        ("mqtt/pingreq/received", 1),
        ("mqtt/pingresp/sent", 1),
        ("mqtt/disconnect/received", 1),
        ("mqtt/disconnect/sent", 0),
    ]);
}
