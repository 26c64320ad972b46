//! Random lives: a client and a small broker, connections that break anywhere, and what must be true at the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

/// Numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }

    fn qos(&mut self) -> Qos {
        Qos::from_bits(u8::try_from(self.roll(3)).unwrap()).unwrap()
    }
}

/// As much of a broker as one client can see.
struct Broker {
    version: Version,
    receive_maximum: u16,
    keeps_session: bool,
    session: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Payloads in the order in which they were accepted.
    accepted: Vec<u32>,
    unreleased: BTreeSet<u16>,
    /// Those of QoS 1 and 2 that came and are not answered yet, in this connection.
    in_flight: BTreeSet<u16>,
    /// Messages for the client of QoS 1 and 2: id, QoS, payload, released.
    outgoing: VecDeque<(u16, Qos, u32, bool)>,
    next_id: u16,
    connected: bool,
}

impl Broker {
    fn hear(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some(frame) = frame(rest, usize::MAX).unwrap() {
            rest = &rest[frame.len..];
            let packet = decode(frame, self.version).unwrap();
            self.take(&packet);
        }
        self.input = rest.to_vec();
    }

    fn say(&mut self, packet: &Packet<'_>) {
        encode(packet, self.version, &mut self.output);
    }

    fn take(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::Connect(connect) => self.take_connect(connect.clean_start),
            Packet::Publish(publish) => self.take_publish(publish),
            Packet::Pubrel(pubrel) => {
                let n = pubrel.packet_id.get();
                self.unreleased.remove(&n);
                self.in_flight.remove(&n);
                self.say(&Packet::Pubcomp(super::ack(n, 0)));
            }
            Packet::Puback(puback) => self.drop_outgoing(puback.packet_id, Qos::AtLeastOnce),
            Packet::Pubrec(pubrec) => {
                let n = pubrec.packet_id.get();
                let mut outgoing = self.outgoing.iter_mut();
                outgoing
                    .find(|o| o.0 == n && o.1 == Qos::ExactlyOnce)
                    .unwrap()
                    .3 = true;
                self.say(&Packet::Pubrel(super::ack(n, 0)));
            }
            Packet::Pubcomp(pubcomp) => self.drop_outgoing(pubcomp.packet_id, Qos::ExactlyOnce),
            Packet::Pingreq => self.say(&Packet::Pingresp),
            other => panic!("{other:?}"),
        }
    }

    fn drop_outgoing(&mut self, id: PacketId, qos: Qos) {
        let at = self.outgoing.iter().position(|o| o.0 == id.get()).unwrap();
        let (_, own, _, released) = self.outgoing.remove(at).unwrap();
        assert_eq!(own, qos);
        assert_eq!(released, qos == Qos::ExactlyOnce);
    }

    fn take_connect(&mut self, clean: bool) {
        let session_present = self.session && self.keeps_session && !clean;
        if !session_present {
            self.unreleased.clear();
            // What a real broker would forget is sent again here, so that the end can be checked.
            for outgoing in &mut self.outgoing {
                outgoing.3 = false;
            }
        }
        self.session = true;
        self.connected = true;
        self.in_flight.clear();
        let mut properties = PropertiesBuilder::default();
        if self.version == Version::V5 {
            properties.push(Property::ReceiveMaximum(self.receive_maximum));
        }
        let connack = Connack {
            // 3.1 has no such flag.
            session_present: session_present && self.version != Version::V31,
            code: 0,
            properties: properties.as_properties(),
        };
        self.say(&Packet::Connack(connack));
        for (n, qos, payload, released) in self.outgoing.clone() {
            match released {
                true => self.say(&Packet::Pubrel(super::ack(n, 0))),
                false => self.say_publish(n, qos, payload, session_present),
            }
        }
    }

    fn take_publish(&mut self, publish: &Publish<'_>) {
        let number = u32::from_be_bytes(publish.payload.try_into().unwrap());
        let Some(id) = publish.packet_id else {
            self.accepted.push(number);
            return;
        };
        self.in_flight.insert(id.get());
        if self.version == Version::V5 {
            assert!(self.in_flight.len() <= usize::from(self.receive_maximum));
        }
        if publish.qos == Qos::AtLeastOnce {
            self.in_flight.remove(&id.get());
            self.accepted.push(number);
            self.say(&Packet::Puback(super::ack(id.get(), 0)));
        } else {
            if self.unreleased.insert(id.get()) {
                self.accepted.push(number);
            }
            self.say(&Packet::Pubrec(super::ack(id.get(), 0)));
        }
    }

    fn publish(&mut self, qos: Qos, payload: u32) {
        let n = match qos {
            Qos::AtMostOnce => 0,
            _ => {
                self.next_id += 1;
                self.outgoing.push_back((self.next_id, qos, payload, false));
                self.next_id
            }
        };
        if self.connected {
            self.say_publish(n, qos, payload, false);
        }
    }

    fn say_publish(&mut self, n: u16, qos: Qos, payload: u32, dup: bool) {
        let payload = payload.to_be_bytes();
        let Packet::Publish(mut packet) = super::publish(qos, n, &payload) else {
            unreachable!()
        };
        packet.dup = dup;
        self.say(&Packet::Publish(packet));
    }
}

