//! Where scripts are played: a world in which nothing happens by itself, and clients that only do what they are told.

use std::fmt::Write as _;

use mosquitto::base::ids::{MemberId, MemberMask};
use mosquitto::base::log::LogMask;
use mosquitto::config::Config;
use mosquitto::mqtt::decode::decode;
use mosquitto::mqtt::encode::encode;
use mosquitto::mqtt::frame::frame;
use mosquitto::mqtt::{
    Ack, Connect, Disconnect, Filter, Packet, PacketId, Properties, PropertiesBuilder, Property,
    Publish, Qos, Subscribe, SubscriptionOptions, Topic, Unsubscribe, Version, Will,
};
use mosquitto::process::store::authority::Store;
use mosquitto::process::worker::dispatch::Worker;
use mosquitto::ring::Cx;

use crate::mesh::SimMesh;
use crate::world::{Brain, DieAt, Random, World};

/// The store's slot, and those of workers.
pub const S: usize = 0;
pub const A: usize = 1;
pub const B: usize = 2;
pub const C: usize = 3;

pub const Q0: Qos = Qos::AtMostOnce;
pub const Q1: Qos = Qos::AtLeastOnce;
pub const Q2: Qos = Qos::ExactlyOnce;

pub struct Stage {
    pub world: World,
    peers: Vec<Peer>,
}

/// The client's end of one connection.
struct Peer {
    pipe: usize,
    version: Version,
    unread: Vec<u8>,
    next_packet_id: u16,
}

/// A CONNECT.
#[derive(Clone, Copy)]
pub struct Hello<'a> {
    pub version: Version,
    pub id: &'a str,
    pub clean: bool,
    pub keep_alive: u16,
    pub expiry: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub packet_bytes_max: Option<u32>,
    pub will: Option<Testament<'a>>,
}

#[derive(Clone, Copy)]
pub struct Testament<'a> {
    pub topic: &'a str,
    pub payload: &'a str,
    pub qos: Qos,
    pub retain: bool,
    pub delay: u32,
}

/// A PUBLISH.
#[derive(Clone, Copy)]
pub struct Words<'a> {
    pub topic: &'a str,
    pub payload: &'a str,
    pub qos: Qos,
    pub retain: bool,
    pub dup: bool,
    pub id: u16,
    pub expiry: Option<u32>,
}

/// A transient client of 5.0.
pub fn hello(id: &str) -> Hello<'_> {
    Hello {
        version: Version::V5,
        id,
        clean: true,
        keep_alive: 0,
        expiry: None,
        receive_maximum: None,
        packet_bytes_max: None,
        will: None,
    }
}

impl<'a> Hello<'a> {
    /// With a session that outlives its connections by so many seconds.
    pub fn lasting(self, secs: u32) -> Self {
        Self {
            clean: false,
            expiry: Some(secs),
            ..self
        }
    }

    /// With a will of QoS 1.
    pub fn will(self, topic: &'a str, payload: &'a str) -> Self {
        self.will_after(0, topic, payload)
    }

    pub fn will_after(self, delay: u32, topic: &'a str, payload: &'a str) -> Self {
        let (qos, retain) = (Q1, false);
        let will = Some(Testament {
            topic,
            payload,
            qos,
            retain,
            delay,
        });
        Self { will, ..self }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut of_connect = PropertiesBuilder::default();
        let mut of_will = PropertiesBuilder::default();
        if self.version == Version::V5 {
            let all = [
                self.expiry.map(Property::SessionExpiryInterval),
                self.receive_maximum.map(Property::ReceiveMaximum),
                self.packet_bytes_max.map(Property::MaximumPacketSize),
            ];
            for property in all.into_iter().flatten() {
                of_connect.push(property);
            }
            if let Some(will) = self.will.filter(|will| will.delay > 0) {
                of_will.push(Property::WillDelayInterval(will.delay));
            }
        }
        let connect = Connect {
            version: self.version,
            bridge: false,
            clean_start: self.clean,
            keep_alive: self.keep_alive,
            properties: of_connect.as_properties(),
            client_id: self.id,
            will: self.will.map(|will| Will {
                qos: will.qos,
                retain: will.retain,
                topic: Topic::new(will.topic).unwrap(),
                payload: will.payload.as_bytes(),
                properties: of_will.as_properties(),
            }),
            username: None,
            password: None,
        };
        let mut out = Vec::new();
        encode(&Packet::Connect(connect), self.version, &mut out);
        out
    }
}

/// A message that is not retained.
pub fn words<'a>(topic: &'a str, payload: &'a str, qos: Qos) -> Words<'a> {
    Words {
        topic,
        payload,
        qos,
        retain: false,
        dup: false,
        id: 0,
        expiry: None,
    }
}

