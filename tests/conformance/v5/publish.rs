//! 3.3: PUBLISH, but for RETAIN.

use std::time::Duration;

use super::{MALFORMED, closed, closes, properties, stored, with};
use crate::wire::{
    Got, PINGREQ, PUBACK, Publish, V5, connect, packet, property, publish, subscribe_with, text,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(a_repeat_is_marked).checks(&["MQTT-3.3.1-1"]),
    test!(qos_0_is_never_marked_as_a_repeat).checks(&["MQTT-3.3.1-2", "MQTT-4.3.1-1"]),
    test!(the_publishers_dup_stays_with_it).checks(&["MQTT-3.3.1-3"]),
    test!(qos_3_closes).checks(&["MQTT-3.3.1-4"]),
    test!(the_topic_comes_first).checks(&["MQTT-3.3.2-1"]),
    test!(a_topic_with_wildcards_closes).checks(&["MQTT-3.3.2-2", "MQTT-4.7.0-1"]),
    test!(the_topic_is_the_one_that_was_published).checks(&["MQTT-3.3.2-3"]),
    test!(payload_format_is_passed_on).checks(&["MQTT-3.3.2-4"]),
    test!(an_expired_message_is_not_delivered).checks(&["MQTT-3.3.2-5"]),
    test!(what_waits_for_the_window_expires)
        .checks(&["MQTT-3.3.2-5"])
        .original_breaks("stops delivering"),
    test!(an_expired_retained_message_is_not_delivered).checks(&["MQTT-3.3.2-5"]),
    test!(the_expiry_is_counted_down).checks(&["MQTT-3.3.2-6"]),
    test!(an_alias_is_of_one_connection).checks(&["MQTT-3.3.2-7"]),
    test!(alias_0_closes).checks(&["MQTT-3.3.2-8"]),
    test!(every_alias_up_to_the_maximum_is_taken).checks(&["MQTT-3.3.2-12"]),
    test!(an_alias_can_be_set_anew).checks(&["MQTT-3.3.2-12"]),
    test!(an_alias_that_was_not_set_closes).checks(&["MQTT-3.3.2-12"]),
    test!(a_response_topic_with_wildcards_closes)
        .checks(&["MQTT-3.3.2-14"])
        .original_breaks("forwards it"),
    test!(response_topic_is_passed_on).checks(&["MQTT-3.3.2-15"]),
    test!(correlation_data_is_passed_on).checks(&["MQTT-3.3.2-16"]),
    test!(user_properties_are_passed_on_in_order).checks(&["MQTT-3.3.2-17", "MQTT-3.3.2-18"]),
    test!(content_type_is_passed_on).checks(&["MQTT-3.3.2-20"]),
    test!(properties_pass_through_a_stored_session).checks(&[
        "MQTT-3.3.2-4",
        "MQTT-3.3.2-15",
        "MQTT-3.3.2-16",
        "MQTT-3.3.2-17",
        "MQTT-3.3.2-18",
        "MQTT-3.3.2-20",
    ]),
    test!(a_request_is_answered).checks(&["MQTT-3.3.2-15", "MQTT-3.3.2-16"]),
    test!(each_qos_has_its_answer).checks(&["MQTT-3.3.4-1"]),
    test!(overlapping_subscriptions_deliver_at_the_highest_qos).checks(&["MQTT-3.3.4-2"]),
    test!(subscription_identifiers_come_along).checks(&["MQTT-3.3.4-3"]),
    test!(overlapping_identifiers_come_along).checks(&[
        "MQTT-3.3.4-3",
        "MQTT-3.3.4-4",
        "MQTT-3.3.4-5",
    ]),
    test!(a_client_cannot_send_a_subscription_identifier)
        .checks(&["MQTT-3.3.4-6"])
        .original_breaks("ignores it"),
    test!(more_than_the_servers_receive_maximum_closes)
        .checks(&["MQTT-3.3.4-7"])
        .original_breaks("drops what is too much"),
    test!(the_clients_receive_maximum_is_kept).checks(&[
        "MQTT-3.3.4-9",
        "MQTT-4.9.0-1",
        "MQTT-4.9.0-2",
    ]),
    test!(only_publish_waits_for_the_receive_maximum).checks(&["MQTT-3.3.4-10", "MQTT-4.9.0-3"]),
    test!(the_quota_starts_anew_with_each_connection)
        .checks(&["MQTT-4.9.0-1"])
        .original_breaks("sends all that is in flight again, whatever the new maximum"),
];

