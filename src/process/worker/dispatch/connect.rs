//! CONNECT to CONNACK: let in or refuse, claim the client id at the store, answer.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::Hasher;

use super::connection::{Connection, LocalSubscription, Stage, Will, options_from};
use super::ending::Ending;
use super::filters::is_too_deep;
use super::mount::Mount;
use super::publish::may_publish;
use super::{ConnId, Worker, mark_dirty};
use crate::base::ids::{ClaimSerial, ClientNumber};
use crate::base::log::LogType;
use crate::config::Config;
use crate::ipc::mesh::{Claim, Refusal, ToStore};
use crate::mqtt::{
    Connack, Connect, DecodeError, Filter, Packet, Properties, PropertiesBuilder, Property, Qos,
    Reason, Topic, Version, encode, property::PropertyId,
};
use crate::ring::{Cx, Mesh};
use crate::session::{self, Admission, Aliases, Window, admit, admit_again};

impl Worker {
    pub(super) fn on_connect<M: Mesh>(
        &mut self,
        id: ConnId,
        connect: &Connect<'_>,
        cx: &mut Cx<'_, M>,
    ) {
        let config = self.config.clone();
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.client.version = connect.version;
        conn.client.id = connect.client_id.into();
        let Some(listener) = config.listeners.get(usize::from(conn.from.listener)) else {
            // The listener was removed while this connection waited.
            return self.close(
                id,
                Ending::Refused(Reason::ServerUnavailable, "listener removed"),
                cx,
            );
        };
        if self.memory.is_over() {
            let busy = Ending::Refused(Reason::ServerBusy, "memory_limit exceeded");
            return self.close(id, busy, cx);
        }
        if let Some(will) = &connect.will
            && is_too_deep(will.topic.as_str(), &config)
        {
            let reason = Reason::TopicNameInvalid;
            let what = "too many levels in the topic of the will";
            return self.close(id, Ending::Refused(reason, what), cx);
        }
        let terms = match admit(connect, listener, &config) {
            Ok(terms) => terms,
            Err(refusal) => {
                return self.close(id, Ending::Refused(refusal.reason, refusal.what), cx);
            }
        };
        let mount = Mount::new(listener.mount_point.as_ref());
        let will = match will_of(connect, terms.will_delay, mount.as_ref()) {
            Ok(will) => will,
            Err(what) => {
                return self.close(id, Ending::Refused(Reason::TopicNameInvalid, what), cx);
            }
        };
        (conn.client.mount, conn.client.will) = (mount, will);
        if terms.assign_id {
            let prefix = listener
                .auto_id_prefix
                .as_ref()
                .unwrap_or(&config.auto_id_prefix);
            let assigned = self.assign_id(prefix);
            if let Some(conn) = self.conns.get_mut(id) {
                conn.client.id = assigned;
            }
        }
        if let (true, Some(name), Some(conn)) = (
            terms.id_is_username,
            connect.username,
            self.conns.get_mut(id),
        ) {
            conn.client.id = name.into();
        }
        self.claim(id, connect, &terms, cx);
    }