impl Stage {
    pub fn new(workers: usize) -> Self {
        Self::with(workers, 1000, |_| {})
    }

    /// A world whose outboxes hold `capacity` records, with other settings.
    pub fn with(workers: usize, capacity: u64, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default_local();
        change(&mut config);
        let mut stage = Self {
            world: World::new(Random(1), workers, capacity, config),
            peers: Vec::new(),
        };
        stage.settle();
        stage
    }

    /// Everybody takes turns until nothing happens any more.
    pub fn settle(&mut self) {
        self.world.settle().unwrap();
    }

    /// All that is under way arrives, time passes, and what comes due then happens.
    pub fn pass(&mut self, secs: u64) {
        self.settle();
        self.world.now = self.world.now.after_secs(secs);
        self.settle();
    }

    pub fn turn(&mut self, slot: usize) {
        self.world.turn(member(slot), 1000, None);
    }

    /// A turn that listens only to these members.
    pub fn turn_hearing(&mut self, slot: usize, writers: &[usize]) {
        let writers = writers
            .iter()
            .fold(MemberMask::NONE, |mask, slot| mask.with(member(*slot)));
        self.world.turn_reading(member(slot), writers, 1000, None);
    }

    /// Several rounds of turns, in this order.
    pub fn turns(&mut self, slots: &[usize]) {
        for _ in 0..20 {
            for slot in slots {
                self.turn(*slot);
            }
            self.world.now = self.world.now.after_millis(2);
        }
    }

    pub fn kill(&mut self, slot: usize) {
        self.world.kill(member(slot));
    }

    pub fn dies_at(&mut self, slot: usize, at: DieAt) {
        self.world.turn(member(slot), 1000, Some(at));
    }

    pub fn is_alive(&self, slot: usize) -> bool {
        self.world.is_alive(member(slot))
    }

    pub fn worker<R>(
        &mut self,
        slot: usize,
        act: impl FnOnce(&mut Worker, &mut Cx<'_, SimMesh<'_>>) -> R,
    ) -> R {
        self.brain(slot, |brain, cx| match brain {
            Brain::Worker(worker) => act(worker, cx),
            Brain::Store(_) => panic!("slot {slot} is the store"),
        })
    }

    pub fn store(&mut self, act: impl FnOnce(&mut Store, &mut Cx<'_, SimMesh<'_>>)) {
        self.brain(S, |brain, cx| match brain {
            Brain::Store(store) => act(store, cx),
            Brain::Worker(_) => panic!("no store"),
        });
    }

    fn brain<R>(
        &mut self,
        slot: usize,
        act: impl FnOnce(&mut Brain, &mut Cx<'_, SimMesh<'_>>) -> R,
    ) -> R {
        let mut member = self.world.members.remove(&member(slot)).unwrap();
        let result = self.world.step_member(&mut member, act);
        self.world.members.insert(member.life.0, member);
        result
    }

    /// Records of this kind in a member's outbox.
    pub fn said(&self, slot: usize, kind: u8) -> usize {
        let life = self.world.members[&member(slot)].life;
        let net = self.world.net.borrow();
        let records = net.outboxes[&life].records.iter();
        records.filter(|r| r.kind == kind).count()
    }

    /// A connection to a worker, with nothing said yet.
    pub fn dial(&mut self, slot: usize, version: Version) -> usize {
        let pipe = self.world.dial(None, member(slot));
        self.peers.push(Peer {
            pipe,
            version,
            unread: Vec::new(),
            next_packet_id: 0,
        });
        self.peers.len() - 1
    }

    /// Sends CONNECT, on a new connection.
    pub fn connect(&mut self, slot: usize, hello: Hello<'_>) -> usize {
        let peer = self.dial(slot, hello.version);
        self.write(peer, &hello.bytes());
        peer
    }

    /// Connects and is let in; says whether there was a session.
    pub fn enter(&mut self, slot: usize, hello: Hello<'_>) -> (usize, bool) {
        let peer = self.connect(slot, hello);
        self.settle();
        let (packets, rest) = self.packets(peer);
        self.peers[peer].unread = rest;
        assert_eq!(packets.len(), 1, "{packets:?}");
        match packets[0].as_str() {
            "connack" => (peer, false),
            "connack present" => (peer, true),
            other => panic!("{other}"),
        }
    }

    /// Connects and is let in, without a session from before.
    pub fn join(&mut self, slot: usize, hello: Hello<'_>) -> usize {
        let (peer, present) = self.enter(slot, hello);
        assert!(!present, "there was a session");
        peer
    }

