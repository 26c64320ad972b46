//! Chapters 3.1 and 3.2: who is let in, on which session, and what CONNACK says.

use std::time::{Duration, Instant};

use super::expect_end_at;
use crate::harness::broker::Setup;
use crate::wire::{
    DISCONNECT, Got, PINGREQ, V311, connect, packet, publish, subscribe, text, unsubscribe,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(the_first_packet_is_connect).checks(&["MQTT-3.1.0-1", "MQTT-4.8.0-1"]),
    test!(a_second_connect_closes).checks(&["MQTT-3.1.0-2"]),
    test!(a_wrong_protocol_name_is_not_served).checks(&["MQTT-3.1.2-1"]),
    test!(an_unknown_level_is_refused_with_1).checks(&[
        "MQTT-3.1.2-2",
        "MQTT-3.2.2-4",
        "MQTT-3.2.2-5",
    ]),
    test!(bridges_set_the_high_bit_of_the_level).checks(&["MQTT-3.1.2-2"]),
    test!(a_bridge_gets_retain_as_published_and_nothing_of_its_own).checks(&["MQTT-3.1.2-2"]),
    test!(a_connect_that_is_cut_short_closes).checks(&[
        "MQTT-3.1.4-1",
        "MQTT-3.1.3-3",
        "MQTT-3.2.2-6",
    ]),
    test!(more_than_a_connect_closes).checks(&["MQTT-3.1.4-1"]),
    test!(a_session_is_resumed_where_it_was).checks(&[
        "MQTT-3.1.2-4",
        "MQTT-3.1.4-3",
        "MQTT-4.1.0-1",
    ]),
    test!(what_comes_meanwhile_is_kept_for_an_absent_client)
        .checks(&["MQTT-3.1.2-5", "MQTT-4.5.0-1"]),
    test!(a_clean_session_drops_the_one_before).checks(&["MQTT-3.1.2-6", "MQTT-3.1.4-3"]),
    test!(a_clean_session_is_not_found_again).checks(&["MQTT-3.1.2-6", "MQTT-3.2.2-3"]),
    test!(retained_messages_outlive_the_session).checks(&["MQTT-3.1.2-7"]),
    test!(silence_of_one_and_a_half_times_closes).checks(&["MQTT-3.1.2-24"]),
    test!(any_packet_breaks_the_silence).checks(&["MQTT-3.1.2-24", "MQTT-3.1.2-23"]),
    test!(half_a_packet_does_not_break_the_silence).checks(&["MQTT-3.1.2-24"]),
    test!(a_keep_alive_of_0_allows_silence).checks(&["MQTT-3.1.2-24"]),
    test!(sessions_belong_to_client_ids).checks(&["MQTT-3.1.3-2"]),
    test!(ids_of_1_to_23_letters_and_digits_are_accepted)
        .setup(Setup::Alone)
        .checks(&["MQTT-3.1.3-5"]),
    test!(longer_ids_and_other_characters_are_accepted).checks(&["MQTT-3.1.3-5"]),
    test!(clients_without_an_id_get_unique_ones).checks(&["MQTT-3.1.3-6", "MQTT-3.1.3-7"]),
    test!(no_id_without_a_clean_session_is_refused_with_2).checks(&[
        "MQTT-3.1.3-8",
        "MQTT-3.2.2-4",
        "MQTT-3.2.2-5",
    ]),
    test!(no_id_where_none_is_assigned_is_refused_with_2)
        .setup(Setup::Strict)
        .checks(&["MQTT-3.1.3-9", "MQTT-3.2.2-4", "MQTT-3.2.2-5"]),
    test!(without_leave_a_client_is_refused_with_5)
        .setup(Setup::Closed)
        .checks(&["MQTT-3.2.2-4", "MQTT-3.2.2-5", "MQTT-3.1.4-5"]),
    test!(nothing_behind_a_refused_connect_is_done).checks(&["MQTT-3.1.4-5"]),
    test!(a_takeover_closes_the_older_connection).checks(&["MQTT-3.1.4-2"]),
    test!(a_takeover_keeps_or_drops_the_session_as_asked).checks(&["MQTT-3.1.4-2", "MQTT-3.1.4-3"]),
    test!(packets_behind_connect_are_served_after_connack)
        .checks(&["MQTT-3.1.4-4", "MQTT-3.2.0-1"]),
    test!(connack_comes_before_what_was_kept).checks(&["MQTT-3.2.0-1", "MQTT-3.1.4-4"]),
    test!(session_present_is_0_for_a_clean_session).checks(&["MQTT-3.2.2-1"]),
    test!(session_present_is_1_for_a_kept_session).checks(&["MQTT-3.2.2-2"]),
    test!(session_present_is_0_for_a_new_session).checks(&["MQTT-3.2.2-3"]),
];

