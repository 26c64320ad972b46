//! Chapter 2: the fixed header, its flags and lengths, and packet identifiers.

use super::expect_end_at;
use crate::harness::broker::Setup;
use crate::harness::client::Client;
use crate::wire::{
    DISCONNECT, Got, PINGREQ, PUBACK, PUBCOMP, PUBREC, PUBREL, V311, ack, connect, packet, publish,
    subscribe, unsubscribe,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(wrong_flags_in_pubrel_close).checks(&["MQTT-2.2.2-2", "MQTT-3.6.1-1"]),
    test!(wrong_flags_in_subscribe_close).checks(&["MQTT-2.2.2-2", "MQTT-3.8.1-1"]),
    test!(wrong_flags_in_unsubscribe_close).checks(&["MQTT-2.2.2-2", "MQTT-3.10.1-1"]),
    test!(wrong_flags_in_disconnect_close).checks(&["MQTT-2.2.2-2", "MQTT-3.14.1-1"]),
    test!(wrong_flags_in_other_packets_close)
        .checks(&["MQTT-2.2.2-1", "MQTT-2.2.2-2"])
        .original_breaks("does not look at them"),
    test!(wrong_flags_in_connect_close).checks(&["MQTT-2.2.2-2"]),
    test!(answers_have_their_flags_and_the_id_that_they_answer).checks(&[
        "MQTT-2.2.2-1",
        "MQTT-2.3.1-6",
        "MQTT-2.3.1-7",
        "MQTT-3.8.4-2",
        "MQTT-3.10.4-4",
    ]),
    test!(reserved_packet_types_close).checks(&["MQTT-4.8.0-1"]),
    test!(lengths_of_one_to_three_bytes_are_read_and_written).checks(&["2.2.3"]),
    test!(a_length_of_four_bytes_is_read_and_written)
        .setup(Setup::With(ROOMY))
        .checks(&["2.2.3"]),
    test!(a_fifth_byte_of_length_closes).checks(&["MQTT-4.8.0-1"]),
    test!(packets_may_come_in_single_bytes).checks(&["MQTT-4.2.0-1", "MQTT-7.1.1-2"]),
    test!(packets_may_come_many_at_once).checks(&["MQTT-4.2.0-1", "MQTT-7.1.1-2"]),
    test!(packet_id_0_closes).checks(&["MQTT-2.3.1-1"]),
    test!(a_missing_packet_id_closes).checks(&["MQTT-2.3.1-1"]),
    test!(qos_0_has_no_packet_id).checks(&["MQTT-2.3.1-5"]),
    test!(ids_to_a_client_are_unused_ones).checks(&[
        "MQTT-2.3.1-1",
        "MQTT-2.3.1-4",
        "MQTT-4.3.2-1",
    ]),
    test!(ids_to_a_client_go_round_past_those_in_use)
        .checks(&["MQTT-2.3.1-1", "MQTT-2.3.1-4"])
        .original_breaks("takes an id that is still in use"),
    test!(a_message_that_is_sent_again_keeps_its_id).checks(&["MQTT-2.3.1-4", "MQTT-2.3.1-3"]),
    test!(every_id_is_good_for_every_packet).checks(&["MQTT-2.3.1-6", "MQTT-2.3.1-7"]),
    test!(one_id_serves_both_directions_at_once).checks(&["MQTT-2.3.1-4", "MQTT-2.3.1-6"]),
];

/// Sends a packet with each set of flags but the right one.
fn expect_end_at_wrong_flags(bench: &Bench<'_>, bytes: &[u8]) {
    let right = bytes[0] & 15;
    for flags in (0..16).filter(|flags| *flags != right) {
        let mut bad = bytes.to_vec();
        bad[0] = bad[0] & 0xf0 | flags;
        expect_end_at(&mut bench.clean(V311, "c"), &bad);
    }
}

fn wrong_flags_in_pubrel_close(bench: &Bench<'_>) {
    expect_end_at_wrong_flags(bench, &ack(PUBREL, 1));
}

