//! The supervisor's promises: who is started and as whom, what signals do, what happens when something dies.

use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::harness::{
    BINARY, Broker, Directory, Process, am_root, children_of, exists, free_port, run, stat,
    status_field, status_of, stderr,
};

fn titles(members: &[Process]) -> Vec<&str> {
    members.iter().map(|m| m.title.as_str()).collect()
}

const ALL: [&str; 3] = [
    "mosquitto: store",
    "mosquitto: worker 0",
    "mosquitto: worker 1",
];

#[test]
fn every_process_has_its_title_and_no_power_it_does_not_need() {
    let broker = Broker::start("sys_interval 60");
    let members = broker.members();
    assert_eq!(titles(&members)[..1], ["mosquitto: control"]);
    assert_eq!(titles(&members)[1..], ALL);
    for Process { pid, .. } in &members {
        assert_eq!(status_field(*pid, "Name"), "mosquitto");
        assert_eq!(status_field(*pid, "NoNewPrivs"), "1");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status_field(*pid, set), "0000000000000000");
        }
        if am_root() {
            assert_eq!(status_field(*pid, "CapBnd"), "0000000000000000");
            assert_eq!(status_field(*pid, "Groups"), "");
            let uids = status_field(*pid, "Uid");
            let uids: Vec<_> = uids.split_whitespace().collect();
            assert!(
                uids.iter().all(|uid| *uid != "0" && *uid == uids[0]),
                "{uids:?}"
            );
        }
        // Nobody else of its user can trace it or read its memory: what is not dumpable belongs to root.
        let owner =
            std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{pid}/mem")).unwrap());
        assert_eq!(owner, 0);
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"));
        let files = limits
            .lines()
            .find(|line| line.starts_with("Max open files"))
            .unwrap();
        let files: Vec<_> = files.split_whitespace().collect();
        assert_eq!(files[3], files[4], "soft is hard");
    }
}

#[test]
fn nothing_is_inherited_from_whoever_started_the_broker() {
    let port = free_port();
    let config = format!("listener {port} 127.0.0.1\nallow_anonymous true\nworkers 2\n");
    let broker = Broker::start_with(port, &config, |binary| {
        let mut command = Command::new("sh");
        command.args(["-c", "exec 7</etc/passwd; exec \"$@\"", "sh", binary]);
        command
    });
    broker.wait_for_log("running");
    for Process { pid, .. } in broker.members() {
        let directory = format!("/proc/{pid}/fd");
        if !am_root() {
            eprintln!(
                "skipped: only root may look at the descriptors of a process that is not dumpable"
            );
            return;
        }
        for entry in fs::read_dir(directory).unwrap() {
            let target = fs::read_link(entry.unwrap().path()).unwrap();
            let target = target.to_str().unwrap();
            let known = [
                "/dev/null",
                "pipe:",
                "socket:",
                "anon_inode:",
                "/memfd:mosquitto-",
            ];
            assert!(known.iter().any(|k| target.starts_with(k)), "{target}");
        }
    }
}

#[test]
fn a_start_says_what_the_original_says() {
    let port = free_port();
    let broker = Broker::start_with(
        port,
        &format!("listener {port}\nallow_anonymous true\n"),
        |binary| Command::new(binary),
    );
    broker.wait_for_log("running");
    let log = broker.log();
    let mut rest = log.as_str();
    let config = broker.config_file();
    for expected in [
        format!("mosquitto version {} starting\n", env!("CARGO_PKG_VERSION")),
        format!("Config loaded from {}.\n", config.display()),
        format!("Opening ipv4 listen socket on port {port}.\n"),
        format!("Opening ipv6 listen socket on port {port}.\n"),
        format!("mosquitto version {} running\n", env!("CARGO_PKG_VERSION")),
    ] {
        let (before, after) = rest
            .split_once(&expected)
            .unwrap_or_else(|| panic!("{expected}{log}"));
        let stamp = before.rsplit('\n').next().unwrap();
        assert!(
            stamp
                .strip_suffix(": ")
                .is_some_and(|s| s.parse::<u64>().is_ok()),
            "{stamp}"
        );
        rest = after;
    }
}

