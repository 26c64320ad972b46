//! A message to many connections: matched once, encoded once per wire form, the bytes shared.

use std::rc::Rc;

use super::connection::{Connection, LocalSubscription, Stage};
use super::forms::{Forms, Wire};
use super::live::Spot;
use super::say::hold;
use super::{ConnId, Worker, mark_dirty};
use crate::base::figures::{Figures, count_packet};
use crate::base::ids::{ClaimSerial, ShareToken};
use crate::base::log::LogType;
use crate::ipc::mesh::{Deliver, Message};
use crate::mqtt::{Ack, PacketId, Properties, Qos, Topic};
use crate::ring::{Cx, Mesh};
use crate::session::{Place, Queued, QueuedMessage};

/// Whether a fan-out found anybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fanned {
    None,
    Some,
}

/// What fan-outs use again and again.
#[derive(Default)]
pub(super) struct FanOut {
    /// Counts fan-outs, so that a connection knows whether it is among the targets already.
    stamp: u64,
    targets: Vec<Target>,
    forms: Forms,
}

impl FanOut {
    /// Keeps no payload beyond the turn: an idle worker would keep the last large one for ever.
    pub fn end_turn(&mut self) {
        self.forms.shared = None;
    }

    /// Whether a payload is kept for further receivers.
    #[cfg(test)]
    pub fn keeps_payload(&self) -> bool {
        self.forms.shared.is_some()
    }
}

/// One receiver of a message.
#[derive(Debug)]
pub(super) struct Target {
    conn: ConnId,
    pub qos: Qos,
    pub retain: bool,
    pub subscription_ids: Vec<u32>,
    /// Of a shared message of QoS 1 or 2.
    token: Option<ShareToken>,
    /// Nothing of a slice of retained messages is dropped because its client reads slowly: no further one is asked for
    /// until it has read.
    is_asked_for: bool,
}

impl Worker {
    /// Sends a message to the clients of this worker that subscribed to it.
    pub(super) fn fan_out_local<M: Mesh>(
        &mut self,
        message: &Message<'_>,
        spot: Option<Spot>,
        cx: &mut Cx<'_, M>,
    ) -> Fanned {
        if self.local.is_empty() || message.expires_at.is_some_and(|at| at <= cx.now) {
            return Fanned::None;
        }
        self.find_targets(message, spot);
        if self.fan_out.targets.is_empty() {
            return Fanned::None;
        }
        let targets = std::mem::take(&mut self.fan_out.targets);
        self.fan_out.forms.begin();
        let mut copy = None;
        for target in &targets {
            self.send(target, message, &mut copy, cx);
        }
        self.fan_out.targets = targets;
        Fanned::Some
    }

    /// One target per client, however many of its filters match: at the highest QoS [MQTT-3.3.5-1], with all the
    /// subscription identifiers.
    fn find_targets(&mut self, message: &Message<'_>, spot: Option<Spot>) {
        let Self {
            local,
            conns,
            fan_out,
            interest,
            config,
            ..
        } = self;
        let FanOut { stamp, targets, .. } = fan_out;
        *stamp += 1;
        targets.clear();
        let topic = Topic::trusted(message.topic);
        local.for_each_match(topic, |id, subscription: &LocalSubscription| {
            let Some(conn) = conns.get_mut(id) else {
                return;
            };
            let client = &conn.client;
            let options = subscription.options;
            // A stored session has one path for each message: QoS 1 and 2 come through the store.
            let elsewhere = client.stored && message.qos != Qos::AtMostOnce;
            let own = options.no_local && client.number == message.publisher;
            if elsewhere || own || conn.stage != Stage::Connected {
                return;
            }
            // One that is not retained takes no retained message's place.
            if let Some(spot) = spot.filter(|_| message.retain && client.retained_pending > 0) {
                let topic = interest.hash().of(message.topic);
                conn.client.seen_live.note(topic, spot);
            }
            let qos = message
                .qos
                .delivered(options.qos, config.upgrade_outgoing_qos);
            let retain = options.retain_as_published && message.retain;
            let known = targets
                .get_mut(conn.reached.1)
                .filter(|_| conn.reached.0 == *stamp);
            match known {
                Some(target) => {
                    target.qos = target.qos.max(qos);
                    target.retain |= retain;
                    target.subscription_ids.extend(identifier(subscription));
                }
                None => {
                    conn.reached = (*stamp, targets.len());
                    let subscription_ids = identifier(subscription).into_iter().collect();
                    targets.push(Target {
                        conn: id,
                        qos,
                        retain,
                        subscription_ids,
                        token: None,
                        is_asked_for: false,
                    });
                }
            }
        });
    }

