//! Control messages between the supervisor and each child, over a SOCK_SEQPACKET pair. One enum per receiver.
//!
//! Descriptors travel beside the bytes (SCM_RIGHTS), in the order of the fields. A child that reads what it does
//! not understand ends: the supervisor and its children are always the same binary. The supervisor that reads what
//! it does not understand ends that child.

use std::fmt;
use std::os::fd::OwnedFd;

use super::wire::{Put as _, Reader, WireError};
use crate::base::clock::Instant;
use crate::base::ids::{Incarnation, MemberId};
use crate::base::limits::WORKERS_MAX;
use crate::sys::users::Identity;

pub use super::channel::{Channel, ControlError, SharedDescriptor};

/// What a child is started as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The network, inbound.
    Worker(u8),
    /// State and disk.
    Store,
    /// Administration.
    Control,
}

impl Role {
    /// The role of the member in a slot.
    pub fn of(member: MemberId) -> Self {
        match u8::try_from(member.slot())
            .unwrap_or(u8::MAX)
            .checked_sub(1)
        {
            None => Self::Store,
            Some(index) => Self::Worker(index),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(index) => write!(f, "worker {index}"),
            Self::Store => f.write_str("store"),
            Self::Control => f.write_str("control"),
        }
    }
}

/// Supervisor to child. `F` is a descriptor: owned by who receives it, shared by who sends it to many.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ToChild<F = OwnedFd> {
    /// First message: who you are and what is yours. Map `outbox` and `cursors`, then answer `Mapped`.
    Hello {
        role: Role,
        member: MemberId,
        incarnation: Incarnation,
        /// Keys the hashes of topics and filters for this start of the broker.
        hash_key: [u64; 2],
        /// Bytes of ring in `outbox` (a power of two).
        ring_bytes: u32,
        /// Whom to become before the first byte from outside is read.
        become_user: Option<Identity>,
        /// The sealed configuration snapshot.
        config: F,
        outbox: F,
        cursors: F,
        doorbell: F,
    },
    /// First message to control, which is no member. Map `page`, then answer `Mapped`.
    HelloControl {
        /// No process has had it before.
        incarnation: Incarnation,
        /// When the broker started.
        started: Instant,
        become_user: Option<Identity>,
        config: F,
        /// Its own, as a member's cursor page: its heart beats there.
        page: F,
        /// What dead members counted.
        ledger: F,
    },
    /// To control: this member lives, and its figures are here.
    Page {
        member: MemberId,
        incarnation: Incarnation,
        page: F,
    },
    /// One end of a private connection between control and a worker: to the worker, whose client control is, and to
    /// control.
    Internal { socket: F },
    /// You have been told of every member that lives now. Once joined to each of them, answer `Ready`: only then is
    /// there anything to accept from.
    Welcome,
    /// Another member lives: read its outbox (mapped read-only), count it as a reader of yours.
    Peer {
        member: MemberId,
        incarnation: Incarnation,
        ring_bytes: u32,
        outbox: F,
        cursors: F,
        doorbell: F,
    },
    /// It died: count it no longer; drain its outbox to its last head, then answer `Drained`.
    PeerGone {
        member: MemberId,
        incarnation: Incarnation,
    },
    /// Every live member has drained it.
    PeerRemoved {
        member: MemberId,
        incarnation: Incarnation,
    },
    /// Accept from this socket. `lent_by` is the worker whose it is while that one is down.
    Listener {
        /// Which one of the configuration's listeners.
        listener: u16,
        lent_by: Option<MemberId>,
        socket: F,
    },
    /// Stop accepting from the sockets that `from` lent.
    TakeBack { from: MemberId },
    /// A new configuration snapshot; it was checked whole.
    Config { config: F },
    /// SIGTERM, first step: stop accepting and reading, publish wills, pass the barrier, then answer `Quiet`.
    Quiesce,
    /// SIGTERM, second step: say good-bye to the clients and exit with status 0.
    Stop,
}

