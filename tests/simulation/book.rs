//! What was promised: every publish, every session, every delivery, and the rules that they must obey.
//!
//! The rules are those of the table of promises in ARCHITECTURE.md. A test that allowed more would be a bug.

use std::collections::{BTreeMap, BTreeSet};

use mosquitto::mqtt::{Filter, Qos, Topic};

/// One application message, named by its number, which is its payload too.
#[derive(Debug)]
pub struct Publish {
    pub publisher: usize,
    pub topic: String,
    pub qos: Qos,
    pub retain: bool,
    /// When its first byte left the client.
    pub sent: u64,
    pub accepted: Option<u64>,
    /// It was sent again, or its connection was lost before it was accepted: at QoS 1 it may come twice.
    pub resent: bool,
    /// The will of a connection, not a PUBLISH packet.
    pub will: bool,
}

/// One session of a client, from the CONNACK that began it.
#[derive(Debug)]
pub struct Session {
    pub client: usize,
    pub subscriptions: Vec<Subscription>,
    pub received: Vec<Delivery>,
    /// The session ended, or something died that may take its messages along.
    pub ended: Option<u64>,
    /// Connections that it has had.
    pub connections: u32,
}

#[derive(Debug)]
pub struct Subscription {
    pub filter: String,
    pub qos: Qos,
    /// The SUBACK came.
    pub from: u64,
    /// Another SUBSCRIBE or an UNSUBSCRIBE was sent.
    pub until: Option<u64>,
}

#[derive(Debug)]
pub struct Delivery {
    pub number: u64,
    pub qos: Qos,
    pub dup: bool,
    pub retain: bool,
}

#[derive(Debug, Default)]
pub struct Book {
    pub publishes: Vec<Publish>,
    pub sessions: Vec<Session>,
    /// Nothing was killed and no connection lost: QoS 0 arrives too.
    pub calm: bool,
    /// When the store was killed: sessions and retained messages of before are gone.
    pub store_deaths: Vec<u64>,
    /// Wills by the connection that armed them: whether they must come, must not, or may.
    pub wills: BTreeMap<u64, Fate>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Must,
    MustNot,
    May,
}

impl Session {
    /// Whether it was owed this when it was sent first: not at QoS 0, where the first copy may be lost.
    fn was_owed(&self, publish: &Publish) -> bool {
        let topic = Topic::new(&publish.topic).unwrap();
        let matching = |s: &&Subscription| Filter::new(&s.filter).unwrap().matches(topic);
        self.subscriptions.iter().filter(matching).any(|s| {
            s.qos != Qos::AtMostOnce
                && s.from <= publish.sent
                && s.until.is_none_or(|until| until > publish.sent)
        })
    }
}

impl Book {
    /// Checks everything, at the end, when all is quiet.
    pub fn check(&self) -> Result<(), String> {
        for (at, session) in self.sessions.iter().enumerate() {
            let who = format!("session {at} of client {}", session.client);
            self.check_duplicates(session)
                .map_err(|e| format!("{who}: {e}"))?;
            self.check_order(session)
                .map_err(|e| format!("{who}: {e}"))?;
            self.check_loss(session)
                .map_err(|e| format!("{who}: {e}"))?;
        }
        self.check_wills()
    }

    fn check_duplicates(&self, session: &Session) -> Result<(), String> {
        let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
        for delivery in session.received.iter().filter(|d| !d.retain) {
            let publish = self
                .publishes
                .get(delivery.number as usize)
                .ok_or("an unknown message came")?;
            let times = seen.entry(delivery.number).or_default();
            *times += 1;
            // A publisher that had no PUBACK sends again; a receiver that sent none gets it again, marked.
            let may_repeat = (publish.qos == Qos::AtLeastOnce && publish.resent)
                || (delivery.qos == Qos::AtLeastOnce && delivery.dup);
            if *times > 1 && !may_repeat {
                return Err(format!(
                    "message {} came {times} times at {:?}: {publish:?}",
                    delivery.number, delivery.qos
                ));
            }
        }
        Ok(())
    }

    /// Per publisher, topic and QoS (of the publish and of the delivery: a subscription may change in between), the
    /// first coming of each message is in the order of sending [MQTT-4.6.0-5].
    fn check_order(&self, session: &Session) -> Result<(), String> {
        let mut last: BTreeMap<(usize, &str, Qos, Qos), u64> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for delivery in session.received.iter().filter(|d| !d.retain) {
            if !seen.insert(delivery.number) {
                continue;
            }
            let publish = &self.publishes[delivery.number as usize];
            // One that was sent before it was owed, and again afterwards, may come late.
            if publish.will || (publish.resent && !session.was_owed(publish)) {
                continue;
            }
            let key = (
                publish.publisher,
                publish.topic.as_str(),
                publish.qos,
                delivery.qos,
            );
            if let Some(before) = last.insert(key, delivery.number) {
                if before > delivery.number {
                    return Err(format!(
                        "message {} of {key:?} came after {before}",
                        delivery.number
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_loss(&self, session: &Session) -> Result<(), String> {
        if session.ended.is_some() {
            return Ok(());
        }
        let came: BTreeSet<u64> = session.received.iter().map(|d| d.number).collect();
        for (number, publish) in self.publishes.iter().enumerate() {
            let topic = Topic::new(&publish.topic).unwrap();
            let subscribed = session.subscriptions.iter().filter(|s| {
                s.until.is_none()
                    && s.from <= publish.sent
                    && Filter::new(&s.filter).unwrap().matches(topic)
            });
            let Some(qos) = subscribed.map(|s| s.qos.min(publish.qos)).max() else {
                continue;
            };
            let owed = match qos {
                Qos::AtMostOnce => {
                    self.calm && session.connections == 1 && publish.qos == Qos::AtMostOnce
                }
                _ => publish.accepted.is_some(),
            };
            if owed && !publish.will && !came.contains(&(number as u64)) {
                return Err(format!(
                    "message {number} is missing: {publish:?}, subscribed at {qos:?}"
                ));
            }
        }
        Ok(())
    }

    fn check_wills(&self) -> Result<(), String> {
        for (number, fate) in &self.wills {
            let publish = &self.publishes[*number as usize];
            for (at, session) in self
                .sessions
                .iter()
                .enumerate()
                .filter(|(_, s)| s.ended.is_none())
            {
                let observes = session.subscriptions.iter().any(|s| {
                    s.filter == "will/#"
                        && s.qos != Qos::AtMostOnce
                        && s.until.is_none()
                        && s.from <= publish.sent
                });
                let times = session
                    .received
                    .iter()
                    .filter(|d| d.number == *number)
                    .count();
                if observes && (*fate == Fate::Must && times == 0) {
                    return Err(format!(
                        "session {at}: will {number} of client {} did not come",
                        publish.publisher
                    ));
                }
                if *fate == Fate::MustNot && times > 0 {
                    return Err(format!(
                        "session {at}: will {number} came, but its client said good-bye"
                    ));
                }
            }
        }
        Ok(())
    }
}
