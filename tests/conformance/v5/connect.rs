//! 3.1: CONNECT, but for the will.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{
    MALFORMED, SMALL_MESSAGES, closed, expiring, has, properties, rejected, rejects, stored,
};
use crate::harness::broker::Setup;
use crate::harness::client::Client;
use crate::wire::{
    Connect, DISCONNECT, Got, PINGREQ, PUBCOMP, PUBREL, Publish, V5, ack, connect, packet,
    property, publish, subscribe, text, unsubscribe,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(the_first_packet_is_connect).checks(&["MQTT-3.1.0-1"]),
    test!(a_second_connect_closes).checks(&["MQTT-3.1.0-2"]),
    test!(another_protocol_name_closes).checks(&["MQTT-3.1.2-1"]),
    test!(another_version_closes).checks(&["MQTT-3.1.2-2"]),
    test!(the_reserved_connect_flag_closes).checks(&["MQTT-3.1.2-3"]),
    test!(a_clean_start_discards_the_session).checks(&[
        "MQTT-3.1.2-4",
        "MQTT-3.1.4-4",
        "MQTT-3.2.2-2",
    ]),
    test!(a_session_is_resumed).checks(&[
        "MQTT-3.1.2-5",
        "MQTT-3.1.4-4",
        "MQTT-3.2.2-3",
        "MQTT-3.1.2-23",
        "MQTT-3.1.3-2",
    ]),
    test!(without_a_session_one_is_made).checks(&["MQTT-3.1.2-6", "MQTT-3.2.2-3"]),
    test!(a_session_lives_as_long_as_its_connection).checks(&["MQTT-4.1.0-1"]),
    test!(a_session_ends_with_its_connection_and_expiry).checks(&["MQTT-4.1.0-2"]),
    test!(user_name_and_flag_belong_together).checks(&["MQTT-3.1.2-16", "MQTT-3.1.2-17"]),
    test!(password_and_flag_belong_together).checks(&["MQTT-3.1.2-18", "MQTT-3.1.2-19"]),
    test!(a_password_needs_no_user_name).checks(&["MQTT-3.1.2-19"]),
    test!(a_silent_client_is_closed).checks(&["MQTT-3.1.2-22", "MQTT-3.2.2-22"]),
    test!(any_packet_is_a_sign_of_life).checks(&["MQTT-3.1.2-22"]),
    test!(a_message_over_the_clients_limit_is_not_sent).checks(&["MQTT-3.1.2-24", "MQTT-3.1.2-25"]),
    test!(the_clients_limit_is_exact)
        .checks(&["MQTT-3.1.2-24"])
        .original_breaks("does not count the fixed header"),
    test!(a_message_over_the_limit_holds_no_window)
        .checks(&["MQTT-3.1.2-25"])
        .original_breaks("stops delivering"),
    test!(a_tiny_limit_is_kept).checks(&["MQTT-3.1.2-24", "MQTT-3.2.2-19", "MQTT-3.2.2-20"]),
    test!(aliases_stay_within_the_clients_maximum).checks(&[
        "MQTT-3.1.2-26",
        "MQTT-3.3.2-11",
        "MQTT-3.3.2-8",
    ]),
    test!(the_servers_aliases_are_of_one_connection).checks(&["MQTT-3.3.2-7"]),
    test!(without_a_maximum_there_are_no_aliases).checks(&["MQTT-3.1.2-27"]),
    test!(response_information_is_sent_only_if_asked_for).checks(&["MQTT-3.1.2-28"]),
    test!(problem_information_can_be_declined)
        .setup(SMALL_MESSAGES)
        .checks(&["MQTT-3.1.2-29"]),
    test!(every_field_is_found_in_its_place).checks(&["MQTT-3.1.3-1", "MQTT-3.1.2-9"]),
    test!(short_ids_of_letters_and_digits_are_taken).checks(&["MQTT-3.1.3-5"]),
    test!(an_empty_id_is_replaced).checks(&["MQTT-3.1.3-6", "MQTT-3.1.3-7", "MQTT-3.2.2-16"]),
    test!(an_id_that_is_refused_closes)
        .setup(Setup::Strict)
        .checks(&["MQTT-3.1.3-8"])
        .original_breaks("says 0x80, which is not for this"),
    test!(a_malformed_connect_closes).checks(&["MQTT-3.1.4-1"]),
    test!(properties_out_of_place_close).checks(&["MQTT-3.1.4-1"]),
    test!(authentication_data_needs_a_method)
        .checks(&["MQTT-3.1.4-1"])
        .original_breaks("ignores the data"),
    test!(failed_checks_close)
        .setup(Setup::Closed)
        .checks(&["MQTT-3.1.4-2"]),
    test!(a_takeover_is_told_and_closes)
        .checks(&["MQTT-3.1.4-3"])
        .original_breaks("closes without a word"),
    test!(connect_is_answered_with_success).checks(&["MQTT-3.1.4-5"]),
    test!(behind_a_refused_connect_nothing_counts).checks(&["MQTT-3.1.4-6"]),
];

