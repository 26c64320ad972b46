//! Claims, grants and releases: connections come and go, and members with them.

use crate::base::clock::Instant;
use crate::base::ids::{ClientNumber, Incarnation, MemberId};
use crate::base::limits::INDEX_SLICE_BYTES;
use crate::directory::{ClaimKey, Denied, Full, Mark, Released, Turn};
use crate::ipc::mesh::{Claim, Refusal, Release, ToWorker, WillFate};
use crate::mqtt::Reason;
use crate::ring::{Cx, Mesh};

use super::message::Will;
use super::sessions::Session;
use super::{Store, published, published_heads};

/// What is kept for one client id.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// Of the connection that holds the id.
    pub will: Option<Box<Will>>,
    /// The connection has its CONNACK: its will counts.
    pub is_armed: bool,
    /// The will of the last connection, and when it is due.
    pub delayed_will: Option<(Box<Will>, Instant)>,
    pub session: Option<Box<Session>>,
    /// Messages of QoS 1 and 2 that may be unacknowledged on its connection.
    pub window: u16,
    /// The entry in the store's timers.
    pub timer: Option<Instant>,
}

/// What a claim asks for once it is granted.
#[derive(Debug)]
pub(super) struct Asked {
    clean_start: bool,
    expiry: u32,
    receive_maximum: u16,
    will: Option<Box<Will>>,
}

/// Seconds of an expiry that never comes.
pub(super) const NEVER: u32 = u32::MAX;

const TAKEN_OVER: u8 = Reason::SessionTakenOver as u8;

