//! Chapter 3.3.1.3: retained messages.

use crate::harness::client::Client;
use crate::wire::{Got, V311, connect, publish, subscribe};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(a_retained_message_is_kept_with_its_qos).checks(&["MQTT-3.3.1-5"]),
    test!(a_retained_message_is_kept_whoever_subscribes).checks(&["MQTT-3.3.1-5"]),
    test!(a_new_subscription_gets_the_last_of_each_topic).checks(&["MQTT-3.3.1-6"]),
    test!(a_new_subscription_of_another_session_gets_it_too).checks(&["MQTT-3.3.1-6"]),
    test!(a_retained_message_of_qos_0_replaces_one_of_qos_2).checks(&["MQTT-3.3.1-7"]),
    test!(retain_is_set_on_what_a_new_subscription_gets).checks(&["MQTT-3.3.1-8"]),
    test!(retain_is_not_set_on_what_comes_live).checks(&["MQTT-3.3.1-9"]),
    test!(retain_is_not_set_on_what_was_kept_for_an_absent_client).checks(&["MQTT-3.3.1-9"]),
    test!(an_empty_message_removes_and_is_delivered).checks(&["MQTT-3.3.1-10"]),
    test!(an_empty_message_is_never_retained).checks(&["MQTT-3.3.1-11"]),
    test!(a_message_without_retain_leaves_what_is_there).checks(&["MQTT-3.3.1-12"]),
    test!(an_empty_message_without_retain_removes_nothing).checks(&["MQTT-3.3.1-12"]),
    test!(retained_messages_of_dollar_topics_stay_apart).checks(&["MQTT-3.3.1-6", "MQTT-4.7.2-1"]),
];

/// Publishes it retained. A fence of the same publisher makes sure that it is kept, of QoS 0 too.
fn retain(bench: &Bench<'_>, publisher: &mut Client, topic: &str, payload: &str, qos: u8) {
    publisher.publish(&publish(topic, payload, qos, 1).retain());
    let behind = bench.topic("behind");
    publisher.publish(&publish(&behind, "", 2, 2).retain());
}

/// What a new subscription gets: payload and QoS.
fn kept(bench: &Bench<'_>, topic: &str) -> Option<(String, u8)> {
    let mut client = bench.client(&connect(V311, ""));
    client.subscribe(topic, 2);
    // Retained for the second subscription: behind what is retained for the first.
    let probe = bench.topic("probe");
    client.publish(&publish(&probe, "probe", 1, 9).retain());
    client.send(&subscribe(V311, 1, &[(&probe, 0)]));
    let mut found = None;
    loop {
        match client.next() {
            Got::Suback(..) => {}
            Got::Publish(got) if got.topic == probe => break,
            Got::Publish(got) => {
                assert!(
                    got.retain && got.topic == topic && found.is_none(),
                    "{got:?}"
                );
                client.acknowledge(&got);
                found = Some((String::from_utf8(got.payload).unwrap(), got.qos));
            }
            other => panic!("{other:?}"),
        }
    }
    client.unsubscribe(&probe);
    client.publish(&publish(&probe, "", 1, 9).retain());
    client.disconnect();
    found
}

fn is(payload: &str, qos: u8) -> Option<(String, u8)> {
    Some((payload.into(), qos))
}

fn a_retained_message_is_kept_with_its_qos(bench: &Bench<'_>) {
    let mut publisher = bench.clean(V311, "p");
    for qos in 0..3 {
        let topic = bench.topic(&qos.to_string());
        retain(bench, &mut publisher, &topic, "kept", qos);
        assert_eq!(kept(bench, &topic), is("kept", qos));
        for granted in 0..3 {
            let mut client = bench.client(&connect(V311, ""));
            client.subscribe(&topic, granted);
            client.expect_message(&topic, "kept", qos.min(granted), true);
            client.disconnect();
        }
        retain(bench, &mut publisher, &topic, "", qos);
    }
}

