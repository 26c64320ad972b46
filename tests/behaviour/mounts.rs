//! `mount_point`: what stands before the topics of a listener's clients.

use crate::broker::Setup;
use crate::client::Client;
use crate::wire::{
    Got, Publish, V5, V311, connect, property, publish, subscribe, subscribe_with, unsubscribe,
};
use crate::{Bench, Test, test};

/// The first listener has a mount point, the second has none.
const MOUNTED: Setup = Setup::With(
    "mount_point m/\nlistener SECOND_PORT 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n",
);
/// As above, for the one test that subscribes to everything.
const EVERYTHING: Setup = Setup::With(
    "mount_point n/\nlistener SECOND_PORT 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n",
);
/// As above, without the slash.
const BLUNT: Setup = Setup::With(
    "mount_point m\nlistener SECOND_PORT 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n",
);

const NOT_CUT: &str = "does not cut it off what is delivered until 2.0.12";

pub const TESTS: &[Test] = &[
    test!(others_see_the_mount_point).setup(MOUNTED),
    test!(its_clients_do_not)
        .setup(MOUNTED)
        .original_breaks(NOT_CUT),
    test!(it_stands_before_filters)
        .setup(EVERYTHING)
        .original_breaks(NOT_CUT),
    test!(it_stands_before_retained_messages)
        .setup(MOUNTED)
        .original_breaks(NOT_CUT),
    test!(it_stands_before_wills).setup(MOUNTED),
    test!(it_stands_behind_the_group)
        .setup(MOUNTED)
        .original_breaks("puts it before $share, so that there is no group"),
    test!(a_subscription_behind_it_can_be_ended)
        .setup(MOUNTED)
        .original_breaks("2.0.11 looks for the filter without it"),
    test!(response_topics_pass_as_they_are).setup(MOUNTED),
    test!(it_stands_before_what_an_alias_stands_for)
        .setup(MOUNTED)
        .original_breaks(NOT_CUT),
    test!(a_stored_session_gets_what_waited_without_it)
        .setup(MOUNTED)
        .original_breaks(NOT_CUT),
    test!(a_session_that_came_in_elsewhere_sees_no_more)
        .setup(MOUNTED)
        .original_breaks("cuts as many bytes off any topic"),
    test!(a_topic_that_is_too_long_behind_it_closes)
        .setup(MOUNTED)
        .original_breaks("sends a length that is wrong"),
    test!(without_a_slash_wildcards_at_the_start_are_refused)
        .setup(BLUNT)
        .original_breaks("accepts them, and nothing ever matches"),
    test!(a_topic_is_not_left_empty)
        .setup(BLUNT)
        .original_breaks(NOT_CUT),
];

/// A client of the listener without a mount point.
fn outside(bench: &Bench<'_>, name: &str) -> Client {
    let mut client = bench.second_socket();
    client.connect(&connect(V5, &bench.id(name)));
    client
}

fn others_see_the_mount_point(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut other = outside(bench, "other");
    other.subscribe(&format!("m/{topic}"), 2);
    other.subscribe(&topic, 2);
    for (version, name) in [(V311, "p3"), (V5, "p5")] {
        let mut publisher = bench.clean(version, name);
        for qos in 0..3 {
            publisher.publish(&publish(&topic, "x", qos, 1));
            other.expect_message(&format!("m/{topic}"), "x", qos, false);
        }
    }
}

fn its_clients_do_not(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut five = bench.clean(V5, "s5");
    let mut three = bench.clean(V311, "s3");
    let mut publishers = [bench.clean(V5, "p"), outside(bench, "other")];
    for client in [&mut five, &mut three] {
        client.subscribe(&topic, 2);
    }
    let names = [topic.clone(), format!("m/{topic}")];
    for qos in 0..3 {
        for (publisher, name) in publishers.iter_mut().zip(&names) {
            publisher.publish(&publish(name, "x", qos, 1));
            five.expect_message(&topic, "x", qos, false);
            three.expect_message(&topic, "x", qos, false);
        }
    }
}

fn it_stands_before_filters(bench: &Bench<'_>) {
    let mut client = bench.clean(V5, "s");
    client.send(&subscribe_with(V5, 1, &[], &[("#", 1), ("$SYS/#", 0)]));
    // What other tests publish behind the same mount point may come before.
    loop {
        match client.next() {
            Got::Suback(1, codes) => break assert_eq!(codes, [1, 0]),
            Got::Publish(_) => {}
            other => panic!("{other:?}"),
        }
    }
    // Nothing of the broker and nothing of others.
    let mut other = outside(bench, "other");
    let topic = bench.topic("t");
    other.publish(&publish(&topic, "x", 1, 1));
    other.publish(&publish(&format!("n/{topic}"), "y", 1, 1));
    client.expect_message(&topic, "y", 1, false);
}

fn it_stands_before_retained_messages(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&topic, "x", 1, 1).retain());
    let mut client = bench.clean(V5, "s");
    client.subscribe(&topic, 1);
    client.expect_message(&topic, "x", 1, true);
    let mut other = outside(bench, "other");
    other.subscribe(&topic, 1);
    other.subscribe(&format!("m/{topic}"), 1);
    other.expect_message(&format!("m/{topic}"), "x", 1, true);
    publisher.publish(&publish(&topic, "", 1, 1).retain());
}

