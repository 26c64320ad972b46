//! Chapters 4.1 to 4.5: what a session keeps, the steps of each QoS, and what is sent again.

use super::expect_end_at;
use crate::harness::client::Client;
use crate::wire::{
    Got, PUBACK, PUBCOMP, PUBREC, PUBREL, Publish, V311, ack, connect, publish, subscribe,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(a_session_keeps_both_directions).checks(&["MQTT-4.1.0-1"]),
    test!(a_session_lasts_as_long_as_its_connection).checks(&["MQTT-4.1.0-2"]),
    test!(qos_0_is_sent_once).checks(&["MQTT-4.3.1-1"]),
    test!(qos_1_is_sent_until_puback).checks(&["MQTT-4.3.2-1"]),
    test!(an_id_of_qos_1_is_a_new_message_after_puback).checks(&["MQTT-4.3.2-2"]),
    test!(qos_2_to_a_client_takes_its_four_steps).checks(&["MQTT-4.3.3-1"]),
    test!(qos_2_to_a_client_is_not_published_again_after_pubrec).checks(&["MQTT-4.3.3-1"]),
    test!(qos_2_from_a_client_is_delivered_once).checks(&["MQTT-4.3.3-2"]),
    test!(a_repeat_of_qos_2_is_answered_again).checks(&["MQTT-4.3.3-2"]),
    test!(many_repeats_of_qos_2_are_delivered_once)
        .checks(&["MQTT-4.3.3-2"])
        .original_breaks("closes at the second repeat"),
    test!(a_repeat_of_qos_2_is_known_in_the_next_connection).checks(&[
        "MQTT-4.3.3-2",
        "MQTT-4.4.0-1",
        "MQTT-3.3.1-1",
    ]),
    test!(a_repeated_pubrel_is_completed_again).checks(&["MQTT-4.3.3-2", "MQTT-4.4.0-1"]),
    test!(an_id_of_qos_2_is_a_new_message_after_pubcomp).checks(&["MQTT-4.3.3-2"]),
    test!(a_clean_session_forgets_a_qos_2_that_was_begun).checks(&["MQTT-3.1.2-6", "MQTT-4.3.3-2"]),
    test!(publish_and_pubrel_are_sent_again_with_their_ids).checks(&["MQTT-4.4.0-1"]),
    test!(what_is_sent_again_follows_its_client_to_every_worker)
        .checks(&["MQTT-4.4.0-1", "MQTT-4.1.0-1"]),
    test!(nothing_is_sent_again_while_the_connection_lasts).checks(&["MQTT-4.4.0-1"]),
    test!(a_message_is_added_to_every_session_that_matches).checks(&["MQTT-4.5.0-1"]),
    test!(a_message_of_nobody_is_of_nobody_later).checks(&["MQTT-4.5.0-1"]),
    test!(a_violation_closes_its_own_connection_alone).checks(&["MQTT-4.8.0-1"]),
    test!(what_came_before_a_violation_counts).checks(&["MQTT-4.8.0-1"]),
];

/// Everywhere that a client may go.
fn places(bench: &Bench<'_>) -> usize {
    bench.broker.workers.max(1)
}

fn end_session(bench: &Bench<'_>, name: &str) {
    bench.clean(V311, name).disconnect();
}

/// What a client has received is known as well as what it was sent.
fn a_session_keeps_both_directions(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 2);
    let mut other = bench.clean(V311, "other");
    other.subscribe(&bench.topic("from"), 2);
    let from = publish(&bench.topic("from"), "once", 2, 5);
    client.send(&from.bytes(V311));
    client.expect_ack(PUBREC, 5);
    other.publish(&publish(&topic, "first", 2, 1));
    other.publish(&publish(&topic, "second", 1, 2));
    let (first, second) = (client.message(), client.message());
    client.send(&ack(PUBREC, first.id));
    client.expect_ack(PUBREL, first.id);
    client.drop_connection();
    other.publish(&publish(&topic, "third", 1, 3));
    let mut client = bench.client(&session);
    client.expect(Got::Ack(PUBREL, first.id, 0));
    assert_eq!(client.message(), second.clone().dup());
    assert_eq!(client.message().payload, b"third");
    client.send(&ack(PUBREL, 5));
    client.expect_ack(PUBCOMP, 5);
    other.expect_message(&bench.topic("from"), "once", 2, false);
    other.expect_nothing_from(&mut client);
    drop(client);
    end_session(bench, "s");
}

