//! Which subscribers' filters match a topic.

use crate::mqtt::{Filter, Topic};
use std::marker::PhantomData;

/// Filters and who subscribed to them. `K` names a subscriber, `V` is what it asked for.
pub struct Index<K, V> {
    _k: PhantomData<(K, V)>,
}

/// What `insert` did.
pub struct Inserted<V> {
    /// Nobody had this filter before.
    pub first: bool,
    /// What this subscriber had asked for before.
    pub replaced: Option<V>,
}

/// What `remove` did.
pub struct Removed<V> {
    /// Nobody has this filter any more.
    pub last: bool,
    /// What this subscriber had asked for.
    pub value: V,
}

impl<K: Copy + Eq, V> Index<K, V> {
    pub fn new() -> Self {
        Self { _k: PhantomData }
    }
    pub fn insert(&mut self, _filter: Filter<'_>, _key: K, _value: V) -> Inserted<V> {
        unimplemented!("index")
    }
    pub fn remove(&mut self, _filter: Filter<'_>, _key: K) -> Option<Removed<V>> {
        unimplemented!("index")
    }
    /// Calls `found` for each matching (subscriber, what it asked for); a subscriber with several matching filters
    /// comes several times.
    pub fn for_each_match(&self, _topic: Topic<'_>, _found: impl FnMut(K, &V)) {
        unimplemented!("index")
    }
}
