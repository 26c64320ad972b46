//! What crosses from one worker to another: order, completeness, and what a killed worker leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::broker::Setup;
use crate::client::Client;
use crate::wire::{
    Connect, DISCONNECT, Got, PINGREQ, PUBACK, PUBCOMP, PUBREC, PUBREL, V5, V311, ack, connect,
    publish,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(ten_thousand_come_in_order_at_qos_0).setup(Setup::Alone),
    test!(ten_thousand_come_in_order_at_qos_1).setup(Setup::Alone),
    test!(ten_thousand_come_in_order_at_qos_2).setup(Setup::Alone),
    test!(publishers_of_all_workers_reach_a_subscriber_in_their_order).setup(Setup::Alone),
    test!(after_suback_nothing_is_missed),
    test!(after_suback_nothing_is_missed_by_a_stored_session),
    test!(a_killed_worker_loses_nothing_that_was_accepted).setup(Setup::Alone),
];

const MESSAGES: usize = 10_000;

/// As many as a client of 5.0 may have on their way.
const BATCH: usize = 20;

/// Publishes `prefix 0` and so on, in batches, with every step.
fn publish_all(publisher: &mut Client, topic: &str, prefix: &str, qos: u8, count: usize) {
    for start in (0..count).step_by(BATCH) {
        let ids = (start..count.min(start + BATCH)).zip(1u16..);
        let batch: Vec<u8> = ids
            .clone()
            .flat_map(|(n, id)| {
                publish(topic, &format!("{prefix} {n}"), qos, id).bytes(publisher.version)
            })
            .collect();
        publisher.send(&batch);
        if qos == 1 {
            ids.clone()
                .for_each(|(_, id)| publisher.expect_ack(PUBACK, id));
        } else if qos == 2 {
            ids.clone()
                .for_each(|(_, id)| publisher.expect_ack(PUBREC, id));
            publisher.send(
                &ids.clone()
                    .flat_map(|(_, id)| ack(PUBREL, id))
                    .collect::<Vec<u8>>(),
            );
            ids.for_each(|(_, id)| publisher.expect_ack(PUBCOMP, id));
        }
    }
}

/// Takes `count` messages of each publisher, each publisher's in their order.
fn take_all(subscriber: &mut Client, publishers: usize, qos: u8, count: usize) {
    let mut next: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..count * publishers {
        let got = subscriber.receive();
        assert_eq!((got.qos, got.dup), (qos, false));
        let text = String::from_utf8(got.payload).unwrap();
        let (prefix, number) = text.split_once(' ').unwrap();
        let expected = next.entry(prefix.into()).or_default();
        assert_eq!(number, expected.to_string(), "of {prefix}");
        *expected += 1;
    }
}

fn in_order(bench: &Bench<'_>, qos: u8) {
    let topic = bench.topic("t");
    let mut subscribers = vec![
        bench.clean(V5, "next"),
        bench.client(&connect(V311, &bench.id("stored")).persistent()),
        bench.clean(V311, "there"),
    ];
    for subscriber in &mut subscribers {
        subscriber.subscribe(&topic, 2);
    }
    // Four sockets: the publisher is alone on its worker.
    let mut publisher = bench.clean(V311, "p");
    std::thread::scope(|scope| {
        for subscriber in &mut subscribers {
            scope.spawn(|| take_all(subscriber, 1, qos, MESSAGES));
        }
        publish_all(&mut publisher, &topic, "p", qos, MESSAGES);
    });
    for subscriber in &mut subscribers {
        subscriber.expect_nothing_from(&mut publisher);
    }
}

fn ten_thousand_come_in_order_at_qos_0(bench: &Bench<'_>) {
    in_order(bench, 0);
}

fn ten_thousand_come_in_order_at_qos_1(bench: &Bench<'_>) {
    in_order(bench, 1);
}

fn ten_thousand_come_in_order_at_qos_2(bench: &Bench<'_>) {
    in_order(bench, 2);
}

fn publishers_of_all_workers_reach_a_subscriber_in_their_order(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&topic, 2);
    let mut publishers: Vec<Client> = (0..4).map(|n| bench.clean(V5, &format!("p{n}"))).collect();
    std::thread::scope(|scope| {
        for (n, publisher) in publishers.iter_mut().enumerate() {
            let topic = &topic;
            scope.spawn(move || publish_all(publisher, topic, &format!("p{n}"), 1, 2000));
        }
        take_all(&mut subscriber, 4, 1, 2000);
    });
}

