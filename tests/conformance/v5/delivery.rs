//! 4.1 to 4.6: the steps of each QoS, delivery after a reconnect, order.

use std::time::Duration;

use super::{SMALL_MESSAGES, stored};
use crate::harness::client::Client;
use crate::wire::{
    Connect, Got, PUBACK, PUBCOMP, PUBREC, PUBREL, Publish, V5, ack, connect, packet, property,
    publish, subscribe,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(bytes_come_in_any_portions).checks(&["MQTT-4.2-1"]),
    test!(new_messages_have_dup_0).checks(&["MQTT-4.3.1-1", "MQTT-4.3.2-2", "MQTT-4.3.3-2"]),
    test!(qos_1_is_open_until_puback).checks(&["MQTT-4.3.2-3"]),
    test!(qos_1_is_acknowledged_and_passed_on).checks(&["MQTT-4.3.2-4"]),
    test!(qos_1_with_the_same_identifier_is_a_new_message).checks(&["MQTT-4.3.2-5"]),
    test!(qos_2_is_open_until_pubrec).checks(&["MQTT-4.3.3-3"]),
    test!(pubrec_is_answered_with_pubrel).checks(&["MQTT-4.3.3-4"]),
    test!(pubrel_is_open_until_pubcomp).checks(&["MQTT-4.3.3-5", "MQTT-4.4.0-1"]),
    test!(behind_pubrel_comes_no_publish).checks(&["MQTT-4.3.3-6"]),
    test!(what_was_sent_does_not_expire)
        .checks(&["MQTT-4.3.3-7"])
        .original_breaks("drops it before the next connection"),
    test!(qos_2_is_received_and_completed).checks(&["MQTT-4.3.3-8", "MQTT-4.3.3-11"]),
    test!(a_refused_identifier_is_new_again).checks(&["MQTT-4.3.3-9"]),
    test!(an_identifier_refused_for_its_size_is_new_again)
        .setup(SMALL_MESSAGES)
        .checks(&["MQTT-4.3.3-9", "MQTT-3.5.2-1"])
        .original_breaks("says 0x95, which is no code of PUBREC"),
    test!(a_repeat_is_delivered_once).checks(&["MQTT-4.3.3-10"]),
    test!(any_number_of_repeats_is_delivered_once)
        .checks(&["MQTT-4.3.3-10"])
        .original_breaks("closes at the second repeat"),
    test!(a_repeat_in_the_next_connection_is_delivered_once).checks(&["MQTT-4.3.3-10"]),
    test!(behind_pubcomp_the_identifier_is_new).checks(&["MQTT-4.3.3-12"]),
    test!(an_expired_message_is_completed).checks(&["MQTT-4.3.3-13"]),
    test!(nothing_is_sent_again_in_a_connection).checks(&["MQTT-4.4.0-1"]),
    test!(the_open_ones_come_again_in_order).checks(&["MQTT-4.4.0-1", "MQTT-4.6.0-1"]),
    test!(a_refused_message_does_not_come_again).checks(&["MQTT-4.4.0-2"]),
    test!(a_refused_message_leaves_its_place)
        .checks(&["MQTT-4.4.0-2", "MQTT-4.9.0-2"])
        .original_breaks("gives the place of a refused message of QoS 2 to no later one"),
    test!(every_matching_session_gets_it).checks(&["MQTT-4.5.0-1"]),
    test!(messages_of_a_publisher_come_in_order).checks(&["MQTT-4.6.0-5", "MQTT-4.6.0-6"]),
    test!(messages_of_a_stored_session_come_in_order).checks(&["MQTT-4.6.0-5", "MQTT-4.6.0-6"]),
];

/// A stored session that subscribes to a topic, and a publisher to it.
struct Pair {
    session: Connect,
    subscriber: Client,
    publisher: Client,
    topic: String,
}

impl Pair {
    fn new(bench: &Bench<'_>) -> Self {
        Self::of(bench, stored(bench, "s"))
    }

    fn of(bench: &Bench<'_>, session: Connect) -> Self {
        let topic = bench.topic("t");
        let mut subscriber = bench.client(&session);
        subscriber.subscribe(&topic, 2);
        Self {
            session,
            subscriber,
            publisher: bench.clean(V5, "p"),
            topic,
        }
    }