fn the_first_packet_is_connect(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for first in [
        PINGREQ.to_vec(),
        publish(&topic, "x", 1, 1).bytes(V5),
        subscribe(V5, 1, &[(&topic, 0)]),
        unsubscribe(V5, 1, &[&topic]),
        ack(PUBREL, 1),
        DISCONNECT.to_vec(),
        packet(0xf0, &[0x18, 0]),
        vec![0, 0],
    ] {
        let mut client = bench.socket();
        client.version = V5;
        client.try_send(&first);
        client.expect_end();
    }
}

fn a_second_connect_closes(bench: &Bench<'_>) {
    let again = connect(V5, &bench.id("c"));
    let mut client = bench.client(&again);
    client.send(&again.bytes());
    closed(&mut client, &[0x82]);
}

fn with_name_and_level(bench: &Bench<'_>, name: &str, level: u8) -> Vec<u8> {
    let mut body = text(name);
    body.extend([level, 2, 0, 60, 0]);
    body.extend(text(&bench.id("c")));
    packet(0x10, &body)
}

/// A refusal may have the form of 3.1.1, which clients of every version can read.
fn refused_in_any_form(bench: &Bench<'_>, bytes: &[u8]) {
    let mut client = bench.socket();
    client.send(bytes);
    if let Some(answer) = client.bytes() {
        assert_eq!((answer[0], answer[2]), (0x20, 0), "{answer:02x?}");
        assert!([1, 0x81, 0x84].contains(&answer[3]), "{answer:02x?}");
        client.expect_end();
    }
}

fn another_protocol_name_closes(bench: &Bench<'_>) {
    for name in ["", "MQT", "mqtt", "MQTTT", "MQTT\u{0}", "HTTP", "MQIsdp"] {
        refused_in_any_form(bench, &with_name_and_level(bench, name, 5));
    }
}

fn another_version_closes(bench: &Bench<'_>) {
    for level in [0, 1, 2, 6, 127, 133] {
        refused_in_any_form(bench, &with_name_and_level(bench, "MQTT", level));
    }
}

fn the_reserved_connect_flag_closes(bench: &Bench<'_>) {
    let bytes = connect(V5, &bench.id("c")).bytes_with_flags(3);
    rejects(bench, &bytes, MALFORMED);
}

fn a_clean_start_discards_the_session(bench: &Bench<'_>) {
    let (topic, session) = (bench.topic("t"), stored(bench, "s"));
    let mut client = bench.client(&session);
    client.subscribe(&topic, 1);
    client.disconnect();
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&topic, "lost", 1, 1));
    let mut client = bench.socket();
    assert!(!client.connect(&session.clone().clean(true)));
    publisher.publish(&publish(&topic, "lost", 1, 1));
    client.expect_nothing_from(&mut publisher);
    client.disconnect();
    // What the clean start began goes on.
    assert!(bench.socket().connect(&session));
}

