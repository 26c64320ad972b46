//! Both programs against a broker.

use std::io::Write;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::broker::{Broker, free_port, read_until};
use crate::programs::{Make, finish, makes, path, run, same, start};

fn pid(child: &std::process::Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap())
}

#[test]
fn publishing_looks_the_same() {
    let broker = Broker::start();
    let port = broker.port();
    for more in [
        &["-m", "12"][..],
        &["-m", "12", "-q", "1"],
        &["-m", "12", "-q", "2", "-r"],
        &["-n"],
        &["-n", "-V", "5", "-q", "2"],
        &["-m", "12", "-V", "31"],
        &["-m", "12", "-V", "31", "-i", "me"],
        &["-m", "12", "-i", "me", "-c", "-h", "localhost"],
        &["-m", "12", "-A", "127.0.0.1", "-h", "127.0.0.1"],
        &["-m", "12", "--repeat", "3"],
        &["-m", "12", "--repeat", "2", "--repeat-delay", "0.1"],
        &["-m", "12", "-u", "user", "-P", "secret"],
        &["-m", "12", "-t", "another"],
    ] {
        let mut line = vec!["-d", "-t", "sensor", "-p", &port];
        line.extend(more);
        let outcome = same("mosquitto_pub", &line, "");
        assert_eq!(outcome.status, Some(0), "{line:?}: {outcome:?}");
    }
    let url = format!("mqtt://user:secret@localhost:{port}/a/b");
    same("mosquitto_pub", &["-d", "-L", &url, "-m", "12"], "");
}

#[test]
fn subscribing_looks_the_same() {
    let broker = Broker::start();
    let port = broker.port();
    let retained = ["-t", "kept", "-m", "12", "-r", "-p", &port];
    assert_eq!(
        run(Make::Ours, "mosquitto_pub", &retained, "").status,
        Some(0)
    );
    for more in [
        &["-C", "1"][..],
        &["-C", "1", "-v"],
        &["-C", "1", "-q", "2", "-V", "31"],
        &["-C", "1", "-V", "5", "-t", "other"],
    ] {
        let mut line = vec!["-d", "-t", "kept", "-p", &port];
        line.extend(more);
        let outcome = same("mosquitto_sub", &line, "");
        assert_eq!(outcome.status, Some(0), "{line:?}: {outcome:?}");
    }
    // Of another topic: retained messages may come before the SUBACK or behind it [MQTT-3.8.4-3].
    for more in [&["-E"][..], &["-E", "-i", "me", "-c", "-q", "1"]] {
        let mut line = vec!["-d", "-t", "empty", "-p", &port];
        line.extend(more);
        let outcome = same("mosquitto_sub", &line, "");
        assert_eq!(outcome.status, Some(0), "{line:?}: {outcome:?}");
    }
    let line = ["-d", "-t", "kept", "-p", &port, "-W", "1"];
    assert_eq!(same("mosquitto_sub", &line, "").status, Some(27));
}

#[test]
fn without_a_broker_the_connection_is_refused() {
    let port = free_port().to_string();
    for line in [
        &["-t", "a", "-p", &port][..],
        &["-t", "a", "-p", &port, "-d"],
        &["-t", "a", "-p", &port, "--quiet"],
        &["-t", "a", "-h", "name.invalid"],
        &["-t", "a", "-h", ""],
        &["-t", "a", "--unix", "/nonexistent/socket"],
        &["-t", "a", "-p", &port, "-A", "192.0.2.1"],
    ] {
        assert_eq!(same("mosquitto_sub", line, "").status, Some(1), "{line:?}");
        let mut line = line.to_vec();
        line.push("-n");
        assert_eq!(same("mosquitto_pub", &line, "").status, Some(1), "{line:?}");
    }
}

/// Ours to theirs, theirs to ours and so on, in every QoS, line by line.
#[test]
fn lines_arrive_whole_and_in_order() {
    let broker = Broker::start();
    let port = broker.port();
    // Fewer than the original keeps for a slow subscriber.
    let lines: String = (0..900).map(|n| format!("line {n}\n")).collect();
    for qos in ["0", "1", "2"] {
        for from in makes() {
            for to in makes() {
                let ready = format!("ready/{from:?}/{to:?}/{qos}");
                let mut wanted = vec!["-t", "l", "-p", &port, "-q", qos, "-C", "900"];
                wanted.extend(["-t", &ready, "-T", &ready]);
                let child = start(to, "mosquitto_sub", &wanted);
                wait_for_subscription(&port, &ready);
                let send = ["-t", "l", "-p", &port, "-q", qos, "-l"];
                let sent = run(from, "mosquitto_pub", &send, &lines);
                assert_eq!(sent.status, Some(0), "{from:?} {sent:?}");
                let got = finish(child);
                assert_eq!(got.status, Some(0), "{from:?} to {to:?}");
                assert!(got.stdout == lines, "{from:?} to {to:?} at QoS {qos}");
            }
        }
    }
}

/// Until somebody has subscribed to `topic`: brokers of 5.0 say so. The original prints nothing before its first
/// message, so there is no other way to know.
fn wait_for_subscription(port: &str, topic: &str) {
    for _ in 0..500 {
        let line = ["-t", topic, "-p", port, "-q", "1", "-n", "-V", "5", "-d"];
        if run(Make::Ours, "mosquitto_pub", &line, "")
            .stdout
            .contains("RC:0")
        {
            return;
        }
    }
    panic!("nobody subscribed");
}