fn the_first_packet_is_connect(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = bench.clean(V311, "watcher");
    watcher.subscribe(&topic, 1);
    for first in [
        PINGREQ.to_vec(),
        DISCONNECT.to_vec(),
        publish(&topic, "x", 0, 0).bytes(V311),
        publish(&topic, "x", 1, 1).bytes(V311),
        subscribe(V311, 1, &[(&topic, 0)]),
        unsubscribe(V311, 1, &[&topic]),
        vec![0x20, 2, 0, 0],
        vec![0x40, 2, 0, 1],
    ] {
        let mut behind = first.clone();
        behind.extend(connect(V311, &bench.id("c")).bytes());
        expect_end_at(&mut bench.socket(), &first);
        expect_end_at(&mut bench.socket(), &behind);
    }
    let mut publisher = bench.clean(V311, "p");
    watcher.expect_nothing_from(&mut publisher);
}

fn a_second_connect_closes(bench: &Bench<'_>) {
    let id = bench.id("c");
    for second in [
        connect(V311, &id),
        connect(V311, &id).persistent(),
        connect(V311, &bench.id("other")),
        connect(crate::wire::V31, &id),
    ] {
        let mut client = bench.client(&connect(V311, &id));
        expect_end_at(&mut client, &second.bytes());
    }
}

/// CONNECT with this name and level.
fn named(bench: &Bench<'_>, name: &str, level: u8) -> Vec<u8> {
    let mut body = text(name);
    body.extend([level, 2, 0, 60]);
    body.extend(text(&bench.id("named")));
    packet(0x10, &body)
}

/// The server may close in silence, or refuse; it must not go on.
fn a_wrong_protocol_name_is_not_served(bench: &Bench<'_>) {
    for name in [
        "",
        "MQT",
        "mqtt",
        "MQTTT",
        "MQIsd",
        "HTTP/1.1",
        "MQTT\u{20}",
    ] {
        let mut client = bench.socket();
        client.send(&named(bench, name, 4));
        match client.try_next() {
            None => {}
            Some(Got::Connack { code, .. }) if code > 0 => client.expect_end(),
            Some(other) => panic!("{other:?} to {name:?}"),
        }
    }
}

fn an_unknown_level_is_refused_with_1(bench: &Bench<'_>) {
    for level in [0, 1, 2, 3, 6, 7, 64, 127] {
        let mut client = bench.socket();
        client.send(&named(bench, "MQTT", level));
        client.expect_bytes(&[0x20, 2, 0, 1]);
        client.expect_end();
    }
}

/// CONNECT of a bridge of the original's kind.
fn bridge(bench: &Bench<'_>, name: &str) -> crate::harness::client::Client {
    let mut client = bench.socket();
    let mut bytes = connect(V311, &bench.id(name)).bytes();
    // Behind the fixed header and the protocol name.
    assert_eq!(bytes[8], V311);
    bytes[8] |= 0x80;
    client.send(&bytes);
    client.expect_bytes(&[0x20, 2, 0, 0]);
    client
}

fn bridges_set_the_high_bit_of_the_level(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bridge(bench, "b");
    client.subscribe(&topic, 2);
    let mut publisher = bench.clean(V311, "p");
    for qos in 0..3 {
        publisher.publish(&publish(&topic, "x", qos, 1));
        client.expect_message(&topic, "x", qos, false);
    }
    client.ping();
}

