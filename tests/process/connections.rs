//! Sockets at their limits: too many, too slow, half open, closed too early.

use std::io::{ErrorKind, Write as _};
use std::process::Command;
use std::time::Duration;

use nix::unistd::Pid;

use super::client::{Client, DISCONNECT, connect, publish};
use super::harness::{Broker, am_root, free_port, status_of};

const EXHAUSTED: &str = "Unable to accept new connection, system socket count has been exceeded.";

/// One worker, run by whoever runs the test, who may therefore change its limits.
fn one_worker(port: u16) -> String {
    let user = if am_root() { "user root\n" } else { "" };
    format!("listener {port} 127.0.0.1\nallow_anonymous true\nworkers 1\n{user}")
}

/// Sets the soft limit of open descriptors of a running process.
fn limit_descriptors(pid: Pid, soft: u32) {
    let status = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--nofile={soft}:")])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Whether the CONNACK is there now, or comes soon.
fn is_let_in_soon(client: &Client) -> bool {
    let short = Some(Duration::from_millis(50));
    client.stream.set_read_timeout(short).unwrap();
    match client.stream.peek(&mut [0]) {
        Ok(n) => n == 1,
        Err(e) => {
            assert!(matches!(
                e.kind(),
                ErrorKind::WouldBlock | ErrorKind::TimedOut
            ));
            false
        }
    }
}

#[test]
fn at_the_descriptor_limit_accepting_rests_logs_once_and_recovers() {
    let port = free_port();
    let broker = Broker::start_with(port, &one_worker(port), |binary| {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", binary]);
        command
    });
    broker.wait_for_log("running");
    let mut clients: Vec<_> = (0..64).map(|_| Client::open(&broker)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&connect(4, &format!("c{n}")));
    }
    broker.wait_for_log(EXHAUSTED);
    let waiting = clients.split_off(24);
    assert!(
        waiting.iter().any(|client| !is_let_in_soon(client)),
        "all were let in"
    );
    for client in &mut clients {
        assert_eq!(client.packet(), [0x20, 2, 0, 0]);
    }
    // A member that ends and comes back needs descriptors in the worker, whatever its clients hold.
    let store = broker.member("mosquitto: store");
    nix::sys::signal::kill(store, nix::sys::signal::Signal::SIGKILL).unwrap();
    broker.wait("another store", || {
        broker
            .members()
            .iter()
            .any(|m| m.title == "mosquitto: store" && m.pid != store)
    });
    drop(clients);
    drop(waiting);
    Client::connect(&broker, "after").ping();
    assert_eq!(broker.log().matches(EXHAUSTED).count(), 1);
}

