//! Persistent sessions: what waits for their clients, and what their clients acknowledge.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::base::clock::Instant;
use crate::base::ids::{ClientNumber, ShareToken};
use crate::base::limits::OVERFLOW_BYTES_PAUSE;
use crate::base::log::LogType;
use crate::directory::{ClaimKey, Mark};
use crate::ipc::mesh::{AckKind, Deliver, ToWorker};
use crate::mqtt::{PacketId, Qos};
use crate::queue::{Entry, Limits, Next, Pushed, Queue, Sending};
use crate::retained::Retained;
use crate::ring::{Cx, Mesh};

use super::claims::NEVER;
use super::message::{Kept, StoredMessage};
use super::settings::Outgoing;
use super::subscribe::{Gap, Subscription};
use super::{Store, reads};

/// A session that outlives its connections.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Seconds that it outlives a connection.
    pub expiry: u32,
    /// When it ends, while there is no connection, and since when there is none.
    pub expires_at: Option<Instant>,
    pub absent_since: Instant,
    /// How far every outbox was when the last connection ended: what came from them directly may have been sent.
    pub left_at: Vec<Mark>,
    pub subscriptions: BTreeMap<Box<str>, Subscription>,
    pub queue: Queue<Rc<StoredMessage>, Gap>,
    /// Filters whose retained messages have their place in the queue and were not all sent.
    pub scan_bytes: usize,
    /// Packet ids of QoS 2 messages that the client sent and has not released.
    pub received: BTreeSet<u16>,
    /// Stands in the store's list of sessions to feed when there is room.
    is_stalled: bool,
}

/// Why feeding a session stopped.
#[derive(PartialEq, Eq)]
enum Fed {
    /// There is nothing to send, or the client must acknowledge first.
    All,
    /// There is more, but no room for it in the outbox, or it takes too long for one turn.
    Stalled,
}

impl Session {
    /// There is no connection: sets when it ends. `longest` is how long the operator lets it wait. Its seconds.
    pub fn wait(&mut self, longest: Option<u32>) -> u32 {
        let secs = self.expiry.min(longest.unwrap_or(NEVER));
        self.expires_at = (secs != NEVER).then(|| self.absent_since.after_secs(u64::from(secs)));
        secs
    }

