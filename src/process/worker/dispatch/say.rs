//! What is said to a client: whole packets that it can take, in order, none before what it waits for is covered.

use std::collections::VecDeque;

use super::connection::{Client, Connection, Stage};
use super::ending::Ending;
use super::{ConnId, Worker, mark_dirty};
use crate::base::figures::count_packet;
use crate::base::ids::Serial;
use crate::mqtt::{
    Connack, Disconnect, Packet, PropertiesBuilder, Property, Reason, Version, encode,
};
use crate::ring::{Cx, Mesh};

/// What is counted of what is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    /// It is one packet.
    Packet,
    /// It was counted before.
    Nothing,
}

/// A packet that waits for a record to be covered.
pub(super) struct Held {
    after: Serial,
    conn: ConnId,
    bytes: Box<[u8]>,
}

impl Worker {
    /// Sends `packet` once everything that this worker has said so far is covered. That keeps acknowledgements in
    /// order too.
    pub(super) fn say_after_last<M: Mesh>(
        &mut self,
        id: ConnId,
        packet: &Packet<'_>,
        cx: &mut Cx<'_, M>,
    ) {
        self.say_after(id, self.last, packet, cx);
    }

    /// Sends `packet` with nothing to wait for but what was said to this client before.
    pub(super) fn say<M: Mesh>(&mut self, id: ConnId, packet: &Packet<'_>, cx: &mut Cx<'_, M>) {
        self.say_after(id, Serial(0), packet, cx);
    }

    fn say_after<M: Mesh>(
        &mut self,
        id: ConnId,
        after: Serial,
        packet: &Packet<'_>,
        cx: &mut Cx<'_, M>,
    ) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let (version, most) = (conn.client.version, conn.client.packet_bytes_max);
        let mut fits = true;
        self.emit(id, after, Counts::Packet, cx, |out| {
            fits = encode::encode_within(packet, version, most, out);
        });
        if !fits {
            // It may not be sent [MQTT-3.1.2-24], and without it the client waits for ever.
            let ending = Ending::Protocol(Reason::PacketTooLarge, "an answer is too large for it");
            self.close(id, ending, cx);
        }
    }

    /// Sends what `write` appends, once the record `after` is covered and behind what was said to this client before.
    pub(super) fn emit<M: Mesh>(
        &mut self,
        id: ConnId,
        after: Serial,
        counts: Counts,
        cx: &mut Cx<'_, M>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let counted = &mut self.counted;
        let counts = counts == Counts::Packet && !conn.from.is_internal();
        let write = |out: &mut Vec<u8>| {
            let at = out.len();
            write(out);
            if let (true, Some(first_byte)) = (counts, out.get(at)) {
                count_packet(&mut counted.sent, *first_byte);
            }
        };
        conn.packets_waiting += 1;
        if conn.held == 0 && after <= cx.mesh.covered() {
            conn.output.append(write);
            conn.greeted = true;
            mark_dirty(&mut self.dirty, id, conn);
            return;
        }
        let mut bytes = Vec::new();
        write(&mut bytes);
        hold(&mut self.held, self.last, id, conn, bytes);
    }

    /// Packets whose records are covered go into the outputs.
    pub(super) fn let_go<M: Mesh>(&mut self, cx: &Cx<'_, M>) {
        let covered = cx.mesh.covered();
        while self.held.front().is_some_and(|held| held.after <= covered) {
            let Some(held) = self.held.pop_front() else {
                break;
            };
            if let Some(conn) = self.conns.get_mut(held.conn) {
                conn.held -= 1;
                conn.held_bytes -= held.bytes.len();
                conn.output.push(&held.bytes);
                conn.greeted = true;
                mark_dirty(&mut self.dirty, held.conn, conn);
            }
        }
    }
}

/// Keeps a packet until the record `after` is covered.
pub(super) fn hold(
    held: &mut VecDeque<Held>,
    after: Serial,
    id: ConnId,
    conn: &mut Connection,
    bytes: Vec<u8>,
) {
    conn.held += 1;
    conn.held_bytes += bytes.len();
    held.push_back(Held {
        after,
        conn: id,
        bytes: bytes.into_boxed_slice(),
    });
}

/// A reason string for an answer with this code, if that helps and the client wants it: one that says no to problem
/// information gets none but in CONNACK and DISCONNECT [MQTT-3.1.2-29].
pub(super) fn explain(client: &Client, code: u8, what: &str) -> PropertiesBuilder {
    if client.problem_information {
        words(code, what)
    } else {
        PropertiesBuilder::default()
    }
}

fn words(code: u8, what: &str) -> PropertiesBuilder {
    let mut builder = PropertiesBuilder::default();
    if !what.is_empty() && Reason::from_u8(code).is_some_and(Reason::is_vague) {
        builder.push(Property::ReasonString(what));
    }
    builder
}

/// The last packet to a client, where its protocol has one for this.
pub(super) fn say_good_bye(conn: &mut Connection, ending: Ending) {
    let Some((code, what)) = ending.reason() else {
        return;
    };
    let (version, most) = (conn.client.version, conn.client.packet_bytes_max);
    let words = match version {
        Version::V5 => words(code, what),
        Version::V31 | Version::V311 => PropertiesBuilder::default(),
    };
    let properties = words.as_properties();
    let packet = match (conn.stage, ending) {
        (Stage::AwaitConnect | Stage::Claiming, Ending::Refused(reason, _)) => {
            let code = if version == Version::V5 {
                Some(code)
            } else {
                reason.return_code()
            };
            let Some(code) = code else { return };
            Packet::Connack(Connack {
                session_present: false,
                code,
                properties,
            })
        }
        // A server that has not sent CONNACK says nothing else [MQTT-3.14.0-1]. What is held is lost with the
        // connection, so there is nothing to wait for.
        (Stage::Connected, _) if version == Version::V5 && conn.greeted => {
            Packet::Disconnect(Disconnect { code, properties })
        }
        _ => return,
    };
    conn.output.append(|out| {
        encode::encode_within(&packet, version, most, out);
    });
}
