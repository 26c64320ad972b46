//! Chapter 1.5.3: strings are UTF-8, and which characters they have.

use super::expect_end_at;
use crate::wire::{V311, connect, field, packet, publish, text};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(ill_formed_utf_8_in_a_topic_closes).checks(&["MQTT-1.5.3-1", "MQTT-3.3.2-1"]),
    test!(ill_formed_utf_8_in_a_filter_closes).checks(&["MQTT-1.5.3-1", "MQTT-3.8.3-1"]),
    test!(ill_formed_utf_8_in_a_filter_to_unsubscribe_closes)
        .checks(&["MQTT-1.5.3-1", "MQTT-3.10.3-1"]),
    test!(ill_formed_utf_8_in_connect_closes).checks(&[
        "MQTT-1.5.3-1",
        "MQTT-3.1.3-4",
        "MQTT-3.1.3-10",
        "MQTT-3.1.3-11",
    ]),
    test!(a_null_character_in_a_topic_or_filter_closes).checks(&["MQTT-1.5.3-2", "MQTT-4.7.3-2"]),
    test!(a_null_character_in_connect_closes).checks(&["MQTT-1.5.3-2"]),
    test!(a_byte_order_mark_is_a_character_like_others).checks(&["MQTT-1.5.3-3", "MQTT-4.7.3-4"]),
    test!(a_byte_order_mark_tells_client_ids_apart).checks(&["MQTT-1.5.3-3", "MQTT-3.1.3-2"]),
    test!(characters_of_every_length_pass).checks(&["MQTT-1.5.3-1", "MQTT-4.7.3-4"]),
    test!(discouraged_characters_close_or_pass_as_they_are).checks(&["MQTT-1.5.3-1"]),
];

/// Not UTF-8: a lone byte, one that is never in it, overlong forms, surrogates, beyond the last, cut short.
const ILL_FORMED: [&[u8]; 12] = [
    b"\x80",
    b"a\xff",
    b"\xfe\xfe",
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"a\xe2\x82",
    b"\xf0\x9f\xa6/b",
];

fn publish_to(topic: &[u8]) -> Vec<u8> {
    packet(0x30, &[field(topic), b"x".to_vec()].concat())
}

fn subscribe_to(filter: &[u8]) -> Vec<u8> {
    packet(0x82, &[&[0, 1][..], &field(filter), &[0]].concat())
}

fn unsubscribe_from(filter: &[u8]) -> Vec<u8> {
    packet(0xa2, &[&[0, 1][..], &field(filter)].concat())
}

fn ill_formed_utf_8_in_a_topic_closes(bench: &Bench<'_>) {
    for bad in ILL_FORMED {
        expect_end_at(&mut bench.clean(V311, "c"), &publish_to(bad));
    }
}

fn ill_formed_utf_8_in_a_filter_closes(bench: &Bench<'_>) {
    for bad in ILL_FORMED {
        expect_end_at(&mut bench.clean(V311, "c"), &subscribe_to(bad));
    }
}

fn ill_formed_utf_8_in_a_filter_to_unsubscribe_closes(bench: &Bench<'_>) {
    for bad in ILL_FORMED {
        expect_end_at(&mut bench.clean(V311, "c"), &unsubscribe_from(bad));
    }
}

/// CONNECT with such a client id, will topic and user name: each in its turn is the bad one.
fn connects_with(bench: &Bench<'_>, bad: &[u8]) -> Vec<Vec<u8>> {
    (0..3)
        .map(|n| {
            let id = bench.id("c").into_bytes();
            let topic = bench.topic("will").into_bytes();
            let mut fields = [id, topic, b"payload".to_vec(), b"user".to_vec()];
            fields[[0, 1, 3][n]] = bad.to_vec();
            let mut body = text("MQTT");
            body.extend([4, 0x86, 0, 60]);
            body.extend(fields.iter().flat_map(|f| field(f)));
            packet(0x10, &body)
        })
        .collect()
}