#[test]
fn a_second_broker_on_the_port_fails_as_the_original_does() {
    let broker = Broker::start("");
    let second = run(&["-c", broker.config_file().to_str().unwrap()]);
    assert_eq!(status_of(second.status), Some(1));
    assert!(
        stderr(&second).ends_with(": Error: Address already in use\n"),
        "{}",
        stderr(&second)
    );
    let local = run(&["-p", &broker.port.to_string()]);
    assert_eq!(status_of(local.status), Some(1));
    assert!(stderr(&local).contains("Starting in local only mode."));
    assert!(broker.connects());
}

#[test]
fn bad_options_and_files_are_status_3() {
    let option = run(&["--foo"]);
    assert_eq!(status_of(option.status), Some(3));
    assert!(stderr(&option).starts_with("Error: Unknown option '--foo'.\n"));
    let file = run(&["-c", "/nonexistent/file"]);
    assert_eq!(status_of(file.status), Some(3));
    assert!(stderr(&file).contains("Error: Unable to open config file /nonexistent/file"));
    let directory = Directory::new();
    let path = directory.file("bad.conf", "listener 1\nbogus 1\n");
    let path = path.to_str().unwrap();
    for arguments in [&["-c", path][..], &["--test-config", "-c", path]] {
        let line = run(arguments);
        assert_eq!(status_of(line.status), Some(3));
        assert!(
            stderr(&line).contains(&format!("{path}:2")),
            "{}",
            stderr(&line)
        );
    }
    let good = directory.file("good.conf", "listener 1\n");
    let good = run(&["--test-config", "-c", good.to_str().unwrap()]);
    assert_eq!(status_of(good.status), Some(0));
}

