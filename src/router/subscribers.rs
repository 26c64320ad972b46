//! Who subscribed to one filter.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// Most filters have one subscriber, which takes no memory of its own. Small numbers are searched, large ones have a
/// table, so that ten thousand subscribers of one filter can leave in linear time.
#[derive(Debug)]
pub(super) enum Subscribers<K, V> {
    None,
    One(K, V),
    Many(Box<Many<K, V>>),
}

#[derive(Debug)]
pub(super) struct Many<K, V> {
    entries: Vec<(K, V)>,
    places: Option<HashMap<K, usize, RandomState>>,
}

/// Subscribers of one filter from which on a table of their places is kept.
const TABLE_FROM: usize = 32;

impl<K: Copy + Eq + Hash, V> Subscribers<K, V> {
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub fn for_each(&self, found: &mut impl FnMut(K, &V)) {
        match self {
            Self::None => {}
            Self::One(key, value) => found(*key, value),
            Self::Many(many) => {
                for (key, value) in &many.entries {
                    found(*key, value);
                }
            }
        }
    }

    pub fn get(&self, key: K) -> Option<&V> {
        match self {
            Self::One(known, value) if *known == key => Some(value),
            Self::None | Self::One(..) => None,
            Self::Many(many) => many.entries.get(many.place(key)?).map(|(_, value)| value),
        }
    }

    fn get_mut(&mut self, key: K) -> Option<&mut V> {
        match self {
            Self::One(known, value) if *known == key => Some(value),
            Self::None | Self::One(..) => None,
            Self::Many(many) => {
                let at = many.place(key)?;
                many.entries.get_mut(at).map(|(_, value)| value)
            }
        }
    }

    /// Adds a subscriber, or changes what it asks for; what it asked for before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(old) = self.get_mut(key) {
            return Some(std::mem::replace(old, value));
        }
        *self = match std::mem::replace(self, Self::None) {
            Self::None => Self::One(key, value),
            Self::One(first, its) => Self::Many(Box::new(Many {
                entries: vec![(first, its), (key, value)],
                places: None,
            })),
            Self::Many(mut many) => {
                many.push(key, value);
                Self::Many(many)
            }
        };
        None
    }

    /// Takes a subscriber out; what it asked for.
    pub fn remove(&mut self, key: K) -> Option<V> {
        match self {
            Self::None => None,
            Self::One(known, _) => {
                if *known != key {
                    return None;
                }
                match std::mem::replace(self, Self::None) {
                    Self::One(_, value) => Some(value),
                    _ => None,
                }
            }
            Self::Many(many) => {
                let value = many.remove(key)?;
                if many.entries.len() <= 1 {
                    let last = many.entries.pop();
                    *self = last.map_or(Self::None, |(key, value)| Self::One(key, value));
                }
                Some(value)
            }
        }
    }
}

impl<K: Copy + Eq + Hash, V> Many<K, V> {
    fn place(&self, key: K) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(&key).copied(),
            None => self.entries.iter().position(|(k, _)| *k == key),
        }
    }

    fn push(&mut self, key: K, value: V) {
        self.entries.push((key, value));
        if let Some(places) = &mut self.places {
            places.insert(key, self.entries.len() - 1);
        } else if self.entries.len() >= TABLE_FROM {
            let places = self.entries.iter().enumerate();
            self.places = Some(places.map(|(at, (k, _))| (*k, at)).collect());
        }
    }

    fn remove(&mut self, key: K) -> Option<V> {
        let at = self.place(key)?;
        let (_, value) = self.entries.swap_remove(at);
        if let Some(places) = &mut self.places {
            places.remove(&key);
            if let Some((moved, _)) = self.entries.get(at) {
                places.insert(*moved, at);
            }
        }
        Some(value)
    }
}
