//! 1.5 and 2: strings, numbers, fixed header, packet identifiers, properties.

use std::collections::BTreeSet;

use super::{MALFORMED, closes, rejects};
use crate::wire::{
    Got, PUBACK, PUBCOMP, PUBREC, PUBREL, V5, ack, connect, field, packet, property, publish,
    subscribe, subscribe_with, text, unsubscribe, varint,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(ill_formed_names_close).checks(&[
        "MQTT-1.5.4-1",
        "MQTT-3.3.2-1",
        "MQTT-3.8.3-1",
        "MQTT-3.10.3-1",
    ]),
    test!(ill_formed_strings_in_connect_close).checks(&[
        "MQTT-1.5.4-1",
        "MQTT-3.1.3-4",
        "MQTT-3.1.3-11",
        "MQTT-3.1.3-12",
    ]),
    test!(ill_formed_strings_in_properties_close).checks(&[
        "MQTT-1.5.4-1",
        "MQTT-3.3.2-13",
        "MQTT-3.3.2-19",
    ]),
    test!(both_halves_of_a_pair_are_strings).checks(&["MQTT-1.5.7-1"]),
    test!(a_null_character_closes).checks(&["MQTT-1.5.4-2", "MQTT-4.7.3-2"]),
    test!(a_byte_order_mark_stays).checks(&["MQTT-1.5.4-3"]),
    test!(numbers_are_sent_in_the_fewest_bytes).checks(&["MQTT-1.5.5-1"]),
    test!(longer_numbers_than_needed_close).checks(&["MQTT-1.5.5-1"]),
    test!(a_longer_remaining_length_than_needed_closes)
        .checks(&["MQTT-1.5.5-1"])
        .original_breaks("takes it"),
    test!(reserved_flags_close).checks(&["MQTT-2.1.3-1"]),
    test!(reserved_flags_of_acknowledgements_close)
        .checks(&["MQTT-2.1.3-1"])
        .original_breaks("looks at them in PUBREL only, and not at those of PINGREQ"),
    test!(qos_0_has_no_packet_identifier).checks(&["MQTT-2.2.1-2"]),
    test!(packet_identifier_0_closes).checks(&["MQTT-2.2.1-3"]),
    test!(packet_identifiers_in_use_are_not_given_again).checks(&[
        "MQTT-2.2.1-4",
        "MQTT-4.3.2-1",
        "MQTT-4.3.3-1",
    ]),
    test!(acknowledgements_repeat_the_identifier).checks(&[
        "MQTT-2.2.1-5",
        "MQTT-2.2.1-6",
        "MQTT-4.3.2-4",
        "MQTT-4.3.3-8",
        "MQTT-4.3.3-11",
        "MQTT-3.8.4-2",
        "MQTT-3.10.4-5",
    ]),
    test!(no_properties_are_a_length_of_0).checks(&["MQTT-2.2.2-1"]),
    test!(a_packet_without_a_property_length_closes).checks(&["MQTT-2.2.2-1"]),
];

/// A lone byte, an overlong form, a surrogate, a value above the last one, one that is cut short.
const ILL_FORMED: [&[u8]; 5] = [
    b"a\xff",
    b"a\xc0\x80",
    b"\xed\xa0\x80a",
    b"\xf4\x90\x80\x80",
    b"a\xe2\x82",
];

/// PUBLISH, SUBSCRIBE and UNSUBSCRIBE that name a topic by these bytes.
fn naming(name: &[u8]) -> [Vec<u8>; 3] {
    let name = field(name);
    [
        packet(0x30, &[&name[..], &[0], b"x"].concat()),
        packet(0x82, &[&[0, 1, 0], &name[..], &[0]].concat()),
        packet(0xa2, &[&[0, 1, 0], &name[..]].concat()),
    ]
}

/// PUBLISH to topic `t` with these bytes for its properties.
pub fn publish_with(properties: &[u8]) -> Vec<u8> {
    let mut body = text("t");
    body.extend(varint(properties.len()));
    body.extend_from_slice(properties);
    packet(0x30, &body)
}

fn ill_formed_names_close(bench: &Bench<'_>) {
    for bad in ILL_FORMED {
        for packet in naming(bad) {
            closes(bench, &packet, MALFORMED);
        }
    }
}

