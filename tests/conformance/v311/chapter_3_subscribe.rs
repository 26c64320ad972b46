//! Chapters 3.8 and 3.9: SUBSCRIBE and SUBACK.

use super::expect_end_at;
use crate::harness::broker::Setup;
use crate::wire::{Got, PUBACK, V311, connect, packet, publish, subscribe, text};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(a_subscribe_without_a_filter_closes).checks(&["MQTT-3.8.3-3", "MQTT-4.8.0-1"]),
    test!(a_filter_without_qos_closes).checks(&["MQTT-3.8.3-3"]),
    test!(reserved_bits_beside_the_qos_close).checks(&["MQTT-3.8.3-4"]),
    test!(qos_3_is_not_granted).checks(&["MQTT-3.8.3-4"]),
    test!(an_empty_filter_closes).checks(&["MQTT-4.7.3-1"]),
    test!(suback_answers_each_subscribe_with_its_id).checks(&["MQTT-3.8.4-1", "MQTT-3.8.4-2"]),
    test!(suback_does_not_wait_for_another_subscribe).checks(&["MQTT-3.8.4-1", "MQTT-3.8.4-2"]),
    test!(subscribing_again_replaces_the_qos).checks(&["MQTT-3.8.4-3"]),
    test!(subscribing_again_sends_what_is_retained_again).checks(&["MQTT-3.8.4-3"]),
    test!(subscribing_again_interrupts_nothing).checks(&["MQTT-3.8.4-3"]),
    test!(subscribing_again_by_an_absent_client_loses_nothing).checks(&["MQTT-3.8.4-3"]),
    test!(many_filters_are_like_many_packets).checks(&["MQTT-3.8.4-4", "MQTT-3.8.4-5"]),
    test!(the_last_of_two_equal_filters_holds).checks(&["MQTT-3.8.4-4", "MQTT-3.8.4-3"]),
    test!(each_filter_gets_what_is_retained_for_it).checks(&["MQTT-3.8.4-4", "MQTT-3.3.1-6"]),
    test!(there_is_a_code_for_each_filter_in_their_order).checks(&[
        "MQTT-3.8.4-5",
        "MQTT-3.9.3-1",
        "MQTT-3.9.3-2",
    ]),
    test!(a_message_comes_at_the_lower_of_both_qos).checks(&["MQTT-3.8.4-6"]),
    test!(a_lower_qos_is_granted_where_it_is_the_highest)
        .setup(Setup::Strict)
        .checks(&["MQTT-3.8.4-6", "MQTT-3.9.3-2"]),
    test!(a_subscription_may_have_messages_before_its_suback).checks(&["MQTT-3.8.4-1"]),
];

fn a_subscribe_without_a_filter_closes(bench: &Bench<'_>) {
    expect_end_at(&mut bench.clean(V311, "c"), &packet(0x82, &[0, 1]));
}

fn a_filter_without_qos_closes(bench: &Bench<'_>) {
    let filter = text(&bench.topic("t"));
    let whole = [&filter[..], &[0]].concat();
    for body in [
        [&[0, 1], &filter[..]].concat(),
        [&[0, 1], &whole[..], &filter].concat(),
        [&[0, 1], &filter[..filter.len() - 1]].concat(),
        [&[0, 1], &whole[..], &[0]].concat(),
    ] {
        expect_end_at(&mut bench.clean(V311, "c"), &packet(0x82, &body));
    }
}

fn reserved_bits_beside_the_qos_close(bench: &Bench<'_>) {
    for bit in 2..8 {
        for qos in 0..3 {
            let bad = subscribe(V311, 1, &[(&bench.topic("t"), qos | 1 << bit)]);
            expect_end_at(&mut bench.clean(V311, "c"), &bad);
        }
    }
}

fn qos_3_is_not_granted(bench: &Bench<'_>) {
    let (a, b) = (bench.topic("a"), bench.topic("b"));
    for filters in [&[(&*a, 3)][..], &[(&a, 1), (&b, 3)], &[(&a, 3), (&b, 1)]] {
        let bad = subscribe(V311, 1, filters);
        expect_end_at(&mut bench.clean(V311, "c"), &bad);
    }
}

fn an_empty_filter_closes(bench: &Bench<'_>) {
    let bad = subscribe(V311, 1, &[(&bench.topic("a"), 0), ("", 0)]);
    expect_end_at(&mut bench.clean(V311, "c"), &bad);
}

fn suback_answers_each_subscribe_with_its_id(bench: &Bench<'_>) {
    let mut client = bench.clean(V311, "c");
    for id in [1, 0x0100, 0x00ff, 0xffff] {
        for qos in 0..3 {
            client.send(&subscribe(V311, id, &[(&bench.topic("t"), qos)]));
            let [high, low] = id.to_be_bytes();
            client.expect_bytes(&[0x90, 3, high, low, qos]);
        }
    }
}