    /// Publishes this, and takes it without an acknowledgement.
    fn begin(&mut self, payload: &str, qos: u8) -> Publish {
        self.publisher
            .publish(&publish(&self.topic, payload, qos, 1));
        let message = self.subscriber.message();
        assert_eq!(message.payload, payload.as_bytes());
        message
    }

    /// The subscriber loses its connection and comes back.
    fn reconnect(&mut self, bench: &Bench<'_>) {
        self.subscriber
            .stream
            .shutdown(std::net::Shutdown::Both)
            .unwrap();
        self.subscriber = bench.socket();
        assert!(self.subscriber.connect(&self.session));
    }

    fn expect_nothing(&mut self) {
        self.subscriber.expect_nothing_from(&mut self.publisher);
    }
}

fn bytes_come_in_any_portions(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.socket();
    client.version = V5;
    let mut bytes = connect(V5, &bench.id("c")).bytes();
    bytes.extend(subscribe(V5, 1, &[(&topic, 2)]));
    for byte in &bytes {
        client.send(&[*byte]);
    }
    assert!(matches!(client.next(), Got::Connack { code: 0, .. }));
    client.expect(Got::Suback(1, vec![2]));
    let many: Vec<u8> = (0..500)
        .flat_map(|n| publish(&topic, &n.to_string(), 0, 0).bytes(V5))
        .collect();
    // Whole packets at once, and cut anywhere.
    for portion in [many.len(), 1000, 7] {
        for bytes in many.chunks(portion) {
            client.send(bytes);
        }
        for n in 0..500 {
            assert_eq!(client.message().payload, n.to_string().as_bytes());
        }
    }
}

fn new_messages_have_dup_0(bench: &Bench<'_>) {
    for session in [connect(V5, &bench.id("clean")), stored(bench, "stored")] {
        let mut pair = Pair::of(bench, session);
        for qos in 0..3 {
            let message = pair.begin("x", qos);
            assert!(!message.dup);
            pair.subscriber.acknowledge(&message);
        }
        pair.subscriber.unsubscribe(&pair.topic);
    }
}

fn qos_1_is_open_until_puback(bench: &Bench<'_>) {
    let mut pair = Pair::new(bench);
    let message = pair.begin("x", 1);
    pair.reconnect(bench);
    assert_eq!(pair.subscriber.message(), message.clone().dup());
    pair.subscriber.acknowledge(&message);
    pair.subscriber.ping();
    pair.reconnect(bench);
    pair.expect_nothing();
}

fn qos_1_is_acknowledged_and_passed_on(bench: &Bench<'_>) {
    let mut pair = Pair::new(bench);
    for id in [1, 2, 0xffff] {
        pair.publisher
            .send(&publish(&pair.topic, "x", 1, id).bytes(V5));
        pair.publisher.expect(Got::Ack(PUBACK, id, 0));
        pair.subscriber.expect_message(&pair.topic, "x", 1, false);
    }
}

fn qos_1_with_the_same_identifier_is_a_new_message(bench: &Bench<'_>) {
    let mut pair = Pair::new(bench);
    let message = publish(&pair.topic, "x", 1, 9);
    pair.publisher.publish(&message);
    pair.publisher.publish(&message);
    // Also if it is marked as a repeat.
    pair.publisher.publish(&message.dup());
    for _ in 0..3 {
        pair.subscriber.expect_message(&pair.topic, "x", 1, false);
    }
}

fn qos_2_is_open_until_pubrec(bench: &Bench<'_>) {
    let mut pair = Pair::new(bench);
    let message = pair.begin("x", 2);
    for _ in 0..2 {
        pair.reconnect(bench);
        assert_eq!(pair.subscriber.message(), message.clone().dup());
    }
    pair.subscriber.acknowledge(&message);
    pair.subscriber.ping();
    pair.reconnect(bench);
    pair.expect_nothing();
}

fn pubrec_is_answered_with_pubrel(bench: &Bench<'_>) {
    let mut pair = Pair::new(bench);
    // With success, said in both ways, and with another code of success.
    for code in [&[][..], &[0x00], &[0x10]] {
        let id = pair.begin("x", 2).id;
        let body = [&id.to_be_bytes()[..], code].concat();
        pair.subscriber.send(&packet(PUBREC, &body));
        pair.subscriber.expect(Got::Ack(PUBREL, id, 0));
        pair.subscriber.send(&ack(PUBCOMP, id));
    }
}

