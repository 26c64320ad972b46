//! The rules of shared subscriptions: each message to one member of each group, and none is lost while there is one.

use mosquitto::mqtt::Qos;

use crate::book::{Book, Delivery, Publish, Session, Subscription};
use crate::expiry::check_expiry;

/// A group that clients of histories join.
#[derive(Clone, Copy)]
pub struct Group {
    pub filter: &'static str,
    /// The subscription identifier of its members, which tells from which group a message comes.
    pub id: u32,
    /// There are other groups with the same messages.
    pub needs_id: bool,
}

const fn group(filter: &'static str, id: u32, needs_id: bool) -> Group {
    Group {
        filter,
        id,
        needs_id,
    }
}

pub const GROUPS: [Group; 5] = [
    group("$share/g/s/0", 501, true),
    group("$share/g/s/+", 502, true),
    group("$share/h/s/#", 503, true),
    group("$share/g/v/0", 504, false),
    group("$share/h/v/1", 505, false),
];

/// Whether messages on this topic are for groups.
pub fn is_shared(topic: &str) -> bool {
    topic.starts_with("s/") || topic.starts_with("v/")
}

/// A message that one member got.
struct Receipt<'a> {
    session: &'a Session,
    delivery: &'a Delivery,
    /// When the connection that brought it ended.
    ended: u64,
}

impl Group {
    fn matches(&self, topic: &str) -> bool {
        let filter = mosquitto::mqtt::Filter::new(self.filter).unwrap();
        filter.matches(mosquitto::mqtt::Topic::new(topic).unwrap())
    }

    fn memberships<'a>(&self, session: &'a Session) -> impl Iterator<Item = &'a Subscription> {
        let filter = self.filter;
        session
            .memberships
            .iter()
            .filter(move |s| s.filter == filter)
    }
}

impl Book {
    pub fn check_groups(&self) -> Result<(), String> {
        for session in &self.sessions {
            for delivery in &session.shared {
                let publish = &self.publishes[delivery.number as usize];
                self.check_receipt(session, delivery, publish)
                    .map_err(|e| format!("{e}: {delivery:?} of {publish:?} to {session:?}"))?;
            }
        }
        for group in &GROUPS {
            let all = self.publishes.iter().enumerate();
            for (number, publish) in all.filter(|(_, p)| group.matches(&p.topic)) {
                let mut receipts = self.receipts(group, number as u64);
                self.check_once(publish, &mut receipts)
                    .and_then(|()| self.check_arrival(group, publish, &receipts))
                    .map_err(|e| format!("{}: message {number} {e}: {publish:?}", group.filter))?;
            }
            self.check_group_order(group)?;
        }
        Ok(())
    }