fn wrong_flags_in_subscribe_close(bench: &Bench<'_>) {
    expect_end_at_wrong_flags(bench, &subscribe(V311, 1, &[(&bench.topic("t"), 0)]));
}

fn wrong_flags_in_unsubscribe_close(bench: &Bench<'_>) {
    expect_end_at_wrong_flags(bench, &unsubscribe(V311, 1, &[&bench.topic("t")]));
}

fn wrong_flags_in_disconnect_close(bench: &Bench<'_>) {
    expect_end_at_wrong_flags(bench, DISCONNECT);
}

fn wrong_flags_in_other_packets_close(bench: &Bench<'_>) {
    for first in [PUBACK, PUBREC, PUBCOMP] {
        expect_end_at_wrong_flags(bench, &ack(first, 1));
    }
    expect_end_at_wrong_flags(bench, PINGREQ);
}

fn wrong_flags_in_connect_close(bench: &Bench<'_>) {
    for flags in [1, 2, 4, 8] {
        let mut bytes = connect(V311, &bench.id("c")).bytes();
        bytes[0] |= flags;
        expect_end_at(&mut bench.socket(), &bytes);
    }
}

fn answers_have_their_flags_and_the_id_that_they_answer(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.socket();
    client.send(&connect(V311, &bench.id("c")).bytes());
    client.expect_bytes(&[0x20, 2, 0, 0]);
    client.send(&publish(&topic, "one", 1, 0x1234).bytes(V311));
    client.expect_bytes(&[0x40, 2, 0x12, 0x34]);
    client.send(&publish(&topic, "two", 2, 0xffff).bytes(V311));
    client.expect_bytes(&[0x50, 2, 0xff, 0xff]);
    client.send(&ack(PUBREL, 0xffff));
    client.expect_bytes(&[0x70, 2, 0xff, 0xff]);
    client.send(&subscribe(V311, 0x0100, &[(&topic, 2)]));
    client.expect_bytes(&[0x90, 3, 1, 0, 2]);
    bench.clean(V311, "p").publish(&publish(&topic, "x", 2, 7));
    let message = client.message();
    client.send(&ack(PUBREC, message.id));
    let [high, low] = message.id.to_be_bytes();
    client.expect_bytes(&[0x62, 2, high, low]);
    client.send(&ack(PUBCOMP, message.id));
    client.send(&unsubscribe(V311, 0x00ff, &[&topic]));
    client.expect_bytes(&[0xb0, 2, 0, 0xff]);
    client.send(PINGREQ);
    client.expect_bytes(&[0xd0, 0]);
}

fn reserved_packet_types_close(bench: &Bench<'_>) {
    for first in [0x00, 0x0f, 0xf0, 0xf2] {
        expect_end_at(&mut bench.clean(V311, "c"), &[first, 0]);
        expect_end_at(&mut bench.clean(V311, "c"), &packet(first, &[0, 1, 0, 1]));
        expect_end_at(&mut bench.socket(), &[first, 0]);
    }
}

fn expect_lengths(bench: &Bench<'_>, lengths: &[usize]) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 0);
    let mut publisher = bench.clean(V311, "p");
    for length in lengths {
        let payload = "p".repeat(length - 2 - topic.len());
        let bytes = publish(&topic, &payload, 0, 0).bytes(V311);
        publisher.send(&bytes);
        let got = subscriber.bytes().unwrap();
        assert!(got == bytes, "remaining length {length}");
    }
}

fn lengths_of_one_to_three_bytes_are_read_and_written(bench: &Bench<'_>) {
    expect_lengths(bench, &[126, 127, 128, 129, 16_383, 16_384, 1_000_000]);
}

const ROOMY: &str = "allow_anonymous true\nmax_packet_size 3000000\n";

fn a_length_of_four_bytes_is_read_and_written(bench: &Bench<'_>) {
    expect_lengths(bench, &[2_097_151, 2_097_152, 2_500_000]);
}

fn a_fifth_byte_of_length_closes(bench: &Bench<'_>) {
    for first in [0x30, 0x40, 0x82, 0xc0] {
        let bad = [first, 0x80, 0x80, 0x80, 0x80, 0];
        expect_end_at(&mut bench.clean(V311, "c"), &bad);
        let bad = [first, 0xff, 0xff, 0xff, 0xff, 0x7f];
        expect_end_at(&mut bench.clean(V311, "c"), &bad);
    }
}