/// What the original does for its bridges in 3.x, so that they neither loop nor lose what is retained.
fn a_bridge_gets_retain_as_published_and_nothing_of_its_own(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bridge(bench, "b");
    client.subscribe(&topic, 1);
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&topic, "kept", 1, 1).retain());
    client.expect_message(&topic, "kept", 1, true);
    publisher.publish(&publish(&topic, "plain", 1, 1));
    client.expect_message(&topic, "plain", 1, false);
    client.publish(&publish(&topic, "own", 1, 1));
    client.expect_nothing_from(&mut publisher);
    publisher.publish(&publish(&topic, "", 1, 1).retain());
}

fn a_connect_that_is_cut_short_closes(bench: &Bench<'_>) {
    let whole = connect(V311, &bench.id("c"))
        .will(&bench.topic("t"), "payload", 1, false)
        .username("user")
        .password("secret")
        .bytes();
    for length in 2..whole.len() {
        let mut client = bench.socket();
        expect_end_at(&mut client, &packet(0x10, &whole[2..length]));
    }
}

fn more_than_a_connect_closes(bench: &Bench<'_>) {
    let whole = connect(V311, &bench.id("c")).bytes();
    for more in [&b"\0"[..], b"\0\0", b"\0\x01x", b"garbage"] {
        let body = [&whole[2..], more].concat();
        expect_end_at(&mut bench.socket(), &packet(0x10, &body));
    }
}

fn a_session_is_resumed_where_it_was(bench: &Bench<'_>) {
    let session = connect(V311, &bench.id("s")).persistent();
    let mut publisher = bench.clean(V311, "p");
    let mut client = bench.client(&session);
    for qos in 0..3 {
        client.subscribe(&bench.topic(&qos.to_string()), qos);
    }
    for lost in [false, true, false, true] {
        if lost {
            client.drop_connection();
        } else {
            client.disconnect();
        }
        client = bench.socket();
        assert!(client.connect(&session));
        // What the session wants at QoS 0 may take a moment to be known to others.
        client.expect_nothing_from(&mut publisher);
        for qos in 0..3 {
            let topic = bench.topic(&qos.to_string());
            publisher.publish(&publish(&topic, "x", 2, 1));
            client.expect_message(&topic, "x", qos, false);
        }
    }
    client.disconnect();
    bench.client(&session.clean(true)).disconnect();
}

fn what_comes_meanwhile_is_kept_for_an_absent_client(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 2);
    client.subscribe(&bench.topic("low"), 1);
    client.disconnect();
    let mut publisher = bench.clean(V311, "p");
    for n in 1..=30 {
        publisher.publish(&publish(&topic, &n.to_string(), 1 + n as u8 % 2, n));
    }
    publisher.publish(&publish(&bench.topic("low"), "lower", 2, 31));
    let mut client = bench.client(&session);
    for n in 1..=30 {
        let got = client.expect_message(&topic, &n.to_string(), 1 + n as u8 % 2, false);
        assert!(!got.dup, "it was never sent before");
    }
    client.expect_message(&bench.topic("low"), "lower", 1, false);
    client.expect_nothing_from(&mut publisher);
    client.disconnect();
    // Not twice.
    let mut client = bench.client(&session);
    client.expect_nothing_from(&mut publisher);
    client.disconnect();
    bench.client(&session.clean(true)).disconnect();
}

fn a_clean_session_drops_the_one_before(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 2);
    let mut publisher = bench.clean(V311, "p");
    // One on its way, one in the queue.
    publisher.publish(&publish(&topic, "sent", 2, 1));
    client.message();
    client.drop_connection();
    publisher.publish(&publish(&topic, "kept", 1, 1));
    let mut client = bench.client(&session.clone().clean(true));
    client.expect_nothing_from(&mut publisher);
    publisher.publish(&publish(&topic, "new", 1, 1));
    client.expect_nothing_from(&mut publisher);
    client.disconnect();
    let mut client = bench.socket();
    assert!(!client.connect(&session), "dropped for good");
    client.expect_nothing_from(&mut publisher);
    client.disconnect();
    bench.client(&session.clean(true)).disconnect();
}

