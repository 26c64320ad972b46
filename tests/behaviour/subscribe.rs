//! SUBSCRIBE and UNSUBSCRIBE: filters, wildcards, codes, overlaps, options of 5.0.

use crate::client::Client;
use crate::wire::{Got, V5, V31, V311, connect, publish, subscribe, subscribe_with, unsubscribe};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(wildcards_match_as_the_standard_says),
    test!(wildcards_do_not_match_dollar_topics),
    test!(dollar_topics_need_a_filter_with_a_dollar),
    test!(suback_has_a_code_for_each_filter_in_order),
    test!(qos_is_granted_as_asked),
    test!(subscribing_again_replaces_the_subscription),
    test!(overlapping_subscriptions_deliver_one_copy)
        .original_breaks("sends a copy for each, as allow_duplicate_messages has it"),
    test!(overlapping_subscriptions_of_a_stored_session_deliver_one_copy)
        .original_breaks("sends a copy for each, as allow_duplicate_messages has it"),
    test!(the_same_topic_reaches_every_subscriber),
    test!(unsubscribing_stops_it_at_once),
    test!(unsuback_says_what_existed_in_5),
    test!(unsuback_has_no_codes_in_3),
    test!(unsubscribing_one_of_two_keeps_the_other),
    test!(a_filter_is_unsubscribed_only_as_it_was_subscribed),
    test!(invalid_filters_close_the_connection),
    test!(invalid_filters_to_unsubscribe_close_the_connection),
    test!(no_local_keeps_own_messages_away),
    test!(no_local_is_by_client_across_connections),
    test!(many_filters_in_one_packet),
    test!(deep_topics_match),
    test!(the_end_of_a_connection_ends_its_subscriptions),
];

fn matches(bench: &Bench<'_>, pairs: &[(&str, &str, bool)]) {
    let mut publisher = bench.clean(V311, "p");
    let mut subscriber = bench.clean(V311, "s");
    for (filter, topic, expected) in pairs {
        let (filter, topic) = (bench.topic(filter), bench.topic(topic));
        subscriber.subscribe(&filter, 0);
        publisher.publish(&publish(&topic, &filter, 0, 0));
        if *expected {
            subscriber.expect_message(&topic, &filter, 0, false);
        }
        subscriber.expect_nothing_from(&mut publisher);
        subscriber.unsubscribe(&filter);
    }
}

fn wildcards_match_as_the_standard_says(bench: &Bench<'_>) {
    matches(
        bench,
        &[
            ("a/b", "a/b", true),
            ("a/b", "a/b/", false),
            ("a/b", "a/B", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/+", "a/b/c", false),
            ("+/b", "a/b", true),
            ("+/+", "a/b", true),
            ("+/+", "/b", true),
            ("+/+/+", "a//c", true),
            ("+/b/+", "a/b/c", true),
            ("a/#", "a", true),
            ("a/#", "a/", true),
            ("a/#", "a/b", true),
            ("a/#", "a/b/c/d", true),
            ("a/#", "ab", false),
            ("a/b/#", "a", false),
            ("+/#", "a/b/c", true),
            ("a/+/#", "a/b", true),
            ("a/+/#", "a/b/c/d", true),
            ("a/+/#", "a", false),
            ("#", "a/b", true),
            ("/a", "/a", true),
            ("/a", "a", false),
        ],
    );
}

fn wildcards_do_not_match_dollar_topics(bench: &Bench<'_>) {
    let mut all = bench.clean(V311, "all");
    let mut publisher = bench.clean(V311, "p");
    let (dollar, plain) = (format!("${}", bench.topic("t")), bench.topic("t"));
    for filter in ["#", "+/t", "+/#"] {
        let id = 1;
        all.send(&subscribe(V311, id, &[(filter, 0)]));
        wait_for(&mut all, |got| *got == Got::Suback(id, vec![0]));
        publisher.publish(&publish(&dollar, "x", 0, 0));
        publisher.publish(&publish(&plain, "x", 0, 0));
        // Others publish too.
        let seen = wait_for(
            &mut all,
            |got| matches!(got, Got::Publish(p) if p.topic == plain && !p.retain),
        );
        for got in seen {
            assert!(
                !matches!(&got, Got::Publish(p) if p.topic.starts_with('$')),
                "{got:?}"
            );
        }
        all.send(&unsubscribe(V311, 2, &[filter]));
        wait_for(&mut all, |got| matches!(got, Got::Unsuback(2, _)));
    }
}

/// What came before what is waited for.
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

fn dollar_topics_need_a_filter_with_a_dollar(bench: &Bench<'_>) {
    let mut subscriber = bench.clean(V311, "s");
    let mut publisher = bench.clean(V311, "p");
    let root = format!("${}", bench.topic(""));
    for filter in ["a/b", "+/b", "#", "a/#"] {
        let filter = format!("{root}{filter}");
        subscriber.subscribe(&filter, 1);
        publisher.publish(&publish(&format!("{root}a/b"), "x", 1, 1));
        subscriber.expect_message(&format!("{root}a/b"), "x", 1, false);
        subscriber.unsubscribe(&filter);
    }
}

fn suback_has_a_code_for_each_filter_in_order(bench: &Bench<'_>) {
    let (a, b, c) = (bench.topic("a"), bench.topic("b"), bench.topic("c"));
    for version in [V31, V311, V5] {
        let mut client = bench.clean(version, &version.to_string());
        let filters = [(&*a, 2), (&*b, 0), (&*c, 1), (&*a, 1)];
        client.send(&subscribe(version, 0xfffe, &filters));
        client.expect(Got::Suback(0xfffe, vec![2, 0, 1, 1]));
        // The last one of a filter holds.
        client.publish(&publish(&a, "x", 2, 1));
        client.expect_message(&a, "x", 1, false);
    }
}

fn qos_is_granted_as_asked(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V311, "c");
    for qos in 0..3u8 {
        client.send(&subscribe(V311, 300, &[(&topic, qos)]));
        client.expect_bytes(&[0x90, 3, 1, 44, qos]);
    }
}