fn a_repeat_is_marked(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for qos in [1, 2] {
        let session = stored(bench, &qos.to_string());
        let mut client = bench.client(&session);
        client.subscribe(&topic, qos);
        bench.clean(V5, "p").publish(&publish(&topic, "x", qos, 1));
        let first = client.message();
        assert!(!first.dup);
        for _ in 0..2 {
            client.drop_connection();
            client = bench.client(&session);
            assert_eq!(client.message(), first.clone().dup());
        }
        client.unsubscribe(&topic);
    }
}

fn qos_0_is_never_marked_as_a_repeat(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&topic, 0);
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&topic, "x", 1, 1).dup());
    assert!(!subscriber.message().dup);
    publisher.publish(&publish(&topic, "x", 0, 0));
    assert!(!subscriber.message().dup);
    // One that comes so is malformed, and is not passed on so.
    publisher.try_send(&publish(&topic, "x", 0, 0).dup().bytes(V5));
    publisher.try_send(PINGREQ);
    match publisher.try_next() {
        Some(Got::Pingresp) => assert!(!subscriber.message().dup),
        None => {}
        Some(Got::Disconnect(code)) => assert!(MALFORMED.contains(&code)),
        Some(other) => panic!("{other:?}"),
    }
}

fn the_publishers_dup_stays_with_it(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&topic, 2);
    let mut publisher = bench.clean(V5, "p");
    for qos in [1, 2] {
        publisher.publish(&publish(&topic, "x", qos, 900).dup());
        let got = subscriber.expect_message(&topic, "x", qos, false);
        assert!(!got.dup);
    }
}

fn qos_3_closes(bench: &Bench<'_>) {
    for first in [0x36, 0x37, 0x3e, 0x3f] {
        closes(
            bench,
            &packet(first, &[0, 1, b't', 0, 1, 0, b'x']),
            MALFORMED,
        );
    }
}

fn the_topic_comes_first(bench: &Bench<'_>) {
    let topic = bench.topic("\u{e4}\u{f6}\u{1f980} x");
    let mut client = bench.clean(V5, "c");
    client.subscribe(&topic, 0);
    client.publish(&publish(&topic, "payload", 0, 0));
    let bytes = client.bytes().unwrap();
    assert_eq!(bytes[2..2 + 2 + topic.len()], text(&topic));
    for bad in [&[][..], &[0], &[0, 9, b't']] {
        closes(bench, &packet(0x30, bad), MALFORMED);
    }
}

fn a_topic_with_wildcards_closes(bench: &Bench<'_>) {
    for topic in ["#", "+", "a/+/b", "a/#", "a+", "a#"] {
        for qos in 0..3 {
            let bytes = publish(topic, "x", qos, 1).bytes(V5);
            closes(bench, &bytes, &[0x81, 0x82, 0x90]);
        }
    }
}

fn the_topic_is_the_one_that_was_published(bench: &Bench<'_>) {
    let mut subscriber = bench.clean(V5, "s");
    for filter in ["a/#", "b/+/d", "c"] {
        subscriber.subscribe(&bench.topic(filter), 1);
    }
    let mut publisher = bench.clean(V5, "p");
    for name in ["a", "a/", "a/b//c", "b/x/d", "b//d", "c"] {
        let topic = bench.topic(name);
        publisher.publish(&publish(&topic, name, 1, 1));
        subscriber.expect_message(&topic, name, 1, false);
    }
}

