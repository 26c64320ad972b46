//! Chapter 4.7: topic names and topic filters.

use std::collections::BTreeSet;

use super::expect_end_at;
use crate::harness::client::Client;
use crate::wire::{Got, V311, publish, subscribe, unsubscribe};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(wildcards_match_as_the_standard_says).checks(&[
        "MQTT-4.7.1-2",
        "MQTT-4.7.1-3",
        "MQTT-3.3.2-3",
    ]),
    test!(the_examples_of_the_standard_match).checks(&["MQTT-4.7.1-2", "MQTT-4.7.1-3"]),
    test!(a_number_sign_out_of_place_closes).checks(&["MQTT-4.7.1-2"]),
    test!(a_plus_sign_out_of_place_closes).checks(&["MQTT-4.7.1-3"]),
    test!(leading_wildcards_do_not_match_dollar_topics).checks(&["MQTT-4.7.2-1"]),
    test!(dollar_topics_match_filters_that_begin_so).checks(&["MQTT-4.7.2-1"]),
    test!(one_character_is_a_topic).checks(&["MQTT-4.7.3-1"]),
    test!(the_longest_topic_is_65535_bytes).checks(&["MQTT-4.7.3-3"]),
    test!(topics_are_not_normalised).checks(&["MQTT-4.7.3-4"]),
    test!(separators_make_levels_that_are_empty).checks(&["MQTT-4.7.3-4", "MQTT-4.7.1-3"]),
];

/// Whether a message on this topic reaches this filter.
struct Matcher {
    publisher: Client,
    subscriber: Client,
}

impl Matcher {
    fn new(bench: &Bench<'_>) -> Self {
        Self {
            publisher: bench.clean(V311, "p"),
            subscriber: bench.clean(V311, "s"),
        }
    }

    /// The filter matches the first topics and none of the others.
    fn check(&mut self, bench: &Bench<'_>, filter: &str, inside: &[&str], outside: &[&str]) {
        let filter = bench.topic(filter);
        self.subscriber.subscribe(&filter, 0);
        for name in inside.iter().chain(outside) {
            self.publisher
                .publish(&publish(&bench.topic(name), &filter, 0, 0));
        }
        for name in inside {
            self.subscriber
                .expect_message(&bench.topic(name), &filter, 0, false);
        }
        self.subscriber.expect_nothing_from(&mut self.publisher);
        self.subscriber.unsubscribe(&filter);
    }
}

fn wildcards_match_as_the_standard_says(bench: &Bench<'_>) {
    let mut matcher = Matcher::new(bench);
    for (filter, inside, outside) in [
        (
            "a/b",
            &["a/b"][..],
            &["a/b/", "a/B", "a", "/a/b", "a/bb", "a/b/c"][..],
        ),
        ("a/+", &["a/b", "a/"], &["a", "a/b/c", "b/a", "a//"]),
        ("+/b", &["a/b", "/b"], &["b", "a/b/", "a/a/b"]),
        ("+/+", &["a/b", "/b", "/", "a/"], &["a", "a/b/c"]),
        ("+/+/+", &["a//c", "//", "a/b/c"], &["a/b", "a/b/c/d"]),
        ("a/+/c", &["a/b/c", "a//c"], &["a/c", "a/b/b/c", "a/b/c/"]),
        ("a/#", &["a", "a/", "a/b", "a/b/c/d"], &["ab", "b/a", "/a"]),
        ("a/b/#", &["a/b", "a/b/c"], &["a", "a/bc"]),
        ("+/#", &["a", "a/b/c", "/"], &[]),
        ("a/+/#", &["a/b", "a/", "a/b/c/d"], &["a", "b/a"]),
        ("#", &["a", "a/b", "/", "a/$b"], &[]),
        ("/a", &["/a"], &["a", "//a"]),
    ] {
        matcher.check(bench, filter, inside, outside);
    }
}

fn the_examples_of_the_standard_match(bench: &Bench<'_>) {
    let mut matcher = Matcher::new(bench);
    for (filter, inside, outside) in [
        (
            "sport/tennis/player1/#",
            &[
                "sport/tennis/player1",
                "sport/tennis/player1/ranking",
                "sport/tennis/player1/score/wimbledon",
            ][..],
            &[][..],
        ),
        ("sport/#", &["sport", "sport/tennis"], &["sports"]),
        (
            "sport/tennis/+",
            &["sport/tennis/player1", "sport/tennis/player2"],
            &["sport/tennis/player1/ranking"],
        ),
        ("sport/+", &["sport/"], &["sport"]),
        (
            "+/tennis/#",
            &["sport/tennis", "sport/tennis/x"],
            &["tennis"],
        ),
        (
            "sport/+/player1",
            &["sport/tennis/player1"],
            &["sport/player1"],
        ),
        ("+/+", &["/finance"], &[]),
        ("/+", &["/finance"], &[]),
        ("+", &["finance"], &["/finance"]),
    ] {
        matcher.check(bench, filter, inside, outside);
    }
}

fn expect_bad_filters(bench: &Bench<'_>, filters: &[&str]) {
    for filter in filters {
        let bad = subscribe(V311, 1, &[(filter, 0)]);
        expect_end_at(&mut bench.clean(V311, "c"), &bad);
        let bad = subscribe(V311, 1, &[("fine", 0), (filter, 0)]);
        expect_end_at(&mut bench.clean(V311, "c"), &bad);
        let bad = unsubscribe(V311, 1, &[filter]);
        expect_end_at(&mut bench.clean(V311, "c"), &bad);
    }
}