#[test]
fn help_and_version_are_printed() {
    let version = run(&["--version"]);
    assert_eq!(status_of(version.status), Some(0));
    let expected = format!("mosquitto version {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&version.stdout), expected);
    let help = run(&["-h"]);
    assert_eq!(status_of(help.status), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("Usage: mosquitto"));
}

#[test]
fn a_child_cannot_be_started_by_hand() {
    let output = Command::new(BINARY)
        .arg0("mosquitto: worker 0")
        .output()
        .unwrap();
    assert_eq!(status_of(output.status), Some(1));
    assert!(
        stderr(&output).contains("only a running broker can start it"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn sigterm_and_sigint_end_everything_with_status_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let directory = Directory::new();
        let pid_file = directory.path.join("pid");
        let mut broker = Broker::start(&format!("pid_file {}", pid_file.display()));
        assert_eq!(
            fs::read_to_string(&pid_file).unwrap(),
            broker.supervisor.to_string()
        );
        let members = broker.members();
        kill(broker.supervisor, signal).unwrap();
        assert_eq!(status_of(broker.wait_for_end()), Some(0));
        assert!(
            members.iter().all(|m| stat(m.pid).is_none()),
            "{}",
            broker.log()
        );
        assert!(!exists(&pid_file));
        assert!(TcpStream::connect(("127.0.0.1", broker.port)).is_err());
        let log = broker.log();
        assert!(log.ends_with("terminating\n"), "{log}");
        assert!(
            !log.contains("was ended by") && !log.contains("exited with"),
            "{log}"
        );
    }
}

#[test]
fn signals_to_every_process_do_what_they_do_to_the_supervisor() {
    let mut broker = Broker::start("");
    let members = broker.members();
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2] {
        broker.signal_all(signal);
    }
    broker.wait_for_log("Reloading config.");
    broker.wait_for_log("SIGUSR1");
    broker.wait_for_log("SIGUSR2");
    assert!(broker.connects());
    assert_eq!(broker.members(), members);
    broker.signal_all(Signal::SIGINT);
    broker.signal_all(Signal::SIGTERM);
    assert_eq!(status_of(broker.wait_for_end()), Some(0));
    let log = broker.log();
    assert!(
        !log.contains("was ended by") && !log.contains("exited with"),
        "{log}"
    );
}

/// Connects again and again while `act` runs. None of it may be refused.
fn while_connecting(broker: &Broker, act: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let knocker = scope.spawn(|| {
            let mut refused = Vec::new();
            while !over.load(Ordering::Relaxed) {
                if let Err(e) = TcpStream::connect(("127.0.0.1", broker.port)) {
                    refused.push(e);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            refused
        });
        act();
        over.store(true, Ordering::Relaxed);
        let refused = knocker.join().unwrap();
        assert!(refused.is_empty(), "{refused:?}");
    });
}

#[test]
fn whoever_is_killed_is_replaced_while_the_port_stays_open() {
    let broker = Broker::start("");
    while_connecting(&broker, || {
        for victim in ALL {
            let before = broker.members();
            let pid = broker.member(victim);
            let start = Instant::now();
            kill(pid, Signal::SIGKILL).unwrap();
            broker.wait_for_replacement(victim, pid);
            println!("{victim}: replaced and serving after {:?}", start.elapsed());
            let others = |members: Vec<Process>| -> Vec<_> {
                members.into_iter().filter(|m| m.title != victim).collect()
            };
            assert_eq!(others(broker.members()), others(before));
        }
    });
}

#[test]
fn all_killed_at_once_are_replaced() {
    let broker = Broker::start("");
    for _ in 0..3 {
        let before = broker.members();
        for member in &before {
            kill(member.pid, Signal::SIGKILL).unwrap();
        }
        broker.wait("new processes", || {
            let now = broker.members();
            titles(&now) == ALL && now.iter().all(|m| !before.contains(m))
        });
        broker.wait("CONNACK", || broker.connects());
    }
}

#[test]
fn a_worker_that_hangs_is_killed_and_replaced() {
    let broker = Broker::start("");
    let hung = broker.member("mosquitto: worker 1");
    let start = Instant::now();
    kill(hung, Signal::SIGSTOP).unwrap();
    broker.wait_for_log("makes no progress, and is killed");
    let found = start.elapsed();
    // Two seconds; more only because this machine may be busy with other tests.
    assert!(
        found > Duration::from_secs(1) && found < Duration::from_secs(5),
        "{found:?}"
    );
    broker.wait_for_replacement("mosquitto: worker 1", hung);
}

#[test]
fn a_supervisor_that_was_stopped_kills_nobody() {
    let broker = Broker::start("");
    let members = broker.members();
    // Everything stands still, as in a suspended machine or a frozen container, and the supervisor alone.
    for all in [true, false] {
        let everybody: Vec<Pid> = members.iter().map(|m| m.pid).filter(|_| all).collect();
        let everybody = everybody.into_iter().chain([broker.supervisor]);
        for pid in everybody.clone() {
            kill(pid, Signal::SIGSTOP).unwrap();
        }
        std::thread::sleep(Duration::from_millis(3500));
        // The supervisor first, so that it sees the others as they stood.
        for pid in everybody.rev() {
            kill(pid, Signal::SIGCONT).unwrap();
        }
        std::thread::sleep(Duration::from_millis(1000));
        assert_eq!(broker.members(), members, "{}", broker.log());
    }
    assert!(broker.connects());
}

#[test]
fn a_child_that_dies_again_and_again_is_held_back_while_a_sibling_accepts() {
    let broker = Broker::start("");
    let victim = "mosquitto: worker 0";
    for _ in 0..5 {
        let mut pid = None;
        broker.wait("the worker", || {
            pid = broker
                .members()
                .iter()
                .find(|m| m.title == victim)
                .map(|m| m.pid);
            pid.is_some()
        });
        kill(pid.unwrap(), Signal::SIGKILL).unwrap();
        broker.wait("its end", || {
            broker.members().iter().all(|m| Some(m.pid) != pid)
        });
    }
    broker.wait_for_log("worker 0 keeps dying");
    broker.wait_for_log("worker 1 accepts connections for worker 0");
    // Some of these come to the dead worker's socket.
    for _ in 0..20 {
        assert!(broker.connects(), "{}", broker.log());
    }
    broker.wait("the worker", || {
        broker.members().iter().any(|m| m.title == victim)
    });
    broker.wait("CONNACK", || broker.connects());
}

#[test]
fn children_end_when_the_supervisor_is_killed() {
    let mut broker = Broker::start("");
    let members = broker.members();
    kill(broker.supervisor, Signal::SIGKILL).unwrap();
    broker.wait("their end", || {
        members.iter().all(|m| stat(m.pid).is_none())
    });
    let _ = broker.wait_for_end_by_signal();
    // The port is free for the next one.
    let config = fs::read_to_string(broker.config_file()).unwrap();
    let next = Broker::start_with(broker.port, &config, |binary| Command::new(binary));
    next.wait_for_log("running");
}

#[test]
fn a_daemon_s_starter_returns_when_the_ports_are_bound() {
    let directory = Directory::new();
    let (port, pid_file) = (free_port(), directory.path.join("pid"));
    let log_file = directory.path.join("log");
    let config = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nworkers 1\npid_file {}\nlog_dest file {}\n",
        pid_file.display(),
        log_file.display()
    );
    let config = directory.file("mosquitto.conf", &config);
    let config = config.to_str().unwrap();
    let started = run(&["-d", "-c", config]);
    assert_eq!(status_of(started.status), Some(0), "{}", stderr(&started));
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    let pid = Pid::from_raw(fs::read_to_string(&pid_file).unwrap().parse().unwrap());
    let second = run(&["-d", "-c", config]);
    assert_eq!(status_of(second.status), Some(1));
    assert!(
        exists(&pid_file),
        "the second one leaves the first one's file"
    );
    let wait = |what: &str, is_true: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !is_true() {
            assert!(
                start.elapsed() < super::harness::PATIENCE,
                "waited for {what}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait("running", &|| {
        fs::read_to_string(&log_file).unwrap().contains("running")
    });
    kill(pid, Signal::SIGTERM).unwrap();
    wait("the end", &|| {
        stat(pid).is_none_or(|(state, _)| state == 'Z')
    });
    let log = fs::read_to_string(log_file).unwrap();
    assert!(
        log.contains("running") && log.ends_with("terminating\n"),
        "{log}"
    );
}

