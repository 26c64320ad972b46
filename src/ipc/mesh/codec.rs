//! The records' bytes. Little-endian, lengths in front, nothing trusted on the way in.

use super::{
    AckKind, AnnouncedFilter, Announcement, Claim, Class, Deliver, Heads, Message, Refusal,
    Release, ToStore, ToWorker, WillFate, WillRecord, kind,
};
use crate::base::clock::Instant;
use crate::base::ids::{
    ClaimSerial, ClientNumber, Incarnation, MemberId, MemberMask, Position, Serial, ShareToken,
};
use crate::ipc::wire::{Put, Reader, WireError};
use crate::mqtt::{PacketId, Qos};
use crate::ring::Mesh;

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
                after: r.str()?,
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
            kind::SETTLED => Self::Settled {
                claim: ClaimSerial(r.u64()?),
                tokens: take_all(r, |r| Ok(ShareToken(r.u64()?)))?,
            },
            kind::UNSENT => Self::Unsent {
                claim: ClaimSerial(r.u64()?),
                seen: ShareToken(r.u64()?),
                tokens: take_all(r, |r| Ok(ShareToken(r.u64()?)))?,
            },
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
                put_request(*claim, *request, out);
                out.put_u32(*subscription_id);
                put_heads(heads, out);
                put_filters(filters, out);
                kind::SUBSCRIBE
            }
            Self::Unsubscribe {
                claim,
                request,
                filters,
            } => {
                put_request(*claim, *request, out);
                filters.iter().for_each(|f| out.put_str(f));
                kind::UNSUBSCRIBE
            }
            Self::RetainedRequest {
                claim,
                request,
                heads,
                filter,
                after,
            } => {
                put_asked(*claim, *request, heads, out);
                [filter, after].iter().for_each(|text| out.put_str(text));
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
                out.put(&[*what as u8, *code]);
                kind::ACK
            }
            Self::Settled { claim, tokens } => {
                put_tokens(&[claim.0], tokens, out);
                kind::SETTLED
            }
            Self::Unsent {
                claim,
                seen,
                tokens,
            } => {
                put_tokens(&[claim.0, seen.0], tokens, out);
                kind::UNSENT
            }
        }
    }
}

fn put_request(claim: ClaimSerial, request: u32, out: &mut Vec<u8>) {
    out.put_u64(claim.0);
    out.put_u32(request);
}

fn put_asked(claim: ClaimSerial, request: u32, heads: &Heads, out: &mut Vec<u8>) {
    put_request(claim, request, out);
    put_heads(heads, out);
}

fn put_filters(filters: &[(u8, &str)], out: &mut Vec<u8>) {
    for (options, filter) in filters {
        out.put_u8(*options);
        out.put_str(filter);
    }
}

fn put_tokens(first: &[u64], tokens: &[ShareToken], out: &mut Vec<u8>) {
    first.iter().for_each(|field| out.put_u64(*field));
    tokens.iter().for_each(|token| out.put_u64(token.0));
}

fn put_claim(claim: &Claim<'_>, out: &mut Vec<u8>) {
    out.put_u64(claim.claim.0);
    out.put_u16(claim.listener);
    out.put_str(claim.client_id);
    out.put_u8(u8::from(claim.clean_start));
    out.put_u8(u8::from(claim.is_pointless));
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
    let listener = r.u16()?;
    let client_id = r.str()?;
    let clean_start = r.u8()? != 0;
    let is_pointless = r.u8()? != 0;
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
        listener,
        client_id,
        clean_start,
        is_pointless,
        expiry,
        receive_maximum,
        will,
    })
}

fn take_refusal(r: &mut Reader<'_>) -> Result<Refusal, WireError> {
    match r.u8()? {
        0 => Ok(Refusal::Superseded),
        1 => Ok(Refusal::MaxConnections),
        2 => Ok(Refusal::GlobalMaxConnections),
        3 => Ok(Refusal::GlobalMaxClients),
        _ => Err(WireError {
            what: "bad refusal of a claim",
        }),
    }
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
                why: take_refusal(r)?,
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
                out.put(&[u8::from(*session_present), u8::from(*stored)]);
                received.iter().for_each(|id| out.put_u16(*id));
                kind::GRANT
            }
            Self::Refuse { claim, why } => {
                out.put_u64(claim.0);
                out.put_u8(*why as u8);
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
                put_session_filters(*claim, filters, out);
                kind::SESSION_FILTERS
            }
        }
    }
}

fn put_session_filters(claim: ClaimSerial, filters: &[(u8, u32, &str)], out: &mut Vec<u8>) {
    out.put_u64(claim.0);
    for (options, subscription_id, filter) in filters {
        out.put_u8(*options);
        out.put_u32(*subscription_id);
        out.put_str(filter);
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
    // Tokens begin at 1.
    out.put_u64(deliver.token.map_or(0, |token| token.0));
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
    let token = Some(ShareToken(r.u64()?)).filter(|token| token.0 > 0);
    let dup = r.u8()? != 0;
    let count = r.u32()?;
    let subscription_ids = (0..count).map(|_| r.u32()).collect::<Result<_, _>>()?;
    let mut message = Message::decode_head(r)?;
    message.payload = r.rest();
    Ok(Deliver {
        claim,
        packet_id,
        token,
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
mod tests;