    /// A message for one client alone, retained or out of its session's queue. The packet id is the store's, or is to
    /// be given here.
    pub(super) fn send_one<M: Mesh>(
        &mut self,
        id: ConnId,
        message: &Message<'_>,
        wire: (Qos, bool, Vec<u32>),
        cx: &mut Cx<'_, M>,
    ) {
        let (qos, retain, subscription_ids) = wire;
        self.fan_out.forms.begin();
        self.send(
            &Target {
                conn: id,
                qos,
                retain,
                subscription_ids,
                token: None,
                is_asked_for: true,
            },
            message,
            &mut None,
            cx,
        );
    }

    fn send<M: Mesh>(
        &mut self,
        target: &Target,
        message: &Message<'_>,
        copy: &mut Option<Rc<QueuedMessage>>,
        cx: &mut Cx<'_, M>,
    ) {
        let Some(conn) = self.conns.get_mut(target.conn) else {
            return;
        };
        let form = self
            .fan_out
            .forms
            .form(conn.client.version, target, message, cx.now);
        // A packet that is too large for a client is not sent to it [MQTT-3.1.2-24].
        let forms = &self.fan_out.forms;
        let Some(wire) = forms.wire(form, &conn.client, message.topic, true) else {
            return self.settle(target.conn, target.token.into_iter().collect(), cx);
        };
        let blocked = conn.is_full();
        let mut packet_id = None;
        if target.qos == Qos::AtMostOnce {
            if blocked && !target.is_asked_for {
                return drop_message(&mut conn.dropping, &mut self.counted, &conn.client.id, cx);
            }
            conn.dropping = false;
        } else {
            let limits = self.backlog.limits(&self.config);
            let window = &mut conn.client.window;
            let before = window.waiting_bytes();
            let place = window.place(target.qos, message.payload.len(), blocked, limits);
            self.backlog.change(before, window.waiting_bytes());
            match place {
                Place::Wire(id) => {
                    packet_id = Some(id);
                    conn.client.on_wire(id, target.token);
                }
                Place::Full { dropped } if target.token.is_none() => {
                    let (dropping, counted) = (&mut window.dropping, &mut self.counted);
                    return drop_messages(dropped + 1, dropping, counted, &conn.client.id, cx);
                }
                // The store gives no more shared messages than the window takes.
                Place::Queue { dropped } | Place::Full { dropped } => {
                    let (dropping, counted) = (&mut window.dropping, &mut self.counted);
                    drop_messages(dropped, dropping, counted, &conn.client.id, cx);
                    let message = copy.get_or_insert_with(|| Rc::new(owned(message))).clone();
                    let (qos, retain) = (target.qos, target.retain);
                    let subscription_ids = target.subscription_ids.clone();
                    self.backlog.change(0, message.payload.len() as u64);
                    return window.queue(Queued {
                        qos,
                        retain,
                        subscription_ids,
                        token: target.token,
                        message,
                    });
                }
            }
        }
        self.put(target, wire, (packet_id, false), message, cx);
    }