impl Store {
    pub(super) fn claim<M: Mesh>(&mut self, key: ClaimKey, claim: &Claim<'_>, cx: &mut Cx<'_, M>) {
        // A dead worker's outbox is still being read, but nobody is there to be granted anything.
        if !self.reads(key) {
            return;
        }
        // It waited so long to be read that its client has given it up, and may have come back on another connection.
        if claim.is_pointless && self.directory.is_wanted(claim.client_id) {
            return self.refuse(key, Refusal::Superseded, cx);
        }
        let asked = Asked {
            clean_start: claim.clean_start,
            expiry: claim.expiry,
            receive_maximum: claim.receive_maximum,
            will: claim.will.as_ref().map(|w| Box::new(Will::new(w))),
        };
        let seats = (claim.listener, self.settings.seats(claim.listener));
        let claimed = self.directory.claim(key, claim.client_id, seats, asked);
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(Denied::Full(limit)) => return self.refuse(key, refusal(limit), cx),
            Err(Denied::Repeated) => {
                return self.warn(key.member, key.incarnation, "a claim made twice", cx);
            }
        };
        if let Some(old) = claimed.superseded {
            self.refuse(old, Refusal::Superseded, cx);
        }
        let reason = TAKEN_OVER;
        // A holder whose worker died is not told: its id is free once the worker is removed.
        if let Some(holder) = claimed.evict {
            let claim = holder.serial;
            self.tell(holder, &ToWorker::Evict { claim, reason }, cx);
        }
        self.try_grant(claimed.client, cx);
    }

    fn refuse<M: Mesh>(&mut self, key: ClaimKey, why: Refusal, cx: &mut Cx<'_, M>) {
        let claim = key.serial;
        self.tell(key, &ToWorker::Refuse { claim, why }, cx);
    }

    /// Grants the claim that waits for this client, unless somebody holds the id or the last holder's records have
    /// not been applied everywhere: a client that reconnects elsewhere must not overtake itself. What its session
    /// had been sent directly must have been read everywhere too, or its new worker would send it again.
    fn try_grant<M: Mesh>(&mut self, client: ClientNumber, cx: &mut Cx<'_, M>) {
        let mesh = &mut *cx.mesh;
        let turn = self.directory.grant(client, |mark, kept| {
            let left_at = kept.session.iter().flat_map(|s| &s.left_at);
            mark.iter().chain(left_at).all(|at| is_applied(*at, mesh))
        });
        match turn {
            Turn::Nobody => {}
            Turn::NotYet => {
                self.awaiting_mark.insert(client);
                self.look_again_soon(cx.now);
            }
            Turn::Granted(key, asked) => self.granted(client, key, asked, cx),
        }
    }

    pub(super) fn retry_grants<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        for client in std::mem::take(&mut self.awaiting_mark) {
            self.try_grant(client, cx);
        }
    }

    fn granted<M: Mesh>(
        &mut self,
        client: ClientNumber,
        key: ClaimKey,
        asked: Asked,
        cx: &mut Cx<'_, M>,
    ) {
        let Some(kept) = self.directory.get_mut(client) else {
            return;
        };
        let continues = kept.session.is_some() && !asked.clean_start;
        // A will whose delay has not passed is not sent if its session goes on [MQTT-3.1.3-9]; if the session
        // ends here, the will is due.
        let due = kept.delayed_will.take().filter(|_| !continues);
        if let Some((will, _)) = due {
            self.publish_will(client, &will, cx);
        }
        if !continues {
            self.end_session(client, cx);
        }
        let window = self.window(asked.receive_maximum);
        let bytes = self.settings.max_inflight_bytes;
        let Some(kept) = self.directory.get_mut(client) else {
            return;
        };
        (kept.will, kept.is_armed) = (asked.will, false);
        kept.window = window;
        let is_new = !continues && asked.expiry > 0;
        if is_new {
            kept.session = Some(Box::default());
        }
        let mut received = Vec::new();
        let stored = kept.session.is_some();
        if let Some(session) = &mut kept.session {
            session.expiry = asked.expiry;
            session.expires_at = None;
            session.left_at.clear();
            session.queue.attach(window, bytes);
            received.extend(session.received.iter());
        }
        if is_new {
            self.directory.set_lasting(client, true);
        }
        self.set_timer(client);
        let grant = ToWorker::Grant {
            claim: key.serial,
            client,
            session_present: continues,
            stored,
            received,
        };
        // The filters first: once the client is let in, it may change them.
        if continues {
            self.tell_filters(client, key, cx);
        }
        self.tell(key, &grant, cx);
        if stored {
            self.feed(client, cx);
            self.groups.come(client);
        }
    }

    fn window(&self, receive_maximum: u16) -> u16 {
        match self.settings.max_inflight_messages {
            0 => receive_maximum,
            most => most.min(receive_maximum),
        }
    }

    /// The worker counts what its clients subscribe to, and announces these for QoS 0, which goes to an attached session
    /// directly. (Groups are the store's, and so is everything with
    /// `queue_qos0_messages` or `upgrade_outgoing_qos`; the worker knows.)
    fn tell_filters<M: Mesh>(&mut self, client: ClientNumber, key: ClaimKey, cx: &mut Cx<'_, M>) {
        if !self.reads(key) {
            return;
        }
        let session = self.directory.get(client).and_then(|c| c.session.as_ref());
        let Some(session) = session else {
            return;
        };
        let claim = key.serial;
        let (mut filters, mut bytes) = (Vec::new(), 0);
        let own = session.subscriptions.iter();
        let own = own.map(|(filter, s)| (s.options, s.id, &**filter));
        let shared = self.groups.memberships_of(client);
        let mut rest = own.chain(shared.map(|filter| (0, 0, filter))).peekable();
        while let Some(filter) = rest.next() {
            bytes += filter.2.len();
            filters.push(filter);
            if bytes >= INDEX_SLICE_BYTES || rest.peek().is_none() {
                let filters = std::mem::take(&mut filters);
                bytes = 0;
                let slice = ToWorker::SessionFilters { claim, filters };
                slice.append(cx.mesh, key.member, &mut self.scratch);
            }
        }
    }

    pub(super) fn armed(&mut self, key: ClaimKey) {
        let client = self.directory.held_by(key);
        if let Some(kept) = client.and_then(|c| self.directory.get_mut(c)) {
            kept.is_armed = true;
        }
    }

    pub(super) fn release<M: Mesh>(
        &mut self,
        key: ClaimKey,
        release: &Release,
        cx: &mut Cx<'_, M>,
    ) {
        // What is published by now holds the release and everything before it.
        let mark = published(key, cx.mesh);
        match self.directory.release(key, mark) {
            Released::Holder(client) => {
                let has_will = release.will == WillFate::Delayed;
                self.disconnected(client, has_will, release.expiry, cx);
            }
            Released::Waiting(client) => self.forget_if_idle(client),
            Released::Unknown => {}
        }
    }

    /// Nobody holds this client's id any more. `has_will`: its will is the store's to publish.
    fn disconnected<M: Mesh>(
        &mut self,
        client: ClientNumber,
        has_will: bool,
        expiry: Option<u32>,
        cx: &mut Cx<'_, M>,
    ) {
        let longest = self.settings.persistent_client_expiration;
        let Some(kept) = self.directory.get_mut(client) else {
            return;
        };
        let will = kept.will.take().filter(|_| has_will);
        let mut lives_secs = 0;
        if let Some(session) = &mut kept.session {
            // A session that was to end with the connection cannot be made to last [MQTT-3.14.2.2.2].
            if let Some(expiry) = expiry.filter(|_| session.expiry > 0) {
                session.expiry = expiry;
            }
            session.queue.detach();
            // QoS 0 went to it from worker to worker, from records that are published by now.
            session.left_at.clear();
            if !session.subscriptions.is_empty() && !self.settings.outgoing().every_qos {
                let heads = published_heads(cx.mesh).into_iter();
                session.left_at.extend(heads.map(Mark::from));
            }
            session.absent_since = cx.now;
            lives_secs = session.wait(longest);
        }
        kept.delayed_will = will.map(|will| {
            let delay = will.delay_secs.min(lives_secs);
            (will, cx.now.after_secs(u64::from(delay)))
        });
        self.give_back(client, cx);
        if lives_secs == 0 {
            self.end_session(client, cx);
        }
        self.client_due(client, cx);
        self.try_grant(client, cx);
    }

    /// Forgets a client for which nothing is kept, at once or when its last holder's records have been applied.
    pub(super) fn forget_if_idle(&mut self, client: ClientNumber) {
        let keeps = |c: &Client| c.session.is_some() || c.delayed_will.is_some();
        if self.directory.get(client).is_none_or(keeps) || self.directory.forget(client) {
            return;
        }
        if self.directory.holder(client).is_none() && self.directory.waiting(client).is_none() {
            self.fading.push_back(client);
        }
    }

    /// `member` reads this outbox from now on: tell it every filter, then that this was all.
    pub fn member_joined<M: Mesh>(
        &mut self,
        member: MemberId,
        incarnation: Incarnation,
        cx: &mut Cx<'_, M>,
    ) {
        if let Some(reader) = self.readers.get_mut(member.slot()) {
            *reader = Some(incarnation);
        }
        self.announced.joined(member);
        // A small index goes at once.
        self.announced.tell(cx.mesh, &mut self.scratch);
    }

    /// Goes on telling members that joined what the store wants.
    pub(super) fn tell_joiners<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        self.announced.tell(cx.mesh, &mut self.scratch);
        let has_room = cx.mesh.overflow_bytes() == 0;
        if self.announced.is_telling() && has_room {
            self.again = true;
        } else if self.announced.is_telling() {
            self.look_again_soon(cx.now);
        }
    }

    /// `member` died. Its outbox is still being read; nothing is said to it any more.
    pub fn member_gone<M: Mesh>(
        &mut self,
        member: MemberId,
        incarnation: Incarnation,
        _cx: &mut Cx<'_, M>,
    ) {
        let slot = self.readers.get_mut(member.slot());
        if let Some(reader) = slot.filter(|r| **r == Some(incarnation)) {
            *reader = None;
            self.announced.gone(member);
        }
        for client in self.directory.member_gone(incarnation) {
            self.forget_if_idle(client);
        }
        for client in self.directory.held_in(incarnation) {
            let kept = self.directory.get_mut(client);
            if let Some(session) = kept.and_then(|c| c.session.as_mut()) {
                session.queue.detach();
            }
            self.groups.go(client);
        }
        self.forget_requests(incarnation);
    }

    /// Everybody has applied all that `member` ever published: its connections are over, and their wills are due
    /// or begin their delay.
    pub fn member_removed<M: Mesh>(
        &mut self,
        member: MemberId,
        incarnation: Incarnation,
        cx: &mut Cx<'_, M>,
    ) {
        self.member_gone(member, incarnation, cx);
        for (_, client) in self.directory.member_removed(incarnation) {
            let is_armed = self.directory.get(client).is_some_and(|c| c.is_armed);
            self.disconnected(client, is_armed, None, cx);
        }
        self.warned.remove(&incarnation);
    }
}

fn refusal(limit: Full) -> Refusal {
    match limit {
        Full::Listener => Refusal::MaxConnections,
        Full::Connections => Refusal::GlobalMaxConnections,
        Full::Clients => Refusal::GlobalMaxClients,
    }
}

pub(super) fn is_applied<M: Mesh>(mark: Mark, mesh: &mut M) -> bool {
    mesh.everyone_applied(mark.member, mark.incarnation, mark.position)
}