    /// Puts a message behind what waits, unless it may go at once and is said to be gone.
    fn take<M: Mesh>(
        &mut self,
        entry: Entry<Rc<StoredMessage>>,
        holder: Option<ClaimKey>,
        (keeps_qos0, limits): (bool, Limits),
        (cx, scratch): (&mut Cx<'_, M>, &mut Vec<u8>),
    ) -> Pushed {
        if entry.qos == Qos::AtMostOnce {
            if !self.queue.is_attached() && !keeps_qos0 {
                return Pushed::Kept;
            }
            let has_room = cx.mesh.overflow_bytes() <= OVERFLOW_BYTES_PAUSE;
            if has_room
                && self.queue.is_clear_for_qos0()
                && let Some(holder) = holder
            {
                let sending = Sending {
                    packet_id: None,
                    dup: false,
                    entry,
                };
                deliver(holder, &sending, None, cx.mesh, scratch);
                return Pushed::Kept;
            }
        }
        self.queue.push(entry, limits, cx.now)
    }

    /// Sends what the client can take now.
    fn feed<M: Mesh>(
        &mut self,
        client: ClientNumber,
        holder: ClaimKey,
        kept: (&Retained<Kept>, Outgoing),
        steps: &mut usize,
        (cx, scratch): (&mut Cx<'_, M>, &mut Vec<u8>),
    ) -> Fed {
        let queue = &mut self.queue;
        loop {
            if cx.mesh.overflow_bytes() > OVERFLOW_BYTES_PAUSE {
                return Fed::Stalled;
            }
            match queue.next(cx.now) {
                None => return Fed::All,
                Some(Next::Pubrel(packet_id)) => {
                    let claim = holder.serial;
                    let again = ToWorker::Pubrel { claim, packet_id };
                    again.append(cx.mesh, holder.member, scratch);
                }
                Some(Next::Publish(sending)) => deliver(holder, &sending, None, cx.mesh, scratch),
                Some(Next::Gap(gap)) if !gap.is_ready => return Fed::All,
                Some(Next::Gap(_)) if *steps == 0 => return Fed::Stalled,
                Some(Next::Gap(gap)) => {
                    let before = gap.bytes;
                    let found = gap.look_up(client, kept, &self.subscriptions, cx.now, steps);
                    self.scan_bytes -= before - gap.bytes;
                    let is_over = gap.is_over();
                    let Some((entry, topic)) = found else {
                        if is_over {
                            queue.close_gap();
                        }
                        continue;
                    };
                    let Some(sending) = queue.send_now(entry) else {
                        return Fed::All;
                    };
                    if let Some(gap) = queue.oldest_gap() {
                        gap.sent(topic);
                    }
                    deliver(holder, &sending, None, cx.mesh, scratch);
                }
            }
        }
    }
}

impl Store {
    /// What may wait in one queue now.
    pub(super) fn queue_limits(&self) -> Limits {
        let taken = self.queued_bytes().saturating_add(self.queued_elsewhere);
        Limits {
            messages: self.settings.max_queued_messages,
            bytes: self.settings.max_queued_bytes,
            room: self.settings.global_max_queued_bytes.saturating_sub(taken),
            drops_oldest: self.settings.drops_oldest,
        }
    }

    /// Puts a message behind what waits for this session, and sends what its client can take.
    pub(super) fn enqueue<M: Mesh>(
        &mut self,
        client: ClientNumber,
        entry: Entry<Rc<StoredMessage>>,
        cx: &mut Cx<'_, M>,
    ) {
        let (keeps_qos0, limits) = (self.settings.queue_qos0_messages, self.queue_limits());
        let Some((holder, kept)) = self.directory.held_mut(client) else {
            return;
        };
        let Some(session) = kept.session.as_mut() else {
            return;
        };
        let out = (&mut *cx, &mut self.scratch);
        let before = session.queue.bytes_waiting();
        let pushed = session.take(entry, holder, (keeps_qos0, limits), out);
        self.bytes_waiting = self.bytes_waiting - before + session.queue.bytes_waiting();
        if let Pushed::Dropped { messages, first } = pushed {
            self.counted.publish_dropped += messages;
            if first && let Some(id) = self.directory.id(client) {
                cx.log.line(
                    LogType::Notice,
                    format_args!("Outgoing messages are being dropped for client {id}."),
                );
            }
        }
        self.feed(client, cx);
    }

    /// Sends what the client can take now.
    pub(super) fn feed<M: Mesh>(&mut self, client: ClientNumber, cx: &mut Cx<'_, M>) {
        let Some((Some(holder), kept)) = self.directory.held_mut(client) else {
            return;
        };
        let Some(session) = kept.session.as_mut() else {
            return;
        };
        if !reads(&self.readers, holder) {
            return;
        }
        let retained = (&self.retained, self.settings.outgoing());
        let out = (&mut *cx, &mut self.scratch);
        let steps = &mut self.retained_steps;
        let before = session.queue.bytes_waiting();
        let fed = session.feed(client, holder, retained, steps, out);
        self.bytes_waiting = self.bytes_waiting - before + session.queue.bytes_waiting();
        if fed == Fed::All {
            return self.take_turns(client, cx);
        }
        if !std::mem::replace(&mut session.is_stalled, true) {
            self.stalled.push(client);
        }
        self.look_again_soon(cx.now);
    }

    /// Goes on with sessions for which the outbox had no room.
    pub(super) fn feed_stalled<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        if self.stalled.is_empty() {
            return;
        }
        if cx.mesh.overflow_bytes() > OVERFLOW_BYTES_PAUSE {
            return self.look_again_soon(cx.now);
        }
        for client in std::mem::take(&mut self.stalled) {
            let kept = self.directory.get_mut(client);
            if let Some(session) = kept.and_then(|c| c.session.as_mut()) {
                session.is_stalled = false;
                self.feed(client, cx);
            }
        }
        // The first may have used up what there was for this turn.
        if !self.stalled.is_empty() {
            self.stalled.rotate_left(1);
        }
    }

    pub(super) fn ack<M: Mesh>(
        &mut self,
        key: ClaimKey,
        packet_id: PacketId,
        what: AckKind,
        code: u8,
        cx: &mut Cx<'_, M>,
    ) {
        let Some(client) = self.directory.held_by(key) else {
            return;
        };
        let kept = self.directory.get_mut(client);
        let Some(session) = kept.and_then(|c| c.session.as_mut()) else {
            return;
        };
        let has_room = match what {
            AckKind::Puback => session.queue.puback(packet_id),
            // It makes room for bytes, if not for a message.
            AckKind::Pubrec => session.queue.pubrec(packet_id, code),
            AckKind::Pubcomp => session.queue.pubcomp(packet_id),
            AckKind::Pubrel => {
                session.received.remove(&packet_id.get());
                false
            }
        };
        if what == AckKind::Puback && has_room {
            self.shared_puback(client, packet_id);
        }
        if has_room {
            self.feed(client, cx);
        }
    }

    /// Forgets this client's session, if it has one, and what it subscribed to.
    pub(super) fn end_session<M: Mesh>(&mut self, client: ClientNumber, cx: &mut Cx<'_, M>) {
        let kept = self.directory.get_mut(client);
        let Some(session) = kept.and_then(|c| c.session.take()) else {
            return;
        };
        self.bytes_waiting -= session.queue.bytes_waiting();
        self.directory.set_lasting(client, false);
        let filters: Vec<&str> = session.subscriptions.keys().map(|f| &**f).collect();
        self.remove_filters(client, &filters, cx);
        self.leave_groups(client, cx);
    }
}

pub(super) fn deliver<M: Mesh>(
    holder: ClaimKey,
    sending: &Sending<Rc<StoredMessage>>,
    token: Option<ShareToken>,
    mesh: &mut M,
    scratch: &mut Vec<u8>,
) {
    let entry = &sending.entry;
    let record = ToWorker::Deliver(Deliver {
        claim: holder.serial,
        packet_id: sending.packet_id,
        token,
        dup: sending.dup,
        subscription_ids: entry.subscription_ids.as_deref().unwrap_or(&[]).to_vec(),
        message: entry.message.as_message(entry.qos, entry.retain),
    });
    record.append(mesh, holder.member, scratch);
}
