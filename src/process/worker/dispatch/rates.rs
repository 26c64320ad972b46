//! Clients that send faster than they may: they are not read until they have credit again, and lose nothing.
//!
//! What was read already waits in front of the client's socket. A listener's credit is for all of its clients in this
//! worker, in turns of one packet each.

use std::collections::{BTreeMap, BTreeSet};

use super::connection::{Connection, Stage};
use super::{ConnId, Worker};
use crate::base::clock::Instant;
use crate::base::log::LogType;
use crate::config::{Config, Listener};
use crate::ring::{Cx, Mesh};
use crate::session::{Credit, Rates};

/// Why a client is not read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Pause {
    /// It is.
    #[default]
    No,
    /// It has no credit until then.
    Until(Instant),
    /// Its listener has none; this is its place in the queue.
    Queued(u64),
    /// Its turn in that queue has come.
    ItsTurn,
}

impl Pause {
    /// Whether what it sends has to wait.
    pub fn is_on(self) -> bool {
        matches!(self, Self::Until(_) | Self::Queued(_))
    }
}

/// Everybody who is not read for this reason.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// Some rate is limited; otherwise nothing here costs anything.
    pub is_on: bool,
    until: BTreeSet<(Instant, ConnId)>,
    gates: BTreeMap<u16, Gate>,
}

/// The credit of a listener, and who waits for it.
#[derive(Debug, Default)]
struct Gate {
    credit: Credit,
    queue: BTreeMap<u64, ConnId>,
    next_place: u64,
}

impl Pauses {
    pub fn new(config: &Config) -> Self {
        Self {
            is_on: limits_rates(config),
            ..Self::default()
        }
    }

    /// A connection is over.
    pub fn forget(&mut self, id: ConnId, conn: &Connection) {
        match conn.pause {
            Pause::Until(at) => {
                self.until.remove(&(at, id));
            }
            Pause::Queued(place) => {
                if let Some(gate) = self.gates.get_mut(&conn.from.listener) {
                    gate.queue.remove(&place);
                }
            }
            Pause::No | Pause::ItsTurn => {}
        }
    }
}

fn limits_rates(config: &Config) -> bool {
    let mut listeners = config.listeners.iter();
    !client_rates(config).are_none() || listeners.any(|l| !rates_of(l).are_none())
}

fn client_rates(config: &Config) -> Rates {
    Rates {
        messages: config.client_message_rate,
        bytes: config.client_byte_rate,
    }
}

fn rates_of(listener: &Listener) -> Rates {
    Rates {
        messages: listener.message_rate,
        bytes: listener.byte_rate,
    }
}

impl Worker {
    /// The rates of the new configuration hold for everybody: who waits is looked at again.
    pub(super) fn set_rates(&mut self) {
        self.pauses.is_on = limits_rates(&self.config);
        for (_, id) in std::mem::take(&mut self.pauses.until) {
            if let Some(conn) = self.conns.get_mut(id) {
                conn.pause = Pause::Until(Instant::default());
                self.pauses.until.insert((Instant::default(), id));
            }
        }
    }

    /// This worker's part of what a listener's clients may send together.
    fn listener_rates(&self, listener: u16) -> Rates {
        let settings = self.config.listeners.get(usize::from(listener));
        let all = settings.map(rates_of).unwrap_or_default();
        let part = |n: u32| u32::try_from(self.machine.part_of(u64::from(n))).unwrap_or(n);
        Rates {
            messages: part(all.messages),
            bytes: part(all.bytes),
        }
    }

    /// Whether another packet of this connection may be taken now. If not, it is paused.
    pub(super) fn has_credit<M: Mesh>(
        &mut self,
        id: ConnId,
        is_message: bool,
        cx: &mut Cx<'_, M>,
    ) -> bool {
        if !self.pauses.is_on {
            return true;
        }
        let Some(conn) = self.conns.get(id) else {
            return true;
        };
        // Whoever is about to be closed is read to the end, whatever it costs.
        if conn.stage != Stage::Connected || conn.evicting.is_some() {
            return true;
        }
        let listener = conn.from.listener;
        let rates = self.listener_rates(listener);
        let Some(conn) = self.conns.get_mut(id) else {
            return true;
        };
        let pause = std::mem::take(&mut conn.pause);
        if pause.is_on() {
            conn.pause = pause;
            return false;
        }
        if let Some(at) = conn
            .credit
            .wait(is_message, client_rates(&self.config), cx.now)
        {
            conn.pause = Pause::Until(at);
            self.pauses.until.insert((at, id));
        } else if !rates.are_none() {
            let gate = self.pauses.gates.entry(listener).or_default();
            let others_wait = pause != Pause::ItsTurn && !gate.queue.is_empty();
            if others_wait || gate.credit.wait(is_message, rates, cx.now).is_some() {
                gate.next_place += 1;
                gate.queue.insert(gate.next_place, id);
                conn.pause = Pause::Queued(gate.next_place);
            }
        }
        if conn.pause.is_on() && !std::mem::replace(&mut conn.slowed, true) {
            let (client, peer) = (&conn.client.id, conn.from.peer);
            cx.log.line(
                LogType::Notice,
                format_args!(
                    "Client {client} [{peer}] sends faster than it may, and is slowed down."
                ),
            );
        }
        !conn.pause.is_on()
    }

    /// A packet was taken.
    pub(super) fn spend_credit(
        &mut self,
        id: ConnId,
        bytes: usize,
        is_message: bool,
        now: Instant,
    ) {
        if !self.pauses.is_on {
            return;
        }
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let listener = conn.from.listener;
        let rates = client_rates(&self.config);
        conn.credit.take(bytes, is_message, rates, now);
        let rates = self.listener_rates(listener);
        if !rates.are_none() {
            let gate = self.pauses.gates.entry(listener).or_default();
            gate.credit.take(bytes, is_message, rates, now);
        }
    }

    /// Goes on with those who have credit again.
    pub(super) fn end_pauses<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        while let Some((at, id)) = self.pauses.until.first().copied()
            && at <= cx.now
        {
            self.pauses.until.pop_first();
            self.go_on(id, Pause::No, cx);
        }
        let listeners: Vec<u16> = self.pauses.gates.keys().copied().collect();
        for listener in listeners {
            let rates = self.listener_rates(listener);
            while let Some(gate) = self.pauses.gates.get_mut(&listener)
                && gate.credit.wait(true, rates, cx.now).is_none()
                && let Some((_, id)) = gate.queue.pop_first()
            {
                self.go_on(id, Pause::ItsTurn, cx);
            }
        }
    }

    fn go_on<M: Mesh>(&mut self, id: ConnId, pause: Pause, cx: &mut Cx<'_, M>) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.pause = pause;
            // It could not be heard meanwhile; that was not its silence.
            conn.heard = cx.now;
            self.consume_partial(id, cx);
        }
    }

    /// When [`Worker::end_pauses`] has something to do.
    pub(super) fn pauses_end(&self, now: Instant) -> Option<Instant> {
        let until = self.pauses.until.first().map(|(at, _)| *at);
        let gates = self.pauses.gates.iter();
        let queued = gates.filter(|(_, gate)| !gate.queue.is_empty());
        let next = queued
            .map(|(l, gate)| {
                gate.credit
                    .wait(true, self.listener_rates(*l), now)
                    .unwrap_or(now)
            })
            .min();
        [until, next].into_iter().flatten().min()
    }
}