/// Child to supervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToSupervisor {
    /// My outbox and cursor page are mapped: seal them and hand them out.
    Mapped,
    /// The answer to `Welcome`: I am in my loop and joined to every member that I was told of.
    Ready,
    /// I have applied all that `member` ever published.
    Drained {
        member: MemberId,
        incarnation: Incarnation,
    },
    /// `member` holds my full ring for too long (times in which the whole machine stood still not counted; said again
    /// after as long a time), or it lies: its cursor or outbox is impossible (said once).
    Stuck {
        member: MemberId,
        incarnation: Incarnation,
        lies: bool,
    },
    /// `Quiesce` is done.
    Quiet,
    /// Control: my connection to a worker is over, and I want another.
    Severed,
}

mod tag {
    pub const HELLO: u8 = 1;
    pub const PEER: u8 = 2;
    pub const PEER_GONE: u8 = 3;
    pub const PEER_REMOVED: u8 = 4;
    pub const LISTENER: u8 = 5;
    pub const TAKE_BACK: u8 = 6;
    pub const CONFIG: u8 = 7;
    pub const QUIESCE: u8 = 8;
    pub const STOP: u8 = 9;
    pub const WELCOME: u8 = 10;
    pub const HELLO_CONTROL: u8 = 11;
    pub const PAGE: u8 = 12;
    pub const INTERNAL: u8 = 13;

    pub const MAPPED: u8 = 65;
    pub const READY: u8 = 66;
    pub const DRAINED: u8 = 67;
    pub const STUCK: u8 = 68;
    pub const QUIET: u8 = 69;
    pub const SEVERED: u8 = 70;
}

/// In the place of a slot: nobody.
const NO_MEMBER: u8 = u8::MAX;

impl<F> ToChild<F> {
    /// The bytes of this message, and what goes beside them.
    pub fn encode(self) -> (Vec<u8>, Vec<F>) {
        let mut out = Vec::with_capacity(64);
        let fds = match self {
            Self::Hello {
                role: _,
                member,
                incarnation,
                hash_key: [key0, key1],
                ring_bytes,
                become_user,
                config,
                outbox,
                cursors,
                doorbell,
            } => {
                put_member(&mut out, tag::HELLO, member, incarnation);
                out.put_u64(key0);
                out.put_u64(key1);
                out.put_u32(ring_bytes);
                put_user(&mut out, become_user);
                vec![config, outbox, cursors, doorbell]
            }
            Self::Peer {
                member,
                incarnation,
                ring_bytes,
                outbox,
                cursors,
                doorbell,
            } => {
                put_member(&mut out, tag::PEER, member, incarnation);
                out.put_u32(ring_bytes);
                vec![outbox, cursors, doorbell]
            }
            Self::Listener {
                listener,
                lent_by,
                socket,
            } => {
                out.put_u8(tag::LISTENER);
                out.put_u16(listener);
                out.put_u8(lent_by.map_or(NO_MEMBER, slot_byte));
                vec![socket]
            }
            Self::Config { config } => {
                out.put_u8(tag::CONFIG);
                vec![config]
            }
            control @ (Self::HelloControl { .. } | Self::Page { .. } | Self::Internal { .. }) => {
                control.encode_for_control(&mut out)
            }
            small => {
                small.encode_small(&mut out);
                vec![]
            }
        };
        (out, fds)
    }

    /// The messages that only control and its worker get.
    fn encode_for_control(self, out: &mut Vec<u8>) -> Vec<F> {
        match self {
            Self::HelloControl {
                incarnation,
                started,
                become_user,
                config,
                page,
                ledger,
            } => {
                out.put_u8(tag::HELLO_CONTROL);
                out.put_u32(incarnation.0);
                out.put_u64(started.0);
                put_user(out, become_user);
                vec![config, page, ledger]
            }
            Self::Page {
                member,
                incarnation,
                page,
            } => {
                put_member(out, tag::PAGE, member, incarnation);
                vec![page]
            }
            Self::Internal { socket } => {
                out.put_u8(tag::INTERNAL);
                vec![socket]
            }
            _ => vec![],
        }
    }

