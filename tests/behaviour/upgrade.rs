//! `upgrade_outgoing_qos`: the subscription's QoS counts, whatever a message was published at.

use crate::broker::Setup;
use crate::wire::{V5, V311, connect, publish};
use crate::{Bench, Test, test};

const UPGRADE: Setup =
    Setup::With("upgrade_outgoing_qos true\nallow_anonymous true\nset_tcp_nodelay true\n");

pub const TESTS: &[Test] = &[
    test!(a_subscription_raises_the_qos).setup(UPGRADE),
    test!(a_subscription_lowers_it_as_ever).setup(UPGRADE),
    test!(a_stored_session_gets_each_message_once).setup(UPGRADE),
    test!(messages_of_qos_0_wait_for_who_is_absent).setup(UPGRADE),
    test!(retained_messages_are_raised_too).setup(UPGRADE),
    test!(shared_messages_are_raised_too).setup(UPGRADE),
    test!(subscribe_and_publish_in_one_segment).setup(UPGRADE),
];

fn a_subscription_raises_the_qos(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    for (version, name) in [(V311, "s3"), (V5, "s5")] {
        let mut client = bench.clean(version, name);
        for granted in 0..3 {
            client.subscribe(&topic, granted);
            for qos in 0..3 {
                publisher.publish(&publish(&topic, "x", qos, 1));
                client.expect_message(&topic, "x", granted, false);
            }
        }
    }
}

fn a_subscription_lowers_it_as_ever(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V311, "s");
    client.subscribe(&topic, 0);
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&topic, "x", 2, 1));
    client.expect_message(&topic, "x", 0, false);
}

fn a_stored_session_gets_each_message_once(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut publisher = bench.clean(V311, "p");
    for round in 0..2 {
        let mut client = bench.client(&session);
        if round == 0 {
            client.subscribe(&topic, 1);
        }
        for n in 0..20 {
            publisher.publish(&publish(&topic, &n.to_string(), n % 3, 1));
        }
        for n in 0..20 {
            client.expect_message(&topic, &n.to_string(), 1, false);
        }
        client.expect_nothing_from(&mut publisher);
        if round == 1 {
            client.unsubscribe(&topic);
        }
    }
}

fn messages_of_qos_0_wait_for_who_is_absent(bench: &Bench<'_>) {
    let (one, zero) = (bench.topic("one"), bench.topic("zero"));
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&one, 1);
    client.subscribe(&zero, 0);
    client.disconnect();
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&one, "a", 0, 0));
    publisher.publish(&publish(&zero, "lost", 0, 0));
    publisher.publish(&publish(&one, "b", 1, 1));
    let mut client = bench.client(&session);
    client.expect_message(&one, "a", 1, false);
    client.expect_message(&one, "b", 1, false);
    publisher.publish(&publish(&zero, "here", 0, 0));
    client.expect_message(&zero, "here", 0, false);
    client.unsubscribe(&one);
    client.unsubscribe(&zero);
}

fn retained_messages_are_raised_too(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&topic, "kept", 0, 0).retain());
    publisher.ping();
    let session = connect(V311, &bench.id("stored")).persistent();
    for mut client in [bench.clean(V311, "s"), bench.client(&session)] {
        client.subscribe(&topic, 2);
        client.expect_message(&topic, "kept", 2, true);
        client.unsubscribe(&topic);
    }
    publisher.publish(&publish(&topic, "", 0, 0).retain());
}

fn shared_messages_are_raised_too(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V5, "s");
    client.subscribe(&format!("$share/g/{topic}"), 2);
    let mut publisher = bench.clean(V311, "p");
    for qos in 0..3 {
        publisher.publish(&publish(&topic, "x", qos, 1));
        client.expect_message(&topic, "x", 2, false);
    }
}

fn subscribe_and_publish_in_one_segment(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for (version, name) in [(V311, "s3"), (V5, "s5")] {
        let session = connect(version, &bench.id(name)).persistent();
        let mut client = bench.client(&session);
        let mut bytes = crate::wire::subscribe(version, 1, &[(&topic, 1)]);
        bytes.extend(publish(&topic, "own", 0, 0).bytes(version));
        client.send(&bytes);
        let mut found = false;
        for _ in 0..2 {
            match client.next() {
                crate::wire::Got::Suback(1, codes) => assert_eq!(codes, [1]),
                crate::wire::Got::Publish(message) => {
                    assert_eq!((message.qos, &message.payload[..]), (1, &b"own"[..]));
                    client.acknowledge(&message);
                    found = true;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(found);
        client.unsubscribe(&topic);
    }
}
