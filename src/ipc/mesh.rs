//! Records in the rings: what members say to each other. One enum per receiver.
//!
//! A record is a kind byte (in the ring's header) and these fields, little-endian. Whoever reads one checks every
//! length: the writer may be a worker that an attacker has taken over.

use std::hash::{BuildHasher, Hasher};

use super::wire::{Put, Reader, WireError};
use crate::base::clock::Instant;
use crate::base::ids::{
    ClaimSerial, ClientNumber, Incarnation, MemberId, MemberMask, Position, Serial,
};
use crate::mqtt::{PacketId, Qos};
use crate::ring::Mesh;

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
    /// SUBSCRIBE of a persistent session.
    Subscribe {
        claim: ClaimSerial,
        request: u32,
        subscription_id: u32,
        heads: Heads,
        filters: Vec<(u8, &'a str)>,
    },
    /// UNSUBSCRIBE of a persistent session.
    Unsubscribe {
        claim: ClaimSerial,
        request: u32,
        filters: Vec<&'a str>,
    },
    /// A transient session subscribed: send what is retained, once past `heads`.
    RetainedRequest {
        claim: ClaimSerial,
        request: u32,
        heads: Heads,
        filter: &'a str,
    },
    /// A persistent session's client acknowledged.
    Ack {
        claim: ClaimSerial,
        packet_id: PacketId,
        what: AckKind,
        code: u8,
    },
}

/// A position in each outbox that a member reads.
pub type Heads = Vec<(MemberId, Incarnation, Position)>;

/// A claim of a client id.
#[derive(Clone, PartialEq, Debug)]
pub struct Claim<'a> {
    pub claim: ClaimSerial,
    pub client_id: &'a str,
    pub clean_start: bool,
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
    /// The id is not yours, with a reason code of 5.0 (0x8E: a newer connection claimed it meanwhile).
    Refuse { claim: ClaimSerial, reason: u8 },
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
    /// Part of the answer to a RetainedRequest, the state after the outboxes were applied up to `positions`.
    RetainedSlice {
        claim: ClaimSerial,
        request: u32,
        last: bool,
        positions: Heads,
        messages: Vec<Message<'a>>,
    },
    /// A message for a persistent session, to be written to the wire at once.
    Deliver(Deliver<'a>),
    /// A PUBREL to be repeated after a reconnection.
    Pubrel {
        claim: ClaimSerial,
        packet_id: PacketId,
    },
    /// Filters of the session that was just granted: (options byte, subscription id or 0, filter), for QoS 0.
    SessionFilters {
        claim: ClaimSerial,
        filters: Vec<(u8, u32, &'a str)>,
    },
}

/// A message for the wire of one connection.
#[derive(Clone, PartialEq, Debug)]
pub struct Deliver<'a> {
    pub claim: ClaimSerial,
    /// None at QoS 0.
    pub packet_id: Option<PacketId>,
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

const QOS_BITS: u8 = 0b11;
const RETAIN: u8 = 0b100;
const RELEASES: u8 = 0b1000;
const EXPIRES: u8 = 0b1_0000;

const BAD_QOS: WireError = WireError { what: "bad QoS" };
const BAD_MEMBER: WireError = WireError {
    what: "no such member",
};
const BAD_KIND: WireError = WireError {
    what: "unknown kind of record",
};
const TRAILING: WireError = WireError {
    what: "trailing bytes",
};

impl<'a> Message<'a> {
    /// The fields in front of the properties and the payload, which follow as they are.
    fn head(&self, out: &mut Vec<u8>) {
        let mut flags = self.qos as u8;
        flags |= if self.retain { RETAIN } else { 0 };
        flags |= if self.releases.is_some() { RELEASES } else { 0 };
        flags |= if self.expires_at.is_some() {
            EXPIRES
        } else {
            0
        };
        out.put_u8(flags);
        out.put_u32(self.publisher.0);
        out.put_u16(self.packet_id.map_or(0, PacketId::get));
        if let Some(release) = &self.releases {
            put_release(release, out);
        }
        if let Some(at) = self.expires_at {
            out.put_u64(at.0);
        }
        out.put_str(self.topic);
        out.put_u32(u32::try_from(self.properties.len()).unwrap_or(u32::MAX));
    }

    /// Decodes a PUBLISH record.
    ///
    /// # Errors
    /// Truncated, or a field out of range.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        let mut message = Self::decode_head(&mut r)?;
        message.payload = r.rest();
        Ok(message)
    }

    fn decode_head(r: &mut Reader<'a>) -> Result<Self, WireError> {
        let flags = r.u8()?;
        let qos = Qos::from_bits(flags & QOS_BITS).ok_or(BAD_QOS)?;
        let publisher = ClientNumber(r.u32()?);
        let packet_id = PacketId::new(r.u16()?);
        let releases = if flags & RELEASES != 0 {
            Some(take_release(r)?)
        } else {
            None
        };
        let expires_at = if flags & EXPIRES != 0 {
            Some(Instant(r.u64()?))
        } else {
            None
        };
        let topic = r.str()?;
        let properties = r.long()?;
        let retain = flags & RETAIN != 0;
        Ok(Self {
            qos,
            retain,
            publisher,
            packet_id,
            releases,
            expires_at,
            topic,
            properties,
            payload: &[],
        })
    }

    /// Appends it as a PUBLISH record for `to`. `scratch` is emptied and used for the head.
    pub fn append(&self, mesh: &mut impl Mesh, to: MemberMask, scratch: &mut Vec<u8>) -> Serial {
        scratch.clear();
        self.head(scratch);
        mesh.append(to, kind::PUBLISH, &[scratch, self.properties, self.payload])
    }

    fn put_whole(&self, out: &mut Vec<u8>) {
        self.head(out);
        out.put(self.properties);
        out.put_long(self.payload);
    }

    fn take_whole(r: &mut Reader<'a>) -> Result<Self, WireError> {
        let mut message = Self::decode_head(r)?;
        message.payload = r.long()?;
        Ok(message)
    }
}

