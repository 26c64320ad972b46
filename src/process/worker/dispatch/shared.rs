//! Shared messages of transient sessions: the store gives each under a token, and wants it back.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::connection::{Client, Connection};
use super::{ConnId, Worker};
use crate::base::ids::ShareToken;
use crate::ipc::mesh::ToStore;
use crate::mqtt::PacketId;
use crate::ring::{Cx, Mesh};

/// The shared messages of one transient session.
#[derive(Debug, Default)]
pub struct Shares {
    /// Came last from the store.
    seen: ShareToken,
    /// Those on the wire. This broker gives out the ids, so nobody can choose them such that their hashes collide.
    on_wire: HashMap<PacketId, ShareToken, FixedState>,
}

impl Client {
    /// The store has given it a message.
    pub(super) fn saw(&mut self, token: Option<ShareToken>) {
        if let (Some(shares), Some(token)) = (&mut self.shares, token) {
            shares.seen = token;
        }
    }

    /// A message goes to the wire under this packet id.
    pub(super) fn on_wire(&mut self, packet_id: PacketId, token: Option<ShareToken>) {
        if let (Some(shares), Some(token)) = (&mut self.shares, token) {
            shares.on_wire.insert(packet_id, token);
        }
    }
}

impl Worker {
    /// A transient session subscribes to a group.
    pub(super) fn shares(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.client.shares.get_or_insert_default();
        }
    }

    /// A packet id is free again: if it was a shared message's, the store hears that it is done.
    pub(super) fn settle_shared<M: Mesh>(
        &mut self,
        id: ConnId,
        packet_id: PacketId,
        cx: &mut Cx<'_, M>,
    ) {
        let conn = self.conns.get_mut(id);
        let shares = conn.and_then(|c| c.client.shares.as_mut());
        if let Some(token) = shares.and_then(|s| s.on_wire.remove(&packet_id)) {
            self.settle(id, vec![token], cx);
        }
    }

    /// Tells the store that these messages are done.
    pub(super) fn settle<M: Mesh>(
        &mut self,
        id: ConnId,
        tokens: Vec<ShareToken>,
        cx: &mut Cx<'_, M>,
    ) {
        if tokens.is_empty() {
            return;
        }
        let claim = id.claim();
        self.last = ToStore::Settled { claim, tokens }.append(cx.mesh, &mut self.scratch);
    }

    /// The connection ends: the store learns which messages never were on the wire. Those may go to others, whatever
    /// their QoS.
    pub(super) fn give_back_unsent<M: Mesh>(
        &mut self,
        id: ConnId,
        conn: &Connection,
        cx: &mut Cx<'_, M>,
    ) {
        let Some(shares) = &conn.client.shares else {
            return;
        };
        let record = ToStore::Unsent {
            claim: id.claim(),
            seen: shares.seen,
            tokens: conn.client.window.shared_waiting().collect(),
        };
        self.last = record.append(cx.mesh, &mut self.scratch);
    }
}
