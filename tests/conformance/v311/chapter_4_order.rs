//! Chapter 4.6: the order of messages and of acknowledgements.

use std::collections::BTreeMap;

use crate::harness::client::Client;
use crate::wire::{Got, PUBACK, PUBCOMP, PUBREC, PUBREL, Publish, V311, ack, connect, publish};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(messages_are_sent_again_in_their_order).checks(&["MQTT-4.6.0-1"]),
    test!(what_waited_comes_behind_what_is_sent_again).checks(&["MQTT-4.6.0-1", "MQTT-4.6.0-6"]),
    test!(pubacks_come_in_the_order_of_the_publishes).checks(&["MQTT-4.6.0-2"]),
    test!(pubrecs_come_in_the_order_of_the_publishes).checks(&["MQTT-4.6.0-3"]),
    test!(pubrels_come_in_the_order_of_the_pubrecs).checks(&["MQTT-4.6.0-4"]),
    test!(pubrels_are_sent_again_in_their_order).checks(&["MQTT-4.6.0-4", "MQTT-4.4.0-1"]),
    test!(messages_of_a_topic_come_in_order).checks(&["MQTT-4.6.0-5", "MQTT-4.6.0-6"]),
    test!(messages_of_each_publisher_come_in_order).checks(&["MQTT-4.6.0-6"]),
    test!(messages_come_in_order_through_a_window_that_is_full).checks(&["MQTT-4.6.0-6"]),
    test!(messages_come_in_order_while_a_client_comes_and_goes)
        .checks(&["MQTT-4.6.0-1", "MQTT-4.6.0-6"]),
    test!(messages_come_in_order_by_a_wildcard).checks(&["MQTT-4.6.0-6"]),
];

fn end_session(bench: &Bench<'_>, name: &str) {
    bench.clean(V311, name).disconnect();
}

fn messages_are_sent_again_in_their_order(bench: &Bench<'_>) {
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&bench.topic("+"), 2);
    let mut publisher = bench.clean(V311, "p");
    for n in 1..=18 {
        let topic = bench.topic(&(n % 5).to_string());
        publisher.publish(&publish(&topic, &n.to_string(), 1 + n as u8 % 2, n));
    }
    let mut sent: Vec<Publish> = (0..18).map(|_| client.message()).collect();
    // Some are finished, first and last and in between.
    for n in [17, 9, 8, 3, 0] {
        client.acknowledge(&sent.remove(n));
    }
    client.ping();
    client.drop_connection();
    for _ in 0..3 {
        let mut client = bench.client(&session);
        for message in &sent {
            assert_eq!(client.message(), message.clone().dup());
        }
        client.drop_connection();
    }
    end_session(bench, "s");
}

fn what_waited_comes_behind_what_is_sent_again(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 1);
    let mut publisher = bench.clean(V311, "p");
    for n in 1..=40 {
        publisher.publish(&publish(&topic, &n.to_string(), 1, n));
    }
    // Some are on their way and some wait when the connection is lost; others come meanwhile.
    for _ in 0..10 {
        client.message();
    }
    client.drop_connection();
    for n in 41..=60 {
        publisher.publish(&publish(&topic, &n.to_string(), 1, n));
    }
    let mut client = bench.client(&session);
    for n in 1..=60 {
        client.expect_message(&topic, &n.to_string(), 1, false);
    }
    client.expect_nothing_from(&mut publisher);
    drop(client);
    end_session(bench, "s");
}

/// Publishes of changing size to topics that have subscribers here, there and nowhere.
fn burst(bench: &Bench<'_>, qos: u8, count: u16) -> Vec<u8> {
    (1..=count)
        .flat_map(|id| {
            let topic = bench.topic(&(id % 4).to_string());
            let payload = "x".repeat(usize::from(id) * 37 % 5000);
            publish(&topic, &payload, qos, id).bytes(V311)
        })
        .collect()
}