    /// Connects and is let in; what else comes at once can be heard.
    pub fn rejoin(&mut self, slot: usize, hello: Hello<'_>) -> usize {
        let peer = self.connect(slot, hello);
        self.settle();
        assert_eq!(self.next(peer), "connack present");
        peer
    }

    pub fn write(&mut self, peer: usize, bytes: &[u8]) {
        let pipe = self.peers[peer].pipe;
        self.world.write(pipe, bytes);
    }

    pub fn send(&mut self, peer: usize, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(packet, self.peers[peer].version, &mut bytes);
        self.write(peer, &bytes);
    }

    fn packet_id(&mut self, peer: usize) -> PacketId {
        let peer = &mut self.peers[peer];
        peer.next_packet_id += 1;
        PacketId::new(peer.next_packet_id).unwrap()
    }

    pub fn publish(&mut self, peer: usize, topic: &str, payload: &str, qos: Qos) {
        self.say(peer, words(topic, payload, qos));
    }

    /// Publishes a message that is to be retained.
    pub fn retain(&mut self, peer: usize, topic: &str, payload: &str, qos: Qos) {
        let retain = true;
        let what = words(topic, payload, qos);
        self.say(peer, Words { retain, ..what });
    }

    pub fn say(&mut self, peer: usize, what: Words<'_>) {
        let mut properties = PropertiesBuilder::default();
        if let Some(secs) = what.expiry {
            properties.push(Property::MessageExpiryInterval(secs));
        }
        let packet_id = match (what.qos, what.id) {
            (Q0, _) => None,
            (_, 0) => Some(self.packet_id(peer)),
            (_, id) => PacketId::new(id),
        };
        let packet = Packet::Publish(Publish {
            dup: what.dup,
            qos: what.qos,
            retain: what.retain,
            topic: Topic::new(what.topic),
            packet_id,
            properties: properties.as_properties(),
            payload: what.payload.as_bytes(),
        });
        self.send(peer, &packet);
    }

    /// Sends SUBSCRIBE.
    pub fn ask(&mut self, peer: usize, filter: &str, qos: Qos) {
        let options = SubscriptionOptions {
            qos,
            ..Default::default()
        };
        self.ask_with(peer, filter, options, 0);
    }

    pub fn ask_with(&mut self, peer: usize, filter: &str, options: SubscriptionOptions, id: u32) {
        let mut properties = PropertiesBuilder::default();
        if id > 0 {
            properties.push(Property::SubscriptionIdentifier(id));
        }
        let packet_id = self.packet_id(peer);
        let filters = vec![(Filter::new(filter).unwrap(), options)];
        let packet = Packet::Subscribe(Subscribe {
            packet_id,
            properties: properties.as_properties(),
            filters,
        });
        self.send(peer, &packet);
    }

    /// Subscribes, and has the SUBACK.
    pub fn subscribe(&mut self, peer: usize, filter: &str, qos: Qos) {
        self.ask(peer, filter, qos);
        self.settle();
        let packet = self.next(peer);
        assert_eq!(packet, format!("suback [{}]", qos as u8));
    }

    pub fn unsubscribe(&mut self, peer: usize, filter: &str) {
        let packet_id = self.packet_id(peer);
        let filters = vec![Filter::new(filter).unwrap()];
        let properties = Properties::NONE;
        let packet = Packet::Unsubscribe(Unsubscribe {
            packet_id,
            properties,
            filters,
        });
        self.send(peer, &packet);
    }

    pub fn puback(&mut self, peer: usize, id: u16) {
        self.send(peer, &Packet::Puback(ack(id)));
    }

    pub fn pubrec(&mut self, peer: usize, id: u16) {
        self.send(peer, &Packet::Pubrec(ack(id)));
    }

    pub fn pubrel(&mut self, peer: usize, id: u16) {
        self.send(peer, &Packet::Pubrel(ack(id)));
    }

    pub fn pubcomp(&mut self, peer: usize, id: u16) {
        self.send(peer, &Packet::Pubcomp(ack(id)));
    }

    /// Sends DISCONNECT and closes the connection.
    pub fn leave(&mut self, peer: usize) {
        self.leave_with(peer, 0, None);
    }

    pub fn leave_with(&mut self, peer: usize, code: u8, expiry: Option<u32>) {
        let mut properties = PropertiesBuilder::default();
        if let Some(secs) = expiry {
            properties.push(Property::SessionExpiryInterval(secs));
        }
        let packet = Packet::Disconnect(Disconnect {
            code,
            properties: properties.as_properties(),
        });
        self.send(peer, &packet);
        self.cut(peer);
    }

    /// Closes the connection without a word.
    pub fn cut(&mut self, peer: usize) {
        let pipe = self.peers[peer].pipe;
        self.world.hang_up(pipe);
    }

