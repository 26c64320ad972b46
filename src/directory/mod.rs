//! PURE: who holds which client id: claims, takeovers, and when a claim may be granted.
//!
//! Every CONNECT claims its client id here. One connection holds an id, at most one more waits for it: a newer claim
//! supersedes the one that waits. A claim is granted when the holder released the id or died, and everything that
//! the holder had published has been applied everywhere; never because time has passed. What a claim asks for and
//! what is kept per client are the caller's types; this room sends nothing and knows no session.

use std::collections::HashMap;
use std::rc::Rc;

use foldhash::fast::FixedState;

use crate::base::ids::{ClaimSerial, ClientNumber, Incarnation, MemberId, Position};

/// One connection's claim, named so that no other connection can ever be meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClaimKey {
    pub member: MemberId,
    pub incarnation: Incarnation,
    pub serial: ClaimSerial,
}

/// Where the records of the last holder end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    pub member: MemberId,
    pub incarnation: Incarnation,
    pub position: Position,
}

impl From<(MemberId, Incarnation, Position)> for Mark {
    fn from((member, incarnation, position): (MemberId, Incarnation, Position)) -> Self {
        Self {
            member,
            incarnation,
            position,
        }
    }
}

/// Client ids, their numbers, and who holds them. `T` is kept per client, `C` is what a claim asks for.
#[derive(Debug)]
pub struct Directory<T, C> {
    by_id: HashMap<Rc<str>, ClientNumber, FixedState>,
    clients: HashMap<ClientNumber, Entry<T, C>, FixedState>,
    /// Claims that hold or wait.
    claims: HashMap<(Incarnation, ClaimSerial), ClientNumber, FixedState>,
    last_number: u32,
    holders: usize,
}

#[derive(Debug)]
struct Entry<T, C> {
    id: Rc<str>,
    holder: Option<Holder>,
    waiting: Option<(ClaimKey, C)>,
    /// The next grant waits until this has been applied everywhere.
    mark: Option<Mark>,
    data: T,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    key: ClaimKey,
    evicted: bool,
}

/// What follows from a claim, besides trying to grant it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claimed {
    pub client: ClientNumber,
    /// This claim waited for the same id and gets it no more.
    pub superseded: Option<ClaimKey>,
    /// This connection holds the id and must be told to let go; `None` if it was told before.
    pub evict: Option<ClaimKey>,
}

/// What a release ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Released {
    /// The connection held this client's id.
    Holder(ClientNumber),
    /// It was still waiting for it.
    Waiting(ClientNumber),
    /// There is no such claim (any more).
    Unknown,
}

/// Whether a claim that waits may have its id now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turn<C> {
    /// Nobody waits, or somebody holds the id.
    Nobody,
    /// Not before the last holder's records have been applied everywhere: ask again soon.
    NotYet,
    /// It holds the id from now on.
    Granted(ClaimKey, C),
}

impl<T: Default, C> Directory<T, C> {
    /// Nobody. `seed` keys the hashing of client ids, which strangers choose.
    pub fn new(seed: u64) -> Self {
        let state = FixedState::with_seed(seed);
        Self {
            by_id: HashMap::with_hasher(state.clone()),
            clients: HashMap::with_hasher(state.clone()),
            claims: HashMap::with_hasher(state),
            last_number: 0,
            holders: 0,
        }
    }

    /// A connection wants `id`. `None`: that claim was made before, which only a broken worker does.
    pub fn claim(&mut self, key: ClaimKey, id: &str, asked: C) -> Option<Claimed> {
        if self.claims.contains_key(&name(key)) {
            return None;
        }
        let client = match self.by_id.get(id) {
            Some(number) => *number,
            None => self.enter(id),
        };
        let entry = self.clients.get_mut(&client)?;
        let superseded = entry.waiting.replace((key, asked)).map(|(old, _)| old);
        let evict = match &mut entry.holder {
            Some(holder) if !holder.evicted => {
                holder.evicted = true;
                Some(holder.key)
            }
            _ => None,
        };
        if let Some(old) = superseded {
            self.claims.remove(&name(old));
        }
        self.claims.insert(name(key), client);
        Some(Claimed {
            client,
            superseded,
            evict,
        })
    }