    fn claim<M: Mesh>(
        &mut self,
        id: ConnId,
        connect: &Connect<'_>,
        terms: &Admission,
        cx: &mut Cx<'_, M>,
    ) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let client = &mut conn.client;
        client.bridge = connect.bridge;
        client.clean_start = connect.clean_start;
        client.keep_alive = terms.keep_alive;
        client.tell_keep_alive = terms.keep_alive_changed;
        client.tell_id = terms.assign_id;
        client.expiry = terms.expiry;
        client.expiry_at_connect = terms.expiry;
        client.tell_expiry = terms.expiry_changed;
        client.packet_bytes_max = terms.packet_bytes_max;
        client.problem_information = terms.problem_information;
        client.aliases = Aliases::new(terms.topic_alias_maximum);
        client.terms = terms.terms;
        client.window = Window::new(terms.receive_maximum, self.config.max_inflight_bytes);
        if let Some(user) = connect.username {
            client.username = Some(user.into());
        }
        if !self.connack_fits(id) {
            // A client that does not know its limits would break them.
            return self.close(id, Ending::Unanswerable, cx);
        }
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let client = &conn.client;
        conn.stage = Stage::Claiming;
        let claim = ToStore::Claim(Claim {
            claim: id.claim(),
            listener: conn.from.listener,
            client_id: &client.id,
            clean_start: client.clean_start,
            is_pointless: conn.is_pointless,
            expiry: client.expiry,
            receive_maximum: terms.receive_maximum,
            will: client.will.as_ref().map(Will::record),
        });
        self.last = claim.append(cx.mesh, &mut self.scratch);
    }

    /// A client id that nobody can guess: the prefix and a UUID.
    fn assign_id(&mut self, prefix: &str) -> Box<str> {
        let mut halves = [0u64; 2];
        for half in &mut halves {
            self.id_state.1 += 1;
            let mut hasher = DefaultHasher::new();
            hasher.write_u128(self.id_state.0);
            hasher.write_u64(self.id_state.1);
            *half = hasher.finish();
        }
        let [high, low] = halves;
        let (high, low) = (high & !0xf000 | 0x4000, low & !(3 << 62) | 1 << 63);
        let mut id = String::from(prefix);
        // Writing to a String cannot fail.
        let _ = write!(
            id,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        );
        id.into_boxed_str()
    }

    /// The store granted a claim.
    pub(super) fn on_grant<M: Mesh>(
        &mut self,
        claim: ClaimSerial,
        number: ClientNumber,
        session: (bool, bool),
        received: &[u16],
        cx: &mut Cx<'_, M>,
    ) {
        let id = ConnId::of(claim);
        // A connection that closed meanwhile has said so to the store already.
        let Some(conn) = self
            .conns
            .get_mut(id)
            .filter(|c| c.stage == Stage::Claiming)
        else {
            return;
        };
        // While the claim waited, the operator may have decided otherwise.
        let config = self.config.clone();
        if let Err(refusal) = still_admitted(conn, &config) {
            let ending = Ending::Refused(refusal.reason, refusal.what);
            return self.close(id, ending, cx);
        }
        let (session_present, stored) = session;
        conn.stage = Stage::Connected;
        self.strangers.left(conn.from.listener);
        conn.heard = cx.now;
        conn.client.number = number;
        conn.client.stored = stored;
        conn.client.inbound.resume(received);
        if conn.client.will.is_some() {
            self.last = ToStore::Armed { claim }.append(cx.mesh, &mut self.scratch);
        }
        if conn.client.keep_alive > 0 {
            let at = cx
                .now
                .after_secs(keep_alive_grace_secs(conn.client.keep_alive));
            self.look_at(id, at, cx.now);
        }
        self.log_connected(id, cx);
        self.send_connack(id, session_present, cx);
        // At once, before the socket is read again: what came before its end counts.
        self.consume_partial(id, cx);
    }

    /// The store refused a claim.
    pub(super) fn on_refuse<M: Mesh>(
        &mut self,
        claim: ClaimSerial,
        why: Refusal,
        cx: &mut Cx<'_, M>,
    ) {
        let ending = match why {
            // No CONNACK was sent, so DISCONNECT cannot say it, and CONNACK has no code for it [MQTT-3.2.2-8].
            Refusal::Superseded => Ending::Refused(
                Reason::UnspecifiedError,
                "another connection has taken the client id",
            ),
            // As the original: without an answer.
            Refusal::MaxConnections => Ending::Crowded("max_connections"),
            Refusal::GlobalMaxConnections => Ending::Crowded("global_max_connections"),
            Refusal::GlobalMaxClients => {
                Ending::Refused(Reason::QuotaExceeded, "global_max_clients exceeded")
            }
        };
        self.close(ConnId::of(claim), ending, cx);
    }

    fn log_connected<M: Mesh>(&self, id: ConnId, cx: &mut Cx<'_, M>) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let client = &conn.client;
        if self.config.connection_messages {
            let (from, protocol) = (conn.from.peer, client.version as u8);
            let (clean, keep_alive) = (u8::from(client.clean_start), client.keep_alive);
            let id = &client.id;
            match &client.username {
                Some(user) => cx.log.line(
                    LogType::Notice,
                    format_args!("New client connected from {from} as {id} (p{protocol}, c{clean}, k{keep_alive}, u'{user}')."),
                ),
                None => cx.log.line(
                    LogType::Notice,
                    format_args!("New client connected from {from} as {id} (p{protocol}, c{clean}, k{keep_alive})."),
                ),
            }
        }
        match &client.will {
            Some(will) => {
                let (n, q, r) = (will.payload.len(), will.qos as u8, u8::from(will.retain));
                cx.log.line(
                    LogType::Debug,
                    format_args!("Will message specified ({n} bytes) (r{r}, q{q})."),
                );
                cx.log
                    .line(LogType::Debug, format_args!("\t{}", will.topic));
            }
            None => cx
                .log
                .line(LogType::Debug, format_args!("No will message specified.")),
        }
    }

    fn send_connack<M: Mesh>(&mut self, id: ConnId, session_present: bool, cx: &mut Cx<'_, M>) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        // There is no session to be present in 3.1: the byte is reserved there.
        let session_present = session_present && conn.client.version != Version::V31;
        let (name, present) = (&conn.client.id, u8::from(session_present));
        cx.log.line(
            LogType::Debug,
            format_args!("Sending CONNACK to {name} ({present}, 0)"),
        );
        let mut builder = PropertiesBuilder::default();
        if conn.client.version == Version::V5 {
            self.connack_properties(id, &mut builder);
        }
        let connack = Connack {
            session_present,
            code: 0,
            properties: builder.as_properties(),
        };
        self.say_after_last(id, &Packet::Connack(connack), cx);
    }

    /// Whether the client can take the CONNACK that lets it in [MQTT-3.1.2-24].
    fn connack_fits(&self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(id) else {
            return false;
        };
        let mut builder = PropertiesBuilder::default();
        self.connack_properties(id, &mut builder);
        let connack = Packet::Connack(Connack {
            session_present: false,
            code: 0,
            properties: builder.as_properties(),
        });
        let (version, most) = (conn.client.version, conn.client.packet_bytes_max);
        encode::encode_within(&connack, version, most, &mut Vec::new())
    }

    /// In the order of the original: scripts and tests compare bytes.
    fn connack_properties(&self, id: ConnId, builder: &mut PropertiesBuilder) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let client = &conn.client;
        let terms = client.terms;
        if terms.topic_alias_max > 0 {
            builder.push(Property::TopicAliasMaximum(terms.topic_alias_max));
        }
        if client.tell_id {
            builder.push(Property::AssignedClientIdentifier(&client.id));
        }
        if client.tell_keep_alive {
            builder.push(Property::ServerKeepAlive(client.keep_alive));
        }
        if client.tell_expiry {
            builder.push(Property::SessionExpiryInterval(client.expiry));
        }
        if !self.config.retain_available {
            builder.push(Property::RetainAvailable(false));
        }
        builder.push(Property::MaximumPacketSize(terms.packet_bytes_max));
        if terms.receive_maximum < u16::MAX {
            builder.push(Property::ReceiveMaximum(terms.receive_maximum));
        }
        if terms.qos_max != Qos::ExactlyOnce {
            builder.push(Property::MaximumQos(terms.qos_max as u8));
        }
    }

    /// The subscriptions of a stored session that continues: its QoS 0 messages come directly. They come before the
    /// grant, so that nothing that the client says can be older.
    pub(super) fn on_session_filters<M: Mesh>(
        &mut self,
        claim: ClaimSerial,
        filters: &[(u8, u32, &str)],
        cx: &mut Cx<'_, M>,
    ) {
        let id = ConnId::of(claim);
        let conn = self.conns.get_mut(id);
        let Some(conn) = conn.filter(|c| c.stage == Stage::Claiming) else {
            return;
        };
        conn.client.stored = true;
        let mut changes = Vec::new();
        for (options, identifier, name) in filters {
            let Some(filter) = Filter::new(name) else {
                continue;
            };
            if self.is_at_store(id, filter) {
                self.count_at_store(id, filter);
                continue;
            }
            let subscription = LocalSubscription {
                options: options_from(*options),
                identifier: *identifier,
            };
            self.subscribe_local(id, filter, subscription, &mut changes);
        }
        self.announce(&changes, cx);
    }

    /// A CONNECT that cannot be read.
    pub(super) fn refuse_malformed<M: Mesh>(
        &mut self,
        id: ConnId,
        error: DecodeError,
        cx: &mut Cx<'_, M>,
    ) {
        if error.reason == Reason::UnsupportedProtocolVersion {
            // The level is unknown, so the answer has the form of 3.x, which every client can read.
            if let Some(conn) = self.conns.get_mut(id) {
                conn.client.version = Version::V311;
                mark_dirty(&mut self.dirty, id, conn);
            }
            return self.close(id, Ending::Refused(error.reason, error.what), cx);
        }
        self.close(id, Ending::Malformed(error), cx);
    }
}