fn put_release(release: &Release, out: &mut Vec<u8>) {
    out.put_u64(release.claim.0);
    out.put_u8(release.will as u8);
    out.put_u8(u8::from(release.expiry.is_some()));
    out.put_u32(release.expiry.unwrap_or(0));
}

fn take_release(r: &mut Reader<'_>) -> Result<Release, WireError> {
    let claim = ClaimSerial(r.u64()?);
    let will = match r.u8()? {
        0 => WillFate::Done,
        1 => WillFate::Delayed,
        _ => {
            return Err(WireError {
                what: "bad fate of a will",
            });
        }
    };
    let has_expiry = r.u8()? != 0;
    let expiry = r.u32()?;
    Ok(Release {
        claim,
        will,
        expiry: has_expiry.then_some(expiry),
    })
}

fn put_heads(heads: &Heads, out: &mut Vec<u8>) {
    out.put_u8(u8::try_from(heads.len()).unwrap_or(u8::MAX));
    for (member, incarnation, position) in heads {
        out.put_u8(u8::try_from(member.slot()).unwrap_or(u8::MAX));
        out.put_u32(incarnation.0);
        out.put_u64(position.0);
    }
}

fn take_heads(r: &mut Reader<'_>) -> Result<Heads, WireError> {
    let count = r.u8()?;
    (0..count)
        .map(|_| {
            let member = MemberId::new(usize::from(r.u8()?)).ok_or(BAD_MEMBER)?;
            Ok((member, Incarnation(r.u32()?), Position(r.u64()?)))
        })
        .collect()
}

/// Fields up to the end of the record, one after the other.
fn take_all<'a, T>(
    r: &mut Reader<'a>,
    mut one: impl FnMut(&mut Reader<'a>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let mut all = Vec::new();
    while !r.is_empty() {
        all.push(one(r)?);
    }
    Ok(all)
}