fn ill_formed_strings_in_connect_close(bench: &Bench<'_>) {
    // Each has the same length as what it replaces.
    let whole = connect(V5, &bench.id("iiii"))
        .will("wwww", "x", 0, false)
        .username("uuuu")
        .bytes();
    for part in [&b"iiii"[..], b"wwww", b"uuuu"] {
        for bad in [&b"aa\xc0\x80"[..], b"a\xed\xa0\x80", b"\xf4\x90\x80\x80"] {
            let at = whole.windows(4).position(|bytes| bytes == part).unwrap();
            let mut bytes = whole.clone();
            bytes[at..at + 4].copy_from_slice(bad);
            rejects(bench, &bytes, &[0x81, 0x82, 0x85, 0x90]);
        }
    }
}

fn ill_formed_strings_in_properties_close(bench: &Bench<'_>) {
    for bad in ILL_FORMED {
        for identifier in [0x03, 0x08] {
            let property = [&[identifier], &field(bad)[..]].concat();
            closes(bench, &publish_with(&property), MALFORMED);
        }
    }
}

fn both_halves_of_a_pair_are_strings(bench: &Bench<'_>) {
    for bad in ILL_FORMED {
        for pair in [
            [field(bad), text("value")].concat(),
            [text("name"), field(bad)].concat(),
        ] {
            let property = [&[0x26], &pair[..]].concat();
            closes(bench, &publish_with(&property), MALFORMED);
        }
    }
}

fn a_null_character_closes(bench: &Bench<'_>) {
    for packet in naming(b"a\0b") {
        closes(bench, &packet, MALFORMED);
    }
    let property = [&[0x26], &field(b"a\0")[..], &text("b")].concat();
    closes(bench, &publish_with(&property), MALFORMED);
    rejects(
        bench,
        &connect(V5, &format!("{}\0", bench.id("c"))).bytes(),
        &[0x81, 0x82, 0x85],
    );
}

fn a_byte_order_mark_stays(bench: &Bench<'_>) {
    let (marked, plain) = (bench.topic("\u{feff}t"), bench.topic("t"));
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&marked, 1);
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&plain, "plain", 1, 1));
    let value = property::user("\u{feff}name", "\u{feff}");
    publisher.publish(&publish(&marked, "marked", 1, 1).property(value.clone()));
    let got = subscriber.expect_message(&marked, "marked", 1, false);
    assert_eq!(got.properties, [value]);
}

fn numbers_are_sent_in_the_fewest_bytes(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V5, "s");
    let mut publisher = bench.clean(V5, "p");
    for (identifier, length) in [(127, 127), (128, 128), (16_383, 16_383), (16_384, 16_384)] {
        let number = property::subscription_identifier(identifier);
        let bytes = subscribe_with(V5, 1, std::slice::from_ref(&number), &[(&topic, 0)]);
        subscriber.send(&bytes);
        subscriber.expect(Got::Suback(1, vec![0]));
        // What comes before the payload: length of the topic, topic, length of the properties, properties.
        let head = 2 + topic.len() + 1 + number.len();
        let payload = "x".repeat(length - head);
        let sent = publish(&topic, &payload, 0, 0);
        publisher.publish(&sent);
        subscriber.expect_bytes(&sent.property(number).bytes(V5));
    }
}

fn longer_numbers_than_needed_close(bench: &Bench<'_>) {
    // Property length, subscription identifier.
    closes(bench, &packet(0x30, &[0, 1, b't', 0x80, 0]), MALFORMED);
    let identifier = [0, 1, 3, 0x0b, 0x81, 0, 0, 1, b't', 0];
    closes(bench, &packet(0x82, &identifier), MALFORMED);
}

fn a_longer_remaining_length_than_needed_closes(bench: &Bench<'_>) {
    closes(bench, &[0xc0, 0x80, 0], MALFORMED);
    closes(bench, &[0x30, 0x84, 0, 0, 1, b't', 0], MALFORMED);
}

fn reserved_flags_close(bench: &Bench<'_>) {
    let mut bytes = connect(V5, &bench.id("c")).bytes();
    bytes[0] |= 1;
    rejects(bench, &bytes, MALFORMED);
    let topic = bench.topic("t");
    let packets = [
        ack(PUBREL, 1),
        subscribe(V5, 1, &[(&topic, 0)]),
        unsubscribe(V5, 1, &[&topic]),
        vec![0xe0, 0],
    ];
    other_flags_close(bench, &packets);
}

