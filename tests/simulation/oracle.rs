//! The rules that the book must obey: those of the table of promises in ARCHITECTURE.md, and of the standard. A rule
//! that allowed more would be a bug.

use std::collections::{BTreeMap, BTreeSet};

use mosquitto::mqtt::Qos;

use crate::book::{Book, Delivery, Fate, Publish, Session, Subscription};
use crate::expiry::check_expiry;

impl Book {
    /// Checks everything, at the end, when all is quiet.
    pub fn check(&self) -> Result<(), String> {
        self.check_sessions()?;
        self.check_readers()
    }

    /// Checks what is not about those who subscribe at the very end.
    pub fn check_sessions(&self) -> Result<(), String> {
        if let Some(trouble) = &self.trouble {
            return Err(trouble.clone());
        }
        for (at, session) in self.sessions.iter().enumerate() {
            let who = format!("session {at} of client {}", session.client);
            self.check_session(session)
                .map_err(|e| format!("{who}: {e}"))?;
        }
        self.check_groups()?;
        self.check_wills()
    }

    fn check_session(&self, session: &Session) -> Result<(), String> {
        for delivery in &session.received {
            let publish = self.publish_of(delivery)?;
            self.check_delivery(session, delivery, publish)
                .map_err(|e| format!("{e}: {delivery:?} of {publish:?}"))?;
        }
        self.check_duplicates(session)?;
        self.check_order(session)?;
        self.check_will_order(session)?;
        self.check_loss(session)?;
        self.check_queue(session)?;
        self.check_nothing_expires_early(session)?;
        self.check_no_will_comes_early(session)?;
        self.check_retained_times(session)?;
        self.check_retained_or_live(session)?;
        self.check_no_older_after_newer(session)
    }

    fn publish_of(&self, delivery: &Delivery) -> Result<&Publish, String> {
        let publish = self.publishes.get(delivery.number as usize);
        publish.ok_or_else(|| "an unknown message came".to_owned())
    }

    /// One delivery against the subscriptions that it can come from.
    fn check_delivery(
        &self,
        session: &Session,
        delivery: &Delivery,
        publish: &Publish,
    ) -> Result<(), String> {
        if delivery.topic != publish.topic {
            return Err("another topic".into());
        }
        let matching = || {
            let subscriptions = session.subscriptions.iter();
            subscriptions.filter(|s| {
                // Once a client and its session are gone, nobody knows that a retained message was its own.
                let is_known = !publish.will && publish.sent >= session.began;
                s.matches(&publish.topic) && (!is_known || s.takes(session.client, publish))
            })
        };
        // What is retained may be as old as it likes.
        let may =
            || matching().filter(|s| delivery.retain || s.may_have_stood(publish, delivery.step));
        let Some(most) = may().map(|s| s.options.qos).max() else {
            return Err("no subscription asks for it".into());
        };
        if delivery.qos > publish.qos.min(most) {
            return Err("at too high a QoS".into());
        }
        check_ids(delivery, &may().map(|s| s.id).collect::<Vec<_>>())?;
        check_expiry(delivery, publish)?;
        if delivery.retain {
            return check_retained_flag(publish);
        }
        if publish.retain && may().all(|s| s.options.retain_as_published) && !delivery.dup {
            return Err("not retained as published".into());
        }
        // What is repeated was matched long ago.
        let stood: Vec<&Subscription> = matching()
            .filter(|s| s.takes(session.client, publish))
            .filter(|s| !delivery.dup && s.stood(publish, delivery.step))
            .collect();
        if stood
            .iter()
            .any(|s| delivery.qos < publish.qos.min(s.options.qos))
        {
            return Err("at too low a QoS".into());
        }
        let missing = |s: &&&Subscription| s.id > 0 && !delivery.ids.contains(&s.id);
        match stood.iter().find(missing) {
            Some(missing) => Err(format!("without the identifier of {missing:?}")),
            None => Ok(()),
        }
    }

