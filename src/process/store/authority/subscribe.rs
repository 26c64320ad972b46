//! Subscriptions of persistent sessions: what the members are told of them, and when SUBACK may go out.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::base::clock::Instant;
use crate::base::ids::{ClientNumber, Incarnation, MemberId, Serial};
use crate::base::limits::{RETAINED_SCAN_BYTES_MAX, SUBSCRIBING_MAX};
use crate::directory::{ClaimKey, Mark};
use crate::ipc::mesh::{Heads, ToWorker};
use crate::mqtt::{Filter, Qos, Topic};
use crate::queue::Entry;
use crate::retained::{Retained, Walk, Want};
use crate::ring::{Cx, Mesh};

use super::claims::is_applied;
use super::message::{Kept, StoredMessage};
use super::settings::Outgoing;
use super::{Store, applied, published, published_heads};

/// What a session asks for with one filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Subscription {
    /// The options byte of 5.0; in 3.x only the QoS.
    pub options: u8,
    /// The subscription identifier; 0 is none.
    pub id: u32,
}

impl Subscription {
    pub fn qos(self) -> Qos {
        Qos::from_bits(self.options & 0b11).unwrap_or_default()
    }

    pub fn no_local(self) -> bool {
        self.options & 0b100 != 0
    }

    pub fn retain_as_published(self) -> bool {
        self.options & 0b1000 != 0
    }

    /// Whether a SUBSCRIBE with these options asks for what is retained.
    fn wants_retained(self, existed: bool) -> bool {
        match (self.options >> 4) & 0b11 {
            0 => true,
            1 => !existed,
            _ => false,
        }
    }
}

/// A SUBSCRIBE, without its filters.
pub(super) struct Asked {
    pub key: ClaimKey,
    pub request: u32,
    pub subscription_id: u32,
    pub heads: Heads,
}

/// A SUBSCRIBE that is answered once every member has applied what was announced for it, and the store everything
/// that was published before it.
pub(super) struct Subscribing {
    key: ClaimKey,
    request: u32,
    existed: Vec<bool>,
    announced: Serial,
    heads: Heads,
    gap: Option<Collecting>,
}

/// An answered SUBSCRIBE whose retained messages may not be sent yet. Messages of QoS 0 go from worker to worker:
/// what is retained of them must be looked up when every member has learnt that the session's worker wants them and
/// the store has applied all that was published before. Otherwise a value could be neither live nor retained.
pub(super) struct Collecting {
    client: ClientNumber,
    gap: u64,
    /// Where the worker announced that it wants QoS 0.
    mark: Option<Mark>,
    /// How far the outboxes were when everybody had passed the mark.
    heads: Option<Heads>,
}

/// The place of retained messages in a session's queue. They are looked up when it is their turn, so that a million
/// of them cost no memory and count against no limit.
#[derive(Debug)]
pub(super) struct Gap {
    id: u64,
    /// Whether they may be looked up.
    pub is_ready: bool,
    /// What was retained after this came to the session as a message already.
    until_stamp: u64,
    /// The same for messages that do not come through the store.
    until_stamp_direct: u64,
    /// What was published before the SUBSCRIBE and had not been applied when it came.
    late: Heads,
    scans: VecDeque<Scan>,
    /// Of the scans' filters.
    pub bytes: usize,
}

#[derive(Debug)]
struct Scan {
    filter: Box<str>,
    subscription: Subscription,
    /// The topic that was sent last.
    after: Option<Box<str>>,
}

impl Scan {
    fn bytes(&self) -> usize {
        self.filter.len() + 1
    }
}

impl Gap {
    /// The next retained message and its topic; `None` when there is no more, or `steps` are used up.
    pub fn look_up(
        &mut self,
        client: ClientNumber,
        (retained, outgoing): (&Retained<Kept>, Outgoing),
        subscriptions: &BTreeMap<Box<str>, Subscription>,
        now: Instant,
        steps: &mut usize,
    ) -> Option<(Entry<Rc<StoredMessage>>, Box<str>)> {
        let (until, until_direct) = (self.until_stamp, self.until_stamp_direct);
        while let Some(scan) = self.scans.front_mut() {
            if *steps == 0 {
                return None;
            }
            let mut last = None;
            // Whatever it finds, a look costs something.
            *steps = steps.saturating_sub(1);
            let mut found = None;
            let subscription = scan.subscription;
            // What was unsubscribed meanwhile is not looked up. (To search for it at UNSUBSCRIBE would take too long.)
            let walk = match subscriptions.contains_key(&scan.filter) {
                false => Walk::Done,
                true => retained.walk(
                    &scan.filter,
                    scan.after.as_deref(),
                    steps,
                    &mut last,
                    |kept| {
                        let message = &kept.message;
                        let is_own = message.publisher == client && subscription.no_local();
                        let is_old = kept.expires_at.is_some_and(|at| at <= now);
                        let is_direct = !outgoing.every_qos && message.qos == Qos::AtMostOnce;
                        let until = if is_direct { until_direct } else { until };
                        if is_own || is_old || kept.stamp > until {
                            return Want::More;
                        }
                        found = Some(Rc::clone(message));
                        Want::Enough
                    },
                ),
            };
            if let Some(message) = found {
                let topic = message.topic().into();
                let entry = retained_entry(message, subscription, outgoing);
                return Some((entry, topic));
            }
            if walk == Walk::Paused {
                // Without a step it has not moved.
                if let Some(last) = last {
                    scan.after = Some(last.into());
                }
                *steps = 0;
                return None;
            }
            if let Some(scan) = self.scans.pop_front() {
                self.bytes -= scan.bytes();
            }
        }
        None
    }