/// One life.
struct Life {
    dice: Dice,
    client: Client,
    broker: Broker,
    /// Bytes on their way to the client.
    to_client: Vec<u8>,
    connected: bool,
    now: Instant,
    /// By payload: the QoS.
    published: BTreeMap<u32, Qos>,
    waiting: BTreeMap<PacketId, u32>,
    sent_to_client: BTreeMap<u32, Qos>,
    /// Payloads of messages that came, in order.
    got: Vec<u32>,
    next: u32,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let version = [Version::V31, Version::V311, Version::V5][dice.roll(3)];
        let keeps_session = dice.roll(4) > 0;
        let settings = Settings {
            in_flight_max: u16::try_from(dice.roll(5)).unwrap(),
            clean_start: !keeps_session,
            keep_alive_secs: 10,
            receive_maximum: u16::MAX,
            ..settings(version)
        };
        let broker = Broker {
            version,
            receive_maximum: u16::try_from(dice.roll(4) + 1).unwrap(),
            keeps_session,
            session: false,
            input: Vec::new(),
            output: Vec::new(),
            accepted: Vec::new(),
            unreleased: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            outgoing: VecDeque::new(),
            next_id: 0,
            connected: false,
        };
        Self {
            dice,
            client: Client::new(settings),
            broker,
            to_client: Vec::new(),
            connected: false,
            now: START,
            published: BTreeMap::new(),
            waiting: BTreeMap::new(),
            sent_to_client: BTreeMap::new(),
            got: Vec::new(),
            next: 0,
        }
    }

    fn step(&mut self) {
        match self.dice.roll(20) {
            0 if self.connected => self.cut(),
            0..=1 if !self.connected => self.connect(),
            2..=5 => self.client_publishes(),
            6..=8 => self.broker_publishes(),
            9..=13 => self.move_to_broker(),
            14..=18 => self.move_to_client(),
            19 => {
                self.now = self
                    .now
                    .after_secs(u64::try_from(self.dice.roll(4)).unwrap());
                self.client.advance(self.now);
                while let Some(event) = self.client.next_event() {
                    self.handle(&owned(event));
                }
            }
            _ => {}
        }
        if self.client.is_closing() {
            self.cut();
        }
    }

    fn connect(&mut self) {
        self.connected = true;
        self.client.connected(self.now);
    }

    fn cut(&mut self) {
        self.connected = false;
        self.client.lost();
        self.broker.connected = false;
        self.broker.input.clear();
        self.broker.output.clear();
        self.to_client.clear();
    }

    fn client_publishes(&mut self) {
        let (qos, number) = (self.dice.qos(), self.next);
        let payload = number.to_be_bytes();
        match self.client.publish(Message::new("t", &payload, qos, false)) {
            Ok(id) => {
                self.published.insert(number, qos);
                if qos != Qos::AtMostOnce {
                    assert_eq!(self.waiting.insert(id, number), None, "id in use");
                }
            }
            Err(refusal) => assert_eq!((refusal, qos), (Refusal::NotConnected, Qos::AtMostOnce)),
        }
        self.next += 1;
    }

    fn broker_publishes(&mut self) {
        let qos = self.dice.qos();
        self.sent_to_client.insert(self.next, qos);
        self.broker.publish(qos, self.next);
        self.next += 1;
    }

    fn move_to_broker(&mut self) {
        let len = self.client.output().len();
        let some = self.dice.roll(len + 1).max(len.min(1));
        let bytes = self.client.output()[..some].to_vec();
        self.client.wrote(some, self.now);
        self.broker.hear(&bytes);
    }

    fn move_to_client(&mut self) {
        self.to_client.append(&mut self.broker.output);
        let some = self
            .dice
            .roll(self.to_client.len() + 1)
            .max(self.to_client.len().min(1));
        let bytes = self.to_client[..some].to_vec();
        let mut at = 0;
        loop {
            let (used, event) = self.client.read(&bytes[at..], self.now);
            at += used;
            let Some(event) = event.map(owned) else { break };
            self.handle(&event);
        }
        self.to_client.drain(..at);
    }

    fn handle(&mut self, event: &Event<'static>) {
        match event {
            Event::Connected { .. } => {}
            Event::Message(message) => {
                let payload: [u8; 4] = message.payload.as_ref().try_into().unwrap();
                self.got.push(u32::from_be_bytes(payload));
            }
            Event::Published { packet_id, code } => {
                assert_eq!(*code, 0);
                let number = self.waiting.remove(packet_id).expect("told once");
                assert!(self.broker.accepted.contains(&number), "told too early");
            }
            Event::Closed(Cause::NoPingresp | Cause::NoConnack) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Lets everything that is on its way arrive.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if !self.connected {
                self.connect();
            }
            self.move_to_broker();
            self.move_to_client();
            let quiet = self.client.output().is_empty()
                && self.to_client.is_empty()
                && self.broker.output.is_empty();
            if quiet && self.client.is_online() {
                return;
            }
        }
        panic!("never quiet");
    }

    fn check(&self) {
        assert_eq!(self.client.unfinished(), 0);
        assert!(self.waiting.is_empty() && self.broker.outgoing.is_empty());
        let exactly = self.broker.keeps_session;
        delivered(&self.published, &self.broker.accepted, exactly);
        delivered(&self.sent_to_client, &self.got, exactly);
    }
}