fn take_packet_id(r: &mut Reader<'_>) -> Result<PacketId, WireError> {
    PacketId::new(r.u16()?).ok_or(WireError {
        what: "packet id 0",
    })
}

impl<'a> ToStore<'a> {
    /// Decodes a record of one of the kinds for the store.
    ///
    /// # Errors
    /// Another kind, truncated, or a field out of range.
    pub fn decode(record_kind: u8, bytes: &'a [u8]) -> Result<Self, WireError> {
        let r = &mut Reader::new(bytes);
        let record = match record_kind {
            kind::CLAIM => Self::Claim(take_claim(r)?),
            kind::ARMED => Self::Armed {
                claim: ClaimSerial(r.u64()?),
            },
            kind::RELEASE => Self::Release(take_release(r)?),
            kind::SUBSCRIBE => Self::Subscribe {
                claim: ClaimSerial(r.u64()?),
                request: r.u32()?,
                subscription_id: r.u32()?,
                heads: take_heads(r)?,
                filters: take_all(r, |r| Ok((r.u8()?, r.str()?)))?,
            },
            kind::UNSUBSCRIBE => Self::Unsubscribe {
                claim: ClaimSerial(r.u64()?),
                request: r.u32()?,
                filters: take_all(r, Reader::str)?,
            },
            kind::RETAINED_REQUEST => Self::RetainedRequest {
                claim: ClaimSerial(r.u64()?),
                request: r.u32()?,
                heads: take_heads(r)?,
                filter: r.str()?,
            },
            kind::ACK => {
                let claim = ClaimSerial(r.u64()?);
                let packet_id = take_packet_id(r)?;
                let what = match r.u8()? {
                    0 => AckKind::Puback,
                    1 => AckKind::Pubrec,
                    2 => AckKind::Pubcomp,
                    3 => AckKind::Pubrel,
                    _ => {
                        return Err(WireError {
                            what: "bad kind of acknowledgement",
                        });
                    }
                };
                Self::Ack {
                    claim,
                    packet_id,
                    what,
                    code: r.u8()?,
                }
            }
            _ => return Err(BAD_KIND),
        };
        if r.is_empty() {
            Ok(record)
        } else {
            Err(TRAILING)
        }
    }

    /// Appends it for the store. `scratch` is emptied and used.
    pub fn append(&self, mesh: &mut impl Mesh, scratch: &mut Vec<u8>) -> Serial {
        scratch.clear();
        let record_kind = self.put(scratch);
        mesh.append(MemberId::STORE.mask(), record_kind, &[scratch])
    }

    fn put(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Claim(claim) => {
                put_claim(claim, out);
                kind::CLAIM
            }
            Self::Armed { claim } => {
                out.put_u64(claim.0);
                kind::ARMED
            }
            Self::Release(release) => {
                put_release(release, out);
                kind::RELEASE
            }
            Self::Subscribe {
                claim,
                request,
                subscription_id,
                heads,
                filters,
            } => {
                out.put_u64(claim.0);
                out.put_u32(*request);
                out.put_u32(*subscription_id);
                put_heads(heads, out);
                for (options, filter) in filters {
                    out.put_u8(*options);
                    out.put_str(filter);
                }
                kind::SUBSCRIBE
            }
            Self::Unsubscribe {
                claim,
                request,
                filters,
            } => {
                out.put_u64(claim.0);
                out.put_u32(*request);
                filters.iter().for_each(|f| out.put_str(f));
                kind::UNSUBSCRIBE
            }
            Self::RetainedRequest {
                claim,
                request,
                heads,
                filter,
            } => {
                out.put_u64(claim.0);
                out.put_u32(*request);
                put_heads(heads, out);
                out.put_str(filter);
                kind::RETAINED_REQUEST
            }
            Self::Ack {
                claim,
                packet_id,
                what,
                code,
            } => {
                out.put_u64(claim.0);
                out.put_u16(packet_id.get());
                out.put_u8(*what as u8);
                out.put_u8(*code);
                kind::ACK
            }
        }
    }
}