/// Subscribers of some of the topics of `burst`, one of them absent.
fn audience(bench: &Bench<'_>) -> Vec<Client> {
    let mut absent = bench.client(&connect(V311, &bench.id("absent")).persistent());
    absent.subscribe(&bench.topic("1"), 2);
    absent.disconnect();
    (0..2)
        .map(|n| {
            let mut client = bench.clean(V311, &format!("s{n}"));
            client.subscribe(&bench.topic(&n.to_string()), 0);
            client
        })
        .collect()
}

fn pubacks_come_in_the_order_of_the_publishes(bench: &Bench<'_>) {
    let audience = audience(bench);
    let mut publisher = bench.clean(V311, "p");
    publisher.send(&burst(bench, 1, 100));
    for id in 1..=100 {
        publisher.expect(Got::Ack(PUBACK, id, 0));
    }
    drop(audience);
    end_session(bench, "absent");
}

fn pubrecs_come_in_the_order_of_the_publishes(bench: &Bench<'_>) {
    let audience = audience(bench);
    let mut publisher = bench.clean(V311, "p");
    publisher.send(&burst(bench, 2, 20));
    for id in 1..=20 {
        publisher.expect(Got::Ack(PUBREC, id, 0));
    }
    let pubrels: Vec<u8> = (1..=20).flat_map(|id| ack(PUBREL, id)).collect();
    publisher.send(&pubrels);
    for id in 1..=20 {
        publisher.expect(Got::Ack(PUBCOMP, id, 0));
    }
    drop(audience);
    end_session(bench, "absent");
}

fn pubrels_come_in_the_order_of_the_pubrecs(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for clean in [true, false] {
        let mut client = bench.client(&connect(V311, &bench.id("s")).clean(clean));
        client.subscribe(&topic, 2);
        let mut publisher = bench.clean(V311, "p");
        for n in 1..=15 {
            publisher.publish(&publish(&topic, &n.to_string(), 2, n));
        }
        let sent: Vec<Publish> = (0..15).map(|_| client.message()).collect();
        // In their order, at once; and then not in their order.
        for order in [&[0, 1, 2, 3, 4, 5, 6][..], &[14, 9, 12, 7, 8]] {
            let pubrecs: Vec<u8> = order
                .iter()
                .flat_map(|n| ack(PUBREC, sent[*n].id))
                .collect();
            client.send(&pubrecs);
            for n in order {
                client.expect(Got::Ack(PUBREL, sent[*n].id, 0));
            }
        }
        drop(client);
        end_session(bench, "s");
    }
}

fn pubrels_are_sent_again_in_their_order(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 2);
    let mut publisher = bench.clean(V311, "p");
    for n in 1..=12 {
        publisher.publish(&publish(&topic, &n.to_string(), 2, n));
    }
    let sent: Vec<Publish> = (0..12).map(|_| client.message()).collect();
    for message in &sent {
        client.send(&ack(PUBREC, message.id));
        client.expect(Got::Ack(PUBREL, message.id, 0));
    }
    for _ in 0..2 {
        client.drop_connection();
        client = bench.client(&session);
        for message in &sent {
            client.expect(Got::Ack(PUBREL, message.id, 0));
        }
    }
    drop(client);
    end_session(bench, "s");
}

const EACH: u16 = 300;

/// Publishes so many at this QoS, in bursts.
fn publish_in_order(publisher: &mut Client, topic: &str, prefix: &str, qos: u8) {
    for start in (0..EACH).step_by(15) {
        let numbers = start..start + 15;
        let bytes: Vec<u8> = numbers
            .clone()
            .flat_map(|n| publish(topic, &format!("{prefix} {n}"), qos, 1 + n).bytes(V311))
            .collect();
        publisher.send(&bytes);
        let ids = || numbers.clone().map(|n| n + 1);
        let first = if qos == 1 { PUBACK } else { PUBREC };
        if qos > 0 {
            ids().for_each(|id| publisher.expect_ack(first, id));
        }
        if qos == 2 {
            publisher.send(&ids().flat_map(|id| ack(PUBREL, id)).collect::<Vec<u8>>());
            ids().for_each(|id| publisher.expect_ack(PUBCOMP, id));
        }
    }
}