fn it_stands_before_wills(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut other = outside(bench, "other");
    other.subscribe(&format!("m/{topic}"), 1);
    let dying = connect(V5, &bench.id("w")).will(&topic, "gone", 1, false);
    bench.client(&dying).drop_connection();
    other.expect_message(&format!("m/{topic}"), "gone", 1, false);
}

fn it_stands_behind_the_group(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut inside = bench.clean(V5, "in");
    inside.subscribe(&format!("$share/g/{topic}"), 1);
    let mut other = outside(bench, "out");
    other.subscribe(&format!("$share/g/m/{topic}"), 1);
    let mut publisher = bench.clean(V5, "p");
    for n in 1..=10 {
        publisher.publish(&publish(&topic, "x", 1, n));
    }
    // It is one group: everyone gets some.
    inside.expect_message(&topic, "x", 1, false);
    other.expect_message(&format!("m/{topic}"), "x", 1, false);
}

fn a_subscription_behind_it_can_be_ended(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let shared = format!("$share/g/{topic}");
    let session = connect(V5, &bench.id("stored")).persistent();
    for mut client in [bench.clean(V5, "transient"), bench.client(&session)] {
        client.subscribe(&topic, 1);
        client.subscribe(&shared, 1);
        client.send(&unsubscribe(V5, 9, &[&topic, "never", &shared]));
        client.expect(Got::Unsuback(9, vec![0, 0x11, 0]));
        let mut publisher = bench.clean(V5, "p");
        publisher.publish(&publish(&topic, "x", 1, 1));
        client.ping();
    }
}

fn response_topics_pass_as_they_are(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut other = outside(bench, "other");
    other.subscribe(&format!("m/{topic}"), 1);
    let answer = property::response_topic("answer/here");
    let request = publish(&topic, "x", 1, 1).property(answer.clone());
    bench.clean(V5, "p").publish(&request);
    assert_eq!(other.receive().properties.concat(), answer);
}

fn it_stands_before_what_an_alias_stands_for(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let takes = property::topic_alias_maximum(5);
    let mut client = bench.client(&connect(V5, &bench.id("s")).property(takes));
    client.subscribe(&topic, 1);
    let mut publisher = bench.clean(V5, "p");
    for name in [topic.as_str(), ""] {
        let aliased = publish(name, "x", 1, 1).property(property::topic_alias(1));
        publisher.publish(&aliased);
        let Publish {
            topic: got,
            payload,
            ..
        } = client.receive();
        assert_eq!((got.as_str(), &payload[..]), (name, &b"x"[..]));
    }
}

fn a_stored_session_gets_what_waited_without_it(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 1);
    client.disconnect();
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&topic, "waited", 1, 1));
    let mut client = bench.client(&session);
    client.expect_message(&topic, "waited", 1, false);
    publisher.publish(&publish(&topic, "direct", 0, 0));
    client.expect_message(&topic, "direct", 0, false);
    client.unsubscribe(&topic);
}

fn a_session_that_came_in_elsewhere_sees_no_more(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let inside = format!("m/{topic}");
    let session = connect(V5, &bench.id("s")).persistent();
    let mut client = bench.second_socket();
    client.connect(&session);
    client.subscribe(&topic, 1);
    client.subscribe(&inside, 1);
    client.disconnect();
    let mut client = bench.client(&session);
    let mut other = outside(bench, "other");
    for qos in 0..2 {
        other.publish(&publish(&topic, "secret", qos, 1));
        other.publish(&publish(&inside, "x", qos, 1));
        client.expect_message(&topic, "x", qos, false);
    }
    client.drop_connection();
    let mut client = bench.second_socket();
    client.connect(&connect(V5, &bench.id("s")));
    client.disconnect();
}

fn a_topic_that_is_too_long_behind_it_closes(bench: &Bench<'_>) {
    let long = "x".repeat(65_534);
    let mut client = bench.clean(V5, "p");
    client.send(&publish(&long, "x", 1, 1).bytes(V5));
    let answer = client.bytes().unwrap();
    assert_eq!((answer[0], answer[2]), (0xe0, 0x90));
    client.expect_end();
    let mut client = bench.socket();
    let will = connect(V5, &bench.id("w")).will(&long, "x", 0, false);
    client.say_connect(&will);
    assert!(matches!(client.next(), Got::Connack { code: 0x90, .. }));
    client.expect_end();
    // As long as it may be.
    bench
        .clean(V5, "p")
        .publish(&publish(&long[1..], "x", 1, 1));
}

fn without_a_slash_wildcards_at_the_start_are_refused(bench: &Bench<'_>) {
    for (version, name, refused) in [(V311, "c3", 0x80), (V5, "c5", 0x8f)] {
        let mut client = bench.clean(version, name);
        let (all, some) = (format!("/{}/#", bench.id("t")), bench.topic("+"));
        let filters = [("#", 1), (&all, 1), ("+/a", 2), (&some, 0)];
        client.send(&subscribe(version, 1, &filters));
        client.expect(Got::Suback(1, vec![refused, 1, refused, 0]));
        client.ping();
    }
}

fn a_topic_is_not_left_empty(bench: &Bench<'_>) {
    let mut client = bench.clean(V5, "s");
    client.subscribe("/#", 1);
    let mut other = outside(bench, "other");
    // The filter is m/#, so both match.
    other.publish(&publish("m", "nameless", 1, 1));
    other.publish(&publish("m/a", "x", 1, 1));
    client.expect_message("/a", "x", 1, false);
}
