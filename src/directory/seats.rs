//! How many connections and clients there are, and whether one more may come.
//!
//! A connection takes its seat when its claim is accepted, not when it is granted: a client that takes over its own
//! id inherits the seat of its old connection, however late that one ends, and nobody can slip in between.

use std::collections::BTreeMap;

/// How many there may be at most; `None` is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seats {
    /// Connections that the claim's listener accepted.
    pub of_listener: Option<usize>,
    /// Connections of all listeners.
    pub connections: Option<usize>,
    /// Clients that are connected or have a session.
    pub clients: Option<usize>,
}

/// Which limit refuses a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    Listener,
    Connections,
    Clients,
}

/// What one client occupies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Seated {
    /// The listeners of the connection that holds its id and of the one that waits. The same one counts once.
    pub listeners: [Option<u16>; 2],
    /// Its session outlives its connections.
    pub is_lasting: bool,
}

impl Seated {
    /// Each listener once.
    fn listeners(self) -> impl Iterator<Item = u16> {
        let [holder, waiting] = self.listeners;
        holder
            .into_iter()
            .chain(waiting.filter(|w| Some(*w) != holder))
    }

    pub fn is_connected(self) -> bool {
        self.listeners.iter().any(Option::is_some)
    }

    fn is_client(self) -> bool {
        self.is_connected() || self.is_lasting
    }
}

/// The sums over all clients.
#[derive(Debug, Default)]
pub(super) struct Taken {
    of_listener: BTreeMap<u16, usize>,
    pub connections: usize,
    pub clients: usize,
    /// The most clients that there ever were.
    pub clients_maximum: usize,
}

impl Taken {
    /// What a client occupies has changed.
    pub fn change(&mut self, before: Seated, after: Seated) {
        if before == after {
            return;
        }
        for listener in before.listeners() {
            if let Some(count) = self.of_listener.get_mut(&listener) {
                *count -= 1;
                if *count == 0 {
                    self.of_listener.remove(&listener);
                }
            }
        }
        for listener in after.listeners() {
            *self.of_listener.entry(listener).or_insert(0) += 1;
        }
        self.connections += usize::from(after.is_connected());
        self.connections -= usize::from(before.is_connected());
        self.clients += usize::from(after.is_client());
        self.clients -= usize::from(before.is_client());
        self.clients_maximum = self.clients.max(self.clients_maximum);
    }

    /// Whether a client may change so, which gives it a connection that `listener` accepted.
    pub fn check(
        &self,
        before: Seated,
        after: Seated,
        listener: u16,
        most: Seats,
    ) -> Result<(), Full> {
        let has_room = |taken: usize, most: Option<usize>| most.is_none_or(|most| taken < most);
        let here = self.of_listener.get(&listener).copied().unwrap_or(0);
        if before.listeners().all(|l| l != listener) && !has_room(here, most.of_listener) {
            return Err(Full::Listener);
        }
        if !before.is_connected() && !has_room(self.connections, most.connections) {
            return Err(Full::Connections);
        }
        if after.is_client() && !before.is_client() && !has_room(self.clients, most.clients) {
            return Err(Full::Clients);
        }
        Ok(())
    }

    /// Connections that `listener` accepted.
    #[cfg(test)]
    pub fn of_listener(&self, listener: u16) -> usize {
        self.of_listener.get(&listener).copied().unwrap_or(0)
    }
}
