//! CONNECT and the other packets of 3.1, which is more forgiving about flags than its successors.

use std::time::{Duration, Instant};

use crate::harness::broker::Setup;
use crate::harness::client::Client;
use crate::wire::{
    DISCONNECT, Got, PINGREQ, PINGRESP, PUBACK, PUBREL, V31, ack, connect, field, packet, publish,
    subscribe, text, unsubscribe,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(mqisdp_of_level_3_is_served).checks(&["3.1-name"]),
    test!(other_levels_are_refused_with_1).checks(&["3.1-name", "3.2-connack"]),
    test!(other_names_are_not_served).checks(&["3.1-name"]),
    test!(bridges_set_the_high_bit).checks(&["3.1-bridge"]),
    test!(ids_of_1_to_23_characters_are_accepted)
        .setup(Setup::Alone)
        .checks(&["3.1-client-id"]),
    test!(longer_ids_are_accepted_as_the_original_has_it).checks(&["3.1-client-id"]),
    test!(an_empty_id_is_refused_with_2).checks(&["3.1-empty-id", "3.2-connack"]),
    test!(without_leave_a_client_is_refused)
        .setup(Setup::Closed)
        .checks(&["3.2-connack"]),
    test!(the_reserved_flag_means_nothing).checks(&["3.1-flags"]),
    test!(will_flags_without_a_will_mean_nothing).checks(&["3.1-flags"]),
    test!(a_will_needs_its_fields).checks(&["3.1-will"]),
    test!(a_will_is_published_when_the_connection_is_lost).checks(&["3.1-will", "3.14-disconnect"]),
    test!(names_and_passwords_may_be_missing).checks(&["3.1-missing"]),
    test!(more_than_the_flags_promise_closes).checks(&["3.1-missing"]),
    test!(a_password_without_a_user_name_closes).checks(&["3.1-missing"]),
    test!(no_session_is_said_to_be_present).checks(&["3.2-connack", "3.1-clean"]),
    test!(unused_flags_are_ignored).checks(&["2.1-flags", "3.12-ping", "3.10-unsubscribe"]),
    test!(flags_of_connect_are_ignored).checks(&["2.1-flags"]),
    test!(a_disconnect_with_flags_is_one).checks(&["2.1-flags", "3.14-disconnect"]),
    test!(dup_on_qos_0_is_ignored).checks(&["2.1-flags", "3.3-dup"]),
    test!(message_id_0_closes).checks(&["2.4-ids"]),
    test!(qos_3_closes).checks(&["3.6-qos"]),
    test!(suback_grants_each_filter_in_order).checks(&["3.9-suback"]),
    test!(suback_grants_what_is_less)
        .setup(Setup::Strict)
        .checks(&["3.9-suback"]),
    test!(suback_has_no_code_for_a_failure).checks(&["3.8-subscribe"]),
    test!(a_subscription_of_qos_3_closes).checks(&["3.8-subscribe"]),
    test!(unsuback_has_the_id).checks(&["3.10-unsubscribe"]),
    test!(a_ping_is_answered).checks(&["3.12-ping"]),
    test!(silence_closes).checks(&["3.1-keep-alive"]),
    test!(a_second_connect_closes).checks(&["3.1-name"]),
];

/// CONNECT with these fields, whether they agree or not.
fn raw(name: &str, level: u8, flags: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut body = text(name);
    body.extend([level, flags, 0, 60]);
    body.extend(fields.iter().flat_map(|f| field(f)));
    packet(0x10, &body)
}

const CLEAN: u8 = 2;
const WILL: u8 = 4;

fn socket(bench: &Bench<'_>) -> Client {
    let mut client = bench.socket();
    client.version = V31;
    client
}

fn answer(bench: &Bench<'_>, bytes: &[u8]) -> (Client, Option<u8>) {
    let mut client = socket(bench);
    client.send(bytes);
    let code = client.bytes().map(|got| {
        assert_eq!(got[..3], [0x20, 2, 0]);
        got[3]
    });
    (client, code)
}

fn expect_accepted(bench: &Bench<'_>, bytes: &[u8]) -> Client {
    let (client, code) = answer(bench, bytes);
    assert_eq!(code, Some(0), "to {bytes:02x?}");
    client
}

fn expect_refused(bench: &Bench<'_>, bytes: &[u8], expected: Option<u8>) {
    let (mut client, code) = answer(bench, bytes);
    assert_eq!(code, expected, "to {bytes:02x?}");
    client.expect_end();
}

