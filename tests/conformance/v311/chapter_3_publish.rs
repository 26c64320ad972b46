//! Chapters 3.3 to 3.7: PUBLISH and its acknowledgements, and where a message goes.

use std::collections::BTreeMap;

use super::expect_end_at;
use crate::harness::client::Client;
use crate::wire::{
    Got, PUBACK, PUBCOMP, PUBREC, PUBREL, V311, ack, connect, field, packet, publish, subscribe,
    text,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(a_message_that_is_sent_again_has_dup).checks(&["MQTT-3.3.1-1"]),
    test!(a_message_that_waited_unsent_has_no_dup).checks(&["MQTT-3.3.1-1", "MQTT-4.3.2-1"]),
    test!(dup_with_qos_0_closes)
        .checks(&["MQTT-3.3.1-2"])
        .original_breaks("takes it as one without DUP"),
    test!(qos_0_is_never_sent_with_dup).checks(&["MQTT-3.3.1-2", "MQTT-4.3.1-1"]),
    test!(dup_of_a_publisher_stays_with_it).checks(&["MQTT-3.3.1-3"]),
    test!(qos_3_closes).checks(&["MQTT-3.3.1-4"]),
    test!(a_publish_without_a_whole_topic_closes).checks(&["MQTT-3.3.2-1"]),
    test!(a_topic_with_a_wildcard_closes).checks(&["MQTT-3.3.2-2", "MQTT-4.7.1-1"]),
    test!(an_empty_topic_closes).checks(&["MQTT-4.7.3-1"]),
    test!(a_message_comes_with_the_topic_it_was_published_to).checks(&["MQTT-3.3.2-3"]),
    test!(each_qos_has_its_answers).checks(&["MQTT-3.3.4-1", "MQTT-2.3.1-6"]),
    test!(each_qos_has_its_answers_though_nobody_subscribes).checks(&["MQTT-3.3.4-1"]),
    test!(a_message_is_what_was_sent_byte_for_byte).checks(&["MQTT-3.3.4-1"]),
    test!(overlapping_subscriptions_deliver_at_the_highest_qos)
        .checks(&["MQTT-3.3.5-1"])
        .original_breaks("sends one copy, at the QoS of the subscription that it finds first"),
    test!(overlapping_subscriptions_of_an_absent_client_deliver_at_the_highest_qos)
        .checks(&["MQTT-3.3.5-1"])
        .original_breaks("sends one copy, at the QoS of the subscription that it finds first"),
    test!(what_may_not_be_published_is_acknowledged_or_closes).checks(&["MQTT-3.3.5-2"]),
    test!(a_pubrel_of_nothing_is_completed).checks(&["MQTT-4.3.3-2"]),
    test!(acknowledgements_of_nothing_do_no_harm).checks(&["MQTT-4.3.2-1", "MQTT-4.3.3-1"]),
    test!(acknowledgements_have_no_more_than_an_id)
        .checks(&["MQTT-4.8.0-1"])
        .original_breaks("reads no further than the id"),
];

fn a_message_that_is_sent_again_has_dup(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut subscriber = bench.client(&session);
    subscriber.subscribe(&topic, 2);
    let mut publisher = bench.clean(V311, "p");
    for qos in [1, 2] {
        publisher.publish(&publish(&topic, "x", qos, 1));
    }
    let sent = [subscriber.message(), subscriber.message()];
    assert!(!sent[0].dup && !sent[1].dup);
    for n in 0..4 {
        if n % 2 == 0 {
            subscriber.drop_connection();
        } else {
            subscriber.disconnect();
        }
        subscriber = bench.client(&session);
        for message in &sent {
            let again = message.clone().dup();
            subscriber.expect_bytes(&again.bytes(V311));
        }
    }
    for message in &sent {
        subscriber.acknowledge(message);
    }
    subscriber.expect_nothing_from(&mut publisher);
    subscriber.disconnect();
    bench.client(&session.clean(true)).disconnect();
}