    /// The client stops reading, or reads again.
    pub fn take_nothing(&mut self, peer: usize, nothing: bool) {
        let pipe = self.peers[peer].pipe;
        self.world.pipes.get_mut(&pipe).unwrap().takes_nothing = nothing;
    }

    /// Bytes that the broker has not read.
    pub fn unread(&self, peer: usize) -> usize {
        self.world.pipes[&self.peers[peer].pipe].to_broker.len()
    }

    pub fn is_closed(&self, peer: usize) -> bool {
        let pipe = self.world.pipes.get(&self.peers[peer].pipe);
        pipe.is_none_or(|pipe| pipe.broker_closed)
    }

    /// The packets that came since the last question, in words.
    pub fn heard(&mut self, peer: usize) -> Vec<String> {
        let (packets, rest) = self.packets(peer);
        self.peers[peer].unread = rest;
        packets
    }

    /// The first of them.
    pub fn next(&mut self, peer: usize) -> String {
        self.fill(peer);
        let of = &mut self.peers[peer];
        let found = frame(&of.unread, usize::MAX).unwrap();
        let Some(found) = found else {
            return "nothing".to_owned();
        };
        let packet = tell(&decode(found, of.version).unwrap());
        let len = found.len;
        of.unread.drain(..len);
        packet
    }

    fn fill(&mut self, peer: usize) {
        let of = &mut self.peers[peer];
        if let Some(pipe) = self.world.pipes.get_mut(&of.pipe) {
            of.unread.append(&mut pipe.to_client);
        }
    }

    fn packets(&mut self, peer: usize) -> (Vec<String>, Vec<u8>) {
        self.fill(peer);
        let of = &self.peers[peer];
        let (mut packets, mut rest) = (Vec::new(), of.unread.as_slice());
        while let Some(found) = frame(rest, usize::MAX).unwrap() {
            packets.push(tell(&decode(found, of.version).unwrap()));
            rest = &rest[found.len..];
        }
        (packets, rest.to_vec())
    }

    /// What the members have logged, with everything logged from now on.
    pub fn log(&mut self) -> String {
        let lines = self.world.log.pending().to_owned();
        self.world.log.consume(usize::MAX);
        self.world.log.set_mask(LogMask::ALL);
        lines
    }
}

pub fn member(slot: usize) -> MemberId {
    MemberId::new(slot).unwrap()
}

fn ack(id: u16) -> Ack<'static> {
    Ack {
        packet_id: PacketId::new(id).unwrap(),
        code: 0,
        properties: Properties::NONE,
    }
}

/// A packet in a few words: what is 0, false or usual is left out.
fn tell(packet: &Packet<'_>) -> String {
    let with_id = |name: &str, ack: &Ack<'_>| match ack.code {
        0 => format!("{name} #{}", ack.packet_id),
        code => format!("{name} #{} {code:#04x}", ack.packet_id),
    };
    match packet {
        Packet::Connack(connack) => match (connack.code, connack.session_present) {
            (0, false) => "connack".to_owned(),
            (0, true) => "connack present".to_owned(),
            (code, _) => format!("connack {code:#04x}"),
        },
        Packet::Publish(publish) => tell_publish(publish),
        Packet::Puback(ack) => with_id("puback", ack),
        Packet::Pubrec(ack) => with_id("pubrec", ack),
        Packet::Pubrel(ack) => with_id("pubrel", ack),
        Packet::Pubcomp(ack) => with_id("pubcomp", ack),
        Packet::Suback(suback) => format!("suback {:?}", suback.codes),
        Packet::Unsuback(unsuback) => format!("unsuback {:?}", unsuback.codes),
        Packet::Pingresp => "pingresp".to_owned(),
        Packet::Disconnect(disconnect) => format!("disconnect {:#04x}", disconnect.code),
        other => format!("{other:?}"),
    }
}

/// `topic=payload`, then QoS and packet id, flags, identifiers, and seconds that are left.
fn tell_publish(publish: &Publish<'_>) -> String {
    let topic = publish.topic.map_or("", Topic::as_str);
    let mut words = format!("{topic}={}", String::from_utf8_lossy(publish.payload));
    if let Some(id) = publish.packet_id {
        write!(words, " q{} #{id}", publish.qos as u8).unwrap();
    }
    for (flag, word) in [(publish.retain, " retain"), (publish.dup, " dup")] {
        if flag {
            words.push_str(word);
        }
    }
    for property in publish.properties.iter() {
        match property {
            Property::SubscriptionIdentifier(id) => write!(words, " id {id}").unwrap(),
            Property::MessageExpiryInterval(secs) => write!(words, " {secs} s").unwrap(),
            _ => {}
        }
    }
    words
}