    fn check_duplicates(&self, session: &Session) -> Result<(), String> {
        let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
        for delivery in session.received.iter().filter(|d| !d.retain) {
            let publish = self.publish_of(delivery)?;
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
        for delivery in &session.received {
            // One with the flag may be what was retained, whenever that was.
            if !seen.insert(delivery.number) || delivery.retain {
                continue;
            }
            let publish = self.publish_of(delivery)?;
            // One that was sent before it was owed, and again afterwards, may come late; so may one of which the first
            // copy expired, was lost at QoS 0 or to a full queue, or waits at another QoS.
            let is_other = |d: &Delivery| d.number == delivery.number && d.qos != delivery.qos;
            let may_be_late = !session.was_owed(publish)
                || publish.may_expire()
                || self.queue.is_some()
                || delivery.qos == Qos::AtMostOnce
                || session.received.iter().any(is_other);
            if publish.will || (publish.resent && may_be_late) {
                continue;
            }
            let topic = publish.topic.as_str();
            let key = (publish.publisher, topic, publish.qos, delivery.qos);
            let before = last.insert(key, delivery.number);
            if let Some(before) = before.filter(|before| *before > delivery.number) {
                return Err(format!(
                    "message {} of {key:?} came after {before}",
                    delivery.number
                ));
            }
        }
        Ok(())
    }

    /// A will comes after everything that its connection had sent.
    fn check_will_order(&self, session: &Session) -> Result<(), String> {
        let mut wills = BTreeMap::new();
        for delivery in session.received.iter().filter(|d| !d.retain) {
            let publish = self.publish_of(delivery)?;
            // Messages of QoS 0 wait for no window, so they may come earlier.
            if publish.will && delivery.qos > Qos::AtMostOnce {
                wills.insert(publish.pipe, delivery.number);
            } else if let Some(will) = wills.get(&publish.pipe) {
                let is_first = !publish.will && !publish.resent && !delivery.dup;
                if is_first && publish.qos > Qos::AtMostOnce && delivery.qos > Qos::AtMostOnce {
                    let number = delivery.number;
                    return Err(format!("will {will} came before {number}: {publish:?}"));
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
            if publish.will || publish.clears || publish.may_expire() {
                continue;
            }
            let subscribed = session.subscriptions.iter().filter(|s| {
                s.stood(publish, u64::MAX - 1)
                    && s.matches(&publish.topic)
                    && s.takes(session.client, publish)
            });
            let Some(qos) = subscribed.map(|s| s.options.qos.min(publish.qos)).max() else {
                continue;
            };
            let owed = match qos {
                Qos::AtMostOnce => {
                    self.calm && session.connections == 1 && publish.qos == Qos::AtMostOnce
                }
                _ => publish.accepted.is_some(),
            };
            let is_missing = owed && !came.contains(&(number as u64));
            if is_missing && !self.may_be_dropped(session, publish) {
                return Err(format!(
                    "message {number} is missing: {publish:?}, subscribed at {qos:?}"
                ));
            }
        }
        Ok(())
    }

    /// Each SUBSCRIBE brings what is retained once, and nothing else has the flag, unless it is asked for.
    fn check_retained_times(&self, session: &Session) -> Result<(), String> {
        let mut times: BTreeMap<(&str, u64), usize> = BTreeMap::new();
        for delivery in session.received.iter().filter(|d| d.retain && !d.dup) {
            // A stored session is sent each message as retained that was on its way when it subscribed.
            let value = if session.persistent {
                delivery.number
            } else {
                0
            };
            *times.entry((&delivery.topic, value)).or_default() += 1;
        }
        for ((topic, _), times) in times {
            let matching: Vec<_> = session
                .subscriptions
                .iter()
                .filter(|s| s.matches(topic))
                .collect();
            if matching.iter().any(|s| s.options.retain_as_published) {
                continue;
            }
            let asked = matching.iter().filter(|s| s.wants_retained()).count();
            if times > asked {
                return Err(format!(
                    "{times} retained messages of {topic} for {asked} SUBSCRIBEs"
                ));
            }
        }
        Ok(())
    }

    /// Who subscribes after a retained message was accepted gets it, or a newer one, retained or live.
    fn check_retained_or_live(&self, session: &Session) -> Result<(), String> {
        if session.ended.is_some() {
            return Ok(());
        }
        let standing = session.subscriptions.iter().filter(|s| {
            s.from.is_some()
                && s.until.is_none()
                && s.options.qos > Qos::AtMostOnce
                && !s.options.no_local
                && s.options.retain_handling == Default::default()
        });
        for subscription in standing {
            for topic in self.retained_topics() {
                if !subscription.matches(topic) {
                    continue;
                }
                let before = |p: &Publish| {
                    p.qos > Qos::AtMostOnce
                        && p.accepted.is_some_and(|a| a.step < subscription.asked)
                };
                let Some((last, publish)) = self.last_surely(topic, before) else {
                    continue;
                };
                let after = self.may_follow(topic, last);
                let is_new = |d: &Delivery| d.number == last || after.contains(&d.number);
                // A newer one that nobody answered for may have taken its place, and come to nobody.
                let is_owed = |n: &u64| {
                    let p = &self.publishes[*n as usize];
                    !p.goes() && p.qos > Qos::AtMostOnce && p.accepted.is_some()
                };
                if !publish.goes()
                    && after.iter().all(is_owed)
                    && !session.received.iter().any(is_new)
                {
                    return Err(format!(
                        "{subscription:?} did not bring {last}: {publish:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// What is retained never follows something newer, where both come the same way.
    fn check_no_older_after_newer(&self, session: &Session) -> Result<(), String> {
        let mut newest: BTreeMap<(&str, bool), u64> = BTreeMap::new();
        for delivery in session.received.iter().filter(|d| !d.dup) {
            let publish = self.publish_of(delivery)?;
            if !publish.retain || publish.resent || publish.will {
                continue;
            }
            let way = delivery.qos == Qos::AtMostOnce;
            if session.persistent && (way || publish.qos == Qos::AtMostOnce) {
                continue;
            }
            let known = newest.entry((&delivery.topic, way)).or_default();
            if delivery.retain && *known > delivery.number {
                return Err(format!("retained {} came after {known}", delivery.number));
            }
            *known = (*known).max(delivery.number);
        }
        Ok(())
    }

    fn check_wills(&self) -> Result<(), String> {
        for (number, fate) in &self.wills {
            let publish = &self.publishes[*number as usize];
            for (at, session) in self.sessions.iter().enumerate() {
                let times = session
                    .received
                    .iter()
                    .filter(|d| d.number == *number)
                    .count();
                if *fate == Fate::MustNot && times > 0 {
                    return Err(format!(
                        "session {at}: will {number} of client {} came, but must not",
                        publish.publisher
                    ));
                }
                let observes = session.ended.is_none()
                    && session.subscriptions.iter().any(|s| {
                        s.matches(&publish.topic)
                            && s.options.qos > Qos::AtMostOnce
                            && s.takes(session.client, publish)
                            && s.stood(publish, u64::MAX - 1)
                    });
                let is_missing = observes && *fate == Fate::Must && times == 0;
                if is_missing && !self.may_be_dropped(session, publish) {
                    return Err(format!(
                        "session {at}: will {number} of client {} did not come",
                        publish.publisher
                    ));
                }
            }
        }
        Ok(())
    }

    /// Who subscribes at the very end is sent the last accepted value of each topic, or one that was sent later and
    /// not accepted.
    fn check_readers(&self) -> Result<(), String> {
        for topic in self.retained_topics() {
            let surely = |p: &Publish| match p.qos {
                Qos::AtMostOnce => self.calm,
                _ => p.accepted.is_some(),
            };
            let last = self.last_surely(topic, surely);
            let after = match last {
                Some((number, _)) => self.may_follow(topic, number),
                None => self.may_follow(topic, u64::MAX),
            };
            let goes = |n: &u64| self.publishes[*n as usize].goes();
            let may_be_absent = last.is_none_or(|(_, p)| p.goes()) || after.iter().any(goes);
            for reader in &self.readers {
                let received = self.sessions[*reader].received.iter();
                let values: Vec<u64> = received
                    .filter(|d| d.topic == topic)
                    .map(|d| d.number)
                    .collect();
                let is_possible = |value: &u64| {
                    last.is_none_or(|(number, _)| *value == number) || after.contains(value)
                };
                match values.as_slice() {
                    [] if may_be_absent => {}
                    [] => return Err(format!("nothing retained of {topic}, but {last:?} was")),
                    [value] if is_possible(value) => {}
                    other => {
                        return Err(format!("retained of {topic}: {other:?}, after {last:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    fn retained_topics(&self) -> BTreeSet<&str> {
        let retained = self.publishes.iter().filter(|p| p.retain && !p.will);
        retained.map(|p| p.topic.as_str()).collect()
    }

    /// The last retained message of a topic that was surely kept, and is not gone with a store.
    fn last_surely(
        &self,
        topic: &str,
        surely: impl Fn(&Publish) -> bool,
    ) -> Option<(u64, &Publish)> {
        let all = self.publishes.iter().enumerate().rev();
        let mut of_topic = all.filter(|(_, p)| p.retain && !p.will && p.topic == topic);
        let found = of_topic.find(|(_, p)| surely(p) && self.is_after_store_death(p.opened))?;
        Some((found.0 as u64, found.1))
    }

    /// What may have been retained after this one: what was sent later, and what was sent again, since that may be
    /// overtaken by what was sent at another QoS.
    fn may_follow(&self, topic: &str, last: u64) -> BTreeSet<u64> {
        let all = (0u64..).zip(&self.publishes);
        let of_topic = all.filter(|(_, p)| p.retain && !p.will && p.topic == topic);
        of_topic
            .filter(|(number, p)| *number > last || (p.resent && *number < last))
            .map(|(number, _)| number)
            .collect()
    }
}

impl Session {
    /// Whether it was owed this when it was sent first: not at QoS 0, where the first copy may be lost.
    fn was_owed(&self, publish: &Publish) -> bool {
        self.subscriptions.iter().any(|s| {
            s.matches(&publish.topic)
                && s.options.qos != Qos::AtMostOnce
                && s.takes(self.client, publish)
                && s.stood(publish, publish.sent)
        })
    }
}

impl Publish {
    /// Whether it may be gone by the end of a history.
    pub fn may_expire(&self) -> bool {
        self.expiry.is_some_and(|secs| secs < 1000)
    }

    /// Whether it leaves nothing retained, at least at the end.
    fn goes(&self) -> bool {
        self.clears || self.may_expire()
    }
}

/// Each identifier at most as often as subscriptions have it, and none that no subscription has.
fn check_ids(delivery: &Delivery, possible: &[u32]) -> Result<(), String> {
    let count = |ids: &[u32], id: u32| ids.iter().filter(|i| **i == id).count();
    let wrong = |id: &&u32| count(&delivery.ids, **id) > count(possible, **id);
    match delivery.ids.iter().find(wrong) {
        Some(id) => Err(format!("with identifier {id}, possible are {possible:?}")),
        None => Ok(()),
    }
}

/// Only what was published so is retained.
fn check_retained_flag(publish: &Publish) -> Result<(), String> {
    if publish.retain {
        Ok(())
    } else {
        Err("it says retained, but it never was".into())
    }
}
