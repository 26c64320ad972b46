//! Properties of 5.0: forwarded as they came, counted down, numbered, aliased.

use std::time::{Duration, Instant};

use crate::wire::{Got, PUBACK, Publish, V5, V311, connect, property, publish, subscribe_with};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(properties_are_forwarded_in_their_order),
    test!(properties_are_forwarded_through_a_stored_session),
    test!(clients_of_3_get_the_message_without_them),
    test!(user_properties_may_repeat),
    test!(the_expiry_is_counted_down),
    test!(an_expired_message_is_not_delivered),
    test!(a_message_that_expires_at_once_reaches_who_is_there),
    test!(what_waits_for_the_window_expires_too).original_breaks("stops delivering"),
    test!(the_subscription_identifier_comes_with_the_message),
    test!(a_stored_session_keeps_its_subscription_identifier),
    test!(overlapping_identifiers_come_in_one_copy).original_breaks("sends a copy for each"),
    test!(a_subscription_without_identifier_replaces_it),
    test!(an_alias_stands_for_its_topic),
    test!(an_alias_is_of_one_connection),
    test!(an_alias_can_be_set_anew),
    test!(aliases_are_not_forwarded),
    test!(a_request_is_answered),
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

fn properties_are_forwarded_through_a_stored_session(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V5, &bench.id("s")).persistent();
    let mut subscriber = bench.client(&session);
    subscriber.subscribe(&topic, 2);
    subscriber.disconnect();
    let mut publisher = bench.clean(V5, "p");
    for qos in 1..3 {
        publisher.publish(&with(publish(&topic, "x", qos, 1), &everything()));
    }
    let mut subscriber = bench.client(&session);
    for qos in 1..3 {
        let got = subscriber.expect_message(&topic, "x", qos, false);
        assert_eq!(got.properties.concat(), everything().concat());
    }
    subscriber.unsubscribe(&topic);
}

fn clients_of_3_get_the_message_without_them(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 1);
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&with(publish(&topic, "x", 1, 1), &everything()));
    subscriber.expect_bytes(&publish(&topic, "x", 1, 1).bytes(V311));
}

fn user_properties_may_repeat(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&topic, 1);
    let properties: Vec<Vec<u8>> = (0..50)
        .map(|n| property::user("same", &n.to_string()))
        .collect();
    bench
        .clean(V5, "p")
        .publish(&with(publish(&topic, "x", 1, 1), &properties));
    assert_eq!(
        subscriber.receive().properties.concat(),
        properties.concat()
    );
}

/// The seconds that a message has left.
fn expiry(message: &Publish) -> u32 {
    let properties = message.properties.concat();
    assert_eq!(properties[0], 2, "{properties:02x?}");
    u32::from_be_bytes(properties[1..5].try_into().unwrap())
}

fn the_expiry_is_counted_down(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V5, &bench.id("s")).persistent();
    let mut subscriber = bench.client(&session);
    subscriber.subscribe(&topic, 1);
    let mut publisher = bench.clean(V5, "p");
    let message = with(publish(&topic, "x", 1, 1), &[property::message_expiry(100)]);
    publisher.publish(&message);
    let left = expiry(&subscriber.receive());
    assert!((99..=100).contains(&left), "{left}");
    subscriber.disconnect();
    publisher.publish(&message);
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(2100));
    let mut subscriber = bench.client(&session);
    let left = expiry(&subscriber.receive());
    let most = 100 - start.elapsed().as_secs() as u32 + 3;
    assert!((90..=98).contains(&left) && left <= most, "{left}");
    subscriber.unsubscribe(&topic);
}

fn an_expired_message_is_not_delivered(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V5, &bench.id("s")).persistent();
    let mut subscriber = bench.client(&session);
    subscriber.subscribe(&topic, 1);
    subscriber.disconnect();
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&with(
        publish(&topic, "short", 1, 1),
        &[property::message_expiry(1)],
    ));
    publisher.publish(&with(
        publish(&topic, "long", 1, 1),
        &[property::message_expiry(1000)],
    ));
    publisher.publish(&publish(&topic, "for ever", 1, 1));
    std::thread::sleep(Duration::from_millis(2200));
    let mut subscriber = bench.client(&session);
    subscriber.expect_message(&topic, "long", 1, false);
    subscriber.expect_message(&topic, "for ever", 1, false);
    subscriber.unsubscribe(&topic);
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

fn what_waits_for_the_window_expires_too(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let narrow = connect(V5, &bench.id("s")).property(property::receive_maximum(1));
    let mut subscriber = bench.client(&narrow);
    subscriber.subscribe(&topic, 1);
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&topic, "first", 1, 1));
    publisher.publish(&with(
        publish(&topic, "short", 1, 1),
        &[property::message_expiry(1)],
    ));
    publisher.publish(&publish(&topic, "last", 1, 1));
    let first = subscriber.message();
    std::thread::sleep(Duration::from_millis(2200));
    subscriber.acknowledge(&first);
    subscriber.expect_message(&topic, "last", 1, false);
}