    /// The store feeds a stored session: its packet ids are given, its window is kept there. Or it is a transient
    /// session's turn in a group: its window is kept here.
    pub(super) fn on_deliver<M: Mesh>(&mut self, deliver: Deliver<'_>, cx: &mut Cx<'_, M>) {
        let id = ConnId::of(deliver.claim);
        let message = &deliver.message;
        let Some(conn) = self
            .conns
            .get_mut(id)
            .filter(|c| c.stage == Stage::Connected)
        else {
            return;
        };
        let target = Target {
            conn: id,
            qos: message.qos,
            retain: message.retain,
            subscription_ids: deliver.subscription_ids,
            token: deliver.token,
            is_asked_for: false,
        };
        self.fan_out.forms.begin();
        if !conn.client.stored {
            conn.client.saw(deliver.token);
            return self.send(&target, message, &mut None, cx);
        }
        let form = self
            .fan_out
            .forms
            .form(conn.client.version, &target, message, cx.now);
        let forms = &self.fan_out.forms;
        let may_give = conn.client.subacks_owed == 0;
        let Some(wire) = forms.wire(form, &conn.client, message.topic, may_give) else {
            // The client will never acknowledge what it cannot be sent: the store lets go of it.
            return self.skip_delivery(deliver.claim, deliver.packet_id, message.qos, cx);
        };
        let own = (deliver.packet_id, deliver.dup);
        if deliver.packet_id.is_none() && conn.is_full() {
            return drop_message(&mut conn.dropping, &mut self.counted, &conn.client.id, cx);
        }
        if conn.client.subacks_owed > 0 {
            count_publish(&mut self.counted, conn, message);
            log_sending(conn, &target, deliver.packet_id, deliver.dup, message, cx);
            let behind = &mut conn.client.behind_suback;
            forms.write(&wire, message.topic, own, behind);
            return behind.extend_from_slice(forms.shared.as_deref().unwrap_or_default());
        }
        self.put(&target, wire, own, message, cx);
    }

    fn skip_delivery<M: Mesh>(
        &mut self,
        claim: ClaimSerial,
        packet_id: Option<PacketId>,
        qos: Qos,
        cx: &mut Cx<'_, M>,
    ) {
        let Some(packet_id) = packet_id else { return };
        let id = ConnId::of(claim);
        let too_large = crate::mqtt::Reason::PacketTooLarge as u8;
        let ack = Ack {
            packet_id,
            code: too_large,
            properties: Properties::NONE,
        };
        self.refuse_delivery(id, &ack, qos, cx);
    }

    /// Sends what waits for room in a client's window or output.
    pub(super) fn send_waiting<M: Mesh>(&mut self, id: ConnId, cx: &mut Cx<'_, M>) {
        while let Some((packet_id, queued)) = self.next_waiting(id, cx) {
            let Queued {
                qos,
                retain,
                subscription_ids,
                token,
                message: copy,
            } = queued;
            let message = Message {
                qos,
                retain,
                publisher: crate::base::ids::ClientNumber(0),
                packet_id: None,
                releases: None,
                expires_at: copy.expires_at,
                topic: &copy.topic,
                properties: &copy.properties,
                payload: &copy.payload,
            };
            let target = Target {
                conn: id,
                qos,
                retain,
                subscription_ids,
                token,
                is_asked_for: false,
            };
            let Some(conn) = self.conns.get_mut(id) else {
                return;
            };
            conn.client.on_wire(packet_id, token);
            self.fan_out.forms.begin();
            let form = self
                .fan_out
                .forms
                .form(conn.client.version, &target, &message, cx.now);
            let forms = &self.fan_out.forms;
            match forms.wire(form, &conn.client, message.topic, true) {
                Some(wire) => self.put(&target, wire, (Some(packet_id), false), &message, cx),
                // It fitted when it was queued, and its size does not change; but nothing may hang on that.
                None => {
                    conn.client.window.give_up(packet_id);
                    self.settle_shared(id, packet_id, cx);
                }
            }
        }
        self.go_on_with_retained(id, cx);
    }

