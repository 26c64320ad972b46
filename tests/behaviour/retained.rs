//! Retained messages: kept, replaced, cleared, sent to new subscriptions behind SUBACK.

use crate::client::Client;
use crate::wire::{Got, Publish, V5, V31, V311, connect, publish, subscribe};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(a_new_subscription_gets_it_behind_suback),
    test!(a_stored_session_gets_it_once_by_subscribing),
    test!(hundreds_come_all),
    test!(large_ones_come_whole),
];

/// What a new subscription gets of what is retained, sorted by topic; so many are expected.
fn retained(
    bench: &Bench<'_>,
    version: u8,
    filter: &str,
    qos: u8,
    expected: usize,
) -> Vec<Publish> {
    let mut client = bench.socket();
    client.connect(&connect(version, ""));
    client.subscribe(filter, qos);
    let mut got: Vec<Publish> = (0..expected).map(|_| client.receive()).collect();
    got.extend(more_retained(bench, &mut client));
    client.disconnect();
    got.sort_by(|a, b| a.topic.cmp(&b.topic));
    assert_eq!(got.len(), expected, "{got:?}");
    got
}

/// What else was retained for the subscriptions of a client: it comes before what is asked for now.
fn more_retained(bench: &Bench<'_>, client: &mut Client) -> Vec<Publish> {
    let probe = format!("probe/{}", bench.topic("x"));
    let mut other = bench.socket();
    other.connect(&connect(V311, ""));
    other.publish(&publish(&probe, "x", 2, 1).retain());
    client.send(&subscribe(client.version, 99, &[(&probe, 0)]));
    let mut got = Vec::new();
    loop {
        match client.next() {
            Got::Publish(message) if message.topic == probe => break,
            Got::Publish(message) => {
                client.acknowledge(&message);
                got.push(message);
            }
            Got::Suback(99, _) => {}
            other => panic!("{other:?}"),
        }
    }
    client.unsubscribe(&probe);
    got
}

fn retain(bench: &Bench<'_>, topic: &str, payload: &str, qos: u8) {
    let mut publisher = bench.socket();
    publisher.connect(&connect(V311, ""));
    publisher.publish(&publish(topic, payload, qos, 1).retain());
    // Behind one of QoS 2 on the same way, a QoS 0 message is kept too.
    publisher.publish(&publish(&format!("behind/{topic}"), "", 2, 2).retain());
    publisher.disconnect();
}

fn a_new_subscription_gets_it_behind_suback(bench: &Bench<'_>) {
    for qos in 0..3 {
        let topic = bench.topic(&qos.to_string());
        retain(bench, &topic, "kept", qos);
        for version in [V31, V311, V5] {
            let mut client = bench.clean(version, "c");
            client.send(&subscribe(version, 1, &[(&topic, 2)]));
            client.expect(Got::Suback(1, vec![2]));
            let got = client.expect_message(&topic, "kept", qos, true);
            assert!(!got.dup);
            client.disconnect();
        }
        retain(bench, &topic, "", 0);
    }
}

fn a_stored_session_gets_it_once_by_subscribing(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    retain(bench, &topic, "kept", 2);
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 2);
    client.expect_message(&topic, "kept", 2, true);
    client.ping();
    client.disconnect();
    let mut client = bench.client(&session);
    let mut publisher = bench.clean(V311, "p");
    client.expect_nothing_from(&mut publisher);
    // A retained message that was not acknowledged comes again as it was.
    client.subscribe(&topic, 1);
    let first = client.message();
    client.drop_connection();
    let mut client = bench.client(&session);
    assert_eq!(client.message(), first.clone().dup());
    client.acknowledge(&first);
    client.unsubscribe(&topic);
    retain(bench, &topic, "", 0);
}

fn hundreds_come_all(bench: &Bench<'_>) {
    let topics: Vec<String> = (0..400)
        .map(|n| bench.topic(&format!("{}/{n}", n % 7)))
        .collect();
    let mut publisher = bench.clean(V311, "p");
    for topic in &topics {
        publisher.publish(&publish(topic, topic, 0, 0).retain());
    }
    publisher.ping();
    for qos in [0, 1] {
        let got = retained(bench, V311, &bench.topic("#"), qos, 400);
        assert!(got.iter().all(|m| m.payload == m.topic.as_bytes()));
    }
    for topic in &topics {
        publisher.publish(&publish(topic, "", 0, 0).retain());
    }
    publisher.ping();
    retained(bench, V311, &bench.topic("#"), 0, 0);
}

fn large_ones_come_whole(bench: &Bench<'_>) {
    for length in [60_000, 300_000, 1_500_000] {
        let topic = bench.topic(&length.to_string());
        let payload = "0123456789".repeat(length / 10);
        retain(bench, &topic, &payload, 1);
        let got = retained(bench, V311, &topic, 1, 1);
        assert!(got[0].payload == payload.as_bytes(), "{length} bytes");
        retain(bench, &topic, "", 0);
    }
}