fn suback_does_not_wait_for_another_subscribe(bench: &Bench<'_>) {
    let mut client = bench.clean(V311, "c");
    let all: Vec<u8> = (1..=100)
        .flat_map(|id| subscribe(V311, id, &[(&bench.topic(&id.to_string()), id as u8 % 3)]))
        .collect();
    client.send(&all);
    let mut answered: Vec<_> = (1..=100).map(|_| client.next()).collect();
    answered.sort_by_key(|got| match got {
        Got::Suback(id, _) => *id,
        other => panic!("{other:?}"),
    });
    for (got, id) in answered.into_iter().zip(1u16..) {
        assert_eq!(got, Got::Suback(id, vec![id as u8 % 3]));
    }
}

fn subscribing_again_replaces_the_qos(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    for clean in [true, false] {
        let session = connect(V311, &bench.id("s")).clean(clean);
        let mut client = bench.client(&session);
        for filter in [topic.clone(), bench.topic("+")] {
            for qos in [2, 0, 1, 1] {
                client.subscribe(&filter, qos);
                publisher.publish(&publish(&topic, "x", 2, 1));
                client.expect_message(&topic, "x", qos, false);
                client.expect_nothing_from(&mut publisher);
            }
            client.unsubscribe(&filter);
        }
        client.disconnect();
        bench.client(&session.clean(true)).disconnect();
    }
}

fn subscribing_again_sends_what_is_retained_again(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&topic, "kept", 1, 1).retain());
    for clean in [true, false] {
        let session = connect(V311, &bench.id("s")).clean(clean);
        let mut client = bench.client(&session);
        for _ in 0..3 {
            client.subscribe(&topic, 1);
            client.expect_message(&topic, "kept", 1, true);
        }
        client.expect_nothing_from(&mut publisher);
        client.disconnect();
        bench.client(&session.clean(true)).disconnect();
    }
    publisher.publish(&publish(&topic, "", 1, 1).retain());
}

fn subscribing_again_interrupts_nothing(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    for clean in [true, false] {
        let session = connect(V311, &bench.id("s")).clean(clean);
        let mut client = bench.client(&session);
        client.subscribe(&topic, 1);
        let (mut sent, mut next) = (0, 0);
        for round in 1..=60 {
            for half in 0..2 {
                let five: Vec<u8> = (sent..sent + 5)
                    .flat_map(|n| publish(&topic, &n.to_string(), 1, 1 + n).bytes(V311))
                    .collect();
                publisher.send(&five);
                sent += 5;
                if half == 0 {
                    // Between messages that are under way.
                    client.send(&subscribe(V311, round, &[(&topic, 1)]));
                }
            }
            let mut is_answered = false;
            while next < sent || !is_answered {
                match client.next() {
                    Got::Publish(message) => {
                        assert_eq!(message.payload, next.to_string().as_bytes());
                        client.acknowledge(&message);
                        next += 1;
                    }
                    got => {
                        assert_eq!(got, Got::Suback(round, vec![1]));
                        is_answered = true;
                    }
                }
            }
            for n in sent - 10..sent {
                publisher.expect_ack(PUBACK, 1 + n);
            }
        }
        client.expect_nothing_from(&mut publisher);
        client.disconnect();
        bench.client(&session.clean(true)).disconnect();
    }
}