fn a_session_lasts_as_long_as_its_connection(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.client(&connect(V311, &bench.id("s")).keep_alive(0));
    client.subscribe(&topic, 1);
    let mut other = bench.clean(V311, "other");
    // Others that come and go with other ids change nothing.
    for n in 0..20 {
        end_session(bench, &n.to_string());
        other.publish(&publish(&topic, &n.to_string(), 1, 1));
        client.expect_message(&topic, &n.to_string(), 1, false);
    }
}

fn qos_0_is_sent_once(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 1);
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&topic, "once", 0, 0));
    client.expect_bytes(&publish(&topic, "once", 0, 0).bytes(V311));
    client.drop_connection();
    let mut client = bench.client(&session);
    client.expect_nothing_from(&mut publisher);
    drop(client);
    end_session(bench, "s");
}

fn qos_1_is_sent_until_puback(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 1);
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&topic, "x", 1, 1));
    let first = client.message();
    assert!(first.id != 0 && !first.dup && first.qos == 1);
    for _ in 0..3 {
        client.drop_connection();
        client = bench.client(&session);
        assert_eq!(client.message(), first.clone().dup());
    }
    client.send(&ack(PUBACK, first.id));
    client.ping();
    client.drop_connection();
    let mut client = bench.client(&session);
    client.expect_nothing_from(&mut publisher);
    drop(client);
    end_session(bench, "s");
}

fn an_id_of_qos_1_is_a_new_message_after_puback(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 1);
    let mut publisher = bench.clean(V311, "p");
    let message = publish(&topic, "x", 1, 9);
    for message in [&message, &message, &message.clone().dup()] {
        publisher.publish(message);
        subscriber.expect_message(&topic, "x", 1, false);
    }
    subscriber.expect_nothing_from(&mut publisher);
}

fn qos_2_to_a_client_takes_its_four_steps(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for clean in [true, false] {
        let mut client = bench.client(&connect(V311, &bench.id("s")).clean(clean));
        client.subscribe(&topic, 2);
        let mut publisher = bench.clean(V311, "p");
        publisher.publish(&publish(&topic, "x", 2, 1));
        let message = client.message();
        assert!(message.id != 0 && !message.dup && message.qos == 2);
        // No PUBREL before PUBREC.
        client.ping();
        client.send(&ack(PUBREC, message.id));
        client.expect(Got::Ack(PUBREL, message.id, 0));
        // A repeated PUBREC is answered again.
        client.send(&ack(PUBREC, message.id));
        client.expect(Got::Ack(PUBREL, message.id, 0));
        client.send(&ack(PUBCOMP, message.id));
        client.expect_nothing_from(&mut publisher);
        drop(client);
        end_session(bench, "s");
    }
}

fn qos_2_to_a_client_is_not_published_again_after_pubrec(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 2);
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&topic, "x", 2, 1));
    let message = client.message();
    client.send(&ack(PUBREC, message.id));
    client.expect_ack(PUBREL, message.id);
    for _ in 0..3 {
        client.drop_connection();
        client = bench.client(&session);
        client.expect(Got::Ack(PUBREL, message.id, 0));
    }
    client.send(&ack(PUBCOMP, message.id));
    client.expect_nothing_from(&mut publisher);
    client.drop_connection();
    let mut client = bench.client(&session);
    client.expect_nothing_from(&mut publisher);
    drop(client);
    end_session(bench, "s");
}

