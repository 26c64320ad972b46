//! 4.8: shared subscriptions.

use std::time::Duration;

use super::{stored, with};
use crate::harness::client::Client;
use crate::wire::{
    Got, PUBACK, PUBCOMP, PUBREC, PUBREL, Publish, V5, ack, connect, packet, property, publish,
    subscribe,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(each_message_goes_to_one_member).checks(&["MQTT-4.8.2-1"]),
    test!(groups_and_others_get_their_own_copies).checks(&["MQTT-4.8.2-1"]),
    test!(a_share_needs_a_name_and_a_filter)
        .checks(&["MQTT-4.8.2-1", "MQTT-4.8.2-2"])
        .original_breaks("grants it"),
    test!(a_share_name_has_no_wildcards)
        .checks(&["MQTT-4.8.2-2"])
        .original_breaks("grants it"),
    test!(messages_come_at_the_members_qos).checks(&["MQTT-4.8.2-3"]),
    test!(qos_2_is_finished_with_the_same_member).checks(&["MQTT-4.8.2-4"]),
    test!(qos_2_ends_with_its_members_session).checks(&["MQTT-4.8.2-5"]),
    test!(an_acknowledged_message_goes_to_nobody_else).checks(&["MQTT-4.8.2-1", "MQTT-4.3.2-3"]),
    test!(a_refused_message_goes_to_nobody_else).checks(&["MQTT-4.8.2-6"]),
];

fn shared(group: &str, filter: &str) -> String {
    format!("$share/{group}/{filter}")
}

fn each_message_goes_to_one_member(bench: &Bench<'_>) {
    let filter = shared("g", &bench.topic("#"));
    let mut members: Vec<Client> = (0..4)
        .map(|n| {
            let mut member = bench.clean(V5, &n.to_string());
            member.subscribe(&filter, 2);
            member
        })
        .collect();
    let mut publisher = bench.clean(V5, "p");
    let topic = bench.topic("t");
    for n in 0..60 {
        publisher.publish(&publish(&topic, &n.to_string(), n % 3, 1));
    }
    publisher.ping();
    // What each one has got: a fence of its own comes behind it, as soon as nothing is on its way.
    std::thread::sleep(Duration::from_millis(300));
    let mut all = Vec::new();
    for (n, member) in members.iter_mut().enumerate() {
        let own = format!("own/{}", bench.topic(&n.to_string()));
        member.send(&subscribe(V5, 1, &[(&own, 1)]));
        let mut got = Vec::new();
        loop {
            match member.next() {
                Got::Suback(1, _) => publisher.publish(&publish(&own, "end", 1, 1)),
                Got::Publish(message) if message.topic == own => break,
                Got::Publish(message) => {
                    member.acknowledge(&message);
                    got.push(message.payload);
                }
                other => panic!("{other:?}"),
            }
        }
        all.extend(got);
    }
    all.sort_unstable();
    let mut expected: Vec<Vec<u8>> = (0..60).map(|n| n.to_string().into_bytes()).collect();
    expected.sort_unstable();
    assert_eq!(all, expected);
}

fn groups_and_others_get_their_own_copies(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let filters = [shared("g", &topic), shared("h", &topic), topic.clone()];
    let mut clients: Vec<Client> = filters
        .iter()
        .zip(0..)
        .map(|(filter, n)| {
            let mut client = bench.clean(V5, &n.to_string());
            client.subscribe(filter, 2);
            client
        })
        .collect();
    let mut publisher = bench.clean(V5, "p");
    for qos in 0..3 {
        publisher.publish(&publish(&topic, "x", qos, 1));
        for client in &mut clients {
            client.expect_message(&topic, "x", qos, false);
        }
    }
    for client in &mut clients {
        client.expect_nothing_from(&mut publisher);
    }
}

/// The filter is refused: by a code, or with the connection.
fn refused(bench: &Bench<'_>, filter: &str) {
    let mut client = bench.clean(V5, "c");
    client.send(&subscribe(V5, 1, &[(filter, 0)]));
    match client.try_next() {
        None => {}
        Some(Got::Suback(1, codes)) => assert!(codes.len() == 1 && codes[0] >= 0x80),
        Some(Got::Disconnect(code)) => assert!([0x81, 0x82, 0x8f].contains(&code), "{code:#x}"),
        Some(other) => panic!("{other:?}"),
    }
}