fn pubrel_is_open_until_pubcomp(bench: &Bench<'_>) {
    let mut pair = Pair::new(bench);
    let id = pair.begin("x", 2).id;
    pair.subscriber.send(&ack(PUBREC, id));
    pair.subscriber.expect(Got::Ack(PUBREL, id, 0));
    for _ in 0..3 {
        pair.reconnect(bench);
        pair.subscriber.expect(Got::Ack(PUBREL, id, 0));
    }
    pair.subscriber.send(&ack(PUBCOMP, id));
    pair.subscriber.ping();
    pair.reconnect(bench);
    pair.expect_nothing();
}

fn behind_pubrel_comes_no_publish(bench: &Bench<'_>) {
    let mut pair = Pair::new(bench);
    let id = pair.begin("x", 2).id;
    pair.subscriber.send(&ack(PUBREC, id));
    pair.subscriber.expect(Got::Ack(PUBREL, id, 0));
    pair.reconnect(bench);
    pair.subscriber.expect(Got::Ack(PUBREL, id, 0));
    pair.expect_nothing();
    // A second PUBREC does not bring it back.
    pair.subscriber.send(&ack(PUBREC, id));
    pair.subscriber.send(crate::wire::PINGREQ);
    match pair.subscriber.next() {
        Got::Ack(PUBREL, got, _) if got == id => pair.subscriber.expect(Got::Pingresp),
        other => assert_eq!(other, Got::Pingresp),
    }
}

fn what_was_sent_does_not_expire(bench: &Bench<'_>) {
    let mut pair = Pair::new(bench);
    let expiring = publish(&pair.topic, "x", 2, 1).property(property::message_expiry(1));
    pair.publisher.publish(&expiring);
    let first = pair.subscriber.message();
    pair.publisher.publish(&expiring);
    let second = pair.subscriber.message();
    std::thread::sleep(Duration::from_millis(2200));
    pair.subscriber.send(&ack(PUBREC, first.id));
    pair.subscriber.expect(Got::Ack(PUBREL, first.id, 0));
    pair.reconnect(bench);
    // PUBREL of the one and the other one again, in either order.
    let mut got = [pair.subscriber.next(), pair.subscriber.next()];
    got.sort_by_key(|packet| matches!(packet, Got::Publish(_)));
    assert_eq!(got[0], Got::Ack(PUBREL, first.id, 0));
    match &got[1] {
        Got::Publish(again) => assert!(again.dup && again.id == second.id),
        other => panic!("{other:?} instead of the second message"),
    }
}

fn qos_2_is_received_and_completed(bench: &Bench<'_>) {
    let mut pair = Pair::new(bench);
    for id in [1, 0x1234, 0xffff] {
        pair.publisher
            .send(&publish(&pair.topic, "x", 2, id).bytes(V5));
        pair.publisher.expect(Got::Ack(PUBREC, id, 0));
        pair.publisher.send(&ack(PUBREL, id));
        pair.publisher.expect(Got::Ack(PUBCOMP, id, 0));
        pair.subscriber.expect_message(&pair.topic, "x", 2, false);
    }
}

/// A message that may not be published, and one with the same identifier that may.
fn refused_then_new(bench: &Bench<'_>, refused: &Publish) {
    let mut pair = Pair::new(bench);
    pair.publisher.send(&refused.bytes(V5));
    match pair.publisher.next() {
        Got::Ack(PUBREC, id, code) => assert!(id == refused.id && code >= 0x80, "{code:#x}"),
        other => panic!("{other:?}"),
    }
    pair.publisher
        .publish(&publish(&pair.topic, "x", 2, refused.id));
    pair.subscriber.expect_message(&pair.topic, "x", 2, false);
    pair.expect_nothing();
}

fn a_refused_identifier_is_new_again(bench: &Bench<'_>) {
    // Nobody but the broker publishes there.
    refused_then_new(bench, &publish("$SYS/conformance", "x", 2, 9));
}

fn an_identifier_refused_for_its_size_is_new_again(bench: &Bench<'_>) {
    let large = "x".repeat(101);
    refused_then_new(bench, &publish(&bench.topic("t"), &large, 2, 9));
}

