//! Limits on connections, clients and queues: never exceeded, nobody turned away while there is room, nothing dropped
//! that had its place, and in the end all counts are where they began.

use std::collections::BTreeSet;

use mosquitto::config::{Config, QueuePolicy};
use mosquitto::mqtt::{Qos, Version};

use crate::book::{Book, Publish, Session};
use crate::client::{FOREVER, Link, Say};
use crate::trace::trace;
use crate::world::{Brain, Random, World};

/// PUBACK of a message that nobody wants.
const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;

/// As many messages as no history has.
pub const UNLIMITED: u32 = 100_000;

/// What one session may keep waiting.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimit {
    pub messages: usize,
    pub drops_oldest: bool,
}

/// Chooses a limit for a history of so many clients, or none.
pub fn choose_limit(random: &mut Random, clients: usize, config: &mut Config) {
    let most = 1 + random.below(clients) as i32;
    match random.below(12) {
        0 => config.global_max_connections = most,
        1 => config.global_max_clients = most,
        2 => config.listeners[0].max_connections = most,
        3 | 4 => {
            config.max_queued_messages = random.one_of(&[1, 2, 5]);
            // Behind small windows they fill.
            config.max_inflight_messages = random.one_of(&[1, 2]);
            config.queue_qos0_messages = false;
            if random.one_in(2) {
                config.queue_policy = QueuePolicy::DropOldest;
            }
        }
        _ => {}
    }
}

impl QueueLimit {
    /// What full queues lose, if they ever are full.
    pub fn of(config: &Config) -> Option<Self> {
        (config.max_queued_messages < UNLIMITED).then_some(Self {
            messages: config.max_queued_messages as usize,
            drops_oldest: config.queue_policy == QueuePolicy::DropOldest,
        })
    }
}

impl World {
    pub fn connections_max(&self) -> Option<usize> {
        let of_listener = self.config.listeners[0].max_connections;
        let most = [self.config.global_max_connections, of_listener];
        most.into_iter()
            .filter(|n| *n > 0)
            .min()
            .map(|n| n as usize)
    }

    pub fn clients_max(&self) -> Option<usize> {
        let most = self.config.global_max_clients;
        (most > 0).then_some(most as usize)
    }

    /// Whether anybody may be turned away.
    pub fn is_limited(&self) -> bool {
        self.connections_max().is_some() || self.clients_max().is_some()
    }

    /// A connection has its CONNACK.
    pub fn note_let_in(&mut self) {
        let standing = self.pipes.values().filter(|p| p.let_in && !p.broker_closed);
        let count = standing.count();
        if self.connections_max().is_some_and(|most| count > most) {
            let trouble = format!("{count} connections at step {}", self.step);
            self.book.trouble.get_or_insert(trouble);
        }
    }

    /// A client was turned away, so there were as many others as there may be.
    pub fn check_refusal(&self, client: usize) -> Result<(), String> {
        let mut others: BTreeSet<usize> = self.standing.values().copied().collect();
        let mut most = self.connections_max();
        if let Some(clients) = self.clients_max() {
            let lasting = self.clients.iter().filter(|c| c.ever_lasted);
            others.extend(lasting.map(|c| c.index));
            most = Some(clients);
        }
        others.remove(&client);
        trace!(self.step, "client {client} is turned away: {others:?}");
        match most {
            None => Err(format!("client {client} was turned away for no reason")),
            Some(most) if others.len() < most => Err(format!(
                "client {client} was turned away, but there are only {others:?} of {most}"
            )),
            Some(_) => Ok(()),
        }
    }

    /// At rest, all that count as clients are seen.
    pub fn check_clients(&self) -> Result<(), String> {
        let Some(most) = self.clients_max() else {
            return Ok(());
        };
        let is_client = |client: &&crate::client::Client| {
            let session = client.session.map(|s| &self.book.sessions[s]);
            let is_there = session.is_some_and(|s| s.ended.is_none());
            let is_stored = is_there && client.persistent && client.expiry == FOREVER;
            matches!(client.link, Link::Up(_)) || (is_stored && !client.is_in_doubt())
        };
        let there: Vec<_> = self.clients.iter().filter(is_client).collect();
        if there.len() > most {
            let there: Vec<_> = there.iter().map(|c| c.index).collect();
            return Err(format!("clients {there:?} are there, of {most}"));
        }
        Ok(())
    }

    /// Everybody leaves for good; nothing is kept of anybody but what is retained.
    pub fn leave_nothing(&mut self) -> Result<(), String> {
        for round in 0..3 {
            for client in 0..self.clients.len() {
                if round > 0 && self.clients[client].ever_lasted {
                    (self.clients[client].persistent, self.clients[client].clean) = (false, true);
                    let slot = self.any_worker();
                    self.connect(client, slot, None);
                    self.settle()?;
                }
                self.disconnect(client, false);
                if round > 0 {
                    self.settle()?;
                }
            }
            self.close_abandoned();
            self.settle()?;
        }
        for _ in 0..2 {
            self.now = self.now.after_secs(20);
            self.settle()?;
        }
        self.check_counts()?;
        self.nobody_wants_anything()
    }

