//! What may be under way to a client and what may wait for it, and what is dropped beyond that.

use crate::broker::Setup;
use crate::client::Client;
use crate::wire::{Publish, V5, V311, connect, publish};
use crate::{Bench, Test, test};

const SMALL: Setup =
    Setup::With("allow_anonymous true\nmax_inflight_messages 3\nmax_queued_messages 5\n");
const QOS0_TOO: Setup = Setup::With(
    "allow_anonymous true\nmax_inflight_messages 3\nmax_queued_messages 5\nqueue_qos0_messages true\n",
);
const QUEUED_BYTES: Setup =
    Setup::With("allow_anonymous true\nmax_inflight_messages 1\nmax_queued_bytes 25\n");
const INFLIGHT_BYTES: Setup = Setup::With("allow_anonymous true\nmax_inflight_bytes 25\n");
const OLDEST: Setup = Setup::With(
    "allow_anonymous true\nmax_inflight_messages 3\nmax_queued_messages 5\nqueue_policy drop-oldest\n",
);
const ALL_QUEUED_BYTES: Setup =
    Setup::With("allow_anonymous true\nmax_inflight_messages 1\nglobal_max_queued_bytes 100\n");

pub const TESTS: &[Test] = &[
    test!(an_absent_client_gets_what_its_queue_holds).setup(SMALL),
    test!(a_full_queue_leaves_qos_0_alone).setup(SMALL),
    test!(qos_0_waits_for_an_absent_client_where_it_may)
        .setup(QOS0_TOO)
        .original_breaks("answers nothing after it has sent them"),
    test!(qos_0_takes_no_room_from_the_others)
        .setup(QOS0_TOO)
        .original_breaks("lets any number of QoS 0 messages wait"),
    test!(bytes_that_wait_for_an_absent_client_are_limited).setup(QUEUED_BYTES),
    test!(bytes_that_wait_are_limited_beyond_those_under_way)
        .setup(QUEUED_BYTES)
        .original_breaks("counts what is under way as waiting"),
    test!(bytes_under_way_are_limited)
        .setup(INFLIGHT_BYTES)
        .original_breaks("sends what is beyond the limit at the next packet of the client"),
    test!(any_number_may_be_under_way_with_0).setup(Setup::With(
        "allow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 1\n",
    )),
    test!(any_number_may_be_under_way_with_65535).setup(Setup::With(
        "allow_anonymous true\nmax_inflight_messages 65535\nmax_queued_messages 1\n",
    )),
    test!(the_oldest_is_dropped_where_it_is_to_be)
        .setup(OLDEST)
        .original_breaks("has no queue_policy"),
    test!(bytes_that_wait_for_all_clients_are_limited)
        .setup(ALL_QUEUED_BYTES)
        .original_breaks("has no global_max_queued_bytes"),
];

/// A clean or a stored session, and its subscription.
fn subscriber(bench: &Bench<'_>, name: &str, is_stored: bool, topic: &str) -> Client {
    let mut session = connect(V311, &bench.id(name));
    session.clean = !is_stored;
    let mut client = bench.client(&session);
    client.subscribe(topic, 2);
    client
}

/// A client leaves, and everybody knows.
fn leave(bench: &Bench<'_>, client: Client) {
    let worker = client.worker;
    client.disconnect();
    // Who comes to the same worker is let in behind the one who left.
    let mut next = bench.socket_on(worker);
    next.connect(&connect(V311, &bench.id("next")));
    next.disconnect();
}

/// Clients that see when everything that a publisher sent has come to everybody.
struct Witnesses {
    clients: Vec<Client>,
    topic: String,
}

impl Witnesses {
    fn new(bench: &Bench<'_>) -> Self {
        let topic = bench.topic("fence");
        let transient = |n: usize| {
            let mut client = bench.socket_on(n);
            client.connect(&connect(V311, &bench.id(&format!("witness{n}"))));
            client
        };
        let mut clients: Vec<Client> = (0..bench.broker.workers.max(1)).map(transient).collect();
        clients.push(bench.client(&connect(V311, &bench.id("witness")).persistent()));
        for client in &mut clients {
            client.subscribe(&topic, 1);
        }
        Self { clients, topic }
    }