fn subscribing_again_replaces_the_subscription(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for persistent in [false, true] {
        let session = connect(V311, &bench.id(&persistent.to_string()));
        let session = if persistent {
            session.persistent()
        } else {
            session
        };
        let mut subscriber = bench.client(&session);
        let mut publisher = bench.clean(V311, "p");
        for qos in [2, 0, 1] {
            subscriber.subscribe(&topic, qos);
            publisher.publish(&publish(&topic, "x", 2, 1));
            subscriber.expect_message(&topic, "x", qos, false);
            subscriber.expect_nothing_from(&mut publisher);
        }
        subscriber.unsubscribe(&topic);
    }
}

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

fn unsubscribing_stops_it_at_once(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for version in [V31, V311, V5] {
        for qos in 0..3 {
            let mut subscriber = bench.clean(version, &format!("s{version}{qos}"));
            let mut publisher = bench.clean(version, &format!("p{version}{qos}"));
            subscriber.subscribe(&topic, qos);
            publisher.publish(&publish(&topic, "x", qos, 1));
            subscriber.expect_message(&topic, "x", qos, false);
            subscriber.unsubscribe(&topic);
            publisher.publish(&publish(&topic, "y", qos, 1));
            subscriber.expect_nothing_from(&mut publisher);
        }
    }
}

fn unsuback_says_what_existed_in_5(bench: &Bench<'_>) {
    let (a, b) = (bench.topic("a"), bench.topic("b"));
    for persistent in [false, true] {
        let session = connect(V5, &bench.id(&persistent.to_string()));
        let session = if persistent {
            session.persistent()
        } else {
            session
        };
        let mut client = bench.client(&session);
        client.subscribe(&a, 1);
        client.send(&unsubscribe(V5, 9, &[&b, &a, &a]));
        client.expect(Got::Unsuback(9, vec![0x11, 0, 0x11]));
    }
}

fn unsuback_has_no_codes_in_3(bench: &Bench<'_>) {
    for version in [V31, V311] {
        let mut client = bench.clean(version, &version.to_string());
        client.send(&unsubscribe(
            version,
            0x0102,
            &[&bench.topic("a"), &bench.topic("b")],
        ));
        client.expect_bytes(&[0xb0, 2, 1, 2]);
    }
}

fn unsubscribing_one_of_two_keeps_the_other(bench: &Bench<'_>) {
    let topic = bench.topic("a/b");
    let mut subscriber = bench.clean(V311, "s");
    let mut publisher = bench.clean(V311, "p");
    subscriber.subscribe(&bench.topic("a/+"), 1);
    subscriber.subscribe(&topic, 1);
    subscriber.unsubscribe(&topic);
    publisher.publish(&publish(&topic, "x", 1, 1));
    subscriber.expect_message(&topic, "x", 1, false);
    subscriber.expect_nothing_from(&mut publisher);
}