fn the_subscription_identifier_comes_with_the_message(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V5, "s");
    let mut publisher = bench.clean(V5, "p");
    for identifier in [1, 127, 128, 16_383, 16_384, 268_435_455] {
        let number = property::subscription_identifier(identifier);
        subscriber.send(&subscribe_with(
            V5,
            1,
            std::slice::from_ref(&number),
            &[(&topic, 2)],
        ));
        subscriber.expect(Got::Suback(1, vec![2]));
        for qos in 0..3 {
            publisher.publish(&publish(&topic, "x", qos, 1));
            assert_eq!(subscriber.receive().properties.concat(), number);
        }
    }
    let number = property::subscription_identifier(268_435_455);
    let sent = property::user("a", "b");
    publisher.publish(&with(
        publish(&topic, "x", 1, 1),
        std::slice::from_ref(&sent),
    ));
    let got = subscriber.receive().properties.concat();
    // The place among the others is free.
    assert!(got == [&*sent, &*number].concat() || got == [&*number, &*sent].concat());
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

fn a_subscription_without_identifier_replaces_it(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V5, "s");
    let number = property::subscription_identifier(7);
    subscriber.send(&subscribe_with(V5, 1, &[number], &[(&topic, 1)]));
    subscriber.expect(Got::Suback(1, vec![1]));
    subscriber.subscribe(&topic, 1);
    bench.clean(V5, "p").publish(&publish(&topic, "x", 1, 1));
    assert_eq!(subscriber.receive().properties.concat(), []);
}

fn an_alias_stands_for_its_topic(bench: &Bench<'_>) {
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&bench.topic("#"), 2);
    let mut publisher = bench.clean(V5, "p");
    for alias in 1..=10 {
        let topic = bench.topic(&alias.to_string());
        let set = property::topic_alias(alias);
        publisher.publish(&with(
            publish(&topic, "set", 1, 1),
            std::slice::from_ref(&set),
        ));
        subscriber.expect_message(&topic, "set", 1, false);
    }
    for qos in 0..3 {
        for alias in 1..=10 {
            let topic = bench.topic(&alias.to_string());
            let used = [property::topic_alias(alias)];
            publisher.publish(&with(publish("", "used", qos, 1), &used));
            subscriber.expect_message(&topic, "used", qos, false);
        }
    }
}

fn an_alias_is_of_one_connection(bench: &Bench<'_>) {
    let session = connect(V5, &bench.id("p")).persistent();
    let set = [property::topic_alias(3)];
    let mut publisher = bench.client(&session);
    publisher.publish(&with(publish(&bench.topic("t"), "x", 1, 1), &set));
    publisher.disconnect();
    let mut publisher = bench.client(&session);
    publisher.send(&with(publish("", "x", 1, 2), &set).bytes(V5));
    match publisher.try_next() {
        None => {}
        Some(Got::Disconnect(code)) => assert!(code == 0x82 || code == 0x94, "{code:#x}"),
        other => panic!("{other:?}"),
    }
}

fn an_alias_can_be_set_anew(bench: &Bench<'_>) {
    let (a, b) = (bench.topic("a"), bench.topic("b"));
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&bench.topic("+"), 1);
    let mut publisher = bench.clean(V5, "p");
    let alias = [property::topic_alias(1)];
    for topic in [&a, &b, &a] {
        publisher.publish(&with(publish(topic, "set", 1, 1), &alias));
        subscriber.expect_message(topic, "set", 1, false);
        publisher.publish(&with(publish("", "used", 1, 1), &alias));
        subscriber.expect_message(topic, "used", 1, false);
    }
}

fn aliases_are_not_forwarded(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&topic, 1);
    let sent = [
        property::user("a", "b"),
        property::topic_alias(1),
        property::content_type("c"),
    ];
    bench
        .clean(V5, "p")
        .publish(&with(publish(&topic, "x", 1, 1), &sent));
    let kept = [property::user("a", "b"), property::content_type("c")];
    assert_eq!(subscriber.receive().properties.concat(), kept.concat());
}

fn a_request_is_answered(bench: &Bench<'_>) {
    let (question, answer) = (bench.topic("question"), bench.topic("answer"));
    let mut server = bench.clean(V5, "server");
    server.subscribe(&question, 1);
    let mut client = bench.clean(V5, "client");
    client.subscribe(&answer, 1);
    let asked = [
        property::response_topic(&answer),
        property::correlation_data(b"42"),
    ];
    client.send(&with(publish(&question, "?", 1, 1), &asked).bytes(V5));
    client.expect(Got::Ack(PUBACK, 1, 0));
    assert_eq!(server.receive().properties.concat(), asked.concat());
    server.publish(&with(publish(&answer, "!", 1, 1), &asked[1..]));
    assert_eq!(client.receive().properties.concat(), asked[1]);
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