#[test]
fn a_worker_without_a_descriptor_left_goes_on_when_there_are_some_again() {
    let port = free_port();
    let broker = Broker::start_with(port, &one_worker(port), |binary| Command::new(binary));
    broker.wait_for_log("running");
    let mut first = Client::connect(&broker, "first");
    let worker = broker.member("mosquitto: worker 0");
    limit_descriptors(worker, 4);
    let mut second = Client::open(&broker);
    second.send(&connect(4, "second"));
    broker.wait_for_log(EXHAUSTED);
    first.ping();
    limit_descriptors(worker, 64);
    assert_eq!(second.packet(), [0x20, 2, 0, 0]);
    second.ping();
    assert_eq!(broker.log().matches(EXHAUSTED).count(), 1);
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let broker = Broker::start("");
    let mut lazy = Client::connect(&broker, "lazy");
    lazy.subscribe("t", 0);
    let mut eager = Client::connect(&broker, "eager");
    eager.subscribe("t", 0);
    let mut publisher = Client::connect(&broker, "publisher");
    let payload = [7; 50_000];
    // Far more than the kernel and the broker keep for the one that does not read.
    for round in 0..400u16 {
        publisher.send(&publish("t", Some(round + 1), &payload));
        let [high, low] = (round + 1).to_be_bytes();
        assert_eq!(publisher.packet(), [0x40, 2, high, low]);
        let got = eager.packet();
        assert!(got.ends_with(&payload) && got.len() < payload.len() + 20);
    }
    broker.wait_for_log("Outgoing messages are being dropped for client lazy.");
    let episodes = broker.log().matches("being dropped for client").count();
    assert_eq!(episodes, 1);
    // It is not too late to read.
    let first = lazy.packet();
    assert!(first.ends_with(&payload));
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_read_either() {
    let broker = Broker::start("");
    let mut flood = Client::connect(&broker, "flood");
    let mut other = Client::connect(&broker, "other");
    flood.stream.set_nonblocking(true).unwrap();
    let pings = [0xc0, 0].repeat(32 * 1024);
    // Every ping has an answer; the broker stops to read long before so many of them wait.
    let most = 64 * 1024 * 1024;
    let mut sent = 0;
    let mut refused = 0;
    while refused < 5 && sent < most {
        // A ping may have been cut in the middle.
        match flood.stream.write(&pings[sent % 2..]) {
            Ok(n) => (sent, refused) = (sent + n, 0),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::WouldBlock);
                refused += 1;
                other.ping();
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
    assert!(sent < most, "the broker read on and on");
    // Whoever reads is read again.
    flood.stream.set_nonblocking(false).unwrap();
    flood.half_close();
    let answers = flood.rest();
    assert_eq!(answers.len(), sent - sent % 2);
    assert!(answers.chunks(2).all(|answer| answer == [0xd0, 0]));
}

#[test]
fn last_words_count_although_their_client_did_not_wait_for_an_answer() {
    let broker = Broker::start("");
    let mut subscriber = Client::connect(&broker, "subscriber");
    subscriber.subscribe("t", 0);
    for n in 0..50 {
        let mut hasty = Client::open(&broker);
        let payload = format!("{n}");
        let mut words = connect(4, &format!("hasty{n}"));
        words.extend(publish("t", None, payload.as_bytes()));
        words.extend(DISCONNECT);
        hasty.send(&words);
        drop(hasty);
        assert_eq!(
            subscriber.packet(),
            publish("t", None, payload.as_bytes()),
            "message {n}"
        );
    }
}

#[test]
fn half_open_connections_end() {
    let broker = Broker::start("");
    let mut connected = Client::connect(&broker, "half");
    connected.half_close();
    assert_eq!(connected.rest(), b"");
    broker.wait_for_log("Client half [");
    let mut silent = Client::open(&broker);
    silent.half_close();
    assert_eq!(silent.rest(), b"");
    let mut cut = Client::open(&broker);
    cut.send(&connect(4, "cut")[..5]);
    cut.half_close();
    assert_eq!(cut.rest(), b"");
    Client::connect(&broker, "after").ping();
}

#[test]
fn the_reason_of_a_disconnect_arrives_although_more_was_sent() {
    let broker = Broker::start("");
    for n in 0..50 {
        let mut client = Client::open(&broker);
        client.send(&connect(5, &format!("bad{n}")));
        let connack = client.packet();
        assert_eq!((connack[0], &connack[2..4]), (0x20, &[0, 0][..]));
        // A reserved packet type, and then more than one read takes.
        let _ = client.stream.write_all(&[0xff; 200_000]);
        let rest = client.rest();
        // The whole packet, with a reason string, and nothing else.
        let said = (rest[0], usize::from(rest[1]), rest[2]);
        assert_eq!(said, (0xe0, rest.len() - 2, 0x81), "connection {n}");
    }
}

#[test]
fn a_thousand_clients_are_served_and_forgotten() {
    let broker = Broker::start("");
    let mut clients: Vec<_> = (0..1000).map(|_| Client::open(&broker)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&connect(4, &format!("c{n}")));
    }
    for client in &mut clients {
        assert_eq!(client.packet(), [0x20, 2, 0, 0]);
    }
    for client in &mut clients {
        client.send(&[0xc0, 0]);
    }
    for client in &mut clients {
        assert_eq!(client.packet(), [0xd0, 0]);
    }
    for worker in ["worker 0", "worker 1"] {
        let text = format!("is served by {worker}.");
        assert!(broker.log().contains(&text), "{worker} serves nobody");
    }
    drop(clients);
    broker.wait("a thousand ends", || {
        broker.log().matches("closed its connection").count() == 1000
    });
}

#[test]
fn the_system_asks_silent_peers_where_a_listener_wants_it() {
    let (port, plain) = (free_port(), free_port());
    let config = format!(
        "allow_anonymous true\nworkers 2\nlistener {port} 127.0.0.1\ntcp_keepalive 300 10 3\n\
         listener {plain} 127.0.0.1\n"
    );
    let broker = Broker::start_with(port, &config, |binary| Command::new(binary));
    broker.wait_for_log("running");
    // The kernel says of each socket which timer runs: 2 is keep-alive; and when it ends, in hundredths of a second.
    let timer_of = |client: &std::net::TcpStream| {
        let hex = |address: std::net::SocketAddr| format!("0100007F:{:04X}", address.port());
        let ours = hex(client.peer_addr().unwrap());
        let theirs = hex(client.local_addr().unwrap());
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let line = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|fields| fields[1] == ours && fields[2] == theirs)?;
        let (kind, when) = line[5].split_once(':').unwrap();
        Some((kind == "02", u64::from_str_radix(when, 16).unwrap()))
    };
    let mut client = Client::open(&broker);
    client.send(&connect(4, "asked"));
    client.packet();
    broker.wait("a keep-alive timer of 300 s", || {
        timer_of(&client.stream)
            .is_some_and(|(is_keepalive, when)| is_keepalive && (20_000..=30_000).contains(&when))
    });
    let mut other = std::net::TcpStream::connect(("127.0.0.1", plain)).unwrap();
    other.write_all(&connect(4, "plain")).unwrap();
    let mut connack = [0; 4];
    std::io::Read::read_exact(&mut other, &mut connack).unwrap();
    broker.wait("no timer", || {
        timer_of(&other).is_some_and(|(is_keepalive, _)| !is_keepalive)
    });
}

