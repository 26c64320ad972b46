//! 3.4 to 3.7: PUBACK, PUBREC, PUBREL, PUBCOMP.

use super::{MALFORMED, SMALL_MESSAGES, answer_properties, closes};
use crate::harness::client::Client;
use crate::wire::{
    Got, PUBACK, PUBCOMP, PUBREC, PUBREL, V5, ack, packet, property, publish, subscribe,
    unsubscribe,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(puback_has_a_code_of_its_table).checks(&["MQTT-3.4.2-1"]),
    test!(pubrec_has_a_code_of_its_table).checks(&["MQTT-3.5.2-1"]),
    test!(pubrel_has_the_right_flags).checks(&["MQTT-3.6.1-1"]),
    test!(pubrel_with_other_flags_closes).checks(&["MQTT-3.6.1-1"]),
    test!(pubrel_has_a_code_of_its_table).checks(&["MQTT-3.6.2-1"]),
    test!(pubcomp_has_a_code_of_its_table).checks(&["MQTT-3.7.2-1"]),
    test!(answers_fit_the_clients_limit)
        .setup(SMALL_MESSAGES)
        .checks(&[
            "MQTT-3.4.2-2",
            "MQTT-3.4.2-3",
            "MQTT-3.5.2-2",
            "MQTT-3.5.2-3",
            "MQTT-3.6.2-2",
            "MQTT-3.6.2-3",
            "MQTT-3.7.2-2",
            "MQTT-3.7.2-3",
            "MQTT-3.9.2-1",
            "MQTT-3.9.2-2",
            "MQTT-3.11.2-1",
            "MQTT-3.11.2-2",
        ]),
    test!(acknowledgements_with_reasons_are_read).checks(&[
        "MQTT-3.4.2-1",
        "MQTT-3.5.2-1",
        "MQTT-3.6.2-1",
        "MQTT-3.7.2-1",
    ]),
];

/// Codes of PUBACK and PUBREC.
const RECEIVED: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];

/// Codes of PUBREL and PUBCOMP.
const RELEASED: [u8; 2] = [0x00, 0x92];

fn code(client: &mut Client, first: u8, id: u16) -> u8 {
    match client.next() {
        Got::Ack(got, got_id, code) if (got, got_id) == (first, id) => code,
        other => panic!("{other:x?} instead of {first:#x}"),
    }
}

/// The answers to messages that somebody gets, and that nobody gets.
fn codes_of_publish(bench: &Bench<'_>, qos: u8, first: u8) -> [u8; 2] {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&topic, 2);
    let mut client = bench.clean(V5, "c");
    [topic, bench.topic("nobody")].map(|topic| {
        client.send(&publish(&topic, "x", qos, 1).bytes(V5));
        let code = code(&mut client, first, 1);
        if qos == 2 {
            client.send(&ack(PUBREL, 1));
            client.expect_ack(PUBCOMP, 1);
        }
        code
    })
}

fn puback_has_a_code_of_its_table(bench: &Bench<'_>) {
    let [somebody, nobody] = codes_of_publish(bench, 1, PUBACK);
    assert_eq!(somebody, 0);
    // "No matching subscribers" may be said, if it is so.
    assert!(nobody == 0 || nobody == 0x10, "{nobody:#x}");
}

fn pubrec_has_a_code_of_its_table(bench: &Bench<'_>) {
    let [somebody, nobody] = codes_of_publish(bench, 2, PUBREC);
    assert_eq!(somebody, 0);
    assert!(nobody == 0 || nobody == 0x10, "{nobody:#x}");
}

/// A subscriber that has a PUBREL, whose raw bytes these are.
fn pubrel(bench: &Bench<'_>, answer: &[u8]) -> Vec<u8> {
    let topic = bench.topic("t");
    let mut client = bench.clean(V5, "c");
    client.subscribe(&topic, 2);
    bench.clean(V5, "p").publish(&publish(&topic, "x", 2, 1));
    let id = client.message().id.to_be_bytes();
    client.send(&packet(PUBREC, &[&id[..], answer].concat()));
    let bytes = client.bytes().expect("PUBREL");
    assert_eq!(bytes[2..4], id);
    bytes
}

fn pubrel_has_the_right_flags(bench: &Bench<'_>) {
    assert_eq!(pubrel(bench, &[])[0], 0x62);
}

fn pubrel_with_other_flags_closes(bench: &Bench<'_>) {
    for first in [0x60, 0x61, 0x63, 0x64, 0x66, 0x6a, 0x6f] {
        closes(bench, &packet(first, &[0, 1]), MALFORMED);
    }
}