    /// Everything was looked up.
    pub fn is_over(&self) -> bool {
        self.scans.is_empty()
    }

    /// The message that was looked up is on its way.
    pub fn sent(&mut self, topic: Box<str>) {
        if let Some(scan) = self.scans.front_mut() {
            scan.after = Some(topic);
        }
    }

    /// Whether the message in hand, that `of` published on `topic`, is older than the SUBSCRIBE, although it comes
    /// after it.
    pub fn is_late<M: Mesh>(
        &self,
        topic: Topic<'_>,
        of: (MemberId, Incarnation),
        mesh: &M,
    ) -> bool {
        let is_of = |(member, incarnation, _): &&_| (*member, *incarnation) == of;
        // The record in hand counts as applied: the last one before the SUBSCRIBE ends where the outbox ended then.
        let is_before = |(member, _, end): &(_, _, _)| {
            mesh.applied(*member)
                .is_some_and(|(now, at)| now == of.1 && at <= *end)
        };
        let matches = |s: &Scan| Filter::new(&s.filter).is_some_and(|f| f.matches(topic));
        !self.is_ready
            && self.late.iter().find(is_of).is_some_and(is_before)
            && self.scans.iter().any(matches)
    }
}

/// A retained message keeps its flag, whatever the subscription says of later ones [MQTT-3.3.1-8].
fn retained_entry(
    message: Rc<StoredMessage>,
    subscription: Subscription,
    outgoing: Outgoing,
) -> Entry<Rc<StoredMessage>> {
    Entry {
        qos: message.qos.delivered(subscription.qos(), outgoing.upgrade),
        retain: true,
        subscription_ids: (subscription.id > 0).then(|| Rc::from([subscription.id])),
        expires_at: message.expires_at,
        bytes: message.payload().len(),
        message,
    }
}

impl Store {
    pub(super) fn subscribe<M: Mesh>(
        &mut self,
        asked: Asked,
        filters: &[(u8, &str)],
        cx: &mut Cx<'_, M>,
    ) {
        let Some(client) = self.directory.held_by(asked.key) else {
            return;
        };
        if self.subscribing.len() >= SUBSCRIBING_MAX {
            return self.warn(
                asked.key.member,
                asked.key.incarnation,
                "too many requests",
                cx,
            );
        }
        let mut existed = Vec::with_capacity(filters.len());
        let mut scans = VecDeque::new();
        let mut changes = Vec::new();
        for (options, name) in filters {
            let subscription = Subscription {
                options: *options,
                id: asked.subscription_id,
            };
            // Workers check filters; one that did not gets no subscription for it.
            let Some(filter) = Filter::new(name) else {
                existed.push(false);
                continue;
            };
            if filter.shared().is_some() {
                // What is retained is not for groups [MQTT-4.8.2].
                existed.push(self.join_group(client, filter, subscription, &mut changes));
                continue;
            }
            let kept = self.directory.get_mut(client);
            let Some(session) = kept.and_then(|c| c.session.as_mut()) else {
                let (member, incarnation) = (asked.key.member, asked.key.incarnation);
                self.warn(member, incarnation, "no such session", cx);
                existed.push(false);
                continue;
            };
            let before = session.subscriptions.insert((*name).into(), subscription);
            existed.push(before.is_some());
            self.counted.subscriptions += u64::from(before.is_none());
            if self.index.insert(filter, client, subscription).first {
                let class = self.announced.class;
                changes.extend(self.announced.add(name, class, &self.hash));
            }
            if subscription.wants_retained(before.is_some()) {
                scans.push_back(Scan {
                    filter: (*name).into(),
                    subscription,
                    after: None,
                });
            }
        }
        self.announced
            .say(&changes, cx.mesh.live(), cx.mesh, &mut self.scratch);
        let gap = self.push_gap(client, scans, &asked.heads, cx);
        let gap = gap.map(|gap| Collecting {
            client,
            gap,
            mark: published(asked.key, cx.mesh),
            heads: None,
        });
        self.subscribing.push_back(Subscribing {
            key: asked.key,
            request: asked.request,
            existed,
            announced: self.announced.last,
            heads: asked.heads,
            gap,
        });
    }