fn a_number_sign_out_of_place_closes(bench: &Bench<'_>) {
    expect_bad_filters(
        bench,
        &[
            "sport/tennis#",
            "sport/tennis/#/ranking",
            "#/a",
            "##",
            "a/##",
            "#a",
            "a/#b",
            "#/",
        ],
    );
}

fn a_plus_sign_out_of_place_closes(bench: &Bench<'_>) {
    expect_bad_filters(
        bench,
        &["sport+", "+sport", "a/b+/c", "a/+b", "++", "a/++/b", "+#"],
    );
}

/// What others publish may come as well.
fn wait_for(client: &mut Client, is_it: impl Fn(&Got) -> bool) -> Vec<Got> {
    let mut before = Vec::new();
    loop {
        let got = client.next();
        if is_it(&got) {
            return before;
        }
        before.push(got);
    }
}

fn leading_wildcards_do_not_match_dollar_topics(bench: &Bench<'_>) {
    let mut client = bench.clean(V311, "c");
    let mut publisher = bench.clean(V311, "p");
    let (dollar, plain) = (format!("${}", bench.topic("t")), bench.topic("t"));
    for filter in ["#", "+/t", "+/#", "+/+"] {
        client.send(&subscribe(V311, 1, &[(filter, 0)]));
        wait_for(&mut client, |got| *got == Got::Suback(1, vec![0]));
        publisher.publish(&publish(&dollar, "x", 0, 0));
        publisher.publish(&publish(&plain, "x", 0, 0));
        let seen = wait_for(
            &mut client,
            |got| matches!(got, Got::Publish(p) if p.topic == plain),
        );
        for got in seen {
            let hidden = matches!(&got, Got::Publish(p) if p.topic.starts_with('$'));
            assert!(!hidden, "{got:?}");
        }
        client.send(&unsubscribe(V311, 2, &[filter]));
        wait_for(&mut client, |got| matches!(got, Got::Unsuback(2, _)));
    }
}

fn dollar_topics_match_filters_that_begin_so(bench: &Bench<'_>) {
    let mut client = bench.clean(V311, "s");
    let mut publisher = bench.clean(V311, "p");
    let root = format!("${}", bench.topic(""));
    let topic = format!("{root}a/b");
    for filter in ["a/b", "+/b", "a/+", "#", "a/#"] {
        let filter = format!("{root}{filter}");
        client.subscribe(&filter, 1);
        publisher.publish(&publish(&topic, "x", 1, 1));
        client.expect_message(&topic, "x", 1, false);
        client.unsubscribe(&filter);
    }
}

fn one_character_is_a_topic(bench: &Bench<'_>) {
    let mut client = bench.clean(V311, "c");
    let mut publisher = bench.clean(V311, "p");
    // Others may use such short names too.
    let payload = bench.topic("payload");
    for topic in ["/", "t", " ", "\u{20ac}"] {
        client.subscribe(topic, 0);
        publisher.publish(&publish(topic, &payload, 0, 0));
        wait_for(
            &mut client,
            |got| matches!(got, Got::Publish(p) if p.topic == topic && p.payload == payload.as_bytes()),
        );
        client.send(&unsubscribe(V311, 2, &[topic]));
        wait_for(&mut client, |got| matches!(got, Got::Unsuback(2, _)));
    }
}

fn the_longest_topic_is_65535_bytes(bench: &Bench<'_>) {
    let mut client = bench.clean(V311, "c");
    let mut publisher = bench.clean(V311, "p");
    let start = bench.topic("");
    for (length, last) in [(65_535, "z"), (65_535, "\u{20ac}"), (65_534, "z")] {
        let room = length - start.len() - last.len();
        let topic = format!("{start}{}{last}", "n".repeat(room));
        assert_eq!(topic.len(), length);
        client.subscribe(&topic, 1);
        publisher.publish(&publish(&topic, "x", 1, 1));
        client.expect_message(&topic, "x", 1, false);
    }
    client.expect_nothing_from(&mut publisher);
}

fn topics_are_not_normalised(bench: &Bench<'_>) {
    // A composed and a decomposed letter, cases, spaces, slashes, dots, percent signs: all of them are different.
    let names = [
        "\u{e9}",
        "e\u{301}",
        "E\u{301}",
        "e",
        "E",
        " e",
        "e ",
        "/e",
        "e/",
        "//e",
        "e//",
        "./e",
        "../e",
        "%65",
        "e\u{200d}",
        "\u{ff45}",
    ];
    let mut client = bench.clean(V311, "c");
    let mut publisher = bench.clean(V311, "p");
    for filter in names {
        client.subscribe(&bench.topic(filter), 0);
        for name in names {
            publisher.publish(&publish(&bench.topic(name), filter, 0, 0));
        }
        client.expect_message(&bench.topic(filter), filter, 0, false);
        client.expect_nothing_from(&mut publisher);
        client.unsubscribe(&bench.topic(filter));
    }
}

fn separators_make_levels_that_are_empty(bench: &Bench<'_>) {
    let names = ["", "/", "//", "a", "a/", "/a", "/a/", "a//"];
    let mut client = bench.clean(V311, "c");
    let mut publisher = bench.clean(V311, "p");
    client.subscribe(&bench.topic("#"), 0);
    let mut seen = BTreeSet::new();
    for name in names {
        publisher.publish(&publish(&bench.topic(name), name, 0, 0));
        let got = client.receive();
        assert_eq!(got.payload, name.as_bytes());
        seen.insert(got.topic);
    }
    assert_eq!(seen.len(), names.len(), "each is another one");
    client.expect_nothing_from(&mut publisher);
}
