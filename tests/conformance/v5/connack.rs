//! 3.2: CONNACK.

use super::{closed, properties, rejected, stored};
use crate::harness::broker::Setup;
use crate::wire::{Connect, Got, PINGREQ, V5, connect, packet, property, publish, subscribe, text};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(connack_comes_first).checks(&["MQTT-3.2.0-1"]),
    test!(connack_comes_before_what_waited).checks(&["MQTT-3.2.0-1"]),
    test!(connack_comes_once).checks(&["MQTT-3.2.0-2"]),
    test!(only_session_present_is_a_flag).checks(&["MQTT-3.2.2-1"]),
    test!(a_clean_start_finds_no_session).checks(&["MQTT-3.2.2-2"]),
    test!(a_refusal_closes_and_has_no_session).checks(&["MQTT-3.2.2-6", "MQTT-3.2.2-7"]),
    test!(refusals_have_codes_of_the_table).checks(&["MQTT-3.2.2-8"]),
    test!(a_lower_maximum_qos_is_told)
        .setup(Setup::Strict)
        .checks(&["MQTT-3.2.2-9"]),
    test!(a_lower_maximum_qos_refuses_no_subscription)
        .setup(Setup::Strict)
        .checks(&["MQTT-3.2.2-10"]),
    test!(publishing_above_the_maximum_qos_closes)
        .setup(Setup::Strict)
        .checks(&["MQTT-3.2.2-11"]),
    test!(a_will_above_the_maximum_qos_is_refused)
        .setup(Setup::Strict)
        .checks(&["MQTT-3.2.2-12"]),
    test!(a_retained_will_is_refused_where_there_is_none)
        .setup(Setup::Strict)
        .checks(&["MQTT-3.2.2-13"]),
    test!(a_retained_publish_closes_where_there_is_none)
        .setup(Setup::Strict)
        .checks(&["MQTT-3.2.2-14"]),
    test!(a_packet_over_the_servers_limit_closes)
        .setup(Setup::Strict)
        .checks(&["MQTT-3.2.2-15"]),
    test!(an_alias_over_the_servers_maximum_closes).checks(&["MQTT-3.2.2-17", "MQTT-3.3.2-9"]),
    test!(an_alias_closes_where_there_are_none)
        .setup(Setup::With("allow_anonymous true\nmax_topic_alias 0\n"))
        .checks(&["MQTT-3.2.2-18"]),
];

fn connack_comes_first(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let bytes = [
        connect(V5, &bench.id("c")).bytes(),
        subscribe(V5, 1, &[(&topic, 1)]),
        publish(&topic, "x", 1, 1).bytes(V5),
        PINGREQ.to_vec(),
    ]
    .concat();
    let mut client = bench.socket();
    client.version = V5;
    client.send(&bytes);
    match client.next() {
        Got::Connack { code: 0, .. } => {}
        other => panic!("{other:?} before CONNACK"),
    }
}

fn connack_comes_before_what_waited(bench: &Bench<'_>) {
    let (topic, session) = (bench.topic("t"), stored(bench, "c"));
    let mut client = bench.client(&session);
    client.subscribe(&topic, 2);
    client.disconnect();
    let mut publisher = bench.clean(V5, "p");
    for n in 1..=30 {
        publisher.publish(&publish(&topic, &n.to_string(), 2, 1));
    }
    // Whatever else came first is no CONNACK.
    let mut client = bench.socket();
    assert!(client.connect(&session));
    client.expect_message(&topic, "1", 2, false);
}

fn connack_comes_once(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V5, "c");
    client.subscribe(&topic, 1);
    client.publish(&publish(&topic, "x", 1, 1));
    client.expect_message(&topic, "x", 1, false);
    client.unsubscribe(&topic);
    client.ping();
    client.disconnect();
}

fn only_session_present_is_a_flag(bench: &Bench<'_>) {
    for (n, session) in [stored(bench, "c"), stored(bench, "c"), connect(V5, "")]
        .iter()
        .enumerate()
    {
        let mut client = bench.socket();
        client.say_connect(session);
        let bytes = client.bytes().expect("CONNACK");
        assert_eq!((bytes[0], bytes[2], bytes[3]), (0x20, u8::from(n == 1), 0));
        client.version = V5;
        client.disconnect();
    }
}

fn a_clean_start_finds_no_session(bench: &Bench<'_>) {
    let session = stored(bench, "c").clean(true);
    for _ in 0..3 {
        let mut client = bench.socket();
        assert!(!client.connect(&session));
        client.disconnect();
    }
}

fn unknown_method(session: Connect) -> Connect {
    session.property(property::authentication_method("unknown"))
}

fn a_refusal_closes_and_has_no_session(bench: &Bench<'_>) {
    let session = stored(bench, "c");
    bench.client(&session).disconnect();
    let mut client = bench.socket();
    client.say_connect(&unknown_method(session.clone()));
    rejected(&mut client, &[0x8c, 0x87]);
    assert!(bench.socket().connect(&session), "the session stays");
}

