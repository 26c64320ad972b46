//! PURE: who holds which client id: claims, takeovers, and when a claim may be granted.
//!
//! Every CONNECT claims its client id here. One connection holds an id, at most one more waits for it: a newer claim
//! supersedes the one that waits. A claim is granted when the holder released the id or died, and everything that
//! the holder had published has been applied everywhere; never because time has passed. What a claim asks for and
//! what is kept per client are the caller's types; this room sends nothing and knows no session.

mod seats;

use std::collections::HashMap;
use std::rc::Rc;

use foldhash::fast::FixedState;

use crate::base::ids::{ClaimSerial, ClientNumber, Incarnation, MemberId, Position};
pub use seats::{Full, Seats};
use seats::{Seated, Taken};

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
    taken: Taken,
    last_number: u32,
}

#[derive(Debug)]
struct Entry<T, C> {
    id: Rc<str>,
    holder: Option<Holder>,
    waiting: Option<Waiting<C>>,
    /// Its session outlives its connections, so that it counts as a client without one.
    is_lasting: bool,
    /// The next grant waits until this has been applied everywhere.
    mark: Option<Mark>,
    data: T,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    key: ClaimKey,
    listener: u16,
    evicted: bool,
    /// Its member died, and its connection with it: it counts no more.
    is_dead: bool,
}

#[derive(Debug)]
struct Waiting<C> {
    key: ClaimKey,
    listener: u16,
    asked: C,
}

impl<T, C> Entry<T, C> {
    fn seated(&self) -> Seated {
        let holder = self.holder.filter(|h| !h.is_dead).map(|h| h.listener);
        Seated {
            listeners: [holder, self.waiting.as_ref().map(|w| w.listener)],
            is_lasting: self.is_lasting,
        }
    }

    /// Changes it, and the sums with it.
    fn change<R>(&mut self, taken: &mut Taken, act: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.seated();
        let result = act(self);
        taken.change(before, self.seated());
        result
    }
}

/// Why a claim is not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denied {
    /// It was made before, which only a broken worker does.
    Repeated,
    /// There are as many as there may be.
    Full(Full),
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
            taken: Taken::default(),
            last_number: 0,
        }
    }

    /// A connection that `listener` accepted wants `id`.
    ///
    /// # Errors
    /// There are too many already. Then nothing has changed: nobody is evicted, and no id is entered.
    pub fn claim(
        &mut self,
        key: ClaimKey,
        id: &str,
        (listener, most): (u16, Seats),
        asked: C,
    ) -> Result<Claimed, Denied> {
        if self.claims.contains_key(&name(key)) {
            return Err(Denied::Repeated);
        }
        let known = self.by_id.get(id).copied();
        let before = known.and_then(|client| self.clients.get(&client));
        let before = before.map(Entry::seated).unwrap_or_default();
        let after = Seated {
            listeners: [before.listeners[0], Some(listener)],
            ..before
        };
        let free = self.taken.check(before, after, listener, most);
        free.map_err(Denied::Full)?;
        let client = match known {
            Some(number) => number,
            None => self.enter(id),
        };
        let entry = self.clients.get_mut(&client).ok_or(Denied::Repeated)?;
        let waiting = Waiting {
            key,
            listener,
            asked,
        };
        let superseded = entry.change(&mut self.taken, |entry| entry.waiting.replace(waiting));
        let superseded = superseded.map(|old| old.key);
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
        Ok(Claimed {
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
            is_lasting: false,
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
            entry.change(&mut self.taken, |entry| entry.holder = None);
            entry.mark = mark;
            return Released::Holder(client);
        }
        if entry.waiting.as_ref().is_some_and(|w| w.key == key) {
            entry.change(&mut self.taken, |entry| entry.waiting = None);
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
        entry.change(&mut self.taken, |entry| match entry.waiting.take() {
            Some(waiting) => {
                entry.holder = Some(Holder {
                    key: waiting.key,
                    listener: waiting.listener,
                    evicted: false,
                    is_dead: false,
                });
                Turn::Granted(waiting.key, waiting.asked)
            }
            None => Turn::Nobody,
        })
    }

    /// Whether this client's session outlives its connections: then it counts as a client without one.
    pub fn set_lasting(&mut self, client: ClientNumber, is_lasting: bool) {
        if let Some(entry) = self.clients.get_mut(&client) {
            entry.change(&mut self.taken, |entry| entry.is_lasting = is_lasting);
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
        let is_there = |key: ClaimKey| key.incarnation == incarnation;
        for (number, entry) in &mut self.clients {
            if entry.holder.is_some_and(|h| is_there(h.key)) {
                entry.change(&mut self.taken, |entry| {
                    entry.holder = entry.holder.map(|h| Holder { is_dead: true, ..h });
                });
            }
            let waiting = entry.waiting.as_ref().map(|w| w.key);
            if let Some(key) = waiting.filter(|key| is_there(*key)) {
                self.claims.remove(&name(key));
                entry.change(&mut self.taken, |entry| entry.waiting = None);
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
                entry.change(&mut self.taken, |entry| entry.holder = None);
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
            self.taken.change(entry.seated(), Seated::default());
            self.by_id.remove(&entry.id);
        }
        true
    }

    /// Whether a connection that may still live holds this id or waits for it.
    pub fn is_wanted(&self, id: &str) -> bool {
        let client = self.by_id.get(id).and_then(|c| self.clients.get(c));
        client.is_some_and(|entry| entry.seated().is_connected())
    }

    /// The client whose id this connection holds.
    pub fn held_by(&self, key: ClaimKey) -> Option<ClientNumber> {
        let client = *self.claims.get(&name(key))?;
        (self.holder(client) == Some(key)).then_some(client)
    }

    /// Clients that are connected.
    pub fn connected(&self) -> usize {
        self.taken.connections
    }

    /// Clients that are connected or have a session: now, and at most at a time.
    pub fn present(&self) -> (usize, usize) {
        (self.taken.clients, self.taken.clients_maximum)
    }

    /// The connection that holds this client's id.
    pub fn holder(&self, client: ClientNumber) -> Option<ClaimKey> {
        Some(self.clients.get(&client)?.holder?.key)
    }

    /// What the claim that waits for this client's id asks for.
    pub fn waiting(&self, client: ClientNumber) -> Option<&C> {
        Some(&self.clients.get(&client)?.waiting.as_ref()?.asked)
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
mod tests;
