//! What was said and heard: every publish, every session, every delivery, every will. What must hold of it is
//! `oracle`.

use std::collections::BTreeMap;

use crate::limits::QueueLimit;
use mosquitto::base::clock::Instant;
use mosquitto::mqtt::{Filter, Qos, RetainHandling, SubscriptionOptions, Topic};

/// When something happened: steps order everything that clients see, time is what expiries count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    pub step: u64,
    pub now: Instant,
}

/// One application message, named by its number, which is its payload too.
#[derive(Debug)]
pub struct Publish {
    pub publisher: usize,
    pub topic: String,
    pub qos: Qos,
    pub retain: bool,
    /// It has no payload: it clears what is retained.
    pub clears: bool,
    /// Seconds that it lives.
    pub expiry: Option<u32>,
    /// When its first byte left the client; for a will, when its CONNECT did: it may come
    /// before its client has read its CONNACK.
    pub sent: u64,
    pub sent_at: Instant,
    pub accepted: Option<Moment>,
    /// It was sent again, or its connection was lost before it was accepted: at QoS 1 it may come twice.
    pub resent: bool,
    /// The will of a connection, not a PUBLISH packet.
    pub will: bool,
    /// The connection that it was sent on first, and when the one that it was sent on last was opened.
    pub pipe: usize,
    pub opened: u64,
}

/// One session of a client, from the CONNACK that began it.
#[derive(Debug)]
pub struct Session {
    pub client: usize,
    pub persistent: bool,
    pub subscriptions: Vec<Subscription>,
    pub received: Vec<Delivery>,
    /// The same of shared subscriptions.
    pub memberships: Vec<Subscription>,
    pub shared: Vec<Delivery>,
    /// The session ended, or something died that may take its messages along.
    pub ended: Option<u64>,
    /// When the last acknowledgement of a message was sent.
    pub over: BTreeMap<u64, u64>,
    /// From when until when the broker surely knew that the client was away.
    pub away: Vec<(u64, u64)>,
    /// Connections that it has had.
    pub connections: u32,
    pub began: u64,
    /// The connection that brought its CONNACK.
    pub pipe: usize,
}

/// One SUBSCRIBE.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub filter: String,
    pub options: SubscriptionOptions,
    /// The subscription identifier; 0 is none.
    pub id: u32,
    /// When it was sent, and when its SUBACK came.
    pub asked: u64,
    pub from: Option<u64>,
    /// Another SUBSCRIBE or an UNSUBSCRIBE for the filter was sent, and was answered.
    pub until: Option<u64>,
    pub closed: Option<u64>,
    /// When an UNSUBSCRIBE for it was sent.
    pub left: Option<u64>,
}

#[derive(Debug)]
pub struct Delivery {
    pub number: u64,
    pub topic: String,
    pub qos: Qos,
    pub dup: bool,
    pub retain: bool,
    /// Subscription identifiers, and seconds that are left.
    pub ids: Vec<u32>,
    pub expiry: Option<u32>,
    /// It came to a client of 5.0, which is told such things.
    pub is_five: bool,
    pub step: u64,
    pub now: Instant,
    /// When it was sent at the earliest: its connection was open, and the window had room.
    pub earliest: Instant,
    /// The connection that brought it.
    pub pipe: usize,
}

/// What must become of a will.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Must,
    MustNot,
    May,
    /// It must come, unless the session goes on before this.
    Delayed(Instant),
}