fn a_session_is_resumed(bench: &Bench<'_>) {
    let (topic, session) = (bench.topic("t"), stored(bench, "s"));
    let mut client = bench.socket();
    assert!(!client.connect(&session));
    client.subscribe(&topic, 2);
    let mut publisher = bench.clean(V5, "p");
    for n in 0..4 {
        if n % 2 == 0 {
            client.disconnect();
        } else {
            client.drop_connection();
        }
        publisher.publish(&publish(&topic, &n.to_string(), 1, 1));
        publisher.publish(&publish(&topic, &n.to_string(), 2, 1));
        // Another client is not this one.
        assert!(
            !bench
                .socket()
                .connect(&stored(bench, &format!("other {n}")))
        );
        client = bench.socket();
        assert!(client.connect(&session));
        client.expect_message(&topic, &n.to_string(), 1, false);
        client.expect_message(&topic, &n.to_string(), 2, false);
    }
    publisher.publish(&publish(&topic, "live", 2, 1));
    client.expect_message(&topic, "live", 2, false);
}

fn without_a_session_one_is_made(bench: &Bench<'_>) {
    let (topic, session) = (bench.topic("t"), stored(bench, "s"));
    let mut client = bench.socket();
    assert!(!client.connect(&session));
    client.subscribe(&topic, 1);
    client.publish(&publish(&topic, "x", 1, 1));
    client.expect_message(&topic, "x", 1, false);
    client.disconnect();
    assert!(bench.socket().connect(&session));
}

fn a_session_lives_as_long_as_its_connection(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.client(&expiring(bench, "s", 1));
    client.subscribe(&topic, 2);
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&topic, "first", 2, 1));
    let first = client.message();
    client.send(&publish(&topic, "own", 2, 9).bytes(V5));
    client.expect_ack(crate::wire::PUBREC, 9);
    // Longer than the expiry: it does not count while there is a connection.
    std::thread::sleep(Duration::from_millis(2500));
    client.acknowledge(&first);
    client.send(&ack(PUBREL, 9));
    client.expect_ack(PUBCOMP, 9);
    client.expect_message(&topic, "own", 2, false);
    publisher.publish(&publish(&topic, "second", 2, 1));
    client.expect_message(&topic, "second", 2, false);
}

fn a_session_ends_with_its_connection_and_expiry(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let at_once = connect(V5, &bench.id("at once")).clean(false);
    let mut client = bench.client(&at_once);
    client.subscribe(&topic, 1);
    client.disconnect();
    let mut client = bench.socket();
    assert!(!client.connect(&at_once));
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&topic, "x", 1, 1));
    client.expect_nothing_from(&mut publisher);
    let later = expiring(bench, "later", 1);
    let mut client = bench.client(&later);
    client.subscribe(&topic, 1);
    client.disconnect();
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        // Looking must not keep it alive: the wait is longer than the expiry.
        std::thread::sleep(Duration::from_millis(2500));
        let mut client = bench.socket();
        if !client.connect(&later) {
            publisher.publish(&publish(&topic, "x", 1, 1));
            client.expect_nothing_from(&mut publisher);
            return;
        }
        client.disconnect();
        assert!(Instant::now() < end, "it never expires");
    }
}

fn user_name_and_flag_belong_together(bench: &Bench<'_>) {
    let named = connect(V5, &bench.id("c")).username("somebody");
    bench.client(&named).disconnect();
    rejects(bench, &named.bytes_with_flags(2), MALFORMED);
    let plain = connect(V5, &bench.id("c"));
    rejects(bench, &plain.bytes_with_flags(0x82), MALFORMED);
}

fn password_and_flag_belong_together(bench: &Bench<'_>) {
    let both = connect(V5, &bench.id("c"))
        .username("somebody")
        .password("secret");
    bench.client(&both).disconnect();
    rejects(bench, &both.bytes_with_flags(0x82), MALFORMED);
    let named = connect(V5, &bench.id("c")).username("somebody");
    rejects(bench, &named.bytes_with_flags(0xc2), MALFORMED);
}

