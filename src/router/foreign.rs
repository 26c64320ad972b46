//! What the other members want: filter -> members, as they announced it.
//!
//! A filter leads to a set of members, and there are few different sets: each stands once, and filters hold its number.
//! So a member is forgotten at once, by leaving the sets; the filters that nobody wants after that are cleared away in
//! small steps.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::index::Index;
use crate::base::ids::{MemberId, MemberMask};
use crate::ipc::mesh::{AnnouncedFilter, Announcement, Class, FilterHash};
use crate::mqtt::{Filter, Topic};

/// The announced filters of every other member.
#[derive(Debug)]
pub struct Foreign {
    hash: FilterHash,
    sets: Sets,
    /// By the hash of a filter without wildcards, in parts by its first bits: neither growing nor clearing away holds
    /// up the worker for longer than one part takes.
    exact: Vec<Part>,
    wild: Index<(), SetId>,
    /// Where the search for filters that nobody wants goes on: parts first, then the numbers of `wild`.
    cleared: (usize, u32),
}

/// The two halves of the hash, so that an entry takes twelve bytes.
type Part = HashMap<[u32; 2], SetId, RandomState>;

const PART_BITS: u32 = 6;

#[expect(
    clippy::cast_possible_truncation,
    reason = "the two halves, and a few bits"
)]
fn place(hash: u64) -> (usize, [u32; 2]) {
    let part = (hash >> (u64::BITS - PART_BITS)) as usize;
    (part, [(hash >> 32) as u32, hash as u32])
}

impl Foreign {
    /// Nobody wants anything yet.
    pub fn new(hash: FilterHash) -> Self {
        Self {
            hash,
            sets: Sets::default(),
            exact: (0..1 << PART_BITS).map(|_| Part::default()).collect(),
            wild: Index::new(),
            cleared: (0, 0),
        }
    }

    /// Applies what `member` announced. False if the filter is none.
    pub fn apply(&mut self, member: MemberId, change: &Announcement<'_>) -> bool {
        match change.filter {
            AnnouncedFilter::Exact(hash) => {
                let (part, key) = place(hash);
                let Some(part) = self.exact.get_mut(part) else {
                    return false;
                };
                let before = part.get(&key).copied();
                match self.sets.changed(before, member, change.class) {
                    Some(set) => part.insert(key, set),
                    None => part.remove(&key),
                };
            }
            AnnouncedFilter::Wildcard(filter) => {
                let Some(filter) = Filter::new(filter) else {
                    return false;
                };
                let before = self.wild.get(filter, ()).copied();
                match self.sets.changed(before, member, change.class) {
                    Some(set) => {
                        self.wild.insert(filter, (), set);
                    }
                    None => {
                        self.wild.remove(filter, ());
                    }
                }
            }
        }
        true
    }

    /// Forgets all that `member` announced. [`Foreign::clear`] frees the memory.
    pub fn forget(&mut self, member: MemberId) {
        self.sets.forget(member);
        self.cleared = (0, 0);
    }

    /// How many filters somebody wants, or wanted until [`Foreign::clear`].
    pub fn len(&self) -> usize {
        self.exact.iter().map(Part::len).sum::<usize>() + self.wild.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there are filters that nobody wants.
    pub fn has_unwanted(&self) -> bool {
        self.sets.unwanted > 0
    }

    /// Clears away filters that nobody wants: one part of those without wildcards, or looks at `steps` of the others.
    pub fn clear(&mut self, steps: usize) {
        if !self.has_unwanted() {
            return;
        }
        let (part, from) = self.cleared;
        let sets = &mut self.sets;
        if let Some(part) = self.exact.get_mut(part) {
            part.retain(|_, set| !sets.release_if_unwanted(*set));
            if part.is_empty() {
                *part = Part::default();
            } else if part.capacity() / 4 > part.len() {
                part.shrink_to_fit();
            }
            self.cleared.0 += 1;
            return;
        }
        let mut end = None;
        for number in self.wild.numbers(from).take(steps) {
            end = Some(number.after());
            let set = self.wild.get_from(number, ()).copied();
            if set.is_some_and(|set| sets.release_if_unwanted(set)) {
                self.wild.remove_from(number, ());
            }
        }
        match end {
            Some(end) => self.cleared.1 = end,
            // Another member was forgotten meanwhile: once more.
            None => self.cleared = (0, 0),
        }
    }

    /// The members that want a publish of `class` to `topic`.
    pub fn members(&self, topic: Topic<'_>, class: Class) -> MemberMask {
        let of = |set: SetId| {
            let [qos0, qos12] = self.sets.get(set);
            if class == Class::QOS0 { qos0 } else { qos12 }
        };
        let (part, key) = place(self.hash.of(topic.as_str()));
        let exact = self.exact.get(part).and_then(|part| part.get(&key));
        let mut members = exact.map_or(MemberMask::NONE, |set| of(*set));
        self.wild
            .for_each_match(topic, |(), set| members = members.union(of(*set)));
        members
    }
}

/// The number of a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct SetId(u32);

/// Who wants QoS 0, who wants QoS 1 and 2.
type Wants = [MemberMask; 2];

const NOBODY: Wants = [MemberMask::NONE; 2];

/// Sets of members, and how many filters lead to each. Two may be equal, after a member has left them.
#[derive(Debug, Default)]
struct Sets {
    sets: Vec<(Wants, u32)>,
    free: Vec<u32>,
    by_wants: HashMap<Wants, u32, RandomState>,
    /// Filters that lead to nobody.
    unwanted: u64,
}

impl Sets {
    fn get(&self, set: SetId) -> Wants {
        self.sets.get(set.0 as usize).map_or(NOBODY, |(w, _)| *w)
    }