    /// Of which group a message came.
    fn group_of(&self, session: &Session, delivery: &Delivery) -> Option<&'static Group> {
        GROUPS.iter().find(|group| {
            let is_of = match delivery.ids.as_slice() {
                [] => !group.needs_id,
                ids => ids == [group.id],
            };
            is_of && group.matches(&delivery.topic) && group.memberships(session).next().is_some()
        })
    }

    fn receipts(&self, group: &Group, number: u64) -> Vec<Receipt<'_>> {
        let mut receipts = Vec::new();
        for session in &self.sessions {
            let of_number = session.shared.iter().filter(|d| d.number == number);
            for delivery in of_number {
                if self
                    .group_of(session, delivery)
                    .is_some_and(|g| g.id == group.id)
                {
                    let ended = self.pipe_ends.get(&delivery.pipe);
                    let ended = ended.copied().unwrap_or(u64::MAX);
                    receipts.push(Receipt {
                        session,
                        delivery,
                        ended,
                    });
                }
            }
        }
        receipts
    }

    /// It goes as one of the subscriptions says that the member may have had.
    fn check_receipt(
        &self,
        session: &Session,
        delivery: &Delivery,
        publish: &Publish,
    ) -> Result<(), String> {
        if delivery.topic != publish.topic {
            return Err("another topic".into());
        }
        if delivery.retain {
            return Err("nothing is retained for a group".into());
        }
        check_expiry(delivery, publish)?;
        let group = self
            .group_of(session, delivery)
            .ok_or("it comes from no group")?;
        let mut may = group
            .memberships(session)
            .filter(|s| s.may_have_stood(publish, delivery.step));
        // What is repeated was matched long ago.
        if may.any(|s| delivery.qos == publish.qos.min(s.options.qos)) || delivery.dup {
            Ok(())
        } else {
            Err("no membership gives it at this QoS".into())
        }
    }

    /// One member after the other: the next one only when the connection of the one before has ended, and only what
    /// that one could not acknowledge at QoS 1 [MQTT-4.8.2-5].
    fn check_once(&self, publish: &Publish, receipts: &mut [Receipt<'_>]) -> Result<(), String> {
        // A publisher that had no PUBACK sends again.
        if publish.qos == Qos::AtLeastOnce && publish.resent {
            return Ok(());
        }
        receipts.sort_by_key(|r| (r.ended, r.delivery.step));
        for pair in receipts.windows(2) {
            let [first, second] = pair else { continue };
            let (one, other) = (first.delivery, second.delivery);
            if one.qos != Qos::AtLeastOnce {
                return Err(format!("came again after {:?}", one.qos));
            }
            if one.pipe == other.pipe || first.ended > other.step {
                return Err(format!(
                    "came to clients {} and {} at a time, at {} and {}",
                    first.session.client, second.session.client, one.step, other.step
                ));
            }
        }
        Ok(())
    }

    /// It is there while the group has a member.
    fn check_arrival(
        &self,
        group: &Group,
        publish: &Publish,
        receipts: &[Receipt<'_>],
    ) -> Result<(), String> {
        if !receipts.is_empty() || publish.may_expire() || publish.accepted.is_none() {
            return Ok(());
        }
        if !self.always_had_a_member(group, publish.sent) {
            return Ok(());
        }
        // Who may have been given it, and have taken it along: at QoS 0 with its connection, at QoS 2 with its session.
        let mut taken_along = self.sessions.iter().flat_map(|session| {
            let may = group.memberships(session);
            let may = may.filter(|s| s.may_have_stood(publish, u64::MAX));
            may.map(move |s| (session, s.options.qos.min(publish.qos)))
        });
        let may_be_lost = taken_along.any(|(session, qos)| match qos {
            Qos::AtMostOnce => session.connections > 1 || self.session_ended(session).is_some(),
            Qos::AtLeastOnce => false,
            Qos::ExactlyOnce => {
                let is_over = self.session_ended(session).is_some();
                // A persistent session outlives the connection that began it.
                let known = self.broker_ends.get(&session.pipe);
                let known = known.filter(|_| !session.persistent);
                is_over && known.is_none_or(|end| *end >= publish.sent)
            }
        });
        if may_be_lost {
            return Ok(());
        }
        Err("went to nobody".into())
    }

    /// When a session was surely over; one that is not persistent, with its connection.
    fn session_ended(&self, session: &Session) -> Option<u64> {
        let connection = self.pipe_ends.get(&session.pipe).copied();
        let connection = connection.filter(|_| !session.persistent);
        [session.ended, connection].into_iter().flatten().min()
    }

    /// Whether somebody surely was a member at each moment from `start` to the end.
    fn always_had_a_member(&self, group: &Group, start: u64) -> bool {
        let mut spans = Vec::new();
        for session in &self.sessions {
            let over = self.session_ended(session).unwrap_or(u64::MAX);
            // To subscribe again ends no membership.
            let mut began: Option<u64> = None;
            for membership in group.memberships(session) {
                began = [began, membership.from].into_iter().flatten().min();
                let end = membership.left.unwrap_or(u64::MAX).min(over);
                if let Some(began) = began.filter(|began| *began < end) {
                    spans.push((began, end));
                }
                if membership.left.is_some() {
                    began = None;
                }
            }
        }
        spans.sort_unstable();
        let mut covered = start;
        for (from, until) in spans {
            if from > covered {
                return false;
            }
            covered = covered.max(until);
        }
        covered == u64::MAX
    }

    /// Where nobody leaves, each member gets what one publisher says on a topic in the order in which it was said.
    fn check_group_order(&self, group: &Group) -> Result<(), String> {
        let all = self.sessions.iter();
        let members: Vec<_> = all
            .filter(|s| group.memberships(s).next().is_some())
            .collect();
        let stays = |s: &&Session| s.connections == 1 && self.session_ended(s).is_none();
        if !members.iter().all(stays) {
            return Ok(());
        }
        for session in members {
            let mut last = std::collections::BTreeMap::new();
            for delivery in &session.shared {
                let publish = &self.publishes[delivery.number as usize];
                if publish.resent
                    || self.group_of(session, delivery).map(|g| g.id) != Some(group.id)
                {
                    continue;
                }
                let key = (publish.publisher, &publish.topic, publish.qos, delivery.qos);
                let before = last.insert(key, delivery.number);
                if let Some(before) = before.filter(|before| *before > delivery.number) {
                    return Err(format!(
                        "{}: message {} of {key:?} came after {before}",
                        group.filter, delivery.number
                    ));
                }
            }
        }
        Ok(())
    }
}