const TRIES: usize = 200;

fn nothing_is_missed(bench: &Bench<'_>, stored: bool) {
    let sessions = |name: &str, n: usize| {
        let session = connect(V311, &bench.id(&format!("{name}{n}")));
        if stored && name == "s" {
            session.persistent()
        } else {
            session
        }
    };
    let mut subscribers: Vec<Client> = (0..4).map(|n| bench.client(&sessions("s", n))).collect();
    let mut publishers: Vec<Client> = (0..4).map(|n| bench.client(&sessions("p", n))).collect();
    for n in 0..TRIES {
        let subscriber = &mut subscribers[n % 4];
        let publisher = &mut publishers[(n + n / 4) % 4];
        // A filter that no worker has heard of yet; every other one is a wildcard.
        let topic = bench.topic(&format!("{n}/x"));
        let filter = if n % 2 == 0 {
            topic.clone()
        } else {
            bench.topic(&format!("{n}/+"))
        };
        subscriber.subscribe(&filter, 2);
        for qos in 0..3 {
            publisher.publish(&publish(&topic, &n.to_string(), qos, 1));
        }
        // One way for QoS 0, another for the rest: the order of these two is not owed to a stored session.
        let mut got: Vec<u8> = (0..3)
            .map(|_| {
                let message = subscriber.receive();
                assert_eq!(message.payload, n.to_string().as_bytes());
                message.qos
            })
            .collect();
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2]);
        if n % 3 == 0 {
            subscriber.unsubscribe(&filter);
        }
    }
}

fn after_suback_nothing_is_missed(bench: &Bench<'_>) {
    nothing_is_missed(bench, false);
}

fn after_suback_nothing_is_missed_by_a_stored_session(bench: &Bench<'_>) {
    nothing_is_missed(bench, true);
}

/// Books of a run in which workers are killed.
#[derive(Default)]
struct Books {
    accepted: AtomicUsize,
    stop: AtomicBool,
}

const PUBLISHERS: usize = 3;

/// Accepted messages between two kills.
const BETWEEN_KILLS: usize = 400;

const KILLS: usize = 3;

/// More than there may be messages in flight, with all the steps of each.
const PINGS_AT_THE_END: usize = 100;

/// Longer than a worker takes to come back.
const BACK_WITHIN: Duration = Duration::from_secs(15);

/// Connects as often as it takes; the port itself must never refuse.
fn connect_again(port: u16, session: &Connect) -> (Client, bool) {
    let start = Instant::now();
    while start.elapsed() < BACK_WITHIN {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the port is open");
        let mut client = Client::new(stream, 0, BACK_WITHIN);
        client.version = session.version;
        client.try_send(&session.bytes());
        match client.try_next() {
            Some(Got::Connack {
                present, code: 0, ..
            }) => return (client, present),
            Some(other) => panic!("{other:?} instead of CONNACK"),
            None => {}
        }
    }
    panic!("no CONNACK for {BACK_WITHIN:?}");
}

/// Publishes, each message once, until it is told to stop; says which ones were accepted.
fn publish_under_fire(
    port: u16,
    session: &Connect,
    topic: &str,
    number: usize,
    books: &Books,
) -> BTreeSet<String> {
    let mut accepted = BTreeSet::new();
    let (mut client, _) = connect_again(port, session);
    for n in 0.. {
        let last = books.stop.load(Ordering::Relaxed);
        let payload = if last {
            format!("{number} end")
        } else {
            format!("{number} {n}")
        };
        let (qos, id) = (1 + u8::from(n % 2 == 0), (n % 60_000 + 1) as u16);
        if publish_once(
            &mut client,
            &publish(topic, &payload, qos, id).bytes(V311),
            qos,
            id,
        ) {
            books.accepted.fetch_add(1, Ordering::Relaxed);
            accepted.insert(payload);
            if last {
                break;
            }
        } else {
            // A message without an answer may have arrived or not: it is not sent again, so that none comes twice.
            client = connect_again(port, session).0;
        }
    }
    accepted
}

/// Whether the broker accepted it.
fn publish_once(client: &mut Client, bytes: &[u8], qos: u8, id: u16) -> bool {
    client.try_send(bytes);
    let first = if qos == 1 { PUBACK } else { PUBREC };
    match client.try_next() {
        Some(got) => assert_eq!(got, Got::Ack(first, id, 0)),
        None => return false,
    }
    if qos == 2 {
        client.try_send(&ack(PUBREL, id));
        if let Some(got) = client.try_next() {
            assert_eq!(got, Got::Ack(PUBCOMP, id, 0));
        }
    }
    true
}

