//! Shared subscriptions: each message to one member of each group that it matches, and back from one that leaves.
//!
//! The groups are the store's at every QoS: one place decides whose turn it is, and nothing is passed on. A
//! persistent session is given a message when its window has room; a transient one as many as its Receive Maximum,
//! each under a token that its worker gives back. What both have not acknowledged is theirs only as long as their
//! connection lives [MQTT-4.8.2-4], [MQTT-4.8.2-5].

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::base::ids::{ClientNumber, ShareToken};
use crate::base::limits::{OVERFLOW_BYTES_PAUSE, SHARED_STEPS_PER_TURN};
use crate::base::log::LogType;
use crate::directory::ClaimKey;
use crate::group::{Given, GroupId, Hold, Joined, Terms, Turn};
use crate::ipc::mesh::{Announcement, Class, Message};
use crate::mqtt::{Filter, PacketId, Qos, Topic};
use crate::queue::{Entry, Pushed, Sending};
use crate::ring::{Cx, Mesh};

use super::Store;
use super::claims::Client;
use super::message::StoredMessage;
use super::publish::share;
use super::sessions::deliver;
use super::subscribe::Subscription;

/// A message that a member holds.
type Held = Hold<Rc<StoredMessage>>;

impl Store {
    /// Makes a client a member of a group, or changes its terms. What must be announced goes into `changes`; true if
    /// it was a member before.
    pub(super) fn join_group<'a>(
        &mut self,
        client: ClientNumber,
        filter: Filter<'a>,
        subscription: Subscription,
        changes: &mut Vec<Announcement<'a>>,
    ) -> bool {
        let terms = Terms {
            qos: subscription.qos(),
            retain_as_published: subscription.retain_as_published(),
            id: subscription.id,
        };
        let Some(Joined { existed, is_first }) = self.groups.join(client, filter, terms) else {
            return false;
        };
        if let Some((_, inner)) = filter.shared().filter(|_| is_first) {
            let added = self.announced.add(inner.as_str(), Class::BOTH, &self.hash);
            changes.extend(added);
        }
        existed
    }

    /// Ends a membership; whether there was one. What must be announced goes into `changes`.
    pub(super) fn leave_group<'a>(
        &mut self,
        client: ClientNumber,
        filter: Filter<'a>,
        changes: &mut Vec<Announcement<'a>>,
    ) -> bool {
        let left = self.groups.leave(client, filter.as_str());
        if left == Some(true) {
            changes.extend(self.group_gone(filter));
        }
        left.is_some()
    }

    /// Ends all memberships of a client whose session is over.
    pub(super) fn leave_groups<M: Mesh>(&mut self, client: ClientNumber, cx: &mut Cx<'_, M>) {
        let gone = self.groups.leave_all(client);
        let names = gone.iter().map(|name| Filter::trusted(name));
        let changes: Vec<_> = names.filter_map(|name| self.group_gone(name)).collect();
        self.announced
            .say(&changes, cx.mesh.live(), cx.mesh, &mut self.scratch);
    }

    fn group_gone<'a>(&mut self, filter: Filter<'a>) -> Option<Announcement<'a>> {
        let (_, inner) = filter.shared()?;
        self.announced
            .remove(inner.as_str(), Class::BOTH, &self.hash)
    }

    /// One copy for each group that matches.
    pub(super) fn route_shared<M: Mesh>(
        &mut self,
        topic: Topic<'_>,
        message: &Message<'_>,
        stored: &mut Option<Rc<StoredMessage>>,
        cx: &mut Cx<'_, M>,
    ) {
        let upgrade = self.settings.upgrade_outgoing_qos;
        let mut found = std::mem::take(&mut self.groups_found);
        self.groups.matching(topic, &mut found);
        for group in found.drain(..) {
            let entry = Entry {
                message: share(stored, message, &self.stock),
                // It is the member's that counts then: what each of them gets is at most what is said here.
                qos: message.qos.delivered(Qos::ExactlyOnce, upgrade),
                retain: message.retain,
                subscription_ids: None,
                expires_at: message.expires_at,
                bytes: message.payload.len(),
            };
            let each = self.queue_limits();
            let keeps_qos0 = self.settings.queue_qos0_messages;
            let pushed = self.groups.push(group, entry, each, keeps_qos0, cx.now);
            if let Pushed::Dropped { messages, .. } = pushed {
                self.counted.publish_dropped += messages;
            }
            if let Pushed::Dropped { first: true, .. } = pushed
                && let Some(name) = self.groups.name(group)
            {
                cx.log.line(
                    LogType::Notice,
                    format_args!(
                        "Outgoing messages are being dropped for shared subscription {name}."
                    ),
                );
            }
            self.serve(group, cx);
        }
        self.groups_found = found;
    }

    /// Gives what waits in a group to members that can take it.
    fn serve<M: Mesh>(&mut self, group: GroupId, cx: &mut Cx<'_, M>) {
        while let Some(turn) = self.groups.turn(group, cx.now) {
            if cx.mesh.overflow_bytes() > OVERFLOW_BYTES_PAUSE {
                self.groups.put_off(group);
                return self.look_again_soon(cx.now);
            }
            if self.offer(turn, cx) {
                continue;
            }
            // To ask a hundred thousand members without room takes more than one turn.
            self.shared_steps = self.shared_steps.saturating_sub(1);
            if self.shared_steps == 0 {
                self.groups.put_off(group);
                self.again = true;
                return;
            }
        }
    }

    /// Gives a member the message whose turn it is for, if it can take it.
    fn offer<M: Mesh>(&mut self, turn: Turn, cx: &mut Cx<'_, M>) -> bool {
        let client = turn.client;
        let has_room = turn.qos == Qos::AtMostOnce || self.has_room(client);
        let held = self.directory.held_mut(client);
        let Some((Some(holder), kept)) = held.filter(|_| has_room) else {
            if has_room {
                // It has no connection, whatever the groups believe.
                self.groups.go(client);
            } else {
                self.groups.park(turn);
            }
            return false;
        };
        let Some(Given { entry, hold }) = self.groups.give(turn) else {
            return false;
        };
        let qos = entry.qos;
        let (sending, token) = match &mut kept.session {
            _ if qos == Qos::AtMostOnce => (at_once(entry), None),
            None => (at_once(entry), Some(self.groups.hold(client, hold))),
            Some(session) => {
                let Some(sending) = session.queue.send_now(entry) else {
                    return false;
                };
                // At QoS 2 it is the session's to the end.
                if let Some(id) = sending.packet_id.filter(|_| qos == Qos::AtLeastOnce) {
                    self.groups.hold_as(client, token_of(id), hold);
                }
                (sending, None)
            }
        };
        deliver(holder, &sending, token, cx.mesh, &mut self.scratch);
        true
    }

    /// Whether one more message of QoS 1 or 2 may be under way to this client.
    fn has_room(&self, client: ClientNumber) -> bool {
        match self.directory.get(client) {
            Some(Client {
                session: Some(session),
                ..
            }) => session.queue.has_window(),
            Some(kept) => self.groups.held(client) < usize::from(kept.window),
            None => false,
        }
    }

    /// A client has room again: the groups that did without it ask it again.
    pub(super) fn take_turns<M: Mesh>(&mut self, client: ClientNumber, cx: &mut Cx<'_, M>) {
        while self.groups.is_parked(client) && self.has_room(client) {
            if let Some(group) = self.groups.unpark(client) {
                self.serve(group, cx);
            }
        }
    }

    /// Goes on with groups that could not be served to the end, or whose members have changed.
    pub(super) fn serve_due<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        self.shared_steps = SHARED_STEPS_PER_TURN;
        // What is put off meanwhile is for the next turn.
        for _ in 0..self.groups.due() {
            let Some(group) = self.groups.next_due() else {
                return;
            };
            self.serve(group, cx);
        }
        self.again |= self.groups.due() > 0 && cx.mesh.overflow_bytes() <= OVERFLOW_BYTES_PAUSE;
    }

    /// A persistent session's client has acknowledged a message of QoS 1; it may have been a shared one.
    pub(super) fn shared_puback(&mut self, client: ClientNumber, packet_id: PacketId) {
        self.groups.settle(client, token_of(packet_id));
    }

    /// Messages of a transient session are done.
    pub(super) fn settled<M: Mesh>(
        &mut self,
        key: ClaimKey,
        tokens: &[ShareToken],
        cx: &mut Cx<'_, M>,
    ) {
        let Some(client) = self.transient(key) else {
            return;
        };
        for token in tokens {
            self.groups.settle(client, *token);
        }
        self.take_turns(client, cx);
    }

    /// A transient session is about to be released; these messages never were on the wire.
    pub(super) fn unsent(&mut self, key: ClaimKey, seen: ShareToken, tokens: &[ShareToken]) {
        let Some(client) = self.transient(key) else {
            return;
        };
        let tokens: BTreeSet<_> = tokens.iter().collect();
        self.groups.go(client);
        self.groups
            .take_back(client, |token, _| token > seen || tokens.contains(&token));
    }

    /// The client of this connection, if its session is no persistent one.
    fn transient(&self, key: ClaimKey) -> Option<ClientNumber> {
        let client = self.directory.held_by(key)?;
        let kept = self.directory.get(client)?;
        kept.session.is_none().then_some(client)
    }

    /// A client's connection is over, and nothing that it has said is unread. What it did not acknowledge at QoS 1
    /// goes back to the groups. At QoS 2 it is sent to nobody else: a persistent session completes it later, a
    /// transient one never.
    pub(super) fn give_back<M: Mesh>(&mut self, client: ClientNumber, cx: &mut Cx<'_, M>) {
        self.groups.go(client);
        let is_qos1 = |_, hold: &Held| hold.qos == Qos::AtLeastOnce;
        let taken = self.groups.take_back(client, is_qos1);
        match self
            .directory
            .get_mut(client)
            .and_then(|c| c.session.as_mut())
        {
            Some(session) => {
                for id in taken.into_iter().filter_map(packet_id_of) {
                    session.queue.puback(id);
                }
            }
            None => self.leave_groups(client, cx),
        }
    }
}

/// A message that has no packet id of the store's.
fn at_once(entry: Entry<Rc<StoredMessage>>) -> Sending<Rc<StoredMessage>> {
    Sending {
        packet_id: None,
        dup: false,
        entry,
    }
}

/// What a persistent session holds is named by its packet id.
fn token_of(id: PacketId) -> ShareToken {
    ShareToken(u64::from(id.get()))
}

fn packet_id_of(token: ShareToken) -> Option<PacketId> {
    u16::try_from(token.0).ok().and_then(PacketId::new)
}
