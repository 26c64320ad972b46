//! `$SYS` as long as anything lives: whoever dies, it goes on, and its totals never go back.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use super::client::{Client, publish};
use super::harness::Broker;

const CONTROL: &str = "mosquitto: control";

/// The value of this topic, if there is one.
fn value(broker: &Broker, topic: &str) -> Option<String> {
    let topic = format!("$SYS/broker/{topic}");
    let mut client = Client::connect(broker, "");
    let length = u8::try_from(topic.len()).unwrap();
    client.send(&[0x82, length + 5, 0, 1, 0, length]);
    client.send(topic.as_bytes());
    client.send(&[0]);
    // What is not there in this time is not there; what is, comes at once.
    let patience = Some(Duration::from_secs(2));
    client.stream.set_read_timeout(patience).unwrap();
    loop {
        client.stream.peek(&mut [0]).ok()?;
        let packet = client.packet();
        // A value may change, and so come, before SUBACK.
        if packet[0] >> 4 == 3 {
            let value = packet.get(2 + 2 + topic.len()..).unwrap();
            return Some(String::from_utf8(value.to_vec()).unwrap());
        }
    }
}

fn number(broker: &Broker, topic: &str) -> Option<u64> {
    value(broker, topic)?.parse().ok()
}

fn uptime(broker: &Broker) -> u64 {
    let text = value(broker, "uptime").unwrap_or_default();
    let seconds = text.strip_suffix(" seconds").unwrap_or("0");
    seconds.parse().unwrap()
}

fn goes_on(broker: &Broker) {
    let before = uptime(broker);
    broker.wait("a later uptime", || uptime(broker) > before);
}

fn start() -> Broker {
    let broker = Broker::start("sys_interval 1");
    broker.wait("$SYS", || uptime(&broker) > 0);
    broker
}

#[test]
fn it_goes_on_when_control_is_killed_or_hangs_and_nobody_else_notices() {
    let broker = start();
    let mut client = Client::connect(&broker, "bystander");
    let received = number(&broker, "bytes/received").unwrap();
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        let before = broker.members();
        let control = broker.member(CONTROL);
        kill(control, signal).unwrap();
        broker.wait("another control", || {
            let now = broker.members();
            now.iter().any(|m| m.title == CONTROL && m.pid != control)
        });
        goes_on(&broker);
        let others = |all: Vec<super::harness::Process>| {
            all.into_iter()
                .filter(|m| m.title != CONTROL)
                .collect::<Vec<_>>()
        };
        assert_eq!(others(broker.members()), others(before));
    }
    assert!(number(&broker, "bytes/received").unwrap() > received);
    client.ping();
}

#[test]
fn totals_never_go_back_when_workers_die_and_the_dead_are_counted() {
    let broker = start();
    for n in 0..20 {
        let mut client = Client::connect(&broker, &format!("c{n}"));
        client.send(&publish("t", Some(1), b"four"));
        assert_eq!(client.packet(), [0x40, 2, 0, 1]);
    }
    let all = ["publish/messages/received", "publish/bytes/received"];
    let are = |expected: [u64; 2]| all.map(|t| number(&broker, t)) == expected.map(Some);
    broker.wait("20 messages", || are([20, 80]));
    for worker in ["mosquitto: worker 0", "mosquitto: worker 1"] {
        let pid = broker.member(worker);
        kill(pid, Signal::SIGKILL).unwrap();
        broker.wait("a new worker", || {
            let members = broker.members();
            members.iter().any(|m| m.title == worker && m.pid != pid)
        });
        // Control's worker may have been the one that died.
        goes_on(&broker);
        assert!(are([20, 80]), "{}", broker.log());
    }
    let mut client = Client::connect(&broker, "last");
    client.send(&publish("t", Some(1), b"four"));
    assert_eq!(client.packet(), [0x40, 2, 0, 1]);
    broker.wait("one message more", || are([21, 84]));
    for topic in ["workers/0/restarts", "workers/1/restarts"] {
        assert_eq!(number(&broker, topic), Some(1));
    }
    assert_eq!(number(&broker, "store/restarts"), Some(0));
}

#[test]
fn it_comes_back_with_another_store() {
    let broker = start();
    let store = broker.member("mosquitto: store");
    kill(store, Signal::SIGKILL).unwrap();
    broker.wait("another store", || {
        let members = broker.members();
        members
            .iter()
            .any(|m| m.title == "mosquitto: store" && m.pid != store)
            && broker.connects()
    });
    goes_on(&broker);
    broker.wait("the death", || number(&broker, "store/restarts") == Some(1));
    assert!(
        value(&broker, "version")
            .unwrap()
            .starts_with("mosquitto version ")
    );
}

#[test]
fn its_process_is_there_only_while_it_is_configured() {
    let broker = Broker::start("sys_interval 0");
    let is_there = || broker.members().iter().any(|m| m.title == CONTROL);
    assert!(!is_there());
    assert_eq!(value(&broker, "version"), None);
    let text = std::fs::read_to_string(broker.config_file()).unwrap();
    for (interval, expected) in [(1, true), (0, false), (2, true)] {
        let text = text.replace("sys_interval 0", &format!("sys_interval {interval}"));
        std::fs::write(broker.config_file(), text).unwrap();
        kill(broker.supervisor, Signal::SIGHUP).unwrap();
        broker.wait("the reload", || is_there() == expected);
        if expected {
            goes_on(&broker);
        }
    }
    assert!(!broker.log().contains("Warning"), "{}", broker.log());
}

#[test]
fn its_connection_is_no_client_and_no_client_can_end_it() {
    let broker = start();
    let mut namesake = Client::connect(&broker, "control");
    goes_on(&broker);
    namesake.ping();
    // The namesake, and whoever asks.
    broker.wait("two clients", || {
        number(&broker, "clients/connected") == Some(2)
    });
    broker.wait("two sockets", || {
        number(&broker, "connections/socket/count") == Some(2)
    });
    assert!(!broker.log().contains("as control (p4, c1, k0)"));
    let one = broker.log().matches("as control").count();
    assert_eq!(one, 1, "{}", broker.log());
}