fn a_password_needs_no_user_name(bench: &Bench<'_>) {
    bench
        .client(&connect(V5, &bench.id("c")).password("secret"))
        .ping();
}

fn a_silent_client_is_closed(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = bench.clean(V5, "watcher");
    watcher.subscribe(&topic, 1);
    let silent = connect(V5, &bench.id("c"))
        .keep_alive(2)
        .will(&topic, "silent", 1, false);
    let mut client = bench.socket();
    let (_, _, told) = client.connack(&silent);
    let start = Instant::now();
    assert!(!has(&told, 0x13), "the client's own value holds");
    closed(&mut client, &[0x8d]);
    let silence = start.elapsed();
    // The original looks once in a while only; a busy machine is late.
    assert!(silence >= Duration::from_millis(2900), "{silence:?}");
    assert!(silence < Duration::from_secs(9), "{silence:?}");
    watcher.expect_message(&topic, "silent", 1, false);
}

fn any_packet_is_a_sign_of_life(bench: &Bench<'_>) {
    let mut client = bench.client(&connect(V5, &bench.id("c")).keep_alive(1));
    let mut unlimited = bench.client(&connect(V5, &bench.id("unlimited")).keep_alive(0));
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2500) {
        client.send(&publish(&bench.topic("t"), "x", 0, 0).bytes(V5));
        std::thread::sleep(Duration::from_millis(400));
    }
    client.ping();
    unlimited.ping();
}

fn a_message_over_the_clients_limit_is_not_sent(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let limited = connect(V5, &bench.id("s")).property(property::maximum_packet_size(200));
    let mut subscriber = bench.client(&limited);
    subscriber.subscribe(&topic, 2);
    let mut other = bench.clean(V5, "other");
    other.subscribe(&topic, 2);
    let mut publisher = bench.clean(V5, "p");
    for qos in 0..3 {
        // Two bytes of length, and the packet identifier.
        let room = 200 - publish(&topic, "", qos, 1).bytes(V5).len() - 1;
        for (length, fits) in [(room, true), (room + 10, false), (5000, false), (1, true)] {
            let payload = "x".repeat(length);
            publisher.publish(&publish(&topic, &payload, qos, 1));
            other.expect_message(&topic, &payload, qos, false);
            if fits {
                subscriber.expect_message(&topic, &payload, qos, false);
            }
        }
    }
    subscriber.expect_nothing_from(&mut publisher);
}

fn the_clients_limit_is_exact(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V5, "p");
    for qos in 0..3 {
        let message = publish(&topic, "exactly", qos, 1);
        let length = message.bytes(V5).len() as u32;
        for (limit, fits) in [(length, true), (length - 1, false)] {
            let mut session = connect(V5, &bench.id("s"));
            session = session.property(property::maximum_packet_size(limit));
            let mut subscriber = bench.client(&session);
            subscriber.subscribe(&topic, 2);
            publisher.publish(&message);
            publisher.publish(&publish(&topic, "x", qos, 1));
            if fits {
                subscriber.expect_message(&topic, "exactly", qos, false);
            }
            subscriber.expect_message(&topic, "x", qos, false);
            subscriber.disconnect();
        }
    }
}

fn a_message_over_the_limit_holds_no_window(bench: &Bench<'_>) {
    let (topic, session) = (bench.topic("t"), stored(bench, "s"));
    let mut subscriber = bench.client(&session);
    subscriber.subscribe(&topic, 2);
    subscriber.disconnect();
    let mut publisher = bench.clean(V5, "p");
    let long = "x".repeat(200);
    for n in 1..=60u16 {
        let number = n.to_string();
        let payload = if n % 3 == 0 { &number } else { &long };
        publisher.publish(&publish(&topic, payload, 1 + n as u8 % 2, n));
    }
    let limited = session
        .property(property::maximum_packet_size(200))
        .property(property::receive_maximum(2));
    let mut subscriber = bench.client(&limited);
    for n in (3..=60u16).step_by(3) {
        subscriber.expect_message(&topic, &n.to_string(), 1 + n as u8 % 2, false);
    }
    subscriber.expect_nothing_from(&mut publisher);
}

