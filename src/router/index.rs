//! Which subscribers' filters match a topic.
//!
//! Filters without wildcards are found by one hash; the others stand in a tree with a node per level. Worker and
//! store use the same index with other keys. `$share` prefixes are the caller's: an index holds plain filters.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

use crate::mqtt::{Filter, Topic};

/// Filters and who subscribed to them. `K` names a subscriber, `V` is what it asked for.
#[derive(Debug)]
pub struct Index<K, V> {
    exact: HashMap<Box<str>, Subscribers<K, V>, RandomState>,
    wild: Node<K, V>,
    wild_filters: usize,
}

/// What [`Index::insert`] did.
#[derive(Debug, PartialEq, Eq)]
pub struct Inserted<V> {
    /// Nobody had this filter before.
    pub first: bool,
    /// What this subscriber had asked for before.
    pub replaced: Option<V>,
}

/// What [`Index::remove`] did.
#[derive(Debug, PartialEq, Eq)]
pub struct Removed<V> {
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
            exact: HashMap::default(),
            wild: Node::default(),
            wild_filters: 0,
        }
    }

    /// Subscribes `key` to `filter`, or changes what it asks for.
    pub fn insert(&mut self, filter: Filter<'_>, key: K, value: V) -> Inserted<V> {
        if filter.has_wildcard() {
            let inserted = self.wild.reach(filter.as_str()).insert(key, value);
            self.wild_filters += usize::from(inserted.first);
            return inserted;
        }
        if let Some(subscribers) = self.exact.get_mut(filter.as_str()) {
            return subscribers.insert(key, value);
        }
        self.exact
            .entry(filter.as_str().into())
            .or_default()
            .insert(key, value)
    }

    /// Ends the subscription of `key` to `filter`; `None` if there is none.
    pub fn remove(&mut self, filter: Filter<'_>, key: K) -> Option<Removed<V>> {
        if filter.has_wildcard() {
            let removed = self.wild.prune(filter.as_str(), key)?;
            self.wild_filters -= usize::from(removed.last);
            return Some(removed);
        }
        let removed = self.exact.get_mut(filter.as_str())?.remove(key)?;
        if removed.last {
            self.exact.remove(filter.as_str());
        }
        Some(removed)
    }

    /// Calls `found` for each matching (subscriber, what it asked for). A subscriber with several matching filters
    /// comes several times.
    pub fn for_each_match(&self, topic: Topic<'_>, mut found: impl FnMut(K, &V)) {
        if let Some(subscribers) = self.exact.get(topic.as_str()) {
            subscribers.for_each(&mut found);
        }
        if self.wild_filters > 0 {
            // A leading wildcard does not match a leading `$` [MQTT-4.7.2-1].
            let wildcards = !topic.as_str().starts_with('$');
            self.wild
                .matches(Some(topic.as_str()), wildcards, &mut found);
        }
    }

    /// Ends every subscription of `key`. Walks the whole index.
    pub fn remove_everywhere(&mut self, key: K) {
        self.exact.retain(|_, subscribers| {
            subscribers.remove(key);
            !subscribers.is_empty()
        });
        self.wild_filters -= self.wild.remove_everywhere(key);
    }

    /// Whether there is no filter at all.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wild_filters == 0
    }
}

/// One level of the tree.
#[derive(Debug)]
struct Node<K, V> {
    children: HashMap<Box<str>, Node<K, V>, RandomState>,
    plus: Option<Box<Node<K, V>>>,
    /// Filters that end here.
    here: Subscribers<K, V>,
    /// Filters that go on with `#` from here.
    hash: Subscribers<K, V>,
}

impl<K, V> Default for Node<K, V> {
    fn default() -> Self {
        Self {
            children: HashMap::default(),
            plus: None,
            here: Subscribers::default(),
            hash: Subscribers::default(),
        }
    }
}

/// The first level and what follows it; `None` after the last.
fn split(levels: &str) -> (&str, Option<&str>) {
    match levels.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (levels, None),
    }
}

impl<K: Copy + Eq + Hash, V> Node<K, V> {
    /// The subscribers of `filter`, with the nodes on the way to them.
    fn reach(&mut self, filter: &str) -> &mut Subscribers<K, V> {
        let mut node = self;
        let mut rest = Some(filter);
        while let Some(levels) = rest {
            let (level, after) = split(levels);
            rest = after;
            node = match level {
                "#" => return &mut node.hash,
                "+" => node.plus.get_or_insert_default(),
                name => node.children.entry(name.into()).or_default(),
            };
        }
        &mut node.here
    }

