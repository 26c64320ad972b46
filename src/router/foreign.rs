//! What the other members want: filter -> members, as they announced it.

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
    /// By the hash of a filter without wildcards: who wants QoS 0, who wants QoS 1 and 2.
    exact: HashMap<u64, [MemberMask; 2], RandomState>,
    wild: Index<MemberId, Class>,
}

impl Foreign {
    /// Nobody wants anything yet.
    pub fn new(hash: FilterHash) -> Self {
        Self {
            hash,
            exact: HashMap::default(),
            wild: Index::new(),
        }
    }

    /// Applies what `member` announced. False if the filter is none.
    pub fn apply(&mut self, member: MemberId, change: &Announcement<'_>) -> bool {
        match change.filter {
            AnnouncedFilter::Exact(hash) => {
                let wants = self.exact.entry(hash).or_default();
                for (mask, class) in wants.iter_mut().zip([Class::QOS0, Class::QOS12]) {
                    *mask = if change.class.contains(class) {
                        mask.with(member)
                    } else {
                        mask.without(member)
                    };
                }
                if wants.iter().all(|mask| mask.is_empty()) {
                    self.exact.remove(&hash);
                }
                true
            }
            AnnouncedFilter::Wildcard(filter) => {
                let Some(filter) = Filter::new(filter) else {
                    return false;
                };
                if change.class == Class::default() {
                    self.wild.remove(filter, member);
                } else {
                    self.wild.insert(filter, member, change.class);
                }
                true
            }
        }
    }

    /// Forgets all that `member` announced.
    pub fn forget(&mut self, member: MemberId) {
        self.exact.retain(|_, wants| {
            wants
                .iter_mut()
                .for_each(|mask| *mask = mask.without(member));
            wants.iter().any(|mask| !mask.is_empty())
        });
        self.wild.remove_everywhere(member);
    }

    /// The members that want a publish of `class` to `topic`.
    pub fn members(&self, topic: Topic<'_>, class: Class) -> MemberMask {
        let mut members = MemberMask::NONE;
        if !self.exact.is_empty()
            && let Some([qos0, qos12]) = self.exact.get(&self.hash.of(topic.as_str()))
        {
            members = if class == Class::QOS0 { *qos0 } else { *qos12 };
        }
        self.wild.for_each_match(topic, |member, wanted| {
            if wanted.contains(class) {
                members = members.with(member);
            }
        });
        members
    }
}

#[cfg(test)]
mod tests {
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
        assert!(foreign.apply(
            a,
            &Announcement {
                class: Class(0),
                filter: exact
            }
        ));
        assert!(foreign.members(topic, Class::QOS0).is_empty());
        assert!(foreign.exact.is_empty() && foreign.wild.is_empty());
    }
}
