//! 3.1.2.5 and 3.1.3.2: the will.

use std::time::{Duration, Instant};

use super::{MALFORMED, closed, rejects};
use crate::harness::client::Client;
use crate::wire::{Connect, Got, V5, connect, disconnect, packet, property, publish, subscribe};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(a_lost_connection_publishes_the_will).checks(&["MQTT-3.1.2-7", "MQTT-3.1.2-8"]),
    test!(a_malformed_packet_publishes_the_will).checks(&["MQTT-3.1.2-8"]),
    test!(a_second_connect_publishes_the_will)
        .checks(&["MQTT-3.1.2-8"])
        .original_breaks("drops it, although no DISCONNECT with 0x00 came"),
    test!(a_takeover_publishes_the_will).checks(&["MQTT-3.1.2-8"]),
    test!(a_disconnect_with_4_publishes_the_will).checks(&["MQTT-3.1.2-8"]),
    test!(a_disconnect_removes_the_will).checks(&["MQTT-3.1.2-10", "MQTT-3.14.4-3"]),
    test!(a_will_is_published_once).checks(&["MQTT-3.1.2-10"]),
    test!(a_will_flag_needs_its_fields).checks(&["MQTT-3.1.2-9"]),
    test!(without_the_flag_there_is_no_will_qos).checks(&["MQTT-3.1.2-11"]),
    test!(will_qos_3_closes).checks(&["MQTT-3.1.2-12"]),
    test!(without_the_flag_there_is_no_will_retain).checks(&["MQTT-3.1.2-13"]),
    test!(a_will_is_published_at_its_qos).checks(&["MQTT-3.1.2-12", "MQTT-3.1.2-9"]),
    test!(a_will_without_retain_is_not_kept).checks(&["MQTT-3.1.2-14"]),
    test!(a_will_with_retain_is_kept).checks(&["MQTT-3.1.2-15"]),
    test!(a_will_waits_for_its_delay).checks(&["MQTT-3.1.2-8", "MQTT-3.1.3-9"]),
    test!(the_end_of_the_session_ends_the_delay)
        .checks(&["MQTT-3.1.2-8"])
        .original_breaks("waits for the delay although the session has expired"),
    test!(a_clean_start_during_the_delay_ends_it)
        .checks(&["MQTT-3.1.2-8"])
        .original_breaks("drops the will, although its session has ended"),
    test!(coming_back_in_time_stops_the_will).checks(&["MQTT-3.1.3-9"]),
    test!(the_properties_of_a_will_are_kept_in_order).checks(&["MQTT-3.1.3-10"]),
];

fn watcher(bench: &Bench<'_>) -> (Client, String) {
    let topic = bench.topic("t");
    let mut watcher = bench.clean(V5, "watcher");
    watcher.subscribe(&topic, 2);
    (watcher, topic)
}

/// A session that stays for an hour; its will, at QoS 1, is its name.
fn stored(bench: &Bench<'_>, topic: &str, name: &str) -> Connect {
    super::expiring(bench, name, 3600).will(topic, name, 1, false)
}

fn nothing_more(bench: &Bench<'_>, watcher: &mut Client) {
    let mut publisher = bench.clean(V5, "p");
    watcher.expect_nothing_from(&mut publisher);
}

fn a_lost_connection_publishes_the_will(bench: &Bench<'_>) {
    let (mut watcher, topic) = watcher(bench);
    let transient = connect(V5, &bench.id("c")).will(&topic, "transient", 1, false);
    bench.client(&transient).drop_connection();
    watcher.expect_message(&topic, "transient", 1, false);
    bench
        .client(&stored(bench, &topic, "stored"))
        .drop_connection();
    watcher.expect_message(&topic, "stored", 1, false);
}

fn a_malformed_packet_publishes_the_will(bench: &Bench<'_>) {
    let (mut watcher, topic) = watcher(bench);
    let mut client = bench.client(&stored(bench, &topic, "c"));
    client.send(&packet(0x36, &[0, 1, b'a', 0, 1, 0]));
    closed(&mut client, MALFORMED);
    watcher.expect_message(&topic, "c", 1, false);
}

fn a_second_connect_publishes_the_will(bench: &Bench<'_>) {
    let (mut watcher, topic) = watcher(bench);
    let session = stored(bench, &topic, "c");
    let mut client = bench.client(&session);
    client.send(&session.bytes());
    closed(&mut client, &[0x82]);
    watcher.expect_message(&topic, "c", 1, false);
}

