//! A client of the simulation: keeps its session as the standard says, and the book.

mod aliases;
mod doubt;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mosquitto::mqtt::decode::decode;
use mosquitto::mqtt::encode::encode;
use mosquitto::mqtt::frame::frame;
use mosquitto::mqtt::property::PropertyId;
use mosquitto::mqtt::{
    Ack, Connack, Connect, Disconnect, Filter, Packet, PacketId, Properties, PropertiesBuilder,
    Property, Publish, Qos, Subscribe, SubscriptionOptions, Topic, Unsubscribe, Version, Will,
};

use aliases::Aliases;

use crate::book::{self, Book, Delivery, Fate, Moment, Subscription};
use crate::groups;
use crate::trace::trace;

/// What a connection is told whose claim another one superseded.
const SUPERSEDED: u8 = 0x80;

pub struct Client {
    pub index: usize,
    pub id: String,
    pub version: Version,
    pub persistent: bool,
    /// Seconds that a persistent session of 5.0 outlives its connection.
    pub expiry: u32,
    /// The Receive Maximum that it sends, and the messages of QoS 1 and 2 that it then may be sent unacknowledged.
    pub takes: u16,
    pub takes_at_most: usize,
    /// It subscribes to groups, and to nothing else that matches what they get.
    pub shares: bool,
    pub link: Link,
    /// When this connection was opened, and the last one lost.
    pub opened: Moment,
    lost: Moment,
    /// Connections were lost since before they brought a CONNACK.
    missed_connack: bool,
    /// Which of the book's sessions this is.
    pub session: Option<usize>,
    next_packet_id: u16,
    outgoing: Vec<Outgoing>,
    /// As the broker's CONNACK said.
    receive_maximum: usize,
    /// Topic aliases that it takes, and those that this connection has brought.
    pub takes_aliases: u16,
    aliases: Aliases,
    /// Packet ids of QoS 2 messages that came and were not released.
    received: BTreeSet<u16>,
    /// Packet ids that this connection has brought and that are not answered to the end.
    under_way: BTreeSet<u16>,
    /// Acknowledgements that it has not sent yet, and the packet id that each one frees.
    owed: VecDeque<(Vec<u8>, Option<u16>)>,
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
            expiry: FOREVER,
            takes: u16::MAX,
            takes_at_most: usize::MAX,
            shares: false,
            link: Link::Down,
            opened: Moment::default(),
            lost: Moment::default(),
            missed_connack: false,
            session: None,
            next_packet_id: 0,
            outgoing: Vec::new(),
            receive_maximum: 0,
            takes_aliases: 0,
            aliases: Aliases::default(),
            received: BTreeSet::new(),
            under_way: BTreeSet::new(),
            owed: VecDeque::new(),
            subscribing: BTreeMap::new(),
            unsubscribing: BTreeMap::new(),
            will: None,
            will_delay: 0,
        }
    }

    /// CONNECT with a will of this number and delay, if any.
    pub fn connect(&mut self, pipe: usize, will: Option<(u64, u32)>, at: Moment) -> Vec<u8> {
        self.link = Link::Opening(pipe);
        self.opened = at;
        self.aliases = Aliases::default();
        self.will = will.map(|(number, _)| number);
        self.will_delay = will.map_or(0, |(_, delay)| delay);
        let payload = self.will.map(|n| n.to_string());
        let topic = format!("will/{}", self.index);
        let mut properties = PropertiesBuilder::default();
        let mut will_properties = PropertiesBuilder::default();
        if self.version == Version::V5 {
            if self.persistent {
                properties.push(Property::SessionExpiryInterval(self.expiry));
            }
            if self.takes < u16::MAX {
                properties.push(Property::ReceiveMaximum(self.takes));
            }
            if self.takes_aliases > 0 {
                properties.push(Property::TopicAliasMaximum(self.takes_aliases));
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
                || self.unsubscribing.contains_key(&id);
            if !used {
                return PacketId::new(id).unwrap();
            }
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
        &self,
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
        self.bytes(&Packet::Publish(Publish {
            dup,
            qos: publish.qos,
            retain: publish.retain,
            topic: Topic::new(&publish.topic),
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

    /// DISCONNECT, and the will that it removes, if any. Whether that will comes is open until the broker has read it.
    pub fn disconnect(
        &mut self,
        (with_will, is_alone): (bool, bool),
        book: &mut Book,
        at: Moment,
    ) -> (Vec<u8>, Option<u64>) {
        let with_will = with_will && self.version == Version::V5;
        let mut removed = None;
        if with_will {
            self.cut(is_alone, book, at);
        } else if let Some(number) = self.will.filter(|_| matches!(self.link, Link::Up(_))) {
            book.wills.insert(number, Fate::May);
            removed = Some(number);
        }
        let packet = Packet::Disconnect(Disconnect {
            code: if with_will { 4 } else { 0 },
            properties: Properties::NONE,
        });
        (self.bytes(&packet), removed)
    }

    /// The connection ends without a good-bye: its will must come. It may have ended at `at.now` already.
    /// `is_alone`: no older connection of this client can still take the session over.
    pub fn cut(&mut self, is_alone: bool, book: &mut Book, at: Moment) {
        let (Link::Up(_), Some(number)) = (self.link, self.will) else {
            return;
        };
        if book.wills.get(&number) != Some(&Fate::May) {
            return;
        }
        let lives = if self.persistent { self.expiry } else { 0 };
        let fate = match self.will_delay.min(lives) {
            0 => Fate::Must,
            _ if !is_alone => Fate::May,
            delay => Fate::Delayed(at.now.after_secs(u64::from(delay))),
        };
        book.wills.insert(number, fate);
    }

    /// The connection is gone, for whatever reason; it may be so since `at.now`.
    pub fn lost(&mut self, book: &mut Book, at: Moment) {
        trace!(at.step, "client {} lost {:?}", self.index, self.link);
        if let Some(pipe) = self.link.pipe() {
            book.pipe_ends.entry(pipe).or_insert(at.step);
        }
        match self.link {
            Link::Up(_) => self.lost = at,
            // Whether its session went on for a while, it cannot know.
            _ => {
                self.missed_connack = true;
                self.doubt_wills(book);
            }
        }
        self.link = Link::Down;
        self.subscribing.clear();
        self.unsubscribing.clear();
        self.under_way.clear();
        self.owed.clear();
        self.will = None;
        if !self.persistent {
            self.forget(book, at);
        }
    }

    fn forget(&mut self, book: &mut Book, at: Moment) {
        self.outgoing.clear();
        self.received.clear();
        if let Some(session) = self.session.take().and_then(|s| book.sessions.get_mut(s)) {
            session.ended.get_or_insert(at.step);
        }
    }

    /// Sends acknowledgements that it owes, in order.
    pub fn acknowledge(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..most.min(self.owed.len()) {
            if let Some((ack, frees)) = self.owed.pop_front() {
                bytes.extend(ack);
                frees.map(|id| self.under_way.remove(&id));
            }
        }
        bytes
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
                self.under_way.insert(id);
                let bytes = self.ack(Packet::Pubcomp, ack.packet_id);
                self.owed.push_back((bytes, Some(id)));
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
            // Nobody takes over but this client itself, and then it reads this connection no more.
            Packet::Disconnect(_) if !book.calm => {}
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

    /// CONNACK: the session begins or goes on, and what was not acknowledged is sent again [MQTT-4.4.0-1].
    fn connected(
        &mut self,
        connack: &Connack<'_>,
        book: &mut Book,
        at: Moment,
    ) -> Result<Vec<u8>, String> {
        // Another connection of this client has claimed its id meanwhile; this one is about to be closed.
        if connack.code == SUPERSEDED {
            return Ok(Vec::new());
        }
        if connack.code != 0 {
            return Err(format!("refused: {connack:?}"));
        }
        let maximum = connack.properties.find(PropertyId::ReceiveMaximum);
        if let Some(Property::ReceiveMaximum(n)) = maximum {
            self.receive_maximum = usize::from(n);
        }
        let Link::Opening(pipe) = self.link else {
            return Err("CONNACK twice".into());
        };
        self.link = Link::Up(pipe);
        // 3.1 has no such flag: the client can only believe that its session is still there.
        let session = self.session.map(|s| &book.sessions[s]);
        let known = session.is_some_and(|s| s.ended.is_none());
        let is_silent = self.version == Version::V31 && self.persistent;
        let present = connack.session_present || (is_silent && known);
        if let Some(number) = self.will {
            book.wills.insert(number, Fate::May);
        }
        self.settle_wills(present, book, at);
        if !present {
            self.missed_connack = false;
            let is_owed = known && self.persistent && at.now < self.expires();
            if is_owed && book.is_after_store_death(self.opened.step) {
                return Err("a persistent session is not present any more".into());
            }
            self.forget(book, at);
            let connection = (self.opened, pipe);
            self.session = Some(book.begin_session(self.index, self.persistent, connection, at));
            return Ok(Vec::new());
        }
        if !self.persistent {
            return Err("a clean session is present".into());
        }
        if std::mem::take(&mut self.missed_connack) && at.now >= self.expires() {
            self.doubt_session(book, at);
        }
        match self.session {
            Some(session) => book.sessions[session].connections += 1,
            // Its first CONNACK was lost.
            None => {
                let connection = (self.opened, pipe);
                let new = book.begin_session(self.index, self.persistent, connection, at);
                self.session = Some(new);
            }
        }
        Ok(self.resend(book))
    }

    fn resend(&mut self, book: &mut Book) -> Vec<u8> {
        let mut again = Vec::new();
        for outgoing in &self.outgoing {
            let id = PacketId::new(outgoing.packet_id).unwrap();
            if outgoing.released {
                again.extend(self.ack(Packet::Pubrel, id));
            } else {
                let publish = &mut book.publishes[outgoing.number as usize];
                publish.resent = true;
                publish.opened = self.opened.step;
                again.extend(self.publish_bytes(outgoing.number, Some(id), true, book));
            }
        }
        again
    }

    fn on_publish(
        &mut self,
        publish: &Publish<'_>,
        book: &mut Book,
        at: Moment,
    ) -> Result<(), String> {
        let topic = self.aliases.topic(publish, self.takes_aliases)?;
        let mut first = true;
        if let Some(id) = publish.packet_id {
            if !self.under_way.insert(id.get()) {
                return Err(format!("packet id {id} is under way already"));
            }
            if self.under_way.len() > self.takes_at_most {
                return Err(format!("more than {} under way", self.takes_at_most));
            }
            if publish.qos == Qos::ExactlyOnce {
                first = self.received.insert(id.get());
                self.owed.push_back((self.ack(Packet::Pubrec, id), None));
            } else {
                let ack = self.ack(Packet::Puback, id);
                self.owed.push_back((ack, Some(id.get())));
            }
        }
        let session = self.session.ok_or("no session")?;
        // What clears a retained message has no payload, so nobody knows which one it is.
        if !first || publish.payload.is_empty() {
            return Ok(());
        }
        let number = std::str::from_utf8(publish.payload).ok();
        let number = number.and_then(|s| s.parse::<u64>().ok());
        let (mut ids, mut expiry) = (Vec::new(), None);
        for property in publish.properties.iter() {
            match property {
                Property::SubscriptionIdentifier(id) => ids.push(id),
                Property::MessageExpiryInterval(secs) => expiry = Some(secs),
                _ => {}
            }
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
            step: at.step,
            opened: self.opened,
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