fn put_claim(claim: &Claim<'_>, out: &mut Vec<u8>) {
    out.put_u64(claim.claim.0);
    out.put_str(claim.client_id);
    out.put_u8(u8::from(claim.clean_start));
    out.put_u32(claim.expiry);
    out.put_u16(claim.receive_maximum);
    out.put_u8(u8::from(claim.will.is_some()));
    if let Some(will) = &claim.will {
        out.put_u8(will.qos as u8 | if will.retain { RETAIN } else { 0 });
        out.put_u32(will.delay_secs);
        out.put_str(will.topic);
        out.put_long(will.properties);
        out.put_long(will.payload);
    }
}

fn take_claim<'a>(r: &mut Reader<'a>) -> Result<Claim<'a>, WireError> {
    let claim = ClaimSerial(r.u64()?);
    let client_id = r.str()?;
    let clean_start = r.u8()? != 0;
    let expiry = r.u32()?;
    let receive_maximum = r.u16()?;
    let will = if r.u8()? == 0 {
        None
    } else {
        let flags = r.u8()?;
        Some(WillRecord {
            qos: Qos::from_bits(flags & QOS_BITS).ok_or(BAD_QOS)?,
            retain: flags & RETAIN != 0,
            delay_secs: r.u32()?,
            topic: r.str()?,
            properties: r.long()?,
            payload: r.long()?,
        })
    };
    Ok(Claim {
        claim,
        client_id,
        clean_start,
        expiry,
        receive_maximum,
        will,
    })
}

impl<'a> ToWorker<'a> {
    /// Decodes a record of one of the kinds for a worker.
    ///
    /// # Errors
    /// Another kind, truncated, or a field out of range.
    pub fn decode(record_kind: u8, bytes: &'a [u8]) -> Result<Self, WireError> {
        let r = &mut Reader::new(bytes);
        let claim = ClaimSerial(r.u64()?);
        let record = match record_kind {
            kind::GRANT => Self::Grant {
                claim,
                client: ClientNumber(r.u32()?),
                session_present: r.u8()? != 0,
                stored: r.u8()? != 0,
                received: take_all(r, Reader::u16)?,
            },
            kind::REFUSE => Self::Refuse {
                claim,
                reason: r.u8()?,
            },
            kind::EVICT => Self::Evict {
                claim,
                reason: r.u8()?,
            },
            kind::SUBSCRIBED => Self::Subscribed {
                claim,
                request: r.u32()?,
                existed: take_all(r, |r| Ok(r.u8()? != 0))?,
            },
            kind::UNSUBSCRIBED => Self::Unsubscribed {
                claim,
                request: r.u32()?,
                existed: take_all(r, |r| Ok(r.u8()? != 0))?,
            },
            kind::RETAINED_SLICE => Self::RetainedSlice {
                claim,
                request: r.u32()?,
                last: r.u8()? != 0,
                positions: take_heads(r)?,
                messages: take_all(r, Message::take_whole)?,
            },
            kind::DELIVER => Self::Deliver(take_deliver(claim, r)?),
            kind::PUBREL => Self::Pubrel {
                claim,
                packet_id: take_packet_id(r)?,
            },
            kind::SESSION_FILTERS => Self::SessionFilters {
                claim,
                filters: take_all(r, |r| Ok((r.u8()?, r.u32()?, r.str()?)))?,
            },
            _ => return Err(BAD_KIND),
        };
        if r.is_empty() {
            Ok(record)
        } else {
            Err(TRAILING)
        }
    }

