//! Limits that the processes of the broker keep together, and what a reload does to them.

use std::fs;
use std::process::Command;

use nix::sys::signal::{Signal, kill};

use super::client::{Client, connect, publish};
use super::harness::{Broker, free_port};

/// Reads these lines too from now on.
fn reload_with(broker: &Broker, lines: &str) {
    let before = fs::read_to_string(broker.config_file()).unwrap();
    fs::write(broker.config_file(), format!("{before}{lines}\n")).unwrap();
    kill(broker.supervisor, Signal::SIGHUP).unwrap();
    broker.wait_for_log("Reloading config.");
}

/// A client that stays away, with a session that never expires.
fn leave_session(broker: &Broker, id: &str) {
    let mut client = Client::open(broker);
    let mut asked = connect(4, id);
    let clean_session = 2;
    asked[9] &= !clean_session;
    client.send(&asked);
    assert_eq!(client.packet(), [0x20, 2, 0, 0]);
}

#[test]
fn new_limits_hold_for_what_is_there_already() {
    let broker = Broker::start("");
    let mut stays = Client::connect(&broker, "stays");
    leave_session(&broker, "absent");
    reload_with(
        &broker,
        "max_connections 1\npersistent_client_expiration 1s",
    );
    broker.wait_for_log("Expiring client absent due to timeout.");
    for n in 0..6 {
        let mut more = Client::open(&broker);
        assert!(!more.is_let_in(&format!("more{n}")), "a second connection");
    }
    stays.ping();
    // The client itself may come again, whichever worker gets it.
    for _ in 0..6 {
        let mut again = Client::open(&broker);
        assert!(again.is_let_in("stays"));
        assert_eq!(stays.rest(), [0; 0]);
        stays = again;
    }
    broker.wait_for_log("denied: max_connections exceeded.");
}

/// Connections that say nothing are bounded by each worker, and take no place from others for ever.
#[test]
fn silent_connections_do_not_pile_up() {
    let port = free_port();
    let config =
        format!("listener {port} 127.0.0.1\nallow_anonymous true\nworkers 1\nmax_connections 2\n");
    let broker = Broker::start_with(port, &config, |binary| Command::new(binary));
    broker.wait_for_log("running");
    let silent = [Client::open(&broker), Client::open(&broker)];
    let mut third = Client::open(&broker);
    assert_eq!(third.rest(), [0; 0], "closed at once");
    drop(silent);
    broker.wait("room", || Client::open(&broker).is_let_in("id"));
}

/// A worker that is slow finds connections that their clients have given up. They may have come back elsewhere since.
#[test]
fn a_connection_that_was_given_up_unread_takes_nothing_over() {
    let broker = Broker::start("");
    let mut holder = Client::connect(&broker, "id");
    let workers = [
        broker.member("mosquitto: worker 0"),
        broker.member("mosquitto: worker 1"),
    ];
    for worker in workers {
        kill(worker, Signal::SIGSTOP).unwrap();
    }
    for _ in 0..6 {
        Client::open(&broker).send(&connect(4, "id"));
    }
    // What came with the CONNECT counts, however late it is read.
    let mut given_up = Client::open(&broker);
    given_up.send(&connect(4, "other"));
    given_up.send(&publish("t", None, b"x"));
    drop(given_up);
    for worker in workers {
        kill(worker, Signal::SIGCONT).unwrap();
    }
    broker.wait_for_log("as other");
    for n in 0..6 {
        Client::connect(&broker, &format!("next{n}")).ping();
    }
    holder.ping();
    assert!(!broker.log().contains("taken over"), "{}", broker.log());
}