fn a_clean_session_is_not_found_again(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let clean = connect(V311, &bench.id("s"));
    let mut publisher = bench.clean(V311, "p");
    for lost in [false, true] {
        let mut client = bench.client(&clean);
        client.subscribe(&topic, 1);
        publisher.publish(&publish(&topic, "x", 1, 1));
        client.message();
        if lost {
            client.drop_connection();
        } else {
            client.disconnect();
        }
        let mut client = bench.socket();
        assert!(!client.connect(&clean.clone().persistent()));
        publisher.publish(&publish(&topic, "y", 1, 1));
        client.expect_nothing_from(&mut publisher);
        client.disconnect();
        bench.client(&clean).disconnect();
    }
}

fn retained_messages_outlive_the_session(bench: &Bench<'_>) {
    for (name, persistent) in [("clean", false), ("kept", true)] {
        let topic = bench.topic(name);
        let session = connect(V311, &bench.id(name)).clean(!persistent);
        let mut publisher = bench.client(&session);
        publisher.publish(&publish(&topic, "kept", 1, 1).retain());
        publisher.disconnect();
        // The session ends here at the latest.
        bench.client(&session.clean(true)).disconnect();
        let mut client = bench.clean(V311, "c");
        client.subscribe(&topic, 1);
        client.expect_message(&topic, "kept", 1, true);
        client.publish(&publish(&topic, "", 1, 1).retain());
    }
}

fn silence_of_one_and_a_half_times_closes(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = bench.clean(V311, "watcher");
    watcher.subscribe(&topic, 1);
    let session = connect(V311, &bench.id("c"))
        .keep_alive(2)
        .will(&topic, "silent", 1, false);
    let start = Instant::now();
    let mut client = bench.client(&session);
    client.expect_end();
    let silence = start.elapsed();
    // It is as if the network had failed. The original and a busy machine may be late, but nobody is early.
    watcher.expect_message(&topic, "silent", 1, false);
    assert!(silence >= Duration::from_millis(2900), "{silence:?}");
}

fn any_packet_breaks_the_silence(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let packets = [
        PINGREQ.to_vec(),
        publish(&topic, "x", 0, 0).bytes(V311),
        publish(&topic, "x", 1, 1).bytes(V311),
        subscribe(V311, 1, &[(&bench.topic("s"), 0)]),
        unsubscribe(V311, 2, &[&bench.topic("s")]),
        crate::wire::ack(crate::wire::PUBACK, 9),
    ];
    std::thread::scope(|scope| {
        for (n, bytes) in packets.iter().enumerate() {
            let session = connect(V311, &bench.id(&n.to_string())).keep_alive(1);
            let mut client = bench.client(&session);
            scope.spawn(move || {
                for _ in 0..6 {
                    client.send(bytes);
                    std::thread::sleep(Duration::from_millis(500));
                }
                client.send(PINGREQ);
                while client.next() != Got::Pingresp {}
            });
        }
    });
}

fn half_a_packet_does_not_break_the_silence(bench: &Bench<'_>) {
    let mut client = bench.client(&connect(V311, &bench.id("c")).keep_alive(1));
    client.send(&PINGREQ[..1]);
    client.expect_end();
}

fn a_keep_alive_of_0_allows_silence(bench: &Bench<'_>) {
    let mut patient = bench.client(&connect(V311, &bench.id("patient")).keep_alive(0));
    let mut silent = bench.client(&connect(V311, &bench.id("silent")).keep_alive(1));
    silent.expect_end();
    patient.ping();
}