    /// The messages that have no descriptor beside them.
    fn encode_small(self, out: &mut Vec<u8>) {
        match self {
            Self::Hello { .. }
            | Self::HelloControl { .. }
            | Self::Page { .. }
            | Self::Internal { .. }
            | Self::Peer { .. }
            | Self::Listener { .. }
            | Self::Config { .. } => {}
            Self::PeerGone {
                member,
                incarnation,
            } => put_member(out, tag::PEER_GONE, member, incarnation),
            Self::PeerRemoved {
                member,
                incarnation,
            } => put_member(out, tag::PEER_REMOVED, member, incarnation),
            Self::TakeBack { from } => {
                out.put_u8(tag::TAKE_BACK);
                out.put_u8(slot_byte(from));
            }
            Self::Welcome => out.put_u8(tag::WELCOME),
            Self::Quiesce => out.put_u8(tag::QUIESCE),
            Self::Stop => out.put_u8(tag::STOP),
        }
    }

    /// The message that these bytes and descriptors are, with nothing missing and nothing left over.
    pub fn decode(bytes: &[u8], fds: Vec<F>) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let mut fds = fds.into_iter();
        let mut fd = || {
            fds.next().ok_or(WireError {
                what: "a descriptor is missing",
            })
        };
        let message = match reader.u8()? {
            tag::HELLO => {
                let (member, incarnation) = take_member(&mut reader)?;
                let hash_key = [reader.u64()?, reader.u64()?];
                let ring_bytes = take_ring_bytes(&mut reader)?;
                let become_user = take_user(&mut reader)?;
                Self::Hello {
                    role: Role::of(member),
                    member,
                    incarnation,
                    hash_key,
                    ring_bytes,
                    become_user,
                    config: fd()?,
                    outbox: fd()?,
                    cursors: fd()?,
                    doorbell: fd()?,
                }
            }
            tag::PEER => {
                let (member, incarnation) = take_member(&mut reader)?;
                Self::Peer {
                    member,
                    incarnation,
                    ring_bytes: take_ring_bytes(&mut reader)?,
                    outbox: fd()?,
                    cursors: fd()?,
                    doorbell: fd()?,
                }
            }
            tag::LISTENER => {
                let listener = reader.u16()?;
                let lent_by = match reader.u8()? {
                    NO_MEMBER => None,
                    slot => Some(member_in(slot)?),
                };
                Self::Listener {
                    listener,
                    lent_by,
                    socket: fd()?,
                }
            }
            tag::CONFIG => Self::Config { config: fd()? },
            tag @ (tag::HELLO_CONTROL | tag::PAGE | tag::INTERNAL) => {
                Self::decode_for_control(tag, &mut reader, fd)?
            }
            small => Self::decode_small(small, &mut reader)?,
        };
        if !reader.is_empty() || fds.next().is_some() {
            return Err(LEFT_OVER);
        }
        Ok(message)
    }

    /// The messages that only control and its worker get.
    fn decode_for_control(
        tag: u8,
        reader: &mut Reader<'_>,
        mut fd: impl FnMut() -> Result<F, WireError>,
    ) -> Result<Self, WireError> {
        Ok(match tag {
            tag::HELLO_CONTROL => Self::HelloControl {
                incarnation: Incarnation(reader.u32()?),
                started: Instant(reader.u64()?),
                become_user: take_user(reader)?,
                config: fd()?,
                page: fd()?,
                ledger: fd()?,
            },
            tag::PAGE => {
                let (member, incarnation) = take_member(reader)?;
                Self::Page {
                    member,
                    incarnation,
                    page: fd()?,
                }
            }
            tag::INTERNAL => Self::Internal { socket: fd()? },
            _ => return Err(UNKNOWN),
        })
    }

    /// The messages that have no descriptor beside them.
    fn decode_small(tag: u8, reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(match tag {
            tag::PEER_GONE => {
                let (member, incarnation) = take_member(reader)?;
                Self::PeerGone {
                    member,
                    incarnation,
                }
            }
            tag::PEER_REMOVED => {
                let (member, incarnation) = take_member(reader)?;
                Self::PeerRemoved {
                    member,
                    incarnation,
                }
            }
            tag::TAKE_BACK => Self::TakeBack {
                from: member_in(reader.u8()?)?,
            },
            tag::WELCOME => Self::Welcome,
            tag::QUIESCE => Self::Quiesce,
            tag::STOP => Self::Stop,
            _ => return Err(UNKNOWN),
        })
    }
}

