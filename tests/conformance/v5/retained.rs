//! 3.3.1.3: RETAIN.

use super::stored;
use crate::harness::client::Client;
use crate::wire::{Got, Publish, V5, connect, property, publish, subscribe};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(the_last_retained_message_is_kept).checks(&["MQTT-3.3.1-5"]),
    test!(a_retained_message_keeps_its_qos_and_properties).checks(&["MQTT-3.3.1-5"]),
    test!(an_empty_payload_removes_it).checks(&["MQTT-3.3.1-6", "MQTT-3.3.1-7"]),
    test!(an_empty_payload_reaches_subscribers).checks(&["MQTT-3.3.1-6"]),
    test!(without_retain_nothing_is_stored).checks(&["MQTT-3.3.1-8"]),
    test!(handling_0_sends_it_to_every_subscription).checks(&["MQTT-3.3.1-9", "MQTT-3.8.4-4"]),
    test!(handling_1_sends_it_to_new_subscriptions).checks(&["MQTT-3.3.1-10"]),
    test!(handling_2_never_sends_it).checks(&["MQTT-3.3.1-11"]),
    test!(live_messages_have_no_retain).checks(&["MQTT-3.3.1-12"]),
    test!(retain_as_published_keeps_retain).checks(&["MQTT-3.3.1-13"]),
];

const AS_PUBLISHED: u8 = 8;
const IF_NEW: u8 = 1 << 4;
const NEVER: u8 = 2 << 4;

/// What is retained for a filter, with these options: it comes before what is asked for behind it.
fn retained(bench: &Bench<'_>, client: &mut Client, filter: &str, options: u8) -> Vec<Publish> {
    let mark = bench.topic("mark");
    let mut publisher = bench.client(&connect(V5, ""));
    publisher.publish(&publish(&mark, "mark", 2, 1).retain());
    client.subscribe(filter, options);
    client.send(&subscribe(V5, 99, &[(&mark, 0)]));
    let mut got = Vec::new();
    loop {
        match client.next() {
            Got::Publish(message) if message.topic == mark => break,
            Got::Publish(message) => {
                client.acknowledge(&message);
                got.push(message);
            }
            other => assert_eq!(other, Got::Suback(99, vec![0])),
        }
    }
    client.unsubscribe(&mark);
    publisher.publish(&publish(&mark, "", 2, 1).retain());
    got
}

/// The payloads that a new subscription gets.
fn kept(bench: &Bench<'_>, topic: &str) -> Vec<Vec<u8>> {
    let mut client = bench.client(&connect(V5, ""));
    let got = retained(bench, &mut client, topic, 2);
    assert!(
        got.iter()
            .all(|message| message.retain && message.topic == topic)
    );
    got.into_iter().map(|message| message.payload).collect()
}

fn the_last_retained_message_is_kept(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V5, "p");
    assert!(kept(bench, &topic).is_empty());
    for (n, qos) in [1, 2, 0, 0, 2, 1].into_iter().enumerate() {
        publisher.publish(&publish(&topic, &n.to_string(), qos, 1).retain());
        // Behind it on the same way, so that a message of QoS 0 has arrived.
        publisher.publish(&publish(&bench.topic("behind"), "x", 2, 2));
        assert_eq!(kept(bench, &topic), [n.to_string().as_bytes()]);
    }
    publisher.drop_connection();
    assert_eq!(kept(bench, &topic), [b"5"]);
}

fn a_retained_message_keeps_its_qos_and_properties(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let properties = [
        property::user("a", "1"),
        property::content_type("text/plain"),
        property::user("a", "2"),
        property::payload_format(1),
    ];
    let mut publisher = bench.clean(V5, "p");
    for sent in 0..3 {
        let message = publish(&topic, "x", sent, 1).retain();
        publisher.publish(&super::with(message, &properties));
        publisher.publish(&publish(&bench.topic("behind"), "x", 2, 2));
        for wanted in 0..3 {
            let mut client = bench.client(&connect(V5, ""));
            let got = retained(bench, &mut client, &topic, wanted);
            assert_eq!(got.len(), 1);
            assert_eq!(got[0].qos, sent.min(wanted));
            assert_eq!(got[0].properties.concat(), properties.concat());
        }
    }
}