    /// Keeps the place of what is retained.
    fn push_gap<M: Mesh>(
        &mut self,
        client: ClientNumber,
        scans: VecDeque<Scan>,
        heads: &Heads,
        cx: &mut Cx<'_, M>,
    ) -> Option<u64> {
        if scans.is_empty() || !self.settings.retain_available {
            return None;
        }
        let kept = self.directory.get_mut(client);
        let session = kept.and_then(|c| c.session.as_mut())?;
        let is_late = |head: &&_| !applied(std::slice::from_ref(*head), cx.mesh);
        self.next_gap += 1;
        let gap = Gap {
            id: self.next_gap,
            is_ready: false,
            until_stamp: self.retained_stamp,
            until_stamp_direct: self.retained_stamp,
            late: heads.iter().filter(is_late).copied().collect(),
            bytes: scans.iter().map(Scan::bytes).sum(),
            scans,
        };
        // A client that subscribes on and on without taking what it gets is not sent all of it.
        if session.scan_bytes + gap.bytes > RETAINED_SCAN_BYTES_MAX {
            return None;
        }
        session.scan_bytes += gap.bytes;
        session.queue.push_gap(gap);
        Some(self.next_gap)
    }

    /// Answers the SUBSCRIBEs whose announcements have been applied everywhere, in the order in which they came.
    pub(super) fn answer_subscribes<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        self.announced.passed(cx.mesh);
        while let Some(front) = self.subscribing.front() {
            if front.announced > self.announced.applied_everywhere {
                // A wake-up was asked for.
                return;
            }
            if !applied(&front.heads, cx.mesh) {
                return self.look_again_soon(cx.now);
            }
            if let Some(answered) = self.subscribing.pop_front() {
                self.answer_subscribe(answered, cx);
            }
        }
    }

    fn answer_subscribe<M: Mesh>(&mut self, answered: Subscribing, cx: &mut Cx<'_, M>) {
        if self.directory.held_by(answered.key).is_some() {
            let subscribed = ToWorker::Subscribed {
                claim: answered.key.serial,
                request: answered.request,
                existed: answered.existed,
            };
            self.tell(answered.key, &subscribed, cx);
        }
        self.collecting.extend(answered.gap);
    }

    /// Lets sessions have what is retained, once nothing can be missed.
    pub(super) fn collect_retained<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        while let Some(front) = self.collecting.front_mut() {
            if front.mark.is_some_and(|mark| !is_applied(mark, cx.mesh)) {
                return self.look_again_soon(cx.now);
            }
            front.mark = None;
            let heads = front.heads.get_or_insert_with(|| published_heads(cx.mesh));
            if !applied(heads, cx.mesh) {
                return self.look_again_soon(cx.now);
            }
            let (client, id) = (front.client, front.gap);
            self.collecting.pop_front();
            let kept = self.directory.get_mut(client);
            let session = kept.and_then(|c| c.session.as_mut());
            let gap = session.and_then(|s| s.queue.find_gap(|gap| gap.id.cmp(&id)));
            if let Some(gap) = gap {
                gap.is_ready = true;
                gap.until_stamp_direct = self.retained_stamp;
                self.feed(client, cx);
            }
        }
    }

    pub(super) fn unsubscribe<M: Mesh>(
        &mut self,
        key: ClaimKey,
        request: u32,
        filters: &[&str],
        cx: &mut Cx<'_, M>,
    ) {
        let Some(client) = self.directory.held_by(key) else {
            return;
        };
        let mut existed = Vec::with_capacity(filters.len());
        let (mut ended, mut changes) = (Vec::new(), Vec::new());
        for filter in filters {
            if let Some(shared) = Filter::new(filter).filter(|f| f.shared().is_some()) {
                existed.push(self.leave_group(client, shared, &mut changes));
                continue;
            }
            // A transient session has the others in its worker.
            let kept = self.directory.get_mut(client);
            let session = kept.and_then(|c| c.session.as_mut());
            let was_there = session.is_some_and(|s| s.subscriptions.remove(*filter).is_some());
            existed.push(was_there);
            if was_there {
                ended.push(*filter);
            }
        }
        self.announced
            .say(&changes, cx.mesh.live(), cx.mesh, &mut self.scratch);
        self.remove_filters(client, &ended, cx);
        let unsubscribed = ToWorker::Unsubscribed {
            claim: key.serial,
            request,
            existed,
        };
        self.tell(key, &unsubscribed, cx);
    }

    /// Takes these filters of a session out of the index, and says which ones nobody has any more.
    pub(super) fn remove_filters<M: Mesh>(
        &mut self,
        client: ClientNumber,
        filters: &[&str],
        cx: &mut Cx<'_, M>,
    ) {
        let mut changes = Vec::new();
        self.counted.subscriptions -= filters.len() as u64;
        for name in filters {
            let removed = Filter::new(name).and_then(|f| self.index.remove(f, client));
            if removed.is_some_and(|r| r.last) {
                let class = self.announced.class;
                changes.extend(self.announced.remove(name, class, &self.hash));
            }
        }
        self.announced
            .say(&changes, cx.mesh.live(), cx.mesh, &mut self.scratch);
    }
}