    fn settle(&mut self, publisher: &mut Client) {
        publisher.publish(&publish(&self.topic, "fence", 1, 1));
        for client in &mut self.clients {
            client.expect_message(&self.topic, "fence", 1, false);
        }
    }
}

/// Publishes these numbers as payloads of ten bytes.
fn publish_all(publisher: &mut Client, topic: &str, numbers: std::ops::Range<u16>, qos: u8) {
    for n in numbers {
        publisher.publish(&publish(topic, &format!("{n:010}"), qos, n + 1));
    }
}

fn number(message: &Publish) -> u16 {
    std::str::from_utf8(&message.payload)
        .unwrap()
        .parse()
        .unwrap()
}

/// These numbers come, each acknowledged, and nothing else.
fn expect_all(client: &mut Client, publisher: &mut Client, numbers: &[u16]) {
    for expected in numbers {
        assert_eq!(number(&client.receive()), *expected, "of {numbers:?}");
    }
    client.expect_nothing_from(publisher);
}

fn an_absent_client_gets_what_its_queue_holds(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    let mut witnesses = Witnesses::new(bench);
    for qos in [1, 2] {
        let name = format!("s{qos}");
        let absent = subscriber(bench, &name, true, &topic);
        leave(bench, absent);
        publish_all(&mut publisher, &topic, 0..9, qos);
        witnesses.settle(&mut publisher);
        let mut back = bench.client(&connect(V311, &bench.id(&name)).persistent());
        expect_all(&mut back, &mut publisher, &[0, 1, 2, 3, 4]);
        back.unsubscribe(&topic);
    }
}

fn a_full_queue_leaves_qos_0_alone(bench: &Bench<'_>) {
    for is_stored in [false, true] {
        let topic = bench.topic(&format!("t{is_stored}"));
        let mut publisher = bench.clean(V311, &format!("p{is_stored}"));
        let mut client = subscriber(bench, &format!("s{is_stored}"), is_stored, &topic);
        publish_all(&mut publisher, &topic, 0..9, 1);
        publish_all(&mut publisher, &topic, 100..102, 0);
        let mut got: Vec<u16> = (0..5).map(|_| number(&client.message())).collect();
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2, 100, 101]);
    }
}

fn qos_0_waits_for_an_absent_client_where_it_may(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    leave(bench, subscriber(bench, "s", true, &topic));
    publish_all(&mut publisher, &topic, 0..4, 0);
    Witnesses::new(bench).settle(&mut publisher);
    let mut back = bench.client(&connect(V311, &bench.id("s")).persistent());
    expect_all(&mut back, &mut publisher, &[0, 1, 2, 3]);
}

fn qos_0_takes_no_room_from_the_others(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    leave(bench, subscriber(bench, "s", true, &topic));
    publish_all(&mut publisher, &topic, 0..20, 0);
    publish_all(&mut publisher, &topic, 20..29, 1);
    Witnesses::new(bench).settle(&mut publisher);
    let mut back = bench.client(&connect(V311, &bench.id("s")).persistent());
    expect_all(
        &mut back,
        &mut publisher,
        &[0, 1, 2, 3, 4, 20, 21, 22, 23, 24],
    );
}

fn bytes_that_wait_for_an_absent_client_are_limited(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    leave(bench, subscriber(bench, "s", true, &topic));
    publish_all(&mut publisher, &topic, 0..9, 1);
    Witnesses::new(bench).settle(&mut publisher);
    let mut back = bench.client(&connect(V311, &bench.id("s")).persistent());
    // The third begins below the limit.
    expect_all(&mut back, &mut publisher, &[0, 1, 2]);
}

fn bytes_that_wait_are_limited_beyond_those_under_way(bench: &Bench<'_>) {
    let mut witnesses = Witnesses::new(bench);
    for is_stored in [false, true] {
        let topic = bench.topic(&format!("t{is_stored}"));
        let mut publisher = bench.clean(V311, &format!("p{is_stored}"));
        let mut client = subscriber(bench, &format!("s{is_stored}"), is_stored, &topic);
        publish_all(&mut publisher, &topic, 0..9, 1);
        witnesses.settle(&mut publisher);
        expect_all(&mut client, &mut publisher, &[0, 1, 2, 3]);
    }
}