fn expect_end_at(client: &mut Client, bytes: &[u8]) {
    client.try_send(bytes);
    if let Some(got) = client.try_next() {
        panic!("{got:?} instead of the end, at {bytes:02x?}");
    }
}

fn mqisdp_of_level_3_is_served(bench: &Bench<'_>) {
    let id = bench.id("c");
    let mut client = expect_accepted(bench, &raw("MQIsdp", 3, CLEAN, &[id.as_bytes()]));
    let topic = bench.topic("t");
    client.subscribe(&topic, 2);
    for qos in 0..3 {
        client.publish(&publish(&topic, "x", qos, 1));
        client.expect_message(&topic, "x", qos, false);
    }
}

fn other_levels_are_refused_with_1(bench: &Bench<'_>) {
    let id = bench.id("c");
    for level in [0, 1, 2, 4, 5, 6, 0x80, 0x84, 0xff] {
        let bytes = raw("MQIsdp", level, CLEAN, &[id.as_bytes()]);
        expect_refused(bench, &bytes, Some(1));
    }
    for level in [3, 0x83] {
        let bytes = raw("MQTT", level, CLEAN, &[id.as_bytes()]);
        expect_refused(bench, &bytes, Some(1));
    }
}

fn other_names_are_not_served(bench: &Bench<'_>) {
    let id = bench.id("c");
    for name in ["", "MQIsd", "MQIsdpp", "mqisdp", "MQISDP"] {
        let bytes = raw(name, 3, CLEAN, &[id.as_bytes()]);
        let (mut client, code) = answer(bench, &bytes);
        assert_ne!(code, Some(0), "{name}");
        client.expect_end();
    }
}

fn bridges_set_the_high_bit(bench: &Bench<'_>) {
    let (id, topic) = (bench.id("b"), bench.topic("t"));
    let mut client = expect_accepted(bench, &raw("MQIsdp", 0x83, CLEAN, &[id.as_bytes()]));
    client.subscribe(&topic, 1);
    let mut publisher = bench.clean(V31, "p");
    publisher.publish(&publish(&topic, "kept", 1, 1).retain());
    client.expect_message(&topic, "kept", 1, true);
    publisher.publish(&publish(&topic, "plain", 1, 1));
    client.expect_message(&topic, "plain", 1, false);
    // Its own would go round and round between two brokers.
    client.publish(&publish(&topic, "own", 1, 1));
    client.expect_nothing_from(&mut publisher);
    publisher.publish(&publish(&topic, "", 1, 1).retain());
}

fn ids_of_1_to_23_characters_are_accepted(bench: &Bench<'_>) {
    for length in 1..=23 {
        for character in ["z", "9", "_", "/", " "] {
            let mut client = bench.client(&connect(V31, &character.repeat(length)));
            client.ping();
            client.disconnect();
        }
    }
}

fn longer_ids_are_accepted_as_the_original_has_it(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for length in [24, 65, 1000] {
        let id = bench.id(&"n".repeat(length));
        let session = connect(V31, &id).persistent();
        let mut client = bench.client(&session);
        client.subscribe(&topic, 1);
        client.disconnect();
        // Told apart to the end, not cut at 23.
        let mut other = bench.client(&connect(V31, &format!("{id}x")));
        other.publish(&publish(&topic, "x", 1, 1));
        let mut client = bench.client(&session);
        client.expect_message(&topic, "x", 1, false);
        client.disconnect();
        bench.client(&session.clean(true)).disconnect();
    }
}

fn an_empty_id_is_refused_with_2(bench: &Bench<'_>) {
    for flags in [CLEAN, 0] {
        expect_refused(bench, &raw("MQIsdp", 3, flags, &[b""]), Some(2));
    }
}

fn without_leave_a_client_is_refused(bench: &Bench<'_>) {
    let id = bench.id("c");
    let anonymous = raw("MQIsdp", 3, CLEAN, &[id.as_bytes()]);
    expect_refused(bench, &anonymous, Some(5));
    // A name that is promised and missing is none.
    let missing = raw("MQIsdp", 3, CLEAN | 0xc0, &[id.as_bytes()]);
    expect_refused(bench, &missing, Some(5));
}

fn the_reserved_flag_means_nothing(bench: &Bench<'_>) {
    let id = bench.id("c");
    expect_accepted(bench, &raw("MQIsdp", 3, CLEAN | 1, &[id.as_bytes()])).ping();
}