fn repeat(bench: &Bench<'_>, repeats: usize) {
    let mut pair = Pair::new(bench);
    let message = publish(&pair.topic, "once", 2, 9);
    pair.publisher.send(&message.bytes(V5));
    pair.publisher.expect_ack(PUBREC, 9);
    for _ in 0..repeats {
        pair.publisher.send(&message.clone().dup().bytes(V5));
        pair.publisher.expect_ack(PUBREC, 9);
    }
    pair.publisher.send(&ack(PUBREL, 9));
    pair.publisher.expect_ack(PUBCOMP, 9);
    pair.subscriber
        .expect_message(&pair.topic, "once", 2, false);
    pair.expect_nothing();
}

fn a_repeat_is_delivered_once(bench: &Bench<'_>) {
    repeat(bench, 1);
}

fn any_number_of_repeats_is_delivered_once(bench: &Bench<'_>) {
    repeat(bench, 5);
}

fn a_repeat_in_the_next_connection_is_delivered_once(bench: &Bench<'_>) {
    let mut pair = Pair::new(bench);
    let session = stored(bench, "publisher");
    let mut publisher = bench.client(&session);
    let message = publish(&pair.topic, "once", 2, 9);
    publisher.send(&message.bytes(V5));
    publisher.expect_ack(PUBREC, 9);
    publisher.drop_connection();
    let mut publisher = bench.client(&session);
    publisher.publish(&message.clone().dup());
    pair.subscriber
        .expect_message(&pair.topic, "once", 2, false);
    pair.subscriber.expect_nothing_from(&mut publisher);
}

fn behind_pubcomp_the_identifier_is_new(bench: &Bench<'_>) {
    let mut pair = Pair::new(bench);
    for _ in 0..3 {
        pair.publisher.publish(&publish(&pair.topic, "x", 2, 9));
        pair.subscriber.expect_message(&pair.topic, "x", 2, false);
    }
    pair.expect_nothing();
}

fn an_expired_message_is_completed(bench: &Bench<'_>) {
    let mut pair = Pair::new(bench);
    let expiring = publish(&pair.topic, "x", 2, 9).property(property::message_expiry(1));
    pair.publisher.send(&expiring.bytes(V5));
    pair.publisher.expect_ack(PUBREC, 9);
    std::thread::sleep(Duration::from_millis(2200));
    pair.publisher.send(&expiring.dup().bytes(V5));
    pair.publisher.expect_ack(PUBREC, 9);
    pair.publisher.send(&ack(PUBREL, 9));
    pair.publisher.expect(Got::Ack(PUBCOMP, 9, 0));
}

fn nothing_is_sent_again_in_a_connection(bench: &Bench<'_>) {
    let mut pair = Pair::new(bench);
    let one = pair.begin("one", 1);
    let two = pair.begin("two", 2);
    let three = pair.begin("three", 2);
    pair.subscriber.send(&ack(PUBREC, three.id));
    pair.subscriber.expect(Got::Ack(PUBREL, three.id, 0));
    // Longer than any timer that a broker could have for it without a client's noticing.
    std::thread::sleep(Duration::from_millis(2500));
    pair.expect_nothing();
    pair.subscriber.acknowledge(&one);
    pair.subscriber.acknowledge(&two);
    pair.subscriber.send(&ack(PUBCOMP, three.id));
    pair.subscriber.ping();
}

fn the_open_ones_come_again_in_order(bench: &Bench<'_>) {
    let mut pair = Pair::new(bench);
    let sent: Vec<Publish> = (0..12u8)
        .map(|n| pair.begin(&n.to_string(), 1 + n % 2))
        .collect();
    // Some are finished, out of their order; one of QoS 2 is half done.
    for n in [4, 7, 0] {
        pair.subscriber.acknowledge(&sent[n]);
    }
    pair.subscriber.send(&ack(PUBREC, sent[3].id));
    pair.subscriber.expect_ack(PUBREL, sent[3].id);
    pair.reconnect(bench);
    let mut again: Vec<Got> = (0..9).map(|_| pair.subscriber.next()).collect();
    let pubrel = again
        .iter()
        .position(|got| *got == Got::Ack(PUBREL, sent[3].id, 0));
    again.remove(pubrel.expect("PUBREL"));
    let open = [1, 2, 5, 6, 8, 9, 10, 11].map(|n| Got::Publish(sent[n].clone().dup()));
    assert_eq!(again, open);
}

fn a_refused_message_does_not_come_again(bench: &Bench<'_>) {
    let mut pair = Pair::new(bench);
    refuse(&mut pair);
    pair.reconnect(bench);
    pair.expect_nothing();
}

