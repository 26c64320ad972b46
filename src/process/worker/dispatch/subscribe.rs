//! SUBSCRIBE and UNSUBSCRIBE: the index, the announcement, the barrier before SUBACK, and what is retained.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::connection::{LocalSubscription, Stage};
use super::filters::Taken;
use super::live::SeenLive;
use super::say::{Counts, explain};
use super::{ConnId, Worker};
use crate::base::ids::{ClaimSerial, MemberId, Position, Serial};
use crate::base::limits::{EARLY_SLICES_MAX, RETAINED_REQUESTS_MAX};
use crate::base::log::LogType;
use crate::ipc::mesh::{Announcement, Heads, Message, ToStore, ToWorker, announce, kind};
use crate::mqtt::{
    Ack, Filter, Packet, PacketId, Properties, Qos, Reason, Suback, Subscribe, Unsuback,
    Unsubscribe,
};
use crate::ring::{Cx, Mesh};

/// A SUBACK that is not sent yet.
pub(super) struct PendingSuback {
    conn: ConnId,
    packet_id: PacketId,
    codes: Vec<u8>,

    /// The announcement that every other member must have applied first.
    after: Serial,
    /// Where that is in the outbox, once it is in there.
    position: Option<Position>,
    /// What to ask the store for afterwards.
    retained: Vec<(Box<str>, LocalSubscription)>,
    /// It is one of those that `store_subscribing` counts, and of those that `store_sharing` counts.
    at_store: bool,
    is_sharing: bool,
}

/// What a connection waits for, by request.
pub(super) type Requests<T> = BTreeMap<(ConnId, u32), T>;

/// Takes out all requests of a connection.
fn take_requests<T>(requests: &mut Requests<T>, id: ConnId) -> Vec<T> {
    let of_id: Vec<_> = requests
        .range((id, 0)..=(id, u32::MAX))
        .map(|(key, _)| *key)
        .collect();
    of_id
        .iter()
        .filter_map(|key| requests.remove(key))
        .collect()
}

/// A retained request that is under way.
#[derive(Clone, Debug)]
pub(super) struct RetainedWait {
    subscription: LocalSubscription,
    filter: Rc<str>,
    /// How far every outbox was filled when it was sent; of this worker, the serial of the request.
    heads: Rc<Heads>,
}

