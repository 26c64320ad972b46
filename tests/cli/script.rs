//! A server that follows a script: what a program sends is recorded, and what it gets is written down beforehand.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

/// One step of a connection. Behind the last one it is closed.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Wait for a packet.
    Hear,
    /// Wait for the end of the connection, and record what comes before.
    HearAll,
    /// Send these bytes, in hexadecimal; blanks do not count.
    Say(&'static str),
}

pub struct Server {
    port: u16,
    thread: JoinHandle<Vec<String>>,
}

impl Server {
    /// A server that plays `connections` one after the other.
    pub fn start(connections: &'static [&'static [Step]]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let mut heard = Vec::new();
            for steps in connections {
                let (stream, _) = listener.accept().unwrap();
                heard.push("connection".to_owned());
                play(stream, steps, &mut heard);
            }
            heard
        });
        Self { port, thread }
    }

    pub fn port(&self) -> String {
        self.port.to_string()
    }

    /// What it heard, once all connections were played.
    pub fn heard(self) -> Vec<String> {
        self.thread.join().unwrap()
    }
}

fn play(mut stream: TcpStream, steps: &[Step], heard: &mut Vec<String>) {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    for step in steps {
        match step {
            Step::Hear => heard.push(packet(&mut stream).unwrap_or("end".to_owned())),
            Step::HearAll => {
                while let Some(packet) = packet(&mut stream) {
                    heard.push(packet);
                }
            }
            // A program that is gone has its outcome compared.
            Step::Say(hex) => drop(stream.write_all(&bytes(hex))),
        }
    }
}

/// One packet in hexadecimal; `None` at the end of the connection.
fn packet(stream: &mut TcpStream) -> Option<String> {
    let mut header = vec![0];
    stream.read_exact(&mut header).ok()?;
    let mut len = 0;
    for shift in [0, 7, 14, 21] {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        header.push(byte[0]);
        len |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body).ok()?;
    header.extend(body);
    Some(header.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