fn an_empty_payload_removes_it(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V5, "p");
    for qos in 0..3 {
        publisher.publish(&publish(&topic, "kept", 1, 1).retain());
        assert_eq!(kept(bench, &topic), [b"kept"]);
        // The second time there is nothing left to remove.
        for _ in 0..2 {
            publisher.publish(&publish(&topic, "", qos, 1).retain());
            publisher.publish(&publish(&bench.topic("behind"), "x", 2, 2));
            assert!(kept(bench, &topic).is_empty());
        }
    }
}

fn an_empty_payload_reaches_subscribers(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V5, "c");
    client.subscribe(&topic, 1);
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&topic, "", 1, 1).retain());
    client.expect_message(&topic, "", 1, false);
}

fn without_retain_nothing_is_stored(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&topic, "passing", 1, 1));
    assert!(kept(bench, &topic).is_empty());
    publisher.publish(&publish(&topic, "kept", 1, 1).retain());
    publisher.publish(&publish(&topic, "passing", 2, 1));
    publisher.publish(&publish(&topic, "", 2, 1));
    assert_eq!(kept(bench, &topic), [b"kept"]);
}

/// How many come by subscribing twice with these options, and once more after unsubscribing.
fn times(bench: &Bench<'_>, options: u8) -> [usize; 3] {
    let (topic, filter) = (bench.topic("a/t"), bench.topic("a/+"));
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&topic, "kept", 1, 1).retain());
    let mut all = Vec::new();
    for session in [connect(V5, ""), stored(bench, "stored")] {
        let mut client = bench.client(&session);
        let first = retained(bench, &mut client, &filter, 1 | options);
        let second = retained(bench, &mut client, &filter, 1 | options);
        client.unsubscribe(&filter);
        let again = retained(bench, &mut client, &filter, 1 | options);
        client.unsubscribe(&filter);
        all.push([first, second, again].map(|got| got.len()));
    }
    assert_eq!(all[0], all[1]);
    all[0]
}

fn handling_0_sends_it_to_every_subscription(bench: &Bench<'_>) {
    assert_eq!(times(bench, 0), [1, 1, 1]);
}

fn handling_1_sends_it_to_new_subscriptions(bench: &Bench<'_>) {
    assert_eq!(times(bench, IF_NEW), [1, 0, 1]);
}

fn handling_2_never_sends_it(bench: &Bench<'_>) {
    assert_eq!(times(bench, NEVER), [0, 0, 0]);
}

/// Live messages with and without RETAIN, as a subscription with these options sees them.
fn live(bench: &Bench<'_>, options: u8) -> [bool; 2] {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V5, "p");
    let mut all = Vec::new();
    for session in [connect(V5, ""), stored(bench, "stored")] {
        let mut client = bench.client(&session);
        client.subscribe(&topic, 2 | options);
        for qos in 0..3 {
            publisher.publish(&publish(&topic, "plain", qos, 1));
            let plain = client.receive();
            publisher.publish(&publish(&topic, "kept", qos, 1).retain());
            let kept = client.receive();
            assert_eq!(
                (&*plain.payload, &*kept.payload),
                (&b"plain"[..], &b"kept"[..])
            );
            all.push([plain.retain, kept.retain]);
        }
        client.unsubscribe(&topic);
        publisher.publish(&publish(&topic, "", 1, 1).retain());
    }
    assert!(all.iter().all(|seen| *seen == all[0]), "{all:?}");
    all[0]
}

fn live_messages_have_no_retain(bench: &Bench<'_>) {
    assert_eq!(live(bench, 0), [false, false]);
}

fn retain_as_published_keeps_retain(bench: &Bench<'_>) {
    assert_eq!(live(bench, AS_PUBLISHED), [false, true]);
}