fn qos_2_from_a_client_is_delivered_once(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscribers: Vec<Client> = (0..places(bench))
        .map(|n| {
            let mut subscriber = bench.socket_on(n);
            subscriber.connect(&connect(V311, &bench.id(&n.to_string())));
            subscriber.subscribe(&topic, n as u8 % 3);
            subscriber
        })
        .collect();
    let mut publisher = bench.clean(V311, "p");
    let message = publish(&topic, "once", 2, 9);
    publisher.send(&message.bytes(V311));
    publisher.expect(Got::Ack(PUBREC, 9, 0));
    publisher.send(&message.dup().bytes(V311));
    publisher.expect(Got::Ack(PUBREC, 9, 0));
    publisher.send(&ack(PUBREL, 9));
    publisher.expect(Got::Ack(PUBCOMP, 9, 0));
    for (n, subscriber) in subscribers.iter_mut().enumerate() {
        subscriber.expect_message(&topic, "once", n as u8 % 3, false);
        subscriber.expect_nothing_from(&mut publisher);
    }
}

fn a_repeat_of_qos_2_is_answered_again(bench: &Bench<'_>) {
    repeat(bench, 1);
}

fn many_repeats_of_qos_2_are_delivered_once(bench: &Bench<'_>) {
    repeat(bench, 5);
}

fn repeat(bench: &Bench<'_>, repeats: usize) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 2);
    let mut publisher = bench.clean(V311, "p");
    let message = publish(&topic, "once", 2, 9);
    publisher.send(&message.bytes(V311));
    publisher.expect(Got::Ack(PUBREC, 9, 0));
    for _ in 0..repeats {
        publisher.send(&message.clone().dup().bytes(V311));
        publisher.expect(Got::Ack(PUBREC, 9, 0));
    }
    publisher.send(&ack(PUBREL, 9));
    publisher.expect(Got::Ack(PUBCOMP, 9, 0));
    subscriber.expect_message(&topic, "once", 2, false);
    subscriber.expect_nothing_from(&mut publisher);
}

fn a_repeat_of_qos_2_is_known_in_the_next_connection(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 2);
    let session = connect(V311, &bench.id("p")).persistent();
    for worker in 0..places(bench) + 1 {
        let mut publisher = bench.socket_on(0);
        publisher.connect(&session);
        let message = publish(&topic, &worker.to_string(), 2, 9);
        publisher.send(&message.bytes(V311));
        publisher.expect_ack(PUBREC, 9);
        publisher.drop_connection();
        // Another one, maybe on another worker, goes on where it was.
        let mut publisher = bench.socket_on(worker);
        assert!(publisher.connect(&session));
        publisher.send(&message.dup().bytes(V311));
        publisher.expect_ack(PUBREC, 9);
        publisher.drop_connection();
        let mut publisher = bench.socket_on(worker + 1);
        assert!(publisher.connect(&session));
        publisher.send(&ack(PUBREL, 9));
        publisher.expect_ack(PUBCOMP, 9);
        subscriber.expect_message(&topic, &worker.to_string(), 2, false);
        subscriber.expect_nothing_from(&mut publisher);
    }
    end_session(bench, "p");
}

fn a_repeated_pubrel_is_completed_again(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 2);
    let session = connect(V311, &bench.id("p")).persistent();
    let mut publisher = bench.client(&session);
    publisher.publish(&publish(&topic, "once", 2, 9));
    for _ in 0..3 {
        publisher.send(&ack(PUBREL, 9));
        publisher.expect(Got::Ack(PUBCOMP, 9, 0));
        publisher.drop_connection();
        publisher = bench.client(&session);
    }
    publisher.send(&ack(PUBREL, 9));
    publisher.expect(Got::Ack(PUBCOMP, 9, 0));
    subscriber.expect_message(&topic, "once", 2, false);
    subscriber.expect_nothing_from(&mut publisher);
    drop(publisher);
    end_session(bench, "p");
}