fn sessions_belong_to_client_ids(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    // Ids that a careless comparison would take for each other.
    let ids = ["s", "S", "s ", "s\u{301}", "ss"];
    for id in ids {
        let mut client = bench.client(&connect(V311, &bench.id(id)).persistent());
        client.subscribe(&format!("{topic}/{id}"), 1);
        client.disconnect();
    }
    for id in ids {
        publisher.publish(&publish(&format!("{topic}/{id}"), id, 1, 1));
    }
    for id in ids {
        let session = connect(V311, &bench.id(id)).persistent();
        let mut client = bench.socket();
        assert!(client.connect(&session));
        client.expect_message(&format!("{topic}/{id}"), id, 1, false);
        client.expect_nothing_from(&mut publisher);
        client.disconnect();
        bench.client(&session.clean(true)).disconnect();
    }
}

fn ids_of_1_to_23_letters_and_digits_are_accepted(bench: &Bench<'_>) {
    let characters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for length in 1..=23 {
        for start in (0..=characters.len() - length).step_by(length) {
            let id = &characters[start..start + length];
            let mut client = bench.client(&connect(V311, id));
            client.ping();
            client.disconnect();
        }
    }
}

/// A server may refuse them; the original does not, and its users have such ids.
fn longer_ids_and_other_characters_are_accepted(bench: &Bench<'_>) {
    for name in [
        "n".repeat(300).as_str(),
        "a b",
        "a/b",
        "\u{e9}\u{1f980}",
        "-_.:@{}",
    ] {
        bench.client(&connect(V311, &bench.id(name))).ping();
    }
}

fn clients_without_an_id_get_unique_ones(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut clients: Vec<_> = (0..8).map(|_| bench.client(&connect(V311, ""))).collect();
    for client in &mut clients {
        client.subscribe(&topic, 1);
    }
    // All of them are there: none took another one over.
    clients[0].publish(&publish(&topic, "x", 1, 1));
    for client in &mut clients {
        client.expect_message(&topic, "x", 1, false);
    }
}

fn no_id_without_a_clean_session_is_refused_with_2(bench: &Bench<'_>) {
    let mut client = bench.socket();
    client.send(&connect(V311, "").persistent().bytes());
    client.expect_bytes(&[0x20, 2, 0, 2]);
    client.expect_end();
}

fn no_id_where_none_is_assigned_is_refused_with_2(bench: &Bench<'_>) {
    for clean in [true, false] {
        let mut client = bench.socket();
        client.send(&connect(V311, "").keep_alive(10).clean(clean).bytes());
        client.expect_bytes(&[0x20, 2, 0, 2]);
        client.expect_end();
    }
}

fn without_leave_a_client_is_refused_with_5(bench: &Bench<'_>) {
    let anonymous = connect(V311, &bench.id("c"));
    let mut named = anonymous.clone().username("somebody");
    for (session, codes) in [
        (anonymous.clone(), &[5][..]),
        (anonymous.persistent(), &[5]),
        (named.clone(), &[4, 5]),
        (
            {
                named = named.password("secret");
                named.clone()
            },
            &[4, 5],
        ),
    ] {
        let mut client = bench.socket();
        let mut bytes = session.bytes();
        // What comes behind is not looked at.
        bytes.extend(subscribe(V311, 1, &[("a", 1)]));
        bytes.extend(PINGREQ);
        client.send(&bytes);
        let got = client.bytes().expect("CONNACK");
        assert!(
            got[..3] == [0x20, 2, 0] && codes.contains(&got[3]),
            "{got:02x?}"
        );
        client.expect_end();
    }
}