/// Each message as often as its QoS says, and those of one QoS in the order in which they were published.
fn delivered(published: &BTreeMap<u32, Qos>, arrived: &[u32], exactly: bool) {
    for (number, qos) in published {
        let times = arrived.iter().filter(|n| *n == number).count();
        match qos {
            Qos::AtMostOnce => assert!(times <= 1, "{number} came {times} times"),
            Qos::ExactlyOnce if exactly => assert_eq!(times, 1, "{number}"),
            Qos::AtLeastOnce | Qos::ExactlyOnce => assert!(times >= 1, "{number} is lost"),
        }
    }
    assert!(arrived.iter().all(|n| published.contains_key(n)));
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut seen = BTreeSet::new();
        let first: Vec<u32> = arrived
            .iter()
            .copied()
            .filter(|n| published[n] == qos && seen.insert(*n))
            .collect();
        assert!(first.is_sorted(), "{qos:?} out of order: {first:?}");
    }
}

#[test]
fn every_message_arrives_as_often_as_its_qos_says_however_connections_break() {
    for seed in 0..2000 {
        let life = std::panic::catch_unwind(|| {
            let mut life = Life::new(seed);
            for _ in 0..300 {
                life.step();
            }
            life.settle();
            life.check();
        });
        assert!(life.is_ok(), "seed {seed}");
    }
}
