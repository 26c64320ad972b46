//! Names of members, incarnations and positions: small integers that must not be mixed.

use std::fmt;

use super::limits::MEMBERS_MAX;

/// The slot of a ring member: 0 is the store, 1.. are the workers. Always below [`MEMBERS_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(u8);

impl MemberId {
    /// The store's slot.
    pub const STORE: Self = Self(0);

    /// The member in `slot`, or `None` at [`MEMBERS_MAX`] and beyond.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "below MEMBERS_MAX, which is 64"
    )]
    pub const fn new(slot: usize) -> Option<Self> {
        if slot < MEMBERS_MAX {
            Some(Self(slot as u8))
        } else {
            None
        }
    }

    /// The slot of worker `index` (0, 1, ...), or `None` when there are not that many slots.
    pub const fn worker(index: usize) -> Option<Self> {
        Self::new(index + 1)
    }

    /// The slot number, for indexing tables of [`MEMBERS_MAX`] entries.
    pub const fn slot(self) -> usize {
        self.0 as usize
    }

    /// The mask that holds this member alone.
    pub const fn mask(self) -> MemberMask {
        MemberMask(1 << self.0)
    }

    /// Every slot there is.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..MEMBERS_MAX).filter_map(Self::new)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("store"),
            n => write!(f, "worker {}", n - 1),
        }
    }
}

/// A set of members, one bit a slot.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct MemberMask(pub u64);

impl MemberMask {
    /// No member.
    pub const NONE: Self = Self(0);
    /// Every member there could be.
    pub const ALL: Self = Self(u64::MAX);

    /// Whether `member` is in the set.
    pub const fn contains(self, member: MemberId) -> bool {
        self.0 & member.mask().0 != 0
    }

    /// The set with `member` in it.
    #[must_use]
    pub const fn with(self, member: MemberId) -> Self {
        Self(self.0 | member.mask().0)
    }

    /// The set with `member` not in it.
    #[must_use]
    pub const fn without(self, member: MemberId) -> Self {
        Self(self.0 & !member.mask().0)
    }

    /// Members of either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Members of both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether nobody is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members in the set, lowest slot first.
    pub fn iter(self) -> impl Iterator<Item = MemberId> {
        MemberId::all().filter(move |m| self.contains(*m))
    }
}

impl fmt::Debug for MemberMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// One life of a member: the supervisor counts up and never reuses a number. 0 is nobody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Incarnation(pub u32);

/// Bytes written to an outbox since it was made. The shared words hold the low 32 bits only (see `ring`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position(pub u64);

/// How many records a member has appended to its outbox, those in its overflow list included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Serial(pub u64);

/// The store's number for a client id; 0 is "no client" (the broker itself). Not reused while any session or
/// claim of it lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ClientNumber(pub u32);

/// One connection's claim of its client id. Counts up within one incarnation of a worker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ClaimSerial(pub u64);

/// A message of a shared subscription that a client was given and has not acknowledged. Never reused by one
/// store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ShareToken(pub u64);