#[test]
fn a_reload_is_all_or_nothing() {
    let directory = Directory::new();
    let log_file = directory.path.join("log");
    let lines = format!("log_dest stderr\nlog_dest file {}\n", log_file.display());
    let broker = Broker::start(&lines);
    let good = fs::read_to_string(broker.config_file()).unwrap();
    let members = broker.members();
    fs::write(broker.config_file(), format!("{good}bogus 1\n")).unwrap();
    kill(broker.supervisor, Signal::SIGHUP).unwrap();
    broker.wait_for_log("nothing has changed");
    fs::write(
        broker.config_file(),
        format!("{good}listener {} 127.0.0.1\n", free_port()),
    )
    .unwrap();
    kill(broker.supervisor, Signal::SIGHUP).unwrap();
    broker.wait_for_log("not currently possible to add/remove listeners");
    // Rotated: the name is a new file after the signal.
    fs::rename(&log_file, directory.path.join("log.1")).unwrap();
    fs::write(
        broker.config_file(),
        format!("{good}workers 1\n").replacen("workers 2\n", "", 1),
    )
    .unwrap();
    kill(broker.supervisor, Signal::SIGHUP).unwrap();
    broker.wait("a new log file", || exists(&log_file));
    broker.wait_for_log("'workers' needs a restart");
    assert!(broker.connects());
    assert_eq!(broker.members(), members);
    broker.wait("lines in it", || fs::metadata(&log_file).unwrap().len() > 0);
}

#[test]
fn a_missing_user_is_fatal() {
    if !am_root() {
        eprintln!("skipped: only root changes users");
        return;
    }
    let directory = Directory::new();
    let config = format!(
        "listener {} 127.0.0.1\nuser no-such-user-here\n",
        free_port()
    );
    let config = directory.file("mosquitto.conf", &config);
    let output = run(&["-c", config.to_str().unwrap()]);
    assert_eq!(status_of(output.status), Some(1));
    let expected =
        "Error: Unable to drop privileges to 'no-such-user-here' because this user does not exist.";
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
}