/// Whatever comes is within the limit; an answer that does not fit is left out with the connection.
fn a_tiny_limit_is_kept(bench: &Bench<'_>) {
    for limit in [1, 4, 5, 10, 15, 20, 25, 40] {
        let tiny = connect(V5, "").property(property::maximum_packet_size(limit));
        let mut client = bench.socket();
        client.say_connect(&tiny);
        let topic = bench.topic("t");
        client.try_send(&subscribe(V5, 1, &[(&topic, 0)]));
        client.try_send(&publish(&topic, "x", 1, 1).bytes(V5));
        client.try_send(DISCONNECT);
        while let Some(bytes) = client.bytes() {
            assert!(bytes.len() <= limit as usize, "{limit}: {bytes:02x?}");
        }
    }
}

/// Publishes to six topics in turn and takes what comes; the highest alias that came.
fn highest_alias(bench: &Bench<'_>, maximum: Option<u16>) -> u16 {
    let name = format!("{maximum:?}");
    let mut session = connect(V5, &bench.id(&name));
    if let Some(maximum) = maximum {
        session = session.property(property::topic_alias_maximum(maximum));
    }
    let mut subscriber = bench.client(&session);
    subscriber.subscribe(&bench.topic(&format!("{name}/#")), 1);
    let mut publisher = bench.clean(V5, "p");
    let mut known = HashMap::new();
    for n in 0..24u16 {
        let topic = bench.topic(&format!("{name}/{}", n % 6));
        publisher.publish(&publish(&topic, &n.to_string(), (n % 2) as u8, 1));
        let got = subscriber.receive();
        assert_eq!(got.payload, n.to_string().as_bytes());
        assert_eq!(resolved(&mut known, got), topic);
    }
    known.keys().copied().max().unwrap_or(0)
}

/// The topic of a message, when these aliases were told before in its connection.
fn resolved(known: &mut HashMap<u16, String>, message: Publish) -> String {
    let told = properties(&message.properties.concat());
    let Some((_, alias)) = told.iter().find(|(id, _)| *id == 0x23) else {
        return message.topic;
    };
    let alias = u16::from_be_bytes([alias[0], alias[1]]);
    assert_ne!(alias, 0);
    if !message.topic.is_empty() {
        known.insert(alias, message.topic);
    }
    known[&alias].clone()
}

fn the_servers_aliases_are_of_one_connection(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = stored(bench, "s").property(property::topic_alias_maximum(5));
    let mut subscriber = bench.client(&session);
    subscriber.subscribe(&topic, 2);
    let mut publisher = bench.clean(V5, "p");
    for n in 0..4 {
        let mut known = HashMap::new();
        for qos in [1, 2, 1] {
            publisher.publish(&publish(&topic, "x", qos, 1));
            // Also what is sent again, and what waited for the connection.
            let got = if n % 2 == 0 {
                subscriber.receive()
            } else {
                subscriber.message()
            };
            assert_eq!(resolved(&mut known, got), topic);
        }
        subscriber.drop_connection();
        publisher.publish(&publish(&topic, "waits", 1, 1));
        subscriber = bench.client(&session);
        known.clear();
        for _ in 0..if n % 2 == 0 { 1 } else { 4 } {
            let got = subscriber.receive();
            assert_eq!(resolved(&mut known, got), topic);
        }
        // A connection of its own for the next round.
        subscriber.disconnect();
        subscriber = bench.client(&session);
    }
}

fn aliases_stay_within_the_clients_maximum(bench: &Bench<'_>) {
    for maximum in [1, 3, 5, 1000] {
        assert!(highest_alias(bench, Some(maximum)) <= maximum);
    }
}

fn without_a_maximum_there_are_no_aliases(bench: &Bench<'_>) {
    for maximum in [None, Some(0)] {
        assert_eq!(highest_alias(bench, maximum), 0);
    }
}

