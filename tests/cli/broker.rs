//! A broker for one test.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs until it is dropped.
pub struct Broker {
    child: Child,
    port: u16,
}

impl Broker {
    pub fn start() -> Self {
        // The port may be taken between asking and using; then another one is tried.
        for _ in 0..5 {
            if let Some(broker) = Self::try_start() {
                return broker;
            }
        }
        panic!("no broker could be started");
    }

    fn try_start() -> Option<Self> {
        let port = free_port();
        let mut child = Command::new(program())
            .args(["-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Self { child, port });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    pub fn port(&self) -> String {
        self.port.to_string()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn program() -> String {
    if let Ok(program) = std::env::var("BROKER_UNDER_TEST") {
        return program;
    }
    let original = "/usr/sbin/mosquitto";
    match Path::new(original).exists() {
        true => original.to_owned(),
        false => env!("CARGO_BIN_EXE_mosquitto").to_owned(),
    }
}

/// A port on which nothing listens.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Reads until `text` has come; what came up to then.
pub fn read_until(source: &mut impl Read, text: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(text) {
        let read = source.read(&mut buffer).unwrap();
        assert!(read > 0, "ended with {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8(seen).unwrap()
}