fn an_id_of_qos_2_is_a_new_message_after_pubcomp(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 2);
    let mut publisher = bench.clean(V311, "p");
    for n in 0..5 {
        publisher.publish(&publish(&topic, &n.to_string(), 2, 9));
        subscriber.expect_message(&topic, &n.to_string(), 2, false);
    }
}

fn a_clean_session_forgets_a_qos_2_that_was_begun(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 2);
    let session = connect(V311, &bench.id("p")).persistent();
    let mut publisher = bench.client(&session);
    publisher.send(&publish(&topic, "begun", 2, 9).bytes(V311));
    publisher.expect_ack(PUBREC, 9);
    publisher.drop_connection();
    let mut publisher = bench.client(&session.clean(true));
    publisher.publish(&publish(&topic, "new", 2, 9));
    // A server may deliver at the PUBLISH or at the PUBREL; the second message is another one in either case.
    let mut got = subscriber.receive();
    if got.payload == b"begun" {
        got = subscriber.receive();
    }
    assert_eq!(got.payload, b"new");
    subscriber.expect_nothing_from(&mut publisher);
}

/// Six messages in all their states: what is to come again, in its order.
fn unfinished(client: &mut Client, publisher: &mut Client, topic: &str) -> Vec<Got> {
    for n in 1..=6 {
        publisher.publish(&publish(topic, &n.to_string(), 1 + n as u8 % 2, n));
    }
    let sent: Vec<Publish> = (0..6).map(|_| client.message()).collect();
    // 1, 3 and 5 are of QoS 2. 1 and 3 have their PUBREC, 2 is finished; 4, 5 and 6 were only sent.
    for message in [&sent[0], &sent[2]] {
        client.send(&ack(PUBREC, message.id));
        client.expect_ack(PUBREL, message.id);
    }
    client.acknowledge(&sent[1]);
    client.ping();
    let pubrels = [&sent[0], &sent[2]].map(|m| Got::Ack(PUBREL, m.id, 0));
    let publishes = sent[3..].iter().map(|m| Got::Publish(m.clone().dup()));
    pubrels.into_iter().chain(publishes).collect()
}

/// The PUBRELs in their order and the PUBLISHes in theirs; which goes first is not said.
fn expect_again(client: &mut Client, expected: &[Got]) {
    let got: Vec<Got> = expected.iter().map(|_| client.next()).collect();
    let of = |list: &[Got], publishes: bool| -> Vec<Got> {
        let is = |got: &&Got| matches!(got, Got::Publish(_)) == publishes;
        list.iter().filter(is).cloned().collect()
    };
    assert_eq!(of(&got, true), of(expected, true));
    assert_eq!(of(&got, false), of(expected, false));
}

fn publish_and_pubrel_are_sent_again_with_their_ids(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 2);
    let mut publisher = bench.clean(V311, "p");
    let expected = unfinished(&mut client, &mut publisher, &topic);
    client.disconnect();
    let mut client = bench.client(&session);
    expect_again(&mut client, &expected);
    // And all of it can be finished now.
    for got in &expected {
        match got {
            Got::Publish(message) => client.acknowledge(message),
            Got::Ack(_, id, _) => client.send(&ack(PUBCOMP, *id)),
            other => panic!("{other:?}"),
        }
    }
    client.expect_nothing_from(&mut publisher);
    client.disconnect();
    let mut client = bench.client(&session);
    client.expect_nothing_from(&mut publisher);
    drop(client);
    end_session(bench, "s");
}

fn what_is_sent_again_follows_its_client_to_every_worker(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.socket_on(0);
    client.connect(&session);
    client.subscribe(&topic, 2);
    let mut publisher = bench.clean(V311, "p");
    let expected = unfinished(&mut client, &mut publisher, &topic);
    for n in 0..places(bench) * 2 {
        // Lost, ended or taken over.
        match n % 3 {
            0 => client.drop_connection(),
            1 => client.disconnect(),
            _ => {
                let mut newer = bench.socket_on(n + 1);
                newer.connect(&session);
                client.expect_end();
                expect_again(&mut newer, &expected);
                newer.drop_connection();
            }
        }
        client = bench.socket_on(n);
        assert!(client.connect(&session));
        expect_again(&mut client, &expected);
    }
    drop(client);
    end_session(bench, "s");
}