/// Receives until every publisher has said its end: payloads with how often they came, by their QoS.
fn receive_under_fire(port: u16, session: &Connect) -> BTreeMap<(u8, String), usize> {
    let mut received = BTreeMap::new();
    let (mut ends, mut released) = (BTreeSet::new(), BTreeSet::new());
    let (mut client, present) = connect_again(port, session);
    assert!(present, "the session is lost");
    let mut pings = 0;
    while ends.len() < PUBLISHERS || pings < PINGS_AT_THE_END {
        if ends.len() == PUBLISHERS {
            // In the original the end may overtake what waited for the window.
            client.try_send(PINGREQ);
            pings += 1;
        }
        match client.try_next() {
            Some(Got::Publish(message)) => {
                let text = String::from_utf8(message.payload.clone()).unwrap();
                let first = if message.qos == 1 { PUBACK } else { PUBREC };
                client.try_send(&ack(first, message.id));
                // A QoS 2 message that was not released may come again with its id.
                if message.qos == 2 && message.dup && released.contains(&message.id) {
                    continue;
                }
                if message.qos == 2 {
                    released.insert(message.id);
                }
                if text.ends_with("end") {
                    ends.insert(text.clone());
                }
                *received.entry((message.qos, text)).or_default() += 1;
            }
            Some(Got::Ack(PUBREL, id, _)) => {
                released.remove(&id);
                client.try_send(&ack(PUBCOMP, id));
            }
            Some(Got::Pingresp) => {}
            Some(other) => panic!("{other:?}"),
            None => {
                let (again, present) = connect_again(port, session);
                assert!(present, "the session is lost");
                client = again;
            }
        }
    }
    client.try_send(DISCONNECT);
    received
}

/// The pids of the workers, by their titles.
fn worker_pids(supervisor: u32) -> Vec<Pid> {
    let children = format!("/proc/{supervisor}/task/{supervisor}/children");
    let children = std::fs::read_to_string(children).unwrap();
    children
        .split_whitespace()
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|title| title.contains("worker"))
        })
        .map(|pid| Pid::from_raw(pid.parse().unwrap()))
        .collect()
}

/// Kills one worker after the other while messages flow.
fn kill_workers(bench: &Bench<'_>, books: &Books) {
    for n in 1..=KILLS + 1 {
        let start = Instant::now();
        while books.accepted.load(Ordering::Relaxed) < n * BETWEEN_KILLS {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "nothing is accepted any more"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        // The original has none, and has to come through without.
        let workers = worker_pids(bench.broker.pid);
        if n <= KILLS && bench.broker.workers > 0 {
            kill(workers[n % workers.len()], Signal::SIGKILL).unwrap();
        }
    }
}

fn a_killed_worker_loses_nothing_that_was_accepted(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let port = bench.broker.port;
    let stored = |name: &str| connect(V311, &bench.id(name)).persistent();
    for name in ["there", "away"] {
        let mut subscriber = bench.client(&stored(name));
        subscriber.subscribe(&topic, 2);
        subscriber.disconnect();
    }
    let books = Books::default();
    let (accepted, there) = std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|n| {
                let session = connect(V311, &bench.id(&format!("p{n}")));
                let (topic, books) = (&topic, &books);
                scope.spawn(move || publish_under_fire(port, &session, topic, n, books))
            })
            .collect();
        let session = stored("there");
        let there = scope.spawn(move || receive_under_fire(port, &session));
        kill_workers(bench, &books);
        books.stop.store(true, Ordering::Relaxed);
        let accepted: BTreeSet<String> = publishers
            .into_iter()
            .flat_map(|p| p.join().unwrap())
            .collect();
        (accepted, there.join().unwrap())
    });
    let away = receive_under_fire(port, &stored("away"));
    for (name, received) in [("there", there), ("away", away)] {
        let texts: BTreeSet<&String> = received.keys().map(|(_, text)| text).collect();
        let lost: Vec<&String> = accepted
            .iter()
            .filter(|text| !texts.contains(text))
            .collect();
        assert!(lost.is_empty(), "{name} did not get {lost:?}");
        let twice = received
            .iter()
            .find(|((qos, _), times)| *qos == 2 && **times > 1);
        assert_eq!(twice, None, "{name} got a message of QoS 2 twice");
    }
}
