//! A client of the simulation: keeps its session as the standard says, and the book.

use std::collections::{BTreeMap, BTreeSet};

use mosquitto::mqtt::decode::decode;
use mosquitto::mqtt::encode::encode;
use mosquitto::mqtt::frame::frame;
use mosquitto::mqtt::property::PropertyId;
use mosquitto::mqtt::{
    Ack, Connect, Disconnect, Filter, Packet, PacketId, Properties, PropertiesBuilder, Property,
    Publish, Qos, Subscribe, SubscriptionOptions, Topic, Unsubscribe, Version, Will,
};

use crate::book::{self, Book, Delivery, Fate, Session, Subscription};

pub struct Client {
    pub index: usize,
    pub id: String,
    pub version: Version,
    pub persistent: bool,
    pub link: Link,
    /// Which of the book's sessions this is.
    pub session: Option<usize>,
    next_packet_id: u16,
    outgoing: Vec<Outgoing>,
    /// As the broker's CONNACK said.
    receive_maximum: usize,
    received: BTreeSet<u16>,
    /// Unanswered SUBSCRIBEs, and whether they still stand: a later packet about the same filter ends them.
    subscribing: BTreeMap<u16, (String, Qos, bool)>,
    pub unsubscribing: BTreeSet<u16>,
    /// The will of this connection, by its number in the book.
    will: Option<u64>,
    will_delay: u32,
}

/// Where the client's connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    Down,
    /// CONNECT is sent, on this connection.
    Opening(usize),
    Up(usize),
}

impl Link {
    pub fn pipe(self) -> Option<usize> {
        match self {
            Self::Down => None,
            Self::Opening(pipe) | Self::Up(pipe) => Some(pipe),
        }
    }
}

struct Outgoing {
    packet_id: u16,
    number: u64,
    qos: Qos,
    released: bool,
}

impl Client {
    pub fn new(index: usize, version: Version, persistent: bool) -> Self {
        Self {
            index,
            id: format!("client{index}"),
            version,
            persistent,
            link: Link::Down,
            session: None,
            next_packet_id: 0,
            outgoing: Vec::new(),
            receive_maximum: 0,
            received: BTreeSet::new(),
            subscribing: BTreeMap::new(),
            unsubscribing: BTreeSet::new(),
            will: None,
            will_delay: 0,
        }
    }

    /// CONNECT with a will of this number, if any.
    pub fn connect(&mut self, pipe: usize, will: Option<(u64, u32)>) -> Vec<u8> {
        self.link = Link::Opening(pipe);
        self.will = will.map(|(number, _)| number);
        self.will_delay = will.map_or(0, |(_, delay)| delay);
        let payload = self.will.map(|n| n.to_string());
        let topic = format!("will/{}", self.index);
        let mut properties = PropertiesBuilder::default();
        let mut will_properties = PropertiesBuilder::default();
        if self.version == Version::V5 {
            if self.persistent {
                properties.push(Property::SessionExpiryInterval(1_000_000));
            }
            if self.will_delay > 0 {
                will_properties.push(Property::WillDelayInterval(self.will_delay));
            }
        }
        let connect = Connect {
            version: self.version,
            bridge: false,
            clean_start: !self.persistent,
            keep_alive: 0,
            properties: properties.as_properties(),
            client_id: &self.id,
            will: payload.as_ref().map(|payload| Will {
                qos: Qos::AtLeastOnce,
                retain: false,
                topic: Topic::new(&topic).unwrap(),
                payload: payload.as_bytes(),
                properties: will_properties.as_properties(),
            }),
            username: None,
            password: None,
        };
        self.bytes(&Packet::Connect(connect))
    }

    fn bytes(&self, packet: &Packet<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encode(packet, self.version, &mut out);
        out
    }

    fn packet_id(&mut self) -> PacketId {
        loop {
            self.next_packet_id = self.next_packet_id.checked_add(1).unwrap_or(1);
            let id = self.next_packet_id;
            let used = self.outgoing.iter().any(|o| o.packet_id == id)
                || self.subscribing.contains_key(&id)
                || self.unsubscribing.contains(&id);
            if !used {
                return PacketId::new(id).unwrap();
            }
        }
    }

