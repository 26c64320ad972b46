//! Persistent sessions: what waits for their clients, and what their clients acknowledge.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::base::clock::Instant;
use crate::base::ids::ClientNumber;
use crate::base::limits::{OVERFLOW_BYTES_PAUSE, RETAINED_STEPS_PER_TURN};
use crate::base::log::LogType;
use crate::directory::ClaimKey;
use crate::ipc::mesh::{AckKind, Deliver, ToWorker};
use crate::mqtt::{PacketId, Qos};
use crate::queue::{Entry, Next, Pushed, Queue, Sending};
use crate::ring::{Cx, Mesh};

use super::Store;
use super::message::StoredMessage;
use super::subscribe::{Gap, Subscription};

/// A session that outlives its connections.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Seconds that it outlives a connection.
    pub expiry: u32,
    /// When it ends, while there is no connection.
    pub expires_at: Option<Instant>,
    pub subscriptions: BTreeMap<Box<str>, Subscription>,
    pub queue: Queue<Rc<StoredMessage>, Gap>,
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

impl Store {
    /// Puts a message behind what waits for this session, and sends what its client can take.
    pub(super) fn enqueue<M: Mesh>(
        &mut self,
        client: ClientNumber,
        entry: Entry<Rc<StoredMessage>>,
        cx: &mut Cx<'_, M>,
    ) {
        let limits = self.limits();
        let holder = self.directory.holder(client);
        let kept = self.directory.get_mut(client);
        let Some(session) = kept.and_then(|c| c.session.as_mut()) else {
            return;
        };
        if entry.qos == Qos::AtMostOnce {
            if !session.queue.is_attached() && !self.settings.queue_qos0_messages {
                return;
            }
            let has_room = cx.mesh.overflow_bytes() <= OVERFLOW_BYTES_PAUSE;
            if has_room
                && session.queue.is_clear_for_qos0()
                && let Some(holder) = holder
            {
                let sending = Sending {
                    packet_id: None,
                    dup: false,
                    entry,
                };
                deliver(holder, &sending, cx.mesh, &mut self.scratch);
                return;
            }
        }
        if session.queue.push(entry, limits, cx.now) == (Pushed::Dropped { first: true })
            && let Some(id) = self.directory.id(client)
        {
            cx.log.line(
                LogType::Notice,
                format_args!("Outgoing messages are being dropped for client {id}."),
            );
        }
        self.feed(client, cx);
    }

    /// Sends what the client can take now.
    pub(super) fn feed<M: Mesh>(&mut self, client: ClientNumber, cx: &mut Cx<'_, M>) {
        let Some(holder) = self.directory.holder(client).filter(|h| self.reads(*h)) else {
            return;
        };
        if self.feed_held(client, holder, cx) == Fed::All {
            return;
        }
        let kept = self.directory.get_mut(client);
        if let Some(session) = kept.and_then(|c| c.session.as_mut())
            && !std::mem::replace(&mut session.is_stalled, true)
        {
            self.stalled.push(client);
        }
        self.look_again_soon(cx.now);
    }

    fn feed_held<M: Mesh>(
        &mut self,
        client: ClientNumber,
        holder: ClaimKey,
        cx: &mut Cx<'_, M>,
    ) -> Fed {
        let kept = self.directory.get_mut(client);
        let Some(session) = kept.and_then(|c| c.session.as_mut()) else {
            return Fed::All;
        };
        let queue = &mut session.queue;
        let kept = (&self.retained, self.settings.queue_qos0_messages);
        let mut steps = RETAINED_STEPS_PER_TURN;
        loop {
            if cx.mesh.overflow_bytes() > OVERFLOW_BYTES_PAUSE || steps == 0 {
                return Fed::Stalled;
            }
            match queue.next(cx.now) {
                None => return Fed::All,
                Some(Next::Pubrel(packet_id)) => {
                    let claim = holder.serial;
                    let again = ToWorker::Pubrel { claim, packet_id };
                    again.append(cx.mesh, holder.member, &mut self.scratch);
                }
                Some(Next::Publish(sending)) => {
                    deliver(holder, &sending, cx.mesh, &mut self.scratch);
                }
                Some(Next::Gap(gap)) => {
                    if !gap.is_ready {
                        return Fed::All;
                    }
                    let Some((entry, topic)) = gap.look_up(client, kept, cx.now, &mut steps) else {
                        if steps > 0 {
                            queue.close_gap();
                        }
                        continue;
                    };
                    let Some(sending) = queue.send_now(entry) else {
                        return Fed::All;
                    };
                    if let Some(gap) = queue.gaps_mut().next() {
                        gap.sent(topic);
                    }
                    deliver(holder, &sending, cx.mesh, &mut self.scratch);
                }
            }
        }
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
            AckKind::Pubrec => session.queue.pubrec(packet_id, code) && code >= 0x80,
            AckKind::Pubcomp => session.queue.pubcomp(packet_id),
            AckKind::Pubrel => {
                session.received.remove(&packet_id.get());
                false
            }
        };
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
        let filters: Vec<&str> = session.subscriptions.keys().map(|f| &**f).collect();
        self.remove_filters(client, &filters, cx);
    }
}

fn deliver<M: Mesh>(
    holder: ClaimKey,
    sending: &Sending<Rc<StoredMessage>>,
    mesh: &mut M,
    scratch: &mut Vec<u8>,
) {
    let entry = &sending.entry;
    let record = ToWorker::Deliver(Deliver {
        claim: holder.serial,
        packet_id: sending.packet_id,
        dup: sending.dup,
        subscription_ids: entry.subscription_ids.as_deref().unwrap_or(&[]).to_vec(),
        message: entry.message.as_message(entry.qos, entry.retain),
    });
    record.append(mesh, holder.member, scratch);
}
