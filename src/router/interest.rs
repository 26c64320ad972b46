//! What this member wants from the others: the union of what its own subscribers want.
//!
//! Counted per hash for filters without wildcards, not per filter: two filters of one hash must not switch each other
//! off. Filters with wildcards are counted by their numbers in the member's own index, which has their text.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

use super::index::{FilterId, Index};
use crate::ipc::mesh::{AnnouncedFilter, Announcement, Class, FilterHash};
use crate::mqtt::Filter;

/// The filters that this member has announced, and how many of its subscribers want each.
#[derive(Debug)]
pub struct Interest {
    hash: FilterHash,
    exact: HashMap<u64, Wanted, RandomState>,
    wild: HashMap<FilterId, Wanted, RandomState>,
}

/// How many subscribers want each class.
#[derive(Debug, Default, Clone, Copy)]
pub struct Wanted {
    qos0: u32,
    qos12: u32,
}

/// An announcement that keeps its filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announced {
    class: Class,
    filter: Kept,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Kept {
    Exact(u64),
    Wildcard(Box<str>),
}

impl From<&Announcement<'_>> for Announced {
    fn from(change: &Announcement<'_>) -> Self {
        let filter = match change.filter {
            AnnouncedFilter::Exact(hash) => Kept::Exact(hash),
            AnnouncedFilter::Wildcard(filter) => Kept::Wildcard(filter.into()),
        };
        let class = change.class;
        Self { class, filter }
    }
}

impl Announced {
    /// What is announced.
    pub fn announcement(&self) -> Announcement<'_> {
        match &self.filter {
            Kept::Exact(hash) => exact(*hash, self.class),
            Kept::Wildcard(filter) => wildcard(filter, self.class),
        }
    }

    /// Bytes that it takes in a record, roughly.
    pub fn bytes(&self) -> usize {
        match &self.filter {
            Kept::Exact(_) => 9,
            Kept::Wildcard(filter) => filter.len() + 3,
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

    /// One more subscriber wants `class` of `filter`, which the index has under this number; what must be announced,
    /// if anything.
    pub fn add<'a>(
        &mut self,
        (id, filter): (FilterId, Filter<'a>),
        class: Class,
    ) -> Option<Announcement<'a>> {
        if filter.has_wildcard() {
            let changed = self.wild.entry(id).or_default().add(class)?;
            return Some(wildcard(filter.as_str(), changed));
        }
        let hash = self.hash.of(filter.as_str());
        let changed = self.exact.entry(hash).or_default().add(class)?;
        Some(exact(hash, changed))
    }

    /// One subscriber less; what must be announced, if anything. To be told before the number is another filter's.
    pub fn remove<'a>(
        &mut self,
        (id, filter): (FilterId, Filter<'a>),
        class: Class,
    ) -> Option<Announcement<'a>> {
        if filter.has_wildcard() {
            let changed = self.wild.get_mut(&id)?.remove(class)?;
            if changed == Class::default() {
                self.wild.remove(&id);
            }
            return Some(wildcard(filter.as_str(), changed));
        }
        let hash = self.hash.of(filter.as_str());
        let changed = self.exact.get_mut(&hash)?.remove(class)?;
        if changed == Class::default() {
            self.exact.remove(&hash);
        }
        Some(exact(hash, changed))
    }

    /// What is announced of a filter of the index at this moment, for a member that joins; `None` if that is nothing.
    /// What changes afterwards is announced to it as it changes.
    pub fn announced<K: Copy + Eq + Hash, V>(
        &self,
        id: FilterId,
        index: &Index<K, V>,
        text: &mut String,
    ) -> Option<Announced> {
        if !index.text(id, text) {
            return None;
        }
        let filter = Filter::trusted(text);
        if filter.has_wildcard() {
            let class = self.wild.get(&id)?.class();
            return Some(Announced::from(&wildcard(text, class)));
        }
        let hash = self.hash.of(filter.as_str());
        Some(Announced::from(&exact(
            hash,
            self.exact.get(&hash)?.class(),
        )))
    }

    /// The hash of a topic, as members compare it with announced filters.
    pub fn hash(&self) -> &FilterHash {
        &self.hash
    }
}

fn exact(hash: u64, class: Class) -> Announcement<'static> {
    let filter = AnnouncedFilter::Exact(hash);
    Announcement { class, filter }
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
        let mut index = Index::new();
        for name in ["a/b", "a/+"] {
            let filter = Filter::new(name).unwrap();
            let id = index.insert(filter, 1, ()).filter;
            let mut announced = String::new();
            let filter = (id, filter);
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
            let entry = interest.announced(id, &index, &mut announced).unwrap();
            assert_eq!((entry.class, announced.as_str()), (Class::BOTH, name));
            assert_eq!(
                interest.remove(filter, Class::BOTH).map(|a| a.class),
                Some(Class::QOS0)
            );
            assert_eq!(
                interest.remove(filter, Class::QOS0).map(|a| a.class),
                Some(Class(0))
            );
            assert_eq!(interest.announced(id, &index, &mut announced), None);
            assert_eq!(interest.remove(filter, Class::QOS0), None);
        }
    }
}
