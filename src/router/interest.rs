//! What this member wants from the others: the union of what its own subscribers want.
//!
//! Counted per hash for filters without wildcards, not per filter: two filters of one hash must not switch each other
//! off.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::ipc::mesh::{AnnouncedFilter, Announcement, Class, FilterHash};
use crate::mqtt::Filter;

/// The filters that this member has announced, and how many of its subscribers want each.
#[derive(Debug)]
pub struct Interest {
    hash: FilterHash,
    exact: HashMap<u64, Wanted, RandomState>,
    wild: HashMap<Box<str>, Wanted, RandomState>,
}

/// How many subscribers want each class.
#[derive(Debug, Default, Clone, Copy)]
pub struct Wanted {
    qos0: u32,
    qos12: u32,
}

/// A filter as it was announced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Announced {
    /// The hash of a filter without wildcards.
    Exact(u64),
    /// A filter with wildcards.
    Wildcard(Box<str>),
}

impl Announced {
    /// Bytes that its announcement takes, roughly.
    pub fn announced_bytes(&self) -> usize {
        match self {
            Self::Exact(_) => 9,
            Self::Wildcard(filter) => filter.len() + 3,
        }
    }
}

impl Wanted {
    /// What somebody wants.
    pub fn class(self) -> Class {
        Class(
            (u8::from(self.qos0 > 0) * Class::QOS0.0) | (u8::from(self.qos12 > 0) * Class::QOS12.0),
        )
    }

    /// One more subscriber wants `class`; the class after it if that is another than before.
    pub fn add(&mut self, class: Class) -> Option<Class> {
        self.count(class, |n| n.saturating_add(1))
    }

    /// One subscriber of `class` less; as [`Wanted::add`].
    pub fn remove(&mut self, class: Class) -> Option<Class> {
        self.count(class, |n| n.saturating_sub(1))
    }

    /// Counts one subscriber in or out; the class after it if that is another than before.
    fn count(&mut self, class: Class, change: impl Fn(u32) -> u32) -> Option<Class> {
        let before = self.class();
        if class.contains(Class::QOS0) {
            self.qos0 = change(self.qos0);
        }
        if class.contains(Class::QOS12) {
            self.qos12 = change(self.qos12);
        }
        Some(self.class()).filter(|after| *after != before)
    }
}

impl Interest {
    /// No filter. Every member hashes with the same key.
    pub fn new(hash: FilterHash) -> Self {
        Self {
            hash,
            exact: HashMap::default(),
            wild: HashMap::default(),
        }
    }

    /// One more subscriber wants `class` of `filter`; what must be announced, if anything.
    pub fn add<'a>(&mut self, filter: Filter<'a>, class: Class) -> Option<Announcement<'a>> {
        if filter.has_wildcard() {
            if !self.wild.contains_key(filter.as_str()) {
                self.wild.insert(filter.as_str().into(), Wanted::default());
            }
            let changed = self.wild.get_mut(filter.as_str())?.add(class)?;
            return Some(wildcard(filter.as_str(), changed));
        }
        let hash = self.hash.of(filter.as_str());
        let changed = self.exact.entry(hash).or_default().add(class)?;
        Some(Announcement {
            class: changed,
            filter: AnnouncedFilter::Exact(hash),
        })
    }

    /// One subscriber less; what must be announced, if anything.
    pub fn remove<'a>(&mut self, filter: Filter<'a>, class: Class) -> Option<Announcement<'a>> {
        if filter.has_wildcard() {
            let changed = self.wild.get_mut(filter.as_str())?.remove(class)?;
            if changed == Class::default() {
                self.wild.remove(filter.as_str());
            }
            return Some(wildcard(filter.as_str(), changed));
        }
        let hash = self.hash.of(filter.as_str());
        let changed = self.exact.get_mut(&hash)?.remove(class)?;
        if changed == Class::default() {
            self.exact.remove(&hash);
        }
        Some(Announcement {
            class: changed,
            filter: AnnouncedFilter::Exact(hash),
        })
    }

    /// All that is announced now, for a member that joins. What changes afterwards is announced to it as it changes,
    /// so an entry that has gone meanwhile is skipped by [`Interest::announcement`].
    pub fn announced(&self) -> Vec<Announced> {
        let exact = self.exact.keys().map(|hash| Announced::Exact(*hash));
        exact
            .chain(self.wild.keys().map(|f| Announced::Wildcard(f.clone())))
            .collect()
    }

    /// What stands for an entry at this moment; `None` when nobody wants it any more.
    pub fn announcement<'a>(&self, entry: &'a Announced) -> Option<Announcement<'a>> {
        match entry {
            Announced::Exact(hash) => {
                let class = self.exact.get(hash)?.class();
                Some(Announcement {
                    class,
                    filter: AnnouncedFilter::Exact(*hash),
                })
            }
            Announced::Wildcard(filter) => Some(wildcard(filter, self.wild.get(filter)?.class())),
        }
    }

    /// The hash of a topic, as members compare it with announced filters.
    pub fn hash(&self) -> &FilterHash {
        &self.hash
    }
}

fn wildcard(filter: &str, class: Class) -> Announcement<'_> {
    Announcement {
        class,
        filter: AnnouncedFilter::Wildcard(filter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_and_the_last_subscriber_of_a_class_are_announced() {
        let mut interest = Interest::new(FilterHash::new([1, 2]));
        for name in ["a/b", "a/+"] {
            let filter = Filter::new(name).unwrap();
            assert_eq!(
                interest.add(filter, Class::QOS0).map(|a| a.class),
                Some(Class::QOS0)
            );
            assert_eq!(
                interest.add(filter, Class::BOTH).map(|a| a.class),
                Some(Class::BOTH)
            );
            assert_eq!(interest.add(filter, Class::BOTH), None);
            assert_eq!(interest.remove(filter, Class::BOTH), None);
            assert_eq!(interest.announced().len(), 1);
            assert_eq!(
                interest.remove(filter, Class::BOTH).map(|a| a.class),
                Some(Class::QOS0)
            );
            assert_eq!(
                interest.remove(filter, Class::QOS0).map(|a| a.class),
                Some(Class(0))
            );
            assert_eq!(interest.announced(), []);
            assert_eq!(interest.remove(filter, Class::QOS0), None);
        }
    }
}