    pub fn unacknowledged(&self) -> usize {
        self.outgoing.len()
    }

    /// Whether one more QoS 1 or 2 message may be under way.
    pub fn has_room(&self) -> bool {
        self.outgoing.len()
            < if self.version == Version::V5 {
                self.receive_maximum
            } else {
                15
            }
    }

    pub fn publish(&mut self, number: u64, book: &Book) -> Vec<u8> {
        let publish = &book.publishes[number as usize];
        let packet_id = (publish.qos != Qos::AtMostOnce).then(|| self.packet_id());
        if let Some(id) = packet_id {
            self.outgoing.push(Outgoing {
                packet_id: id.get(),
                number,
                qos: publish.qos,
                released: false,
            });
        }
        self.publish_bytes(number, packet_id, false, book)
    }

    fn publish_bytes(
        &self,
        number: u64,
        packet_id: Option<PacketId>,
        dup: bool,
        book: &Book,
    ) -> Vec<u8> {
        let publish = &book.publishes[number as usize];
        let payload = number.to_string();
        self.bytes(&Packet::Publish(Publish {
            dup,
            qos: publish.qos,
            retain: publish.retain,
            topic: Topic::new(&publish.topic),
            packet_id,
            properties: Properties::NONE,
            payload: payload.as_bytes(),
        }))
    }

    pub fn subscribe(&mut self, filter: &str, qos: Qos, book: &mut Book, now: u64) -> Vec<u8> {
        self.end_subscription(filter, book, now);
        let packet_id = self.packet_id();
        self.subscribing
            .insert(packet_id.get(), (filter.to_owned(), qos, true));
        let options = SubscriptionOptions {
            qos,
            ..Default::default()
        };
        let filters = vec![(Filter::new(filter).unwrap(), options)];
        self.bytes(&Packet::Subscribe(Subscribe {
            packet_id,
            properties: Properties::NONE,
            filters,
        }))
    }