/// Takes all messages of each prefix, each in its order.
fn take_in_order(subscriber: &mut Client, prefixes: usize) {
    let mut next: BTreeMap<(String, String), u16> = BTreeMap::new();
    for _ in 0..usize::from(EACH) * prefixes {
        let got = subscriber.receive();
        let text = String::from_utf8(got.payload).unwrap();
        let (prefix, number) = text.split_once(' ').unwrap();
        let expected = next.entry((got.topic, prefix.into())).or_default();
        assert_eq!(number, expected.to_string(), "of {prefix}");
        *expected += 1;
    }
}

fn messages_of_a_topic_come_in_order(bench: &Bench<'_>) {
    for qos in 0..3 {
        let topic = bench.topic(&qos.to_string());
        let mut subscribers: Vec<Client> = (0..4)
            .map(|n| {
                let session = connect(V311, &bench.id(&n.to_string())).clean(n % 2 == 0);
                let mut subscriber = bench.client(&session);
                subscriber.subscribe(&topic, qos);
                subscriber
            })
            .collect();
        let mut publisher = bench.clean(V311, "p");
        std::thread::scope(|scope| {
            scope.spawn(|| publish_in_order(&mut publisher, &topic, "p", qos));
            for subscriber in &mut subscribers {
                scope.spawn(|| take_in_order(subscriber, 1));
            }
        });
        drop(subscribers);
        for n in 0..4 {
            end_session(bench, &n.to_string());
        }
    }
}

fn messages_of_each_publisher_come_in_order(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 2);
    let mut publishers: Vec<Client> = (0..4)
        .map(|n| bench.clean(V311, &format!("p{n}")))
        .collect();
    std::thread::scope(|scope| {
        for (n, publisher) in publishers.iter_mut().enumerate() {
            let topic = &topic;
            scope.spawn(move || publish_in_order(publisher, topic, &format!("p{n}"), 1));
        }
        take_in_order(&mut subscriber, 4);
    });
}

fn messages_come_in_order_through_a_window_that_is_full(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for clean in [true, false] {
        let mut client = bench.client(&connect(V311, &bench.id("s")).clean(clean));
        client.subscribe(&topic, 2);
        let mut publisher = bench.clean(V311, "p");
        for n in 1..=100 {
            publisher.publish(&publish(&topic, &n.to_string(), 1 + n as u8 % 2, n));
        }
        for n in 1..=100 {
            client.expect_message(&topic, &n.to_string(), 1 + n as u8 % 2, false);
        }
        client.expect_nothing_from(&mut publisher);
        drop(client);
        end_session(bench, "s");
    }
}

fn messages_come_in_order_while_a_client_comes_and_goes(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 1);
    let mut publisher = bench.clean(V311, "p");
    std::thread::scope(|scope| {
        scope.spawn(|| publish_in_order(&mut publisher, &topic, "p", 1));
        let mut client = client;
        let mut next = 0;
        while next < EACH {
            let got = client.message();
            let mut is_lost = false;
            let expected = format!("p {next}").into_bytes();
            if got.payload == expected {
                next += 1;
                is_lost = next % 40 == 0;
            } else {
                // What was acknowledged may cross the loss of its connection, and come again.
                assert!(got.dup, "{got:?} instead of {next}");
            }
            client.acknowledge(&got);
            if is_lost {
                client.drop_connection();
                client = bench.client(&session);
            }
        }
    });
    end_session(bench, "s");
}

fn messages_come_in_order_by_a_wildcard(bench: &Bench<'_>) {
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&bench.topic("#"), 1);
    let mut publisher = bench.clean(V311, "p");
    for n in 1..=120 {
        let topic = bench.topic(&format!("{}/{}", n % 3, n % 7));
        publisher.publish(&publish(&topic, &n.to_string(), 1, n));
    }
    // One publisher, one QoS: the order holds across topics, too, as the original has it.
    for n in 1..=120 {
        assert_eq!(subscriber.receive().payload, n.to_string().into_bytes());
    }
}