fn subscribing_again_by_an_absent_client_loses_nothing(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 1);
    client.disconnect();
    let mut publisher = bench.clean(V311, "p");
    for n in 1..=40 {
        publisher.publish(&publish(&topic, &n.to_string(), 1, n));
    }
    // More than the window: some wait while the subscription is replaced.
    let mut client = bench.socket();
    client.say_connect(&session);
    client.send(&subscribe(V311, 1, &[(&topic, 2)]));
    let (mut next, mut subacks, mut connacks) = (1, 0, 0);
    while next <= 40 || subacks < 1 {
        match client.next() {
            Got::Connack {
                present: true,
                code: 0,
                ..
            } => connacks += 1,
            Got::Suback(1, codes) if codes == [2] => subacks += 1,
            Got::Publish(message) => {
                assert_eq!(message.payload, next.to_string().as_bytes());
                client.acknowledge(&message);
                next += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((subacks, connacks), (1, 1));
    client.expect_nothing_from(&mut publisher);
    client.disconnect();
    bench.client(&session.clean(true)).disconnect();
}

fn many_filters_are_like_many_packets(bench: &Bench<'_>) {
    let names: Vec<String> = (0..200).map(|n| bench.topic(&n.to_string())).collect();
    let filters: Vec<(&str, u8)> = names
        .iter()
        .enumerate()
        .map(|(n, name)| (&**name, n as u8 % 3))
        .collect();
    let mut client = bench.clean(V311, "c");
    client.send(&subscribe(V311, 1, &filters));
    client.expect(Got::Suback(
        1,
        filters.iter().map(|(_, qos)| *qos).collect(),
    ));
    let mut publisher = bench.clean(V311, "p");
    for (name, qos) in &filters {
        publisher.publish(&publish(name, name, 2, 1));
        client.expect_message(name, name, *qos, false);
    }
    client.expect_nothing_from(&mut publisher);
}

fn the_last_of_two_equal_filters_holds(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    for clean in [true, false] {
        let session = connect(V311, &bench.id("s")).clean(clean);
        let mut client = bench.client(&session);
        let filters = [(&*topic, 2), (&*topic, 0), (&*topic, 1)];
        client.send(&subscribe(V311, 1, &filters));
        client.expect(Got::Suback(1, vec![2, 0, 1]));
        publisher.publish(&publish(&topic, "x", 2, 1));
        client.expect_message(&topic, "x", 1, false);
        client.expect_nothing_from(&mut publisher);
        client.disconnect();
        bench.client(&session.clean(true)).disconnect();
    }
}

fn each_filter_gets_what_is_retained_for_it(bench: &Bench<'_>) {
    let (a, b) = (bench.topic("a"), bench.topic("b"));
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&a, "A", 2, 1).retain());
    publisher.publish(&publish(&b, "B", 2, 1).retain());
    let mut client = bench.clean(V311, "c");
    client.send(&subscribe(V311, 1, &[(&a, 0), (&b, 1)]));
    client.expect(Got::Suback(1, vec![0, 1]));
    let mut got = [client.receive(), client.receive()];
    got.sort_by(|a, b| a.topic.cmp(&b.topic));
    let seen = got.map(|m| (m.topic, m.payload, m.qos, m.retain));
    assert_eq!(seen[0], (a.clone(), b"A".to_vec(), 0, true));
    assert_eq!(seen[1], (b.clone(), b"B".to_vec(), 1, true));
    publisher.publish(&publish(&a, "", 1, 1).retain());
    publisher.publish(&publish(&b, "", 1, 1).retain());
}

fn there_is_a_code_for_each_filter_in_their_order(bench: &Bench<'_>) {
    let names = ["a", "b", "+", "#", "c/+/#", "d"].map(|name| bench.topic(name));
    for codes in [[0, 1, 2, 0, 1, 2], [2, 2, 0, 0, 1, 1], [1, 0, 1, 2, 2, 0]] {
        let filters: Vec<(&str, u8)> = names.iter().map(|n| &**n).zip(codes).collect();
        let mut client = bench.clean(V311, "c");
        client.send(&subscribe(V311, 7, &filters));
        client.expect(Got::Suback(7, codes.to_vec()));
    }
}

fn a_message_comes_at_the_lower_of_both_qos(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    for clean in [true, false] {
        for granted in 0..3 {
            let session = connect(V311, &bench.id("s")).clean(clean);
            let mut client = bench.client(&session);
            client.subscribe(&topic, granted);
            for sent in 0..3 {
                publisher.publish(&publish(&topic, "x", sent, 1));
                client.expect_message(&topic, "x", sent.min(granted), false);
            }
            client.expect_nothing_from(&mut publisher);
            client.disconnect();
            bench.client(&session.clean(true)).disconnect();
        }
    }
}

fn a_lower_qos_is_granted_where_it_is_the_highest(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.client(&connect(V311, &bench.id("c")).keep_alive(10));
    client.send(&subscribe(V311, 1, &[(&topic, 2), (&bench.topic("u"), 0)]));
    client.expect(Got::Suback(1, vec![1, 0]));
    client.publish(&publish(&topic, "x", 1, 1));
    client.expect_message(&topic, "x", 1, false);
}

/// They may come before it or behind it, but come they must: the subscription holds once SUBACK is there.
fn a_subscription_may_have_messages_before_its_suback(bench: &Bench<'_>) {
    let mut publisher = bench.clean(V311, "p");
    for n in 0..30 {
        let topic = bench.topic(&n.to_string());
        let mut client = bench.clean(V311, "c");
        client.send(&subscribe(V311, 1, &[(&topic, 1)]));
        publisher.publish(&publish(&topic, "early", 1, 1));
        let mut early = 0;
        loop {
            match client.next() {
                Got::Publish(got) => {
                    assert_eq!(got.payload, b"early");
                    client.acknowledge(&got);
                    early += 1;
                }
                got => {
                    assert_eq!(got, Got::Suback(1, vec![1]));
                    break;
                }
            }
        }
        publisher.publish(&publish(&topic, "late", 1, 1));
        let mut got = client.receive();
        if early == 0 && got.payload == b"early" {
            got = client.receive();
        }
        assert_eq!(got.payload, b"late");
    }
}
