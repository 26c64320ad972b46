//! Ids by hash, and slots by id: the two halves of a hash table whose keys stand in what the ids name.
//!
//! An id takes eight bytes beside its slot. Growing moves these eight bytes only and hashes nothing again, so a table of
//! millions grows without a pause that clients would feel.

/// Ids, found by the hash of what they stand for. Linear probing; a removal closes its gap.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// As many as a power of two, or none.
    places: Vec<Place>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u32,
    id: u32,
}

/// The id of no slot.
pub(super) const NONE: u32 = u32::MAX;

const FREE: Place = Place { hash: 0, id: NONE };
const PLACES_MIN: usize = 8;

impl Ids {
    /// The id with this hash that `is` the right one.
    pub fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        loop {
            let place = self.places.get(at)?;
            if place.id == NONE {
                return None;
            }
            if place.hash == hash && is(place.id) {
                return Some(place.id);
            }
            at = self.after(at);
        }
    }

    /// Adds an id, which must not be in there.
    pub fn insert(&mut self, hash: u32, id: u32) {
        // Three quarters full at most: probing stays short, and there is always an end to it.
        if (self.len + 1) * 4 > self.places.len() * 3 {
            self.resize((self.places.len() * 2).max(PLACES_MIN));
        }
        self.len += 1;
        self.put(Place { hash, id });
    }

    /// Takes an id out, if it is in there.
    pub fn remove(&mut self, hash: u32, id: u32) {
        let mut gap = self.home(hash);
        loop {
            match self.places.get(gap) {
                Some(place) if place.id == id => break,
                Some(place) if place.id != NONE => gap = self.after(gap),
                _ => return,
            }
        }
        // What follows moves up into the gap, unless that is in front of its home.
        let mut at = gap;
        loop {
            at = self.after(at);
            let Some(place) = self.places.get(at).copied().filter(|p| p.id != NONE) else {
                break;
            };
            let from_home = at.wrapping_sub(self.home(place.hash)) & self.mask();
            let from_gap = at.wrapping_sub(gap) & self.mask();
            if from_home >= from_gap {
                self.set(gap, place);
                gap = at;
            }
        }
        self.set(gap, FREE);
        self.len -= 1;
        if self.len == 0 {
            self.places = Vec::new();
        } else if self.places.len() > PLACES_MIN && self.len * 8 < self.places.len() {
            self.resize(self.places.len() / 2);
        }
    }

    fn resize(&mut self, places: usize) {
        let old = std::mem::replace(&mut self.places, vec![FREE; places]);
        for place in old.into_iter().filter(|place| place.id != NONE) {
            self.put(place);
        }
    }

    fn put(&mut self, place: Place) {
        let mut at = self.home(place.hash);
        while self.places.get(at).is_some_and(|p| p.id != NONE) {
            at = self.after(at);
        }
        self.set(at, place);
    }

    fn set(&mut self, at: usize, place: Place) {
        if let Some(slot) = self.places.get_mut(at) {
            *slot = place;
        }
    }

    fn mask(&self) -> usize {
        self.places.len().wrapping_sub(1)
    }

    fn home(&self, hash: u32) -> usize {
        hash as usize & self.mask()
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & self.mask()
    }
}

/// Slots with small numbers; those that are given back are used again.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    /// Keeps `value` under a new id.
    ///
    /// # Panics
    /// Beyond four billion slots, which take hundreds of gigabytes: as a vector beyond its capacity.
    pub fn insert(&mut self, value: T) -> u32 {
        if let Some(id) = self.free.pop() {
            if let Some(slot) = self.slots.get_mut(id as usize) {
                *slot = Some(value);
            }
            return id;
        }
        let id = u32::try_from(self.slots.len()).unwrap_or(NONE);
        assert!(id != NONE, "more slots than ids");
        self.slots.push(Some(value));
        id
    }

    /// Takes a value out.
    pub fn remove(&mut self, id: u32) -> Option<T> {
        let value = self.slots.get_mut(id as usize)?.take()?;
        self.free.push(id);
        if self.free.len() == self.slots.len() {
            *self = Self::default();
        }
        Some(value)
    }

    /// What stands under an id.
    pub fn get(&self, id: u32) -> Option<&T> {
        self.slots.get(id as usize)?.as_ref()
    }

    /// What stands under an id, to be changed.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.slots.get_mut(id as usize)?.as_mut()
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Every id that is or was in use is below this.
    pub fn end(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(NONE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_are_found_as_in_a_list(steps in prop::collection::vec((any::<bool>(), 0u32..6, 0u32..40), 1..200)) {
            let mut ids = Ids::default();
            // Hashes collide, also around the end of the table.
            let hash = |id: u32, n: u32| if id.is_multiple_of(3) { u32::MAX - n % 2 } else { n };
            let mut model: Vec<(u32, u32)> = Vec::new();
            for (add, n, id) in steps {
                let hash = hash(id, n);
                let known = model.iter().position(|(_, i)| *i == id);
                match known {
                    None if add => {
                        ids.insert(hash, id);
                        model.push((hash, id));
                    }
                    Some(at) if !add => {
                        let (hash, id) = model.swap_remove(at);
                        ids.remove(hash, id);
                    }
                    _ => {}
                }
                for (hash, id) in &model {
                    prop_assert_eq!(ids.find(*hash, |i| i == *id), Some(*id));
                }
                prop_assert_eq!(ids.find(hash, |i| i == 40), None);
            }
            for (hash, id) in model {
                ids.remove(hash, id);
            }
            prop_assert_eq!(ids.places.len(), 0);
        }
    }

    #[test]
    fn slots_are_used_again() {
        let mut slots = Slots::default();
        let [a, b] = ["a", "b"].map(|value| slots.insert(value));
        assert_eq!(slots.remove(a), Some("a"));
        assert_eq!(
            (slots.remove(a), slots.get(a), slots.len()),
            (None, None, 1)
        );
        assert_eq!(slots.insert("c"), a);
        assert_eq!((slots.get(a), slots.get(b)), (Some(&"c"), Some(&"b")));
        slots.remove(a);
        slots.remove(b);
        assert_eq!(slots.end(), 0);
    }
}
