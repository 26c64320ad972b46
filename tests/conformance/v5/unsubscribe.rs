//! 3.10 and 3.11: UNSUBSCRIBE and UNSUBACK.

use super::{MALFORMED, closes, stored};
use crate::wire::{
    Got, PUBACK, PUBCOMP, PUBREC, PUBREL, V5, ack, connect, packet, publish, unsubscribe,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(other_flags_close).checks(&["MQTT-3.10.1-1"]),
    test!(an_unsubscribe_of_nothing_closes).checks(&["MQTT-3.10.3-2"]),
    test!(filters_are_compared_exactly).checks(&["MQTT-3.10.4-1"]),
    test!(nothing_is_added_any_more).checks(&["MQTT-3.10.4-2"]),
    test!(nothing_is_added_to_a_stored_session).checks(&["MQTT-3.10.4-2"]),
    test!(what_was_begun_is_finished).checks(&["MQTT-3.10.4-3"]),
    test!(what_was_begun_is_finished_in_the_next_connection).checks(&["MQTT-3.10.4-3"]),
    test!(unsubscribe_is_answered).checks(&["MQTT-3.10.4-4", "MQTT-3.10.4-5"]),
    test!(many_filters_have_one_answer).checks(&[
        "MQTT-3.10.4-6",
        "MQTT-3.11.3-1",
        "MQTT-3.11.3-2",
    ]),
];

fn other_flags_close(bench: &Bench<'_>) {
    let body = unsubscribe(V5, 1, &[&bench.topic("t")])[2..].to_vec();
    for flags in (0..16).filter(|flags| *flags != 2) {
        closes(bench, &packet(0xa0 | flags, &body), MALFORMED);
    }
}

fn an_unsubscribe_of_nothing_closes(bench: &Bench<'_>) {
    closes(bench, &packet(0xa2, &[0, 1, 0]), MALFORMED);
}

fn filters_are_compared_exactly(bench: &Bench<'_>) {
    let topic = bench.topic("a/b");
    let mut subscriber = bench.clean(V5, "s");
    let mut publisher = bench.clean(V5, "p");
    subscriber.subscribe(&topic, 1);
    for other in ["a/+", "#", "a/B", "a/b/", "/a/b", "a/b/#"] {
        subscriber.send(&unsubscribe(V5, 1, &[&bench.topic(other)]));
        subscriber.expect(Got::Unsuback(1, vec![0x11]));
    }
    publisher.publish(&publish(&topic, "x", 1, 1));
    subscriber.expect_message(&topic, "x", 1, false);
    subscriber.send(&unsubscribe(V5, 1, &[&topic]));
    subscriber.expect(Got::Unsuback(1, vec![0]));
    publisher.publish(&publish(&topic, "x", 1, 1));
    subscriber.expect_nothing_from(&mut publisher);
}

fn nothing_is_added_any_more(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V5, "p");
    for qos in 0..3 {
        let mut subscriber = bench.clean(V5, &format!("s{qos}"));
        // Another subscription that matches stays.
        let other = bench.topic("other");
        subscriber.subscribe(&topic, qos);
        subscriber.subscribe(&other, qos);
        publisher.publish(&publish(&topic, "x", qos, 1));
        subscriber.expect_message(&topic, "x", qos, false);
        subscriber.unsubscribe(&topic);
        publisher.publish(&publish(&topic, "y", qos, 1));
        publisher.publish(&publish(&other, "z", qos, 1));
        subscriber.expect_message(&other, "z", qos, false);
    }
}

fn nothing_is_added_to_a_stored_session(bench: &Bench<'_>) {
    let (topic, session) = (bench.topic("t"), stored(bench, "s"));
    let mut subscriber = bench.client(&session);
    subscriber.subscribe(&topic, 2);
    subscriber.unsubscribe(&topic);
    subscriber.disconnect();
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&topic, "x", 2, 1));
    let mut subscriber = bench.client(&session);
    publisher.publish(&publish(&topic, "x", 0, 0));
    subscriber.expect_nothing_from(&mut publisher);
}

fn what_was_begun_is_finished(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for session in [connect(V5, &bench.id("clean")), stored(bench, "stored")] {
        let mut subscriber = bench.client(&session);
        subscriber.subscribe(&topic, 2);
        let mut publisher = bench.clean(V5, "p");
        publisher.publish(&publish(&topic, "one", 1, 1));
        publisher.publish(&publish(&topic, "two", 2, 1));
        let (one, two) = (subscriber.message(), subscriber.message());
        subscriber.unsubscribe(&topic);
        subscriber.send(&ack(PUBACK, one.id));
        subscriber.send(&ack(PUBREC, two.id));
        subscriber.expect(Got::Ack(PUBREL, two.id, 0));
        subscriber.send(&ack(PUBCOMP, two.id));
        subscriber.expect_nothing_from(&mut publisher);
    }
}

fn what_was_begun_is_finished_in_the_next_connection(bench: &Bench<'_>) {
    let (topic, session) = (bench.topic("t"), stored(bench, "s"));
    let mut subscriber = bench.client(&session);
    subscriber.subscribe(&topic, 2);
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&topic, "one", 1, 1));
    publisher.publish(&publish(&topic, "two", 2, 1));
    let sent = [subscriber.message(), subscriber.message()];
    subscriber.unsubscribe(&topic);
    subscriber.drop_connection();
    let mut subscriber = bench.client(&session);
    for message in sent {
        assert_eq!(subscriber.message(), message.clone().dup());
        subscriber.acknowledge(&message);
    }
    subscriber.expect_nothing_from(&mut publisher);
}

fn unsubscribe_is_answered(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V5, "c");
    client.subscribe(&topic, 0);
    for (id, code) in [(1, 0), (2, 0x11), (0xffff, 0x11)] {
        client.send(&unsubscribe(V5, id, &[&topic]));
        client.expect(Got::Unsuback(id, vec![code]));
    }
}

fn many_filters_have_one_answer(bench: &Bench<'_>) {
    let names: Vec<String> = (0..300).map(|n| bench.topic(&n.to_string())).collect();
    for session in [connect(V5, &bench.id("clean")), stored(bench, "stored")] {
        let mut client = bench.client(&session);
        for name in names.iter().step_by(3) {
            client.subscribe(name, 1);
        }
        let filters: Vec<&str> = names.iter().map(|name| &**name).collect();
        client.send(&unsubscribe(V5, 9, &filters));
        let codes = (0..300).map(|n| if n % 3 == 0 { 0 } else { 0x11 });
        client.expect(Got::Unsuback(9, codes.collect()));
        let mut publisher = bench.clean(V5, "p");
        publisher.publish(&publish(&names[0], "x", 1, 1));
        client.expect_nothing_from(&mut publisher);
        // One after the other: what the first one deletes is not there for the second.
        client.subscribe(&names[0], 1);
        client.send(&unsubscribe(V5, 10, &[&names[0], &names[0]]));
        client.expect(Got::Unsuback(10, vec![0, 0x11]));
    }
}