    /// The set of a filter after `member` has announced it; `None` when nobody wants it any more.
    fn changed(&mut self, before: Option<SetId>, member: MemberId, class: Class) -> Option<SetId> {
        let mut wants = before.map_or(NOBODY, |set| self.get(set));
        for (mask, of) in wants.iter_mut().zip([Class::QOS0, Class::QOS12]) {
            *mask = if class.contains(of) {
                mask.with(member)
            } else {
                mask.without(member)
            };
        }
        // The new one first: a set that goes and comes back would be made anew each time.
        let after = (wants != NOBODY).then(|| self.take(wants));
        if let Some(before) = before {
            self.release(before);
        }
        after
    }

    fn take(&mut self, wants: Wants) -> SetId {
        let Self {
            sets,
            free,
            by_wants,
            ..
        } = self;
        let id = *by_wants.entry(wants).or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                sets.push((NOBODY, 0));
                // Fewer sets than filters, and of these there are not so many; see `Slots`.
                u32::try_from(sets.len() - 1).unwrap_or(u32::MAX)
            })
        });
        if let Some(set) = sets.get_mut(id as usize) {
            *set = (wants, set.1 + 1);
        }
        SetId(id)
    }

    fn release(&mut self, set: SetId) {
        let Some((wants, filters)) = self.sets.get_mut(set.0 as usize) else {
            return;
        };
        self.unwanted -= u64::from(*wants == NOBODY);
        *filters -= 1;
        if *filters == 0 {
            if self.by_wants.get(wants) == Some(&set.0) {
                self.by_wants.remove(wants);
            }
            *wants = NOBODY;
            self.free.push(set.0);
        }
    }

    fn release_if_unwanted(&mut self, set: SetId) -> bool {
        let unwanted = self.get(set) == NOBODY;
        if unwanted {
            self.release(set);
        }
        unwanted
    }

    fn forget(&mut self, member: MemberId) {
        self.by_wants.clear();
        self.unwanted = 0;
        for (id, (wants, filters)) in (0..).zip(&mut self.sets) {
            *wants = wants.map(|mask| mask.without(member));
            if *wants == NOBODY {
                self.unwanted += u64::from(*filters);
            } else {
                self.by_wants.insert(*wants, id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn members_are_found_by_class_and_forgotten_whole() {
        let hash = FilterHash::new([3, 4]);
        let mut foreign = Foreign::new(hash.clone());
        let (a, b) = (MemberId::new(1).unwrap(), MemberId::new(2).unwrap());
        let exact = AnnouncedFilter::Exact(hash.of("x/y"));
        assert!(foreign.apply(
            a,
            &Announcement {
                class: Class::QOS0,
                filter: exact
            }
        ));
        let wild = AnnouncedFilter::Wildcard("x/#");
        assert!(foreign.apply(
            b,
            &Announcement {
                class: Class::BOTH,
                filter: wild
            }
        ));
        let topic = Topic::new("x/y").unwrap();
        assert_eq!(foreign.members(topic, Class::QOS0), a.mask().with(b));
        assert_eq!(foreign.members(topic, Class::QOS12), b.mask());
        foreign.forget(b);
        assert!(foreign.has_unwanted());
        assert!(foreign.apply(
            a,
            &Announcement {
                class: Class(0),
                filter: exact
            }
        ));
        assert!(foreign.members(topic, Class::QOS0).is_empty());
        while foreign.has_unwanted() {
            foreign.clear(1);
        }
        assert!(foreign.exact.iter().all(Part::is_empty) && foreign.wild.is_empty());
        assert!(foreign.sets.by_wants.is_empty());
    }

    proptest! {
        /// Against a list of who announced what; clearing away goes on in between, with announcements of the same
        /// member's next life too.
        #[test]
        fn members_are_found_as_in_a_list(
            steps in prop::collection::vec(
                (0u8..6, 1usize..4, "([ab]|\\+)(/([ab]|\\+)){0,2}(/#)?", 0u8..4), 1..80),
            topics in prop::collection::vec("[ab](/[ab]){0,2}", 1..8),
        ) {
            let hash = FilterHash::new([5, 6]);
            let mut foreign = Foreign::new(hash.clone());
            let mut model: BTreeMap<(MemberId, String), Class> = BTreeMap::new();
            for (what, slot, name, class) in steps {
                let member = MemberId::new(slot).unwrap();
                match what {
                    0 => {
                        foreign.forget(member);
                        model.retain(|(m, _), _| *m != member);
                    }
                    1 | 2 => (0..=slot * 20).for_each(|_| foreign.clear(slot)),
                    _ => {
                        let filter = match name.contains(['+', '#']) {
                            true => AnnouncedFilter::Wildcard(&name),
                            false => AnnouncedFilter::Exact(hash.of(&name)),
                        };
                        let class = Class(class);
                        let applied = foreign.apply(member, &Announcement { class, filter });
                        prop_assert!(applied);
                        model.insert((member, name), class);
                    }
                }
                for topic in topics.iter().filter_map(|t| Topic::new(t)) {
                    for class in [Class::QOS0, Class::QOS12] {
                        let wanted = model.iter().filter(|((_, f), c)| {
                            c.contains(class) && Filter::new(f).unwrap().matches(topic)
                        });
                        let expected = wanted.fold(MemberMask::NONE, |mask, ((m, _), _)| mask.with(*m));
                        prop_assert_eq!(foreign.members(topic, class), expected);
                    }
                }
            }
            MemberId::all().for_each(|member| foreign.forget(member));
            while foreign.has_unwanted() {
                foreign.clear(3);
            }
            prop_assert!(foreign.exact.iter().all(Part::is_empty) && foreign.wild.is_empty());
            prop_assert!(foreign.sets.sets.iter().all(|(_, filters)| *filters == 0));
        }
    }
}