/// Whether a client would be let in by the configuration as it is now.
pub(super) fn still_admitted(conn: &Connection, config: &Config) -> Result<(), session::Refusal> {
    // Listeners are neither added nor removed by a reload.
    let Some(listener) = config.listeners.get(usize::from(conn.from.listener)) else {
        return Ok(());
    };
    admit_again(conn.client.version, &conn.client.id, listener, config)
}

/// A client may be silent for one and a half times its keep-alive [MQTT-3.1.2-22].
pub(super) fn keep_alive_grace_secs(keep_alive: u16) -> u64 {
    (u64::from(keep_alive) * 3).div_ceil(2)
}

/// The will as it is published. One that the client may not publish is none; nothing is said about it, as in the
/// original.
fn will_of(
    connect: &Connect<'_>,
    delay_secs: u32,
    mount: Option<&Mount>,
) -> Result<Option<Will>, &'static str> {
    let Some(will) = &connect.will else {
        return Ok(None);
    };
    let topic = match mount {
        Some(mount) => mount.topic(will.topic).ok_or("will topic too long")?,
        None => will.topic.as_str().to_owned(),
    };
    if !may_publish(Topic::trusted(&topic)) {
        return Ok(None);
    }
    Ok(Some(Will {
        qos: will.qos,
        retain: will.retain,
        delay_secs,
        topic: topic.into(),
        properties: without_will_delay(will.properties),
        payload: will.payload.into(),
    }))
}

/// The will's properties as they go out with it: the delay is for us.
fn without_will_delay(properties: Properties<'_>) -> Box<[u8]> {
    if properties.is_empty() {
        return Box::default();
    }
    let mut kept = PropertiesBuilder::default();
    kept.push_all_but(properties, PropertyId::WillDelayInterval);
    kept.as_properties().raw().into()
}