#[test]
fn a_large_file_arrives_as_it_is() {
    let broker = Broker::start();
    let port = broker.port();
    let dir = std::env::temp_dir().join(format!("cli-file-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("payload");
    let payload: String = (0..190_000).map(|n| format!("{n:09}\n")).collect();
    std::fs::write(&file, &payload).unwrap();
    for qos in ["0", "1", "2"] {
        let wanted = ["-t", "f", "-p", &port, "-q", qos, "-C", "1", "-N", "-d"];
        let mut child = start(Make::Ours, "mosquitto_sub", &wanted);
        read_until(child.stdout.as_mut().unwrap(), "Subscribed");
        let name = file.to_str().unwrap();
        let send = ["-t", "f", "-p", &port, "-q", qos, "-f", name];
        assert_eq!(run(Make::Ours, "mosquitto_pub", &send, "").status, Some(0));
        let got = finish(child);
        assert_eq!(got.status, Some(0));
        assert!(got.stdout.contains(&payload), "QoS {qos}");
    }
    // A hole in a file costs nothing; one byte more than a message can hold.
    let long = dir.join("long");
    let handle = std::fs::File::create(&long).unwrap();
    handle.set_len(268_435_456).unwrap();
    let send = ["-t", "f", "-f", long.to_str().unwrap()];
    let outcome = run(Make::Ours, "mosquitto_pub", &send, "");
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome
            .stderr
            .starts_with("Error: File must be less than 268435455 bytes.")
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn signals_end_the_subscriber_politely() {
    let broker = Broker::start();
    let port = broker.port();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut child = start(Make::Ours, "mosquitto_sub", &["-t", "a", "-p", &port, "-d"]);
        read_until(child.stdout.as_mut().unwrap(), "Subscribed");
        kill(pid(&child), signal).unwrap();
        let outcome = finish(child);
        assert_eq!(outcome.status, Some(0), "{signal}");
        assert_eq!(
            outcome.stdout,
            " Client null sending DISCONNECT\n".trim_start()
        );
    }
}

#[test]
fn a_signal_before_the_connection_is_accepted_ends_the_subscriber_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let line = ["-h", "127.0.0.1", "-t", "a", "-p", &port];
    let child = start(Make::Ours, "mosquitto_sub", &line);
    let (mut connection, _) = listener.accept().unwrap();
    let mut connect = [0; 14];
    std::io::Read::read_exact(&mut connection, &mut connect).unwrap();
    kill(pid(&child), Signal::SIGTERM).unwrap();
    assert_eq!(finish(child).status, Some(255));
}

/// `mosquitto_sub | head -n 1` is over after the first message: ours does not wait for another one to notice.
#[test]
fn nobody_who_reads_is_the_end() {
    let broker = Broker::start();
    let port = broker.port();
    let retained = ["-t", "h", "-m", "12", "-r", "-p", &port];
    run(Make::Ours, "mosquitto_pub", &retained, "");
    let ours = path(Make::Ours, "mosquitto_sub").unwrap();
    let script = format!("{} -t h -p {port} | head -n 1", ours.display());
    let child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let outcome = finish(child);
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("12\n", "")
    );
    assert_eq!(outcome.status, Some(0));
}

/// Messages that come while the subscriber is away are there when its session goes on.
#[test]
fn a_persistent_session_keeps_what_comes_meanwhile() {
    let broker = Broker::start();
    let port = broker.port();
    let session = ["-t", "p", "-p", &port, "-i", "me", "-c", "-q", "1"];
    let line: Vec<&str> = session.iter().copied().chain(["-E"]).collect();
    assert_eq!(same("mosquitto_sub", &line, "").status, Some(0));
    for payload in ["1", "2"] {
        let send = ["-t", "p", "-p", &port, "-q", "1", "-m", payload];
        run(Make::Ours, "mosquitto_pub", &send, "");
    }
    let line: Vec<&str> = session.iter().copied().chain(["-C", "2"]).collect();
    let outcome = run(Make::Ours, "mosquitto_sub", &line, "");
    assert_eq!(outcome.stdout, "1\n2\n");
}

#[test]
fn lines_are_published_as_they_come() {
    let broker = Broker::start();
    let port = broker.port();
    let wanted = ["-t", "s", "-p", &port, "-d"];
    let mut sub = start(Make::Ours, "mosquitto_sub", &wanted);
    read_until(sub.stdout.as_mut().unwrap(), "Subscribed");
    let mut publisher = start(Make::Ours, "mosquitto_pub", &["-t", "s", "-p", &port, "-l"]);
    for line in ["one", "two"] {
        let stdin = publisher.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
        read_until(sub.stdout.as_mut().unwrap(), &format!("{line}\n"));
    }
    assert_eq!(finish(publisher).status, Some(0));
    kill(pid(&sub), Signal::SIGINT).unwrap();
    assert_eq!(finish(sub).status, Some(0));
}

#[test]
fn no_debug_line_is_lost_however_many_there_are() {
    let broker = Broker::start();
    let port = broker.port();
    let lines = "x\n".repeat(20_000);
    for qos in ["0", "1"] {
        let line = ["-t", "d", "-p", &port, "-l", "-d", "-q", qos];
        let outcome = run(Make::Ours, "mosquitto_pub", &line, &lines);
        assert_eq!(outcome.status, Some(0));
        assert_eq!(outcome.stdout.matches("sending PUBLISH").count(), 20_000);
    }
}
