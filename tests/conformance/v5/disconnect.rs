//! 3.14: DISCONNECT.

use super::{MALFORMED, answer_properties, closes};
use crate::wire::{
    DISCONNECT, PINGREQ, PUBACK, PUBREL, V5, ack, connect, disconnect, packet, property, publish,
    subscribe,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(there_is_none_before_connack).checks(&["MQTT-3.14.0-1"]),
    test!(there_is_none_before_connack_for_what_follows).checks(&["MQTT-3.14.0-1"]),
    test!(reserved_flags_close).checks(&["MQTT-3.14.1-1"]),
    test!(reserved_flags_are_told_as_malformed)
        .checks(&["MQTT-3.14.1-1"])
        .original_breaks("closes without a word"),
    test!(its_reasons_are_of_the_table).checks(&["MQTT-3.14.2-1", "MQTT-4.13.2-1"]),
    test!(a_client_may_give_any_reason_of_its_own).checks(&["MQTT-3.14.2-1"]),
    test!(a_server_sends_no_session_expiry).checks(&["MQTT-3.14.2-2"]),
    test!(it_fits_the_clients_limit).checks(&["MQTT-3.14.2-3", "MQTT-3.14.2-4"]),
    test!(nothing_counts_behind_it).checks(&["MQTT-3.14.4-1"]),
    test!(the_connection_is_closed_behind_it).checks(&["MQTT-3.14.4-1", "MQTT-3.14.4-2"]),
    test!(the_expiry_cannot_be_raised_from_0).checks(&["MQTT-4.13.1-1"]),
];

fn there_is_none_before_connack(bench: &Bench<'_>) {
    let plain = connect(V5, &bench.id("c"));
    for first in [
        vec![0xe0, 0],
        disconnect(0),
        vec![0xc0, 0],
        vec![0x10, 0],
        vec![0xf0, 0],
        plain.bytes_with_flags(3),
        plain.bytes_with_flags(0x1e),
        plain.clone().property(property::topic_alias(1)).bytes(),
        plain.clone().property(property::receive_maximum(0)).bytes(),
        publish("t", "x", 0, 0).bytes(V5),
        vec![0x10, 0xff, 0xff, 0xff, 0xff, 1],
    ] {
        let mut client = bench.socket();
        client.try_send(&first);
        if let Some(answer) = client.bytes() {
            assert_eq!(answer[0], 0x20, "{answer:02x?} to {first:02x?}");
            client.expect_end();
        }
    }
}

/// A fault in the same segment as CONNECT, which may be seen before CONNACK could be sent.
fn there_is_none_before_connack_for_what_follows(bench: &Bench<'_>) {
    let topic = bench.topic("will");
    let clean = connect(V5, &bench.id("clean"));
    for session in [
        clean.clone(),
        clean.will(&topic, "x", 1, false),
        super::stored(bench, "stored").will(&topic, "x", 1, false),
    ] {
        for fault in faults() {
            let mut client = bench.socket();
            client.try_send(&[session.bytes(), fault].concat());
            if let Some(first) = client.bytes() {
                assert_eq!(first[0], 0x20, "{first:02x?}");
            }
        }
    }
}

fn reserved_flags_close(bench: &Bench<'_>) {
    for flags in 1..16 {
        closes(bench, &packet(0xe0 | flags, &[]), MALFORMED);
        closes(bench, &packet(0xe0 | flags, &[0]), MALFORMED);
    }
}

fn reserved_flags_are_told_as_malformed(bench: &Bench<'_>) {
    for flags in 1..16 {
        let mut client = bench.clean(V5, "c");
        client.send(&packet(0xe0 | flags, &[]));
        client.expect_disconnect(0x81);
    }
}

/// What a server may say.
const REASONS: [u8; 27] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1,
];