fn pubrel_has_a_code_of_its_table(bench: &Bench<'_>) {
    for answer in [&[][..], &[0], &[0x10], &[0, 0]] {
        let bytes = pubrel(bench, answer);
        assert_eq!(bytes.get(4).copied().unwrap_or(0), 0, "{bytes:02x?}");
    }
    // A PUBREC of nothing may be told so.
    let mut client = bench.clean(V5, "unknown");
    client.send(&ack(PUBREC, 77));
    client.send(crate::wire::PINGREQ);
    match client.next() {
        Got::Ack(PUBREL, 77, code) => assert!(RELEASED.contains(&code), "{code:#x}"),
        Got::Pingresp => {}
        other => panic!("{other:x?}"),
    }
}

fn pubcomp_has_a_code_of_its_table(bench: &Bench<'_>) {
    let mut client = bench.clean(V5, "c");
    client.send(&publish(&bench.topic("t"), "x", 2, 5).bytes(V5));
    let received = code(&mut client, PUBREC, 5);
    assert!(RECEIVED.contains(&received), "{received:#x}");
    client.send(&ack(PUBREL, 5));
    assert_eq!(code(&mut client, PUBCOMP, 5), 0);
    client.send(&ack(PUBREL, 77));
    let unknown = code(&mut client, PUBCOMP, 77);
    assert!(RELEASED.contains(&unknown), "{unknown:#x}");
}

/// Everything that is answered with a reason: the answers, as they came.
fn answers(bench: &Bench<'_>, limit: u32) -> Vec<Vec<u8>> {
    let (topic, nobody) = (bench.topic("t"), bench.topic("nobody"));
    // Not of what other tests publish.
    let shared = format!("$share/g/{topic}");
    let mut client = bench.client(&super::limited(bench, limit));
    let mut answers = Vec::new();
    let large = "x".repeat(101);
    for packet in [
        publish(&nobody, &large, 1, 7).bytes(V5),
        publish(&nobody, &large, 2, 8).bytes(V5),
        publish(&nobody, "x", 1, 1).bytes(V5),
        publish(&nobody, "x", 2, 2).bytes(V5),
        ack(PUBREL, 2),
        ack(PUBREL, 99),
        publish("$SYS/x", "x", 1, 3).bytes(V5),
        publish("$SYS/x", "x", 2, 4).bytes(V5),
        subscribe(V5, 3, &[(&topic, 2), (&shared, 2)]),
        unsubscribe(V5, 4, &[&nobody]),
    ] {
        client.send(&packet);
        answers.push(client.bytes().expect("an answer"));
    }
    // And a PUBREL of the broker's, for a message that fits.
    let short = "~";
    client.send(&subscribe(V5, 5, &[(short, 2)]));
    answers.push(client.bytes().expect("SUBACK"));
    client.publish(&publish(short, "x", 2, 9));
    let id = client.message().id;
    client.send(&ack(PUBREC, id));
    answers.push(client.bytes().expect("PUBREL"));
    answers
}

fn answers_fit_the_clients_limit(bench: &Bench<'_>) {
    let tight = super::connack_length(bench);
    for limit in [tight, tight + 3, tight + 10, 1000] {
        for answer in answers(bench, limit) {
            assert!(answer.len() <= limit as usize, "{limit}: {answer:02x?}");
            for (identifier, _) in answer_properties(&answer) {
                assert!([0x1f, 0x26].contains(&identifier), "{answer:02x?}");
            }
        }
    }
}

fn acknowledgements_with_reasons_are_read(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V5, "c");
    client.subscribe(&topic, 2);
    let mut publisher = bench.clean(V5, "p");
    // A reason string and two user properties, which a server may use or not.
    let mut told = vec![0x1f];
    told.extend(crate::wire::text("why"));
    told.extend(property::user("a", "b"));
    told.extend(property::user("a", "b"));
    let with_reason = |first: u8, id: u16, code: u8| {
        let mut body = id.to_be_bytes().to_vec();
        body.push(code);
        body.push(told.len() as u8);
        body.extend(&told);
        packet(first, &body)
    };
    publisher.publish(&publish(&topic, "one", 1, 1));
    let message = client.message();
    client.send(&with_reason(PUBACK, message.id, 0));
    publisher.publish(&publish(&topic, "two", 2, 1));
    let message = client.message();
    client.send(&with_reason(PUBREC, message.id, 0));
    client.expect_ack(PUBREL, message.id);
    client.send(&with_reason(PUBCOMP, message.id, 0));
    client.send(&publish(&bench.topic("own"), "x", 2, 9).bytes(V5));
    client.expect_ack(PUBREC, 9);
    client.send(&with_reason(PUBREL, 9, 0));
    client.expect_ack(PUBCOMP, 9);
    client.ping();
    // What cannot be said in them.
    for first in [PUBACK, PUBREC, PUBREL, PUBCOMP] {
        let alias = property::topic_alias(1);
        let body = [&[0, 1, 0, alias.len() as u8], &alias[..]].concat();
        closes(bench, &packet(first, &body), MALFORMED);
    }
}
