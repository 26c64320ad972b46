//! Connections of the broker's own processes: MQTT over a socket pair that the supervisor made.
//!
//! What comes from one was said by the broker itself. It may publish below `$SYS`, no limit on clients concerns it, and
//! it is neither counted nor logged as a client. It claims nothing at the store, so it has no session, and no client
//! of the same id meets it. It can do what `internal_packet` knows, and nothing else.

use super::connection::Stage;
use super::ending::{Ending, expires_at};
use super::{AcceptedFrom, ConnId, Connection, Worker};
use crate::base::limits::QOS2_RECEIVED_MAX;
use crate::ipc::mesh::Message;
use crate::mqtt::{Ack, Connack, Connect, Packet, PacketId, Properties, Publish, Qos, Reason};
use crate::ring::{Cx, Mesh};
use crate::session::Received;

impl Worker {
    /// Takes in a connection of another part of the broker.
    pub fn accept_internal<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) -> ConnId {
        self.conns
            .insert(Connection::new(AcceptedFrom::INTERNAL, usize::MAX, cx.now))
    }

    pub(super) fn internal_packet<M: Mesh>(
        &mut self,
        id: ConnId,
        packet: &Packet<'_>,
        connected: bool,
        cx: &mut Cx<'_, M>,
    ) {
        match packet {
            Packet::Connect(connect) if !connected => self.let_in_internal(id, connect, cx),
            Packet::Publish(publish) if connected => self.internal_publish(id, publish, cx),
            Packet::Pubrel(ack) if connected => {
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.client.inbound.release(ack.packet_id);
                }
                self.say_after_last(id, &Packet::Pubcomp(accepted(ack.packet_id)), cx);
            }
            Packet::Pingreq if connected => self.say(id, &Packet::Pingresp, cx),
            Packet::Disconnect(_) => self.close(id, Ending::Clean, cx),
            _ => self.close(id, NOT_UNDERSTOOD, cx),
        }
    }

    /// The store need not be asked: nobody can hold this id.
    fn let_in_internal<M: Mesh>(&mut self, id: ConnId, connect: &Connect<'_>, cx: &mut Cx<'_, M>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.stage = Stage::Connected;
        conn.client.version = connect.version;
        conn.client.id = connect.client_id.into();
        let connack = Connack {
            session_present: false,
            code: 0,
            properties: Properties::NONE,
        };
        self.say(id, &Packet::Connack(connack), cx);
    }

    fn internal_publish<M: Mesh>(&mut self, id: ConnId, publish: &Publish<'_>, cx: &mut Cx<'_, M>) {
        let (Some(conn), Some(topic)) = (self.conns.get_mut(id), publish.topic) else {
            return self.close(id, NOT_UNDERSTOOD, cx);
        };
        let mut is_new = true;
        if let (Qos::ExactlyOnce, Some(packet_id)) = (publish.qos, publish.packet_id) {
            match conn.client.inbound.publish(packet_id, QOS2_RECEIVED_MAX) {
                Ok(received) => is_new = received == Received::New,
                Err(_) => return self.close(id, NOT_UNDERSTOOD, cx),
            }
        }
        if is_new {
            let message = Message {
                qos: publish.qos,
                retain: publish.retain,
                publisher: conn.client.number,
                packet_id: None,
                releases: None,
                expires_at: expires_at(publish.properties, cx.now),
                topic: topic.as_str(),
                properties: publish.properties.raw(),
                payload: publish.payload,
            };
            self.route(&message, cx);
        }
        match (publish.qos, publish.packet_id.map(accepted)) {
            (Qos::AtLeastOnce, Some(ack)) => self.say_after_last(id, &Packet::Puback(ack), cx),
            (Qos::ExactlyOnce, Some(ack)) => self.say_after_last(id, &Packet::Pubrec(ack), cx),
            _ => {}
        }
    }
}

/// It asks for another connection then.
const NOT_UNDERSTOOD: Ending = Ending::Protocol(Reason::ProtocolError, "an internal client");

fn accepted(packet_id: PacketId) -> Ack<'static> {
    Ack {
        packet_id,
        code: 0,
        properties: Properties::NONE,
    }
}
