//! Chapters 3.10 and 3.11: UNSUBSCRIBE and UNSUBACK.

use super::expect_end_at;
use crate::wire::{
    Got, PUBACK, PUBCOMP, PUBREC, PUBREL, V311, ack, connect, packet, publish, subscribe, text,
    unsubscribe,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(an_unsubscribe_without_a_filter_closes).checks(&["MQTT-3.10.3-2", "MQTT-4.8.0-1"]),
    test!(a_filter_that_is_cut_short_closes).checks(&["MQTT-3.10.3-1"]),
    test!(only_the_same_characters_are_the_same_filter).checks(&["MQTT-3.10.4-1"]),
    test!(the_other_of_two_overlapping_filters_stays).checks(&["MQTT-3.10.4-1"]),
    test!(nothing_new_comes_behind_unsuback).checks(&["MQTT-3.10.4-2", "MQTT-3.10.4-4"]),
    test!(nothing_new_comes_to_an_absent_client_that_unsubscribed).checks(&["MQTT-3.10.4-2"]),
    test!(what_was_begun_is_finished).checks(&["MQTT-3.10.4-3"]),
    test!(what_was_begun_is_finished_in_the_next_connection)
        .checks(&["MQTT-3.10.4-3", "MQTT-4.4.0-1"]),
    test!(unsuback_has_the_id_and_nothing_else).checks(&["MQTT-3.10.4-4"]),
    test!(unsuback_comes_though_nothing_was_subscribed).checks(&["MQTT-3.10.4-5"]),
    test!(many_filters_are_unsubscribed_with_one_packet).checks(&["MQTT-3.10.4-6"]),
    test!(subscribing_anew_behind_unsubscribing_holds).checks(&["MQTT-3.10.4-1"]),
];

fn an_unsubscribe_without_a_filter_closes(bench: &Bench<'_>) {
    expect_end_at(&mut bench.clean(V311, "c"), &packet(0xa2, &[0, 1]));
}

fn a_filter_that_is_cut_short_closes(bench: &Bench<'_>) {
    let filter = text(&bench.topic("t"));
    for body in [
        &[0, 1, 0][..],
        &[0, 1, 0, 5, b'a'],
        &[&[0, 1], &filter[..], &[0]].concat(),
        &[&[0, 1], &filter[..filter.len() - 1]].concat(),
        // Of no characters.
        &[0, 1, 0, 0],
    ] {
        expect_end_at(&mut bench.clean(V311, "c"), &packet(0xa2, body));
    }
}

fn only_the_same_characters_are_the_same_filter(bench: &Bench<'_>) {
    let topic = bench.topic("a/b");
    let mut publisher = bench.clean(V311, "p");
    for clean in [true, false] {
        let session = connect(V311, &bench.id("s")).clean(clean);
        let mut client = bench.client(&session);
        for (filter, others) in [
            (
                "a/b",
                &["a/+", "#", "A/b", "a/b/", "/a/b", "a//b", "a/b/#", "a"][..],
            ),
            ("a/+", &["a/b", "+/b", "a/#", "a"]),
            ("a/#", &["a/b", "a", "#", "a/+"]),
            ("+/b", &["a/b", "b", "+/+"]),
        ] {
            client.subscribe(&bench.topic(filter), 1);
            for other in others {
                client.unsubscribe(&bench.topic(other));
            }
            publisher.publish(&publish(&topic, filter, 1, 1));
            client.expect_message(&topic, filter, 1, false);
            client.unsubscribe(&bench.topic(filter));
            publisher.publish(&publish(&topic, filter, 1, 1));
            client.expect_nothing_from(&mut publisher);
        }
        client.disconnect();
        bench.client(&session.clean(true)).disconnect();
    }
}

fn the_other_of_two_overlapping_filters_stays(bench: &Bench<'_>) {
    let topic = bench.topic("a/b");
    let mut client = bench.clean(V311, "s");
    let mut publisher = bench.clean(V311, "p");
    client.subscribe(&bench.topic("a/+"), 1);
    client.subscribe(&topic, 2);
    client.unsubscribe(&topic);
    publisher.publish(&publish(&topic, "x", 2, 1));
    client.expect_message(&topic, "x", 1, false);
    client.expect_nothing_from(&mut publisher);
}

fn nothing_new_comes_behind_unsuback(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    for qos in 0..3 {
        for filter in [topic.clone(), bench.topic("+"), bench.topic("#")] {
            let mut client = bench.clean(V311, "c");
            client.subscribe(&filter, qos);
            publisher.publish(&publish(&topic, "x", qos, 1));
            client.expect_message(&topic, "x", qos, false);
            client.unsubscribe(&filter);
            for sent in 0..3 {
                publisher.publish(&publish(&topic, "late", sent, 1));
            }
            client.expect_nothing_from(&mut publisher);
        }
    }
}