/// With a window of one, so that each message needs the place of the one before.
fn a_refused_message_leaves_its_place(bench: &Bench<'_>) {
    for session in [connect(V5, &bench.id("clean")), stored(bench, "stored")] {
        let narrow = session.property(property::receive_maximum(1));
        let mut pair = Pair::of(bench, narrow);
        refuse(&mut pair);
        let message = pair.begin("last", 2);
        pair.subscriber.acknowledge(&message);
        pair.expect_nothing();
        pair.subscriber.unsubscribe(&pair.topic);
    }
}

/// Messages of both QoS come, and are refused.
fn refuse(pair: &mut Pair) {
    for (qos, first) in [(1, PUBACK), (2, PUBREC)] {
        for code in [0x80, 0x83, 0x87, 0x97] {
            let id = pair.begin("x", qos).id;
            let body = [&id.to_be_bytes()[..], &[code]].concat();
            pair.subscriber.send(&packet(first, &body));
            // No PUBREL is the answer.
            pair.subscriber.ping();
        }
    }
}

fn every_matching_session_gets_it(bench: &Bench<'_>) {
    let topic = bench.topic("a/b");
    let mut connected = Vec::new();
    let mut away = Vec::new();
    for (n, filter) in ["a/b", "a/+", "#", "+/b", "a/b/#"].iter().enumerate() {
        let filter = bench.topic(filter);
        for qos in 0..3 {
            let mut client = bench.clean(V5, &format!("{n}{qos}"));
            client.subscribe(&filter, qos);
            connected.push((client, qos));
            if qos > 0 {
                let session = stored(bench, &format!("stored{n}{qos}"));
                let mut client = bench.client(&session);
                client.subscribe(&filter, qos);
                client.disconnect();
                away.push((session, qos));
            }
        }
    }
    let mut publisher = bench.clean(V5, "p");
    for qos in 1..3 {
        publisher.publish(&publish(&topic, "x", qos, 1));
        for (client, granted) in &mut connected {
            client.expect_message(&topic, "x", qos.min(*granted), false);
        }
    }
    for (session, granted) in away {
        let mut client = bench.client(&session);
        for qos in 1..3 {
            client.expect_message(&topic, "x", qos.min(granted), false);
        }
    }
}

const MESSAGES: u16 = 300;

/// Publishes `1 n` and `2 n` at QoS 1 and 2, a few at a time.
fn publish_in_order(publisher: &mut Client, topic: &str) {
    for n in 0..MESSAGES {
        let (one, two) = (1000 + n, 2000 + n);
        publisher.send(&publish(topic, &format!("1 {n}"), 1, one).bytes(V5));
        publisher.send(&publish(topic, &format!("2 {n}"), 2, two).bytes(V5));
        publisher.expect_ack(PUBACK, one);
        publisher.expect_ack(PUBREC, two);
        publisher.send(&ack(PUBREL, two));
        publisher.expect_ack(PUBCOMP, two);
    }
}

fn expect_in_order(subscriber: &mut Client) {
    let mut next = [0u16; 2];
    for _ in 0..2 * MESSAGES {
        let got = subscriber.receive();
        let text = String::from_utf8(got.payload).unwrap();
        let (qos, number) = text.split_once(' ').unwrap();
        assert_eq!(qos, got.qos.to_string());
        let expected = &mut next[usize::from(got.qos) - 1];
        assert_eq!(number, expected.to_string(), "at QoS {qos}");
        *expected += 1;
    }
}

fn messages_of_a_publisher_come_in_order(bench: &Bench<'_>) {
    let mut pair = Pair::of(bench, connect(V5, &bench.id("s")));
    let (publisher, topic) = (&mut pair.publisher, &pair.topic);
    std::thread::scope(|scope| {
        scope.spawn(|| publish_in_order(publisher, topic));
        expect_in_order(&mut pair.subscriber);
    });
}

fn messages_of_a_stored_session_come_in_order(bench: &Bench<'_>) {
    let mut pair = Pair::new(bench);
    pair.subscriber.send(crate::wire::DISCONNECT);
    pair.subscriber.expect_end();
    publish_in_order(&mut pair.publisher, &pair.topic);
    pair.subscriber = bench.client(&pair.session);
    expect_in_order(&mut pair.subscriber);
    pair.expect_nothing();
}