fn a_filter_is_unsubscribed_only_as_it_was_subscribed(bench: &Bench<'_>) {
    let topic = bench.topic("a/b");
    let mut subscriber = bench.clean(V311, "s");
    let mut publisher = bench.clean(V311, "p");
    subscriber.subscribe(&topic, 1);
    subscriber.unsubscribe(&bench.topic("a/+"));
    subscriber.unsubscribe(&bench.topic("#"));
    publisher.publish(&publish(&topic, "x", 1, 1));
    subscriber.expect_message(&topic, "x", 1, false);
}

const INVALID: [&str; 9] = [
    "", "a/#/b", "#/a", "a#", "a/b#", "a+", "+a/b", "a/+b/c", "##",
];

fn invalid_filters_close_the_connection(bench: &Bench<'_>) {
    for version in [V31, V311, V5] {
        for filter in INVALID {
            let mut client = bench.clean(version, &version.to_string());
            client.send(&subscribe(version, 1, &[(filter, 0)]));
            closed_or_told(&mut client);
        }
    }
}

fn invalid_filters_to_unsubscribe_close_the_connection(bench: &Bench<'_>) {
    for version in [V31, V311, V5] {
        for filter in INVALID {
            let mut client = bench.clean(version, &version.to_string());
            client.send(&unsubscribe(version, 1, &[filter]));
            closed_or_told(&mut client);
        }
    }
}

fn closed_or_told(client: &mut Client) {
    match client.try_next() {
        None => {}
        Some(Got::Disconnect(code)) if client.version == V5 && code >= 0x80 => client.expect_end(),
        Some(other) => panic!("{other:?}"),
    }
}

const NO_LOCAL: u8 = 4;

fn no_local_keeps_own_messages_away(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for persistent in [false, true] {
        let session = connect(V5, &bench.id(&persistent.to_string()));
        let session = if persistent {
            session.persistent()
        } else {
            session
        };
        let mut client = bench.client(&session);
        let mut other = bench.clean(V5, "other");
        client.subscribe(&topic, 2 | NO_LOCAL);
        for qos in 0..3 {
            client.publish(&publish(&topic, "own", qos, 1));
            other.publish(&publish(&topic, "other", qos, 1));
            client.expect_message(&topic, "other", qos, false);
        }
        client.expect_nothing_from(&mut other);
        client.unsubscribe(&topic);
    }
}

fn no_local_is_by_client_across_connections(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V5, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 2 | NO_LOCAL);
    client.publish(&publish(&topic, "own", 1, 1));
    client.disconnect();
    let mut other = bench.clean(V5, "other");
    other.publish(&publish(&topic, "other", 1, 1));
    let mut client = bench.client(&session);
    client.expect_message(&topic, "other", 1, false);
    client.publish(&publish(&topic, "own", 2, 1));
    client.expect_nothing_from(&mut other);
    client.unsubscribe(&topic);
}

fn many_filters_in_one_packet(bench: &Bench<'_>) {
    let names: Vec<String> = (0..500).map(|n| bench.topic(&n.to_string())).collect();
    let filters: Vec<(&str, u8)> = names
        .iter()
        .enumerate()
        .map(|(n, f)| (&**f, (n % 3) as u8))
        .collect();
    for version in [V311, V5] {
        let mut client = bench.clean(version, &version.to_string());
        client.send(&subscribe_with(version, 1, &[], &filters));
        client.expect(Got::Suback(
            1,
            filters.iter().map(|(_, qos)| *qos).collect(),
        ));
        let mut publisher = bench.clean(version, &format!("p{version}"));
        for (name, qos) in filters.iter().step_by(50) {
            publisher.publish(&publish(name, "x", 2, 1));
            client.expect_message(name, "x", *qos, false);
        }
        let filters: Vec<&str> = names.iter().map(|f| &**f).collect();
        client.send(&unsubscribe(version, 2, &filters));
        match client.next() {
            Got::Unsuback(2, codes) => assert!(codes.iter().all(|code| *code == 0)),
            other => panic!("{other:?}"),
        }
        publisher.publish(&publish(&names[7], "x", 1, 1));
        client.expect_nothing_from(&mut publisher);
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
