//! What the members are told of the store's filters.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use super::NO_RECORD;
use crate::base::ids::{MemberId, MemberMask, Position, Serial};
use crate::base::limits::{INDEX_SLICE_BYTES, INDEX_SLICES_PER_TURN};
use crate::ipc::mesh::{AnnouncedFilter, Announcement, Class, FilterHash, announce, kind};
use crate::ring::Mesh;
use crate::router::interest::Wanted;

/// What the members were told of the store's filters, and who has applied it.
pub(super) struct Announced {
    /// Of filters that are not shared; groups want both.
    pub class: Class,
    /// Who wants filters without wildcards, by their hash: two of one hash must not switch each other off.
    exact: BTreeMap<u64, Wanted>,
    wildcard: BTreeMap<Box<str>, Wanted>,
    /// Members that joined and have not been told everything.
    telling: VecDeque<Telling>,
    /// The last record of it.
    pub last: Serial,
    /// The last record of each turn whose place is not known yet: it may be in the overflow list.
    unplaced: VecDeque<Serial>,
    /// Where the outbox ended when this record was in it.
    placed: VecDeque<(Serial, Position)>,
    /// Every live member has applied the records up to this one.
    pub applied_everywhere: Serial,
}

/// A member that is told everything, and what it was told last.
struct Telling {
    member: MemberId,
    after: After,
}

enum After {
    Exact(Option<u64>),
    Wildcard(Box<str>),
}

impl Announced {
    pub fn new(with_qos0: bool) -> Self {
        Self {
            class: if with_qos0 { Class::BOTH } else { Class::QOS12 },
            exact: BTreeMap::new(),
            wildcard: BTreeMap::new(),
            telling: VecDeque::new(),
            last: NO_RECORD,
            unplaced: VecDeque::new(),
            placed: VecDeque::new(),
            applied_everywhere: NO_RECORD,
        }
    }

