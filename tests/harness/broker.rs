//! Brokers to try: the original and ours, each started once for all tests of a setup.

use std::collections::HashMap;
use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// The original, as Debian installs it.
pub const ORIGINAL: &str = "/usr/sbin/mosquitto";

/// A program to try, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    pub name: &'static str,
    pub program: String,
    /// The original, which may differ where a test says so.
    pub is_original: bool,
    /// 0: it knows no workers.
    pub workers: usize,
}

/// A configuration that tests share.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Setup {
    /// Everybody may come; nothing else is said.
    Plain,
    /// Small limits.
    Strict,
    /// Nobody may come without a password, and nobody has one.
    Closed,
    /// As `Plain`, for tests that kill: nobody else is there.
    Alone,
    /// With these lines; tests with the same lines share a broker.
    With(&'static str),
}

impl Setup {
    fn lines(self) -> &'static str {
        match self {
            // What is dropped beyond a queue has tests of its own.
            Self::Plain | Self::Alone => {
                "allow_anonymous true\nmax_queued_messages 40000\nset_tcp_nodelay true\n"
            }
            Self::Strict => {
                "allow_anonymous true\nallow_zero_length_clientid false\nmax_keepalive 30\n\
                 max_packet_size 2000\nmax_inflight_messages 3\nmax_queued_messages 5\n\
                 retain_available false\nmax_qos 1\nset_tcp_nodelay true\n"
            }
            Self::Closed => "allow_anonymous false\n",
            Self::With(lines) => lines,
        }
    }
}

/// A running broker. It ends when this value goes, or when this process does.
pub struct Broker {
    pub port: u16,
    /// What `SECOND_PORT` in a setup's lines stands for.
    second_port: u16,
    pub workers: usize,
    /// The process that was started; ours is the supervisor.
    pub pid: u32,
    log: Arc<Log>,
    /// A shell that holds the broker: at the end of its input it ends the broker.
    holder: Child,
    held: Option<ChildStdin>,
    config: PathBuf,
}

#[derive(Default)]
struct Log {
    read: Mutex<Read>,
    more: Condvar,
}

#[derive(Default)]
struct Read {
    lines: Vec<String>,
    worker_of: HashMap<SocketAddr, usize>,
    pid: Option<u32>,
}

/// The shell says which process the broker is, and ends it when nobody holds the shell's input any more.
const HOLDER: &str = r#""$@" & echo "pid $!" >&2; cat >/dev/null; kill $!; wait $!"#;

/// Longer than a start takes on a machine that is busy with other tests.
const START_WITHIN: Duration = Duration::from_secs(30);

/// Longer than a line takes that comes at all.
const LINE_WITHIN: Duration = Duration::from_secs(1);