/// What these properties are when they arrive, at each QoS.
fn passed_on(bench: &Bench<'_>, sent: &[Vec<u8>]) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&topic, 2);
    let mut publisher = bench.clean(V5, "p");
    for qos in 0..3 {
        publisher.publish(&with(publish(&topic, "x", qos, 1), sent));
        let got = subscriber.expect_message(&topic, "x", qos, false);
        let mut got = properties(&got.properties.concat());
        let mut sent = properties(&sent.concat());
        // The order of those of one kind counts, not that of the kinds.
        got.sort_by_key(|(identifier, _)| *identifier);
        sent.sort_by_key(|(identifier, _)| *identifier);
        assert_eq!(got, sent);
    }
}

fn payload_format_is_passed_on(bench: &Bench<'_>) {
    passed_on(bench, &[property::payload_format(0)]);
    passed_on(bench, &[property::payload_format(1)]);
}

fn response_topic_is_passed_on(bench: &Bench<'_>) {
    for topic in ["a", "answer/\u{1f980}", "$x/y", " "] {
        passed_on(bench, &[property::response_topic(topic)]);
    }
}

fn correlation_data_is_passed_on(bench: &Bench<'_>) {
    for data in [&[][..], &[0], &[0, 1, 255, 0xc0, 0x80], &[7; 3000]] {
        passed_on(bench, &[property::correlation_data(data)]);
    }
}

fn user_properties_are_passed_on_in_order(bench: &Bench<'_>) {
    let many: Vec<Vec<u8>> = (0..50)
        .map(|n| property::user(["b", "a", "", "c"][n % 4], &(n % 7).to_string()))
        .collect();
    passed_on(bench, &many);
    passed_on(bench, &[property::user("", "")]);
    let long = "value ".repeat(5000);
    passed_on(
        bench,
        &[property::user("b", &long), property::user("a", &long)],
    );
}

fn content_type_is_passed_on(bench: &Bench<'_>) {
    for content in ["", "text/plain", "\u{1f980}"] {
        passed_on(bench, &[property::content_type(content)]);
    }
}

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

fn properties_pass_through_a_stored_session(bench: &Bench<'_>) {
    let (topic, session) = (bench.topic("t"), stored(bench, "s"));
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

fn an_expired_message_is_not_delivered(bench: &Bench<'_>) {
    let (topic, session) = (bench.topic("t"), stored(bench, "s"));
    let mut subscriber = bench.client(&session);
    subscriber.subscribe(&topic, 2);
    subscriber.disconnect();
    let mut publisher = bench.clean(V5, "p");
    for qos in [1, 2] {
        let expiring = |payload, seconds| {
            let expiry = property::message_expiry(seconds);
            publish(&topic, payload, qos, 1).property(expiry)
        };
        publisher.publish(&expiring("short", 1));
        publisher.publish(&expiring("long", 1000));
        publisher.publish(&publish(&topic, "for ever", qos, 1));
    }
    std::thread::sleep(Duration::from_millis(2200));
    let mut subscriber = bench.client(&session);
    for qos in [1, 2] {
        subscriber.expect_message(&topic, "long", qos, false);
        subscriber.expect_message(&topic, "for ever", qos, false);
    }
    subscriber.expect_nothing_from(&mut publisher);
    subscriber.unsubscribe(&topic);
}

fn what_waits_for_the_window_expires(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let narrow = connect(V5, &bench.id("s")).property(property::receive_maximum(1));
    let mut subscriber = bench.client(&narrow);
    subscriber.subscribe(&topic, 1);
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&topic, "first", 1, 1));
    let short = publish(&topic, "short", 1, 1).property(property::message_expiry(1));
    publisher.publish(&short);
    publisher.publish(&publish(&topic, "last", 1, 1));
    let first = subscriber.message();
    std::thread::sleep(Duration::from_millis(2200));
    subscriber.acknowledge(&first);
    subscriber.expect_message(&topic, "last", 1, false);
}

fn an_expired_retained_message_is_not_delivered(bench: &Bench<'_>) {
    let (topic, stays) = (bench.topic("t"), bench.topic("stays"));
    let mut publisher = bench.clean(V5, "p");
    let expiring = |topic: &str, seconds| {
        let expiry = property::message_expiry(seconds);
        publish(topic, "x", 1, 1).retain().property(expiry)
    };
    publisher.publish(&expiring(&topic, 1));
    publisher.publish(&expiring(&stays, 1000));
    // Twice the expiry, and what the original is late.
    std::thread::sleep(Duration::from_millis(3200));
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&topic, 1);
    subscriber.subscribe(&stays, 1);
    subscriber.expect_message(&stays, "x", 1, true);
    publisher.publish(&publish(&stays, "", 1, 1).retain());
}

