//! 4.13: malformed packets and protocol errors end their connection, and no other.

use super::closed;
use crate::harness::client::Client;
use crate::wire::{
    PINGREQ, V5, packet, property, publish, subscribe, subscribe_with, text, unsubscribe,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(malformed_packets_close_only_their_connection).checks(&["MQTT-4.13.1-1"]),
    test!(protocol_errors_close_only_their_connection).checks(&["MQTT-4.13.1-1"]),
    test!(packets_of_a_server_close)
        .checks(&["MQTT-4.13.1-1"])
        .original_breaks("ignores SUBACK, UNSUBACK and PINGRESP"),
    test!(values_that_are_none_close)
        .checks(&["MQTT-4.13.1-1"])
        .original_breaks("takes a payload format of 2"),
    test!(an_error_is_told_and_ends_the_connection).checks(&["MQTT-4.13.2-1"]),
    test!(what_came_before_an_error_counts).checks(&["MQTT-4.13.1-1"]),
];

/// Each of these ends its own connection; another client goes on.
fn each_closes(bench: &Bench<'_>, packets: &[Vec<u8>], reasons: &[u8]) {
    let topic = bench.topic("innocent");
    let mut innocent = bench.clean(V5, "innocent");
    innocent.subscribe(&topic, 1);
    for bad in packets {
        let mut client = bench.clean(V5, "bad");
        client.try_send(bad);
        closed(&mut client, reasons);
        innocent.publish(&publish(&topic, "x", 1, 1));
        innocent.expect_message(&topic, "x", 1, false);
    }
}

fn publish_with(properties: &[u8]) -> Vec<u8> {
    super::format::publish_with(properties)
}

fn malformed_packets_close_only_their_connection(bench: &Bench<'_>) {
    let right = subscribe(V5, 1, &[("a", 0)]);
    each_closes(
        bench,
        &[
            vec![0, 0],
            // Five bytes of length.
            vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x01],
            // Cut short: topic, packet identifier, properties, options.
            packet(0x30, &[]),
            packet(0x30, &[0]),
            packet(0x30, &[0, 9, b'a']),
            packet(0x32, &[0, 1, b'a', 0]),
            packet(0x30, &[0, 1, b'a', 5, 1]),
            publish_with(&[0x01]),
            publish_with(&[0x26, 0, 1, b'a']),
            packet(0x40, &[]),
            packet(0x50, &[1]),
            packet(0x62, &[]),
            packet(0x70, &[1]),
            packet(0x82, &[]),
            packet(0x82, &right[2..right.len() - 1]),
            packet(0x82, &[0, 1, 0, 0, 9, b'a', 0]),
            packet(0xa2, &[]),
            packet(0xa2, &[0, 1, 0, 0, 9, b'a']),
            // An unknown property.
            publish_with(&[0x7f, 0]),
        ],
        &[0x81, 0x82],
    );
}

fn protocol_errors_close_only_their_connection(bench: &Bench<'_>) {
    let number = property::subscription_identifier(1);
    each_closes(
        bench,
        &[
            // Properties of other packets; twice what may be there once.
            publish_with(&property::session_expiry(1)),
            publish_with(&[property::payload_format(0), property::payload_format(0)].concat()),
            publish_with(&[property::content_type("a"), property::content_type("b")].concat()),
            publish_with(&[property::topic_alias(1), property::topic_alias(1)].concat()),
            subscribe_with(V5, 1, &[number.clone(), number.clone()], &[("a", 0)]),
            subscribe_with(V5, 1, &[property::subscription_identifier(0)], &[("a", 0)]),
            subscribe_with(V5, 1, &[property::content_type("a")], &[("a", 0)]),
            packet(0xa2, &[&[0, 1, 2][..], &number, &text("a")].concat()),
            // No topic and no alias; no filters.
            publish("", "x", 0, 0).bytes(V5),
            packet(0x82, &[0, 1, 0]),
            unsubscribe(V5, 1, &[]),
            packet(0xf0, &[]),
        ],
        &[0x81, 0x82],
    );
}

fn packets_of_a_server_close(bench: &Bench<'_>) {
    each_closes(
        bench,
        &[
            vec![0x20, 3, 0, 0, 0],
            vec![0x90, 4, 0, 1, 0, 0],
            vec![0xb0, 4, 0, 1, 0, 0],
            vec![0xd0, 0],
        ],
        &[0x81, 0x82],
    );
}

fn values_that_are_none_close(bench: &Bench<'_>) {
    each_closes(
        bench,
        &[
            publish_with(&[0x01, 2]),
            // A packet that goes on behind its end.
            packet(0xc0, &[0]),
        ],
        &[0x81, 0x82],
    );
}

fn an_error_is_told_and_ends_the_connection(bench: &Bench<'_>) {
    let mut client: Client = bench.clean(V5, "c");
    client.send(&packet(0x36, &[0, 1, b't', 0, 1, 0]));
    if let Some(bytes) = client.bytes() {
        assert!(bytes[0] == 0xe0 && bytes[2] >= 0x80, "{bytes:02x?}");
        client.try_send(PINGREQ);
        assert_eq!(client.bytes(), None);
    }
}

fn what_came_before_an_error_counts(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&topic, 1);
    let mut client = bench.clean(V5, "c");
    let mut bytes = publish(&topic, "good", 1, 1).bytes(V5);
    bytes.extend([0, 0]);
    bytes.extend(publish(&topic, "late", 1, 1).bytes(V5));
    client.send(&bytes);
    subscriber.expect_message(&topic, "good", 1, false);
    while client.try_next().is_some() {}
    let mut publisher = bench.clean(V5, "p");
    subscriber.expect_nothing_from(&mut publisher);
}
