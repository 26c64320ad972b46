//! A client of the simulation: keeps its session as the standard says, and the book.

mod aliases;
mod connection;
mod doubt;
mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mosquitto::base::clock::Instant;
use mosquitto::mqtt::decode::decode;
use mosquitto::mqtt::encode::encode;
use mosquitto::mqtt::frame::frame;
use mosquitto::mqtt::{
    Ack, Filter, Packet, PacketId, Properties, PropertiesBuilder, Property, Publish, Qos,
    Subscribe, SubscriptionOptions, Topic, Unsubscribe, Version,
};

use crate::book::{self, Book, Delivery, Moment, Subscription};
use crate::groups;
use crate::trace::trace;
use aliases::Aliases;
use window::Window;

/// What DISCONNECT says when another connection has the id, and when the store has died.
const TAKEN_OVER: u8 = 0x8e;
const STARTS_OVER: u8 = 0x80;
/// What clients say to messages that they refuse.
const QUOTA_EXCEEDED: u8 = 0x97;

pub struct Client {
    pub index: usize,
    pub id: String,
    pub version: Version,
    /// The session outlives this connection, and this connection begins a new one.
    pub persistent: bool,
    pub clean: bool,
    /// Seconds that a persistent session of 5.0 outlives its connection.
    pub expiry: u32,
    /// The Receive Maximum that it sends, and what it then may be sent unacknowledged.
    pub takes: u16,
    pub window: Window,
    pub aliases: Aliases,
    /// It comes with and without clean start, and with sessions that last and do not.
    pub changes: bool,
    /// It refuses some messages.
    pub refuses: bool,
    /// One of its connections may have had a session that lasts; and it was turned away just now.
    pub ever_lasted: bool,
    pub may_be_refused: bool,
    pub turned_away: bool,
    /// What the last PUBACK said.
    pub last_code: u8,
    /// It subscribes to groups, and to nothing else that matches what they get.
    pub shares: bool,
    pub link: Link,
    /// When this connection was opened, and the last one lost.
    pub opened: Moment,
    lost: Moment,
    /// Connections of it may stand that it has left.
    pub has_rivals: bool,
    /// Connections were lost since before they brought a CONNACK.
    missed_connack: bool,
    /// One of them may have ended the session or begun one, and whether one may still do so.
    maybe_ended: bool,
    may_end: bool,
    /// Since when the broker surely knows that there is no connection; its session has ended since; that was so when
    /// this connection was opened.
    gone: Option<Instant>,
    has_expired: bool,
    must_begin: bool,
    /// Which of the book's sessions this is.
    pub session: Option<usize>,
    next_packet_id: u16,
    outgoing: Vec<Outgoing>,
    /// As the broker's CONNACK said.
    receive_maximum: usize,
    /// Packet ids of QoS 2 messages that came and were not released.
    received: BTreeSet<u16>,
    /// What came with each packet id.
    numbers: BTreeMap<u16, u64>,
    /// Acknowledgements that it has not sent yet.
    owed: VecDeque<Owed>,
    /// Unanswered SUBSCRIBEs: their filter, and their place among the session's subscriptions in the book.
    subscribing: BTreeMap<u16, (String, usize)>,
    /// Unanswered UNSUBSCRIBEs, and how many SUBSCRIBEs were before them.
    unsubscribing: BTreeMap<u16, (String, usize)>,
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
    /// Whether it was accepted will never be known.
    given_up: bool,
}

struct Owed {
    ack: Vec<u8>,
    packet_id: u16,
    /// It frees the packet id.
    is_last: bool,
}

/// What a client publishes.
pub struct Say<'a> {
    pub topic: &'a str,
    pub qos: Qos,
    pub retain: bool,
    pub clears: bool,
    pub expiry: Option<u32>,
}

pub const FOREVER: u32 = 1_000_000;