    fn check_counts(&self) -> Result<(), String> {
        for member in self.members.values() {
            let left = match &member.brain {
                Brain::Worker(worker) => {
                    let now = worker.figures();
                    vec![
                        ("sockets", now.sockets),
                        ("connections", worker.connections() as u64),
                        ("subscriptions", now.subscriptions),
                        ("packets waiting", now.packets_waiting),
                        ("queued bytes", now.queued_bytes),
                    ]
                }
                Brain::Store(store) => {
                    let now = store.figures();
                    vec![
                        ("clients", store.clients() as u64),
                        ("clients connected", now.clients_connected),
                        ("clients disconnected", now.clients_disconnected),
                        ("subscriptions", now.subscriptions),
                        ("shared subscriptions", now.shared_subscriptions),
                        ("queued bytes", now.queued_bytes),
                        ("messages", now.stored_messages - now.retained),
                    ]
                }
            };
            if let Some((what, count)) = left.iter().find(|(_, count)| *count > 0) {
                return Err(format!("{}: {count} {what} are left", member.life.0));
            }
        }
        Ok(())
    }

    /// No member has kept an interest of anybody.
    fn nobody_wants_anything(&mut self) -> Result<(), String> {
        let client = self.client(Version::V5, false);
        let slot = self.any_worker();
        self.connect(client, slot, None);
        self.settle()?;
        for topic in ["a/0", "a/1", "r/1", "will/1", "s/0", "v/1", "x"] {
            let say = Say {
                topic,
                qos: Qos::AtLeastOnce,
                retain: false,
                clears: false,
                expiry: None,
            };
            let at = self.moment();
            let bytes = self.clients[client].publish(say, &mut self.book, at);
            self.send(client, &bytes);
            self.settle()?;
            let code = self.clients[client].last_code;
            if code != NO_MATCHING_SUBSCRIBERS {
                return Err(format!(
                    "all have left, but PUBACK for {topic} says {code:#04x}"
                ));
            }
        }
        Ok(())
    }
}

impl Book {
    /// Whether a full queue may have dropped this. The places of a queue are taken by what was sent before the world
    /// came to rest again, and was not acknowledged when it last had been at rest.
    pub fn may_be_dropped(&self, session: &Session, publish: &Publish) -> bool {
        let Some(limit) = self.queue else {
            return false;
        };
        // Who was always there has a window beyond the queue.
        let window = self.windows.get(&session.client).copied().unwrap_or(0);
        let is_always_there = session.connections == 1 || !session.persistent;
        let least = limit.messages + if is_always_there { window } else { 0 };
        let rests: Vec<u64> = [0].into_iter().chain(self.rests.iter().copied()).collect();
        let is_late = publish.will || publish.resent;
        let is_full = rests.windows(2).any(|span| {
            let [from, until] = *span else { return false };
            // The newest is dropped when it comes, the oldest as long as it waits: until all is quiet, or its client is
            // back. A will comes long after its CONNECT.
            let may_wait_on = is_late || (limit.drops_oldest && !is_always_there);
            let is_its_turn = until >= publish.sent && (may_wait_on || from <= publish.sent);
            is_its_turn && self.may_wait(session, from, until) > least
        });
        // What was on the wire when a client left takes places too, and cannot be dropped.
        let is_oldest = limit.drops_oldest && is_always_there && !is_late;
        is_full && (!is_oldest || self.may_follow_in_queue(session, publish) >= limit.messages)
    }

    /// How many messages may have come to a session after this one. The oldest goes when as many as the queue holds did.
    fn may_follow_in_queue(&self, session: &Session, publish: &Publish) -> usize {
        let before = self.rests.iter().rfind(|rest| **rest <= publish.sent);
        let after = self.rests.iter().find(|rest| **rest >= publish.sent);
        let (before, after) = (before.copied(), after.copied());
        let (before, after) = (before.unwrap_or(0), after.unwrap_or(u64::MAX));
        let later = |p: &&Publish| {
            // Those that may come long after they were sent first.
            let is_late = p.will || p.resent;
            p.sent <= after && (p.sent >= before || is_late) && session.may_want(p)
        };
        // Itself is among them.
        self.publishes
            .iter()
            .filter(later)
            .count()
            .saturating_sub(1)
    }

    /// Who was away gets no more of what was sent meanwhile than a queue may hold.
    pub fn check_queue(&self, session: &Session) -> Result<(), String> {
        let Some(limit) = self.queue else {
            return Ok(());
        };
        for (from, until) in &session.away {
            let is_of_then = |number: &u64| {
                let publish = &self.publishes[*number as usize];
                let is_of_then = publish.sent > *from && publish.sent <= *until;
                // A will comes later, and what is sent again may.
                is_of_then && !publish.will && !publish.resent
            };
            let numbers = session.received.iter().map(|d| d.number);
            let kept: BTreeSet<u64> = numbers.filter(is_of_then).collect();
            if kept.len() > limit.messages {
                return Err(format!(
                    "{kept:?} were kept from {from} to {until}, of {limit:?}"
                ));
            }
        }
        Ok(())
    }

    /// How many messages may have been under way to a session between two moments, those dropped included.
    fn may_wait(&self, session: &Session, from: u64, until: u64) -> usize {
        let may_wait = |(number, publish): &(usize, &Publish)| {
            // What was sent again may come again.
            let is_over = |over: &u64| *over <= from && !publish.resent;
            session.may_want(publish)
                && publish.sent <= until
                && !session.over.get(&(*number as u64)).is_some_and(is_over)
        };
        self.publishes.iter().enumerate().filter(may_wait).count()
    }
}

impl Session {
    /// Whether this may have taken a place in its queue.
    fn may_want(&self, publish: &Publish) -> bool {
        publish.qos > Qos::AtMostOnce
            && self.subscriptions.iter().any(|s| {
                s.matches(&publish.topic)
                    && s.options.qos > Qos::AtMostOnce
                    && s.may_have_stood(publish, u64::MAX)
            })
    }
}