impl Worker {
    pub(super) fn subscribe<M: Mesh>(
        &mut self,
        id: ConnId,
        packet: &Subscribe<'_>,
        cx: &mut Cx<'_, M>,
    ) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let stored = conn.client.stored;
        cx.log.line(
            LogType::Debug,
            format_args!("Received SUBSCRIBE from {}", conn.client.id),
        );
        let Taken {
            identifier,
            codes,
            retained,
            changes,
            for_store,
            is_sharing,
        } = self.take_filters(id, packet, cx);
        self.announce(&changes, cx);
        let pending = PendingSuback {
            conn: id,
            packet_id: packet.packet_id,
            codes,

            after: self.last_announcement,
            position: None,
            retained,
            at_store: !for_store.is_empty(),
            is_sharing,
        };
        self.note_retained_pending(id, pending.retained.len());
        if is_sharing && !stored {
            self.shares(id);
        }
        if for_store.is_empty() {
            self.owe_suback(pending);
        } else {
            self.subscribe_stored(id, pending, identifier, for_store, cx);
        }
    }

    fn subscribe_stored<M: Mesh>(
        &mut self,
        id: ConnId,
        pending: PendingSuback,
        subscription_id: u32,
        filters: Vec<(u8, &str)>,
        cx: &mut Cx<'_, M>,
    ) {
        self.store_sharing += usize::from(pending.is_sharing);
        let request = self.store_request(pending);
        self.store_subscribing += 1;
        let (claim, heads) = (id.claim(), self.heads(cx));
        let record = ToStore::Subscribe {
            claim,
            request,
            subscription_id,
            heads,
            filters,
        };
        self.last = record.append(cx.mesh, &mut self.scratch);
    }

    /// From now on live messages are newer than what the store will send.
    fn note_retained_pending(&mut self, id: ConnId, requests: usize) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.client.retained_pending += u32::try_from(requests).unwrap_or(u32::MAX);
        }
    }

    /// Enters a subscription into the index; what is to be announced goes into `changes`. True if the client had no
    /// such subscription before.
    pub(super) fn subscribe_local<'a>(
        &mut self,
        id: ConnId,
        filter: Filter<'a>,
        subscription: LocalSubscription,
        changes: &mut Vec<Announcement<'a>>,
    ) -> bool {
        let Some(conn) = self.conns.get_mut(id) else {
            return false;
        };
        let stored = conn.client.stored;
        if stored && self.config.stores_every_qos() {
            // Everything comes through the store: one path for each message.
            return false;
        }
        let inserted = self.local.insert(filter, id, subscription);
        if inserted.replaced.is_some() {
            return false;
        }
        conn.client.filters.insert(inserted.filter);
        // The store counts those of its sessions.
        self.counted.subscriptions += u64::from(!stored);
        let class = self.class_of(stored);
        changes.extend(self.interest.add((inserted.filter, filter), class));
        true
    }

    /// Tells every member with an index what changed in this worker's interest.
    pub(super) fn announce<M: Mesh>(&mut self, changes: &[Announcement<'_>], cx: &mut Cx<'_, M>) {
        let to = Self::indexing(cx);
        if !changes.is_empty() && !to.is_empty() {
            self.last = announce(cx.mesh, to, changes, &mut self.scratch);
            self.last_announcement = self.last;
        }
    }

    fn store_request(&mut self, pending: PendingSuback) -> u32 {
        self.next_request = self.next_request.wrapping_add(1);
        self.stored_requests
            .insert((pending.conn, self.next_request), pending);
        self.next_request
    }

    /// How far every outbox is filled at this moment, this worker's own included.
    fn heads<M: Mesh>(&self, cx: &Cx<'_, M>) -> Heads {
        let others = cx.mesh.live().without(MemberId::STORE).iter();
        let mut heads: Heads = others
            .filter_map(|m| {
                cx.mesh
                    .published(m)
                    .map(|(incarnation, at)| (m, incarnation, at))
            })
            .collect();
        heads.push((self.me, self.incarnation, cx.mesh.head()));
        heads
    }

    /// The store has the subscriptions of a stored session, and every member knows. (Its own announcement of QoS 0 may
    /// still be under way.)
    pub(super) fn on_subscribed<M: Mesh>(
        &mut self,
        claim: ClaimSerial,
        request: u32,
        cx: &mut Cx<'_, M>,
    ) {
        let Some(pending) = self.stored_requests.remove(&(ConnId::of(claim), request)) else {
            return;
        };
        self.no_longer_at_store(&pending);
        // The order of SUBACKs is not owed; a passed barrier lets this one through at once.
        self.owe_suback(pending);
        self.pass_subacks(cx);
    }

    fn no_longer_at_store(&mut self, pending: &PendingSuback) {
        let one = usize::from(pending.at_store);
        self.store_subscribing = self.store_subscribing.saturating_sub(one);
        let one = usize::from(pending.is_sharing);
        self.store_sharing = self.store_sharing.saturating_sub(one);
    }

    /// Until it is sent, what the store delivers to its connection waits: retained messages come behind SUBACK.
    fn owe_suback(&mut self, pending: PendingSuback) {
        if let Some(conn) = self.conns.get_mut(pending.conn) {
            conn.client.subacks_owed += 1;
        }
        self.suback_codes += pending.codes.len();
        self.subacks.push_back(pending);
    }

    fn send_behind_suback<M: Mesh>(&mut self, id: ConnId, cx: &mut Cx<'_, M>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let client = &mut conn.client;
        client.subacks_owed = client.subacks_owed.saturating_sub(1);
        if client.subacks_owed > 0 || client.behind_suback.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut client.behind_suback);
        self.emit(id, Serial(0), Counts::Nothing, cx, |out| {
            out.extend_from_slice(&bytes);
        });
    }

    /// The connection is over. The store answers no requests of connections that it knows to be gone, so nothing
    /// else would take these away.
    pub(super) fn forget_requests(&mut self, id: ConnId) {
        take_requests(&mut self.retained, id);
        for pending in take_requests(&mut self.stored_requests, id) {
            self.no_longer_at_store(&pending);
        }
    }

    pub(super) fn on_unsubscribed<M: Mesh>(
        &mut self,
        claim: ClaimSerial,
        request: u32,
        existed: &[bool],
        cx: &mut Cx<'_, M>,
    ) {
        let Some(pending) = self.stored_requests.remove(&(ConnId::of(claim), request)) else {
            return;
        };
        // A transient session's shared filters are the store's, the others its worker's; a stored session may have one
        // in both places.
        let codes = pending.codes.iter().zip(existed);
        let codes = codes
            .map(|(here, there)| (*here).min(unsuback_code(*there)))
            .collect();
        self.send_unsuback(pending.conn, pending.packet_id, codes, cx);
    }

    /// After a flush: announcements that are in the outbox have a position there.
    pub(super) fn place_barriers<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        let covered = cx.mesh.covered();
        let head = cx.mesh.head();
        let mut placed = false;
        for pending in self
            .subacks
            .iter_mut()
            .filter(|p| p.position.is_none() && p.after <= covered)
        {
            pending.position = Some(head);
            placed = true;
        }
        if placed {
            cx.mesh.wake_when_passed(head);
        }
    }

    pub(super) fn barrier_passed<M: Mesh>(&self, cx: &Cx<'_, M>) -> bool {
        let Some(first) = self.subacks.front() else {
            return false;
        };
        let others = Self::indexing(cx);
        others.is_empty()
            || first
                .position
                .is_some_and(|at| cx.mesh.passed(others) >= at)
    }

    /// Sends the SUBACKs whose announcement every other member has applied: no publish after them is missed.
    pub(super) fn pass_subacks<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        while self.barrier_passed(cx) {
            let Some(pending) = self.subacks.pop_front() else {
                return;
            };
            self.suback_codes -= pending.codes.len();
            let PendingSuback {
                conn: id,
                packet_id,
                codes,
                retained,
                ..
            } = pending;
            let Some(conn) = self.conns.get_mut(id) else {
                continue;
            };
            conn.client.retained_waiting.extend(retained);
            cx.log.line(
                LogType::Debug,
                format_args!("Sending SUBACK to {}", conn.client.id),
            );
            let refused = codes.iter().copied().find(|code| *code >= 0x80);
            let words = explain(
                &conn.client,
                refused.unwrap_or_default(),
                "not a filter behind the mount point",
            );
            let suback = Suback {
                packet_id,
                properties: words.as_properties(),
                codes: &codes,
            };
            self.say_after_last(id, &Packet::Suback(suback), cx);
            self.send_behind_suback(id, cx);
            self.request_waiting(id, cx);
        }
    }

    /// Asks for what is retained, for a few filters of a connection at a time: one that subscribed to thousands has
    /// no greater share of the store than the others.
    fn request_waiting<M: Mesh>(&mut self, id: ConnId, cx: &mut Cx<'_, M>) {
        while let Some(conn) = self.conns.get_mut(id) {
            let client = &mut conn.client;
            if client.retained_requested >= RETAINED_REQUESTS_MAX {
                return;
            }
            let Some((filter, subscription)) = client.retained_waiting.pop_front() else {
                client.retained_waiting = VecDeque::new();
                return;
            };
            client.retained_requested += 1;
            self.request_retained(id, &filter, subscription, cx);
        }
    }

    fn request_retained<M: Mesh>(
        &mut self,
        id: ConnId,
        filter: &str,
        subscription: LocalSubscription,
        cx: &mut Cx<'_, M>,
    ) {
        let mut heads = self.heads(cx);
        let request = self.ask_retained(id, (filter, ""), heads.clone(), cx);
        // This worker's own messages are told apart by their serials.
        for (_, _, at) in heads.iter_mut().filter(|(member, ..)| *member == self.me) {
            *at = Position(self.last.0);
        }
        let wait = RetainedWait {
            subscription,
            filter: filter.into(),
            heads: heads.into(),
        };
        self.retained.insert((id, request), wait);
    }

    fn ask_retained<M: Mesh>(
        &mut self,
        id: ConnId,
        (filter, after): (&str, &str),
        heads: Heads,
        cx: &mut Cx<'_, M>,
    ) -> u32 {
        self.next_request = self.next_request.wrapping_add(1);
        let record = ToStore::RetainedRequest {
            claim: id.claim(),
            request: self.next_request,
            heads,
            filter,
            after,
        };
        self.last = record.append(cx.mesh, &mut self.scratch);
        self.next_request
    }

    /// Asks for more of what is retained, when the client has taken what came: it gets all of it, as fast as it reads.
    /// What came live since the first request is still newer than any answer.
    pub(super) fn go_on_with_retained<M: Mesh>(&mut self, id: ConnId, cx: &mut Cx<'_, M>) {
        while let Some(conn) = self.conns.get_mut(id) {
            if conn.is_full() || conn.client.window.has_waiting() {
                return;
            }
            let Some((wait, after)) = conn.client.retained_resting.pop_front() else {
                return;
            };
            let heads = self.heads(cx);
            let request = self.ask_retained(id, (&wait.filter, &after), heads, cx);
            self.retained.insert((id, request), wait);
        }
    }

    /// Part of an answer to a retained request. It must not overtake live messages that this worker has not read yet.
    pub(super) fn on_retained_slice<M: Mesh>(&mut self, bytes: &[u8], cx: &mut Cx<'_, M>) {
        let in_order = self.early_slices.is_empty() || self.early_slices.len() >= EARLY_SLICES_MAX;
        if !(in_order && self.take_slice(bytes, cx)) {
            self.early_slices.push_back(bytes.to_vec());
        }
    }

    pub(super) fn take_early_slices<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        while let Some(bytes) = self.early_slices.pop_front() {
            if !self.take_slice(&bytes, cx) {
                return self.early_slices.push_front(bytes);
            }
        }
    }

    /// Sends the messages of a slice, if it is not early. True if it is done with.
    fn take_slice<M: Mesh>(&mut self, bytes: &[u8], cx: &mut Cx<'_, M>) -> bool {
        let Ok(ToWorker::RetainedSlice {
            claim,
            request,
            last,
            positions,
            messages,
        }) = ToWorker::decode(kind::RETAINED_SLICE, bytes)
        else {
            self.bad_record(MemberId::STORE, "retained slice", cx);
            return true;
        };
        if self.early_slices.len() < EARLY_SLICES_MAX && !self.has_applied(&positions, cx) {
            return false;
        }
        let id = ConnId::of(claim);
        let Some(wait) = self.retained.get(&(id, request)).cloned() else {
            return true;
        };
        // UNSUBSCRIBE ends it.
        let filter = Filter::trusted(&wait.filter);
        let is_wanted = self.local.get(filter, id).is_some();
        let last = last || !is_wanted;
        for message in messages.iter().filter(|_| is_wanted) {
            self.send_retained(id, &wait, message, cx);
        }
        if let (false, Some(message)) = (last, messages.last()) {
            self.retained.remove(&(id, request));
            if let Some(conn) = self.conns.get_mut(id) {
                let rest = (wait, message.topic.into());
                conn.client.retained_resting.push_back(rest);
            }
            self.go_on_with_retained(id, cx);
        }
        if last {
            self.retained.remove(&(id, request));
            if let Some(conn) = self.conns.get_mut(id) {
                conn.client.retained_requested = conn.client.retained_requested.saturating_sub(1);
                conn.client.retained_pending = conn.client.retained_pending.saturating_sub(1);
                if conn.client.retained_pending == 0 {
                    conn.client.seen_live = SeenLive::default();
                }
            }
            self.request_waiting(id, cx);
        }
        true
    }

    fn has_applied<M: Mesh>(&self, positions: &Heads, cx: &Cx<'_, M>) -> bool {
        positions.iter().all(|(member, incarnation, position)| {
            *member == self.me
                || cx
                    .mesh
                    .applied(*member)
                    .is_none_or(|(now, at)| now != *incarnation || at >= *position)
        })
    }

    fn send_retained<M: Mesh>(
        &mut self,
        id: ConnId,
        wait: &RetainedWait,
        message: &Message<'_>,
        cx: &mut Cx<'_, M>,
    ) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let (client, subscription) = (&conn.client, wait.subscription);
        let options = subscription.options;
        let topic = self.interest.hash().of(message.topic);
        let seen = client.seen_live.is_after(topic, &wait.heads);
        let own = options.no_local && client.number == message.publisher;
        let expired = message.expires_at.is_some_and(|at| at <= cx.now);
        if seen || own || expired {
            return;
        }
        let ids = Vec::from_iter(Some(subscription.identifier).filter(|id| *id != 0));
        let upgrade = self.config.upgrade_outgoing_qos;
        let qos = message.qos.delivered(options.qos, upgrade);
        self.send_one(id, message, (qos, true, ids), cx);
    }

    pub(super) fn unsubscribe<M: Mesh>(
        &mut self,
        id: ConnId,
        packet: &Unsubscribe<'_>,
        cx: &mut Cx<'_, M>,
    ) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let stored = conn.client.stored;
        cx.log.line(
            LogType::Debug,
            format_args!("Received UNSUBSCRIBE from {}", conn.client.id),
        );
        let mut codes = Vec::with_capacity(packet.filters.len());
        let mut changes = Vec::new();
        let is_sharing = packet.filters.iter().any(|f| f.shared().is_some());
        for filter in &packet.filters {
            cx.log
                .line(LogType::Debug, format_args!("\t{}", filter.as_str()));
            let Some(conn) = self.conns.get_mut(id) else {
                return;
            };
            cx.log.line(
                LogType::Unsubscribe,
                format_args!("{} {}", conn.client.id, filter.as_str()),
            );
            conn.client.filters_at_store.remove(filter.as_str());
            let removed = self.local.remove(*filter, id);
            codes.push(unsuback_code(removed.is_some()));
            if let Some(removed) = removed {
                conn.client.filters.remove(&removed.filter);
                self.counted.subscriptions -= u64::from(!stored);
                let class = self.class_of(stored);
                let number = (removed.filter, *filter);
                changes.extend(self.interest.remove(number, class));
            }
        }
        self.announce(&changes, cx);
        if !stored && !is_sharing {
            return self.send_unsuback(id, packet.packet_id, codes, cx);
        }
        let request = self.store_request(PendingSuback {
            conn: id,
            packet_id: packet.packet_id,
            codes,

            after: self.last,
            position: None,
            retained: Vec::new(),
            at_store: false,
            is_sharing: false,
        });
        let filters = packet.filters.iter().map(|f| f.as_str()).collect();
        let record = ToStore::Unsubscribe {
            claim: id.claim(),
            request,
            filters,
        };
        self.last = record.append(cx.mesh, &mut self.scratch);
    }

    fn send_unsuback<M: Mesh>(
        &mut self,
        id: ConnId,
        packet_id: PacketId,
        codes: Vec<u8>,
        cx: &mut Cx<'_, M>,
    ) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        cx.log.line(
            LogType::Debug,
            format_args!("Sending UNSUBACK to {}", conn.client.id),
        );
        let unsuback = Unsuback {
            packet_id,
            properties: Properties::NONE,
            codes: &codes,
        };
        self.say_after_last(id, &Packet::Unsuback(unsuback), cx);
    }

    /// A delivery that this client cannot be sent is acknowledged in its place, with an error.
    pub(super) fn refuse_delivery<M: Mesh>(
        &mut self,
        id: ConnId,
        ack: &Ack<'_>,
        qos: Qos,
        cx: &mut Cx<'_, M>,
    ) {
        let what = match qos {
            Qos::ExactlyOnce => crate::ipc::mesh::AckKind::Pubrec,
            _ => crate::ipc::mesh::AckKind::Puback,
        };
        self.tell_store(id, ack, what, cx);
    }

    /// A claim's connection, for records of the store.
    pub(super) fn connected(&self, claim: ClaimSerial) -> Option<ConnId> {
        let id = ConnId::of(claim);
        self.conns
            .get(id)
            .filter(|c| c.stage == Stage::Connected)
            .map(|_| id)
    }
}

fn unsuback_code(existed: bool) -> u8 {
    if existed {
        0
    } else {
        Reason::NoSubscriptionExisted as u8
    }
}