/// What ends a connection.
fn faults() -> Vec<Vec<u8>> {
    let alias = |alias| publish("t", "x", 0, 0).property(property::topic_alias(alias));
    vec![
        packet(0x36, &[0, 1, b't', 0, 1, 0]),
        publish("#", "x", 0, 0).bytes(V5),
        publish("", "x", 0, 0).bytes(V5),
        publish("t", "x", 1, 0).bytes(V5),
        alias(0).bytes(V5),
        alias(0xffff).bytes(V5),
        subscribe(V5, 1, &[]),
        subscribe(V5, 1, &[("a#", 0)]),
        packet(0x80, &[]),
        packet(0xf0, &[]),
        connect(V5, "again").bytes(),
        vec![0, 0],
    ]
}

fn its_reasons_are_of_the_table(bench: &Bench<'_>) {
    for fault in faults() {
        let mut client = bench.clean(V5, "c");
        client.send(&fault);
        if let Some(bytes) = client.bytes() {
            assert_eq!(bytes[0], 0xe0, "{bytes:02x?} to {fault:02x?}");
            let reason = bytes.get(2).copied().unwrap_or(0);
            assert!(REASONS.contains(&reason), "{reason:#x}");
            // An error in all these cases, and then the end.
            assert!(reason >= 0x80, "{reason:#x}");
            client.expect_end();
        }
    }
}

fn a_client_may_give_any_reason_of_its_own(bench: &Bench<'_>) {
    for reason in [
        0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
    ] {
        let mut client = bench.clean(V5, "c");
        client.send(&disconnect(reason));
        client.expect_end();
    }
}

fn a_server_sends_no_session_expiry(bench: &Bench<'_>) {
    let session = connect(V5, &bench.id("c")).property(property::session_expiry(7));
    for fault in faults() {
        let mut client = bench.client(&session);
        client.send(&fault);
        if let Some(bytes) = client.bytes() {
            let told = answer_properties(&bytes);
            assert!(told.iter().all(|(id, _)| *id != 0x11), "{bytes:02x?}");
        }
    }
}

fn it_fits_the_clients_limit(bench: &Bench<'_>) {
    let tight = super::connack_length(bench);
    for limit in [tight, tight + 3, tight + 10, 1000] {
        for fault in faults() {
            let mut client = bench.client(&super::limited(bench, limit));
            client.send(&fault);
            if let Some(bytes) = client.bytes() {
                assert!(bytes.len() <= limit as usize, "{limit}: {bytes:02x?}");
            }
        }
    }
}

fn nothing_counts_behind_it(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&topic, 2);
    for reason in [0x00, 0x04, 0x80] {
        let mut client = bench.clean(V5, "c");
        let bytes = [
            disconnect(reason),
            publish(&topic, "late", 0, 0).bytes(V5),
            publish(&topic, "late", 1, 1).bytes(V5),
            ack(PUBACK, 1),
            ack(PUBREL, 1),
            PINGREQ.to_vec(),
        ];
        client.send(&bytes.concat());
        client.expect_end();
    }
    let mut publisher = bench.clean(V5, "p");
    subscriber.expect_nothing_from(&mut publisher);
}

fn the_connection_is_closed_behind_it(bench: &Bench<'_>) {
    // A client that does not close is closed.
    for bytes in [
        DISCONNECT.to_vec(),
        disconnect(0),
        packet(0xe0, &[0, 0]),
        disconnect(0x80),
    ] {
        let mut client = bench.clean(V5, "c");
        client.send(&bytes);
        client.expect_end();
    }
}

fn the_expiry_cannot_be_raised_from_0(bench: &Bench<'_>) {
    let session = connect(V5, &bench.id("c"));
    let mut client = bench.client(&session);
    let expiry = property::session_expiry(1000);
    let body = [&[0, expiry.len() as u8][..], &expiry].concat();
    client.send(&packet(0xe0, &body));
    super::closed(&mut client, &[0x82]);
    assert!(!bench.socket().connect(&session.clean(false)));
}