#[test]
fn without_descriptors_for_a_few_clients_it_does_not_start() {
    let start = |descriptors: u32| {
        let port = free_port();
        let config = format!("listener {port} 127.0.0.1\nallow_anonymous true\nworkers 2\n");
        Broker::start_with(port, &config, |binary| {
            let mut command = Command::new("sh");
            let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
            command.args(["-c", &script, binary]);
            command
        })
    };
    let mut refused = start(40);
    assert_eq!(status_of(refused.wait_for_end()), Some(1));
    let log = refused.log();
    let (_, needed) = log.split_once("need ").unwrap();
    let needed: u32 = needed.trim().trim_end_matches('.').parse().unwrap();
    assert!(
        log.contains("Error: Only 40 descriptors are allowed (ulimit -n)"),
        "{log}"
    );
    // With as many as it asks for it serves a few.
    let served = start(needed);
    served.wait_for_log("running");
    served.wait("CONNACK", || served.connects());
    let mut clients: Vec<_> = (0..4)
        .map(|n| Client::connect(&served, &format!("c{n}")))
        .collect();
    for client in &mut clients {
        client.ping();
    }
}

/// Only those that said goodbye or closed were left out; a reset, a takeover and a fault of the client had a line.
#[test]
fn without_connection_messages_no_ending_is_logged() {
    let port = free_port();
    let config = format!("{}connection_messages false\n", one_worker(port));
    let broker = Broker::start_with(port, &config, |binary| Command::new(binary));
    broker.wait_for_log("running");
    let mut malformed = Client::connect(&broker, "leaves-malformed");
    malformed.send(&[0, 0]);
    malformed.rest();
    let mut taken_over = Client::connect(&broker, "leaves-taken-over");
    let _next = Client::connect(&broker, "leaves-taken-over");
    taken_over.rest();
    let mut refused = Client::open(&broker);
    refused.send(&connect(9, "leaves-refused"));
    refused.rest();

    // One worker logs in order, so all that was to be said stands before this.
    let mut last = Client::connect(&broker, "last");
    last.send(&[0xc0, 0]);
    broker.wait_for_log("Received PINGREQ from last");
    let log = broker.log();
    for word in ["disconnected", "refused", "New c", "closed"] {
        assert!(!log.contains(word), "{word}:\n{log}");
    }
}