fn a_retained_message_is_kept_whoever_subscribes(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    let mut subscriber = bench.clean(V311, "s");
    subscriber.subscribe(&topic, 1);
    retain(bench, &mut publisher, &topic, "seen", 1);
    subscriber.expect_message(&topic, "seen", 1, false);
    publisher.drop_connection();
    assert_eq!(kept(bench, &topic), is("seen", 1));
    assert_eq!(kept(bench, &topic), is("seen", 1), "it is there for all");
    retain(bench, &mut subscriber, &topic, "", 1);
}

fn a_new_subscription_gets_the_last_of_each_topic(bench: &Bench<'_>) {
    let names = ["a", "a/b", "a/b/c", "a//d", "b"];
    let mut publisher = bench.clean(V311, "p");
    for n in 0..3 {
        for name in names {
            let payload = format!("{name} {n}");
            publisher.publish(&publish(&bench.topic(name), &payload, 1, 1).retain());
        }
    }
    for (filter, expected) in [
        ("a/b", &["a/b"][..]),
        ("a/#", &["a", "a//d", "a/b", "a/b/c"]),
        ("a/+", &["a/b"]),
        ("+", &["a", "b"]),
        ("+/+/+", &["a//d", "a/b/c"]),
        ("#", &["a", "a//d", "a/b", "a/b/c", "b"]),
        ("c/#", &[]),
    ] {
        let mut client = bench.client(&connect(V311, ""));
        client.subscribe(&bench.topic(filter), 1);
        let mut got: Vec<_> = expected.iter().map(|_| client.receive()).collect();
        got.sort_by(|a, b| a.topic.cmp(&b.topic));
        for (message, name) in got.iter().zip(expected) {
            let seen = (message.topic.clone(), message.payload.clone());
            assert_eq!(seen, (bench.topic(name), format!("{name} 2").into_bytes()));
        }
        client.expect_nothing_from(&mut publisher);
        client.disconnect();
    }
    for name in names {
        publisher.publish(&publish(&bench.topic(name), "", 1, 1).retain());
    }
}

fn a_new_subscription_of_another_session_gets_it_too(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    retain(bench, &mut publisher, &topic, "kept", 2);
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 2);
    client.expect_message(&topic, "kept", 2, true);
    client.ping();
    client.disconnect();
    // A subscription that is resumed is not a new one.
    let mut client = bench.client(&session);
    client.expect_nothing_from(&mut publisher);
    client.disconnect();
    bench.client(&session.clean(true)).disconnect();
    retain(bench, &mut publisher, &topic, "", 1);
}

fn a_retained_message_of_qos_0_replaces_one_of_qos_2(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    for (n, qos) in [2, 0, 1, 0, 0, 2].into_iter().enumerate() {
        retain(bench, &mut publisher, &topic, &n.to_string(), qos);
        // It may be discarded, but what it replaced must not come back; the original and ours keep it.
        assert_eq!(kept(bench, &topic), is(&n.to_string(), qos));
    }
    retain(bench, &mut publisher, &topic, "", 0);
    assert_eq!(kept(bench, &topic), None);
}

fn retain_is_set_on_what_a_new_subscription_gets(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    retain(bench, &mut publisher, &topic, "kept", 1);
    let mut client = bench.clean(V311, "c");
    client.send(&subscribe(V311, 1, &[(&topic, 1)]));
    client.expect(Got::Suback(1, vec![1]));
    let got = client.expect_message(&topic, "kept", 1, true);
    assert!(!got.dup);
    // Again by a wildcard, and live in between.
    publisher.publish(&publish(&topic, "live", 1, 1));
    client.expect_message(&topic, "live", 1, false);
    client.subscribe(&bench.topic("+"), 1);
    client.expect_message(&topic, "kept", 1, true);
    retain(bench, &mut publisher, &topic, "", 1);
}

