//! Retained messages: kept, replaced, cleared, sent to new subscriptions behind SUBACK.

use crate::broker::Setup;
use crate::client::Client;
use crate::wire::{Got, Publish, V5, V31, V311, connect, property, publish, subscribe};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(a_new_subscription_gets_it_behind_suback),
    test!(qos_is_the_lower_of_both),
    test!(every_subscribe_gets_it_again),
    test!(a_stored_session_gets_it_once_by_subscribing),
    test!(retain_as_published_keeps_the_mark),
    test!(retain_as_published_keeps_the_mark_in_a_stored_session),
    test!(retain_handling_says_when),
    test!(no_local_holds_for_retained_ones_too).original_breaks("sends it"),
    test!(properties_are_kept),
    test!(it_expires),
    test!(a_retained_publish_is_refused_where_there_is_none).setup(Setup::Strict),
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

fn qos_is_the_lower_of_both(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for kept in 0..3 {
        retain(bench, &topic, "x", kept);
        for wanted in 0..3 {
            let got = retained(bench, V5, &topic, wanted, 1);
            assert_eq!(got[0].qos, kept.min(wanted));
        }
    }
    retain(bench, &topic, "", 0);
}

fn every_subscribe_gets_it_again(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    retain(bench, &topic, "kept", 1);
    for version in [V31, V311, V5] {
        let mut client = bench.clean(version, &version.to_string());
        for _ in 0..3 {
            client.subscribe(&topic, 1);
            client.expect_message(&topic, "kept", 1, true);
        }
    }
    retain(bench, &topic, "", 0);
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

const RETAIN_AS_PUBLISHED: u8 = 8;

fn as_published(bench: &Bench<'_>, persistent: bool) {
    let topic = bench.topic("t");
    let session = connect(V5, &bench.id("s"));
    let session = if persistent {
        session.persistent()
    } else {
        session
    };
    let mut client = bench.client(&session);
    client.subscribe(&topic, 2 | RETAIN_AS_PUBLISHED);
    let mut publisher = bench.clean(V5, "p");
    for qos in 0..3 {
        publisher.publish(&publish(&topic, "plain", qos, 1));
        client.expect_message(&topic, "plain", qos, false);
        publisher.publish(&publish(&topic, "kept", qos, 1).retain());
        client.expect_message(&topic, "kept", qos, true);
    }
    client.unsubscribe(&topic);
    // Without it the mark is on what was retained before, and only there.
    client.subscribe(&topic, 2);
    client.expect_message(&topic, "kept", 2, true);
    publisher.publish(&publish(&topic, "", 2, 1).retain());
    client.expect_message(&topic, "", 2, false);
    client.unsubscribe(&topic);
}

fn retain_as_published_keeps_the_mark(bench: &Bench<'_>) {
    as_published(bench, false);
}

fn retain_as_published_keeps_the_mark_in_a_stored_session(bench: &Bench<'_>) {
    as_published(bench, true);
}

fn retain_handling_says_when(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    retain(bench, &topic, "kept", 1);
    for persistent in [false, true] {
        let session = connect(V5, &bench.id(&persistent.to_string()));
        let session = if persistent {
            session.persistent()
        } else {
            session
        };
        let mut client = bench.client(&session);
        let mut publisher = bench.clean(V5, "p");
        let (always, if_new, never) = (1, 1 | 1 << 4, 1 | 2 << 4);
        client.subscribe(&topic, never);
        client.expect_nothing_from(&mut publisher);
        client.subscribe(&topic, if_new);
        client.expect_nothing_from(&mut publisher);
        client.subscribe(&topic, always);
        client.expect_message(&topic, "kept", 1, true);
        client.unsubscribe(&topic);
        client.subscribe(&topic, if_new);
        client.expect_message(&topic, "kept", 1, true);
        client.expect_nothing_from(&mut publisher);
        client.unsubscribe(&topic);
    }
    retain(bench, &topic, "", 0);
}

fn no_local_holds_for_retained_ones_too(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V5, "c");
    client.publish(&publish(&topic, "own", 1, 1).retain());
    client.subscribe(&topic, 1 | 4);
    let got = more_retained(bench, &mut client);
    retain(bench, &topic, "", 0);
    assert_eq!(got, []);
}

fn properties_are_kept(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let properties = [
        property::user("a", "1"),
        property::content_type("text/plain"),
        property::user("a", "2"),
        property::payload_format(1),
    ];
    let mut message = publish(&topic, "kept", 1, 1).retain();
    message.properties = properties.to_vec();
    bench.clean(V5, "p").publish(&message);
    let got = retained(bench, V5, &topic, 1, 1);
    assert_eq!(got[0].properties.concat(), properties.concat());
    assert_eq!(retained(bench, V311, &topic, 1, 1)[0].payload, b"kept");
    retain(bench, &topic, "", 0);
}

fn it_expires(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let message = publish(&topic, "short", 1, 1)
        .retain()
        .property(property::message_expiry(2));
    bench.clean(V5, "p").publish(&message);
    retained(bench, V5, &topic, 1, 1);
    let mut client = bench.clean(V5, "c");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(15);
    loop {
        client.subscribe(&topic, 1);
        if more_retained(bench, &mut client).is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < end, "it never expires");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

fn a_retained_publish_is_refused_where_there_is_none(bench: &Bench<'_>) {
    let mut client = bench.client(&connect(V5, &bench.id("c")).keep_alive(10));
    client.send(&publish(&bench.topic("t"), "x", 1, 1).retain().bytes(V5));
    client.expect_disconnect(0x9a);
    let mut client = bench.client(&connect(V5, &bench.id("c")).keep_alive(10));
    client.send(&publish(&bench.topic("t"), "x", 2, 1).bytes(V5));
    client.expect_disconnect(0x9b);
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
