//! SUBSCRIBE and UNSUBSCRIBE: filters, wildcards, codes, overlaps, options of 5.0.

use crate::client::Client;
use crate::wire::{Got, V5, V31, V311, connect, publish};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(overlapping_subscriptions_deliver_one_copy)
        .original_breaks("sends a copy for each, as allow_duplicate_messages has it"),
    test!(overlapping_subscriptions_of_a_stored_session_deliver_one_copy)
        .original_breaks("sends a copy for each, as allow_duplicate_messages has it"),
    test!(the_same_topic_reaches_every_subscriber),
    test!(deep_topics_match),
    test!(the_end_of_a_connection_ends_its_subscriptions),
];

fn overlapping(bench: &Bench<'_>, persistent: bool) {
    let session = connect(V5, &bench.id("s"));
    let session = if persistent {
        session.persistent()
    } else {
        session
    };
    let mut subscriber = bench.client(&session);
    let mut publisher = bench.clean(V5, "p");
    let topic = bench.topic("a/b");
    subscriber.subscribe(&bench.topic("a/#"), 0);
    subscriber.subscribe(&bench.topic("+/b"), 2);
    subscriber.subscribe(&topic, 1);
    for qos in 0..3 {
        publisher.publish(&publish(&topic, "x", qos, 1));
        // With the highest QoS of those that match [MQTT-3.3.4-2].
        subscriber.expect_message(&topic, "x", qos, false);
        subscriber.expect_nothing_from(&mut publisher);
    }
}

fn overlapping_subscriptions_deliver_one_copy(bench: &Bench<'_>) {
    overlapping(bench, false);
}

fn overlapping_subscriptions_of_a_stored_session_deliver_one_copy(bench: &Bench<'_>) {
    overlapping(bench, true);
}

fn the_same_topic_reaches_every_subscriber(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscribers: Vec<Client> = (0..24)
        .map(|n| {
            let session = connect([V31, V311, V5][n % 3], &bench.id(&n.to_string()));
            let session = if n % 4 == 0 {
                session.persistent()
            } else {
                session
            };
            let mut subscriber = bench.client(&session);
            subscriber.subscribe(&topic, (n % 3) as u8);
            subscriber
        })
        .collect();
    let mut publisher = bench.clean(V311, "p");
    for qos in 0..3 {
        publisher.publish(&publish(&topic, &qos.to_string(), qos, 1));
        for (n, subscriber) in subscribers.iter_mut().enumerate() {
            subscriber.expect_message(&topic, &qos.to_string(), qos.min((n % 3) as u8), false);
        }
    }
    for subscriber in &mut subscribers {
        subscriber.unsubscribe(&topic);
    }
}

fn deep_topics_match(bench: &Bench<'_>) {
    let topic = bench.topic(&"a/".repeat(150));
    let filter = bench.topic(&format!("{}+/#", "+/".repeat(149)));
    let mut subscriber = bench.clean(V311, "s");
    let mut publisher = bench.clean(V311, "p");
    subscriber.subscribe(&filter, 1);
    publisher.publish(&publish(&topic, "x", 1, 1));
    subscriber.expect_message(&topic, "x", 1, false);
}

fn the_end_of_a_connection_ends_its_subscriptions(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V5, "p");
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&topic, 1);
    publisher.send(&publish(&topic, "x", 1, 1).bytes(V5));
    publisher.expect(Got::Ack(crate::wire::PUBACK, 1, 0));
    subscriber.receive();
    subscriber.disconnect();
    // Other members are told in their own time.
    for id in 2.. {
        assert!(id < 60_000, "somebody still subscribes");
        publisher.send(&publish(&topic, "x", 1, id).bytes(V5));
        match publisher.next() {
            Got::Ack(_, got, 0x10) if got == id => return,
            Got::Ack(_, got, 0) if got == id => {}
            other => panic!("{other:?}"),
        }
    }
}