    /// Appends it for `to`. `scratch` is emptied and used.
    pub fn append(&self, mesh: &mut impl Mesh, to: MemberId, scratch: &mut Vec<u8>) -> Serial {
        scratch.clear();
        if let Self::Deliver(deliver) = self {
            put_deliver_head(deliver, scratch);
            let message = &deliver.message;
            return mesh.append(
                to.mask(),
                kind::DELIVER,
                &[scratch, message.properties, message.payload],
            );
        }
        let record_kind = self.put(scratch);
        mesh.append(to.mask(), record_kind, &[scratch])
    }

    fn put(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Grant {
                claim,
                client,
                session_present,
                stored,
                received,
            } => {
                out.put_u64(claim.0);
                out.put_u32(client.0);
                out.put_u8(u8::from(*session_present));
                out.put_u8(u8::from(*stored));
                received.iter().for_each(|id| out.put_u16(*id));
                kind::GRANT
            }
            Self::Refuse { claim, reason } => {
                out.put_u64(claim.0);
                out.put_u8(*reason);
                kind::REFUSE
            }
            Self::Evict { claim, reason } => {
                out.put_u64(claim.0);
                out.put_u8(*reason);
                kind::EVICT
            }
            Self::Subscribed {
                claim,
                request,
                existed,
            } => {
                put_existed(*claim, *request, existed, out);
                kind::SUBSCRIBED
            }
            Self::Unsubscribed {
                claim,
                request,
                existed,
            } => {
                put_existed(*claim, *request, existed, out);
                kind::UNSUBSCRIBED
            }
            Self::RetainedSlice {
                claim,
                request,
                last,
                positions,
                messages,
            } => {
                out.put_u64(claim.0);
                out.put_u32(*request);
                out.put_u8(u8::from(*last));
                put_heads(positions, out);
                messages.iter().for_each(|m| m.put_whole(out));
                kind::RETAINED_SLICE
            }
            Self::Deliver(deliver) => {
                put_deliver_head(deliver, out);
                out.put(deliver.message.properties);
                out.put(deliver.message.payload);
                kind::DELIVER
            }
            Self::Pubrel { claim, packet_id } => {
                out.put_u64(claim.0);
                out.put_u16(packet_id.get());
                kind::PUBREL
            }
            Self::SessionFilters { claim, filters } => {
                out.put_u64(claim.0);
                for (options, subscription_id, filter) in filters {
                    out.put_u8(*options);
                    out.put_u32(*subscription_id);
                    out.put_str(filter);
                }
                kind::SESSION_FILTERS
            }
        }
    }
}

fn put_existed(claim: ClaimSerial, request: u32, existed: &[bool], out: &mut Vec<u8>) {
    out.put_u64(claim.0);
    out.put_u32(request);
    existed.iter().for_each(|e| out.put_u8(u8::from(*e)));
}

fn put_deliver_head(deliver: &Deliver<'_>, out: &mut Vec<u8>) {
    out.put_u64(deliver.claim.0);
    out.put_u16(deliver.packet_id.map_or(0, PacketId::get));
    out.put_u8(u8::from(deliver.dup));
    out.put_u32(u32::try_from(deliver.subscription_ids.len()).unwrap_or(0));
    deliver
        .subscription_ids
        .iter()
        .for_each(|id| out.put_u32(*id));
    deliver.message.head(out);
}

fn take_deliver<'a>(claim: ClaimSerial, r: &mut Reader<'a>) -> Result<Deliver<'a>, WireError> {
    let packet_id = PacketId::new(r.u16()?);
    let dup = r.u8()? != 0;
    let count = r.u32()?;
    let subscription_ids = (0..count).map(|_| r.u32()).collect::<Result<_, _>>()?;
    let mut message = Message::decode_head(r)?;
    message.payload = r.rest();
    Ok(Deliver {
        claim,
        packet_id,
        dup,
        subscription_ids,
        message,
    })
}