    /// Removes a subscriber, and the nodes that nobody needs any more. As deep as a filter has levels.
    fn prune(&mut self, filter: &str, key: K) -> Option<Removed<V>> {
        let (level, rest) = split(filter);
        if level == "#" {
            return self.hash.remove(key);
        }
        let child = match level {
            "+" => self.plus.as_deref_mut()?,
            name => self.children.get_mut(name)?,
        };
        let removed = match rest {
            Some(rest) => child.prune(rest, key)?,
            None => child.here.remove(key)?,
        };
        if removed.last && child.is_empty() {
            match level {
                "+" => self.plus = None,
                name => drop(self.children.remove(name)),
            }
        }
        Some(removed)
    }

    /// As [`Index::remove_everywhere`]; returns how many filters nobody has any more.
    fn remove_everywhere(&mut self, key: K) -> usize {
        let ended = [self.here.remove(key), self.hash.remove(key)];
        let mut gone = ended
            .iter()
            .flatten()
            .filter(|removed| removed.last)
            .count();
        if let Some(plus) = &mut self.plus {
            gone += plus.remove_everywhere(key);
            if plus.is_empty() {
                self.plus = None;
            }
        }
        self.children.retain(|_, child| {
            gone += child.remove_everywhere(key);
            !child.is_empty()
        });
        gone
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty()
            && self.plus.is_none()
            && self.here.is_empty()
            && self.hash.is_empty()
    }

    /// `rest` is what follows this node's level; `wildcards` whether the next level may be one.
    fn matches(&self, rest: Option<&str>, wildcards: bool, found: &mut impl FnMut(K, &V)) {
        // `a/#` matches `a` too [MQTT-4.7.1-2].
        if wildcards {
            self.hash.for_each(found);
        }
        let Some(levels) = rest else {
            self.here.for_each(found);
            return;
        };
        let (level, rest) = split(levels);
        if let Some(child) = self.children.get(level) {
            child.matches(rest, true, found);
        }
        if let (Some(plus), true) = (&self.plus, wildcards) {
            plus.matches(rest, true, found);
        }
    }
}

/// Who subscribed to one filter. Small ones are searched, large ones have a table, so that ten thousand subscribers of
/// one filter can leave in linear time.
#[derive(Debug)]
struct Subscribers<K, V> {
    entries: Vec<(K, V)>,
    #[expect(
        clippy::box_collection,
        reason = "most filters have no table: a word instead of six"
    )]
    places: Option<Box<HashMap<K, usize, RandomState>>>,
}

impl<K, V> Default for Subscribers<K, V> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            places: None,
        }
    }
}

/// Subscribers of one filter from which on a table of their places is kept.
const TABLE_FROM: usize = 32;

impl<K: Copy + Eq + Hash, V> Subscribers<K, V> {
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn for_each(&self, found: &mut impl FnMut(K, &V)) {
        for (key, value) in &self.entries {
            found(*key, value);
        }
    }

    fn place(&self, key: K) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(&key).copied(),
            None => self.entries.iter().position(|(k, _)| *k == key),
        }
    }

    fn insert(&mut self, key: K, value: V) -> Inserted<V> {
        if let Some((_, old)) = self.place(key).and_then(|at| self.entries.get_mut(at)) {
            return Inserted {
                first: false,
                replaced: Some(std::mem::replace(old, value)),
            };
        }
        let first = self.entries.is_empty();
        self.entries.push((key, value));
        if let Some(places) = &mut self.places {
            places.insert(key, self.entries.len() - 1);
        } else if self.entries.len() >= TABLE_FROM {
            let places = self
                .entries
                .iter()
                .enumerate()
                .map(|(at, (k, _))| (*k, at))
                .collect();
            self.places = Some(Box::new(places));
        }
        Inserted {
            first,
            replaced: None,
        }
    }

    fn remove(&mut self, key: K) -> Option<Removed<V>> {
        let at = self.place(key)?;
        let (_, value) = self.entries.swap_remove(at);
        if let Some(places) = &mut self.places {
            places.remove(&key);
            if let Some((moved, _)) = self.entries.get(at) {
                places.insert(*moved, at);
            }
        }
        if self.entries.is_empty() {
            *self = Self::default();
        }
        Some(Removed {
            last: self.entries.is_empty(),
            value,
        })
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
    fn a_subscriber_that_leaves_takes_all_its_filters_along() {
        let mut index = Index::new();
        for f in ["a", "a/+", "a/+/#", "#", "+/b"] {
            index.insert(filter(f), 1, ());
        }
        index.insert(filter("a/+"), 2, ());
        index.remove_everywhere(1);
        assert_eq!(matching(&index, "a/b"), [2]);
        index.remove_everywhere(2);
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
        }
    }
}