/// The seconds that a message has left.
fn expiry(message: &Publish) -> u32 {
    let found = properties(&message.properties.concat());
    let (_, value) = found.iter().find(|(id, _)| *id == 2).expect("an expiry");
    u32::from_be_bytes(value[..].try_into().unwrap())
}

fn the_expiry_is_counted_down(bench: &Bench<'_>) {
    let (topic, session) = (bench.topic("t"), stored(bench, "s"));
    let mut subscriber = bench.client(&session);
    subscriber.subscribe(&topic, 1);
    let mut publisher = bench.clean(V5, "p");
    let message = publish(&topic, "x", 1, 1).property(property::message_expiry(100));
    publisher.publish(&message);
    let left = expiry(&subscriber.receive());
    assert!((99..=100).contains(&left), "{left}");
    subscriber.disconnect();
    publisher.publish(&message);
    std::thread::sleep(Duration::from_millis(2100));
    let mut subscriber = bench.client(&session);
    let left = expiry(&subscriber.receive());
    assert!((85..=98).contains(&left), "{left}");
    subscriber.unsubscribe(&topic);
}

fn an_alias_is_of_one_connection(bench: &Bench<'_>) {
    let session = stored(bench, "p");
    let set = [property::topic_alias(3)];
    let mut publisher = bench.client(&session);
    publisher.publish(&with(publish(&bench.topic("t"), "x", 1, 1), &set));
    publisher.disconnect();
    let mut publisher = bench.client(&session);
    publisher.send(&with(publish("", "x", 1, 2), &set).bytes(V5));
    closed(&mut publisher, &[0x82, 0x94]);
}

fn alias_0_closes(bench: &Bench<'_>) {
    let alias = publish("t", "x", 0, 0).property(property::topic_alias(0));
    closes(bench, &alias.bytes(V5), &[0x81, 0x82, 0x94]);
}

