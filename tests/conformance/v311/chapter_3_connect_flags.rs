//! Chapters 3.1.2 and 3.1.3: the flags of CONNECT, the fields that they promise, and wills.

use super::expect_end_at;
use crate::harness::client::Client;
use crate::wire::{DISCONNECT, V311, connect, field, packet, publish, text};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(the_reserved_flag_closes).checks(&["MQTT-3.1.2-3", "MQTT-3.2.2-6"]),
    test!(all_fields_together_are_read_in_their_order).checks(&[
        "MQTT-3.1.3-1",
        "MQTT-3.1.2-9",
        "MQTT-3.1.2-19",
        "MQTT-3.1.2-21",
    ]),
    test!(every_valid_set_of_flags_is_accepted).checks(&[
        "MQTT-3.1.2-9",
        "MQTT-3.1.2-11",
        "MQTT-3.1.2-18",
        "MQTT-3.1.2-20",
    ]),
    test!(a_will_without_topic_or_message_closes).checks(&["MQTT-3.1.2-9", "MQTT-3.1.4-1"]),
    test!(will_fields_without_a_will_close).checks(&["MQTT-3.1.2-11"]),
    test!(will_qos_without_a_will_closes).checks(&["MQTT-3.1.2-11", "MQTT-3.1.2-13"]),
    test!(will_retain_without_a_will_closes).checks(&["MQTT-3.1.2-11", "MQTT-3.1.2-15"]),
    test!(will_qos_3_closes).checks(&["MQTT-3.1.2-14"]),
    test!(a_will_topic_with_a_wildcard_closes).checks(&["MQTT-4.7.1-1"]),
    test!(a_user_name_without_its_flag_closes).checks(&["MQTT-3.1.2-18"]),
    test!(a_user_name_flag_without_a_user_name_closes).checks(&["MQTT-3.1.2-19"]),
    test!(a_password_without_its_flag_closes).checks(&["MQTT-3.1.2-20"]),
    test!(a_password_flag_without_a_password_closes).checks(&["MQTT-3.1.2-21"]),
    test!(a_password_without_a_user_name_closes).checks(&["MQTT-3.1.2-22"]),
    test!(a_password_is_any_bytes).checks(&["MQTT-3.1.2-21"]),
    test!(a_lost_connection_publishes_the_will).checks(&["MQTT-3.1.2-8", "MQTT-3.1.2-10"]),
    test!(a_protocol_error_publishes_the_will).checks(&["MQTT-3.1.2-8"]),
    test!(a_second_connect_publishes_the_will)
        .checks(&["MQTT-3.1.2-8"])
        .original_breaks("drops the will at a second CONNECT"),
    test!(a_takeover_publishes_the_will).checks(&["MQTT-3.1.2-8", "MQTT-3.1.4-2"]),
    test!(a_takeover_of_a_kept_session_publishes_the_will)
        .checks(&["MQTT-3.1.2-8", "MQTT-3.1.4-2"])
        .original_breaks("drops the will when the session goes on"),
    test!(disconnect_removes_the_will).checks(&["MQTT-3.1.2-8", "MQTT-3.1.2-10", "MQTT-3.14.4-3"]),
    test!(a_will_is_published_once).checks(&["MQTT-3.1.2-10"]),
    test!(without_a_will_none_is_published).checks(&["MQTT-3.1.2-12"]),
    test!(a_will_has_its_topic_message_and_qos).checks(&["MQTT-3.1.2-9", "MQTT-3.1.2-14"]),
    test!(a_will_without_retain_is_not_retained).checks(&["MQTT-3.1.2-16"]),
    test!(a_will_with_retain_is_retained).checks(&["MQTT-3.1.2-17"]),
    test!(a_will_comes_behind_what_its_client_sent).checks(&["MQTT-3.1.2-8", "MQTT-4.6.0-6"]),
    test!(a_will_reaches_absent_clients).checks(&["MQTT-3.1.2-8", "MQTT-3.1.2-5"]),
];

/// CONNECT with these flags and fields, whether they agree or not.
fn raw(flags: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([4, flags, 0, 60]);
    body.extend(fields.iter().flat_map(|f| field(f)));
    packet(0x10, &body)
}

const CLEAN: u8 = 2;
const WILL: u8 = 4;
const RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

fn refused(bench: &Bench<'_>, flags: u8, fields: &[&[u8]]) {
    expect_end_at(&mut bench.socket(), &raw(flags, fields));
}

