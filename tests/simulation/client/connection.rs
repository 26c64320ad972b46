//! How a client's connections begin and end, and what becomes of its session and its will.

use mosquitto::base::clock::Instant;
use mosquitto::mqtt::property::PropertyId;
use mosquitto::mqtt::{
    Connack, Connect, Disconnect, Packet, PacketId, Properties, PropertiesBuilder, Property, Qos,
    Topic, Version, Will,
};

use super::{Client, Link};
use crate::book::{Book, Fate, Moment};
use crate::trace::trace;

/// What a connection is told whose claim another one superseded.
const SUPERSEDED: u8 = 0x80;
/// What CONNACK says when there are too many clients, in 3.x and in 5.0.
const REFUSED: [u8; 2] = [3, 0x97];

impl Client {
    /// CONNECT with a will of this number and delay, if any.
    pub fn connect(
        &mut self,
        pipe: usize,
        will: Option<(u64, u32)>,
        book: &mut Book,
        at: Moment,
    ) -> Vec<u8> {
        self.link = Link::Opening(pipe);
        self.opened = at;
        self.window.open(at.now);
        self.aliases.open();
        self.ever_lasted |= self.persistent;
        self.gone = None;
        self.must_begin = std::mem::take(&mut self.has_expired);
        self.may_end &= self.has_rivals;
        if self.clean {
            book.session_may_end(self.index);
        }
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
            if self.aliases.takes > 0 {
                properties.push(Property::TopicAliasMaximum(self.aliases.takes));
            }
            if self.will_delay > 0 {
                will_properties.push(Property::WillDelayInterval(self.will_delay));
            }
        }
        let connect = Connect {
            version: self.version,
            bridge: false,
            clean_start: self.clean,
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
        let delay = u64::from(self.will_delay.min(lives));
        // An older connection may end the session, and with it the delay.
        let may_end = self.may_end || !is_alone;
        if !may_end && book.is_after_store_death(self.opened.step) {
            book.not_before.insert(number, at.now.after_secs(delay));
        }
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
        let was_up = matches!(self.link, Link::Up(_));
        if let Some(pipe) = self.link.pipe() {
            book.pipe_ends.entry(pipe).or_insert(at.step);
        }
        match self.link {
            Link::Up(_) => self.lost = at,
            // Whether its session went on for a while, it cannot know.
            _ => {
                self.missed_connack = true;
                self.maybe_ended |= self.changes;
                self.may_end |= self.changes;
                self.doubt_wills(book);
            }
        }
        self.link = Link::Down;
        self.subscribing.clear();
        self.unsubscribing.clear();
        self.owed.clear();
        self.will = None;
        self.has_rivals = true;
        if !self.persistent && was_up {
            self.forget(book, at);
        }
    }

    /// Whether there is a session, and which, is not known.
    pub fn is_in_doubt(&self) -> bool {
        self.maybe_ended || self.missed_connack
    }

    /// The broker surely knows that this client has no connection.
    /// True the first time.
    pub fn is_gone(&mut self, now: Instant) -> bool {
        // Of a CONNECT without an answer nobody knows whether it was read.
        let is_over = !self.persistent && !self.maybe_ended;
        let lives = if is_over { 0 } else { self.expiry };
        let is_first = self.gone.is_none();
        let since = *self.gone.get_or_insert(now);
        self.has_expired |= now > since && now >= since.after_secs(u64::from(lives));
        is_first
    }

    pub(super) fn forget(&mut self, book: &mut Book, at: Moment) {
        self.outgoing.clear();
        self.received.clear();
        if let Some(session) = self.session.take().and_then(|s| book.sessions.get_mut(s)) {
            session.ended.get_or_insert(at.step);
        }
    }

    /// CONNACK: the session begins or goes on, and what was not acknowledged is sent again [MQTT-4.4.0-1].
    pub(super) fn connected(
        &mut self,
        connack: &Connack<'_>,
        book: &mut Book,
        at: Moment,
    ) -> Result<Vec<u8>, String> {
        // Another connection of this client has claimed its id meanwhile; this one is about to be closed.
        if connack.code == SUPERSEDED && self.has_rivals {
            return Ok(Vec::new());
        }
        if self.may_be_refused && REFUSED.contains(&connack.code) {
            self.turned_away = true;
            return Ok(Vec::new());
        }
        if connack.code != 0 {
            return Err(format!("refused: {connack:?}"));
        }
        let maximum = connack.properties.find(PropertyId::ReceiveMaximum);
        if let Some(Property::ReceiveMaximum(n)) = maximum {
            self.receive_maximum = usize::from(n);
        }
        let maximum = connack.properties.find(PropertyId::TopicAliasMaximum);
        if let Some(Property::TopicAliasMaximum(n)) = maximum {
            self.aliases.may_send = n;
        }
        let Link::Opening(pipe) = self.link else {
            return Err("CONNACK twice".into());
        };
        self.link = Link::Up(pipe);
        // 3.1 has no such flag: the client can only believe that its session is still there.
        let session = self.session.map(|s| &book.sessions[s]);
        let known = session.is_some_and(|s| s.ended.is_none());
        let is_silent = self.version == Version::V31 && !self.clean;
        let present = connack.session_present || (is_silent && self.session.is_some());
        if let Some(number) = self.will {
            book.wills.insert(number, Fate::May);
        }
        self.settle_wills(present, book, at);
        let maybe_ended = std::mem::replace(&mut self.maybe_ended, self.may_end);
        if !present {
            self.missed_connack = false;
            let is_owed = known && !self.clean && !maybe_ended && at.now < self.expires();
            if is_owed && book.is_after_store_death(self.opened.step) {
                return Err("a persistent session is not present any more".into());
            }
            self.forget(book, at);
            let connection = (self.opened, pipe);
            self.session = Some(book.begin_session(self.index, self.persistent, connection, at));
            return Ok(Vec::new());
        }
        if self.clean {
            return Err("a clean session is present".into());
        }
        if self.must_begin && !is_silent {
            return Err("a session is present that has expired".into());
        }
        let has_expired = std::mem::take(&mut self.missed_connack) && at.now >= self.expires();
        // Or it died with a store, and this one was begun by a connection that brought no CONNACK.
        let has_died = !known && book.is_after_store_death(self.opened.step);
        if has_expired || maybe_ended || has_died {
            self.doubt_session(book, at);
            self.give_up();
        } else if !known {
            // Or this CONNACK is of before it died, and what was sent may come again.
            self.doubt_session(book, at);
        }
        match self.session {
            Some(session) => book.sessions[session].connections += 1,
            // Its first CONNACK was lost.
            None => {
                let connection = (self.opened, pipe);
                self.session = Some(book.begin_session(self.index, true, connection, at));
            }
        }
        Ok(self.resend(book))
    }

    pub(super) fn resend(&mut self, book: &mut Book) -> Vec<u8> {
        let mut again = Vec::new();
        let all = self.outgoing.iter();
        let all: Vec<_> = all.map(|o| (o.packet_id, o.released, o.number)).collect();
        for (id, released, number) in all {
            let id = PacketId::new(id).unwrap();
            if released {
                again.extend(self.ack(Packet::Pubrel, id));
            } else {
                let publish = &mut book.publishes[number as usize];
                publish.resent = true;
                publish.opened = self.opened.step;
                again.extend(self.publish_bytes(number, Some(id), true, book));
            }
        }
        again
    }
}