    fn enter(&mut self, id: &str) -> ClientNumber {
        let number = self.free_number();
        let id: Rc<str> = id.into();
        self.by_id.insert(Rc::clone(&id), number);
        let entry = Entry {
            id,
            holder: None,
            waiting: None,
            mark: None,
            data: T::default(),
        };
        self.clients.insert(number, entry);
        number
    }

    /// Numbers go around before one is used again, so that a message that still lies in a queue names nobody else.
    fn free_number(&mut self) -> ClientNumber {
        loop {
            // Zero is the broker itself.
            self.last_number = self.last_number.checked_add(1).unwrap_or(1);
            let number = ClientNumber(self.last_number);
            if !self.clients.contains_key(&number) {
                return number;
            }
        }
    }

    /// The connection of `key` is over; its records end at `mark` (`None`: they are applied everywhere already).
    pub fn release(&mut self, key: ClaimKey, mark: Option<Mark>) -> Released {
        let Some(client) = self.claims.remove(&name(key)) else {
            return Released::Unknown;
        };
        let Some(entry) = self.clients.get_mut(&client) else {
            return Released::Unknown;
        };
        if entry.holder.is_some_and(|h| h.key == key) {
            entry.holder = None;
            self.holders -= 1;
            entry.mark = mark;
            return Released::Holder(client);
        }
        if entry.waiting.as_ref().is_some_and(|(k, _)| *k == key) {
            entry.waiting = None;
        }
        Released::Waiting(client)
    }

    /// Grants the claim that waits for this client's id, if it is free and `passed` says of the last holder's mark
    /// (if it still counts) and of what is kept for the client that nothing more is to be waited for.
    pub fn grant(
        &mut self,
        client: ClientNumber,
        passed: impl FnOnce(Option<Mark>, &T) -> bool,
    ) -> Turn<C> {
        let Some(entry) = self.clients.get_mut(&client) else {
            return Turn::Nobody;
        };
        if entry.holder.is_some() || entry.waiting.is_none() {
            return Turn::Nobody;
        }
        if !passed(entry.mark, &entry.data) {
            return Turn::NotYet;
        }
        entry.mark = None;
        match entry.waiting.take() {
            Some((key, asked)) => {
                let evicted = false;
                self.holders += 1;
                entry.holder = Some(Holder { key, evicted });
                Turn::Granted(key, asked)
            }
            None => Turn::Nobody,
        }
    }

    /// Whether the last holder's records have been applied everywhere; remembers that they were.
    pub fn mark_passed(&mut self, client: ClientNumber, passed: impl FnOnce(Mark) -> bool) -> bool {
        let Some(entry) = self.clients.get_mut(&client) else {
            return true;
        };
        if entry.mark.is_some_and(|mark| !passed(mark)) {
            return false;
        }
        entry.mark = None;
        true
    }

    /// A member died: its claims that wait get nothing any more. Those that hold an id keep it until
    /// [`Directory::member_removed`]: what they published is still being read.
    pub fn member_gone(&mut self, incarnation: Incarnation) -> Vec<ClientNumber> {
        let mut dropped = Vec::new();
        for (number, entry) in &mut self.clients {
            if let Some((key, _)) = &entry.waiting
                && key.incarnation == incarnation
            {
                self.claims.remove(&name(*key));
                entry.waiting = None;
                dropped.push(*number);
            }
        }
        dropped.sort_unstable();
        dropped
    }