impl Client {
    pub fn new(index: usize, version: Version, persistent: bool) -> Self {
        Self {
            index,
            id: format!("client{index}"),
            version,
            persistent,
            clean: !persistent,
            expiry: FOREVER,
            takes: u16::MAX,
            window: Window::new(usize::MAX - 1),
            aliases: Aliases::default(),
            changes: false,
            refuses: false,
            ever_lasted: false,
            may_be_refused: false,
            turned_away: false,
            last_code: 0,
            shares: false,
            link: Link::Down,
            opened: Moment::default(),
            lost: Moment::default(),
            has_rivals: false,
            missed_connack: false,
            maybe_ended: false,
            may_end: false,
            gone: None,
            has_expired: false,
            must_begin: false,
            session: None,
            next_packet_id: 0,
            outgoing: Vec::new(),
            receive_maximum: 0,
            received: BTreeSet::new(),
            numbers: BTreeMap::new(),
            owed: VecDeque::new(),
            subscribing: BTreeMap::new(),
            unsubscribing: BTreeMap::new(),
            will: None,
            will_delay: 0,
        }
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
                || self.unsubscribing.contains_key(&id);
            if !used {
                return PacketId::new(id).unwrap();
            }
        }
    }

    /// At rest nothing is left open, as long as this is surely the session that the broker keeps.
    pub fn check_answers(&self, book: &Book) -> Result<(), String> {
        let (Link::Up(_), Some(session)) = (self.link, self.session) else {
            return Ok(());
        };
        if book.sessions[session].ended.is_some() {
            return Ok(());
        }
        let outgoing: Vec<_> = self.outgoing.iter().map(|o| o.packet_id).collect();
        let subscribing: Vec<_> = self.subscribing.keys().collect();
        let unsubscribing: Vec<_> = self.unsubscribing.keys().collect();
        let open = format!(
            "{outgoing:?} {subscribing:?} {unsubscribing:?} {:?}",
            self.received
        );
        match open.as_str() {
            "[] [] [] {}" => Ok(()),
            _ => Err(format!("client {} has no answers: {open}", self.index)),
        }
    }

    pub fn unacknowledged(&self) -> usize {
        self.outgoing.len() + self.owed.len()
    }

    /// Whether one more QoS 1 or 2 message may be under way.
    pub fn has_room(&self) -> bool {
        let most = match self.version {
            Version::V5 => self.receive_maximum,
            _ => 15,
        };
        self.outgoing.len() < most
    }

    pub fn publish(&mut self, say: Say<'_>, book: &mut Book, at: Moment) -> Vec<u8> {
        let number = book.note(book::Publish {
            publisher: self.index,
            topic: say.topic.to_owned(),
            qos: say.qos,
            retain: say.retain,
            clears: say.clears,
            expiry: say.expiry.filter(|_| self.version == Version::V5),
            sent: at.step,
            sent_at: at.now,
            accepted: None,
            resent: false,
            will: false,
            pipe: self.link.pipe().unwrap_or_default(),
            opened: self.opened.step,
        });
        let packet_id = (say.qos != Qos::AtMostOnce).then(|| self.packet_id());
        if let Some(id) = packet_id {
            self.outgoing.push(Outgoing {
                packet_id: id.get(),
                number,
                qos: say.qos,
                released: false,
                given_up: false,
            });
        }
        trace!(
            at.step,
            "client {} publishes {number}: {:?}",
            self.index,
            book.publishes.last()
        );
        self.publish_bytes(number, packet_id, false, book)
    }

    fn publish_bytes(
        &mut self,
        number: u64,
        packet_id: Option<PacketId>,
        dup: bool,
        book: &Book,
    ) -> Vec<u8> {
        let publish = &book.publishes[number as usize];
        let mut payload = number.to_string();
        if publish.clears {
            payload.clear();
        }
        let mut properties = PropertiesBuilder::default();
        if let Some(secs) = publish.expiry {
            properties.push(Property::MessageExpiryInterval(secs));
        }
        let alias = self.aliases.choose(&publish.topic, number);
        if let Some((alias, _)) = alias {
            properties.push(Property::TopicAlias(alias));
        }
        let says_topic = alias.is_none_or(|(_, says)| says);
        self.bytes(&Packet::Publish(Publish {
            dup,
            qos: publish.qos,
            retain: publish.retain,
            topic: Topic::new(&publish.topic).filter(|_| says_topic),
            packet_id,
            properties: properties.as_properties(),
            payload: payload.as_bytes(),
        }))
    }

    pub fn subscribe(
        &mut self,
        filter: &str,
        options: SubscriptionOptions,
        id: u32,
        book: &mut Book,
        at: Moment,
    ) -> Vec<u8> {
        self.end_subscription(filter, book, at);
        let packet_id = self.packet_id();
        let mut properties = PropertiesBuilder::default();
        let (mut kept, mut kept_id) = (options, 0);
        if self.version == Version::V5 && id > 0 {
            properties.push(Property::SubscriptionIdentifier(id));
            kept_id = id;
        } else if self.version != Version::V5 {
            kept = SubscriptionOptions {
                qos: options.qos,
                ..Default::default()
            };
        }
        let session = self.session.map(|s| &mut book.sessions[s]);
        let session = session.expect("subscribes only with a session");
        let subscriptions = session.subscriptions_to(filter);
        let place = (filter.to_owned(), subscriptions.len());
        self.subscribing.insert(packet_id.get(), place);
        subscriptions.push(Subscription {
            filter: filter.to_owned(),
            options: kept,
            id: kept_id,
            asked: at.step,
            from: None,
            until: None,
            closed: None,
            left: None,
        });
        trace!(
            at.step,
            "client {} subscribes {:?}",
            self.index,
            subscriptions.last()
        );
        let filters = vec![(Filter::new(filter).unwrap(), kept)];
        self.bytes(&Packet::Subscribe(Subscribe {
            packet_id,
            properties: properties.as_properties(),
            filters,
        }))
    }

    pub fn unsubscribe(&mut self, filter: &str, book: &mut Book, at: Moment) -> Vec<u8> {
        self.end_subscription(filter, book, at);
        let packet_id = self.packet_id();
        let session = self.session.map(|s| &mut book.sessions[s]);
        let before = session.map_or(0, |session| {
            let subscriptions = session.subscriptions_to(filter);
            for subscription in subscriptions.iter_mut().filter(|s| s.filter == filter) {
                subscription.left.get_or_insert(at.step);
            }
            subscriptions.len()
        });
        self.unsubscribing
            .insert(packet_id.get(), (filter.to_owned(), before));
        trace!(at.step, "client {} unsubscribes {filter}", self.index);
        let filters = vec![Filter::new(filter).unwrap()];
        self.bytes(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            properties: Properties::NONE,
            filters,
        }))
    }

    fn end_subscription(&mut self, filter: &str, book: &mut Book, at: Moment) {
        let Some(session) = self.session.and_then(|s| book.sessions.get_mut(s)) else {
            return;
        };
        let subscriptions = session.subscriptions_to(filter).iter_mut();
        for subscription in subscriptions.filter(|s| s.filter == filter) {
            subscription.until.get_or_insert(at.step);
        }
    }

    /// The broker has answered what ended the first `before` subscriptions to a filter.
    fn subscriptions_ended(&self, filter: &str, before: usize, book: &mut Book, at: Moment) {
        let Some(session) = self.session.and_then(|s| book.sessions.get_mut(s)) else {
            return;
        };
        let subscriptions = session.subscriptions_to(filter).iter_mut().take(before);
        for subscription in subscriptions.filter(|s| s.filter == filter) {
            subscription.closed.get_or_insert(at.step);
        }
    }

    /// Sends acknowledgements that it owes, in order.
    pub fn acknowledge(&mut self, most: usize, book: &mut Book, at: Moment) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..most.min(self.owed.len()) {
            let Some(owed) = self.owed.pop_front() else {
                break;
            };
            bytes.extend(owed.ack);
            match owed.is_last {
                true => {
                    self.window.free(owed.packet_id, at.now);
                    let session = self.session.map(|s| &mut book.sessions[s]);
                    if let (Some(session), Some(number)) =
                        (session, self.numbers.remove(&owed.packet_id))
                    {
                        session.over.insert(number, at.step);
                    }
                }
                false => self.window.pubrec(owed.packet_id),
            }
        }
        bytes
    }

    fn owe(&mut self, packet: impl Fn(Ack<'static>) -> Packet<'static>, id: PacketId, code: u8) {
        let ack = packet(Ack {
            packet_id: id,
            code,
            properties: Properties::NONE,
        });
        let is_last = !matches!(ack, Packet::Pubrec(Ack { code: 0, .. }));
        self.owed.push_back(Owed {
            ack: self.bytes(&ack),
            packet_id: id.get(),
            is_last,
        });
    }

    /// Reads what came; returns how many bytes were packets, and what to answer at once.
    pub fn read(
        &mut self,
        bytes: &[u8],
        book: &mut Book,
        at: Moment,
    ) -> Result<(usize, Vec<u8>), String> {
        let (mut used, mut answer) = (0, Vec::new());
        while let Some(found) = frame(&bytes[used..], usize::MAX).map_err(|e| e.to_string())? {
            used += found.len;
            let packet = decode(found, self.version).map_err(|e| e.to_string())?;
            self.packet(packet, book, at, &mut answer)?;
        }
        Ok((used, answer))
    }

    fn packet(
        &mut self,
        packet: Packet<'_>,
        book: &mut Book,
        at: Moment,
        answer: &mut Vec<u8>,
    ) -> Result<(), String> {
        if matches!(self.link, Link::Opening(_)) != matches!(packet, Packet::Connack(_)) {
            return Err(format!("{packet:?} while {:?}", self.link));
        }
        trace!(at.step, "client {} got {packet:?}", self.index);
        match packet {
            Packet::Connack(connack) => answer.extend(self.connected(&connack, book, at)?),
            Packet::Publish(publish) => self.on_publish(&publish, book, at)?,
            Packet::Puback(ack) => self.finished(&ack, Qos::AtLeastOnce, book, at)?,
            Packet::Pubcomp(ack) => self.finished(&ack, Qos::ExactlyOnce, book, at)?,
            Packet::Pubrec(ack) => {
                let mut outgoing = self.outgoing.iter_mut();
                let known = outgoing.find(|o| o.packet_id == ack.packet_id.get());
                let known = known.ok_or("PUBREC for nothing")?;
                known.released = true;
                let publish = &mut book.publishes[known.number as usize];
                publish.accepted.get_or_insert(at);
                answer.extend(self.ack(Packet::Pubrel, ack.packet_id));
            }
            Packet::Pubrel(ack) => {
                let id = ack.packet_id.get();
                self.received.remove(&id);
                self.window.pubrel(id);
                self.owe(Packet::Pubcomp, ack.packet_id, 0);
            }
            Packet::Suback(suback) => {
                let asked = self.subscribing.remove(&suback.packet_id.get());
                let (filter, place) = asked.ok_or("SUBACK for nothing")?;
                let session = self.session.ok_or("no session")?;
                let subscriptions = book.sessions[session].subscriptions_to(&filter);
                let subscription = &mut subscriptions[place];
                if suback.codes != [subscription.options.qos as u8] {
                    return Err(format!("SUBACK says {:?}", suback.codes));
                }
                subscription.from = Some(at.step);
                self.subscriptions_ended(&filter, place, book, at);
            }
            Packet::Unsuback(unsuback) => {
                let asked = self.unsubscribing.remove(&unsuback.packet_id.get());
                let (filter, before) = asked.ok_or("UNSUBACK for nothing")?;
                self.subscriptions_ended(&filter, before, book, at);
            }
            // Nobody takes over but another connection of this client.
            Packet::Disconnect(d) if d.code == TAKEN_OVER && self.has_rivals => {}
            Packet::Disconnect(d) if d.code == STARTS_OVER && book.store_death.is_some() => {}
            other => return Err(format!("for no reason: {other:?}")),
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

    fn on_publish(
        &mut self,
        publish: &Publish<'_>,
        book: &mut Book,
        at: Moment,
    ) -> Result<(), String> {
        let number = std::str::from_utf8(publish.payload).ok();
        let number = number.and_then(|s| s.parse::<u64>().ok());
        let (mut ids, mut expiry, mut alias) = (Vec::new(), None, None);
        for property in publish.properties.iter() {
            match property {
                Property::SubscriptionIdentifier(id) => ids.push(id),
                Property::MessageExpiryInterval(secs) => expiry = Some(secs),
                Property::TopicAlias(n) => alias = Some(n),
                _ => {}
            }
        }
        let topic = publish.topic.map_or("", Topic::as_str);
        let topic = self.aliases.resolve(topic, alias)?;
        let session = self.session.ok_or("no session")?;
        let refused = self.refuses && number.is_some_and(|n| n % 5 == 0);
        let code = if refused { QUOTA_EXCEEDED } else { 0 };
        let (mut first, mut earliest) = (true, self.opened.now);
        if let Some(id) = publish.packet_id {
            self.numbers.insert(id.get(), number.unwrap_or(u64::MAX));
            earliest = self.window.publish(id.get(), publish.payload.len())?;
            if publish.qos == Qos::ExactlyOnce {
                // What is refused is over, and its packet id free.
                first = refused || self.received.insert(id.get());
                self.owe(Packet::Pubrec, id, code);
            } else {
                self.owe(Packet::Puback, id, code);
            }
        }
        let all = book.sessions.iter().filter(|s| s.client == self.index);
        let mut received = all.flat_map(|s| s.received.iter().chain(&s.shared));
        // It was refused before, perhaps in what may be another session, and that was not heard.
        if refused && publish.dup && received.any(|d| Some(d.number) == number) {
            return Ok(());
        }
        // What clears a retained message has no payload, so nobody knows which one it is.
        if !first || publish.payload.is_empty() {
            return Ok(());
        }
        let session = &mut book.sessions[session];
        let received = if self.shares && groups::is_shared(&topic) {
            &mut session.shared
        } else {
            &mut session.received
        };
        received.push(Delivery {
            number: number.ok_or("a payload that nobody sent")?,
            topic,
            qos: publish.qos,
            dup: publish.dup,
            retain: publish.retain,
            ids,
            expiry,
            is_five: self.version == Version::V5,
            step: at.step,
            now: at.now,
            earliest,
            pipe: self.link.pipe().unwrap_or_default(),
        });
        Ok(())
    }

    fn finished(
        &mut self,
        ack: &Ack<'_>,
        qos: Qos,
        book: &mut Book,
        at: Moment,
    ) -> Result<(), String> {
        self.last_code = ack.code;
        let is_it = |o: &Outgoing| o.packet_id == ack.packet_id.get() && o.qos == qos;
        let place = self.outgoing.iter().position(is_it);
        let done = self
            .outgoing
            .remove(place.ok_or(format!("{ack:?} for nothing"))?);
        if !done.given_up {
            let publish = &mut book.publishes[done.number as usize];
            publish.accepted.get_or_insert(at);
        }
        Ok(())
    }
}