#[derive(Debug, Default)]
pub struct Book {
    pub publishes: Vec<Publish>,
    pub sessions: Vec<Session>,
    /// Nothing was killed and no connection lost: QoS 0 arrives too.
    pub calm: bool,
    /// Wills whose delay cannot have passed before, unless their session ended otherwise.
    pub not_before: BTreeMap<u64, Instant>,
    /// When the store was killed last: sessions and retained messages of before are gone.
    pub store_death: Option<u64>,
    /// What a queue may hold, if that matters, and each client's window.
    pub queue: Option<QueueLimit>,
    pub windows: BTreeMap<usize, usize>,
    /// What was seen to be wrong while it happened.
    pub trouble: Option<String>,
    /// When everything had been heard that was said.
    pub rests: Vec<u64>,
    /// Wills by number.
    pub wills: BTreeMap<u64, Fate>,
    /// Sessions that subscribed at the very end to see what is retained.
    pub readers: Vec<usize>,
    /// When one end of each connection closed it, or died; and when the broker's end did.
    pub pipe_ends: BTreeMap<usize, u64>,
    pub broker_ends: BTreeMap<usize, u64>,
}

impl Book {
    /// The broker's end of a connection is closed.
    pub fn broker_closed(&mut self, pipe: usize, step: u64) {
        self.pipe_ends.entry(pipe).or_insert(step);
        self.broker_ends.entry(pipe).or_insert(step);
    }

    /// A new message; its number.
    pub fn note(&mut self, publish: Publish) -> u64 {
        self.publishes.push(publish);
        self.publishes.len() as u64 - 1
    }

    /// A new session of a client; its number.
    pub fn begin_session(
        &mut self,
        client: usize,
        persistent: bool,
        (opened, pipe): (Moment, usize),
        at: Moment,
    ) -> usize {
        // CONNACK may have been written by a worker that had not heard of the store's death.
        let ended = self.store_death.filter(|death| *death >= opened.step);
        self.sessions.push(Session {
            client,
            persistent,
            subscriptions: Vec::new(),
            received: Vec::new(),
            memberships: Vec::new(),
            shared: Vec::new(),
            ended,
            over: BTreeMap::new(),
            away: Vec::new(),
            connections: 1,
            began: at.step,
            pipe,
        });
        self.sessions.len() - 1
    }

    /// A client begins a new session: delays of its wills count no more [MQTT-3.1.3-9].
    pub fn session_may_end(&mut self, client: usize) {
        let publishes = &self.publishes;
        self.not_before
            .retain(|number, _| publishes[*number as usize].publisher != client);
    }

    /// Everything that the store kept is gone; its wills came to nobody who was promised them.
    pub fn store_died(&mut self, step: u64) {
        self.store_death = Some(step);
        // Those of connections that stand come as soon as there is another store.
        self.not_before.clear();
        for session in &mut self.sessions {
            session.ended.get_or_insert(step);
        }
    }

    /// Whether what this connection said since is safe from the store's deaths so far.
    pub fn is_after_store_death(&self, opened: u64) -> bool {
        self.store_death.is_none_or(|death| opened > death)
    }
}

impl Session {
    /// Where subscriptions to such a filter are noted.
    pub fn subscriptions_to(&mut self, filter: &str) -> &mut Vec<Subscription> {
        if filter.starts_with("$share/") {
            &mut self.memberships
        } else {
            &mut self.subscriptions
        }
    }
}

impl Subscription {
    pub fn matches(&self, topic: &str) -> bool {
        let filter = Filter::new(&self.filter).unwrap();
        filter.matches(Topic::new(topic).unwrap())
    }

    /// Whether this subscription, answered and not ended, stood all the while from the sending of a message until
    /// `step`.
    pub fn stood(&self, publish: &Publish, step: u64) -> bool {
        self.from.is_some_and(|from| from <= publish.sent)
            && self.until.is_none_or(|until| until > step)
    }

    /// Whether it may have stood at some time from the sending of a message until `step`.
    pub fn may_have_stood(&self, publish: &Publish, step: u64) -> bool {
        self.asked <= step && self.closed.is_none_or(|closed| closed >= publish.sent)
    }

    /// Whether it asks for what is retained; one that existed already may not.
    pub fn wants_retained(&self) -> bool {
        self.options.retain_handling != RetainHandling::DoNotSend
    }

    /// Whether it shows messages of this publisher to its own client.
    pub fn takes(&self, client: usize, publish: &Publish) -> bool {
        !(self.options.no_local && client == publish.publisher)
    }
}