fn packets_may_come_in_single_bytes(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.socket();
    let mut bytes = connect(V311, &bench.id("c")).bytes();
    bytes.extend(subscribe(V311, 1, &[(&topic, 2)]));
    for byte in &bytes {
        client.send(&[*byte]);
    }
    client.expect_bytes(&[0x20, 2, 0, 0]);
    client.expect(Got::Suback(1, vec![2]));
    for byte in publish(&topic, &"x".repeat(200), 1, 1).bytes(V311) {
        client.send(&[byte]);
    }
    client.expect_ack(PUBACK, 1);
    client.expect_message(&topic, &"x".repeat(200), 1, false);
}

fn packets_may_come_many_at_once(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 0);
    let mut client = bench.socket();
    let mut bytes = connect(V311, &bench.id("c")).bytes();
    for n in 0..300 {
        bytes.extend(publish(&topic, &n.to_string(), 0, 0).bytes(V311));
        bytes.extend(PINGREQ);
    }
    client.send(&bytes);
    client.expect_bytes(&[0x20, 2, 0, 0]);
    for n in 0..300 {
        client.expect(Got::Pingresp);
        subscriber.expect_message(&topic, &n.to_string(), 0, false);
    }
}

fn packet_id_0_closes(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for bad in [
        publish(&topic, "x", 1, 0).bytes(V311),
        publish(&topic, "x", 2, 0).bytes(V311),
        subscribe(V311, 0, &[(&topic, 0)]),
        unsubscribe(V311, 0, &[&topic]),
    ] {
        expect_end_at(&mut bench.clean(V311, "c"), &bad);
    }
}

fn a_missing_packet_id_closes(bench: &Bench<'_>) {
    let topic = crate::wire::text(&bench.topic("t"));
    for bad in [
        packet(0x32, &topic),
        packet(0x34, &[&topic[..], &[1]].concat()),
        packet(0x82, &[]),
        packet(0x82, &[1]),
        packet(0xa2, &[]),
        packet(0xa2, &[1]),
        packet(0x40, &[]),
        packet(0x50, &[1]),
        packet(0x62, &[]),
        packet(0x70, &[1]),
    ] {
        expect_end_at(&mut bench.clean(V311, "c"), &bad);
    }
}

fn qos_0_has_no_packet_id(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 0);
    let mut publisher = bench.clean(V311, "p");
    for qos in 0..3 {
        // What would be an id is payload.
        publisher.publish(&publish(&topic, "\u{1}\u{2}payload", qos, 5));
        let expected = publish(&topic, "\u{1}\u{2}payload", 0, 0).bytes(V311);
        subscriber.expect_bytes(&expected);
    }
}

/// Publishes so many at QoS 1, each acknowledged.
fn publish_many(publisher: &mut Client, topic: &str, count: u16) {
    for n in 1..=count {
        publisher.publish(&publish(topic, &n.to_string(), 1, n));
    }
}

fn ids_to_a_client_are_unused_ones(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for persistent in [false, true] {
        let session = connect(V311, &bench.id(&persistent.to_string())).clean(!persistent);
        let mut subscriber = bench.client(&session);
        subscriber.subscribe(&topic, 1);
        let mut publisher = bench.clean(V311, "p");
        publish_many(&mut publisher, &topic, 60);
        let mut in_use = std::collections::BTreeSet::new();
        // Every second one stays unacknowledged, as long as the window lets others through.
        for n in 0..30 {
            let got = subscriber.message();
            assert!(got.id != 0 && !got.dup);
            assert!(in_use.insert(got.id), "{} is in use: {in_use:?}", got.id);
            if n % 2 == 0 {
                subscriber.acknowledge(&got);
                in_use.remove(&got.id);
            }
        }
        subscriber.unsubscribe_all_and_end(&topic);
    }
}