/// Appends announcements for `to` as one record. `scratch` is emptied and used.
pub fn announce(
    mesh: &mut impl Mesh,
    to: MemberMask,
    changes: &[Announcement<'_>],
    scratch: &mut Vec<u8>,
) -> Serial {
    scratch.clear();
    for change in changes {
        out_announcement(change, scratch);
    }
    mesh.append(to, kind::ANNOUNCE, &[scratch])
}

const WILDCARD: u8 = 0b1000_0000;

fn out_announcement(change: &Announcement<'_>, out: &mut Vec<u8>) {
    match change.filter {
        AnnouncedFilter::Exact(hash) => {
            out.put_u8(change.class.0);
            out.put_u64(hash);
        }
        AnnouncedFilter::Wildcard(filter) => {
            out.put_u8(change.class.0 | WILDCARD);
            out.put_str(filter);
        }
    }
}

/// Decodes an ANNOUNCE record, one change after the other.
///
/// # Errors
/// Each item may be an error, after which nothing more comes.
pub fn announcements(bytes: &[u8]) -> impl Iterator<Item = Result<Announcement<'_>, WireError>> {
    let mut r = Reader::new(bytes);
    std::iter::from_fn(move || {
        if r.is_empty() {
            return None;
        }
        let one = take_announcement(&mut r);
        if one.is_err() {
            r.rest();
        }
        Some(one)
    })
}

