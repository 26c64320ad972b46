//! Sessions: clean and persistent, present or not, followed to another worker, taken over, expired.

use crate::client::Client;
use crate::wire::{Connect, Got, V5, V31, V311, connect, disconnect, packet, property, publish};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(a_session_takes_no_qos_0_while_away),
    test!(a_session_follows_its_client_to_every_worker),
    test!(disconnect_can_shorten_the_expiry),
    test!(disconnect_cannot_prolong_an_expiry_of_0),
    test!(a_takeover_closes_the_older_connection),
    test!(a_takeover_keeps_a_persistent_session),
    test!(many_takeovers_leave_one_connection),
    test!(a_queue_outlives_a_lost_connection),
];

/// A connection on every worker, one after the other.
fn places(bench: &Bench<'_>) -> usize {
    bench.broker.workers.max(1)
}

fn a_session_takes_no_qos_0_while_away(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let persistent = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&persistent);
    client.subscribe(&topic, 1);
    client.disconnect();
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&topic, "zero", 0, 0));
    publisher.publish(&publish(&topic, "one", 1, 1));
    let mut client = bench.client(&persistent);
    client.expect_message(&topic, "one", 1, false);
    client.expect_nothing_from(&mut publisher);
}

fn a_session_follows_its_client_to_every_worker(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let persistent = connect(V5, &bench.id("s")).persistent();
    let mut publisher = bench.clean(V5, "p");
    let mut client = bench.client(&persistent);
    client.subscribe(&topic, 2);
    for worker in 0..places(bench) * 3 {
        // Half of the time the connection is lost, half of the time it was ended.
        if worker % 2 == 0 {
            client.disconnect();
        } else {
            client.drop_connection();
        }
        publisher.publish(&publish(&topic, &format!("away {worker}"), 2, 1));
        client = bench.socket_on(worker);
        assert!(client.connect(&persistent));
        client.expect_message(&topic, &format!("away {worker}"), 2, false);
        publisher.publish(&publish(&topic, &format!("there {worker}"), 1, 1));
        client.expect_message(&topic, &format!("there {worker}"), 1, false);
        client.expect_nothing_from(&mut publisher);
        publisher.publish(&publish(&topic, "zero", 0, 0));
        client.expect_message(&topic, "zero", 0, false);
    }
}

fn expiring(bench: &Bench<'_>, name: &str, seconds: u32) -> Connect {
    connect(V5, &bench.id(name))
        .clean(false)
        .property(property::session_expiry(seconds))
}

/// Connects until there is no session any more.
fn expect_expiry(bench: &Bench<'_>, again: &Connect) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(15);
    loop {
        // Looking must not keep it alive: the wait is longer than the expiry.
        std::thread::sleep(std::time::Duration::from_millis(2500));
        let mut client = bench.socket();
        if !client.connect(again) {
            return;
        }
        client.disconnect();
        assert!(std::time::Instant::now() < end, "it never expires");
    }
}

fn disconnect_can_shorten_the_expiry(bench: &Bench<'_>) {
    let session = expiring(bench, "s", 1000);
    let mut client = bench.client(&session);
    client.send(&disconnect_with_expiry(0));
    client.expect_end();
    let mut client = bench.socket();
    assert!(!client.connect(&session), "0 ends it at once");
    client.send(&disconnect_with_expiry(1));
    client.expect_end();
    let again = expiring(bench, "s", 1);
    expect_expiry(bench, &again);
}

fn disconnect_with_expiry(seconds: u32) -> Vec<u8> {
    let mut body = vec![0, 5];
    body.extend(property::session_expiry(seconds));
    packet(0xe0, &body)
}

fn disconnect_cannot_prolong_an_expiry_of_0(bench: &Bench<'_>) {
    let session = connect(V5, &bench.id("s"));
    let mut client = bench.client(&session);
    client.send(&disconnect_with_expiry(1000));
    client.expect_disconnect(0x82);
    let mut client = bench.socket();
    assert!(!client.connect(&session.clean(false)));
}

fn takeover(bench: &Bench<'_>, connect: &Connect, check: impl Fn(&mut Client)) {
    for distance in 0..places(bench) {
        let mut older = bench.socket_on(0);
        older.connect(connect);
        let mut newer = bench.socket_on(distance);
        newer.connect(connect);
        check(&mut older);
        newer.ping();
        newer.disconnect();
    }
}

fn a_takeover_closes_the_older_connection(bench: &Bench<'_>) {
    for version in [V31, V311] {
        let session = connect(version, &bench.id(&version.to_string()));
        takeover(bench, &session, Client::expect_end);
        takeover(bench, &session.clone().persistent(), Client::expect_end);
        bench.client(&session).disconnect();
    }
}

fn a_takeover_keeps_a_persistent_session(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let persistent = connect(V311, &bench.id("s")).persistent();
    let mut publisher = bench.clean(V311, "p");
    let mut client = bench.client(&persistent);
    client.subscribe(&topic, 1);
    for n in 0..places(bench) {
        publisher.publish(&publish(&topic, &n.to_string(), 1, 1));
        client.expect_message(&topic, &n.to_string(), 1, false);
        client.ping();
        let mut newer = bench.socket();
        assert!(newer.connect(&persistent));
        client.expect_end();
        client = newer;
    }
    client.expect_nothing_from(&mut publisher);
}

fn many_takeovers_leave_one_connection(bench: &Bench<'_>) {
    let clean = connect(V5, &bench.id("s"));
    let mut clients: Vec<Client> = (0..12).map(|_| bench.socket()).collect();
    for client in &mut clients {
        client.say_connect(&clean);
    }
    // Whoever is refused hears 0x80 (CONNACK has nothing better), whoever is taken over 0x8e: all but one.
    let mut open = 0;
    for client in &mut clients {
        client.try_send(crate::wire::PINGREQ);
        loop {
            match client.try_next() {
                // CONNACK has no 0x8e.
                Some(Got::Connack { code: 0 | 0x80, .. }) => {}
                Some(Got::Disconnect(code)) => assert_eq!(code, 0x8e),
                Some(Got::Pingresp) => {
                    open += 1;
                    break;
                }
                Some(other) => panic!("{other:?}"),
                None => break,
            }
        }
    }
    // A ping may have been answered before the takeover; the end decides.
    assert!(open >= 1);
    let mut last = bench.client(&clean);
    for client in &mut clients {
        while client.try_next().is_some() {}
    }
    last.send(&disconnect(0));
    last.expect_end();
}

fn a_queue_outlives_a_lost_connection(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let persistent = connect(V311, &bench.id("s")).persistent();
    let mut client = bench.client(&persistent);
    client.subscribe(&topic, 1);
    let mut publisher = bench.clean(V311, "p");
    for n in 1..=50u16 {
        publisher.publish(&publish(&topic, &n.to_string(), 1, n));
    }
    // Twenty are on their way when the connection is lost, thirty wait.
    client.drop_connection();
    let mut client = bench.client(&persistent);
    for n in 1..=50u16 {
        let got = client.expect_message(&topic, &n.to_string(), 1, false);
        assert_eq!(got.dup, n <= 20, "{got:?}");
    }
    client.expect_nothing_from(&mut publisher);
}
