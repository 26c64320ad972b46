//! A broker of our own, on a port of its own, with a log to read.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_mosquitto");

/// Longer than anything takes on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A directory that goes with the test.
pub struct Directory {
    pub path: PathBuf,
}

impl Directory {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("mosquitto-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self { path }
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A port that nobody uses. Below those that the kernel gives to clients: another test's client could get it before
/// the broker does.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let spread = std::process::id().wrapping_mul(7919).wrapping_add(n) % 20_000;
        let port = u16::try_from(10_000 + spread).unwrap();
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// A running broker. It is killed, with its children, when the test is over.
pub struct Broker {
    pub port: u16,
    pub directory: Directory,
    pub supervisor: Pid,
    process: Child,
    log_file: PathBuf,
}

/// A member as `ps` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    pub pid: Pid,
    pub title: String,
}

impl Broker {
    /// Two workers on a port of 127.0.0.1, and these lines of configuration; waits until it runs. Without another word,
    /// there is no `$SYS`, and so no control.
    pub fn start(lines: &str) -> Self {
        let port = free_port();
        let sys_interval = if lines.contains("sys_interval") {
            ""
        } else {
            "sys_interval 0"
        };
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nworkers 2\n{sys_interval}\n{lines}\n"
        );
        let broker = Self::start_with(port, &config, |binary| Command::new(binary));
        broker.wait_for_log("running");
        broker
    }

    /// With this configuration, by this command.
    pub fn start_with(port: u16, config: &str, command: impl FnOnce(&str) -> Command) -> Self {
        let directory = Directory::new();
        let config = directory.file("mosquitto.conf", config);
        let log_file = directory.path.join("stderr");
        let process = command(BINARY)
            .arg("-v")
            .arg("-c")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log_file).unwrap())
            .spawn()
            .unwrap();
        Self {
            port,
            directory,
            supervisor: Pid::from_raw(process.id().try_into().unwrap()),
            process,
            log_file,
        }
    }

    pub fn config_file(&self) -> PathBuf {
        self.directory.path.join("mosquitto.conf")
    }

    /// Everything that was logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log_file).unwrap()).into_owned()
    }

    /// Waits until the log has this text.
    pub fn wait_for_log(&self, text: &str) {
        self.wait(text, || self.log().contains(text));
    }

    /// Waits until something is true.
    pub fn wait(&self, what: &str, mut is_true: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_true() {
            assert!(
                start.elapsed() < PATIENCE,
                "waited for: {what}\nmembers: {:?}\nlog:\n{}",
                self.members(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The children, the store first.
    pub fn members(&self) -> Vec<Process> {
        let mut members: Vec<_> = children_of(self.supervisor)
            .into_iter()
            .map(|pid| Process {
                pid,
                title: title_of(pid),
            })
            .filter(|process| process.title.starts_with("mosquitto: "))
            .collect();
        members.sort_by(|a, b| a.title.cmp(&b.title));
        members
    }

    /// The process with this title.
    pub fn member(&self, title: &str) -> Pid {
        let members = self.members();
        let found = members.iter().find(|member| member.title == title);
        found
            .unwrap_or_else(|| panic!("no {title} in {members:?}\n{}", self.log()))
            .pid
    }

    /// Waits until this member is another process than `before`, and the broker takes clients.
    pub fn wait_for_replacement(&self, title: &str, before: Pid) {
        self.wait("a new process", || {
            let members = self.members();
            members.len() == 3 && members.iter().any(|m| m.title == title && m.pid != before)
        });
        self.wait("CONNACK", || self.connects());
    }

    /// Whether a client that connects gets its CONNACK within a second.
    pub fn connects(&self) -> bool {
        let Ok(mut client) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        client
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        let mut connack = [0; 4];
        client.write_all(CONNECT).is_ok()
            && client.read_exact(&mut connack).is_ok()
            && connack == [0x20, 2, 0, 0]
    }

    pub fn signal_all(&self, signal: Signal) {
        // As `killall` does, in no good order.
        for member in self.members() {
            let _ = kill(member.pid, signal);
        }
        kill(self.supervisor, signal).unwrap();
    }

    /// As [`Broker::wait_for_end`], of a supervisor that was killed.
    pub fn wait_for_end_by_signal(&mut self) -> Option<i32> {
        self.wait_for_end().signal()
    }

    /// Waits for the supervisor's end.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "no end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            let members = self.members();
            let _ = kill(self.supervisor, Signal::SIGCONT);
            let _ = self.process.kill();
            let _ = self.process.wait();
            for member in members {
                if title_of(member.pid) == member.title {
                    let _ = kill(member.pid, Signal::SIGKILL);
                }
            }
        }
        if std::thread::panicking() {
            eprintln!("the broker's log:\n{}", self.log());
        }
    }
}

/// MQTT 3.1.1, clean session, no client id.
const CONNECT: &[u8] = &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 0];

/// Runs the binary to its end.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn status_of(status: ExitStatus) -> Option<i32> {
    assert_eq!(status.signal(), None);
    status.code()
}

pub fn am_root() -> bool {
    Uid::effective().is_root()
}

pub fn children_of(parent: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
        .filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent))
        .collect()
}

/// The state letter and the parent of a process.
pub fn stat(pid: Pid) -> Option<(char, Pid)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, Pid::from_raw(fields.next()?.parse().ok()?)))
}

pub fn title_of(pid: Pid) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .trim_end_matches('\0')
        .to_owned()
}

/// One field of `/proc/PID/status`.
pub fn status_field(pid: Pid, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