fn reserved_flags_of_acknowledgements_close(bench: &Bench<'_>) {
    let packets = [
        ack(PUBACK, 1),
        ack(PUBREC, 1),
        ack(PUBCOMP, 1),
        vec![0xc0, 0],
    ];
    other_flags_close(bench, &packets);
}

fn other_flags_close(bench: &Bench<'_>, packets: &[Vec<u8>]) {
    for right in packets {
        for flags in (0..16).filter(|flags| *flags != right[0] & 15) {
            let mut wrong = right.clone();
            wrong[0] = wrong[0] & 0xf0 | flags;
            closes(bench, &wrong, MALFORMED);
        }
    }
}

fn qos_0_has_no_packet_identifier(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V5, "c");
    client.subscribe(&topic, 2);
    let message = publish(&topic, "x", 0, 0);
    client.publish(&message);
    client.expect_bytes(&message.bytes(V5));
}

fn packet_identifier_0_closes(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for bad in [
        publish(&topic, "x", 1, 0).bytes(V5),
        publish(&topic, "x", 2, 0).bytes(V5),
        subscribe(V5, 0, &[(&topic, 0)]),
        unsubscribe(V5, 0, &[&topic]),
    ] {
        closes(bench, &bad, MALFORMED);
    }
}

fn packet_identifiers_in_use_are_not_given_again(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for qos in [1, 2] {
        let mut subscriber = bench.clean(V5, &format!("s{qos}"));
        subscriber.subscribe(&topic, qos);
        let mut publisher = bench.clean(V5, &format!("p{qos}"));
        for n in 1..=60 {
            publisher.publish(&publish(&topic, &n.to_string(), qos, n));
        }
        let mut in_use: Vec<_> = (0..10).map(|_| subscriber.message()).collect();
        for _ in 10..60 {
            let ids: BTreeSet<u16> = in_use.iter().map(|message| message.id).collect();
            assert!(ids.len() == 10 && !ids.contains(&0), "{ids:?}");
            // The fifth is finished, the others stay.
            let finished = in_use.remove(4);
            subscriber.acknowledge(&finished);
            in_use.push(subscriber.message());
        }
    }
}

fn acknowledgements_repeat_the_identifier(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V5, "c");
    for id in [1, 0x1234, 0xff00, 0xffff] {
        client.send(&publish(&topic, "x", 1, id).bytes(V5));
        client.expect_ack(PUBACK, id);
        client.send(&publish(&topic, "x", 2, id).bytes(V5));
        client.expect_ack(PUBREC, id);
        client.send(&ack(PUBREL, id));
        client.expect_ack(PUBCOMP, id);
        let other = bench.topic("other");
        client.send(&subscribe(V5, id, &[(&other, 0)]));
        client.expect(Got::Suback(id, vec![0]));
        // The second time nothing is deleted.
        for code in [0, 0x11] {
            client.send(&unsubscribe(V5, id, &[&other]));
            client.expect(Got::Unsuback(id, vec![code]));
        }
    }
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&topic, 2);
    client.publish(&publish(&topic, "x", 2, 700));
    let message = subscriber.message();
    subscriber.send(&ack(PUBREC, message.id));
    subscriber.expect(Got::Ack(PUBREL, message.id, 0));
}

fn no_properties_are_a_length_of_0(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V5, "c");
    client.send(&subscribe(V5, 1, &[(&topic, 1)]));
    client.expect_bytes(&[0x90, 4, 0, 1, 0, 1]);
    let message = publish(&topic, "x", 1, 1);
    bench.clean(V5, "p").publish(&message);
    client.expect_bytes(&message.bytes(V5));
    client.send(&unsubscribe(V5, 2, &[&topic]));
    client.expect_bytes(&[0xb0, 4, 0, 2, 0, 0]);
}

fn a_packet_without_a_property_length_closes(bench: &Bench<'_>) {
    closes(bench, &packet(0x30, &text("t")), MALFORMED);
    closes(bench, &packet(0x82, &[0, 1]), MALFORMED);
    closes(bench, &packet(0xa2, &[0, 1]), MALFORMED);
    let mut body = text("MQTT");
    body.extend([5, 2, 0, 60]);
    rejects(bench, &packet(0x10, &body), MALFORMED);
}
