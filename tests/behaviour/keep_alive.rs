//! Keep-alive: a silent client is closed after one and a half times of it.

use std::time::{Duration, Instant};

use crate::broker::Setup;
use crate::wire::{V5, V31, V311, connect, property, publish};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(a_silent_client_of_5_is_told).original_breaks("does not say why it closes"),
    test!(a_client_that_pings_stays),
    test!(zero_switches_it_off),
    test!(the_brokers_keep_alive_is_told).setup(Setup::Strict),
    test!(the_sessions_of_a_silent_client_stay),
];

/// How long after CONNACK a silent client is closed.
fn silence(bench: &Bench<'_>, version: u8, keep_alive: u16) -> Duration {
    let mut client = bench.client(&connect(version, &bench.id("silent")).keep_alive(keep_alive));
    let start = Instant::now();
    while client.try_next().is_some() {}
    start.elapsed()
}

fn a_silent_client_of_5_is_told(bench: &Bench<'_>) {
    let mut client = bench.client(&connect(V5, &bench.id("c")).keep_alive(1));
    client.expect_disconnect(0x8d);
}

fn a_client_that_pings_stays(bench: &Bench<'_>) {
    for version in [V31, V5] {
        let mut client = bench.client(&connect(version, &bench.id("c")).keep_alive(1));
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(2500) {
            client.ping();
            std::thread::sleep(Duration::from_millis(500));
        }
        client.ping();
    }
}

fn zero_switches_it_off(bench: &Bench<'_>) {
    let mut client = bench.client(&connect(V311, &bench.id("c")).keep_alive(0));
    silence(bench, V311, 1);
    client.ping();
}

fn the_brokers_keep_alive_is_told(bench: &Bench<'_>) {
    for (asked, told) in [
        (31, true),
        (0, true),
        (65535, true),
        (30, false),
        (1, false),
    ] {
        let mut client = bench.socket();
        let (_, code, properties) = client.connack(&connect(V5, &bench.id("c")).keep_alive(asked));
        assert_eq!(code, 0);
        let there = properties
            .windows(3)
            .any(|window| window == property::server_keep_alive(30));
        assert_eq!(there, told, "asked for {asked}: {properties:02x?}");
        client.disconnect();
    }
}

fn the_sessions_of_a_silent_client_stay(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("c")).persistent().keep_alive(1);
    let mut client = bench.client(&session);
    client.subscribe(&topic, 1);
    client.expect_end();
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&topic, "x", 1, 1));
    let mut client = bench.socket();
    assert!(client.connect(&session));
    client.expect_message(&topic, "x", 1, false);
    client.unsubscribe(&topic);
}