#[test]
fn without_the_default_user_children_run_as_nobody_with_a_warning() {
    if !am_root() {
        eprintln!("skipped: only root changes users");
        return;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let others = passwd
        .lines()
        .filter(|line| !line.starts_with("mosquitto:"));
    let others: String = others.map(|line| format!("{line}\n")).collect();
    let directory = Directory::new();
    let passwd = directory.file("passwd", &others);
    let port = free_port();
    let config = format!("listener {port} 127.0.0.1\nworkers 2\n");
    let broker = Broker::start_with(port, &config, |binary| {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c"])
            .arg("mount --bind \"$0\" /etc/passwd && exec \"$@\"")
            .arg(&passwd)
            .arg(binary);
        command
    });
    broker.wait_for_log("running");
    let warning = "Warning: There is no user 'mosquitto', so 'nobody' is used instead.";
    assert!(broker.log().contains(warning), "{}", broker.log());
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid;
    for Process { pid, .. } in broker.members() {
        let uids = status_field(pid, "Uid");
        assert_eq!(
            uids.split_whitespace().next(),
            Some(nobody.to_string().as_str())
        );
    }
}

#[test]
fn the_configured_user_is_used() {
    if !am_root() {
        eprintln!("skipped: only root changes users");
        return;
    }
    let broker = Broker::start("user daemon");
    let daemon = nix::unistd::User::from_name("daemon").unwrap().unwrap();
    let expected = (daemon.uid.to_string(), daemon.gid.to_string());
    for Process { pid, .. } in broker.members() {
        let first = |field: &str| {
            let ids = status_field(pid, field);
            ids.split_whitespace().next().unwrap().to_owned()
        };
        assert_eq!((first("Uid"), first("Gid")), expected);
    }
}

#[test]
fn as_process_1_it_reaps_orphans() {
    if !am_root() {
        eprintln!("skipped: only root makes process namespaces");
        return;
    }
    let port = free_port();
    let config = format!("listener {port} 127.0.0.1\nallow_anonymous true\nworkers 1\n");
    let mut broker = Broker::start_with(port, &config, |binary| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", binary]);
        command
    });
    broker.wait_for_log("running");
    // What was started is unshare; its child is the broker.
    let outside = broker.supervisor;
    let init = children_of(outside)[0];
    assert_eq!(
        status_field(init, "NSpid").split_whitespace().last(),
        Some("1")
    );
    let orphans = Command::new("nsenter")
        .args(["--target", &init.to_string(), "--pid", "sh", "-c"])
        .arg("for n in 1 2 3 4 5; do (sleep 0.2 & sleep 0.05 &) ; done")
        .status()
        .unwrap();
    assert!(orphans.success());
    // They are the broker's now, and once they have ended nothing of them stays.
    let strangers = || {
        let ours = |pid: &Pid| super::harness::title_of(*pid).starts_with("mosquitto: ");
        children_of(init)
            .into_iter()
            .filter(|pid| !ours(pid))
            .count()
    };
    broker.wait("the orphans' end", || strangers() == 0);
    // The store, the worker and control.
    assert_eq!(children_of(init).len(), 3, "{}", broker.log());
    kill(init, Signal::SIGTERM).unwrap();
    assert_eq!(status_of(broker.wait_for_end()), Some(0));
}

#[test]
fn sigterm_while_it_starts_ends_it_too() {
    for millis in [0, 3, 10, 20, 40, 80] {
        let port = free_port();
        let config = format!("listener {port} 127.0.0.1\nworkers 3\n");
        let mut broker = Broker::start_with(port, &config, |binary| Command::new(binary));
        broker.wait_for_log("Opening ipv4");
        std::thread::sleep(Duration::from_millis(millis));
        let start = Instant::now();
        kill(broker.supervisor, Signal::SIGTERM).unwrap();
        assert_eq!(
            status_of(broker.wait_for_end()),
            Some(0),
            "after {millis} ms"
        );
        assert!(start.elapsed() < Duration::from_secs(4), "{}", broker.log());
        let log = broker.log();
        assert!(
            !log.contains("was ended by") && !log.contains("exited with"),
            "{log}"
        );
    }
}

#[test]
fn a_storm_of_deaths_is_survived() {
    let broker = Broker::start("");
    let until = Instant::now() + Duration::from_millis(1500);
    let mut round = 0;
    while_connecting(&broker, || {
        while Instant::now() < until {
            let members = broker.members();
            if let Some(victim) = members.get(round % members.len().max(1)) {
                let _ = kill(victim.pid, Signal::SIGKILL);
            }
            round += 7;
            std::thread::sleep(Duration::from_millis(15));
        }
        broker.wait("everybody", || titles(&broker.members()) == ALL);
        broker.wait("CONNACK", || broker.connects());
    });
    for _ in 0..20 {
        assert!(broker.connects(), "{}", broker.log());
    }
}
