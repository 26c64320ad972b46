//! A client that does as it is told, byte by byte.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};

use super::harness::{Broker, PATIENCE};

/// One connection.
pub struct Client {
    pub stream: TcpStream,
}

impl Client {
    /// A connection on which nothing was said.
    pub fn open(broker: &Broker) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, broker.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// A client of MQTT 3.1.1 with a clean session, let in.
    pub fn connect(broker: &Broker, id: &str) -> Self {
        let mut client = Self::open(broker);
        client.send(&connect(4, id));
        assert_eq!(client.packet(), [0x20, 2, 0, 0]);
        client
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next packet, whole.
    pub fn packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 1];
        self.stream.read_exact(&mut packet).unwrap();
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            packet.extend(byte);
            length |= usize::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                break;
            }
        }
        let start = packet.len();
        packet.resize(start + length, 0);
        self.stream.read_exact(&mut packet[start..]).unwrap();
        packet
    }

    /// Everything up to the end of the connection, which may not be a reset.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        rest
    }

    pub fn subscribe(&mut self, filter: &str, qos: u8) {
        let mut body = vec![0, 1];
        put_string(&mut body, filter.as_bytes());
        body.push(qos);
        self.send(&packet(0x82, &body));
        assert_eq!(self.packet(), [0x90, 3, 0, 1, qos]);
    }

    pub fn ping(&mut self) {
        self.send(&[0xc0, 0]);
        assert_eq!(self.packet(), [0xd0, 0]);
    }

    /// Whether CONNECT and a ping are both answered, and nothing else is said.
    pub fn is_let_in(&mut self, id: &str) -> bool {
        let mut asked = connect(4, id);
        asked.extend([0xc0, 0]);
        let mut answer = [0; 6];
        let done = self
            .stream
            .write_all(&asked)
            .and_then(|()| self.stream.read_exact(&mut answer));
        done.is_ok() && answer == [0x20, 2, 0, 0, 0xd0, 0]
    }

    /// Sends no more, but would still read.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

/// CONNECT with a clean session and a keep-alive of a minute.
pub fn connect(version: u8, id: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put_string(&mut body, b"MQTT");
    body.extend([version, 2, 0, 60]);
    if version == 5 {
        body.push(0);
    }
    put_string(&mut body, id.as_bytes());
    packet(0x10, &body)
}

/// PUBLISH of 3.1.1; `id` only with a QoS.
pub fn publish(topic: &str, id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    put_string(&mut body, topic.as_bytes());
    body.extend(id.into_iter().flat_map(u16::to_be_bytes));
    body.extend(payload);
    packet(if id.is_some() { 0x32 } else { 0x30 }, &body)
}

pub const DISCONNECT: [u8; 2] = [0xe0, 0];

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length & 0x7f).unwrap();
        length >>= 7;
        packet.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
    out.extend(bytes);
}
