//! A client that does only what its test says.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::wire::{
    self, Connect, DISCONNECT, Got, PINGREQ, PUBACK, PUBCOMP, PUBREC, PUBREL, Publish, V5, publish,
    subscribe, unsubscribe, whole_packet,
};

pub struct Client {
    pub stream: TcpStream,
    pub version: u8,
    /// Which worker serves it, if that is known.
    pub worker: usize,
    buffer: Vec<u8>,
    patience: Duration,
    next_id: u16,
    /// What came while an acknowledgement was waited for.
    ahead: VecDeque<Got>,
    /// The last packet that was sent, for the message of a failure.
    sent: Vec<u8>,
}

impl Client {
    pub fn new(stream: TcpStream, worker: usize, patience: Duration) -> Self {
        Self {
            stream,
            version: wire::V311,
            worker,
            buffer: Vec::new(),
            patience,
            next_id: 0x4000,
            ahead: VecDeque::new(),
            sent: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.sent = bytes[..bytes.len().min(60)].to_vec();
        self.stream.write_all(bytes).unwrap();
    }

    /// For what a broker may refuse before all of it is sent.
    pub fn try_send(&mut self, bytes: &[u8]) {
        self.sent = bytes[..bytes.len().min(60)].to_vec();
        let _ = self.stream.write_all(bytes);
    }

    /// The bytes of the next packet, or `None` at the end of the connection.
    pub fn bytes(&mut self) -> Option<Vec<u8>> {
        let end = Instant::now() + self.patience;
        loop {
            if let Some(length) = whole_packet(&self.buffer) {
                return Some(self.buffer.drain(..length).collect());
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waited for a packet, has {:02x?}; version {}, last sent {:02x?}",
                self.buffer,
                self.version,
                self.sent
            );
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(length) => self.buffer.extend_from_slice(&chunk[..length]),
                Err(error) => match error.kind() {
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return None,
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => panic!("{error}"),
                },
            }
        }
    }

    pub fn try_next(&mut self) -> Option<Got> {
        if let Some(got) = self.ahead.pop_front() {
            return Some(got);
        }
        self.read_next()
    }

    fn read_next(&mut self) -> Option<Got> {
        let bytes = self.bytes()?;
        Some(wire::read(self.version, &bytes))
    }

    pub fn next(&mut self) -> Got {
        self.try_next().expect("the connection is open")
    }

    pub fn expect(&mut self, packet: Got) {
        assert_eq!(self.next(), packet);
    }

    pub fn expect_bytes(&mut self, bytes: &[u8]) {
        let got = self.bytes().expect("the connection is open");
        assert!(got == bytes, "got {got:02x?}, not {bytes:02x?}");
    }

    pub fn expect_end(&mut self) {
        if let Some(got) = self.try_next() {
            panic!("the connection ends, instead of: {got:?}");
        }
    }

    /// The broker ends the connection; a client of 5.0 is told why first.
    pub fn expect_disconnect(&mut self, code: u8) {
        if self.version == V5 {
            self.expect(Got::Disconnect(code));
        }
        self.expect_end();
    }

    /// Sends CONNECT; the answer is still to come.
    pub fn say_connect(&mut self, connect: &Connect) {
        self.version = connect.version;
        self.send(&connect.bytes());
    }

    /// Sends CONNECT and takes the CONNACK: session present, code, properties.
    pub fn connack(&mut self, connect: &Connect) -> (bool, u8, Vec<u8>) {
        self.say_connect(connect);
        match self.next() {
            Got::Connack {
                present,
                code,
                properties,
            } => (present, code, properties),
            other => panic!("{other:?} instead of CONNACK"),
        }
    }

    /// Connects, and says whether there was a session.
    pub fn connect(&mut self, connect: &Connect) -> bool {
        let (present, code, _) = self.connack(connect);
        assert_eq!(code, 0, "refused");
        present
    }

    fn packet_id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    /// Subscribes and waits until it holds; retained messages are still to come.
    pub fn subscribe(&mut self, filter: &str, options: u8) {
        let id = self.packet_id();
        self.send(&subscribe(self.version, id, &[(filter, options)]));
        self.expect(Got::Suback(id, vec![options & 3]));
    }

