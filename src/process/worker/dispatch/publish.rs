//! PUBLISH and its acknowledgements, both ways, and where a message goes.

use super::ending::{Ending, expires_at};
use super::fan_out::Fanned;
use super::filters::is_too_deep;
use super::live::Spot;
use super::say::explain;
use super::{ConnId, Worker};
use crate::base::ids::{MemberId, MemberMask, Serial};
use crate::base::limits::QOS2_RECEIVED_MAX;
use crate::base::log::LogType;
use crate::ipc::mesh::{AckKind, Class, Message, ToStore};
use crate::mqtt::property::PropertyId;
use crate::mqtt::{
    Ack, Filter, Packet, Properties, PropertiesBuilder, Property, Publish, Qos, Reason, Topic,
    Version,
};
use crate::ring::{Cx, Mesh};
use crate::session::{Received, Violation};

/// Whether a client may publish there. As in the original, `$SYS` is the broker's own, but for the state of bridges; what
/// is refused is acknowledged all the same in 3.x, which has no other answer [MQTT-3.3.5-2].
pub(super) fn may_publish(topic: Topic<'_>) -> bool {
    !topic.as_str().starts_with("$SYS")
        || Filter::trusted("$SYS/broker/connection/+/state").matches(topic)
}

impl Worker {
    pub(super) fn on_publish<M: Mesh>(
        &mut self,
        id: ConnId,
        publish: &Publish<'_>,
        cx: &mut Cx<'_, M>,
    ) {
        if publish.properties.is_empty() {
            return self.on_plain_publish(id, publish, cx);
        }
        // Only a server may say which subscription matched [MQTT-3.3.4-6].
        if publish
            .properties
            .find(PropertyId::SubscriptionIdentifier)
            .is_some()
        {
            return self.violation(id, "a subscription identifier from a client", cx);
        }
        let Some(Property::TopicAlias(alias)) = publish.properties.find(PropertyId::TopicAlias)
        else {
            return self.on_plain_publish(id, publish, cx);
        };
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        // The alias is between this client and us: it is resolved here, and goes no further.
        let maximum = conn.client.terms.topic_alias_max;
        let name = publish.topic.map(Topic::as_str);
        let topic: Box<str> = match conn.client.inbound.alias(alias, name, maximum) {
            Ok(topic) => topic.into(),
            Err((reason, what)) => return self.close(id, Ending::Protocol(reason, what), cx),
        };
        let mut builder = PropertiesBuilder::default();
        builder.push_all_but(publish.properties, PropertyId::TopicAlias);
        let properties = builder.as_properties();
        // It was checked when it came with its alias.
        let topic = Some(Topic::trusted(&topic));
        let resolved = Publish {
            topic,
            properties,
            ..*publish
        };
        self.on_plain_publish(id, &resolved, cx);
    }

    fn on_plain_publish<M: Mesh>(&mut self, id: ConnId, publish: &Publish<'_>, cx: &mut Cx<'_, M>) {
        let Some(topic) = publish.topic else {
            return self.violation(id, "PUBLISH without a topic", cx);
        };
        if is_too_deep(topic.as_str(), &self.config) {
            let reason = Reason::TopicNameInvalid;
            return self.close(
                id,
                Ending::Protocol(reason, "too many levels in a topic"),
                cx,
            );
        }
        self.on_named_publish(id, publish, topic, cx);
    }