    pub fn unsubscribe(&mut self, filter: &str, book: &mut Book, now: u64) -> Vec<u8> {
        self.end_subscription(filter, book, now);
        let packet_id = self.packet_id();
        self.unsubscribing.insert(packet_id.get());
        let filters = vec![Filter::new(filter).unwrap()];
        self.bytes(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            properties: Properties::NONE,
            filters,
        }))
    }

    fn end_subscription(&mut self, filter: &str, book: &mut Book, now: u64) {
        for (_, _, stands) in self
            .subscribing
            .values_mut()
            .filter(|(f, _, _)| f == filter)
        {
            *stands = false;
        }
        let Some(session) = self.session.and_then(|s| book.sessions.get_mut(s)) else {
            return;
        };
        for subscription in session
            .subscriptions
            .iter_mut()
            .filter(|s| s.filter == filter)
        {
            subscription.until.get_or_insert(now);
        }
    }

    /// DISCONNECT. Whether the will comes is open until the broker has read it.
    pub fn disconnect(&mut self, book: &mut Book) -> Vec<u8> {
        if let Some(number) = self.will {
            book.wills.insert(number, Fate::May);
        }
        self.bytes(&Packet::Disconnect(Disconnect {
            code: 0,
            properties: Properties::NONE,
        }))
    }

    /// The connection is gone, for whatever reason.
    pub fn lost(&mut self, book: &mut Book, now: u64) {
        if std::env::var_os("TRACE").is_some() {
            println!("{now}: client {} lost {:?}", self.index, self.link);
        }
        self.link = Link::Down;
        self.subscribing.clear();
        self.unsubscribing.clear();
        self.will = None;
        if !self.persistent {
            self.forget(book, now);
        }
    }

    fn forget(&mut self, book: &mut Book, now: u64) {
        self.outgoing.clear();
        self.received.clear();
        if let Some(session) = self.session.take().and_then(|s| book.sessions.get_mut(s)) {
            session.ended.get_or_insert(now);
        }
    }

    /// Reads what came; returns how many bytes were packets, and what to answer.
    pub fn read(
        &mut self,
        bytes: &[u8],
        book: &mut Book,
        now: u64,
    ) -> Result<(usize, Vec<u8>), String> {
        let (mut used, mut answer) = (0, Vec::new());
        while let Some(found) = frame(&bytes[used..], usize::MAX).map_err(|e| e.to_string())? {
            used += found.len;
            let packet = decode(found, self.version).map_err(|e| e.to_string())?;
            self.packet(packet, book, now, &mut answer)?;
        }
        Ok((used, answer))
    }

    fn packet(
        &mut self,
        packet: Packet<'_>,
        book: &mut Book,
        now: u64,
        answer: &mut Vec<u8>,
    ) -> Result<(), String> {
        if matches!(self.link, Link::Opening(_)) != matches!(packet, Packet::Connack(_)) {
            return Err(format!("{packet:?} while {:?}", self.link));
        }
        if std::env::var_os("TRACE").is_some() {
            println!("{now}: client {} got {packet:?}", self.index);
        }
        match packet {
            Packet::Connack(connack) => {
                if connack.code != 0 {
                    return Err(format!("refused: {connack:?}"));
                }
                if let Some(Property::ReceiveMaximum(n)) =
                    connack.properties.find(PropertyId::ReceiveMaximum)
                {
                    self.receive_maximum = usize::from(n);
                }
                answer.extend(self.connected(connack.session_present, book, now)?);
            }
            Packet::Publish(publish) => answer.extend(self.received(&publish, book, now)?),
            Packet::Puback(ack) => self.finished(&ack, Qos::AtLeastOnce, book, now)?,
            Packet::Pubcomp(ack) => self.finished(&ack, Qos::ExactlyOnce, book, now)?,
            Packet::Pubrec(ack) => {
                let known = self
                    .outgoing
                    .iter_mut()
                    .find(|o| o.packet_id == ack.packet_id.get());
                let known = known.ok_or("PUBREC for nothing")?;
                known.released = true;
                book.publishes[known.number as usize]
                    .accepted
                    .get_or_insert(now);
                answer.extend(self.ack(Packet::Pubrel, ack.packet_id));
            }
            Packet::Pubrel(ack) => {
                self.received.remove(&ack.packet_id.get());
                answer.extend(self.ack(Packet::Pubcomp, ack.packet_id));
            }
            Packet::Suback(suback) => {
                let asked = self.subscribing.remove(&suback.packet_id.get());
                let (filter, qos, stands) = asked.ok_or("SUBACK for nothing")?;
                if suback.codes != [qos as u8] {
                    return Err(format!("SUBACK says {:?}", suback.codes));
                }
                let session = self.session.ok_or("no session")?;
                let until = (!stands).then_some(now);
                book.sessions[session].subscriptions.push(Subscription {
                    filter,
                    qos,
                    from: now,
                    until,
                });
            }
            Packet::Unsuback(unsuback) => {
                self.unsubscribing.remove(&unsuback.packet_id.get());
            }
            Packet::Disconnect(_) => {}
            other => return Err(format!("a server does not send {other:?}")),
        }
        Ok(())
    }

    fn ack(
        &self,
        packet: impl Fn(Ack<'static>) -> Packet<'static>,
        packet_id: PacketId,
    ) -> Vec<u8> {
        self.bytes(&packet(Ack {
            packet_id,
            code: 0,
            properties: Properties::NONE,
        }))
    }

    /// CONNACK: the session begins or goes on, and what was not acknowledged is sent again [MQTT-4.4.0-1].
    fn connected(&mut self, present: bool, book: &mut Book, now: u64) -> Result<Vec<u8>, String> {
        let Link::Opening(pipe) = self.link else {
            return Err("CONNACK twice".into());
        };
        self.link = Link::Up(pipe);
        // 3.1 has no such flag: the client can only believe that its session is still there.
        let known = self
            .session
            .is_some_and(|s| book.sessions[s].ended.is_none());
        let present = present || (self.version == Version::V31 && self.persistent && known);
        if let Some(number) = self.will {
            book.wills.insert(number, Fate::May);
            book.publishes[number as usize].sent = now;
        }
        if !present {
            if let Some(session) = self.session.map(|s| &book.sessions[s]) {
                if self.persistent && session.ended.is_none() {
                    return Err("a persistent session is not present any more".into());
                }
            }
            self.forget(book, now);
            self.begin_session(book);
            return Ok(Vec::new());
        }
        if !self.persistent {
            return Err("a clean session is present".into());
        }
        match self.session {
            Some(session) => book.sessions[session].connections += 1,
            // Its first CONNACK was lost.
            None => self.begin_session(book),
        }
        let mut again = Vec::new();
        for outgoing in &self.outgoing {
            let id = PacketId::new(outgoing.packet_id);
            if outgoing.released {
                again.extend(self.ack(Packet::Pubrel, id.unwrap()));
            } else {
                book.publishes[outgoing.number as usize].resent = true;
                again.extend(self.publish_bytes(outgoing.number, id, true, book));
            }
        }
        Ok(again)
    }

    fn begin_session(&mut self, book: &mut Book) {
        book.sessions.push(Session {
            client: self.index,
            subscriptions: Vec::new(),
            received: Vec::new(),
            ended: None,
            connections: 1,
        });
        self.session = Some(book.sessions.len() - 1);
    }

    fn received(
        &mut self,
        publish: &Publish<'_>,
        book: &mut Book,
        now: u64,
    ) -> Result<Vec<u8>, String> {
        let number = std::str::from_utf8(publish.payload)
            .ok()
            .and_then(|s| s.parse::<u64>().ok());
        let number = number.ok_or("a payload that nobody sent")?;
        let session = self.session.ok_or("no session")?;
        let first = match (publish.qos, publish.packet_id) {
            (Qos::ExactlyOnce, Some(id)) => self.received.insert(id.get()),
            _ => true,
        };
        if first {
            let (qos, dup, retain) = (publish.qos, publish.dup, publish.retain);
            book.sessions[session].received.push(Delivery {
                number,
                qos,
                dup,
                retain,
            });
        }
        Ok(match (publish.qos, publish.packet_id) {
            (Qos::AtLeastOnce, Some(id)) => self.ack(Packet::Puback, id),
            (Qos::ExactlyOnce, Some(id)) => self.ack(Packet::Pubrec, id),
            _ => Vec::new(),
        })
    }

    fn finished(
        &mut self,
        ack: &Ack<'_>,
        qos: Qos,
        book: &mut Book,
        now: u64,
    ) -> Result<(), String> {
        let at = self
            .outgoing
            .iter()
            .position(|o| o.packet_id == ack.packet_id.get() && o.qos == qos);
        let done = self
            .outgoing
            .remove(at.ok_or(format!("{ack:?} for nothing"))?);
        book.publishes[done.number as usize]
            .accepted
            .get_or_insert(now);
        Ok(())
    }

    /// The connection is about to be cut: its will must come.
    pub fn cut(&mut self, book: &mut Book) {
        if let (Link::Up(_), Some(number)) = (self.link, self.will) {
            let fate = if self.will_delay > 0 {
                Fate::May
            } else {
                Fate::Must
            };
            book.wills.insert(number, fate);
        }
    }

    /// A new message for the book.
    pub fn note(
        book: &mut Book,
        publisher: usize,
        topic: String,
        qos: Qos,
        retain: bool,
        sent: u64,
        will: bool,
    ) -> u64 {
        book.publishes.push(book::Publish {
            publisher,
            topic,
            qos,
            retain,
            sent,
            accepted: None,
            resent: false,
            will,
        });
        book.publishes.len() as u64 - 1
    }
}