    /// A filter that no session had, or a new group of it. `None`: nothing more is wanted than before.
    pub fn add<'a>(
        &mut self,
        filter: &'a str,
        class: Class,
        hash: &FilterHash,
    ) -> Option<Announcement<'a>> {
        if filter.contains(['+', '#']) {
            if !self.wildcard.contains_key(filter) {
                self.wildcard.insert(filter.into(), Wanted::default());
            }
            let class = self.wildcard.get_mut(filter)?.add(class)?;
            let filter = AnnouncedFilter::Wildcard(filter);
            return Some(Announcement { class, filter });
        }
        let hash = hash.of(filter);
        let class = self.exact.entry(hash).or_default().add(class)?;
        let filter = AnnouncedFilter::Exact(hash);
        Some(Announcement { class, filter })
    }

    /// A filter that no session has any more, or a group of it that is gone. `None`: the others want as much.
    pub fn remove<'a>(
        &mut self,
        filter: &'a str,
        class: Class,
        hash: &FilterHash,
    ) -> Option<Announcement<'a>> {
        if filter.contains(['+', '#']) {
            let class = self.wildcard.get_mut(filter)?.remove(class)?;
            if class == Class::default() {
                self.wildcard.remove(filter);
            }
            let filter = AnnouncedFilter::Wildcard(filter);
            return Some(Announcement { class, filter });
        }
        let hash = hash.of(filter);
        let class = self.exact.get_mut(&hash)?.remove(class)?;
        if class == Class::default() {
            self.exact.remove(&hash);
        }
        let filter = AnnouncedFilter::Exact(hash);
        Some(Announcement { class, filter })
    }

    pub fn say<M: Mesh>(
        &mut self,
        changes: &[Announcement<'_>],
        to: MemberMask,
        mesh: &mut M,
        scratch: &mut Vec<u8>,
    ) {
        if !changes.is_empty() {
            self.last = announce(mesh, to, changes, scratch);
        }
    }

    /// `member` has just joined, and is to be told everything.
    pub fn joined(&mut self, member: MemberId) {
        self.telling.push_back(Telling {
            member,
            after: After::Exact(None),
        });
    }

    /// Nothing is said to it any more.
    pub fn gone(&mut self, member: MemberId) {
        self.telling.retain(|telling| telling.member != member);
    }

    /// Whether members that joined have not been told everything.
    pub fn is_telling(&self) -> bool {
        !self.telling.is_empty()
    }

    /// Tells members that joined what is announced, as much as one turn allows and the outbox has room for. What changes
    /// meanwhile is said to them as to everybody.
    pub fn tell<M: Mesh>(&mut self, mesh: &mut M, scratch: &mut Vec<u8>) {
        for _ in 0..INDEX_SLICES_PER_TURN {
            if mesh.overflow_bytes() > 0 {
                return;
            }
            let Some(mut telling) = self.telling.pop_front() else {
                return;
            };
            let to = telling.member.mask();
            let slice = self.slice(&telling.after);
            if let Some(last) = slice.last() {
                announce(mesh, to, &slice, scratch);
                telling.after = match last.filter {
                    AnnouncedFilter::Exact(hash) => After::Exact(Some(hash)),
                    AnnouncedFilter::Wildcard(filter) => After::Wildcard(filter.into()),
                };
                self.telling.push_front(telling);
            } else {
                mesh.append(to, kind::INDEX_END, &[]);
            }
        }
    }

    /// What comes next; nothing behind the last.
    fn slice(&self, after: &After) -> Vec<Announcement<'_>> {
        let exact_from = match after {
            After::Exact(hash) => hash.map_or(Bound::Unbounded, Bound::Excluded),
            After::Wildcard(_) => Bound::Excluded(u64::MAX),
        };
        let wildcard_from = match after {
            After::Exact(_) => Bound::Unbounded,
            After::Wildcard(filter) => Bound::Excluded(&**filter),
        };
        let exact = self.exact.range((exact_from, Bound::Unbounded));
        let exact = exact.map(|(hash, wanted)| (AnnouncedFilter::Exact(*hash), wanted));
        let wildcard = self
            .wildcard
            .range::<str, _>((wildcard_from, Bound::Unbounded));
        let wildcard = wildcard.map(|(f, wanted)| (AnnouncedFilter::Wildcard(f), wanted));
        let mut bytes = 0;
        exact
            .chain(wildcard)
            .map_while(|(filter, wanted)| {
                let class = wanted.class();
                let room = bytes < INDEX_SLICE_BYTES;
                bytes += match filter {
                    AnnouncedFilter::Exact(_) => 9,
                    AnnouncedFilter::Wildcard(filter) => filter.len() + 3,
                };
                room.then_some(Announcement { class, filter })
            })
            .collect()
    }

    /// Finds the place of what was announced, and asks for a wake-up if somebody waits. Whether everybody has
    /// applied it already: then nobody rings.
    pub fn flushed<M: Mesh>(&mut self, is_awaited: bool, mesh: &mut M) -> bool {
        let placed = self.placed.back().map(|(serial, _)| *serial);
        let known = self.unplaced.back().copied().or(placed);
        if self.last > known.unwrap_or(self.applied_everywhere) {
            self.unplaced.push_back(self.last);
        }
        while let Some(serial) = self
            .unplaced
            .front()
            .copied()
            .filter(|s| *s <= mesh.covered())
        {
            self.unplaced.pop_front();
            self.placed.push_back((serial, mesh.head()));
        }
        match self.placed.front() {
            Some((_, position)) if is_awaited => {
                mesh.wake_when_passed(*position);
                mesh.passed(mesh.live()) >= *position
            }
            _ => false,
        }
    }

    /// Looks how far everybody is.
    pub fn passed<M: Mesh>(&mut self, mesh: &M) {
        if self.placed.is_empty() {
            return;
        }
        let passed = mesh.passed(mesh.live());
        while let Some((serial, _)) = self.placed.front().filter(|(_, at)| *at <= passed) {
            self.applied_everywhere = *serial;
            self.placed.pop_front();
        }
    }
}
