//! How long and how much the broker waits for clients that are slow. The options are ours; the original has none of
//! them.

use std::time::{Duration, Instant};

use crate::broker::Setup;
use crate::wire::{Got, PINGREQ, PINGRESP, PUBACK, V5, V311, connect, publish};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(whoever_does_not_connect_in_time_is_closed)
        .setup(Setup::With(CONNECT_TIMEOUT))
        .original_breaks(NO_OPTION),
    test!(a_small_output_drops_messages_but_nothing_else)
        .setup(Setup::With(SMALL_OUTPUT))
        .original_breaks(NO_OPTION),
    test!(when_too_much_waits_for_clients_that_do_not_read_they_go)
        .setup(Setup::With(ALL_OUTPUT))
        .original_breaks(NO_OPTION),
    test!(a_client_over_its_rate_waits_and_loses_nothing)
        .setup(Setup::With(CLIENT_RATE))
        .original_breaks(NO_OPTION),
    test!(a_listener_over_its_rate_slows_its_clients_down)
        .setup(Setup::With(LISTENER_RATE))
        .original_breaks(NO_OPTION),
];

const NO_OPTION: &str = "has no such option";
const CONNECT_TIMEOUT: &str = "allow_anonymous true\nconnect_timeout 2\n";
const SMALL_OUTPUT: &str = "allow_anonymous true\nmax_output_bytes 20000\n";
/// For four workers this is less than `max_output_bytes` for each.
const ALL_OUTPUT: &str =
    "allow_anonymous true\nmax_output_bytes 20000000\nglobal_max_output_bytes 8000000\n";
const CLIENT_RATE: &str = "allow_anonymous true\nclient_message_rate 20\n";
const LISTENER_RATE: &str = "allow_anonymous true\nlistener_byte_rate 40000\n";

fn whoever_does_not_connect_in_time_is_closed(bench: &Bench<'_>) {
    let start = Instant::now();
    let mut silent = bench.socket();
    let mut dripping = bench.socket();
    let mut connected = bench.clean(V311, "connected");
    let bytes = connect(V311, &"x".repeat(1000)).bytes();
    // Bytes go on coming well beyond the time that there is.
    for byte in &bytes[..400] {
        dripping.try_send(&[*byte]);
        std::thread::sleep(Duration::from_millis(10));
    }
    silent.expect_end();
    dripping.expect_end();
    assert!(start.elapsed() >= Duration::from_secs(2));
    connected.ping();
}

fn a_small_output_drops_messages_but_nothing_else(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut lazy = bench.clean(V311, "lazy");
    lazy.subscribe(&topic, 0);
    let mut publisher = bench.clean(V311, "publisher");
    let payload = "x".repeat(15_000);
    let dropped = format!("are being dropped for client {}", bench.id("lazy"));
    // More than the kernel holds for it; then little more is enough.
    let mut sent = 0;
    while bench.broker.logged(&dropped) == 0 {
        assert!(sent < 100_000_000, "nothing was dropped");
        publisher.publish(&publish(&topic, &payload, 0, 0));
        publisher.ping();
        sent += payload.len();
    }
    lazy.send(PINGREQ);
    loop {
        let got = lazy.bytes().unwrap();
        if got == PINGRESP {
            break;
        }
        assert!(got.ends_with(payload.as_bytes()));
    }
}

fn when_too_much_waits_for_clients_that_do_not_read_they_go(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let subscriber = |name: &str| {
        let mut client = bench.socket_on(0);
        client.connect(&connect(V311, &bench.id(name)));
        client.subscribe(&topic, 0);
        client
    };
    let mut lazy = ["lazy1", "lazy2", "lazy3"].map(subscriber);
    let mut eager = subscriber("eager");
    let mut publisher = bench.clean(V311, "publisher");
    let payload = "x".repeat(100_000);
    let mut sent = 0;
    while bench.broker.logged("(global_max_output_bytes)") == 0 {
        assert!(sent < 400_000_000, "nobody was disconnected");
        publisher.publish(&publish(&topic, &payload, 0, 0));
        assert_eq!(eager.message().payload.len(), payload.len());
        sent += payload.len();
    }
    let line = bench.broker.wait_for_log("(global_max_output_bytes)");
    let names = ["lazy1", "lazy2", "lazy3"].map(|name| bench.id(name));
    let gone = names
        .iter()
        .position(|name| line.contains(&**name))
        .unwrap();
    while lazy[gone].bytes().is_some() {}
    publisher.ping();
    eager.ping();
}

fn a_client_over_its_rate_waits_and_loses_nothing(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "subscriber");
    subscriber.subscribe(&topic, 0);
    // With a keep-alive that is shorter than what it has to wait.
    let mut fast = bench.client(&connect(V5, &bench.id("fast")).keep_alive(1));
    let mut other = bench.clean(V311, "other");
    let start = Instant::now();
    let all: Vec<u8> = (1..=80u16)
        .flat_map(|n| publish(&topic, &n.to_string(), 1, n).bytes(V5))
        .collect();
    fast.send(&all);
    for n in 1..=80u16 {
        fast.expect(Got::Ack(PUBACK, n, 0));
        subscriber.expect_message(&topic, &n.to_string(), 0, false);
        other.ping();
    }
    // A burst of 20, and the others at 20 a second.
    assert!(
        start.elapsed() >= Duration::from_millis(2950),
        "{:?}",
        start.elapsed()
    );
    fast.ping();
}

fn a_listener_over_its_rate_slows_its_clients_down(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut clients: Vec<_> = ["one", "two"]
        .map(|name| {
            let mut client = bench.socket_on(0);
            client.connect(&connect(V311, &bench.id(name)));
            client
        })
        .into();
    let part = 40_000 / bench.broker.workers.max(1);
    let payload = "x".repeat(part / 10);
    let start = Instant::now();
    for client in &mut clients {
        for id in 1..=20 {
            client.send(&publish(&topic, &payload, 1, id).bytes(V311));
        }
    }
    for client in &mut clients {
        for id in 1..=20 {
            client.expect(Got::Ack(PUBACK, id, 0));
        }
    }
    // Four seconds' worth, of which a burst of one second passes at once.
    assert!(
        start.elapsed() >= Duration::from_millis(2900),
        "{:?}",
        start.elapsed()
    );
}