    fn next_waiting<M: Mesh>(
        &mut self,
        id: ConnId,
        cx: &mut Cx<'_, M>,
    ) -> Option<(PacketId, Queued)> {
        let conn = self.conns.get_mut(id).filter(|conn| !conn.is_full())?;
        let before = conn.client.window.waiting_bytes();
        let next = conn.client.window.next(cx.now);
        let after = conn.client.window.waiting_bytes();
        self.backlog.change(before, after);
        let expired = conn.client.window.take_expired();
        self.settle(id, expired, cx);
        next
    }

    /// Puts a form into a connection's output, or behind what is held for it. The packet id and whether it is a
    /// repetition are this receiver's own.
    fn put<M: Mesh>(
        &mut self,
        target: &Target,
        wire: Wire,
        own: (Option<PacketId>, bool),
        message: &Message<'_>,
        cx: &mut Cx<'_, M>,
    ) {
        let Some(conn) = self.conns.get_mut(target.conn) else {
            return;
        };
        let (packet_id, dup) = own;
        count_publish(&mut self.counted, conn, message);
        log_sending(conn, target, packet_id, dup, message, cx);
        wire.give_alias(&mut conn.client, message.topic);
        let forms = &self.fan_out.forms;
        if conn.held > 0 {
            let mut bytes = Vec::with_capacity(wire.len_about());
            forms.write(&wire, message.topic, own, &mut bytes);
            bytes.extend_from_slice(forms.shared.as_deref().unwrap_or_default());
            return hold(&mut self.held, self.last, target.conn, conn, bytes);
        }
        conn.output
            .append(|out| forms.write(&wire, message.topic, own, out));
        if let Some(payload) = &forms.shared {
            conn.output.push_shared(payload.clone());
        }
        mark_dirty(&mut self.dirty, target.conn, conn);
    }
}

fn count_publish(counted: &mut Figures, conn: &mut Connection, message: &Message<'_>) {
    count_packet(&mut counted.sent, PUBLISH);
    counted.publish_bytes_sent += message.payload.len() as u64;
    conn.packets_waiting += 1;
}

/// How the first byte of a PUBLISH begins.
const PUBLISH: u8 = 0x30;

fn identifier(subscription: &LocalSubscription) -> Option<u32> {
    Some(subscription.identifier).filter(|id| *id != 0)
}

fn owned(message: &Message<'_>) -> QueuedMessage {
    QueuedMessage {
        topic: message.topic.into(),
        properties: message.properties.into(),
        payload: message.payload.into(),
        expires_at: message.expires_at,
    }
}

/// Once an episode, in the words of the original.
fn drop_message<M: Mesh>(
    dropping: &mut bool,
    counted: &mut Figures,
    client: &str,
    cx: &mut Cx<'_, M>,
) {
    drop_messages(1, dropping, counted, client, cx);
}

fn drop_messages<M: Mesh>(
    messages: u64,
    dropping: &mut bool,
    counted: &mut Figures,
    client: &str,
    cx: &mut Cx<'_, M>,
) {
    counted.publish_dropped += messages;
    if messages > 0 && !std::mem::replace(dropping, true) {
        cx.log.line(
            LogType::Notice,
            format_args!("Outgoing messages are being dropped for client {client}."),
        );
    }
}

fn log_sending<M: Mesh>(
    conn: &Connection,
    target: &Target,
    packet_id: Option<PacketId>,
    dup: bool,
    message: &Message<'_>,
    cx: &mut Cx<'_, M>,
) {
    if !cx.log.wants(LogType::Debug) {
        return;
    }
    let (client, dup, qos, retain) = (
        &conn.client.id,
        u8::from(dup),
        target.qos as u8,
        u8::from(target.retain),
    );
    let packet_id = packet_id.map_or(0, PacketId::get);
    let (topic, bytes) = (message.topic, message.payload.len());
    cx.log.line(
        LogType::Debug,
        format_args!(
            "Sending PUBLISH to {client} (d{dup}, q{qos}, r{retain}, m{packet_id}, '{topic}', ... ({bytes} bytes))"
        ),
    );
}
