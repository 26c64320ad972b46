//! Limits that the whole broker keeps, however the connections are spread over its workers.

use std::time::{Duration, Instant};

use crate::broker::Setup;
use crate::client::Client;
use crate::wire::{Connect, Got, PUBACK, PUBREC, Publish, V5, V311, connect, publish};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(connections_beyond_the_listeners_limit_are_closed_without_an_answer).setup(Setup::With(
        "allow_anonymous true\nmax_connections 3\n# closed\n",
    )),
    test!(a_connection_that_ends_makes_room_for_one)
        .setup(Setup::With(
            "allow_anonymous true\nmax_connections 3\n# room\n",
        ))
        .original_breaks("lets anybody in once somebody has left"),
    test!(a_takeover_is_no_further_connection)
        .setup(Setup::With(
            "allow_anonymous true\nmax_connections 3\n# takeover\n",
        ))
        .original_breaks("closes a client that comes back before its old connection is over"),
    test!(connections_beyond_the_global_limit_are_closed_without_an_answer)
        .setup(Setup::With(
            "allow_anonymous true\nglobal_max_connections 3\n# closed\n",
        ))
        .since_2_1(),
    test!(beyond_the_memory_limit_connections_and_messages_are_refused_until_there_is_room)
        .setup(Setup::With(
            "allow_anonymous true\nmemory_limit 30000000\nmax_queued_messages 0\n",
        ))
        .original_breaks("disconnects who publishes, with 0x80"),
    test!(beyond_the_limit_no_further_topic_is_retained)
        .setup(Setup::With(
            "allow_anonymous true\nglobal_max_retained_messages 3\nsys_interval 1\n",
        ))
        .original_breaks("has no global_max_retained_messages"),
    test!(an_interval_in_minutes_after_which_retained_messages_are_forgotten_is_accepted)
        .setup(Setup::With(
            "allow_anonymous true\nretain_expiry_interval 1\ncheck_retain_source true\n",
        ))
        .since_2_1(),
    test!(clients_beyond_the_global_limit_are_refused)
        .setup(Setup::With("allow_anonymous true\nglobal_max_clients 3\n"))
        .since_2_1(),
];

/// Longer than the end of a connection takes to be known everywhere.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);

/// Whether a client that says this is let in; `Err` has the code of a refusal, if there is one.
fn try_connect(bench: &Bench<'_>, connect: &Connect) -> Result<Client, Option<u8>> {
    let mut client = bench.socket();
    client.version = connect.version;
    client.try_send(&connect.bytes());
    match client.try_next() {
        Some(Got::Connack { code: 0, .. }) => Ok(client),
        Some(Got::Connack { code, .. }) => {
            client.expect_end();
            Err(Some(code))
        }
        Some(other) => panic!("{other:?} instead of CONNACK"),
        None => Err(None),
    }
}

/// Tries until it is let in: a broker may learn late that another one has left.
fn let_in_soon(bench: &Bench<'_>, connect: &Connect) -> Client {
    let start = Instant::now();
    while start.elapsed() < SETTLES_WITHIN {
        if let Ok(client) = try_connect(bench, connect) {
            return client;
        }
    }
    panic!("not let in");
}

fn three_and_no_more(bench: &Bench<'_>) -> Vec<Client> {
    let session = |n: usize| {
        connect(
            if n.is_multiple_of(2) { V311 } else { V5 },
            &bench.id(&n.to_string()),
        )
    };
    let clients: Vec<Client> = (0..3).map(|n| bench.client(&session(n))).collect();
    for n in 3..7 {
        let denied = try_connect(bench, &session(n)).err();
        assert_eq!(denied, Some(None), "the {n}th has no place and no answer");
    }
    clients
}

fn two_leave_and_two_come(bench: &Bench<'_>, mut clients: Vec<Client>) {
    let session = |n: usize| connect(V311, &bench.id(&n.to_string()));
    clients.remove(1).disconnect();
    clients.remove(0).drop_connection();
    clients.push(let_in_soon(bench, &session(7)));
    clients.push(let_in_soon(bench, &session(8)));
    assert_eq!(try_connect(bench, &session(9)).err(), Some(None));
    for client in &mut clients {
        client.ping();
    }
}

fn connections_beyond_the_listeners_limit_are_closed_without_an_answer(bench: &Bench<'_>) {
    three_and_no_more(bench);
}

fn a_connection_that_ends_makes_room_for_one(bench: &Bench<'_>) {
    let clients = three_and_no_more(bench);
    two_leave_and_two_come(bench, clients);
}

fn connections_beyond_the_global_limit_are_closed_without_an_answer(bench: &Bench<'_>) {
    let clients = three_and_no_more(bench);
    two_leave_and_two_come(bench, clients);
}

fn a_takeover_is_no_further_connection(bench: &Bench<'_>) {
    let session = |n: usize| connect(V311, &bench.id(&n.to_string())).persistent();
    let mut clients: Vec<Client> = (0..3).map(|n| bench.client(&session(n))).collect();
    for n in 0..9 {
        let Ok(client) = try_connect(bench, &session(n % 3)) else {
            panic!("takeover {n} is refused");
        };
        let mut old = std::mem::replace(&mut clients[n % 3], client);
        old.expect_end();
    }
    assert_eq!(try_connect(bench, &session(3)).err(), Some(None));
}