fn a_takeover_publishes_the_will(bench: &Bench<'_>) {
    let (mut watcher, topic) = watcher(bench);
    let session = connect(V5, &bench.id("c"));
    let mut older = bench.client(&session.clone().will(&topic, "older", 1, false));
    let newer = bench.client(&session);
    while older.try_next().is_some() {}
    watcher.expect_message(&topic, "older", 1, false);
    newer.disconnect();
}

fn a_disconnect_with_4_publishes_the_will(bench: &Bench<'_>) {
    let (mut watcher, topic) = watcher(bench);
    let mut client = bench.client(&stored(bench, &topic, "c"));
    client.send(&disconnect(4));
    client.expect_end();
    watcher.expect_message(&topic, "c", 1, false);
}

fn a_disconnect_removes_the_will(bench: &Bench<'_>) {
    let (mut watcher, topic) = watcher(bench);
    let session = stored(bench, &topic, "c");
    bench.client(&session).disconnect();
    let mut client = bench.client(&session);
    client.send(&packet(0xe0, &[0, 0]));
    client.expect_end();
    // Not even at the end of the session, or with a delay.
    let end = connect(V5, &bench.id("end")).will(&topic, "end", 1, false);
    bench
        .client(&end.will_property(property::will_delay(1)))
        .disconnect();
    nothing_more(bench, &mut watcher);
}

fn a_will_is_published_once(bench: &Bench<'_>) {
    let (mut watcher, topic) = watcher(bench);
    let session = stored(bench, &topic, "c");
    bench.client(&session).drop_connection();
    watcher.expect_message(&topic, "c", 1, false);
    // A connection without one has none, although the session goes on.
    let plain = Connect {
        will: None,
        ..session
    };
    let mut client = bench.socket();
    assert!(client.connect(&plain));
    client.drop_connection();
    let mut client = bench.socket();
    assert!(client.connect(&plain));
    nothing_more(bench, &mut watcher);
}

fn a_will_flag_needs_its_fields(bench: &Bench<'_>) {
    let plain = connect(V5, &bench.id("c"));
    rejects(bench, &plain.bytes_with_flags(0x06), MALFORMED);
    // Only the properties; properties and topic; no properties.
    let body = &plain.bytes()[2..];
    for rest in [&[0][..], &[0, 0, 1, b't'], &[0, 1, b't', 0, 1, b'x']] {
        let mut bytes = [body, rest].concat();
        bytes[7] = 0x06;
        rejects(bench, &packet(0x10, &bytes), MALFORMED);
    }
}

fn without_the_flag_there_is_no_will_qos(bench: &Bench<'_>) {
    for flags in [0x0a, 0x12, 0x1a] {
        let bytes = connect(V5, &bench.id("c")).bytes_with_flags(flags);
        rejects(bench, &bytes, MALFORMED);
    }
}

fn will_qos_3_closes(bench: &Bench<'_>) {
    let will = connect(V5, &bench.id("c")).will(&bench.topic("t"), "x", 3, false);
    rejects(bench, &will.bytes(), &[0x81, 0x82, 0x9b]);
}

fn without_the_flag_there_is_no_will_retain(bench: &Bench<'_>) {
    let bytes = connect(V5, &bench.id("c")).bytes_with_flags(0x22);
    rejects(bench, &bytes, MALFORMED);
}

fn a_will_is_published_at_its_qos(bench: &Bench<'_>) {
    let (mut watcher, topic) = watcher(bench);
    for qos in 0..3 {
        for payload in ["", "x", &"long".repeat(3000)] {
            let will = connect(V5, &bench.id("c")).will(&topic, payload, qos, false);
            bench.client(&will).drop_connection();
            watcher.expect_message(&topic, payload, qos, false);
        }
    }
}