fn take_announcement<'a>(r: &mut Reader<'a>) -> Result<Announcement<'a>, WireError> {
    let flags = r.u8()?;
    let class = Class(flags & Class::BOTH.0);
    let filter = if flags & WILDCARD == 0 {
        AnnouncedFilter::Exact(r.u64()?)
    } else {
        AnnouncedFilter::Wildcard(r.str()?)
    };
    Ok(Announcement { class, filter })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Position;

    /// A mesh that keeps the last record.
    #[derive(Default)]
    struct Last {
        kind: u8,
        bytes: Vec<u8>,
    }

    impl Mesh for Last {
        fn me(&self) -> MemberId {
            MemberId::STORE
        }
        fn live(&self) -> MemberMask {
            MemberMask::NONE
        }
        fn append(&mut self, _: MemberMask, kind: u8, parts: &[&[u8]]) -> Serial {
            self.kind = kind;
            self.bytes = parts.concat();
            Serial(1)
        }
        fn covered(&self) -> Serial {
            Serial(1)
        }
        fn overflow_bytes(&self) -> usize {
            0
        }
        fn head(&self) -> Position {
            Position(0)
        }
        fn passed(&self, _: MemberMask) -> Position {
            Position(0)
        }
        fn wake_when_passed(&mut self, _: Position) {}
        fn applied(&self, _: MemberId) -> Option<(Incarnation, Position)> {
            None
        }
        fn published(&self, _: MemberId) -> Option<(Incarnation, Position)> {
            None
        }
        fn everyone_applied(&mut self, _: MemberId, _: Incarnation, _: Position) -> bool {
            true
        }
    }

    fn message() -> Message<'static> {
        Message {
            qos: Qos::ExactlyOnce,
            retain: true,
            publisher: ClientNumber(7),
            packet_id: PacketId::new(9),
            releases: Some(Release {
                claim: ClaimSerial(1 << 40),
                will: WillFate::Delayed,
                expiry: Some(u32::MAX),
            }),
            expires_at: Some(Instant(u64::MAX)),
            topic: "a/b",
            properties: &[1, 1],
            payload: b"payload",
        }
    }

    fn to_store() -> Vec<ToStore<'static>> {
        let claim = ClaimSerial(3);
        let heads = vec![(MemberId::STORE, Incarnation(2), Position(1 << 50))];
        let will = WillRecord {
            qos: Qos::AtLeastOnce,
            retain: true,
            delay_secs: 5,
            topic: "will",
            properties: &[1, 0],
            payload: b"gone",
        };
        vec![
            ToStore::Claim(Claim {
                claim,
                client_id: "id",
                clean_start: true,
                expiry: 9,
                receive_maximum: 20,
                will: Some(will),
            }),
            ToStore::Armed { claim },
            ToStore::Release(Release {
                claim,
                will: WillFate::Done,
                expiry: None,
            }),
            ToStore::Subscribe {
                claim,
                request: 1,
                subscription_id: 2,
                heads: heads.clone(),
                filters: vec![(1, "a/#"), (2, "+")],
            },
            ToStore::Unsubscribe {
                claim,
                request: 4,
                filters: vec!["x", "y"],
            },
            ToStore::RetainedRequest {
                claim,
                request: 5,
                heads,
                filter: "#",
            },
            ToStore::Ack {
                claim,
                packet_id: PacketId::MIN,
                what: AckKind::Pubrec,
                code: 0x80,
            },
        ]
    }

    fn to_worker() -> Vec<ToWorker<'static>> {
        let claim = ClaimSerial(3);
        vec![
            ToWorker::Grant {
                claim,
                client: ClientNumber(8),
                session_present: true,
                stored: false,
                received: vec![1, 65535],
            },
            ToWorker::Refuse {
                claim,
                reason: 0x8e,
            },
            ToWorker::Evict {
                claim,
                reason: 0x8e,
            },
            ToWorker::Subscribed {
                claim,
                request: 1,
                existed: vec![true, false],
            },
            ToWorker::Unsubscribed {
                claim,
                request: 1,
                existed: vec![],
            },
            ToWorker::RetainedSlice {
                claim,
                request: 1,
                last: true,
                positions: vec![],
                messages: vec![message(), message()],
            },
            ToWorker::Deliver(Deliver {
                claim,
                packet_id: PacketId::new(4),
                dup: true,
                subscription_ids: vec![1, 2],
                message: message(),
            }),
            ToWorker::Pubrel {
                claim,
                packet_id: PacketId::MAX,
            },
            ToWorker::SessionFilters {
                claim,
                filters: vec![(1, 7, "a"), (2, 0, "b/#")],
            },
        ]
    }

    #[test]
    fn every_record_is_read_as_it_was_written() {
        let (mut mesh, mut scratch) = (Last::default(), Vec::new());
        for record in to_store() {
            record.append(&mut mesh, &mut scratch);
            assert_eq!(ToStore::decode(mesh.kind, &mesh.bytes), Ok(record));
        }
        for record in to_worker() {
            record.append(&mut mesh, MemberId::STORE, &mut scratch);
            assert_eq!(ToWorker::decode(mesh.kind, &mesh.bytes), Ok(record));
        }
        message().append(&mut mesh, MemberMask::ALL, &mut scratch);
        assert_eq!(Message::decode(&mesh.bytes), Ok(message()));
        let changes = [
            Announcement {
                class: Class::BOTH,
                filter: AnnouncedFilter::Exact(99),
            },
            Announcement {
                class: Class(0),
                filter: AnnouncedFilter::Wildcard("a/+"),
            },
        ];
        announce(&mut mesh, MemberMask::ALL, &changes, &mut scratch);
        let read: Result<Vec<_>, _> = announcements(&mesh.bytes).collect();
        assert_eq!(read.as_deref(), Ok(&changes[..]));
    }

    #[test]
    fn a_cut_record_is_an_error_and_never_a_panic() {
        let (mut mesh, mut scratch) = (Last::default(), Vec::new());
        for record in to_worker() {
            record.append(&mut mesh, MemberId::STORE, &mut scratch);
            for n in 0..mesh.bytes.len() {
                let _ = ToWorker::decode(mesh.kind, &mesh.bytes[..n]);
            }
        }
        for record in to_store() {
            record.append(&mut mesh, &mut scratch);
            for n in 0..mesh.bytes.len() {
                let _ = ToStore::decode(mesh.kind, &mesh.bytes[..n]);
            }
        }
    }
}