fn response_information_is_sent_only_if_asked_for(bench: &Bench<'_>) {
    for asked in [&[][..], &[0x19, 0]] {
        let request = connect(V5, &bench.id("c")).property(asked.to_vec());
        let (_, code, told) = bench.socket().connack(&request);
        assert_eq!((code, has(&told, 0x1a)), (0, false));
    }
    let wrong = connect(V5, &bench.id("c")).property(vec![0x19, 2]);
    rejects(bench, &wrong.bytes(), &[0x82, 0x81]);
}

/// Asks for everything that has an answer with a reason; the answers.
fn provoke_reasons(bench: &Bench<'_>, client: &mut Client) -> Vec<Vec<u8>> {
    let topic = bench.topic("nobody");
    let shared = format!("$share/g/{topic}");
    let large = "x".repeat(101);
    let asked = [
        publish(&topic, &large, 1, 7).bytes(V5),
        publish(&topic, &large, 2, 8).bytes(V5),
        publish("$SYS/x", "x", 1, 9).bytes(V5),
        publish(&topic, "x", 1, 1).bytes(V5),
        publish(&topic, "x", 2, 2).bytes(V5),
        ack(PUBREL, 2),
        ack(PUBREL, 99),
        unsubscribe(V5, 3, &[&topic]),
        subscribe(V5, 4, &[(&topic, 0), (&shared, 0)]),
    ];
    let answer = |packet: &Vec<u8>| {
        client.send(packet);
        client.bytes().expect("an answer")
    };
    asked.iter().map(answer).collect()
}

fn problem_information_can_be_declined(bench: &Bench<'_>) {
    let session = connect(V5, &bench.id("c")).property(vec![0x17, 0]);
    let mut client = bench.client(&session);
    for answer in provoke_reasons(bench, &mut client) {
        for (identifier, _) in super::answer_properties(&answer) {
            assert!(identifier != 0x1f && identifier != 0x26, "{answer:02x?}");
        }
    }
}

fn every_field_is_found_in_its_place(bench: &Bench<'_>) {
    let topic = bench.topic("will");
    let mut watcher = bench.clean(V5, "watcher");
    watcher.subscribe(&topic, 2);
    let full = connect(V5, &bench.id("c"))
        .clean(false)
        .keep_alive(100)
        .property(property::session_expiry(100))
        .property(property::receive_maximum(7))
        .property(property::user("a", "b"))
        .will(&topic, "gone", 2, false)
        .will_property(property::content_type("text/plain"))
        .username("somebody")
        .password("secret");
    assert_eq!(full.flags(), 0xd4);
    let mut client = bench.client(&full);
    client.ping();
    client.drop_connection();
    let will = watcher.expect_message(&topic, "gone", 2, false);
    assert_eq!(will.properties, [property::content_type("text/plain")]);
    assert!(bench.socket().connect(&Connect { will: None, ..full }));
}

fn short_ids_of_letters_and_digits_are_taken(bench: &Bench<'_>) {
    for id in [
        "Q",
        "0123456789abcdefghijklm",
        "nopqrstuvwxyzABCDEFGHIJ",
        "KLMNOPQRSTUVWXYZ0123456",
    ] {
        let mut client = bench.client(&connect(V5, id));
        client.ping();
        client.disconnect();
    }
}

fn assigned(client: &mut Client, connect: &Connect) -> String {
    let (present, code, told) = client.connack(connect);
    assert_eq!((present, code), (false, 0));
    let told = properties(&told);
    let (_, value) = told.iter().find(|(id, _)| *id == 0x12).expect("an id");
    String::from_utf8(value[2..].to_vec()).unwrap()
}

fn an_empty_id_is_replaced(bench: &Bench<'_>) {
    let mut ids = std::collections::BTreeSet::new();
    for clean in [true, false] {
        for _ in 0..5 {
            let mut client = bench.socket();
            let id = assigned(&mut client, &connect(V5, "").clean(clean));
            assert!(
                !id.is_empty() && ids.insert(id.clone()),
                "{id} is given twice"
            );
            client.ping();
        }
    }
    // The id is the session's name from then on.
    let mut client = bench.socket();
    let id = assigned(&mut client, &connect(V5, "").persistent());
    client.disconnect();
    assert!(bench.socket().connect(&connect(V5, &id).persistent()));
    let (_, _, told) = bench.socket().connack(&connect(V5, &bench.id("own")));
    assert!(!has(&told, 0x12), "an id of its own is not replaced");
}