    /// The clients whose ids this member's connections hold, lowest number first.
    pub fn held_in(&self, incarnation: Incarnation) -> Vec<ClientNumber> {
        let is_there = |h: &Holder| h.key.incarnation == incarnation;
        let entries = self.clients.iter();
        let held = entries.filter(|(_, e)| e.holder.as_ref().is_some_and(is_there));
        let mut numbers: Vec<_> = held.map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Everything that a dead member published has been applied everywhere: its ids are free, in the order in which
    /// they were claimed.
    pub fn member_removed(&mut self, incarnation: Incarnation) -> Vec<(ClaimKey, ClientNumber)> {
        let mut freed = Vec::new();
        for (number, entry) in &mut self.clients {
            if let Some(holder) = entry.holder
                && holder.key.incarnation == incarnation
            {
                self.claims.remove(&name(holder.key));
                entry.holder = None;
                self.holders -= 1;
                entry.mark = None;
                freed.push((holder.key, *number));
            }
            // A mark in its outbox needs no more asking.
            if entry.mark.is_some_and(|m| m.incarnation == incarnation) {
                entry.mark = None;
            }
        }
        freed.sort_unstable();
        freed
    }

    /// Forgets a client that nobody holds or waits for, and whose last holder's records have been applied. The
    /// caller asks only when it has nothing to keep for it.
    pub fn forget(&mut self, client: ClientNumber) -> bool {
        let idle = |e: &Entry<T, C>| e.holder.is_none() && e.waiting.is_none() && e.mark.is_none();
        if !self.clients.get(&client).is_some_and(idle) {
            return false;
        }
        if let Some(entry) = self.clients.remove(&client) {
            self.by_id.remove(&entry.id);
        }
        true
    }

    /// The client whose id this connection holds.
    pub fn held_by(&self, key: ClaimKey) -> Option<ClientNumber> {
        let client = *self.claims.get(&name(key))?;
        (self.holder(client) == Some(key)).then_some(client)
    }

    /// How many client ids are held.
    pub fn holders(&self) -> usize {
        self.holders
    }

    /// The connection that holds this client's id.
    pub fn holder(&self, client: ClientNumber) -> Option<ClaimKey> {
        Some(self.clients.get(&client)?.holder?.key)
    }

    /// What the claim that waits for this client's id asks for.
    pub fn waiting(&self, client: ClientNumber) -> Option<&C> {
        let (_, asked) = self.clients.get(&client)?.waiting.as_ref()?;
        Some(asked)
    }

    /// The client id.
    pub fn id(&self, client: ClientNumber) -> Option<&Rc<str>> {
        Some(&self.clients.get(&client)?.id)
    }

    /// What is kept for this client.
    pub fn get(&self, client: ClientNumber) -> Option<&T> {
        Some(&self.clients.get(&client)?.data)
    }

    /// What is kept for this client.
    pub fn get_mut(&mut self, client: ClientNumber) -> Option<&mut T> {
        Some(&mut self.clients.get_mut(&client)?.data)
    }

    /// What is kept for this client, and the connection that holds its id.
    pub fn held_mut(&mut self, client: ClientNumber) -> Option<(Option<ClaimKey>, &mut T)> {
        let entry = self.clients.get_mut(&client)?;
        Some((entry.holder.map(|h| h.key), &mut entry.data))
    }

    /// Every client's number, lowest first.
    pub fn numbers(&self) -> Vec<ClientNumber> {
        let mut numbers: Vec<_> = self.clients.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    /// How many clients are known.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether no client is known.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}

/// An incarnation is one member's only, so the member need not be hashed.
fn name(key: ClaimKey) -> (Incarnation, ClaimSerial) {
    (key.incarnation, key.serial)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Ids = Directory<(), u64>;

    fn key(member: usize, incarnation: u32, serial: u64) -> ClaimKey {
        ClaimKey {
            member: MemberId::worker(member).unwrap(),
            incarnation: Incarnation(incarnation),
            serial: ClaimSerial(serial),
        }
    }

    fn mark(of: ClaimKey) -> Option<Mark> {
        Some(Mark {
            member: of.member,
            incarnation: of.incarnation,
            position: Position(1),
        })
    }

    fn granted(ids: &mut Ids, client: ClientNumber) -> Option<ClaimKey> {
        match ids.grant(client, |_, ()| true) {
            Turn::Granted(key, _) => Some(key),
            _ => None,
        }
    }

    #[test]
    fn a_free_id_is_granted_at_once() {
        let mut ids = Ids::new(1);
        let a = key(0, 1, 1);
        let claimed = ids.claim(a, "id", 0).unwrap();
        assert_eq!((claimed.superseded, claimed.evict), (None, None));
        assert_eq!(granted(&mut ids, claimed.client), Some(a));
        assert_eq!(ids.held_by(a), Some(claimed.client));
    }

    #[test]
    fn the_holder_is_evicted_once_and_the_newest_claim_waits() {
        let mut ids = Ids::new(1);
        let (a, b, c) = (key(0, 1, 1), key(1, 2, 1), key(0, 1, 2));
        let client = ids.claim(a, "id", 0).unwrap().client;
        assert_eq!(granted(&mut ids, client), Some(a));
        let second = ids.claim(b, "id", 0).unwrap();
        assert_eq!((second.superseded, second.evict), (None, Some(a)));
        assert_eq!(granted(&mut ids, client), None, "a still holds it");
        let third = ids.claim(c, "id", 0).unwrap();
        assert_eq!((third.superseded, third.evict), (Some(b), None));
        assert_eq!(ids.release(a, mark(a)), Released::Holder(client));
        assert_eq!(granted(&mut ids, client), Some(c));
        assert_eq!(ids.held_by(b), None);
    }

    #[test]
    fn a_grant_waits_until_the_last_holder_was_read_everywhere() {
        let mut ids = Ids::new(1);
        let (a, b) = (key(0, 1, 1), key(1, 2, 1));
        let client = ids.claim(a, "id", 0).unwrap().client;
        granted(&mut ids, client);
        ids.claim(b, "id", 7).unwrap();
        ids.release(a, mark(a));
        assert_eq!(ids.grant(client, |_, ()| false), Turn::NotYet);
        assert_eq!(
            ids.grant(client, |m, ()| m.unwrap().member == a.member),
            Turn::Granted(b, 7)
        );
    }

    #[test]
    fn a_client_is_forgotten_only_when_nothing_names_it() {
        let mut ids = Ids::new(1);
        let a = key(0, 1, 1);
        let client = ids.claim(a, "id", 0).unwrap().client;
        assert!(!ids.forget(client), "a claim waits");
        granted(&mut ids, client);
        assert!(!ids.forget(client), "a connection holds it");
        ids.release(a, mark(a));
        assert!(!ids.forget(client), "its records are on their way");
        assert!(!ids.mark_passed(client, |_| false));
        assert!(ids.mark_passed(client, |_| true));
        assert!(ids.forget(client));
        assert!(ids.is_empty());
        let next = ids.claim(key(0, 1, 2), "other", 0).unwrap().client;
        assert_ne!(next, client, "numbers are not used again at once");
    }

    #[test]
    fn a_dead_members_ids_are_free_only_when_it_is_removed() {
        let mut ids = Ids::new(1);
        let (a, b, c) = (key(0, 1, 1), key(1, 2, 1), key(2, 3, 1));
        let client = ids.claim(a, "id", 0).unwrap().client;
        granted(&mut ids, client);
        ids.claim(b, "id", 0).unwrap();
        assert!(ids.member_gone(a.incarnation).is_empty());
        assert_eq!(granted(&mut ids, client), None);
        assert_eq!(ids.member_gone(b.incarnation), [client]);
        ids.claim(c, "id", 0).unwrap();
        assert_eq!(ids.member_removed(a.incarnation), [(a, client)]);
        assert_eq!(granted(&mut ids, client), Some(c));
    }

    /// Per id: who holds it, who waits, and whether the mark stands. Written without any of the code above.
    #[derive(Default, Clone)]
    struct Naive {
        holder: Option<ClaimKey>,
        evicted: bool,
        waiting: Option<ClaimKey>,
        marked: Option<Incarnation>,
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % n
        }
    }

    const IDS: [&str; 3] = ["a", "b", "c"];

    fn step(ids: &mut Ids, naive: &mut [Naive], random: &mut Random, serial: &mut u64) {
        let which = usize::try_from(random.below(3)).unwrap();
        let member = random.below(3);
        let incarnation = u32::try_from(member).unwrap() + 1;
        let one = &mut naive[which];
        match random.below(8) {
            0..3 => {
                *serial += 1;
                let new = key(usize::try_from(member).unwrap(), incarnation, *serial);
                let claimed = ids.claim(new, IDS[which], 0).unwrap();
                assert_eq!(claimed.superseded, one.waiting);
                assert_eq!(claimed.evict, one.holder.filter(|_| !one.evicted));
                one.evicted = one.holder.is_some();
                one.waiting = Some(new);
            }
            3 => {
                if let Some(holder) = one.holder.take() {
                    let released = ids.release(holder, mark(holder));
                    assert!(matches!(released, Released::Holder(_)));
                    one.marked = Some(holder.incarnation);
                }
            }
            4 => {
                if let Some(waiting) = one.waiting.take() {
                    assert!(matches!(ids.release(waiting, None), Released::Waiting(_)));
                    assert_eq!(ids.release(waiting, None), Released::Unknown);
                }
            }
            5 => {
                ids.member_gone(Incarnation(incarnation));
                for one in &mut *naive {
                    one.waiting = one.waiting.filter(|k| k.incarnation.0 != incarnation);
                }
            }
            6 => {
                let dead = Incarnation(incarnation);
                let freed = ids.member_removed(dead).len();
                let held = |o: &&mut Naive| o.holder.is_some_and(|k| k.incarnation == dead);
                assert_eq!(freed, naive.iter_mut().filter(held).count());
                for one in &mut *naive {
                    if one.holder.is_some_and(|k| k.incarnation == dead) {
                        (one.holder, one.marked) = (None, None);
                    }
                    one.marked = one.marked.filter(|m| *m != dead);
                }
            }
            _ => {
                let passed = random.below(2) == 0;
                let Some(client) = ids.by_id.get(IDS[which]).copied() else {
                    return;
                };
                let turn = ids.grant(client, |mark, ()| mark.is_none() || passed);
                let free = one.holder.is_none() && one.waiting.is_some();
                match turn {
                    Turn::Nobody => assert!(!free),
                    Turn::NotYet => assert!(free && one.marked.is_some() && !passed),
                    Turn::Granted(key, _) => {
                        assert!(free && (one.marked.is_none() || passed));
                        assert_eq!(one.waiting.take(), Some(key));
                        (one.holder, one.evicted, one.marked) = (Some(key), false, None);
                    }
                }
            }
        }
    }

    #[test]
    fn random_histories_agree_with_a_naive_directory() {
        for seed in 0..2000 {
            let (mut ids, mut random, mut serial) = (Ids::new(seed), Random(seed), 0);
            let mut naive = vec![Naive::default(); IDS.len()];
            for _ in 0..60 {
                step(&mut ids, &mut naive, &mut random, &mut serial);
                for (id, one) in IDS.iter().zip(&naive) {
                    let client = ids.by_id.get(*id).copied();
                    let holder = client.and_then(|c| ids.holder(c));
                    assert_eq!(holder, one.holder, "seed {seed}");
                    assert_eq!(
                        client.is_some_and(|c| ids.waiting(c).is_some()),
                        one.waiting.is_some()
                    );
                }
                let live = naive.iter().filter(|o| o.holder.is_some()).count()
                    + naive.iter().filter(|o| o.waiting.is_some()).count();
                assert_eq!(ids.claims.len(), live, "seed {seed}: a claim leaked");
            }
        }
    }
}