    pub fn unsubscribe(&mut self, filter: &str) {
        let id = self.packet_id();
        self.send(&unsubscribe(self.version, id, &[filter]));
        match self.next() {
            Got::Unsuback(got, _) if got == id => {}
            other => panic!("{other:?} instead of UNSUBACK"),
        }
    }

    /// Publishes with every step of its QoS.
    pub fn publish(&mut self, message: &Publish) {
        self.send(&message.bytes(self.version));
        self.finish_publish(message);
    }

    fn finish_publish(&mut self, message: &Publish) {
        match message.qos {
            1 => self.expect_ack(PUBACK, message.id),
            2 => {
                self.expect_ack(PUBREC, message.id);
                self.send(&wire::ack(PUBREL, message.id));
                self.expect_ack(PUBCOMP, message.id);
            }
            _ => {}
        }
    }

    /// With any code of success: "nobody subscribes" is one. Other answers and messages may come before it.
    pub fn expect_ack(&mut self, first: u8, id: u16) {
        loop {
            match self.read_next().expect("the connection is open") {
                Got::Ack(got, got_id, code) if got == first && got_id == id && code < 0x80 => {
                    return;
                }
                other @ (Got::Publish(_) | Got::Suback(..) | Got::Unsuback(..)) => {
                    self.ahead.push_back(other);
                }
                other => panic!("{other:?} instead of the acknowledgement {first:#x} of {id}"),
            }
        }
    }

    /// The next message; it is not acknowledged.
    pub fn message(&mut self) -> Publish {
        match self.next() {
            Got::Publish(message) => message,
            other => panic!("{other:?} instead of PUBLISH"),
        }
    }

    /// Acknowledges a message with every step of its QoS.
    pub fn acknowledge(&mut self, message: &Publish) {
        match message.qos {
            1 => self.send(&wire::ack(PUBACK, message.id)),
            2 => {
                self.send(&wire::ack(PUBREC, message.id));
                self.expect_ack(PUBREL, message.id);
                self.send(&wire::ack(PUBCOMP, message.id));
            }
            _ => {}
        }
    }

    /// The next message, acknowledged.
    pub fn receive(&mut self) -> Publish {
        let message = self.message();
        self.acknowledge(&message);
        message
    }

    /// Topic, payload, QoS and retain of the next message, acknowledged.
    pub fn expect_message(&mut self, topic: &str, payload: &str, qos: u8, retain: bool) -> Publish {
        let got = self.receive();
        let seen = (&*got.topic, &*got.payload, got.qos, got.retain);
        assert_eq!(seen, (topic, payload.as_bytes(), qos, retain));
        got
    }

    /// Everything that the broker had to say before it reads this has come.
    pub fn ping(&mut self) {
        self.send(PINGREQ);
        self.expect(Got::Pingresp);
    }

    /// Nothing that `from` published is still to come: messages sent behind it, one of each QoS, come next.
    pub fn expect_nothing_from(&mut self, from: &mut Self) {
        let topic = format!("fence/{}", self.stream.local_addr().unwrap().port());
        self.subscribe(&topic, 2);
        from.fence(&topic);
        self.past_fence(&topic);
        self.unsubscribe(&topic);
    }

    /// Sends what ends the wait of `past_fence`.
    pub fn fence(&mut self, topic: &str) {
        for qos in 0..3 {
            let id = self.packet_id();
            self.publish(&publish(topic, "fence", qos, id));
        }
    }

    /// The messages of `fence` come, and nothing else.
    pub fn past_fence(&mut self, topic: &str) {
        for _ in 0..3 {
            let got = self.receive();
            assert_eq!(got.topic, topic, "nothing else was to come: {got:?}");
        }
    }

    pub fn disconnect(mut self) {
        self.send(DISCONNECT);
        self.expect_end();
    }

    /// Ends the connection without a word.
    pub fn drop_connection(self) {
        self.stream.shutdown(Shutdown::Both).unwrap();
    }
}