fn retain_is_not_set_on_what_comes_live(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    for clean in [true, false] {
        let session = connect(V311, &bench.id("s")).clean(clean);
        let mut client = bench.client(&session);
        client.subscribe(&topic, 2);
        for qos in 0..3 {
            publisher.publish(&publish(&topic, "live", qos, 1).retain());
            client.expect_message(&topic, "live", qos, false);
        }
        publisher.publish(&publish(&topic, "", 2, 1).retain());
        client.expect_message(&topic, "", 2, false);
        client.disconnect();
        bench.client(&session.clean(true)).disconnect();
    }
}

fn retain_is_not_set_on_what_was_kept_for_an_absent_client(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 2);
    client.disconnect();
    let mut publisher = bench.clean(V311, "p");
    retain(bench, &mut publisher, &topic, "away", 1);
    let mut client = bench.client(&session);
    client.expect_message(&topic, "away", 1, false);
    client.expect_nothing_from(&mut publisher);
    client.disconnect();
    bench.client(&session.clean(true)).disconnect();
    retain(bench, &mut publisher, &topic, "", 1);
}

fn an_empty_message_removes_and_is_delivered(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    for qos in 0..3 {
        retain(bench, &mut publisher, &topic, "kept", 1);
        let mut client = bench.client(&connect(V311, ""));
        client.subscribe(&topic, 2);
        client.expect_message(&topic, "kept", 1, true);
        retain(bench, &mut publisher, &topic, "", qos);
        client.expect_message(&topic, "", qos, false);
        assert_eq!(kept(bench, &topic), None);
        client.disconnect();
    }
}

fn an_empty_message_is_never_retained(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    for qos in 0..3 {
        retain(bench, &mut publisher, &topic, "", qos);
        assert_eq!(kept(bench, &topic), None);
    }
    // A will is a message too.
    retain(bench, &mut publisher, &topic, "kept", 1);
    let session = connect(V311, &bench.id("c")).will(&topic, "", 1, true);
    let mut watcher = bench.clean(V311, "watcher");
    watcher.subscribe(&topic, 0);
    watcher.expect_message(&topic, "kept", 0, true);
    bench.client(&session).drop_connection();
    watcher.expect_message(&topic, "", 0, false);
    assert_eq!(kept(bench, &topic), None);
}

fn a_message_without_retain_leaves_what_is_there(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    for qos in 0..3 {
        publisher.publish(&publish(&topic, "passing", qos, 1));
        assert_eq!(kept(bench, &topic), None);
    }
    retain(bench, &mut publisher, &topic, "kept", 1);
    for qos in 0..3 {
        publisher.publish(&publish(&topic, "passing", qos, 1));
        assert_eq!(kept(bench, &topic), is("kept", 1));
    }
    retain(bench, &mut publisher, &topic, "", 1);
}

fn an_empty_message_without_retain_removes_nothing(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    retain(bench, &mut publisher, &topic, "kept", 1);
    for qos in 0..3 {
        publisher.publish(&publish(&topic, "", qos, 1));
        assert_eq!(kept(bench, &topic), is("kept", 1));
    }
    retain(bench, &mut publisher, &topic, "", 1);
}

fn retained_messages_of_dollar_topics_stay_apart(bench: &Bench<'_>) {
    let (plain, dollar) = (bench.topic("t"), format!("${}", bench.topic("t")));
    let mut publisher = bench.clean(V311, "p");
    retain(bench, &mut publisher, &plain, "plain", 1);
    retain(bench, &mut publisher, &dollar, "dollar", 1);
    let mut client = bench.clean(V311, "c");
    client.send(&subscribe(V311, 1, &[("+/t", 0)]));
    // Other tests retain such topics too.
    loop {
        match client.next() {
            Got::Publish(got) if got.topic == plain && got.retain => break,
            Got::Publish(got) => assert!(!got.topic.starts_with('$'), "{got:?}"),
            Got::Suback(..) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(kept(bench, &dollar), is("dollar", 1));
    retain(bench, &mut publisher, &plain, "", 1);
    retain(bench, &mut publisher, &dollar, "", 1);
}
