//! Clients that mean harm: what one of them does may cost it its own connection, and others nothing.

use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use super::client::{Client, DISCONNECT, connect, publish};
use super::harness::{Broker, Process, free_port};

/// SUBSCRIBE with these filters at QoS 0.
fn subscribe(filters: &[String]) -> Vec<u8> {
    let mut body = vec![0, 1];
    for filter in filters {
        body.extend(u16::try_from(filter.len()).unwrap().to_be_bytes());
        body.extend(filter.as_bytes());
        body.push(0);
    }
    packet(0x82, &body)
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    while length >= 0x80 {
        packet.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    packet.push(u8::try_from(length).unwrap());
    packet.extend(body);
    packet
}

/// CONNECT of 3.1.1 with a session that stays.
fn connect_persistent(id: &str) -> Vec<u8> {
    let mut packet = connect(4, id);
    // The flags follow the packet's head, the protocol's name and its level.
    packet[2 + 6 + 1] = 0;
    packet
}

/// The processes of the broker now, to compare with those of later.
fn processes(broker: &Broker) -> Vec<Process> {
    broker.members()
}

/// `count` topics are retained, none of them `wanted`, which is retained too.
fn retain(broker: &Broker, count: u32) {
    let mut publisher = Client::connect(broker, "retainer");
    for n in 0..count {
        let mut message = publish(&format!("{n}/a"), None, b"x");
        message[0] |= 1;
        publisher.send(&message);
    }
    let mut wanted = publish("wanted", Some(1), b"x");
    wanted[0] |= 1;
    publisher.send(&wanted);
    assert_eq!(publisher.packet(), [0x40, 2, 0, 1]);
}

/// A decent client gets what is retained, soon.
fn gets_retained(broker: &Broker, id: &str) {
    let start = Instant::now();
    let mut client = Client::connect(broker, id);
    client.subscribe("wanted", 0);
    let got = client.packet();
    assert_eq!((got[0], got[got.len() - 1]), (0x31, b'x'));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn thousands_of_expensive_filters_hold_up_neither_the_store_nor_other_clients() {
    let broker = Broker::start("");
    retain(&broker, 9_990);
    let before = processes(&broker);
    // Each of them looks at every retained topic and finds none.
    let filters = vec!["+/b".to_owned(); 15_000];
    for (id, hello) in [
        ("transient", connect(4, "transient")),
        ("persistent", connect_persistent("persistent")),
    ] {
        let mut greedy = Client::open(&broker);
        greedy.send(&hello);
        assert_eq!(greedy.packet(), [0x20, 2, 0, 0]);
        greedy.send(&subscribe(&filters));
        for n in 0..5 {
            gets_retained(&broker, &format!("{id}{n}"));
        }
        drop(greedy);
    }
    assert_eq!(processes(&broker), before, "{}", broker.log());
}

#[test]
fn clients_that_leave_before_their_answers_come_leave_nothing_behind() {
    let broker = Broker::start("");
    retain(&broker, 2_000);
    // Together they ask for more than a worker waits for.
    let filters = vec!["+/b".to_owned(); 15_000];
    for n in 0..16 {
        let mut hasty = Client::open(&broker);
        hasty.send(&if n % 2 == 0 {
            connect(4, &format!("hasty{n}"))
        } else {
            connect_persistent(&format!("hasty{n}"))
        });
        assert_eq!(hasty.packet(), [0x20, 2, 0, 0]);
        hasty.send(&subscribe(&filters));
        if n < 8 {
            assert_eq!(hasty.packet()[0], 0x90);
        }
        drop(hasty);
    }
    for n in 0..4 {
        gets_retained(&broker, &format!("decent{n}"));
    }
}

#[test]
fn subscribing_on_and_on_with_a_blocked_queue_kills_no_store() {
    let broker = Broker::start("");
    let before = processes(&broker);
    let mut decent = Client::connect(&broker, "decent");
    let mut greedy = Client::open(&broker);
    greedy.send(&connect_persistent("greedy"));
    assert_eq!(greedy.packet(), [0x20, 2, 0, 0]);
    greedy.subscribe("a", 1);
    for n in 1..=30 {
        greedy.send(&publish("a", Some(n), b"x"));
    }
    let one = subscribe(&["a".to_owned()]);
    let reader = greedy.stream.try_clone().unwrap();
    let reads = std::thread::spawn(move || {
        let mut answers = Client { stream: reader };
        let mut subacks = 0;
        while subacks < 100_000 {
            subacks += u32::from(answers.packet()[0] == 0x90);
        }
    });
    for _ in 0..100 {
        greedy.send(&one.repeat(1000));
        decent.ping();
    }
    reads.join().unwrap();
    assert_eq!(processes(&broker), before, "{}", broker.log());
}

#[test]
fn one_client_id_on_many_connections_at_once_is_always_somebodys() {
    let broker = Broker::start("");
    let before = processes(&broker);
    std::thread::scope(|scope| {
        for n in 0..20 {
            let broker = &broker;
            scope.spawn(move || {
                for round in 0..20 {
                    let mut client = Client::open(broker);
                    let hello = if (n + round) % 2 == 0 {
                        connect(4, "same")
                    } else {
                        connect_persistent("same")
                    };
                    // Another connection may have taken the id, and this one be closed, at any moment.
                    let _ = client.stream.write_all(&hello);
                    let _ = client.stream.write_all(&publish("t", Some(1), b"x"));
                    if round % 2 == 0 {
                        let _ = client.stream.write_all(&DISCONNECT);
                    }
                }
            });
        }
    });
    // Claims of the storm that a worker read late may take the id once more; then it stays with the last.
    let ours = (0..100).any(|_| Client::open(&broker).is_let_in("same"));
    assert!(ours, "{}", broker.log());
    assert_eq!(processes(&broker), before, "{}", broker.log());
}

#[test]
fn workers_with_a_small_share_of_a_core_each_are_slow_and_not_hung() {
    let port = free_port();
    let config = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nworkers 24\nring_size 65536\nlog_type error\nsys_interval 0\n"
    );
    let broker = Broker::start_with(port, &config, |binary| Command::new(binary));
    broker.wait("all members", || {
        broker.members().len() == 25 && broker.connects()
    });
    let before = processes(&broker);
    let mut clients: Vec<_> = (0..240)
        .map(|n| Client::connect(&broker, &format!("c{n}")))
        .collect();
    for client in &mut clients {
        client.subscribe("all", 0);
    }
    let mut publisher = Client::connect(&broker, "publisher");
    let payload = vec![b'x'; 1 << 20];
    for n in 1..=3u16 {
        publisher.send(&publish("all", Some(n), &payload));
    }
    for n in 1..=3u16 {
        let [high, low] = n.to_be_bytes();
        assert_eq!(publisher.packet(), [0x40, 2, high, low]);
    }
    for client in &mut clients {
        assert!(client.packet().ends_with(&payload));
    }
    assert_eq!(processes(&broker), before, "{}", broker.log());
}