fn ill_formed_utf_8_in_connect_closes(bench: &Bench<'_>) {
    for bad in ILL_FORMED {
        for bytes in connects_with(bench, bad) {
            expect_end_at(&mut bench.socket(), &bytes);
        }
    }
}

fn a_null_character_in_a_topic_or_filter_closes(bench: &Bench<'_>) {
    for bad in [&b"\0"[..], b"a\0", b"\0a", b"a/\0/b", b"a/b\0c"] {
        for bytes in [publish_to(bad), subscribe_to(bad), unsubscribe_from(bad)] {
            expect_end_at(&mut bench.clean(V311, "c"), &bytes);
        }
    }
}

fn a_null_character_in_connect_closes(bench: &Bench<'_>) {
    for bad in [&b"\0"[..], b"a\0", b"\0a", b"a\0b"] {
        for bytes in connects_with(bench, bad) {
            expect_end_at(&mut bench.socket(), &bytes);
        }
    }
}

fn a_byte_order_mark_is_a_character_like_others(bench: &Bench<'_>) {
    let plain = bench.topic("t");
    let marked = [
        format!("\u{feff}{plain}"),
        format!("{plain}\u{feff}"),
        bench.topic("\u{feff}t"),
    ];
    let mut with = bench.clean(V311, "with");
    let mut without = bench.clean(V311, "without");
    without.subscribe(&plain, 0);
    let mut publisher = bench.clean(V311, "p");
    for topic in &marked {
        with.subscribe(topic, 0);
        let message = publish(topic, "\u{feff}x", 0, 0);
        publisher.send(&message.bytes(V311));
        with.expect_bytes(&message.bytes(V311));
    }
    publisher.publish(&publish(&plain, "x", 0, 0));
    without.expect_message(&plain, "x", 0, false);
    without.expect_nothing_from(&mut publisher);
    with.expect_nothing_from(&mut publisher);
}

fn a_byte_order_mark_tells_client_ids_apart(bench: &Bench<'_>) {
    let id = bench.id("c");
    let mut plain = bench.client(&connect(V311, &id));
    let mut marked = bench.client(&connect(V311, &format!("\u{feff}{id}")));
    plain.ping();
    marked.ping();
}

fn characters_of_every_length_pass(bench: &Bench<'_>) {
    let mut client = bench.clean(V311, "c");
    let mut publisher = bench.clean(V311, "\u{e9}\u{20ac}\u{1f980}");
    // The ends of each length, without what is discouraged.
    for name in [
        "\u{20}",
        "\u{7e}",
        "\u{a0}",
        "\u{7ff}",
        "\u{800}",
        "\u{d7ff}",
        "\u{e000}",
        "\u{fffd}",
        "\u{10000}",
        "\u{1f980}",
        "\u{10fffd}",
    ] {
        let topic = bench.topic(&format!("{name}/{name}x"));
        client.subscribe(&topic, 1);
        publisher.publish(&publish(&topic, name, 1, 1));
        client.expect_message(&topic, name, 1, false);
    }
}

/// A receiver may close the connection at these; if it does not, they go through unchanged.
fn discouraged_characters_close_or_pass_as_they_are(bench: &Bench<'_>) {
    for name in [
        "\u{1}",
        "\u{1f}",
        "\u{7f}",
        "\u{9f}",
        "\u{fdd0}",
        "\u{fffe}",
        "\u{ffff}",
        "\u{10ffff}",
    ] {
        let mut watcher = bench.clean(V311, "watcher");
        watcher.subscribe(&bench.topic("+"), 1);
        let topic = bench.topic(name);
        let mut publisher = bench.clean(V311, "p");
        let message = publish(&topic, "x", 1, 1);
        publisher.try_send(&message.bytes(V311));
        if publisher.try_next().is_some() {
            watcher.expect_message(&topic, "x", 1, false);
        } else {
            let mut other = bench.clean(V311, "other");
            watcher.expect_nothing_from(&mut other);
        }
    }
}