fn will_flags_without_a_will_mean_nothing(bench: &Bench<'_>) {
    let id = bench.id("c");
    for flags in [0x08, 0x10, 0x20, 0x28, 0x30] {
        expect_accepted(bench, &raw("MQIsdp", 3, CLEAN | flags, &[id.as_bytes()])).ping();
    }
}

fn a_will_needs_its_fields(bench: &Bench<'_>) {
    let id = bench.id("c");
    for fields in [
        &[id.as_bytes()][..],
        &[id.as_bytes(), b"t"],
        &[id.as_bytes(), b"", b"x"],
    ] {
        expect_refused(bench, &raw("MQIsdp", 3, CLEAN | WILL, fields), None);
    }
    let fields = [id.as_bytes(), b"t", b"x"];
    expect_refused(bench, &raw("MQIsdp", 3, CLEAN | WILL | 0x18, &fields), None);
}

fn a_will_is_published_when_the_connection_is_lost(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = bench.clean(V31, "watcher");
    watcher.subscribe(&topic, 2);
    for qos in 0..3 {
        for clean in [true, false] {
            let session = connect(V31, &bench.id("c")).clean(clean);
            let session = session.will(&topic, "gone", qos, qos == 1);
            bench.client(&session).disconnect();
            bench.client(&session).drop_connection();
            watcher.expect_message(&topic, "gone", qos, false);
        }
    }
    let mut later = bench.clean(V31, "later");
    later.subscribe(&topic, 1);
    later.expect_message(&topic, "gone", 1, true);
    later.publish(&publish(&topic, "", 1, 1).retain());
    bench.clean(V31, "c").disconnect();
}

fn names_and_passwords_may_be_missing(bench: &Bench<'_>) {
    let (id, topic) = (bench.id("c"), bench.topic("t"));
    let fields: [&[u8]; 5] = [id.as_bytes(), topic.as_bytes(), b"x", b"user", b"secret"];
    for (flags, count) in [(0x80, 1), (0xc0, 1), (0xc0, 2)] {
        let mut some = vec![fields[0]];
        some.extend(&fields[3..2 + count]);
        expect_accepted(bench, &raw("MQIsdp", 3, CLEAN | flags, &some)).ping();
        let mut some = fields[..3].to_vec();
        some.extend(&fields[3..2 + count]);
        let bytes = raw("MQIsdp", 3, CLEAN | WILL | flags, &some);
        expect_accepted(bench, &bytes).disconnect();
    }
}

fn more_than_the_flags_promise_closes(bench: &Bench<'_>) {
    let id = bench.id("c");
    for (flags, fields) in [
        (0, &[id.as_bytes(), b"user"][..]),
        (0x80, &[id.as_bytes(), b"user", b"secret"]),
        (0xc0, &[id.as_bytes(), b"user", b"secret", b"more"]),
    ] {
        expect_refused(bench, &raw("MQIsdp", 3, CLEAN | flags, fields), None);
    }
}

fn a_password_without_a_user_name_closes(bench: &Bench<'_>) {
    let id = bench.id("c");
    for fields in [&[id.as_bytes()][..], &[id.as_bytes(), b"secret"]] {
        expect_refused(bench, &raw("MQIsdp", 3, CLEAN | 0x40, fields), None);
    }
}

fn no_session_is_said_to_be_present(bench: &Bench<'_>) {
    let session = connect(V31, &bench.id("s")).persistent();
    for clean in [false, false, true, false] {
        let mut client = socket(bench);
        client.send(&session.clone().clean(clean).bytes());
        client.expect_bytes(&[0x20, 2, 0, 0]);
        client.disconnect();
    }
    bench.client(&session.clean(true)).disconnect();
}

fn unused_flags_are_ignored(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V31, "c");
    let with = |bytes: &[u8], flags: u8| {
        let mut bytes = bytes.to_vec();
        bytes[0] = bytes[0] & 0xf0 | flags;
        bytes
    };
    for flags in 0..16 {
        client.send(&with(&subscribe(V31, 5, &[(&topic, 1)]), flags));
        client.expect(Got::Suback(5, vec![1]));
        client.publish(&publish(&topic, "x", 1, 1));
        let message = client.message();
        client.send(&with(&ack(PUBACK, message.id), flags));
        client.send(&with(&ack(PUBREL, 9), flags));
        client.expect_ack(0x70, 9);
        client.send(&with(&unsubscribe(V31, 6, &[&topic]), flags));
        client.expect(Got::Unsuback(6, vec![]));
        client.send(&with(PINGREQ, flags));
        client.expect(Got::Pingresp);
    }
}