fn nothing_is_sent_again_while_the_connection_lasts(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.client(&connect(V311, &bench.id("s")).persistent());
    client.subscribe(&topic, 2);
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&topic, "one", 1, 1));
    publisher.publish(&publish(&topic, "two", 2, 1));
    let held = [client.message(), client.message()];
    for n in 0..10 {
        publisher.publish(&publish(&topic, &n.to_string(), 1, 1));
        let got = client.expect_message(&topic, &n.to_string(), 1, false);
        assert!(!got.dup && held.iter().all(|m| m.id != got.id));
    }
    client.expect_nothing_from(&mut publisher);
    drop(client);
    end_session(bench, "s");
}

fn a_message_is_added_to_every_session_that_matches(bench: &Bench<'_>) {
    let topic = bench.topic("a/b");
    let filters = ["a/b", "a/+", "a/#", "+/b", "#", "+/+"];
    // There and away, clean and kept, on every worker.
    let mut there = Vec::new();
    for n in 0..12 {
        let session = connect(V311, &bench.id(&n.to_string())).clean(n % 2 == 0);
        let mut client = bench.client(&session);
        client.subscribe(&bench.topic(filters[n % 6]), 1 + (n / 6) as u8);
        if n % 4 == 1 {
            client.disconnect();
        } else {
            there.push((n, client));
        }
    }
    let mut publisher = bench.clean(V311, "p");
    for qos in 1..3 {
        publisher.publish(&publish(&topic, "all", qos, 1));
    }
    for n in (1..12).step_by(4) {
        let session = connect(V311, &bench.id(&n.to_string())).persistent();
        there.push((n, bench.client(&session)));
    }
    for (n, client) in &mut there {
        for qos in 1..3 {
            let granted = 1 + (*n / 6) as u8;
            client.expect_message(&topic, "all", qos.min(granted), false);
        }
        client.expect_nothing_from(&mut publisher);
    }
    drop(there);
    for n in 0..12 {
        end_session(bench, &n.to_string());
    }
}

fn a_message_of_nobody_is_of_nobody_later(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    for qos in 0..3 {
        publisher.publish(&publish(&topic, "x", qos, 1));
    }
    let mut client = bench.clean(V311, "c");
    client.subscribe(&topic, 2);
    client.expect_nothing_from(&mut publisher);
}

fn a_violation_closes_its_own_connection_alone(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut innocent: Vec<Client> = (0..places(bench))
        .map(|n| {
            let mut client = bench.socket_on(n);
            client.connect(&connect(V311, &bench.id(&n.to_string())));
            client.subscribe(&topic, 1);
            client
        })
        .collect();
    let mut publisher = bench.clean(V311, "p");
    for bad in [
        vec![0, 0],
        vec![0x36, 2, 0, 0],
        vec![0x30, 0xff, 0xff, 0xff, 0xff, 1],
        subscribe(V311, 0, &[("a", 0)]),
        connect(V311, &bench.id("bad")).bytes(),
    ] {
        expect_end_at(&mut bench.clean(V311, "bad"), &bad);
        publisher.publish(&publish(&topic, "x", 1, 1));
        for client in &mut innocent {
            client.expect_message(&topic, "x", 1, false);
        }
    }
}

fn what_came_before_a_violation_counts(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 2);
    for qos in 0..3 {
        let mut client = bench.clean(V311, "c");
        let mut bytes = publish(&topic, "good", qos, 1).bytes(V311);
        if qos == 2 {
            bytes.extend(ack(PUBREL, 1));
        }
        bytes.extend([0, 0]);
        client.send(&bytes);
        subscriber.expect_message(&topic, "good", qos, false);
        while client.try_next().is_some() {}
    }
}