impl Client {
    /// Ends a session, whatever is still on its way.
    fn unsubscribe_all_and_end(mut self, topic: &str) {
        self.send(&unsubscribe(V311, 0x7fff, &[topic]));
        while !matches!(self.next(), Got::Unsuback(0x7fff, _)) {}
        self.send(crate::wire::DISCONNECT);
        while self.try_next().is_some() {}
    }
}

fn ids_to_a_client_go_round_past_those_in_use(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 1);
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&topic, "first", 1, 1));
    let held = subscriber.message();
    let mut last = held.id;
    let mut went_round = false;
    const BATCH: u16 = 15;
    for _ in 0..65_600 / u32::from(BATCH) + 1 {
        let batch: Vec<u8> = (1..=BATCH)
            .flat_map(|id| publish(&topic, "x", 1, id).bytes(V311))
            .collect();
        publisher.send(&batch);
        let mut acks = Vec::new();
        for _ in 0..BATCH {
            let got = subscriber.message();
            assert!(got.id != 0 && got.id != held.id && !got.dup, "{got:?}");
            went_round |= got.id < last;
            last = got.id;
            acks.extend(ack(PUBACK, got.id));
        }
        subscriber.send(&acks);
        for id in 1..=BATCH {
            publisher.expect_ack(PUBACK, id);
        }
    }
    assert!(went_round, "the ids end at {last}");
    subscriber.acknowledge(&held);
    subscriber.expect_nothing_from(&mut publisher);
}

fn a_message_that_is_sent_again_keeps_its_id(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut subscriber = bench.client(&session);
    subscriber.subscribe(&topic, 2);
    let mut publisher = bench.clean(V311, "p");
    for n in 1..=6 {
        publisher.publish(&publish(&topic, &n.to_string(), 1 + n as u8 % 2, n));
    }
    let mut first: Vec<_> = (0..6).map(|_| subscriber.message()).collect();
    // With a gap, which new ones may fill.
    let done = first.remove(2);
    subscriber.acknowledge(&done);
    subscriber.ping();
    subscriber.drop_connection();
    let mut subscriber = bench.client(&session);
    for message in &first {
        assert_eq!(subscriber.message(), message.clone().dup());
    }
    publisher.publish(&publish(&topic, "new", 1, 9));
    let new = subscriber.message();
    assert!(first.iter().all(|m| m.id != new.id) && !new.dup);
    subscriber.unsubscribe_all_and_end(&topic);
}

fn every_id_is_good_for_every_packet(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V311, "c");
    // The same ids for all: each is free again when it was answered.
    for id in [1, 2, 0xff, 0x100, 0x7fff, 0x8000, 0xfffe, 0xffff] {
        client.send(&subscribe(V311, id, &[(&bench.topic("other"), 0)]));
        client.expect(Got::Suback(id, vec![0]));
        for qos in [1, 2] {
            client.publish(&publish(&topic, "x", qos, id));
        }
        client.send(&unsubscribe(V311, id, &[&bench.topic("other")]));
        client.expect(Got::Unsuback(id, vec![]));
    }
}

fn one_id_serves_both_directions_at_once(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for qos in [1, 2] {
        let mut client = bench.clean(V311, &qos.to_string());
        client.subscribe(&topic, qos);
        let mut other = bench.clean(V311, "other");
        other.publish(&publish(&topic, "theirs", qos, 1));
        let theirs = client.message();
        // The client's own message with the id of the one that it has not acknowledged.
        client.send(&publish(&topic, "own", qos, theirs.id).bytes(V311));
        if qos == 1 {
            client.expect_ack(PUBACK, theirs.id);
            client.acknowledge(&theirs);
        } else {
            client.expect_ack(PUBREC, theirs.id);
            client.send(&ack(PUBREC, theirs.id));
            client.expect_ack(PUBREL, theirs.id);
            client.send(&ack(PUBREL, theirs.id));
            client.expect_ack(PUBCOMP, theirs.id);
            client.send(&ack(PUBCOMP, theirs.id));
        }
        let own = client.expect_message(&topic, "own", qos, false);
        assert!(!own.dup);
        client.expect_nothing_from(&mut other);
    }
}
