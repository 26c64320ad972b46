//! Properties of 5.0: forwarded as they came, counted down, numbered, aliased.

use crate::wire::{Got, Publish, V5, V311, connect, property, publish, subscribe_with};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(properties_are_forwarded_in_their_order),
    test!(clients_of_3_get_the_message_without_them),
    test!(a_message_that_expires_at_once_reaches_who_is_there),
    test!(a_stored_session_keeps_its_subscription_identifier),
    test!(overlapping_identifiers_come_in_one_copy).original_breaks("sends a copy for each"),
    test!(a_large_set_of_properties_comes_whole),
];

fn everything() -> Vec<Vec<u8>> {
    vec![
        property::user("first", "1"),
        property::response_topic("answer/here"),
        property::payload_format(1),
        property::correlation_data(&[0, 1, 2, 255]),
        property::user("second", ""),
        property::content_type("text/plain"),
        property::user("first", "3"),
    ]
}

fn with(message: Publish, properties: &[Vec<u8>]) -> Publish {
    Publish {
        properties: properties.to_vec(),
        ..message
    }
}

fn properties_are_forwarded_in_their_order(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&topic, 2);
    let mut publisher = bench.clean(V5, "p");
    let mut properties = everything();
    for qos in 0..3 {
        for _ in 0..properties.len() {
            properties.rotate_left(1);
            publisher.publish(&with(publish(&topic, "x", qos, 1), &properties));
            let got = subscriber.expect_message(&topic, "x", qos, false);
            assert_eq!(got.properties.concat(), properties.concat());
        }
    }
}

fn clients_of_3_get_the_message_without_them(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 1);
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&with(publish(&topic, "x", 1, 1), &everything()));
    subscriber.expect_bytes(&publish(&topic, "x", 1, 1).bytes(V311));
}

fn a_message_that_expires_at_once_reaches_who_is_there(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V5, "p");
    for (version, name) in [(V311, "s3"), (V5, "s5")] {
        let mut subscriber = bench.clean(version, name);
        subscriber.subscribe(&topic, 1);
        for qos in 0..2 {
            let at_once = [property::message_expiry(0)];
            publisher.publish(&with(publish(&topic, "x", qos, 1), &at_once));
            let got = subscriber.expect_message(&topic, "x", qos, false);
            // The original leaves the property out: there it means never.
            assert!(got.properties.is_empty() || got.properties[0] == at_once[0]);
        }
    }
}

fn a_stored_session_keeps_its_subscription_identifier(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V5, &bench.id("s")).persistent();
    let number = property::subscription_identifier(7);
    let mut subscriber = bench.client(&session);
    subscriber.send(&subscribe_with(
        V5,
        1,
        std::slice::from_ref(&number),
        &[(&topic, 2)],
    ));
    subscriber.expect(Got::Suback(1, vec![2]));
    subscriber.disconnect();
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&topic, "x", 2, 1));
    publisher.publish(&publish(&topic, "x", 1, 1));
    let mut subscriber = bench.client(&session);
    for _ in 0..2 {
        assert_eq!(subscriber.receive().properties.concat(), number);
    }
    subscriber.unsubscribe(&topic);
}

fn overlapping_identifiers_come_in_one_copy(bench: &Bench<'_>) {
    for persistent in [false, true] {
        let session = connect(V5, &bench.id(&persistent.to_string()));
        let session = if persistent {
            session.persistent()
        } else {
            session
        };
        let mut subscriber = bench.client(&session);
        let numbers = [1, 2, 3].map(property::subscription_identifier);
        for (number, filter) in numbers.iter().zip(["a/b", "a/+", "#"]) {
            let filter = bench.topic(filter);
            subscriber.send(&subscribe_with(
                V5,
                1,
                std::slice::from_ref(number),
                &[(&filter, 1)],
            ));
            subscriber.expect(Got::Suback(1, vec![1]));
        }
        let mut publisher = bench.clean(V5, "p");
        publisher.publish(&publish(&bench.topic("a/b"), "x", 1, 1));
        let got = subscriber.receive().properties.concat();
        let mut identifiers: Vec<&[u8]> = got.chunks(2).collect();
        identifiers.sort_unstable();
        assert_eq!(identifiers, numbers);
        for filter in ["a/b", "a/+", "#"] {
            subscriber.unsubscribe(&bench.topic(filter));
        }
    }
}

fn a_large_set_of_properties_comes_whole(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V5, &bench.id("stored")).persistent();
    let mut stored = bench.client(&session);
    stored.subscribe(&topic, 2);
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&topic, 2);
    let properties: Vec<Vec<u8>> = (0..20)
        .map(|n| property::user(&format!("name {n}"), &"value ".repeat(2000 + n)))
        .collect();
    let mut publisher = bench.clean(V5, "p");
    for qos in 1..3 {
        publisher.publish(&with(publish(&topic, "x", qos, 1), &properties));
        for receiver in [&mut stored, &mut subscriber] {
            assert!(receiver.receive().properties.concat() == properties.concat());
        }
    }
    stored.unsubscribe(&topic);
}