fn a_share_needs_a_name_and_a_filter(bench: &Bench<'_>) {
    for filter in ["$share/g", "$share/g/", "$share/", "$share//", "$share//t"] {
        refused(bench, filter);
    }
}

fn a_share_name_has_no_wildcards(bench: &Bench<'_>) {
    for name in ["+", "#", "a+", "#a", "a#b"] {
        refused(bench, &shared(name, "t"));
    }
}

fn messages_come_at_the_members_qos(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V5, "p");
    for granted in 0..3 {
        for session in [connect(V5, &bench.id("clean")), stored(bench, "stored")] {
            let filter = shared(&format!("g{granted}"), &topic);
            let mut member = bench.client(&session);
            member.subscribe(&filter, granted);
            for sent in 0..3 {
                publisher.publish(&publish(&topic, "x", sent, 1));
                member.expect_message(&topic, "x", sent.min(granted), false);
            }
            member.unsubscribe(&filter);
        }
    }
}

/// One member has a message that it did not answer; a second one has joined.
struct Group {
    publisher: Client,
    first: Client,
    second: Client,
    message: Publish,
}

impl Group {
    fn new(bench: &Bench<'_>, session: &crate::wire::Connect, qos: u8) -> Self {
        let topic = bench.topic("t");
        let filter = shared(&format!("g{qos}"), &topic);
        let mut first = bench.client(session);
        first.subscribe(&filter, 2);
        let mut publisher = bench.clean(V5, "p");
        let sent = [property::user("a", "b")];
        publisher.publish(&with(publish(&topic, "x", qos, 1), &sent));
        let message = first.message();
        assert_eq!(message.properties, sent);
        let mut second = bench.clean(V5, "second");
        second.subscribe(&filter, 2);
        Self {
            publisher,
            first,
            second,
            message,
        }
    }

    /// Nothing comes to the second one.
    fn nobody_else(&mut self) {
        // Time for it to go the wrong way.
        std::thread::sleep(Duration::from_millis(500));
        self.second.expect_nothing_from(&mut self.publisher);
    }
}

fn qos_2_is_finished_with_the_same_member(bench: &Bench<'_>) {
    let session = stored(bench, "first");
    let mut group = Group::new(bench, &session, 2);
    group
        .first
        .stream
        .shutdown(std::net::Shutdown::Both)
        .unwrap();
    group.nobody_else();
    let mut first = bench.socket();
    assert!(first.connect(&session));
    assert_eq!(first.message(), group.message.clone().dup());
    first.acknowledge(&group.message);
    first.expect_nothing_from(&mut group.publisher);
    group.nobody_else();
}

fn qos_2_ends_with_its_members_session(bench: &Bench<'_>) {
    let mut group = Group::new(bench, &connect(V5, &bench.id("first")), 2);
    group
        .first
        .stream
        .shutdown(std::net::Shutdown::Both)
        .unwrap();
    group.nobody_else();
}

/// The first member answers with this code; then its connection and its session end.
fn answered(bench: &Bench<'_>, code: u8) {
    for (qos, first) in [(1, PUBACK), (2, PUBREC)] {
        for session in [connect(V5, &bench.id("clean")), stored(bench, "stored")] {
            let mut group = Group::new(bench, &session, qos);
            let id = group.message.id;
            let body = [&id.to_be_bytes()[..], &[code]].concat();
            group.first.send(&packet(first, &body));
            if first == PUBREC && code < 0x80 {
                group.first.expect(Got::Ack(PUBREL, id, 0));
                group.first.send(&ack(PUBCOMP, id));
            }
            group.first.ping();
            group.nobody_else();
            group.first.drop_connection();
            bench.client(&session.clean(true)).disconnect();
            // Time for it to go the wrong way.
            std::thread::sleep(Duration::from_millis(300));
            group.second.expect_nothing_from(&mut group.publisher);
        }
    }
}

fn a_refused_message_goes_to_nobody_else(bench: &Bench<'_>) {
    answered(bench, 0x83);
}

fn an_acknowledged_message_goes_to_nobody_else(bench: &Bench<'_>) {
    answered(bench, 0);
}