fn accepted(bench: &Bench<'_>, flags: u8, fields: &[&[u8]]) -> Client {
    let mut client = bench.socket();
    client.send(&raw(flags, fields));
    client.expect_bytes(&[0x20, 2, 0, 0]);
    client
}

fn the_reserved_flag_closes(bench: &Bench<'_>) {
    let id = bench.id("c");
    refused(bench, 1, &[id.as_bytes()]);
    refused(bench, CLEAN | 1, &[id.as_bytes()]);
    refused(bench, CLEAN | WILL | 1, &[id.as_bytes(), b"t", b"x"]);
}

fn all_fields_together_are_read_in_their_order(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    let id = bench.id("c");
    let flags = CLEAN | WILL | 1 << 3 | PASSWORD | USER_NAME;
    let fields = [
        id.as_bytes(),
        topic.as_bytes(),
        b"the message",
        b"the user",
        b"the password",
    ];
    let client = accepted(bench, flags, &fields);
    // It is known by its id, and its will is what it said.
    bench.client(&connect(V311, &id)).ping();
    drop(client);
    watcher.expect_message(&topic, "the message", 1, false);
}

fn every_valid_set_of_flags_is_accepted(bench: &Bench<'_>) {
    let (id, topic) = (bench.id("c"), bench.topic("t"));
    for flags in (0..=255u8).filter(|flags| flags & 1 == 0) {
        let will = flags & WILL != 0;
        let valid = (flags & 0x18 != 0x18)
            && (will || flags & (0x18 | RETAIN) == 0)
            && (flags & PASSWORD == 0 || flags & USER_NAME != 0);
        let mut fields = vec![id.as_bytes()];
        if will {
            fields.extend([topic.as_bytes(), b""]);
        }
        if flags & USER_NAME != 0 {
            fields.push(b"user");
        }
        if flags & PASSWORD != 0 {
            fields.push(b"secret");
        }
        let mut client = bench.socket();
        client.send(&raw(flags, &fields));
        let answer = client.bytes().map(|bytes| bytes[3]);
        assert_eq!(answer, valid.then_some(0), "flags {flags:#x}");
        if valid {
            client.disconnect();
        }
    }
    bench.client(&connect(V311, &id)).disconnect();
}

fn a_will_without_topic_or_message_closes(bench: &Bench<'_>) {
    let id = bench.id("c");
    refused(bench, CLEAN | WILL, &[id.as_bytes()]);
    refused(bench, CLEAN | WILL, &[id.as_bytes(), b"topic"]);
    // A topic has at least one character.
    refused(bench, CLEAN | WILL, &[id.as_bytes(), b"", b"x"]);
}

fn will_fields_without_a_will_close(bench: &Bench<'_>) {
    let id = bench.id("c");
    refused(bench, CLEAN, &[id.as_bytes(), b"topic", b"message"]);
    refused(bench, CLEAN, &[id.as_bytes(), b"topic"]);
}

fn will_qos_without_a_will_closes(bench: &Bench<'_>) {
    let id = bench.id("c");
    for qos in 1..=3 {
        refused(bench, CLEAN | qos << 3, &[id.as_bytes()]);
    }
}

fn will_retain_without_a_will_closes(bench: &Bench<'_>) {
    let id = bench.id("c");
    refused(bench, CLEAN | RETAIN, &[id.as_bytes()]);
}

fn will_qos_3_closes(bench: &Bench<'_>) {
    let (id, topic) = (bench.id("c"), bench.topic("t"));
    let fields = [id.as_bytes(), topic.as_bytes(), b"x"];
    refused(bench, CLEAN | WILL | 3 << 3, &fields);
    refused(bench, CLEAN | WILL | 3 << 3 | RETAIN, &fields);
}

