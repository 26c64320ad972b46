//! Wills: when they are published, when not, and what they are like.

use crate::client::Client;
use crate::wire::{V5, V311, connect, publish};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(a_takeover_of_a_stored_session_publishes_it_before_the_new_one_speaks)
        .original_breaks("drops it, against [MQTT-3.1.2-8]"),
    test!(it_comes_behind_what_the_client_sent),
    test!(every_connection_has_its_own),
    test!(an_own_subscription_does_not_get_it),
    test!(many_lost_connections_leave_all_their_wills),
];

fn watcher(bench: &Bench<'_>, topic: &str) -> Client {
    let mut watcher = bench.clean(V5, "watcher");
    watcher.subscribe(topic, 2);
    watcher
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