    pub(super) fn publish_to<M: Mesh>(
        &mut self,
        id: ConnId,
        publish: &Publish<'_>,
        topic: Topic<'_>,
        cx: &mut Cx<'_, M>,
    ) {
        if let Err((reason, what)) = self.allow_publish(id, publish) {
            return self.close(id, Ending::Protocol(reason, what), cx);
        }
        self.counted.publish_bytes_received += publish.payload.len() as u64;
        if !may_publish(topic) {
            if let Some(conn) = self.conns.get(id) {
                log_publish(cx, "Denied", "from", &conn.client.id, publish, topic);
            }
            return self.acknowledge(id, publish, Reason::NotAuthorized, cx);
        }
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let receive_maximum = match conn.client.version {
            Version::V5 => usize::from(conn.client.terms.receive_maximum),
            // Clients of 3.x were never told of a window.
            _ => QOS2_RECEIVED_MAX,
        };
        if cx.log.wants(LogType::Debug) {
            log_publish(cx, "Received", "from", &conn.client.id, publish, topic);
        }
        let mut stored_id = None;
        if let (Qos::ExactlyOnce, Some(packet_id)) = (publish.qos, publish.packet_id) {
            match conn.client.inbound.publish(packet_id, receive_maximum) {
                Ok(Received::New) => {}
                Ok(Received::Repeat) => return self.acknowledge(id, publish, Reason::Success, cx),
                Err((reason, what)) => return self.close(id, Ending::Protocol(reason, what), cx),
            }
            stored_id = Some(packet_id).filter(|_| conn.client.stored);
        }
        let message = Message {
            qos: publish.qos,
            retain: publish.retain,
            publisher: conn.client.number,
            packet_id: stored_id,
            releases: None,
            expires_at: expires_at(publish.properties, cx.now),
            topic: topic.as_str(),
            properties: publish.properties.raw(),
            payload: publish.payload,
        };
        if usize::try_from(self.config.message_size_limit)
            .is_ok_and(|most| publish.payload.len() > most)
        {
            cx.log.line(
                LogType::Debug,
                format_args!(
                    "Dropped too large PUBLISH from {} ({} bytes)",
                    conn.client.id,
                    publish.payload.len()
                ),
            );
            // 0x95 is no code of PUBACK and PUBREC [MQTT-3.4.2-1].
            return self.refuse(id, publish, "payload too large", cx);
        }
        // What clears a retained message makes room.
        let clears = publish.retain && publish.payload.is_empty();
        if self.memory.is_over() && !clears {
            return self.refuse_for_memory(id, publish, cx);
        }
        let reason = if self.route(&message, cx) {
            Reason::Success
        } else {
            Reason::NoMatchingSubscribers
        };
        self.acknowledge(id, publish, reason, cx);
    }

    fn allow_publish(&self, id: ConnId, publish: &Publish<'_>) -> Result<(), Violation> {
        let conn = self.conns.get(id);
        if conn.is_some_and(|conn| publish.qos > conn.client.terms.qos_max) {
            return Err((Reason::QosNotSupported, "QoS above max_qos"));
        }
        if publish.retain && !self.config.retain_available {
            return Err((Reason::RetainNotSupported, "retain is not available"));
        }
        Ok(())
    }

    /// There is no memory for this message. Before 5.0 a server has no word for that but the end.
    fn refuse_for_memory<M: Mesh>(
        &mut self,
        id: ConnId,
        publish: &Publish<'_>,
        cx: &mut Cx<'_, M>,
    ) {
        let what = "memory_limit exceeded";
        self.counted.publish_dropped += 1;
        let conn = self.conns.get(id);
        let is_told = conn.is_some_and(|conn| conn.client.version == Version::V5);
        if is_told || publish.qos == Qos::AtMostOnce {
            self.refuse(id, publish, what, cx);
        } else {
            self.close(id, Ending::Protocol(Reason::QuotaExceeded, what), cx);
        }
    }

    fn refuse<M: Mesh>(
        &mut self,
        id: ConnId,
        publish: &Publish<'_>,
        what: &'static str,
        cx: &mut Cx<'_, M>,
    ) {
        self.answer(id, publish, (Reason::QuotaExceeded, what), cx);
    }

    fn acknowledge<M: Mesh>(
        &mut self,
        id: ConnId,
        publish: &Publish<'_>,
        reason: Reason,
        cx: &mut Cx<'_, M>,
    ) {
        self.answer(id, publish, (reason, ""), cx);
    }

