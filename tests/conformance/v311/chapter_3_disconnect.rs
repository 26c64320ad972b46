//! Chapters 3.12 to 3.14: PINGREQ, PINGRESP and DISCONNECT.

use super::expect_end_at;
use crate::wire::{DISCONNECT, PINGREQ, PINGRESP, V311, connect, packet, publish};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(a_ping_is_answered).checks(&["MQTT-3.12.4-1"]),
    test!(every_ping_is_answered_amid_messages).checks(&["MQTT-3.12.4-1"]),
    test!(a_disconnect_with_flags_is_none).checks(&["MQTT-3.14.1-1"]),
    test!(disconnect_closes_the_connection).checks(&["MQTT-3.14.4-1"]),
    test!(nothing_behind_disconnect_is_done).checks(&["MQTT-3.14.4-2"]),
    test!(disconnect_discards_the_will).checks(&["MQTT-3.14.4-3"]),
    test!(packets_with_a_body_that_have_none_close)
        .checks(&["MQTT-4.8.0-1"])
        .original_breaks("does not look at what is behind them"),
    test!(packets_of_a_server_close)
        .checks(&["MQTT-4.8.0-1"])
        .original_breaks("ignores SUBACK, UNSUBACK and PINGRESP"),
];

fn a_ping_is_answered(bench: &Bench<'_>) {
    let mut client = bench.clean(V311, "c");
    for _ in 0..3 {
        client.send(PINGREQ);
        client.expect_bytes(PINGRESP);
    }
}

fn every_ping_is_answered_amid_messages(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V311, "c");
    let mut bytes = Vec::new();
    for n in 0..100 {
        bytes.extend(publish(&topic, &n.to_string(), 0, 0).bytes(V311));
        bytes.extend(PINGREQ);
    }
    client.send(&bytes);
    for _ in 0..100 {
        client.expect_bytes(PINGRESP);
    }
    client.ping();
}

fn a_disconnect_with_flags_is_none(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = bench.clean(V311, "watcher");
    watcher.subscribe(&topic, 1);
    for flags in 1..16 {
        let session = connect(V311, &bench.id("c")).will(&topic, "gone", 1, false);
        expect_end_at(&mut bench.client(&session), &[0xe0 | flags, 0]);
        watcher.expect_message(&topic, "gone", 1, false);
    }
}

fn disconnect_closes_the_connection(bench: &Bench<'_>) {
    for clean in [true, false] {
        let session = connect(V311, &bench.id("c")).clean(clean);
        let mut client = bench.client(&session);
        expect_end_at(&mut client, DISCONNECT);
    }
    bench.client(&connect(V311, &bench.id("c"))).disconnect();
}

fn nothing_behind_disconnect_is_done(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = bench.clean(V311, "watcher");
    watcher.subscribe(&topic, 2);
    for qos in 0..3 {
        let mut client = bench.clean(V311, "c");
        let mut bytes = DISCONNECT.to_vec();
        bytes.extend(publish(&topic, "late", qos, 1).bytes(V311));
        bytes.extend(crate::wire::ack(crate::wire::PUBREL, 1));
        bytes.extend(PINGREQ);
        expect_end_at(&mut client, &bytes);
    }
    let mut publisher = bench.clean(V311, "p");
    watcher.expect_nothing_from(&mut publisher);
}

fn disconnect_discards_the_will(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = bench.clean(V311, "watcher");
    watcher.subscribe(&topic, 1);
    for retain in [false, true] {
        let session = connect(V311, &bench.id("c")).will(&topic, "gone", 1, retain);
        // Behind what is still to be delivered, too.
        let mut client = bench.client(&session);
        let mut bytes = publish(&topic, "last", 1, 1).bytes(V311);
        bytes.extend(DISCONNECT);
        client.send(&bytes);
        watcher.expect_message(&topic, "last", 1, false);
        while client.try_next().is_some() {}
    }
    let mut publisher = bench.clean(V311, "p");
    watcher.expect_nothing_from(&mut publisher);
    let mut later = bench.clean(V311, "later");
    later.subscribe(&topic, 1);
    later.expect_nothing_from(&mut publisher);
}

fn packets_with_a_body_that_have_none_close(bench: &Bench<'_>) {
    for first in [0xc0, 0xe0] {
        let topic = bench.topic("t");
        let mut watcher = bench.clean(V311, "watcher");
        watcher.subscribe(&topic, 1);
        let session = connect(V311, &bench.id("c")).will(&topic, "gone", 1, false);
        expect_end_at(&mut bench.client(&session), &packet(first, &[0]));
        // It is no DISCONNECT either.
        watcher.expect_message(&topic, "gone", 1, false);
    }
}

fn packets_of_a_server_close(bench: &Bench<'_>) {
    for bad in [
        vec![0x20, 2, 0, 0],
        vec![0x90, 3, 0, 1, 0],
        vec![0xb0, 2, 0, 1],
        vec![0xd0, 0],
    ] {
        expect_end_at(&mut bench.clean(V311, "c"), &bad);
    }
}