fn nothing_behind_a_refused_connect_is_done(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = bench.clean(V311, "watcher");
    watcher.subscribe(&topic, 2);
    let refused = [
        connect(V311, "").persistent().bytes(),
        named(bench, "MQTT", 9),
        connect(V311, &bench.id("c")).bytes_with_flags(3),
    ];
    for mut bytes in refused {
        bytes.extend(publish(&topic, "zero", 0, 0).bytes(V311));
        bytes.extend(publish(&topic, "one", 1, 1).bytes(V311));
        bytes.extend(connect(V311, &bench.id("c")).bytes());
        bytes.extend(publish(&topic, "again", 0, 0).bytes(V311));
        let mut client = bench.socket();
        client.try_send(&bytes);
        match client.try_next() {
            Some(Got::Connack { code, .. }) if code > 0 => client.expect_end(),
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
    let mut publisher = bench.clean(V311, "p");
    watcher.expect_nothing_from(&mut publisher);
}

fn a_takeover_closes_the_older_connection(bench: &Bench<'_>) {
    for clean in [true, false] {
        let session = connect(V311, &bench.id("c")).clean(clean);
        for worker in 0..bench.broker.workers.max(1) {
            let mut older = bench.socket_on(0);
            older.connect(&session);
            let mut newer = bench.socket_on(worker);
            newer.connect(&session);
            older.expect_end();
            newer.ping();
            newer.disconnect();
        }
    }
    bench.client(&connect(V311, &bench.id("c"))).disconnect();
}

fn a_takeover_keeps_or_drops_the_session_as_asked(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("c")).persistent();
    let mut publisher = bench.clean(V311, "p");
    let mut older = bench.client(&session);
    older.subscribe(&topic, 1);
    publisher.publish(&publish(&topic, "unacknowledged", 1, 1));
    let first = older.message();
    for _ in 0..3 {
        let mut newer = bench.socket();
        assert!(newer.connect(&session));
        older.expect_end();
        assert_eq!(newer.message(), first.clone().dup());
        older = newer;
    }
    let mut newer = bench.socket();
    assert!(!newer.connect(&session.clone().clean(true)));
    older.expect_end();
    publisher.publish(&publish(&topic, "x", 1, 1));
    newer.expect_nothing_from(&mut publisher);
}

fn packets_behind_connect_are_served_after_connack(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = bench.clean(V311, "watcher");
    watcher.subscribe(&topic, 2);
    let mut client = bench.socket();
    let mut bytes = connect(V311, &bench.id("c")).bytes();
    bytes.extend(publish(&topic, "one", 1, 7).bytes(V311));
    bytes.extend(PINGREQ);
    client.send(&bytes);
    client.expect_bytes(&[0x20, 2, 0, 0]);
    let mut got = [client.next(), client.next()];
    // A ping does not wait for the acknowledgement of what came before it.
    got.sort_by_key(|got| *got == Got::Pingresp);
    assert_eq!(got, [Got::Ack(crate::wire::PUBACK, 7, 0), Got::Pingresp]);
    watcher.expect_message(&topic, "one", 1, false);
}

fn connack_comes_before_what_was_kept(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 1);
    client.disconnect();
    let mut publisher = bench.clean(V311, "p");
    for n in 1..=10 {
        publisher.publish(&publish(&topic, &n.to_string(), 1, n));
    }
    for _ in 0..5 {
        let mut client = bench.socket();
        client.send(&session.bytes());
        client.expect_bytes(&[0x20, 2, 1, 0]);
        assert_eq!(client.message().payload, b"1");
        client.drop_connection();
    }
    bench.client(&session.clean(true)).disconnect();
}

fn expect_session(
    bench: &Bench<'_>,
    id: &str,
    clean: bool,
    present: u8,
) -> crate::harness::client::Client {
    let mut client = bench.socket();
    client.send(&connect(V311, &bench.id(id)).clean(clean).bytes());
    client.expect_bytes(&[0x20, 2, present, 0]);
    client
}

fn session_present_is_0_for_a_clean_session(bench: &Bench<'_>) {
    for before in [true, false] {
        expect_session(bench, "c", before, 0).disconnect();
        expect_session(bench, "c", true, 0).disconnect();
    }
}

fn session_present_is_1_for_a_kept_session(bench: &Bench<'_>) {
    expect_session(bench, "c", false, 0).disconnect();
    expect_session(bench, "c", false, 1).drop_connection();
    let older = expect_session(bench, "c", false, 1);
    expect_session(bench, "c", false, 1).disconnect();
    drop(older);
    expect_session(bench, "c", true, 0).disconnect();
}

fn session_present_is_0_for_a_new_session(bench: &Bench<'_>) {
    expect_session(bench, "new", false, 0).disconnect();
    expect_session(bench, "new", true, 0).disconnect();
    expect_session(bench, "new", false, 0).disconnect();
    expect_session(bench, "new", true, 0).disconnect();
}
