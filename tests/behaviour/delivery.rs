//! PUBLISH and its acknowledgements both ways: every step of each QoS, windows, repeats, redelivery.

use crate::broker::Setup;
use crate::client::Client;
use crate::wire::{
    Got, PUBACK, PUBCOMP, PUBREC, PUBREL, Publish, V5, V31, V311, ack, connect, property, publish,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(every_qos_goes_to_every_qos_at_the_lower_of_both),
    test!(nobody_subscribes_is_said_in_5),
    test!(a_matching_message_is_acknowledged_with_0_in_5),
    test!(pubrec_of_nothing_is_answered),
    test!(acknowledgements_of_nothing_do_no_harm),
    test!(twenty_are_in_flight_and_the_rest_waits),
    test!(qos_2_holds_its_place_until_pubcomp),
    test!(qos_0_passes_a_full_window),
    test!(a_receive_maximum_over_the_brokers_does_not_widen_it)
        .original_breaks("lets a client exceed max_inflight_messages"),
    test!(beyond_the_queue_messages_are_dropped).setup(Setup::Strict),
    test!(packet_ids_count_up_from_1),
    test!(a_client_that_exceeds_receive_maximum_is_disconnected)
        .original_breaks("drops what is too much, in 3.1.1 even with an acknowledgement"),
    test!(an_empty_payload_is_a_message),
    test!(a_large_message_comes_whole),
    test!(a_publisher_gets_its_own_message),
];

fn every_qos_goes_to_every_qos_at_the_lower_of_both(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for version in [V31, V311, V5] {
        let mut publisher = bench.clean(version, &format!("p{version}"));
        for wanted in 0..3 {
            let mut subscriber = bench.clean(version, &format!("s{version}{wanted}"));
            subscriber.subscribe(&topic, wanted);
            for sent in 0..3 {
                publisher.publish(&publish(&topic, "x", sent, 1));
                subscriber.expect_message(&topic, "x", sent.min(wanted), false);
            }
            subscriber.expect_nothing_from(&mut publisher);
        }
    }
}

fn nobody_subscribes_is_said_in_5(bench: &Bench<'_>) {
    let mut publisher = bench.clean(V5, "p");
    publisher.send(&publish(&bench.topic("nobody"), "x", 1, 5).bytes(V5));
    publisher.expect(Got::Ack(PUBACK, 5, 0x10));
    publisher.send(&publish(&bench.topic("nobody"), "x", 2, 6).bytes(V5));
    match publisher.next() {
        // The original says it for QoS 1 only.
        Got::Ack(PUBREC, 6, 0 | 0x10) => {}
        other => panic!("{other:?}"),
    }
}

fn a_matching_message_is_acknowledged_with_0_in_5(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V5, "s");
    let mut publisher = bench.clean(V5, "p");
    subscriber.subscribe(&topic, 2);
    publisher.send(&publish(&topic, "x", 1, 5).bytes(V5));
    publisher.expect_bytes(&[0x40, 2, 0, 5]);
    publisher.send(&publish(&topic, "x", 2, 6).bytes(V5));
    publisher.expect_bytes(&[0x50, 2, 0, 6]);
    publisher.send(&ack(PUBREL, 6));
    publisher.expect_bytes(&[0x70, 2, 0, 6]);
}

fn pubrec_of_nothing_is_answered(bench: &Bench<'_>) {
    for version in [V311, V5] {
        let mut client = bench.clean(version, &version.to_string());
        client.send(&ack(PUBREC, 77));
        client.send(crate::wire::PINGREQ);
        match client.next() {
            Got::Ack(PUBREL, 77, 0 | 0x92) => client.expect(Got::Pingresp),
            Got::Pingresp => {}
            other => panic!("{other:?}"),
        }
    }
}

fn acknowledgements_of_nothing_do_no_harm(bench: &Bench<'_>) {
    for version in [V31, V311, V5] {
        let mut client = bench.clean(version, &version.to_string());
        client.send(&ack(PUBACK, 77));
        client.send(&ack(PUBCOMP, 78));
        client.ping();
    }
}

/// Sends as many messages to a subscriber that acknowledges none.
fn fill(bench: &Bench<'_>, subscriber: &mut Client, qos: u8, count: u16) -> (Client, String) {
    let topic = bench.topic("fill");
    subscriber.subscribe(&topic, qos);
    let mut publisher = bench.clean(V311, &format!("fill{qos}"));
    for n in 1..=count {
        publisher.publish(&publish(&topic, &n.to_string(), qos, n));
    }
    (publisher, topic)
}

fn expect_window(subscriber: &mut Client, from: u16, to: u16) -> Vec<Publish> {
    let window: Vec<Publish> = (from..=to).map(|_| subscriber.message()).collect();
    for (message, n) in window.iter().zip(from..) {
        assert_eq!(message.payload, n.to_string().as_bytes());
    }
    window
}

/// A QoS 0 message passes the window, so that what comes before it is all that was to come.
fn expect_window_is_full(publisher: &mut Client, subscriber: &mut Client, topic: &str) {
    publisher.publish(&publish(topic, "pass", 0, 0));
    subscriber.ping_through(topic);
}

impl Client {
    fn ping_through(&mut self, topic: &str) {
        let got = self.message();
        assert_eq!(
            (&*got.topic, &*got.payload, got.qos),
            (topic, &b"pass"[..], 0)
        );
    }
}

