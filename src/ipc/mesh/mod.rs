//! Records in the rings: what members say to each other. One enum per receiver.
//!
//! A record is a kind byte (in the ring's header) and these fields, little-endian. Whoever reads one checks every
//! length: the writer may be a worker that an attacker has taken over.

mod codec;

use std::hash::{BuildHasher, Hasher};

pub use codec::{announce, announcements};

use crate::base::clock::Instant;
use crate::base::ids::{ClaimSerial, ClientNumber, Incarnation, MemberId, Position, ShareToken};
use crate::mqtt::{PacketId, Qos};

/// The kind byte of each record.
pub mod kind {
    pub const PUBLISH: u8 = 1;
    pub const ANNOUNCE: u8 = 2;
    pub const INDEX_END: u8 = 3;

    pub const CLAIM: u8 = 16;
    pub const ARMED: u8 = 17;
    pub const RELEASE: u8 = 18;
    pub const SUBSCRIBE: u8 = 19;
    pub const UNSUBSCRIBE: u8 = 20;
    pub const RETAINED_REQUEST: u8 = 21;
    pub const ACK: u8 = 22;
    pub const SETTLED: u8 = 23;
    pub const UNSENT: u8 = 24;

    pub const GRANT: u8 = 32;
    pub const REFUSE: u8 = 33;
    pub const EVICT: u8 = 34;
    pub const SUBSCRIBED: u8 = 35;
    pub const UNSUBSCRIBED: u8 = 36;
    pub const RETAINED_SLICE: u8 = 37;
    pub const DELIVER: u8 = 38;
    pub const PUBREL: u8 = 39;
    pub const SESSION_FILTERS: u8 = 40;
}

/// An application message on its way: from a publisher to every member that may have subscribers, to the store if
/// it is retained or may match a persistent session.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Message<'a> {
    pub qos: Qos,
    /// As the publisher said.
    pub retain: bool,
    /// Whose message (for no local); 0 for the broker's own.
    pub publisher: ClientNumber,
    /// The packet id, for a QoS 2 message of a persistent session: the store keeps it until the PUBREL.
    pub packet_id: Option<PacketId>,
    /// This message is the will of a connection that ends with it: will and release in one record.
    pub releases: Option<Release>,
    /// When it expires.
    pub expires_at: Option<Instant>,
    pub topic: &'a str,
    /// 5.0 properties as received, raw, without topic alias; the expiry interval among them as received.
    pub properties: &'a [u8],
    pub payload: &'a [u8],
}

/// A connection that holds its client id no longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Release {
    pub claim: ClaimSerial,
    pub will: WillFate,
    /// A session expiry that DISCONNECT changed, in seconds; `u32::MAX` is never.
    pub expiry: Option<u32>,
}

/// What becomes of the will when a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum WillFate {
    /// There was none, or DISCONNECT removed it, or this record is it.
    Done = 0,
    /// The store publishes it when its delay has passed or the session ends, whichever comes first.
    Delayed = 1,
}

/// Worker to store.
#[derive(Clone, PartialEq, Debug)]
pub enum ToStore<'a> {
    /// CONNECT: this connection wants its client id.
    Claim(Claim<'a>),
    /// The CONNACK is on its way: from now on the will counts.
    Armed { claim: ClaimSerial },
    /// The connection is over.
    Release(Release),
    /// SUBSCRIBE of a persistent session; of a transient one, the shared filters in it.
    Subscribe {
        claim: ClaimSerial,
        request: u32,
        subscription_id: u32,
        heads: Heads,
        filters: Vec<(u8, &'a str)>,
    },
    /// UNSUBSCRIBE of a persistent session, or with shared filters in it.
    Unsubscribe {
        claim: ClaimSerial,
        request: u32,
        filters: Vec<&'a str>,
    },
    /// A transient session subscribed: send what is retained, once past `heads`, from the topic behind `after` on. Empty
    /// is from the first one.
    RetainedRequest {
        claim: ClaimSerial,
        request: u32,
        heads: Heads,
        filter: &'a str,
        after: &'a str,
    },
    /// A persistent session's client acknowledged.
    Ack {
        claim: ClaimSerial,
        packet_id: PacketId,
        what: AckKind,
        code: u8,
    },
    /// Messages of shared subscriptions are done: a transient session's client has acknowledged them, or will never
    /// be sent them.
    Settled {
        claim: ClaimSerial,
        tokens: Vec<ShareToken>,
    },
    /// A transient session that had shared subscriptions ends: `tokens`, and what came after `seen`, were not sent to
    /// its client.
    Unsent {
        claim: ClaimSerial,
        seen: ShareToken,
        tokens: Vec<ShareToken>,
    },
}

/// A position in each outbox that a member reads.
pub type Heads = Vec<(MemberId, Incarnation, Position)>;

/// A claim of a client id.
#[derive(Clone, PartialEq, Debug)]
pub struct Claim<'a> {
    pub claim: ClaimSerial,
    /// The number of the listener that accepted the connection.
    pub listener: u16,
    pub client_id: &'a str,
    pub clean_start: bool,
    /// The client has closed its end, and has said nothing else: nobody needs to make room for it.
    pub is_pointless: bool,
    /// Seconds that the session outlives the connection; `u32::MAX` is for ever, 0 is a transient session.
    pub expiry: u32,
    /// QoS 1 and 2 messages that may be unacknowledged towards this client.
    pub receive_maximum: u16,
    pub will: Option<WillRecord<'a>>,
}