fn clients_beyond_the_global_limit_are_refused(bench: &Bench<'_>) {
    let stored = |n: usize| connect(V311, &bench.id(&n.to_string())).persistent();
    let mut here = bench.client(&stored(0));
    bench.client(&stored(1)).disconnect();
    bench.client(&stored(2)).disconnect();
    for _ in 0..4 {
        let three = connect(V311, &bench.id("three"));
        assert_eq!(try_connect(bench, &three).err(), Some(Some(3)));
        let five = connect(V5, &bench.id("five"));
        assert_eq!(try_connect(bench, &five).err(), Some(Some(0x97)));
    }
    // Who has a session is no further client, whether it comes back or takes over.
    assert!(bench.client(&stored(0)).version == V311);
    here.expect_end();
    assert!(try_connect(bench, &stored(1)).is_ok());
    // One that ends its session makes room.
    let mut clean = stored(2);
    clean.clean = true;
    bench.client(&clean).disconnect();
    let_in_soon(bench, &connect(V5, &bench.id("five"))).disconnect();
}

fn beyond_the_limit_no_further_topic_is_retained(bench: &Bench<'_>) {
    let topic = |n: usize| bench.topic(&n.to_string());
    let mut publisher = bench.clean(V5, "p");
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&bench.topic("#"), 1);
    for n in 0..5 {
        publisher.publish(&publish(&topic(n), "first", 1, 1).retain());
        subscriber.expect_message(&topic(n), "first", 1, false);
    }
    publisher.publish(&publish(&topic(1), "second", 1, 1).retain());
    publisher.publish(&publish(&topic(2), "", 1, 1).retain());
    publisher.publish(&publish(&topic(4), "second", 1, 1).retain());
    // A stored session's answer comes from the store, behind all that.
    let mut reader = bench.client(&connect(V5, &bench.id("r")).persistent());
    reader.subscribe(&bench.topic("#"), 1);
    let mut got: Vec<(String, Vec<u8>)> = (0..3)
        .map(|_| reader.receive())
        .map(|message| (message.topic, message.payload))
        .collect();
    got.sort();
    let expected = [(0, "first"), (1, "second"), (4, "second")];
    let expected = expected.map(|(n, text)| (topic(n), text.as_bytes().to_vec()));
    assert_eq!(got, expected);
    reader.expect_nothing_from(&mut publisher);
}

/// That they are is shown with a clock of the store's own.
fn an_interval_in_minutes_after_which_retained_messages_are_forgotten_is_accepted(
    bench: &Bench<'_>,
) {
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&bench.topic("t"), "x", 1, 1).retain());
    let mut reader = bench.clean(V5, "r");
    reader.subscribe(&bench.topic("t"), 1);
    let message = reader.expect_message(&bench.topic("t"), "x", 1, true);
    assert!(message.properties.is_empty(), "it has no expiry of its own");
}

fn beyond_the_memory_limit_connections_and_messages_are_refused_until_there_is_room(
    bench: &Bench<'_>,
) {
    let topic = bench.topic("t");
    let mut slow = bench.client(&connect(V311, &bench.id("slow")).persistent());
    slow.subscribe(&topic, 1);
    let mut old = bench.clean(V311, "old");
    let mut older = bench.clean(V311, "older");
    let mut publisher = bench.clean(V5, "p");
    let mut other = bench.clean(V5, "other");
    other.subscribe(&bench.topic("small"), 1);
    let large = Publish {
        payload: vec![b'x'; 20_000],
        ..publish(&topic, "", 1, 1)
    };
    let mut accepted = 0;
    loop {
        publisher.send(&large.bytes(V5));
        match publisher.next() {
            Got::Ack(PUBACK, 1, 0) => accepted += 1,
            Got::Ack(PUBACK, 1, 0x97) => break,
            other => panic!("{other:?}"),
        }
        assert!(accepted < 10_000, "nothing is refused");
    }
    assert!(accepted > 20, "it takes more than {accepted} to be full");
    bench.broker.wait_for_log("memory_limit exceeded");
    // Every worker learns of it within a moment.
    let (start, mut refused) = (Instant::now(), 0);
    while refused < 8 {
        let five = refused % 2 == 0;
        let (version, code) = if five { (V5, 0x89) } else { (V311, 3) };
        match try_connect(bench, &connect(version, &bench.id("new"))) {
            Ok(_) => refused = 0,
            Err(answer) => {
                assert_eq!(answer, Some(code));
                refused += 1;
            }
        }
        assert!(start.elapsed() < SETTLES_WITHIN, "still lets clients in");
    }
    let small = bench.topic("small");
    publisher.send(&publish(&small, "x", 2, 2).bytes(V5));
    publisher.expect(Got::Ack(PUBREC, 2, 0x97));
    publisher.publish(&publish(&small, "", 1, 3).retain());
    other.expect_message(&small, "", 1, false);
    old.send(&publish(&small, "x", 0, 0).bytes(V311));
    old.ping();
    older.send(&publish(&small, "x", 1, 4).bytes(V311));
    older.expect_end();
    // What was accepted comes, and its acknowledgements make room.
    for _ in 0..accepted {
        slow.receive();
    }
    bench.broker.wait_for_log("below memory_limit again");
    let_in_soon(bench, &connect(V5, &bench.id("new")));
    let start = Instant::now();
    loop {
        publisher.send(&publish(&small, "x", 1, 5).bytes(V5));
        match publisher.next() {
            Got::Ack(PUBACK, 5, 0) => break,
            Got::Ack(PUBACK, 5, 0x97) => assert!(start.elapsed() < SETTLES_WITHIN),
            other => panic!("{other:?}"),
        }
    }
    other.expect_message(&small, "x", 1, false);
}