/// Every code that a CONNACK may have.
const CODES: [u8; 22] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97,
    0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
];

fn refusals_have_codes_of_the_table(bench: &Bench<'_>) {
    let id = bench.id("c");
    let plain = connect(V5, &id);
    let mut with_level_5 = text("WRONG");
    with_level_5.extend([5, 2, 0, 60, 0]);
    with_level_5.extend(text(&id));
    for bytes in [
        plain.bytes(),
        unknown_method(plain.clone()).bytes(),
        plain.bytes_with_flags(3),
        plain.clone().will("a/#", "x", 0, false).bytes(),
        plain.clone().will("", "x", 0, false).bytes(),
        plain.clone().property(property::topic_alias(1)).bytes(),
        packet(0x10, &with_level_5),
    ] {
        let mut client = bench.socket();
        client.version = V5;
        client.try_send(&bytes);
        match client.try_next() {
            None => {}
            Some(Got::Connack { code, .. }) => assert!(CODES.contains(&code), "{code:#x}"),
            Some(other) => panic!("{other:?} to {bytes:02x?}"),
        }
    }
}

fn strict(bench: &Bench<'_>) -> Connect {
    connect(V5, &bench.id("c")).keep_alive(10)
}

fn a_lower_maximum_qos_is_told(bench: &Bench<'_>) {
    let (_, code, told) = bench.socket().connack(&strict(bench));
    assert_eq!(code, 0);
    assert!(properties(&told).contains(&(0x24, vec![1])), "{told:02x?}");
}

fn a_lower_maximum_qos_refuses_no_subscription(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.client(&strict(bench));
    client.send(&subscribe(V5, 1, &[(&topic, 2)]));
    match client.next() {
        Got::Suback(1, codes) => assert!(codes.len() == 1 && codes[0] <= 2, "{codes:02x?}"),
        other => panic!("{other:?}"),
    }
    client.publish(&publish(&topic, "x", 1, 1));
    client.expect_message(&topic, "x", 1, false);
}

fn publishing_above_the_maximum_qos_closes(bench: &Bench<'_>) {
    let mut client = bench.client(&strict(bench));
    client.send(&publish(&bench.topic("t"), "x", 2, 1).bytes(V5));
    closed(&mut client, &[0x9b]);
}

fn a_will_above_the_maximum_qos_is_refused(bench: &Bench<'_>) {
    let will = strict(bench).will(&bench.topic("t"), "x", 2, false);
    let mut client = bench.socket();
    client.say_connect(&will);
    rejected(&mut client, &[0x9b]);
}

fn a_retained_will_is_refused_where_there_is_none(bench: &Bench<'_>) {
    let will = strict(bench).will(&bench.topic("t"), "x", 0, true);
    let mut client = bench.socket();
    client.say_connect(&will);
    rejected(&mut client, &[0x9a]);
}

fn a_retained_publish_closes_where_there_is_none(bench: &Bench<'_>) {
    let mut client = bench.socket();
    let (_, _, told) = client.connack(&strict(bench));
    assert!(properties(&told).contains(&(0x25, vec![0])), "{told:02x?}");
    client.send(&publish(&bench.topic("t"), "x", 0, 0).retain().bytes(V5));
    closed(&mut client, &[0x9a]);
}

fn a_packet_over_the_servers_limit_closes(bench: &Bench<'_>) {
    let mut client = bench.socket();
    let (_, _, told) = client.connack(&strict(bench));
    let limit = (0x27, 2000u32.to_be_bytes().to_vec());
    assert!(properties(&told).contains(&limit), "{told:02x?}");
    client.try_send(&publish(&bench.topic("t"), &"x".repeat(2000), 0, 0).bytes(V5));
    closed(&mut client, &[0x95]);
}

fn an_alias_over_the_servers_maximum_closes(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.socket();
    let (_, _, told) = client.connack(&connect(V5, &bench.id("c")));
    let told = properties(&told);
    let (_, maximum) = told.iter().find(|(id, _)| *id == 0x22).expect("a maximum");
    let maximum = u16::from_be_bytes([maximum[0], maximum[1]]);
    let set = |alias| publish(&topic, "x", 1, 1).property(property::topic_alias(alias));
    client.publish(&set(maximum));
    client.send(&set(maximum + 1).bytes(V5));
    closed(&mut client, &[0x94]);
}

fn an_alias_closes_where_there_are_none(bench: &Bench<'_>) {
    let mut client = bench.socket();
    let (_, _, told) = client.connack(&connect(V5, &bench.id("c")));
    let told = properties(&told);
    assert!(
        told.iter()
            .all(|(id, value)| *id != 0x22 || *value == [0, 0])
    );
    let set = publish(&bench.topic("t"), "x", 0, 0).property(property::topic_alias(1));
    client.send(&set.bytes(V5));
    closed(&mut client, &[0x94]);
}