impl ToSupervisor {
    /// The bytes of this message.
    pub fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8);
        match self {
            Self::Mapped => out.put_u8(tag::MAPPED),
            Self::Ready => out.put_u8(tag::READY),
            Self::Drained {
                member,
                incarnation,
            } => put_member(&mut out, tag::DRAINED, member, incarnation),
            Self::Stuck {
                member,
                incarnation,
                lies,
            } => {
                put_member(&mut out, tag::STUCK, member, incarnation);
                out.put_u8(u8::from(lies));
            }
            Self::Quiet => out.put_u8(tag::QUIET),
            Self::Severed => out.put_u8(tag::SEVERED),
        }
        out
    }

    /// The message that these bytes are, with nothing missing and nothing left over.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let message = match reader.u8()? {
            tag::MAPPED => Self::Mapped,
            tag::READY => Self::Ready,
            tag::DRAINED => {
                let (member, incarnation) = take_member(&mut reader)?;
                Self::Drained {
                    member,
                    incarnation,
                }
            }
            tag::STUCK => {
                let (member, incarnation) = take_member(&mut reader)?;
                let lies = reader.u8()? != 0;
                Self::Stuck {
                    member,
                    incarnation,
                    lies,
                }
            }
            tag::QUIET => Self::Quiet,
            tag::SEVERED => Self::Severed,
            _ => return Err(UNKNOWN),
        };
        if !reader.is_empty() {
            return Err(LEFT_OVER);
        }
        Ok(message)
    }
}

const UNKNOWN: WireError = WireError {
    what: "unknown control message",
};
pub(super) const LEFT_OVER: WireError = WireError {
    what: "a control message is too long",
};

fn slot_byte(member: MemberId) -> u8 {
    u8::try_from(member.slot()).unwrap_or(NO_MEMBER)
}

fn put_member(out: &mut Vec<u8>, tag: u8, member: MemberId, incarnation: Incarnation) {
    out.put_u8(tag);
    out.put_u8(slot_byte(member));
    out.put_u32(incarnation.0);
}

fn put_user(out: &mut Vec<u8>, user: Option<Identity>) {
    out.put_u8(u8::from(user.is_some()));
    let user = user.unwrap_or(Identity { uid: 0, gid: 0 });
    out.put_u32(user.uid);
    out.put_u32(user.gid);
}

fn take_user(reader: &mut Reader<'_>) -> Result<Option<Identity>, WireError> {
    let changes = take_flag(reader)?;
    let (uid, gid) = (reader.u32()?, reader.u32()?);
    Ok(changes.then_some(Identity { uid, gid }))
}

/// Only slots that a store or worker can have.
fn member_in(slot: u8) -> Result<MemberId, WireError> {
    MemberId::new(usize::from(slot))
        .filter(|member| member.slot() <= WORKERS_MAX)
        .ok_or(WireError {
            what: "no such slot",
        })
}

fn take_member(reader: &mut Reader<'_>) -> Result<(MemberId, Incarnation), WireError> {
    let member = member_in(reader.u8()?)?;
    Ok((member, Incarnation(reader.u32()?)))
}

fn take_ring_bytes(reader: &mut Reader<'_>) -> Result<u32, WireError> {
    let bytes = reader.u32()?;
    if bytes.is_power_of_two() {
        Ok(bytes)
    } else {
        Err(WireError {
            what: "a ring's size is no power of two",
        })
    }
}

fn take_flag(reader: &mut Reader<'_>) -> Result<bool, WireError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(WireError {
            what: "a flag is neither 0 nor 1",
        }),
    }
}

#[cfg(test)]
mod tests;
