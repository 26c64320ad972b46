//! Control messages between the supervisor and each child, over a SOCK_SEQPACKET pair. One enum per receiver.
//!
//! Descriptors travel beside the bytes (SCM_RIGHTS), in the order of the fields. A child that reads what it does
//! not understand ends: the supervisor and its children are always the same binary. The supervisor that reads what
//! it does not understand ends that child.

use std::os::fd::OwnedFd;

use crate::base::ids::{Incarnation, MemberId};

/// What a child is started as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The network, inbound.
    Worker(u8),
    /// State and disk.
    Store,
}

/// Supervisor to child.
#[derive(Debug)]
pub enum ToChild {
    /// First message: who you are and what is yours. Map `outbox` and `cursors`, then answer `Mapped`.
    Hello {
        role: Role,
        member: MemberId,
        incarnation: Incarnation,
        /// Keys the hashes of topics and filters for this start of the broker.
        hash_key: [u64; 2],
        /// Bytes of ring in `outbox` (a power of two).
        ring_bytes: u32,
        /// The sealed configuration snapshot.
        config: OwnedFd,
        outbox: OwnedFd,
        cursors: OwnedFd,
        doorbell: OwnedFd,
    },
    /// Another member lives: read its outbox (mapped read-only), count it as a reader of yours.
    Peer {
        member: MemberId,
        incarnation: Incarnation,
        ring_bytes: u32,
        outbox: OwnedFd,
        cursors: OwnedFd,
        doorbell: OwnedFd,
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
        listener: u16,
        lent_by: Option<MemberId>,
        socket: OwnedFd,
    },
    /// Stop accepting from the sockets that `from` lent.
    TakeBack { from: MemberId },
    /// A new configuration snapshot; it was checked whole.
    Config { config: OwnedFd },
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
    /// I am in my loop and joined to every member that I was told of.
    Ready,
    /// I have applied all that `member` ever published.
    Drained {
        member: MemberId,
        incarnation: Incarnation,
    },
    /// `member` holds my full ring for too long, or its cursor is impossible.
    Stuck {
        member: MemberId,
        incarnation: Incarnation,
    },
    /// `Quiesce` is done.
    Quiet,
}