fn nothing_new_comes_to_an_absent_client_that_unsubscribed(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 2);
    client.unsubscribe(&topic);
    client.disconnect();
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&topic, "x", 1, 1));
    let mut client = bench.client(&session);
    publisher.publish(&publish(&topic, "x", 0, 0));
    publisher.publish(&publish(&topic, "x", 2, 2));
    client.expect_nothing_from(&mut publisher);
    client.disconnect();
    bench.client(&session.clean(true)).disconnect();
}

fn what_was_begun_is_finished(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V311, "c");
    let mut publisher = bench.clean(V311, "p");
    client.subscribe(&topic, 2);
    for qos in [1, 2, 2] {
        publisher.publish(&publish(&topic, "begun", qos, 1));
    }
    let [one, two, three] = [client.message(), client.message(), client.message()];
    client.send(&ack(PUBREC, three.id));
    client.expect_ack(PUBREL, three.id);
    client.unsubscribe(&topic);
    client.send(&ack(PUBACK, one.id));
    client.send(&ack(PUBREC, two.id));
    client.expect_ack(PUBREL, two.id);
    client.send(&ack(PUBCOMP, two.id));
    client.send(&ack(PUBCOMP, three.id));
    client.expect_nothing_from(&mut publisher);
}

fn what_was_begun_is_finished_in_the_next_connection(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    let mut publisher = bench.clean(V311, "p");
    client.subscribe(&topic, 2);
    for qos in [1, 2] {
        publisher.publish(&publish(&topic, "begun", qos, 1));
    }
    let begun = [client.message(), client.message()];
    client.unsubscribe(&topic);
    client.drop_connection();
    publisher.publish(&publish(&topic, "late", 1, 1));
    let mut client = bench.client(&session);
    for message in &begun {
        assert_eq!(client.message(), message.clone().dup());
    }
    for message in &begun {
        client.acknowledge(message);
    }
    client.expect_nothing_from(&mut publisher);
    client.disconnect();
    bench.client(&session.clean(true)).disconnect();
}

fn unsuback_has_the_id_and_nothing_else(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V311, "c");
    for id in [1, 0x00ff, 0x0100, 0xffff] {
        client.subscribe(&topic, 1);
        client.send(&unsubscribe(V311, id, &[&topic]));
        let [high, low] = id.to_be_bytes();
        client.expect_bytes(&[0xb0, 2, high, low]);
    }
}

fn unsuback_comes_though_nothing_was_subscribed(bench: &Bench<'_>) {
    for clean in [true, false] {
        let session = connect(V311, &bench.id("c")).clean(clean);
        let mut client = bench.client(&session);
        client.send(&unsubscribe(V311, 9, &[&bench.topic("a")]));
        client.expect_bytes(&[0xb0, 2, 0, 9]);
        let filters = [&*bench.topic("a"), &bench.topic("+"), &bench.topic("#")];
        client.send(&unsubscribe(V311, 10, &filters));
        client.expect_bytes(&[0xb0, 2, 0, 10]);
        client.disconnect();
        bench.client(&session.clean(true)).disconnect();
    }
}

fn many_filters_are_unsubscribed_with_one_packet(bench: &Bench<'_>) {
    let names: Vec<String> = (0..150).map(|n| bench.topic(&n.to_string())).collect();
    let mut publisher = bench.clean(V311, "p");
    for clean in [true, false] {
        let session = connect(V311, &bench.id("c")).clean(clean);
        let mut client = bench.client(&session);
        let filters: Vec<(&str, u8)> = names.iter().map(|n| (&**n, 1)).collect();
        client.send(&subscribe(V311, 1, &filters));
        client.expect(Got::Suback(1, vec![1; 150]));
        // All but the last, and one that was never subscribed.
        let gone: Vec<&str> = names[..149]
            .iter()
            .map(|n| &**n)
            .chain(["nothing"])
            .collect();
        client.send(&unsubscribe(V311, 2, &gone));
        client.expect_bytes(&[0xb0, 2, 0, 2]);
        for name in &names {
            publisher.publish(&publish(name, "x", 1, 1));
        }
        client.expect_message(&names[149], "x", 1, false);
        client.expect_nothing_from(&mut publisher);
        client.disconnect();
        bench.client(&session.clean(true)).disconnect();
    }
}

fn subscribing_anew_behind_unsubscribing_holds(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    let mut client = bench.clean(V311, "c");
    for n in 0..20 {
        let mut bytes = subscribe(V311, 1, &[(&topic, 1)]);
        bytes.extend(unsubscribe(V311, 2, &[&topic]));
        bytes.extend(subscribe(V311, 3, &[(&topic, 2)]));
        client.send(&bytes);
        let mut got = [client.next(), client.next(), client.next()];
        got.sort_by_key(|got| match got {
            Got::Suback(id, _) | Got::Unsuback(id, _) => *id,
            other => panic!("{other:?}"),
        });
        let expected = [
            Got::Suback(1, vec![1]),
            Got::Unsuback(2, vec![]),
            Got::Suback(3, vec![2]),
        ];
        assert_eq!(got, expected);
        publisher.publish(&publish(&topic, &n.to_string(), 2, 1));
        client.expect_message(&topic, &n.to_string(), 2, false);
    }
}
