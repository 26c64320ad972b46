//! A blocking MQTT 3.1.1 client of a few lines: what it says, and packets as they come.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// As long as a broker may be silent before the run is given up.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes of filters in one SUBSCRIBE; the brokers take 100,000.
const SUBSCRIBE_BYTES: usize = 60_000;

pub struct Client {
    pub stream: TcpStream,
    input: Vec<u8>,
    /// What of `input` was taken, and what of it was read.
    taken: usize,
    filled: usize,
}

/// One packet: its first byte, and what follows its length.
pub struct Packet<'a> {
    pub first: u8,
    pub body: &'a [u8],
}

impl Packet<'_> {
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// Topic, packet id and payload of a PUBLISH.
    pub fn publish(&self) -> (&[u8], u16, &[u8]) {
        let topic = usize::from(u16::from_be_bytes([self.body[0], self.body[1]]));
        let (topic, rest) = self.body[2..].split_at(topic);
        if self.first & 0b110 == 0 {
            return (topic, 0, rest);
        }
        (topic, u16::from_be_bytes([rest[0], rest[1]]), &rest[2..])
    }

    pub fn is_retained(&self) -> bool {
        self.first & 1 != 0
    }
}

impl Client {
    pub fn connect(port: u16, id: &str, clean: bool) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self {
            stream,
            input: vec![0; 256 * 1024],
            taken: 0,
            filled: 0,
        };
        let mut body = vec![0, 4];
        body.extend_from_slice(b"MQTT");
        body.extend_from_slice(&[4, if clean { 2 } else { 0 }, 0, 0]);
        string(id.as_bytes(), &mut body);
        client.send(&packet(0x10, &body));
        client.wait_for(2);
        client
    }

    /// The same connection, for another thread after this one: nothing may be on its way.
    pub fn again(&self) -> Self {
        Self {
            stream: self.stream.try_clone().unwrap(),
            input: vec![0; self.input.len()],
            taken: 0,
            filled: 0,
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next packet.
    pub fn next(&mut self) -> Packet<'_> {
        loop {
            if let Some((first, start, end)) = whole(&self.input[self.taken..self.filled]) {
                let at = self.taken;
                self.taken += end;
                return Packet {
                    first,
                    body: &self.input[at + start..at + end],
                };
            }
            self.input.copy_within(self.taken..self.filled, 0);
            self.filled -= self.taken;
            self.taken = 0;
            assert!(
                self.filled < self.input.len(),
                "a packet that nobody asked for"
            );
            let n = self.stream.read(&mut self.input[self.filled..]).unwrap();
            assert!(n > 0, "the broker has closed the connection");
            self.filled += n;
        }
    }

    /// Whether a whole packet is there already.
    pub fn has_more(&self) -> bool {
        whole(&self.input[self.taken..self.filled]).is_some()
    }

    /// Passes over everything up to a packet of this kind.
    pub fn wait_for(&mut self, kind: u8) {
        while self.next().kind() != kind {}
    }

    /// Subscribes, and waits for the SUBACKs.
    pub fn subscribe<'a>(&mut self, filters: impl IntoIterator<Item = &'a str>, qos: u8) {
        let mut body = vec![0, 1];
        let mut owed = 0;
        for filter in filters {
            string(filter.as_bytes(), &mut body);
            body.push(qos);
            if body.len() >= SUBSCRIBE_BYTES {
                self.send(&packet(0x82, &body));
                body.truncate(2);
                owed += 1;
                // Not more on the way than buffers hold.
                if owed >= 4 {
                    self.wait_for(9);
                    owed -= 1;
                }
            }
        }
        if body.len() > 2 {
            self.send(&packet(0x82, &body));
            owed += 1;
        }
        (0..owed).for_each(|_| self.wait_for(9));
    }

    /// Subscribes to one filter, and waits for nothing: brokers may send messages before SUBACK.
    pub fn ask_for(&mut self, filter: &str, qos: u8) {
        let mut body = vec![0, 1];
        string(filter.as_bytes(), &mut body);
        body.push(qos);
        self.send(&packet(0x82, &body));
    }

    pub fn ping(&mut self) {
        self.send(&[0xc0, 0]);
        self.wait_for(13);
    }

    /// Asks for what only the store knows, and waits for its answer: for persistent sessions.
    pub fn ask_store(&mut self) {
        let mut body = vec![0, 1];
        string(b"nothing", &mut body);
        self.send(&packet(0xa2, &body));
        self.wait_for(11);
    }
}

/// A PUBLISH; packet id 1 if it has one.
pub fn publish(topic: &str, payload: &[u8], qos: u8, retain: bool) -> Vec<u8> {
    let mut body = Vec::with_capacity(topic.len() + payload.len() + 4);
    string(topic.as_bytes(), &mut body);
    if qos > 0 {
        body.extend_from_slice(&[0, 1]);
    }
    body.extend_from_slice(payload);
    packet(0x30 | qos << 1 | u8::from(retain), &body)
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    while length >= 128 {
        bytes.push(u8::try_from(length % 128).unwrap() | 128);
        length /= 128;
    }
    bytes.push(u8::try_from(length).unwrap());
    bytes.extend_from_slice(body);
    bytes
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
    out.extend_from_slice(text);
}

/// First byte, where the body begins and where it ends.
fn whole(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let first = *bytes.first()?;
    let mut length = 0;
    for at in 1..5 {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 127) << (7 * (at - 1));
        if byte < 128 {
            let end = at + 1 + length;
            return (bytes.len() >= end).then_some((first, at + 1, end));
        }
    }
    panic!("a length of five bytes");
}
