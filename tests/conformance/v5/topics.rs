//! 4.7: topic names and filters.

use super::closes;
use crate::harness::client::Client;
use crate::wire::{Got, V5, publish, subscribe, unsubscribe};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(a_number_sign_is_last_and_alone).checks(&["MQTT-4.7.1-1"]),
    test!(a_plus_sign_fills_its_level).checks(&["MQTT-4.7.1-2"]),
    test!(a_number_sign_matches_its_level_and_those_below).checks(&["MQTT-4.7.1-1"]),
    test!(a_plus_sign_matches_one_level).checks(&["MQTT-4.7.1-2"]),
    test!(wildcards_do_not_match_dollar_topics).checks(&["MQTT-4.7.2-1"]),
    test!(behind_a_dollar_level_wildcards_match).checks(&["MQTT-4.7.2-1"]),
    test!(an_empty_name_closes).checks(&["MQTT-4.7.3-1"]),
    test!(the_longest_topic_is_taken).checks(&["MQTT-4.7.3-3"]),
    test!(names_are_compared_byte_by_byte).checks(&["MQTT-4.7.3-4"]),
];

/// What may be said about a filter or a topic that is none.
const INVALID: &[u8] = &[0x81, 0x82, 0x8f, 0x90];

fn invalid(bench: &Bench<'_>, filter: &str) {
    closes(bench, &subscribe(V5, 1, &[(filter, 0)]), INVALID);
    closes(bench, &unsubscribe(V5, 1, &[filter]), INVALID);
}

fn a_number_sign_is_last_and_alone(bench: &Bench<'_>) {
    for filter in ["a/#/b", "#/a", "a#", "a/b#", "##", "#/", "#a", "#/#", "+#"] {
        invalid(bench, filter);
    }
}

fn a_plus_sign_fills_its_level(bench: &Bench<'_>) {
    for filter in ["a+", "+a/b", "a/+b/c", "++", "a/b+", "+a+"] {
        invalid(bench, filter);
    }
}

/// Subscribes to each filter in turn, publishes to its topic, and compares.
fn matches(bench: &Bench<'_>, pairs: &[(&str, &str, bool)]) {
    let mut publisher = bench.clean(V5, "p");
    let mut subscriber = bench.clean(V5, "s");
    for (filter, topic, expected) in pairs {
        let (filter, topic) = (bench.topic(filter), bench.topic(topic));
        subscriber.subscribe(&filter, 1);
        publisher.publish(&publish(&topic, &filter, 1, 1));
        if *expected {
            subscriber.expect_message(&topic, &filter, 1, false);
        }
        subscriber.expect_nothing_from(&mut publisher);
        subscriber.unsubscribe(&filter);
    }
}

fn a_number_sign_matches_its_level_and_those_below(bench: &Bench<'_>) {
    matches(
        bench,
        &[
            ("a/#", "a", true),
            ("a/#", "a/", true),
            ("a/#", "a/b", true),
            ("a/#", "a/b/c/d", true),
            ("a/#", "ab", false),
            ("a/#", "b/a", false),
            ("a/b/#", "a", false),
            ("#", "a/b", true),
            ("a/+/#", "a/b", true),
            ("a/+/#", "a", false),
            ("a/+/#", "a/b/c/d", true),
            ("/#", "/a", true),
            ("/#", "a", false),
        ],
    );
}

fn a_plus_sign_matches_one_level(bench: &Bench<'_>) {
    matches(
        bench,
        &[
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/+", "a/b/c", false),
            ("+/b", "a/b", true),
            ("+", "a", true),
            ("+", "/a", false),
            ("/+", "/a", true),
            ("+/+", "/b", true),
            ("+/+/+", "a//c", true),
            ("+/b/+", "a/b/c", true),
            ("a/+/c", "a/b/d", false),
        ],
    );
}

