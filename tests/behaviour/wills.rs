//! Wills: when they are published, when not, and what they are like.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::wire::{V5, V311, connect, disconnect, property, publish};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(a_second_disconnect_of_5_can_ask_for_it),
    test!(a_takeover_of_a_stored_session_publishes_it_before_the_new_one_speaks)
        .original_breaks("drops it, against [MQTT-3.1.2-8]"),
    test!(it_comes_behind_what_the_client_sent),
    test!(every_connection_has_its_own),
    test!(its_properties_are_forwarded_without_the_delay),
    test!(a_will_delay_is_waited_for),
    test!(coming_back_in_time_stops_a_delayed_will),
    test!(the_end_of_the_session_ends_the_delay)
        .original_breaks("waits, and drops it at a clean start, against [MQTT-3.1.3-9]"),
    test!(an_own_subscription_does_not_get_it),
    test!(many_lost_connections_leave_all_their_wills),
];

fn watcher(bench: &Bench<'_>, topic: &str) -> Client {
    let mut watcher = bench.clean(V5, "watcher");
    watcher.subscribe(topic, 2);
    watcher
}

fn a_second_disconnect_of_5_can_ask_for_it(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    let session = connect(V5, &bench.id("c")).will(&topic, "gone", 2, false);
    let mut client = bench.client(&session);
    client.send(&disconnect(4));
    client.expect_end();
    watcher.expect_message(&topic, "gone", 2, false);
}

fn a_takeover_of_a_stored_session_publishes_it_before_the_new_one_speaks(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    let session = connect(V311, &bench.id("c"))
        .persistent()
        .will(&topic, "gone", 1, false);
    let mut client = bench.client(&session);
    for _ in 0..6 {
        let mut newer = bench.client(&session);
        newer.publish(&publish(&topic, "back", 1, 1));
        watcher.expect_message(&topic, "gone", 1, false);
        watcher.expect_message(&topic, "back", 1, false);
        client.expect_end();
        client = newer;
    }
    client.disconnect();
}

fn it_comes_behind_what_the_client_sent(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    for n in 0..10 {
        let session = connect(V311, &bench.id("c")).will(&topic, "gone", 1, false);
        let mut client = bench.client(&session);
        let batch: Vec<u8> = (1..=10)
            .flat_map(|id| publish(&topic, &format!("{n} {id}"), 1, id).bytes(V311))
            .collect();
        client.send(&batch);
        // Answered: so they were read before the end of the connection was seen.
        for id in 1..=10 {
            client.expect_ack(crate::wire::PUBACK, id);
        }
        client.drop_connection();
        for id in 1..=10 {
            watcher.expect_message(&topic, &format!("{n} {id}"), 1, false);
        }
        watcher.expect_message(&topic, "gone", 1, false);
    }
}

fn every_connection_has_its_own(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    let id = bench.id("c");
    bench
        .client(
            &connect(V311, &id)
                .persistent()
                .will(&topic, "one", 1, false),
        )
        .drop_connection();
    watcher.expect_message(&topic, "one", 1, false);
    // A connection without one has none, although the session goes on.
    bench
        .client(&connect(V311, &id).persistent())
        .drop_connection();
    bench
        .client(&connect(V311, &id).will(&topic, "two", 1, false))
        .drop_connection();
    watcher.expect_message(&topic, "two", 1, false);
}

fn its_properties_are_forwarded_without_the_delay(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    let kept = [
        property::payload_format(1),
        property::content_type("text/plain"),
        property::response_topic("answer/here"),
        property::correlation_data(&[0, 1, 255]),
        property::user("a", "1"),
        property::user("a", "2"),
    ];
    let mut session = connect(V5, &bench.id("c")).will(&topic, "gone", 1, false);
    for property in &kept[..3] {
        session = session.will_property(property.clone());
    }
    session = session.will_property(property::will_delay(0));
    for property in &kept[3..] {
        session = session.will_property(property.clone());
    }
    bench.client(&session).drop_connection();
    let got = watcher.expect_message(&topic, "gone", 1, false);
    assert_eq!(got.properties.concat(), kept.concat());
}

fn delayed(
    bench: &Bench<'_>,
    topic: &str,
    name: &str,
    expiry: u32,
    delay: u32,
) -> crate::wire::Connect {
    connect(V5, &bench.id(name))
        .clean(false)
        .property(property::session_expiry(expiry))
        .will(topic, name, 1, false)
        .will_property(property::will_delay(delay))
}

fn a_will_delay_is_waited_for(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    let client = bench.client(&delayed(bench, &topic, "late", 60, 2));
    let start = Instant::now();
    client.drop_connection();
    let mut publisher = bench.clean(V311, "p");
    watcher.expect_nothing_from(&mut publisher);
    watcher.expect_message(&topic, "late", 1, false);
    // The original counts whole seconds and may be early by one.
    assert!(
        start.elapsed() > Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
}

fn coming_back_in_time_stops_a_delayed_will(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    let session = delayed(bench, &topic, "back", 60, 2);
    bench.client(&session).drop_connection();
    let mut again = session.clone();
    again.will = None;
    let client = bench.client(&again);
    let other = delayed(bench, &topic, "other", 60, 3);
    bench.client(&other).drop_connection();
    // The later one comes; the earlier one did not.
    watcher.expect_message(&topic, "other", 1, false);
    client.disconnect();
}

fn the_end_of_the_session_ends_the_delay(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    bench
        .client(&delayed(bench, &topic, "no session", 0, 60))
        .drop_connection();
    watcher.expect_message(&topic, "no session", 1, false);
    bench
        .client(&delayed(bench, &topic, "short", 1, 60))
        .drop_connection();
    watcher.expect_message(&topic, "short", 1, false);
    // A clean start ends the session before.
    let session = delayed(bench, &topic, "clean", 600, 600);
    bench.client(&session).drop_connection();
    let mut clean = session.clone().clean(true);
    clean.will = None;
    let client = bench.client(&clean);
    watcher.expect_message(&topic, "clean", 1, false);
    client.disconnect();
}

fn an_own_subscription_does_not_get_it(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("c")).will(&topic, "gone", 0, false);
    let mut client = bench.client(&session);
    client.subscribe(&topic, 1);
    let mut watcher = watcher(bench, &topic);
    client.drop_connection();
    watcher.expect_message(&topic, "gone", 0, false);
    let mut client = bench.client(&connect(V311, &session.id));
    let mut publisher = bench.clean(V311, "p");
    client.expect_nothing_from(&mut publisher);
}

fn many_lost_connections_leave_all_their_wills(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut watcher = watcher(bench, &topic);
    let clients: Vec<Client> = (0..60)
        .map(|n| {
            let id = bench.id(&n.to_string());
            bench.client(&connect(V311, &id).will(&topic, &n.to_string(), 2, false))
        })
        .collect();
    drop(clients);
    let mut wills: Vec<usize> = (0..60)
        .map(|_| {
            String::from_utf8(watcher.receive().payload)
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    wills.sort_unstable();
    assert_eq!(wills, (0..60).collect::<Vec<_>>());
}
