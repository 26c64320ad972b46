//! A broker under measurement, ended with the value.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::broker::Broker;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Original,
    Ours { workers: usize },
}

impl Which {
    pub fn name(self) -> String {
        match self {
            Self::Original => "original".to_owned(),
            Self::Ours { workers } => format!("ours, {workers} workers"),
        }
    }
}

pub struct Server {
    child: Child,
    pub port: u16,
    directory: PathBuf,
    which: Which,
}

impl Server {
    /// # Panics
    /// If it does not start.
    pub fn start(which: Which, ours: &str, log_types: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let unique = format!("bench-scale-{}-{port}", std::process::id());
        let directory = std::env::temp_dir().join(unique);
        fs::create_dir(&directory).unwrap();
        let log = fs::File::create(directory.join("log")).unwrap();
        let program = match which {
            Which::Original => "/usr/sbin/mosquitto",
            Which::Ours { .. } => ours,
        };
        configure(&directory, which, port, log_types);
        let child = Command::new(program)
            .arg("-c")
            .arg(directory.join("conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self {
            child,
            port,
            directory,
            which,
        };
        server.until("the broker to start", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        server
    }

    /// Logs these from now on.
    pub fn log(&self, types: &[&str]) {
        configure(&self.directory, self.which, self.port, types);
        kill(self.pid(), Signal::SIGHUP).unwrap();
        // Nothing tells from outside when every process follows.
        sleep(Duration::from_millis(500));
    }

    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.join("log")).unwrap()).into_owned()
    }

    /// # Panics
    /// If it takes more than a minute.
    pub fn until(&self, what: &str, is: impl Fn() -> bool) {
        let began = Instant::now();
        while !is() {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "waited for {what}; {}",
                self.said()
            );
            sleep(Duration::from_millis(2));
        }
    }

    pub fn tree(&self) -> Broker {
        Broker::new(self.child.id())
    }

    /// The process with this title.
    pub fn process(&self, title: &str) -> Option<Pid> {
        let titled = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).trim_end_matches('\0') == title
        };
        let pid = self.tree().living().into_iter().find(titled)?;
        Some(Pid::from_raw(i32::try_from(pid).unwrap()))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }
}

fn configure(directory: &std::path::Path, which: Which, port: u16, log_types: &[&str]) {
    let mut text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest stderr\nmax_queued_messages 0\n"
    );
    for log_type in log_types {
        text.push_str(&format!("log_type {log_type}\n"));
    }
    if let Which::Ours { workers } = which {
        text.push_str(&format!("workers {workers}\n"));
    }
    fs::write(directory.join("conf"), text).unwrap();
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill(self.pid(), Signal::SIGTERM);
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