fn every_alias_up_to_the_maximum_is_taken(bench: &Bench<'_>) {
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&bench.topic("#"), 2);
    let mut publisher = bench.socket();
    let (_, _, told) = publisher.connack(&connect(V5, &bench.id("p")));
    let told = properties(&told);
    let (_, maximum) = told.iter().find(|(id, _)| *id == 0x22).expect("a maximum");
    let maximum = u16::from_be_bytes([maximum[0], maximum[1]]);
    assert!(maximum > 0);
    for alias in 1..=maximum {
        let topic = bench.topic(&alias.to_string());
        let set = publish(&topic, "set", 1, 1).property(property::topic_alias(alias));
        publisher.publish(&set);
        let got = subscriber.expect_message(&topic, "set", 1, false);
        assert!(got.properties.is_empty(), "an alias is not passed on");
    }
    for qos in 0..3 {
        for alias in 1..=maximum {
            let used = publish("", "used", qos, 1).property(property::topic_alias(alias));
            publisher.publish(&used);
            let topic = bench.topic(&alias.to_string());
            subscriber.expect_message(&topic, "used", qos, false);
        }
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

fn an_alias_that_was_not_set_closes(bench: &Bench<'_>) {
    let unset = publish("", "x", 1, 1).property(property::topic_alias(5));
    closes(bench, &unset.bytes(V5), &[0x82, 0x94]);
    closes(bench, &publish("", "x", 0, 0).bytes(V5), MALFORMED);
}

fn a_response_topic_with_wildcards_closes(bench: &Bench<'_>) {
    for topic in ["a/+", "#", "a/#/b"] {
        let message = publish("t", "x", 0, 0).property(property::response_topic(topic));
        closes(bench, &message.bytes(V5), &[0x81, 0x82, 0x90]);
    }
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

fn each_qos_has_its_answer(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V5, "c");
    // None, PUBACK, PUBREC.
    client.send(&publish(&topic, "x", 0, 0).bytes(V5));
    client.ping();
    client.send(&publish(&topic, "x", 1, 7).bytes(V5));
    client.expect_ack(PUBACK, 7);
    client.send(&publish(&topic, "x", 2, 8).bytes(V5));
    client.expect_ack(crate::wire::PUBREC, 8);
    client.ping();
}

fn overlapping_subscriptions_deliver_at_the_highest_qos(bench: &Bench<'_>) {
    for session in [connect(V5, &bench.id("clean")), stored(bench, "stored")] {
        let topic = bench.topic("a/b");
        let mut subscriber = bench.client(&session);
        subscriber.subscribe(&bench.topic("a/#"), 0);
        subscriber.subscribe(&bench.topic("+/b"), 2);
        subscriber.subscribe(&topic, 1);
        let mut publisher = bench.clean(V5, "p");
        for qos in 0..3 {
            publisher.publish(&publish(&topic, "x", qos, 1));
            publisher.publish(&publish(&bench.topic("a/end"), "end", 0, 0));
            let mut seen = Vec::new();
            loop {
                let got = subscriber.receive();
                if got.payload == b"end" {
                    break;
                }
                seen.push(got.qos);
            }
            // Further copies are allowed. At QoS 1 and 2 they may come behind what is of QoS 0.
            if seen.is_empty() {
                seen.push(subscriber.receive().qos);
            }
            while seen.iter().max() != Some(&qos) {
                seen.push(subscriber.receive().qos);
            }
        }
        for filter in ["a/#", "+/b", "a/b"] {
            subscriber.unsubscribe(&bench.topic(filter));
        }
    }
}

fn subscription_identifiers_come_along(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for session in [connect(V5, &bench.id("clean")), stored(bench, "stored")] {
        let mut subscriber = bench.client(&session);
        let mut publisher = bench.clean(V5, "p");
        for identifier in [1, 127, 128, 16_384, 268_435_455] {
            let number = property::subscription_identifier(identifier);
            let bytes = subscribe_with(V5, 1, std::slice::from_ref(&number), &[(&topic, 2)]);
            subscriber.send(&bytes);
            subscriber.expect(Got::Suback(1, vec![2]));
            for qos in 0..3 {
                publisher.publish(&publish(&topic, "x", qos, 1));
                assert_eq!(subscriber.receive().properties.concat(), number);
            }
        }
        // Without one it is replaced by none.
        subscriber.subscribe(&topic, 1);
        publisher.publish(&publish(&topic, "x", 1, 1));
        assert!(subscriber.receive().properties.is_empty());
        subscriber.unsubscribe(&topic);
    }
}

fn overlapping_identifiers_come_along(bench: &Bench<'_>) {
    for session in [connect(V5, &bench.id("clean")), stored(bench, "stored")] {
        let mut subscriber = bench.client(&session);
        let filters = ["a/b", "a/+", "#"].map(|filter| bench.topic(filter));
        for (filter, number) in filters.iter().zip(1..) {
            let number = property::subscription_identifier(number);
            subscriber.send(&subscribe_with(V5, 1, &[number], &[(filter, 1)]));
            subscriber.expect(Got::Suback(1, vec![1]));
        }
        let mut publisher = bench.clean(V5, "p");
        publisher.publish(&publish(&filters[0], "x", 1, 1));
        let mut missing = vec![1, 2, 3];
        let mut copies = Vec::new();
        while !missing.is_empty() {
            let got = properties(&subscriber.receive().properties.concat());
            assert!(got.iter().all(|(id, _)| *id == 0x0b) && !got.is_empty());
            missing.retain(|number| !got.contains(&(0x0b, vec![*number])));
            copies.push(got.len());
        }
        // One copy has all; several have one each.
        assert!(copies == [3] || copies == [1, 1, 1], "{copies:?}");
        subscriber.expect_nothing_from(&mut publisher);
        for filter in &filters {
            subscriber.unsubscribe(filter);
        }
    }
}

fn a_client_cannot_send_a_subscription_identifier(bench: &Bench<'_>) {
    let forged = publish("t", "x", 0, 0).property(property::subscription_identifier(1));
    closes(bench, &forged.bytes(V5), MALFORMED);
}

fn more_than_the_servers_receive_maximum_closes(bench: &Bench<'_>) {
    let mut client = bench.socket();
    let (_, _, told) = client.connack(&connect(V5, &bench.id("c")));
    let told = properties(&told);
    let maximum = told.iter().find(|(id, _)| *id == 0x21);
    let maximum = maximum.map_or(65535, |(_, value)| u16::from_be_bytes([value[0], value[1]]));
    let topic = bench.topic("t");
    for id in 1..=maximum {
        client.send(&publish(&topic, "x", 2, id).bytes(V5));
        client.expect_ack(crate::wire::PUBREC, id);
    }
    client.send(&publish(&topic, "x", 2, maximum + 1).bytes(V5));
    closed(&mut client, &[0x93]);
}

/// A subscriber with a window of two that is full, and a publisher of three more.
fn full(bench: &Bench<'_>, qos: u8) -> (crate::harness::client::Client, Vec<Publish>, String) {
    let topic = bench.topic(&qos.to_string());
    let narrow = connect(V5, &bench.id("s")).property(property::receive_maximum(2));
    let mut subscriber = bench.client(&narrow);
    subscriber.subscribe(&topic, qos);
    let mut publisher = bench.clean(V5, "p");
    for n in 1..=5 {
        publisher.publish(&publish(&topic, &n.to_string(), qos, n));
    }
    let window = vec![subscriber.message(), subscriber.message()];
    // What is of QoS 0 passes: so nothing else was on its way.
    publisher.publish(&publish(&topic, "pass", 0, 0));
    assert_eq!(subscriber.message().payload, b"pass");
    (subscriber, window, topic)
}

fn the_clients_receive_maximum_is_kept(bench: &Bench<'_>) {
    for qos in [1, 2] {
        let (mut subscriber, window, topic) = full(bench, qos);
        subscriber.acknowledge(&window[1]);
        let third = subscriber.message();
        assert_eq!(third.payload, b"3");
        subscriber.ping();
        subscriber.acknowledge(&window[0]);
        subscriber.acknowledge(&third);
        subscriber.expect_message(&topic, "4", qos, false);
        subscriber.expect_message(&topic, "5", qos, false);
    }
}

fn only_publish_waits_for_the_receive_maximum(bench: &Bench<'_>) {
    for qos in [1, 2] {
        let (mut subscriber, _, topic) = full(bench, qos);
        subscriber.ping();
        subscriber.subscribe(&bench.topic("other"), 0);
        subscriber.unsubscribe(&bench.topic("other"));
        subscriber.send(&publish(&bench.topic("nobody"), "x", 2, 1).bytes(V5));
        subscriber.expect_ack(crate::wire::PUBREC, 1);
        subscriber.send(&crate::wire::ack(crate::wire::PUBREL, 1));
        subscriber.expect_ack(crate::wire::PUBCOMP, 1);
        subscriber.send(&publish(&topic, "own", 0, 0).bytes(V5));
        assert_eq!(subscriber.message().payload, b"own");
    }
}

fn the_quota_starts_anew_with_each_connection(bench: &Bench<'_>) {
    let (topic, session) = (bench.topic("t"), stored(bench, "s"));
    let mut publisher = bench.clean(V5, "p");
    let mut subscriber = bench.client(&session);
    subscriber.subscribe(&topic, 1);
    subscriber.disconnect();
    for n in 1..=9 {
        publisher.publish(&publish(&topic, &n.to_string(), 1, n));
    }
    // Each connection has its own number, whatever the one before left open.
    for maximum in [3, 1, 5] {
        let narrow = session.clone().property(property::receive_maximum(maximum));
        let mut subscriber = bench.client(&narrow);
        for n in 1..=maximum {
            assert_eq!(subscriber.message().payload, n.to_string().as_bytes());
        }
        // Time for more to come, which must not.
        std::thread::sleep(Duration::from_millis(200));
        subscriber.ping();
        subscriber.drop_connection();
    }
}
