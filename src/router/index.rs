//! Which subscribers' filters match a topic.
//!
//! Filters without wildcards are found by one hash; the others stand in a tree with a node per level. Worker and
//! store use the same index with other keys. `$share` prefixes are the caller's: an index holds plain filters. All
//! filters stand in one vector, and each has a number as long as it has a subscriber.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::quality::RandomState;

use super::subscribers::Subscribers;
use super::table::{Ids, NONE, Slots};
use super::tree::{End, Tree};
use crate::mqtt::{Filter, Topic};

/// Filters and who subscribed to them. `K` names a subscriber, `V` is what it asked for.
#[derive(Debug)]
pub struct Index<K, V> {
    filters: Slots<Entry<K, V>>,
    exact: Ids,
    wild: Tree,
    wild_filters: usize,
    hasher: RandomState,
}

#[derive(Debug)]
struct Entry<K, V> {
    name: Name,
    subscribers: Subscribers<K, V>,
}

#[derive(Debug)]
enum Name {
    Exact(Box<str>),
    Wild(End),
}

/// A filter of one index, as long as somebody is subscribed to it. Later it may be another's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FilterId(u32);

/// What [`Index::insert`] did.
#[derive(Debug, PartialEq, Eq)]
pub struct Inserted<V> {
    /// Which filter it is here.
    pub filter: FilterId,
    /// Nobody had this filter before.
    pub first: bool,
    /// What this subscriber had asked for before.
    pub replaced: Option<V>,
}

/// What [`Index::remove`] did.
#[derive(Debug, PartialEq, Eq)]
pub struct Removed<V> {
    /// Which filter it was here.
    pub filter: FilterId,
    /// Nobody has this filter any more.
    pub last: bool,
    /// What this subscriber had asked for.
    pub value: V,
}

impl<K: Copy + Eq + Hash, V> Default for Index<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy + Eq + Hash, V> Index<K, V> {
    /// No filter.
    pub fn new() -> Self {
        Self {
            filters: Slots::default(),
            exact: Ids::default(),
            wild: Tree::new(),
            wild_filters: 0,
            hasher: RandomState::default(),
        }
    }

    /// Subscribes `key` to `filter`, or changes what it asks for.
    pub fn insert(&mut self, filter: Filter<'_>, key: K, value: V) -> Inserted<V> {
        let id = match self.find(filter) {
            Some(id) => id,
            None => self.add(filter),
        };
        let subscribers = self.filters.get_mut(id).map(|entry| &mut entry.subscribers);
        let first = subscribers.as_ref().is_some_and(|s| s.is_empty());
        Inserted {
            filter: FilterId(id),
            first,
            replaced: subscribers.and_then(|s| s.insert(key, value)),
        }
    }

    /// Ends the subscription of `key` to `filter`; `None` if there is none.
    pub fn remove(&mut self, filter: Filter<'_>, key: K) -> Option<Removed<V>> {
        let id = self.find(filter)?;
        self.remove_from(FilterId(id), key)
    }

    /// As [`Index::remove`], for a filter of this index.
    pub fn remove_from(&mut self, filter: FilterId, key: K) -> Option<Removed<V>> {
        let entry = self.filters.get_mut(filter.0)?;
        let value = entry.subscribers.remove(key)?;
        let last = entry.subscribers.is_empty();
        if last {
            self.drop_filter(filter.0);
        }
        Some(Removed {
            filter,
            last,
            value,
        })
    }

    /// What `key` asks for with `filter`.
    pub fn get(&self, filter: Filter<'_>, key: K) -> Option<&V> {
        self.get_from(FilterId(self.find(filter)?), key)
    }

    /// As [`Index::get`], for a filter of this index.
    pub fn get_from(&self, filter: FilterId, key: K) -> Option<&V> {
        self.filters.get(filter.0)?.subscribers.get(key)
    }