fn a_message_that_waited_unsent_has_no_dup(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut subscriber = bench.client(&session);
    subscriber.subscribe(&topic, 1);
    subscriber.disconnect();
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&topic, "away", 1, 1));
    let mut subscriber = bench.client(&session);
    assert!(!subscriber.message().dup);
    subscriber.disconnect();
    bench.client(&session.clean(true)).disconnect();
}

fn dup_with_qos_0_closes(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = bench.clean(V311, "watcher");
    watcher.subscribe(&topic, 1);
    for message in [
        publish(&topic, "x", 0, 0).dup(),
        publish(&topic, "x", 0, 0).dup().retain(),
    ] {
        expect_end_at(&mut bench.clean(V311, "c"), &message.bytes(V311));
    }
    let mut publisher = bench.clean(V311, "p");
    watcher.expect_nothing_from(&mut publisher);
}

fn qos_0_is_never_sent_with_dup(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 0);
    let mut publisher = bench.clean(V311, "p");
    for qos in 1..3 {
        publisher.publish(&publish(&topic, "x", qos, 1).dup());
        let expected = publish(&topic, "x", 0, 0);
        subscriber.expect_bytes(&expected.bytes(V311));
    }
}

fn dup_of_a_publisher_stays_with_it(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let absent = connect(V311, &bench.id("absent")).persistent();
    let mut client = bench.client(&absent);
    client.subscribe(&topic, 2);
    client.disconnect();
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 2);
    let mut publisher = bench.clean(V311, "p");
    for qos in 1..3 {
        publisher.publish(&publish(&topic, "x", qos, 9).dup());
        assert!(!subscriber.expect_message(&topic, "x", qos, false).dup);
    }
    let mut client = bench.client(&absent);
    for qos in 1..3 {
        assert!(!client.expect_message(&topic, "x", qos, false).dup);
    }
    client.disconnect();
    bench.client(&absent.clean(true)).disconnect();
    // Neither does it get into what is retained.
    publisher.publish(&publish(&topic, "kept", 1, 9).dup().retain());
    let mut later = bench.clean(V311, "later");
    later.subscribe(&topic, 1);
    assert!(!later.expect_message(&topic, "kept", 1, true).dup);
    publisher.publish(&publish(&topic, "", 1, 9).retain());
}

fn qos_3_closes(bench: &Bench<'_>) {
    let topic = text(&bench.topic("t"));
    for first in [0x36, 0x37, 0x3e, 0x3f] {
        let body = [&topic[..], &[0, 1], b"x"].concat();
        expect_end_at(&mut bench.clean(V311, "c"), &packet(first, &body));
    }
}

fn a_publish_without_a_whole_topic_closes(bench: &Bench<'_>) {
    for body in [&b""[..], b"\0", b"\0\x05", b"\0\x05topi", b"\xff\xffx"] {
        for first in [0x30, 0x32, 0x34] {
            expect_end_at(&mut bench.clean(V311, "c"), &packet(first, body));
        }
    }
}

fn a_topic_with_a_wildcard_closes(bench: &Bench<'_>) {
    for topic in ["#", "+", "a/#", "a/+/b", "a+", "a#", "+/a", "a/b+c"] {
        for qos in 0..3 {
            let bytes = publish(topic, "x", qos, 1).bytes(V311);
            expect_end_at(&mut bench.clean(V311, "c"), &bytes);
        }
    }
}

fn an_empty_topic_closes(bench: &Bench<'_>) {
    for qos in 0..3 {
        let bytes = publish("", "x", qos, 1).bytes(V311);
        expect_end_at(&mut bench.clean(V311, "c"), &bytes);
    }
}