fn bytes_under_way_are_limited(bench: &Bench<'_>) {
    let mut witnesses = Witnesses::new(bench);
    for is_stored in [false, true] {
        let topic = bench.topic(&format!("t{is_stored}"));
        let mut publisher = bench.clean(V311, &format!("p{is_stored}"));
        let mut client = subscriber(bench, &format!("s{is_stored}"), is_stored, &topic);
        publish_all(&mut publisher, &topic, 0..7, 1);
        witnesses.settle(&mut publisher);
        let first: Vec<Publish> = (0..3).map(|_| client.message()).collect();
        let numbers: Vec<u16> = first.iter().map(number).collect();
        assert_eq!(numbers, [0, 1, 2], "the third begins below the limit");
        // An answer that comes first says that nothing else was sent.
        client.ping();
        client.acknowledge(&first[0]);
        let next = client.message();
        assert_eq!(number(&next), 3);
        client.ping();
        for message in [&first[1], &first[2], &next] {
            client.acknowledge(message);
        }
        expect_all(&mut client, &mut publisher, &[4, 5, 6]);
    }
}

fn many_under_way(bench: &Bench<'_>) {
    for is_stored in [false, true] {
        let topic = bench.topic(&format!("t{is_stored}"));
        let mut publisher = bench.clean(V5, &format!("p{is_stored}"));
        let mut client = subscriber(bench, &format!("s{is_stored}"), is_stored, &topic);
        publish_all(&mut publisher, &topic, 0..300, 1);
        publish_all(&mut publisher, &topic, 300..600, 2);
        let got: Vec<Publish> = (0..600).map(|_| client.message()).collect();
        assert!(got.iter().map(number).eq(0..600));
        for message in &got {
            client.acknowledge(message);
        }
        client.expect_nothing_from(&mut publisher);
    }
}

fn any_number_may_be_under_way_with_0(bench: &Bench<'_>) {
    many_under_way(bench);
}

fn any_number_may_be_under_way_with_65535(bench: &Bench<'_>) {
    many_under_way(bench);
}

fn the_oldest_is_dropped_where_it_is_to_be(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    leave(bench, subscriber(bench, "absent", true, &topic));
    let mut clients = [
        subscriber(bench, "clean", false, &topic),
        subscriber(bench, "stored", true, &topic),
    ];
    let mut witnesses = Witnesses::new(bench);
    publish_all(&mut publisher, &topic, 0..20, 1);
    witnesses.settle(&mut publisher);
    for client in &mut clients {
        expect_all(client, &mut publisher, &[0, 1, 2, 15, 16, 17, 18, 19]);
    }
    let mut back = bench.client(&connect(V311, &bench.id("absent")).persistent());
    expect_all(&mut back, &mut publisher, &[15, 16, 17, 18, 19]);
    for name in ["absent", "clean", "stored"] {
        let id = bench.id(name);
        let line = format!("Outgoing messages are being dropped for client {id}.");
        bench.broker.wait_for_log(&line);
        assert_eq!(bench.broker.logged(&line), 1, "once for all of them");
    }
}

fn bytes_that_wait_for_all_clients_are_limited(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    for n in 0..4 {
        leave(bench, subscriber(bench, &format!("s{n}"), true, &topic));
    }
    publish_all(&mut publisher, &topic, 0..9, 1);
    Witnesses::new(bench).settle(&mut publisher);
    let mut total = 0;
    for n in 0..4 {
        let mut back = bench.client(&connect(V311, &bench.id(&format!("s{n}"))).persistent());
        // Two or three each: 40 bytes of every message, as long as there is room.
        let most = if n < 2 { 3 } else { 2 };
        for expected in 0..most {
            assert_eq!(number(&back.receive()), expected);
            total += 10;
        }
        back.expect_nothing_from(&mut publisher);
        back.unsubscribe(&topic);
    }
    assert_eq!(total, 100);
}