    fn find(&self, filter: Filter<'_>) -> Option<u32> {
        if filter.has_wildcard() {
            let end = self.wild.find(filter.as_str())?;
            return Some(self.wild.filter(end)).filter(|id| *id != NONE);
        }
        self.find_exact(filter.as_str())
    }

    fn find_exact(&self, topic: &str) -> Option<u32> {
        self.exact.find(self.hash(topic), |id| {
            let entry = self.filters.get(id);
            entry.is_some_and(|entry| matches!(&entry.name, Name::Exact(name) if **name == *topic))
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "a hash: its low half")]
    fn hash(&self, topic: &str) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(topic.as_bytes());
        hasher.finish() as u32
    }

    fn add(&mut self, filter: Filter<'_>) -> u32 {
        let subscribers = Subscribers::None;
        if filter.has_wildcard() {
            let end = self.wild.reach(filter.as_str());
            let name = Name::Wild(end);
            let id = self.filters.insert(Entry { name, subscribers });
            self.wild.set_filter(end, id);
            self.wild_filters += 1;
            return id;
        }
        let name = Name::Exact(filter.as_str().into());
        let id = self.filters.insert(Entry { name, subscribers });
        self.exact.insert(self.hash(filter.as_str()), id);
        id
    }

    fn drop_filter(&mut self, id: u32) {
        match self.filters.remove(id).map(|entry| entry.name) {
            Some(Name::Exact(name)) => self.exact.remove(self.hash(&name), id),
            Some(Name::Wild(end)) => {
                self.wild.prune(end);
                self.wild_filters -= 1;
            }
            None => {}
        }
    }

    /// Calls `found` for each matching (subscriber, what it asked for). A subscriber with several matching filters
    /// comes several times.
    pub fn for_each_match(&self, topic: Topic<'_>, mut found: impl FnMut(K, &V)) {
        let mut of = |id| {
            if let Some(entry) = self.filters.get(id) {
                entry.subscribers.for_each(&mut found);
            }
        };
        if let Some(id) = self.find_exact(topic.as_str()) {
            of(id);
        }
        if self.wild_filters > 0 {
            self.wild.for_each_match(topic.as_str(), &mut of);
        }
    }

    /// How many filters there are.
    pub fn len(&self) -> usize {
        self.filters.len()
    }

    /// Whether there is no filter at all.
    pub fn is_empty(&self) -> bool {
        self.filters.len() == 0
    }

    /// Writes the text of a filter into `text`; false if the number is nobody's now.
    pub fn text(&self, filter: FilterId, text: &mut String) -> bool {
        match self.filters.get(filter.0).map(|entry| &entry.name) {
            Some(Name::Exact(name)) => {
                text.clear();
                text.push_str(name);
            }
            Some(Name::Wild(end)) => self.wild.text(*end, text),
            None => return false,
        }
        true
    }

    /// The numbers from `at` on that may be filters' now. Whoever walks them in several steps sees every filter that
    /// was there before the first and is there after the last.
    pub fn numbers(&self, at: u32) -> impl Iterator<Item = FilterId> + use<K, V> {
        (at..self.filters.end()).map(FilterId)
    }
}

impl FilterId {
    /// Where a walk over [`Index::numbers`] goes on behind this one.
    pub fn after(self) -> u32 {
        self.0.saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(f: &str) -> Filter<'_> {
        Filter::new(f).unwrap()
    }

    fn matching(index: &Index<u32, ()>, topic: &str) -> Vec<u32> {
        let mut found = Vec::new();
        index.for_each_match(Topic::new(topic).unwrap(), |k, ()| found.push(k));
        found.sort_unstable();
        found
    }

    #[test]
    fn wildcards_match_as_the_standard_says() {
        let mut index = Index::new();
        for (key, f) in [
            "a/b", "a/+", "a/#", "#", "+/+", "+", "/+", "$SYS/#", "a/b/#",
        ]
        .iter()
        .enumerate()
        {
            assert!(index.insert(filter(f), key as u32, ()).first);
        }
        assert_eq!(matching(&index, "a/b"), [0, 1, 2, 3, 4, 8]);
        assert_eq!(matching(&index, "a"), [2, 3, 5]);
        assert_eq!(matching(&index, "/x"), [3, 4, 6]);
        assert_eq!(matching(&index, "$SYS/x"), [7]);
        assert_eq!(matching(&index, "a/b/c"), [2, 3, 8]);
    }