fn a_message_comes_with_the_topic_it_was_published_to(bench: &Bench<'_>) {
    let topic = bench.topic("a/b/c");
    let mut publisher = bench.clean(V311, "p");
    for (n, filter) in ["a/b/c", "a/+/c", "a/#", "+/b/+", "#"].iter().enumerate() {
        let mut subscriber = bench.clean(V311, &n.to_string());
        subscriber.subscribe(&bench.topic(filter), 0);
        publisher.publish(&publish(&topic, "x", 0, 0));
        subscriber.expect_message(&topic, "x", 0, false);
    }
}

fn each_qos_has_its_answers(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = bench.clean(V311, "watcher");
    watcher.subscribe(&topic, 0);
    expect_answers(bench, &topic);
    for qos in ["zero", "one", "two"] {
        watcher.expect_message(&topic, qos, 0, false);
    }
}

fn each_qos_has_its_answers_though_nobody_subscribes(bench: &Bench<'_>) {
    expect_answers(bench, &bench.topic("nobody"));
}

fn expect_answers(bench: &Bench<'_>, topic: &str) {
    let mut client = bench.clean(V311, "c");
    client.send(&publish(topic, "zero", 0, 0).bytes(V311));
    // No answer but that of the ping.
    client.ping();
    client.send(&publish(topic, "one", 1, 0x0102).bytes(V311));
    client.expect_bytes(&[0x40, 2, 1, 2]);
    client.send(&publish(topic, "two", 2, 0x0304).bytes(V311));
    client.expect_bytes(&[0x50, 2, 3, 4]);
    client.send(&ack(PUBREL, 0x0304));
    client.expect_bytes(&[0x70, 2, 3, 4]);
    client.ping();
}

fn a_message_is_what_was_sent_byte_for_byte(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 0);
    let mut publisher = bench.clean(V311, "p");
    let all: Vec<u8> = (0..=255).collect();
    for payload in [Vec::new(), vec![0], all.clone(), all.repeat(300)] {
        let bytes = packet(0x30, &[field(topic.as_bytes()), payload].concat());
        publisher.send(&bytes);
        let got = subscriber.bytes().unwrap();
        assert!(got == bytes, "{} bytes", bytes.len());
    }
}

/// A copy for the message, at the highest QoS that matches; a server may send others for the other subscriptions.
fn expect_overlap(client: &mut Client, fence: &str, topic: &str, sent: u8) {
    let mut copies = BTreeMap::new();
    loop {
        let got = client.receive();
        if got.topic == fence {
            break;
        }
        assert_eq!((got.topic.as_str(), got.retain), (topic, false));
        *copies.entry(got.qos).or_insert(0) += 1;
    }
    let qos = copies.keys().max().copied();
    assert_eq!(qos, Some(sent), "published at {sent}, came at {copies:?}");
    // Those at 0, 1 and 2, each at most at its own.
    assert!(copies.values().sum::<usize>() <= 3);
}

fn overlapping_subscriptions_deliver_at_the_highest_qos(bench: &Bench<'_>) {
    let (topic, fence) = (bench.topic("a/b"), bench.topic("fence"));
    for (n, filters) in [["a/#", "+/b", "a/b"], ["a/b", "a/+", "a/#"]]
        .iter()
        .enumerate()
    {
        let mut client = bench.clean(V311, &n.to_string());
        for (filter, qos) in filters.iter().zip([0, 2, 1]) {
            client.subscribe(&bench.topic(filter), qos);
        }
        client.subscribe(&fence, 0);
        let mut publisher = bench.clean(V311, "p");
        for qos in 0..3 {
            publisher.publish(&publish(&topic, "x", qos, 1));
            // Behind all copies, on the same way as they came.
            publisher.publish(&publish(&fence, "x", 0, 0));
            expect_overlap(&mut client, &fence, &topic, qos);
        }
    }
}