fn a_will_topic_with_a_wildcard_closes(bench: &Bench<'_>) {
    for topic in ["#", "+", "a/#", "a/+/b", "a+"] {
        let session = connect(V311, &bench.id("c")).will(topic, "x", 0, false);
        let mut client = bench.socket();
        client.send(&session.bytes());
        // The level of this is the topic's, not the packet's: a code for "identifier rejected" is not asked for.
        match client.try_next() {
            Some(crate::wire::Got::Connack { code, .. }) if code > 0 => client.expect_end(),
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
}

fn a_user_name_without_its_flag_closes(bench: &Bench<'_>) {
    let (id, topic) = (bench.id("c"), bench.topic("t"));
    refused(bench, CLEAN, &[id.as_bytes(), b"user"]);
    let fields = [id.as_bytes(), topic.as_bytes(), b"x", b"user"];
    refused(bench, CLEAN | WILL, &fields);
}

fn a_user_name_flag_without_a_user_name_closes(bench: &Bench<'_>) {
    let (id, topic) = (bench.id("c"), bench.topic("t"));
    refused(bench, CLEAN | USER_NAME, &[id.as_bytes()]);
    let fields = [id.as_bytes(), topic.as_bytes(), b"x"];
    refused(bench, CLEAN | WILL | USER_NAME, &fields);
}

fn a_password_without_its_flag_closes(bench: &Bench<'_>) {
    let id = bench.id("c");
    let fields = [id.as_bytes(), b"user", b"secret"];
    refused(bench, CLEAN | USER_NAME, &fields);
}

fn a_password_flag_without_a_password_closes(bench: &Bench<'_>) {
    let id = bench.id("c");
    let fields = [id.as_bytes(), b"user"];
    refused(bench, CLEAN | USER_NAME | PASSWORD, &fields);
}

fn a_password_without_a_user_name_closes(bench: &Bench<'_>) {
    let id = bench.id("c");
    refused(bench, CLEAN | PASSWORD, &[id.as_bytes(), b"secret"]);
    refused(bench, CLEAN | PASSWORD, &[id.as_bytes()]);
}

fn a_password_is_any_bytes(bench: &Bench<'_>) {
    let id = bench.id("c");
    for password in [&b""[..], b"\0\xff\xfe", b"\xed\xa0\x80", &[0x80; 300]] {
        let fields = [id.as_bytes(), b"user", password];
        accepted(bench, CLEAN | USER_NAME | PASSWORD, &fields).disconnect();
    }
}

fn watcher(bench: &Bench<'_>, topic: &str) -> Client {
    let mut watcher = bench.clean(V311, "watcher");
    watcher.subscribe(topic, 2);
    watcher
}

fn a_lost_connection_publishes_the_will(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    for clean in [true, false] {
        for worker in 0..bench.broker.workers.max(1) {
            let session = connect(V311, &bench.id("c")).clean(clean);
            let mut client = bench.socket_on(worker);
            client.connect(&session.will(&topic, "gone", 1, false));
            client.drop_connection();
            watcher.expect_message(&topic, "gone", 1, false);
        }
    }
    bench.clean(V311, "c").disconnect();
}

fn a_protocol_error_publishes_the_will(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    for bad in [
        // QoS 3, a reserved type, SUBSCRIBE without a filter, a DISCONNECT with flags.
        packet(0x36, &[0, 1, b'a', 0, 1]),
        vec![0, 0],
        packet(0x82, &[0, 1]),
        vec![0xe1, 0],
    ] {
        let session = connect(V311, &bench.id("c")).will(&topic, "gone", 2, false);
        let mut client = bench.client(&session);
        expect_end_at(&mut client, &bad);
        watcher.expect_message(&topic, "gone", 2, false);
    }
}

fn a_second_connect_publishes_the_will(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    let session = connect(V311, &bench.id("c")).will(&topic, "gone", 1, false);
    let mut client = bench.client(&session);
    expect_end_at(&mut client, &session.bytes());
    watcher.expect_message(&topic, "gone", 1, false);
    let mut publisher = bench.clean(V311, "p");
    watcher.expect_nothing_from(&mut publisher);
}

fn a_takeover_publishes_the_will(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    let session = |payload: &str| connect(V311, &bench.id("c")).will(&topic, payload, 1, false);
    let mut older = bench.client(&session("older"));
    let newer = bench.client(&session("newer"));
    older.expect_end();
    watcher.expect_message(&topic, "older", 1, false);
    newer.disconnect();
    let mut publisher = bench.clean(V311, "p");
    watcher.expect_nothing_from(&mut publisher);
}

fn a_takeover_of_a_kept_session_publishes_the_will(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    let session = connect(V311, &bench.id("c")).persistent();
    let mut older = bench.client(&session.clone().will(&topic, "older", 1, false));
    let newer = bench.client(&session.clone().will(&topic, "newer", 1, false));
    older.expect_end();
    watcher.expect_message(&topic, "older", 1, false);
    newer.disconnect();
    let mut publisher = bench.clean(V311, "p");
    watcher.expect_nothing_from(&mut publisher);
    bench.client(&session.clean(true)).disconnect();
}

fn disconnect_removes_the_will(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    for clean in [true, false] {
        for qos in 0..3 {
            let session = connect(V311, &bench.id("c")).clean(clean);
            let session = session.will(&topic, "gone", qos, true);
            bench.client(&session).disconnect();
            // Ended by the client at once, without waiting for the broker.
            let mut client = bench.client(&session);
            client.send(DISCONNECT);
            client.drop_connection();
        }
    }
    // Neither does the next connection publish what was removed.
    bench
        .client(&connect(V311, &bench.id("c")))
        .drop_connection();
    let mut publisher = bench.clean(V311, "p");
    watcher.expect_nothing_from(&mut publisher);
}

fn a_will_is_published_once(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    let session = connect(V311, &bench.id("c")).persistent();
    bench
        .client(&session.clone().will(&topic, "gone", 1, false))
        .drop_connection();
    watcher.expect_message(&topic, "gone", 1, false);
    for lost in [true, false] {
        let client = bench.client(&session);
        if lost {
            client.drop_connection();
        } else {
            client.disconnect();
        }
    }
    bench.client(&session.clean(true)).disconnect();
    let mut publisher = bench.clean(V311, "p");
    watcher.expect_nothing_from(&mut publisher);
}

fn without_a_will_none_is_published(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    let session = connect(V311, &bench.id("c")).persistent();
    let with_will = session.clone().will(&topic, "gone", 1, false);
    bench.client(&with_will).disconnect();
    bench.client(&session).drop_connection();
    bench.client(&session.clone().clean(true)).drop_connection();
    let mut client = bench.client(&session.clean(true));
    expect_end_at(&mut client, &[0, 0]);
    let mut publisher = bench.clean(V311, "p");
    watcher.expect_nothing_from(&mut publisher);
}

fn a_will_has_its_topic_message_and_qos(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    for qos in 0..3 {
        for payload in ["", "x", &"long".repeat(16_000)] {
            let session = connect(V311, &bench.id("c")).will(&topic, payload, qos, false);
            bench.client(&session).drop_connection();
            watcher.expect_message(&topic, payload, qos, false);
        }
    }
}

/// Whether a will is there for those who come later.
fn later(bench: &Bench<'_>, retain: bool) -> (Client, Client, String) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    let session = connect(V311, &bench.id("c")).will(&topic, "gone", 1, retain);
    bench.client(&session).drop_connection();
    watcher.expect_message(&topic, "gone", 1, false);
    let mut later = bench.clean(V311, "later");
    later.subscribe(&topic, 1);
    (watcher, later, topic)
}

fn a_will_without_retain_is_not_retained(bench: &Bench<'_>) {
    let (mut watcher, mut later, _) = later(bench, false);
    later.expect_nothing_from(&mut watcher);
}

fn a_will_with_retain_is_retained(bench: &Bench<'_>) {
    let (mut watcher, mut later, topic) = later(bench, true);
    later.expect_message(&topic, "gone", 1, true);
    watcher.publish(&publish(&topic, "", 1, 1).retain());
}

fn a_will_comes_behind_what_its_client_sent(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    for _ in 0..5 {
        let session = connect(V311, &bench.id("c")).will(&topic, "gone", 1, false);
        let mut client = bench.client(&session);
        for n in 1..=10 {
            client.publish(&publish(&topic, &n.to_string(), 1, n));
        }
        client.drop_connection();
        for n in 1..=10 {
            watcher.expect_message(&topic, &n.to_string(), 1, false);
        }
        watcher.expect_message(&topic, "gone", 1, false);
    }
}

fn a_will_reaches_absent_clients(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let absent = connect(V311, &bench.id("absent")).persistent();
    let mut client = bench.client(&absent);
    client.subscribe(&topic, 2);
    client.disconnect();
    let mut watcher = watcher(bench, &topic);
    let session = connect(V311, &bench.id("c")).will(&topic, "gone", 2, false);
    bench.client(&session).drop_connection();
    watcher.expect_message(&topic, "gone", 2, false);
    bench
        .client(&absent)
        .expect_message(&topic, "gone", 2, false);
    bench.client(&absent.clean(true)).disconnect();
}