    #[test]
    fn a_number_stands_for_its_filter_while_it_has_a_subscriber() {
        let mut index = Index::new();
        let names = ["a", "a/b/c", "a/+", "a/+/#", "#", "+/b", "/", "/+/"];
        let long = format!("{}/{}/#", "x".repeat(22), "y".repeat(23));
        let ids: Vec<_> = names
            .into_iter()
            .chain([long.as_str()])
            .map(|name| (index.insert(filter(name), 1, ()).filter, name))
            .collect();
        let mut text = String::new();
        for (id, name) in &ids {
            assert!(index.text(*id, &mut text));
            assert_eq!(text, *name);
        }
        assert_eq!(index.numbers(0).count(), ids.len());
        for (id, _) in ids {
            assert_eq!(index.remove_from(id, 2), None);
            assert!(index.remove_from(id, 1).unwrap().last);
            assert!(!index.text(id, &mut text));
        }
        assert!(index.is_empty() && index.wild.is_empty());
    }

    #[test]
    fn many_subscribers_of_one_filter_come_and_go() {
        let mut index = Index::new();
        for key in 0..100 {
            assert_eq!(index.insert(filter("x/+"), key, ()).first, key == 0);
        }
        assert_eq!(index.insert(filter("x/+"), 5, ()).replaced, Some(()));
        for key in (0..100).rev() {
            assert_eq!(
                index.remove(filter("x/+"), key).map(|r| r.last),
                Some(key == 0)
            );
        }
        assert!(index.is_empty() && index.wild.is_empty());
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_matching_one_by_one(
            steps in prop::collection::vec((any::<bool>(), "([ab]?|\\+)(/([ab]?|\\+)){0,2}(/#)?", 0u32..4), 1..60),
            topics in prop::collection::vec("[ab$]{0,2}(/[ab]{0,1}){0,3}", 1..10),
        ) {
            let mut index = Index::new();
            let mut model: Vec<(String, u32)> = Vec::new();
            for (add, f, key) in steps {
                let Some(valid) = Filter::new(&f) else { continue };
                let known = model.iter().position(|(g, k)| *g == f && *k == key);
                let others = model.iter().any(|(g, k)| *g == f && *k != key);
                if add {
                    let inserted = index.insert(valid, key, ());
                    prop_assert_eq!(inserted.replaced.is_some(), known.is_some());
                    prop_assert_eq!(inserted.first, known.is_none() && !others);
                    if known.is_none() {
                        model.push((f.clone(), key));
                    }
                } else {
                    let removed = index.remove(valid, key);
                    prop_assert_eq!(removed.map(|r| r.last), known.map(|_| !others));
                    known.map(|at| model.swap_remove(at));
                }
            }
            for topic in topics.iter().filter_map(|t| Topic::new(t)) {
                let mut expected: Vec<u32> =
                    model.iter().filter(|(f, _)| filter(f).matches(topic)).map(|(_, k)| *k).collect();
                expected.sort_unstable();
                prop_assert_eq!(matching(&index, topic.as_str()), expected);
            }
            let mut text = String::new();
            let mut filters = Vec::new();
            for id in index.numbers(0) {
                if index.text(id, &mut text) {
                    filters.push(text.clone());
                }
            }
            let mut expected: Vec<_> = model.iter().map(|(f, _)| f.clone()).collect();
            for list in [&mut filters, &mut expected] {
                list.sort_unstable();
            }
            expected.dedup();
            prop_assert_eq!(filters, expected);
            for (f, key) in model {
                prop_assert!(index.remove(filter(&f), key).is_some());
            }
            prop_assert!(index.is_empty() && index.wild.is_empty());
        }
    }
}