fn an_id_that_is_refused_closes(bench: &Bench<'_>) {
    rejects(bench, &connect(V5, "").keep_alive(10).bytes(), &[0x85]);
}

fn a_malformed_connect_closes(bench: &Bench<'_>) {
    let whole = connect(V5, &bench.id("c"))
        .property(property::session_expiry(10))
        .will(&bench.topic("t"), "x", 1, false)
        .username("somebody")
        .password("secret")
        .bytes();
    for length in 2..whole.len() {
        rejects(bench, &packet(0x10, &whole[2..length]), MALFORMED);
    }
    let longer = [&whole[2..], &[0]].concat();
    rejects(bench, &packet(0x10, &longer), MALFORMED);
}

fn properties_out_of_place_close(bench: &Bench<'_>) {
    for bad in [
        // Of another packet; unknown; twice; a value that is none; cut short.
        property::topic_alias(1),
        property::server_keep_alive(1),
        vec![0x7e, 0],
        [property::session_expiry(1), property::session_expiry(1)].concat(),
        [property::receive_maximum(1), property::receive_maximum(1)].concat(),
        property::receive_maximum(0),
        property::maximum_packet_size(0),
        vec![0x17, 2],
    ] {
        let bytes = connect(V5, &bench.id("c")).property(bad).bytes();
        rejects(bench, &bytes, MALFORMED);
    }
    for bad in [
        property::session_expiry(1),
        vec![0x7e, 0],
        property::topic_alias(1),
    ] {
        let will = connect(V5, &bench.id("c")).will(&bench.topic("t"), "x", 0, false);
        rejects(bench, &will.will_property(bad).bytes(), MALFORMED);
    }
}

fn authentication_data_needs_a_method(bench: &Bench<'_>) {
    let data = connect(V5, &bench.id("c")).property(vec![0x16, 0, 1, b'x']);
    rejects(bench, &data.bytes(), MALFORMED);
}

fn failed_checks_close(bench: &Bench<'_>) {
    let plain = connect(V5, &bench.id("c"));
    for refused in [
        plain.clone(),
        plain.clone().username("somebody"),
        plain.username("somebody").password("wrong"),
    ] {
        rejects(bench, &refused.bytes(), &[0x86, 0x87]);
    }
}

fn a_takeover_is_told_and_closes(bench: &Bench<'_>) {
    for session in [connect(V5, &bench.id("clean")), stored(bench, "stored")] {
        for distance in 0..bench.broker.workers.max(1) {
            let mut older = bench.socket_on(0);
            older.connect(&session);
            let mut newer = bench.socket_on(distance);
            newer.connect(&session);
            older.expect(Got::Disconnect(0x8e));
            older.expect_end();
            newer.ping();
        }
    }
}

fn connect_is_answered_with_success(bench: &Bench<'_>) {
    let (present, code, _) = bench.socket().connack(&connect(V5, &bench.id("c")));
    assert_eq!((present, code), (false, 0));
}

fn behind_a_refused_connect_nothing_counts(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = bench.clean(V5, "watcher");
    watcher.subscribe(&topic, 1);
    let unknown = connect(V5, &bench.id("c"))
        .property(property::authentication_method("unknown"))
        .will(&topic, "will", 0, false);
    let late = |qos| -> Publish { publish(&topic, "late", qos, 1) };
    let bytes = [unknown.bytes(), late(0).bytes(V5), late(1).bytes(V5)].concat();
    let mut client = bench.socket();
    client.version = V5;
    client.try_send(&bytes);
    rejected(&mut client, &[0x8c, 0x87]);
    let mut publisher = bench.clean(V5, "p");
    watcher.expect_nothing_from(&mut publisher);
}