impl Broker {
    pub fn start(target: &Target, setup: Setup) -> Self {
        let port = free_port();
        let second_port = free_port();
        let config = config((port, second_port), target.workers, setup.lines());
        let name = format!("mosquitto-test-{}-{port}.conf", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::File::create_new(&path)
            .and_then(|mut file| file.write_all(config.as_bytes()))
            .unwrap();
        let mut holder = Command::new("sh")
            .args(["-c", HOLDER, "sh", &target.program, "-c"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let stderr = holder.stderr.take().unwrap();
        let writer = Arc::clone(&log);
        std::thread::spawn(move || writer.follow(BufReader::new(stderr)));
        let held = holder.stdin.take();
        let pid = log.wait("process id", |read| read.pid);
        let broker = Self {
            port,
            second_port,
            workers: target.workers,
            pid,
            log,
            holder,
            held,
            config: path,
        };
        let started = broker.log.wait(" running", |read| {
            let told = |l: &&String| l.contains(" running") || l.contains("Error: ");
            read.lines.iter().find(told).cloned()
        });
        assert!(started.contains(" running"), "{started}");
        broker
    }

    /// Replaces the setup's lines of configuration and has the broker read them. Other tests of a setup that does this
    /// are in for a surprise, so such a setup has a line of its own.
    pub fn reload(&self, lines: &str) {
        let before = self.logged("Reloading config.");
        std::fs::write(
            &self.config,
            config((self.port, self.second_port), self.workers, lines),
        )
        .unwrap();
        let pid = nix::unistd::Pid::from_raw(self.pid.try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
        self.log.wait("reload", |read| {
            let reloads = read
                .lines
                .iter()
                .filter(|l| l.contains("Reloading config."));
            (reloads.count() > before).then_some(())
        });
    }

    /// Waits until a line of the log has this text.
    pub fn wait_for_log(&self, text: &str) -> String {
        self.log.wait(text, |read| {
            read.lines.iter().find(|l| l.contains(text)).cloned()
        })
    }

    /// The lines so far that have this text.
    pub fn logged(&self, text: &str) -> usize {
        let read = self.log.read.lock().unwrap();
        read.lines.iter().filter(|l| l.contains(text)).count()
    }

    /// A connection that this worker serves: the kernel picks one by the ports, so that others are tried until it
    /// does.
    pub fn connect(&self, worker: usize) -> TcpStream {
        loop {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
            stream.set_nodelay(true).unwrap();
            if self.workers <= 1 || self.worker_of(&stream) == Some(worker) {
                return stream;
            }
        }
    }

    /// A connection to the second listener, if the setup has one.
    pub fn connect_second(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.second_port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Which worker serves a connection, as the log says; a broker that logs more than can be written drops lines.
    fn worker_of(&self, stream: &TcpStream) -> Option<usize> {
        let address = stream.local_addr().unwrap();
        self.log
            .look(LINE_WITHIN, |read| read.worker_of.get(&address).copied())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.held.take());
        let _ = self.holder.wait();
        let _ = std::fs::remove_file(&self.config);
    }
}

impl Log {
    fn follow(&self, input: impl std::io::BufRead) {
        for line in input.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            let mut read = self.read.lock().unwrap();
            if let Some(pid) = line.strip_prefix("pid ") {
                read.pid = pid.parse().ok();
            }
            if let Some((address, worker)) = served(&line) {
                // Ports come back: the newest line is the one that counts.
                read.worker_of.insert(address, worker);
            }
            read.lines.push(line);
            self.more.notify_all();
        }
    }

    fn wait<T>(&self, what: &str, find: impl Fn(&Read) -> Option<T>) -> T {
        self.look(START_WITHIN, find).unwrap_or_else(|| {
            let read = self.read.lock().unwrap();
            let tail = read.lines[read.lines.len().saturating_sub(50)..].join("\n");
            drop(read);
            panic!("the log has no {what}: {tail}")
        })
    }

    fn look<T>(&self, most: Duration, find: impl Fn(&Read) -> Option<T>) -> Option<T> {
        let end = Instant::now() + most;
        let mut read = self.read.lock().unwrap();
        loop {
            if let Some(found) = find(&read) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            read = self.more.wait_timeout(read, left).unwrap().0;
        }
    }
}

fn config((port, second_port): (u16, u16), workers: usize, lines: &str) -> String {
    let lines = lines.replace("SECOND_PORT", &second_port.to_string());
    let mut config = format!("listener {port} 127.0.0.1\n{lines}log_type all\n");
    if workers > 0 {
        config.push_str(&format!("workers {workers}\n"));
    }
    config
}

fn served(line: &str) -> Option<(SocketAddr, usize)> {
    let (_, rest) = line.split_once("Connection from ")?;
    let (address, rest) = rest.split_once(" is served by worker ")?;
    let worker = rest.trim_end_matches('.').parse().ok()?;
    Some((address.parse().ok()?, worker))
}

/// A port that nobody uses, and that no client's end of a connection will get: it is below the kernel's range for those.
fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    loop {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (std::process::id() * 31 + tried) % 20_000;
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