/// A will as the store keeps it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct WillRecord<'a> {
    pub qos: Qos,
    pub retain: bool,
    pub delay_secs: u32,
    pub topic: &'a str,
    /// Without the will delay interval.
    pub properties: &'a [u8],
    pub payload: &'a [u8],
}

/// What a client of a persistent session acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum AckKind {
    /// PUBACK for a delivery.
    Puback = 0,
    /// PUBREC for a delivery.
    Pubrec = 1,
    /// PUBCOMP for a delivery.
    Pubcomp = 2,
    /// PUBREL for a message that the client sent: its packet id is free again.
    Pubrel = 3,
}

/// Store to worker.
#[derive(Clone, PartialEq, Debug)]
pub enum ToWorker<'a> {
    /// The id is yours. `received`: packet ids of QoS 2 messages that the client sent and has not released.
    Grant {
        claim: ClaimSerial,
        client: ClientNumber,
        session_present: bool,
        /// The session lives in the store; a transient one lives in the worker alone.
        stored: bool,
        received: Vec<u16>,
    },
    /// The id is not yours.
    Refuse { claim: ClaimSerial, why: Refusal },
    /// Close that connection with this reason, then release.
    Evict { claim: ClaimSerial, reason: u8 },
    /// For each filter in order, whether the session had it before. The store's announcements of them have been
    /// applied by every live member.
    Subscribed {
        claim: ClaimSerial,
        request: u32,
        existed: Vec<bool>,
    },
    /// For each filter in order, whether the session had it.
    Unsubscribed {
        claim: ClaimSerial,
        request: u32,
        existed: Vec<bool>,
    },
    /// The answer to a RetainedRequest, or if it is not the `last`, the part up to which a further one has to go on. The state after the outboxes were applied up to `positions`.
    RetainedSlice {
        claim: ClaimSerial,
        request: u32,
        last: bool,
        positions: Heads,
        messages: Vec<Message<'a>>,
    },
    /// A message for a persistent session, to be written to the wire at once; or of a shared subscription of a
    /// transient one.
    Deliver(Deliver<'a>),
    /// A PUBREL to be repeated after a reconnection.
    Pubrel {
        claim: ClaimSerial,
        packet_id: PacketId,
    },
    /// Filters of the session that is granted next: (options byte, subscription id or 0, filter), for QoS 0.
    SessionFilters {
        claim: ClaimSerial,
        filters: Vec<(u8, u32, &'a str)>,
    },
}

/// Why a claim is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Refusal {
    /// A newer connection claims the same id.
    Superseded = 0,
    /// `max_connections` of its listener.
    MaxConnections = 1,
    /// `global_max_connections`
    GlobalMaxConnections = 2,
    /// `global_max_clients`
    GlobalMaxClients = 3,
}

/// A message for the wire of one connection.
#[derive(Clone, PartialEq, Debug)]
pub struct Deliver<'a> {
    pub claim: ClaimSerial,
    /// None at QoS 0, and for a transient session.
    pub packet_id: Option<PacketId>,
    /// For a transient session: what the worker, which gives the packet id, calls it when it is settled. None at
    /// QoS 0.
    pub token: Option<ShareToken>,
    pub dup: bool,
    /// Subscription identifiers of the matching subscriptions.
    pub subscription_ids: Vec<u32>,
    /// With the QoS and the retain flag that go on the wire.
    pub message: Message<'a>,
}

/// Which publishes a member wants that match a filter. Bits; both may be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord, Hash)]
pub struct Class(pub u8);

impl Class {
    /// Publishes of QoS 0: transient sessions, and persistent ones that are attached.
    pub const QOS0: Self = Self(1);
    /// Publishes of QoS 1 and 2: transient sessions, and the store for persistent ones.
    pub const QOS12: Self = Self(2);
    /// Both.
    pub const BOTH: Self = Self(3);

    /// The class of a publish of this QoS.
    pub const fn of(qos: Qos) -> Self {
        match qos {
            Qos::AtMostOnce => Self::QOS0,
            _ => Self::QOS12,
        }
    }

    /// Whether all of `other` is in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One change of what a member wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announcement<'a> {
    /// The classes that are wanted from now on; none removes the filter.
    pub class: Class,
    pub filter: AnnouncedFilter<'a>,
}

/// A filter as others need it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnnouncedFilter<'a> {
    /// The keyed hash of a filter without wildcards: a false hit costs one skipped record.
    Exact(u64),
    /// A filter with wildcards.
    Wildcard(&'a str),
}

/// Hashes filters without wildcards, and topics against them; keyed anew at each start of the broker, so that
/// nobody outside can make two filters meet.
#[derive(Clone, Debug)]
pub struct FilterHash(foldhash::quality::FixedState, u64);

impl FilterHash {
    /// The same key in every member gives the same hashes.
    pub fn new(key: [u64; 2]) -> Self {
        Self(foldhash::quality::FixedState::with_seed(key[0]), key[1])
    }

    /// The hash of a filter without wildcards, or of a topic.
    pub fn of(&self, filter: &str) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write_u64(self.1);
        hasher.write(filter.as_bytes());
        hasher.finish()
    }
}