/// A will with this retain flag, and what a later subscription gets of it.
fn left_retained(bench: &Bench<'_>, retain: bool) -> Vec<Vec<u8>> {
    let (mut watcher, topic) = watcher(bench);
    let will = connect(V5, &bench.id("c")).will(&topic, "will", 1, retain);
    bench.client(&will).drop_connection();
    watcher.expect_message(&topic, "will", 1, false);
    // Asked for later, so that it comes later.
    let last = bench.topic("last");
    watcher.publish(&publish(&last, "last", 1, 1).retain());
    let mut later = bench.clean(V5, "later");
    later.subscribe(&topic, 1);
    later.send(&subscribe(V5, 1, &[(&last, 1)]));
    let mut got = Vec::new();
    loop {
        match later.next() {
            Got::Publish(message) if message.topic == last => break,
            Got::Publish(message) => {
                assert!(message.retain && message.topic == topic, "{message:?}");
                got.push(message.payload);
            }
            other => assert_eq!(other, Got::Suback(1, vec![1])),
        }
    }
    watcher.publish(&publish(&last, "", 1, 1).retain());
    watcher.publish(&publish(&topic, "", 1, 1).retain());
    got
}

fn a_will_without_retain_is_not_kept(bench: &Bench<'_>) {
    assert!(left_retained(bench, false).is_empty());
}

fn a_will_with_retain_is_kept(bench: &Bench<'_>) {
    assert_eq!(left_retained(bench, true), [b"will"]);
}

fn delayed(bench: &Bench<'_>, topic: &str, name: &str, expiry: u32, delay: u32) -> Connect {
    super::expiring(bench, name, expiry)
        .will(topic, name, 1, false)
        .will_property(property::will_delay(delay))
}

fn a_will_waits_for_its_delay(bench: &Bench<'_>) {
    let (mut watcher, topic) = watcher(bench);
    let client = bench.client(&delayed(bench, &topic, "late", 60, 2));
    let start = Instant::now();
    client.drop_connection();
    nothing_more(bench, &mut watcher);
    watcher.expect_message(&topic, "late", 1, false);
    // The original counts whole seconds and may be early by one.
    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(900), "{waited:?}");
}

fn the_end_of_the_session_ends_the_delay(bench: &Bench<'_>) {
    let (mut watcher, topic) = watcher(bench);
    bench
        .client(&delayed(bench, &topic, "no session", 0, 60))
        .drop_connection();
    watcher.expect_message(&topic, "no session", 1, false);
    bench
        .client(&delayed(bench, &topic, "short", 1, 60))
        .drop_connection();
    watcher.expect_message(&topic, "short", 1, false);
}

fn a_clean_start_during_the_delay_ends_it(bench: &Bench<'_>) {
    let (mut watcher, topic) = watcher(bench);
    let session = delayed(bench, &topic, "clean", 600, 600);
    bench.client(&session).drop_connection();
    let clean = Connect {
        will: None,
        ..session.clean(true)
    };
    let client = bench.client(&clean);
    watcher.expect_message(&topic, "clean", 1, false);
    client.disconnect();
}

fn coming_back_in_time_stops_the_will(bench: &Bench<'_>) {
    let (mut watcher, topic) = watcher(bench);
    let session = delayed(bench, &topic, "back", 60, 2);
    bench.client(&session).drop_connection();
    let again = Connect {
        will: None,
        ..session
    };
    let client = bench.client(&again);
    bench
        .client(&delayed(bench, &topic, "other", 60, 3))
        .drop_connection();
    // The later one comes; the earlier one did not.
    watcher.expect_message(&topic, "other", 1, false);
    client.disconnect();
}

fn the_properties_of_a_will_are_kept_in_order(bench: &Bench<'_>) {
    let (mut watcher, topic) = watcher(bench);
    let kept = [
        property::payload_format(1),
        property::content_type("text/plain"),
        property::response_topic("answer/here"),
        property::correlation_data(&[0, 1, 255]),
        property::user("b", "1"),
        property::user("a", "2"),
        property::user("b", "0"),
    ];
    let mut session = connect(V5, &bench.id("c")).will(&topic, "gone", 1, false);
    for property in &kept {
        session = session.will_property(property.clone());
    }
    // The delay is for the server.
    session = session.will_property(property::will_delay(0));
    bench.client(&session).drop_connection();
    let got = watcher.expect_message(&topic, "gone", 1, false);
    assert_eq!(users(&got.properties.concat()), users(&kept.concat()));
    assert_eq!(got.properties.concat().len(), kept.concat().len());
}

fn users(block: &[u8]) -> Vec<Vec<u8>> {
    let all = super::properties(block).into_iter();
    all.filter(|(id, _)| *id == 0x26)
        .map(|(_, value)| value)
        .collect()
}