fn overlapping_subscriptions_of_an_absent_client_deliver_at_the_highest_qos(bench: &Bench<'_>) {
    let (topic, fence) = (bench.topic("a/b"), bench.topic("fence"));
    let session = connect(V311, &bench.id("s")).persistent();
    let mut publisher = bench.clean(V311, "p");
    for qos in 1..3 {
        let mut client = bench.client(&session);
        for (filter, granted) in [("a/#", 0), ("+/b", 2), ("a/b", 1), ("fence", 1)] {
            client.subscribe(&bench.topic(filter), granted);
        }
        client.disconnect();
        publisher.publish(&publish(&topic, "x", qos, 1));
        publisher.publish(&publish(&fence, "x", 1, 1));
        let mut client = bench.client(&session);
        expect_overlap(&mut client, &fence, &topic, qos);
        client.disconnect();
    }
    bench.client(&session.clean(true)).disconnect();
}

/// Nobody but the broker may publish there.
const FORBIDDEN: &str = "$SYS/broker/version";

fn what_may_not_be_published_is_acknowledged_or_closes(bench: &Bench<'_>) {
    let (topic, fence) = (bench.topic("t"), bench.topic("fence"));
    let mut watcher = bench.clean(V311, "watcher");
    watcher.subscribe(&fence, 0);
    watcher.send(&subscribe(V311, 1, &[(FORBIDDEN, 1)]));
    for qos in 0..3 {
        let will = connect(V311, &bench.id("c")).will(FORBIDDEN, "forged", qos, true);
        let mut client = bench.client(&will);
        client.try_send(&publish(FORBIDDEN, "forged", qos, 1).retain().bytes(V311));
        client.try_send(&ack(PUBREL, 2));
        client.try_send(&publish(&topic, "x", 1, 3).bytes(V311));
        while let Some(got) = client.try_next() {
            match got {
                Got::Ack(PUBACK, 1, 0) if qos == 1 => {}
                Got::Ack(PUBREC, 1, 0) if qos == 2 => {}
                Got::Ack(PUBCOMP, 2, 0) => {}
                Got::Ack(PUBACK, 3, 0) => break,
                other => panic!("{other:?}"),
            }
        }
        client.drop_connection();
    }
    let mut later = bench.clean(V311, "later");
    later.subscribe(&fence, 0);
    later.send(&subscribe(V311, 1, &[(FORBIDDEN, 1)]));
    let mut publisher = bench.clean(V311, "p");
    for client in [&mut watcher, &mut later] {
        client.send(crate::wire::PINGREQ);
        publisher.publish(&publish(&fence, "x", 1, 1));
        publisher.publish(&publish(&fence, "last", 0, 1));
        // What the broker itself says there may come.
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last| last != b"last") {
            if let Got::Publish(got) = client.next() {
                assert_ne!(got.payload, b"forged");
                seen.push(got.payload);
            }
        }
    }
}

fn a_pubrel_of_nothing_is_completed(bench: &Bench<'_>) {
    let mut client = bench.clean(V311, "c");
    for id in [1, 77, 0xffff] {
        client.send(&ack(PUBREL, id));
        client.expect(Got::Ack(PUBCOMP, id, 0));
    }
}

fn acknowledgements_of_nothing_do_no_harm(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V311, "c");
    client.subscribe(&topic, 2);
    client.send(&ack(PUBACK, 77));
    client.send(&ack(PUBCOMP, 78));
    client.ping();
    // One that is of the other QoS, too: the message is not lost for it, nor is the connection's place in it.
    client.publish(&publish(&topic, "x", 1, 1));
    client.expect_message(&topic, "x", 1, false);
    client.publish(&publish(&topic, "y", 2, 1));
    client.expect_message(&topic, "y", 2, false);
}

fn acknowledgements_have_no_more_than_an_id(bench: &Bench<'_>) {
    for first in [PUBACK, PUBREC, PUBREL, PUBCOMP] {
        let mut client = bench.clean(V311, "c");
        expect_end_at(&mut client, &packet(first, &[0, 1, 0]));
    }
}