fn twenty_are_in_flight_and_the_rest_waits(bench: &Bench<'_>) {
    for version in [V31, V311, V5] {
        let mut subscriber = bench.clean(version, &version.to_string());
        let (mut publisher, topic) = fill(bench, &mut subscriber, 1, 45);
        let window = expect_window(&mut subscriber, 1, 20);
        expect_window_is_full(&mut publisher, &mut subscriber, &topic);
        // Out of order, each makes room for one.
        for (message, n) in window.iter().rev().zip(21..) {
            subscriber.acknowledge(message);
            let next = expect_window(&mut subscriber, n, n);
            assert_eq!(next[0].id, n);
        }
        for id in 21..=25 {
            subscriber.send(&ack(PUBACK, id));
        }
        expect_window(&mut subscriber, 41, 45);
        subscriber.disconnect();
    }
}

fn qos_2_holds_its_place_until_pubcomp(bench: &Bench<'_>) {
    let mut subscriber = bench.clean(V311, "s");
    let (mut publisher, topic) = fill(bench, &mut subscriber, 2, 22);
    expect_window(&mut subscriber, 1, 20);
    subscriber.send(&ack(PUBREC, 1));
    subscriber.expect_ack(PUBREL, 1);
    expect_window_is_full(&mut publisher, &mut subscriber, &topic);
    subscriber.send(&ack(PUBCOMP, 1));
    expect_window(&mut subscriber, 21, 21);
}

fn qos_0_passes_a_full_window(bench: &Bench<'_>) {
    for persistent in [false, true] {
        let session = connect(V311, &bench.id(&persistent.to_string()));
        let session = if persistent {
            session.persistent()
        } else {
            session
        };
        let mut subscriber = bench.client(&session);
        let (mut publisher, topic) = fill(bench, &mut subscriber, 1, 25);
        expect_window(&mut subscriber, 1, 20);
        expect_window_is_full(&mut publisher, &mut subscriber, &topic);
        subscriber.disconnect();
    }
}

fn a_receive_maximum_over_the_brokers_does_not_widen_it(bench: &Bench<'_>) {
    let session = connect(V5, &bench.id("s")).property(property::receive_maximum(1000));
    let mut subscriber = bench.client(&session);
    let (mut publisher, topic) = fill(bench, &mut subscriber, 1, 30);
    expect_window(&mut subscriber, 1, 20);
    expect_window_is_full(&mut publisher, &mut subscriber, &topic);
}

fn beyond_the_queue_messages_are_dropped(bench: &Bench<'_>) {
    let strict = |name: &str| connect(V311, &bench.id(name)).keep_alive(30);
    let topic = bench.topic("t");
    let mut subscriber = bench.client(&strict("s"));
    subscriber.subscribe(&topic, 1);
    let mut publisher = bench.client(&strict("p"));
    for n in 1..=20 {
        publisher.publish(&publish(&topic, &n.to_string(), 1, n));
    }
    // Three in flight and five that wait.
    for n in 1..=8 {
        subscriber.expect_message(&topic, &n.to_string(), 1, false);
    }
    publisher.publish(&publish(&topic, "again", 1, 1));
    subscriber.expect_message(&topic, "again", 1, false);
}

fn packet_ids_count_up_from_1(bench: &Bench<'_>) {
    for persistent in [false, true] {
        let session = connect(V311, &bench.id(&persistent.to_string()));
        let session = if persistent {
            session.persistent()
        } else {
            session
        };
        let topic = bench.topic("t");
        let mut client = bench.client(&session);
        client.subscribe(&topic, 2);
        for n in 1..=3 {
            client.publish(&publish(&topic, "x", 1, 100));
            assert_eq!(client.receive().id, n);
        }
    }
}

fn a_client_that_exceeds_receive_maximum_is_disconnected(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V5, "p");
    for n in 1..=21 {
        publisher.send(&publish(&topic, "x", 2, n).bytes(V5));
    }
    for n in 1..=20 {
        publisher.expect_ack(PUBREC, n);
    }
    publisher.expect_disconnect(0x93);
    // 3.1.1 knows no such limit.
    let mut publisher = bench.clean(V311, "p3");
    for n in 1..=100 {
        publisher.send(&publish(&topic, "x", 2, n).bytes(V311));
        publisher.expect_ack(PUBREC, n);
    }
}

fn an_empty_payload_is_a_message(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&topic, 2);
    let mut publisher = bench.clean(V311, "p");
    for qos in 0..3 {
        publisher.publish(&publish(&topic, "", qos, 1));
        subscriber.expect_message(&topic, "", qos, false);
    }
}

fn a_large_message_comes_whole(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut sessions = vec![bench.clean(V5, "transient")];
    sessions.push(bench.client(&connect(V311, &bench.id("persistent")).persistent()));
    let mut publisher = bench.clean(V5, "p");
    for subscriber in &mut sessions {
        subscriber.subscribe(&topic, 2);
    }
    for (qos, length) in [
        (0, 127),
        (1, 128),
        (2, 16_383),
        (1, 16_384),
        (2, 1_900_000),
        (0, 900_000),
    ] {
        let payload: String = (0..length)
            .map(|n| char::from(b'a' + (n / 7 % 26) as u8))
            .collect();
        publisher.publish(&publish(&topic, &payload, qos, 1));
        for subscriber in &mut sessions {
            let got = subscriber.receive();
            assert!(
                got.payload == payload.as_bytes() && got.qos == qos,
                "{length} bytes"
            );
        }
    }
    sessions.pop().unwrap().unsubscribe(&topic);
}

fn a_publisher_gets_its_own_message(bench: &Bench<'_>) {
    for version in [V31, V311, V5] {
        let topic = bench.topic(&version.to_string());
        let mut client = bench.clean(version, &version.to_string());
        client.subscribe(&topic, 2);
        for qos in 0..3 {
            client.publish(&publish(&topic, "x", qos, 1));
            client.expect_message(&topic, "x", qos, false);
        }
    }
}