/// Takes everything until a message to this topic; nothing of it may be for a topic with a dollar sign.
fn nothing_with_a_dollar(client: &mut Client, last: &str) {
    loop {
        match client.next() {
            Got::Publish(message) if message.topic == last && !message.retain => return,
            Got::Publish(message) => {
                assert!(!message.topic.starts_with('$'), "{message:?}");
                client.acknowledge(&message);
            }
            Got::Suback(..) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn wildcards_do_not_match_dollar_topics(bench: &Bench<'_>) {
    let (dollar, plain) = (format!("${}", bench.topic("t")), bench.topic("t"));
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&dollar, "kept", 1, 1).retain());
    for filter in ["#", "+/t", "+/#", "+/+"] {
        let mut client = bench.clean(V5, "c");
        client.send(&subscribe(V5, 1, &[(filter, 0)]));
        // It holds from SUBACK on; others publish too.
        loop {
            match client.next() {
                Got::Suback(1, codes) => {
                    assert_eq!(codes, [0]);
                    break;
                }
                Got::Publish(message) => assert!(!message.topic.starts_with('$')),
                other => panic!("{other:?}"),
            }
        }
        publisher.publish(&publish(&dollar, "x", 1, 1));
        publisher.publish(&publish(&plain, "x", 1, 1));
        nothing_with_a_dollar(&mut client, &plain);
    }
    publisher.publish(&publish(&dollar, "", 1, 1).retain());
}

fn behind_a_dollar_level_wildcards_match(bench: &Bench<'_>) {
    let mut subscriber = bench.clean(V5, "s");
    let mut publisher = bench.clean(V5, "p");
    let root = format!("${}", bench.topic(""));
    for filter in ["a/b", "+/b", "#", "a/#"] {
        let filter = format!("{root}{filter}");
        subscriber.subscribe(&filter, 1);
        publisher.publish(&publish(&format!("{root}a/b"), "x", 1, 1));
        subscriber.expect_message(&format!("{root}a/b"), "x", 1, false);
        subscriber.unsubscribe(&filter);
    }
    // A dollar sign in another place means nothing.
    let inner = bench.topic("$a/b");
    subscriber.subscribe(&bench.topic("+/b"), 1);
    publisher.publish(&publish(&inner, "x", 1, 1));
    subscriber.expect_message(&inner, "x", 1, false);
}

fn an_empty_name_closes(bench: &Bench<'_>) {
    invalid(bench, "");
    for qos in 0..3 {
        closes(bench, &publish("", "x", qos, 1).bytes(V5), INVALID);
    }
    // One character is enough, also if it is a separator.
    let mut client = bench.clean(V5, "c");
    client.send(&subscribe(V5, 1, &[("/", 1), ("\u{1f980}", 1)]));
    client.expect(Got::Suback(1, vec![1, 1]));
    for topic in ["/", "\u{1f980}"] {
        client.publish(&publish(topic, "x", 1, 1));
        client.expect_message(topic, "x", 1, false);
    }
}

fn the_longest_topic_is_taken(bench: &Bench<'_>) {
    let mut topic = bench.topic("");
    let rest = 65535 - topic.len();
    topic.push_str(&"n".repeat(rest));
    let mut client = bench.clean(V5, "c");
    client.subscribe(&topic, 1);
    client.publish(&publish(&topic, "x", 1, 1));
    let got = client.receive();
    assert!(got.topic == topic && got.payload == b"x");
}

fn names_are_compared_byte_by_byte(bench: &Bench<'_>) {
    matches(
        bench,
        &[
            ("a", "a", true),
            ("a", "A", false),
            ("a", " a", false),
            ("a", "a ", false),
            ("/a", "a", false),
            ("a/", "a", false),
            ("a//b", "a/b", false),
            ("./a", "a", false),
            ("a/../b", "b", false),
            ("a%2fb", "a/b", false),
            // One letter in one character and in two; a ligature; two widths.
            ("\u{e9}", "e\u{301}", false),
            ("\u{fb01}", "fi", false),
            ("\u{ff21}", "A", false),
            ("\u{e9}", "\u{e9}", true),
        ],
    );
}