    /// Sends PUBACK or PUBREC once what was said before is covered.
    fn answer<M: Mesh>(
        &mut self,
        id: ConnId,
        publish: &Publish<'_>,
        (reason, what): (Reason, &'static str),
        cx: &mut Cx<'_, M>,
    ) {
        let (Some(packet_id), Some(conn)) = (publish.packet_id, self.conns.get_mut(id)) else {
            return;
        };
        let code = if conn.client.version == Version::V5 {
            reason as u8
        } else {
            0
        };
        let words = explain(&conn.client, code, what);
        let ack = Ack {
            packet_id,
            code,
            properties: words.as_properties(),
        };
        let (packet, name) = if publish.qos == Qos::ExactlyOnce {
            if code >= 0x80 {
                // A refused message is over: its packet id is free [MQTT-4.3.3-4].
                conn.client.inbound.release(packet_id);
            }
            (Packet::Pubrec(ack), "PUBREC")
        } else {
            (Packet::Puback(ack), "PUBACK")
        };
        cx.log.line(
            LogType::Debug,
            format_args!(
                "Sending {name} to {} (m{packet_id}, rc{code})",
                conn.client.id
            ),
        );
        self.say_after_last(id, &packet, cx);
    }

    /// Sends a message to everybody who wants it: local clients at once, other members as one record. True if
    /// somebody does, or may.
    pub(super) fn route<M: Mesh>(&mut self, message: &Message<'_>, cx: &mut Cx<'_, M>) -> bool {
        let topic = Topic::trusted(message.topic);
        let wanted = self
            .foreign
            .members(topic, Class::of(message.qos))
            .union(self.joining);
        let mut to = wanted;
        if self.must_reach_store(message) {
            to = to.with(MemberId::STORE);
        }
        if !to.is_empty() {
            self.last = message.append(cx.mesh, to, &mut self.scratch);
        }
        let spot = Spot {
            member: self.me,
            incarnation: self.incarnation,
            at: self.last.0,
        };
        let fanned = self.fan_out_local(message, Some(spot), cx);
        fanned == Fanned::Some || !wanted.is_empty() || self.store_subscribing > 0
    }

    fn must_reach_store(&self, message: &Message<'_>) -> bool {
        message.retain
            || message.releases.is_some()
            || message.packet_id.is_some()
            || self.store_sharing > 0
            || (self.store_subscribing > 0
                && (message.qos != Qos::AtMostOnce || self.config.stores_every_qos()))
    }

    /// The members to whom announcements go: the store keeps no index.
    pub(super) fn indexing<M: Mesh>(cx: &Cx<'_, M>) -> MemberMask {
        cx.mesh.live().without(MemberId::STORE)
    }

    pub(super) fn on_puback<M: Mesh>(&mut self, id: ConnId, ack: &Ack<'_>, cx: &mut Cx<'_, M>) {
        self.log_ack(id, "PUBACK", ack, cx);
        self.finish(id, ack, AckKind::Puback, cx);
    }

    pub(super) fn on_pubcomp<M: Mesh>(&mut self, id: ConnId, ack: &Ack<'_>, cx: &mut Cx<'_, M>) {
        self.log_ack(id, "PUBCOMP", ack, cx);
        self.finish(id, ack, AckKind::Pubcomp, cx);
    }

    fn finish<M: Mesh>(&mut self, id: ConnId, ack: &Ack<'_>, what: AckKind, cx: &mut Cx<'_, M>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if conn.client.stored {
            self.tell_store(id, ack, what, cx);
            return;
        }
        let window = &mut conn.client.window;
        let known = match what {
            AckKind::Puback => window.puback(ack.packet_id),
            _ => window.pubcomp(ack.packet_id),
        };
        if known {
            self.settle_shared(id, ack.packet_id, cx);
            self.send_waiting(id, cx);
        } else if !std::mem::replace(&mut conn.client.warned, true) {
            // The original tolerates it, and warns; once a connection is enough.
            let (name, id) = (
                if what == AckKind::Puback {
                    "PUBACK"
                } else {
                    "PUBCOMP"
                },
                &conn.client.id,
            );
            cx.log.line(
                LogType::Warning,
                format_args!(
                    "Warning: Received {name} from {id} for an unknown packet identifier."
                ),
            );
        }
    }

    pub(super) fn on_pubrec<M: Mesh>(&mut self, id: ConnId, ack: &Ack<'_>, cx: &mut Cx<'_, M>) {
        self.log_ack(id, "PUBREC", ack, cx);
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let refused = ack.code >= 0x80;
        let mut code = 0;
        if conn.client.stored {
            self.tell_store(id, ack, AckKind::Pubrec, cx);
        } else if !conn.client.window.pubrec(ack.packet_id, refused)
            && conn.client.version == Version::V5
        {
            code = Reason::PacketIdNotFound as u8;
        }
        if refused {
            self.settle_shared(id, ack.packet_id, cx);
        } else {
            let packet_id = ack.packet_id;
            self.send_pubrel(
                id,
                Ack {
                    packet_id,
                    code,
                    properties: Properties::NONE,
                },
                cx,
            );
        }
        // It may have made room: for a message if it is over, for bytes if not.
        self.send_waiting(id, cx);
    }

    pub(super) fn send_pubrel<M: Mesh>(&mut self, id: ConnId, ack: Ack<'_>, cx: &mut Cx<'_, M>) {
        self.log_sending(id, "PUBREL", ack.packet_id.get(), cx);
        self.say_after_last(id, &Packet::Pubrel(ack), cx);
    }

    pub(super) fn on_pubrel<M: Mesh>(&mut self, id: ConnId, ack: &Ack<'_>, cx: &mut Cx<'_, M>) {
        self.log_ack(id, "PUBREL", ack, cx);
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let known = conn.client.inbound.release(ack.packet_id);
        let unknown_code = Reason::PacketIdNotFound as u8;
        let code = if known || conn.client.version != Version::V5 {
            0
        } else {
            unknown_code
        };
        if known && conn.client.stored {
            self.tell_store(id, ack, AckKind::Pubrel, cx);
        }
        self.log_sending(id, "PUBCOMP", ack.packet_id.get(), cx);
        let pubcomp = Ack {
            packet_id: ack.packet_id,
            code,
            properties: Properties::NONE,
        };
        self.say_after_last(id, &Packet::Pubcomp(pubcomp), cx);
    }

    pub(super) fn tell_store<M: Mesh>(
        &mut self,
        id: ConnId,
        ack: &Ack<'_>,
        what: AckKind,
        cx: &mut Cx<'_, M>,
    ) -> Serial {
        let record = ToStore::Ack {
            claim: id.claim(),
            packet_id: ack.packet_id,
            what,
            code: ack.code,
        };
        self.last = record.append(cx.mesh, &mut self.scratch);
        self.last
    }

    fn log_ack<M: Mesh>(&self, id: ConnId, name: &str, ack: &Ack<'_>, cx: &mut Cx<'_, M>) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let (client, packet_id, code) = (&conn.client.id, ack.packet_id, ack.code);
        cx.log.line(
            LogType::Debug,
            format_args!("Received {name} from {client} (Mid: {packet_id}, RC:{code})"),
        );
    }

    fn log_sending<M: Mesh>(&self, id: ConnId, name: &str, packet_id: u16, cx: &mut Cx<'_, M>) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        cx.log.line(
            LogType::Debug,
            format_args!("Sending {name} to {} (m{packet_id})", conn.client.id),
        );
    }
}

/// As the tutorials show it: `Received PUBLISH from ID (d0, q0, r0, m0, 'topic', ... (2 bytes))`.
fn log_publish<M: Mesh>(
    cx: &mut Cx<'_, M>,
    verb: &str,
    preposition: &str,
    client: &str,
    publish: &Publish<'_>,
    topic: Topic<'_>,
) {
    let (dup, qos, retain) = (
        u8::from(publish.dup),
        publish.qos as u8,
        u8::from(publish.retain),
    );
    let packet_id = publish.packet_id.map_or(0, std::num::NonZero::get);
    let (topic, bytes) = (topic.as_str(), publish.payload.len());
    cx.log.line(
        LogType::Debug,
        format_args!(
            "{verb} PUBLISH {preposition} {client} (d{dup}, q{qos}, r{retain}, m{packet_id}, '{topic}', ... ({bytes} bytes))"
        ),
    );
}