fn flags_of_connect_are_ignored(bench: &Bench<'_>) {
    for flags in [1, 2, 8, 15] {
        let mut bytes = connect(V31, &bench.id("c")).bytes();
        bytes[0] |= flags;
        expect_accepted(bench, &bytes).ping();
    }
}

fn a_disconnect_with_flags_is_one(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = bench.clean(V31, "watcher");
    watcher.subscribe(&topic, 1);
    for flags in [0, 1, 2, 8] {
        let session = connect(V31, &bench.id("c")).will(&topic, "gone", 1, false);
        expect_end_at(&mut bench.client(&session), &[DISCONNECT[0] | flags, 0]);
    }
    let mut publisher = bench.clean(V31, "p");
    watcher.expect_nothing_from(&mut publisher);
}

fn dup_on_qos_0_is_ignored(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V31, "c");
    client.subscribe(&topic, 1);
    client.send(&publish(&topic, "x", 0, 0).dup().bytes(V31));
    client.expect_bytes(&publish(&topic, "x", 0, 0).bytes(V31));
}

fn message_id_0_closes(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for bad in [
        publish(&topic, "x", 1, 0).bytes(V31),
        publish(&topic, "x", 2, 0).bytes(V31),
        subscribe(V31, 0, &[(&topic, 0)]),
        unsubscribe(V31, 0, &[&topic]),
    ] {
        expect_end_at(&mut bench.clean(V31, "c"), &bad);
    }
}

fn qos_3_closes(bench: &Bench<'_>) {
    let body = [text(&bench.topic("t")), vec![0, 1]].concat();
    expect_end_at(&mut bench.clean(V31, "c"), &packet(0x36, &body));
}

fn suback_grants_each_filter_in_order(bench: &Bench<'_>) {
    let names = ["a", "b/#", "+"].map(|name| bench.topic(name));
    for codes in [[0, 1, 2], [2, 0, 1], [1, 1, 0]] {
        let filters: Vec<(&str, u8)> = names.iter().map(|n| &**n).zip(codes).collect();
        let mut client = bench.clean(V31, "c");
        client.send(&subscribe(V31, 7, &filters));
        client.expect(Got::Suback(7, codes.to_vec()));
    }
}

fn suback_grants_what_is_less(bench: &Bench<'_>) {
    let (a, b) = (bench.topic("a"), bench.topic("b"));
    let mut client = bench.client(&connect(V31, &bench.id("c")).keep_alive(10));
    client.send(&subscribe(V31, 1, &[(&a, 2), (&b, 0)]));
    client.expect(Got::Suback(1, vec![1, 0]));
}

/// Whatever a server thinks of a filter, its answer is one of the three QoS, or the end.
fn suback_has_no_code_for_a_failure(bench: &Bench<'_>) {
    for filter in ["$SYS/#", "$share/g/a", "$CONTROL/a", "$anything", "#"] {
        let mut client = bench.clean(V31, "c");
        client.send(&subscribe(V31, 1, &[(filter, 1)]));
        loop {
            match client.try_next() {
                Some(Got::Publish(_)) => {}
                Some(Got::Suback(1, codes)) => break assert!(codes[0] <= 2, "{filter}"),
                Some(other) => panic!("{other:?}"),
                None => break,
            }
        }
    }
}

fn a_subscription_of_qos_3_closes(bench: &Bench<'_>) {
    let bad = subscribe(V31, 1, &[(&bench.topic("t"), 3)]);
    expect_end_at(&mut bench.clean(V31, "c"), &bad);
}

fn unsuback_has_the_id(bench: &Bench<'_>) {
    let mut client = bench.clean(V31, "c");
    for id in [1, 0xff, 0xffff] {
        let [high, low] = u16::to_be_bytes(id);
        client.send(&unsubscribe(V31, id, &[&bench.topic("a"), "b"]));
        client.expect_bytes(&[0xb0, 2, high, low]);
    }
}

fn a_ping_is_answered(bench: &Bench<'_>) {
    let mut client = bench.clean(V31, "c");
    for _ in 0..3 {
        client.send(PINGREQ);
        client.expect_bytes(PINGRESP);
    }
}

fn silence_closes(bench: &Bench<'_>) {
    let start = Instant::now();
    let mut client = bench.client(&connect(V31, &bench.id("c")).keep_alive(2));
    client.expect_end();
    assert!(start.elapsed() >= Duration::from_millis(2900));
}

fn a_second_connect_closes(bench: &Bench<'_>) {
    let session = connect(V31, &bench.id("c"));
    expect_end_at(&mut bench.client(&session), &session.bytes());
}
