//! A worker: the network, inbound. Sockets, MQTT, transient sessions and routing, in one single-threaded loop.
//!
//! This file is its life; what it decides is `dispatch`. A worker opens no file and makes no socket: listening sockets
//! come from the supervisor.

pub mod dispatch;

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use dispatch::{AcceptedFrom, ConnId, HangUp, Machine, Worker};
use nix::sys::resource::{Resource, getrlimit};
use socket2::{Socket, TcpKeepalive};

use super::child::Child;
use super::member::{self, Brain, Event, Identity, Member, MemberError, Phase, Sockets};
use crate::base::clock::Instant;
use crate::base::figures::Figures;
use crate::base::ids::MemberId;
use crate::base::limits::{
    CONNECTIONS_BETWEEN_INBOXES, DESCRIPTORS_RESERVED, INBOX_BYTES_PER_TURN, INPUT_BYTES_PER_TURN,
    OVERFLOW_BYTES_PAUSE, WRITE_BYTES_BETWEEN_INBOXES,
};
use crate::base::log::LogType;
use crate::config::Config;
use crate::net::Token;
use crate::net::accept::{Accept, Accepted, Listeners, Share};
use crate::net::connections::{Connections, Received};
use crate::ring::{Cx, Mesh as _, SharedMesh};
use crate::sys::{machine, random};

/// The life of a worker.
pub fn run(child: Child) -> ExitCode {
    member::end(live(child))
}

fn live(child: Child) -> Result<(), MemberError> {
    let mut seed = [0; 16];
    random::fill(&mut seed)?;
    let member = Member::new(child, |config, me: &Identity| {
        let seed = u128::from_ne_bytes(seed);
        Worker::new(config, me.member, me.incarnation, me.hash_key, seed)
    })?;
    let mut worker = Loop::new(member);
    while !worker.is_over() {
        worker.turn()?;
    }
    // The kernel closes everything at once; a channel that closes before the process ends looks like a fault.
    std::mem::forget(worker);
    Ok(())
}

struct Loop {
    member: Member<Worker>,
    listeners: Listeners,
    connections: Connections<ConnId>,
    /// Connections that the descriptor limit leaves room for.
    connections_max: usize,
}

impl Loop {
    fn new(mut member: Member<Worker>) -> Self {
        let workers = member.config.workers.count(machine::cores());
        member.brain.set_machine(Machine {
            workers: u64::try_from(workers).unwrap_or(1),
            memory_bytes: machine::memory_bytes(),
        });
        Self {
            member,
            listeners: Listeners::default(),
            connections: Connections::new(),
            connections_max: connections_max(),
        }
    }

    fn is_over(&self) -> bool {
        self.member.phase() == Phase::Stopping
            && (self.connections.is_empty() || self.member.is_out_of_time())
    }

    /// One turn. Heads before sockets: nothing is written to a client before the records that it depends on are in
    /// shared memory.
    fn turn(&mut self) -> Result<(), MemberError> {
        let deadline = self.next_deadline();
        self.member.wait(self.has_work(), deadline)?;
        self.note_events()?;
        self.member.inboxes(INBOX_BYTES_PER_TURN);
        self.accept();
        self.read();
        self.connections.tick(self.member.now);
        self.member.step(Event::Tick);
        self.read_silent();
        self.member.finish_turn()?;
        self.write();
        self.close();
        let brain = &self.member.brain;
        self.connections.unpark(|id| brain.wants_input(id));
        self.member.write_log();
        Ok(())
    }

    /// Whether there is work that no event will tell of.
    fn has_work(&self) -> bool {
        (self.may_accept() && self.listeners.has_work(self.member.now))
            || (self.may_read()
                && (self.connections.readable_len() > 0 || self.member.brain.has_silent()))
            || self.connections.has_writable()
            || self.member.brain.dirty() > 0
    }

    fn next_deadline(&self) -> Option<Instant> {
        let accepting = self.listeners.next_deadline().filter(|_| self.may_accept());
        [accepting, self.connections.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Without a store no client can be let in: connections wait in the kernel's queue.
    fn may_accept(&self) -> bool {
        self.member.phase() == Phase::Serving
            && self.member.mesh.live().contains(MemberId::STORE)
            && self.may_read()
    }

    /// While the outbox is full, nothing is read that could add to it. Inboxes are: so no cycle of full rings locks.
    fn may_read(&self) -> bool {
        self.member.phase() == Phase::Serving
            && self.member.mesh.overflow_bytes() <= OVERFLOW_BYTES_PAUSE
    }

    fn note_events(&mut self) -> Result<(), MemberError> {
        self.connections.next_turn();
        for at in 0..self.member.poller.len() {
            let Some(ready) = self.member.poller.ready(at) else {
                break;
            };
            match Token::unpack(ready.token) {
                Token::Control => self.obey()?,
                // The edge has done its work: the rings are looked into in every turn.
                Token::Doorbell => {}
                Token::Listener(place) => self.listeners.ready(place),
                Token::Lingering(place) => self.connections.lingering_ready(place),
                Token::Connection(id) => self.connections.ready(id, ready),
            }
        }
        Ok(())
    }

    fn obey(&mut self) -> Result<(), MemberError> {
        for change in self.member.obey()? {
            match change {
                Sockets::Listen {
                    listener,
                    lent_by,
                    socket,
                } => {
                    let poller = &self.member.poller;
                    if let Err(e) = self.listeners.add(listener, lent_by, socket, poller) {
                        self.member.log.line(
                            LogType::Error,
                            format_args!("Error: Unable to accept from a listening socket: {e}."),
                        );
                    }
                }
                Sockets::Internal(socket) => self.let_in_internal(socket),
                Sockets::TakeBack(from) => self.listeners.take_back(from, &self.member.poller),
            }
        }
        if self.member.phase() != Phase::Serving {
            self.listeners.close(&self.member.poller);
        }
        Ok(())
    }

    fn accept(&mut self) {
        if !self.may_accept() {
            return;
        }
        let now = self.member.now;
        let mut share = Share::new();
        loop {
            let accepted = if self.connections.len() < self.connections_max {
                self.listeners.accept(&mut share, now)
            } else if self.listeners.has_work(now) {
                self.listeners.exhausted(now)
            } else {
                Accept::Nothing
            };
            match accepted {
                Accept::One(accepted) => self.let_in(accepted),
                Accept::Nothing => return,
                Accept::Exhausted { first } => {
                    if first {
                        self.member.log.line(
                            LogType::Warning,
                            format_args!(
                                "Unable to accept new connection, system socket count has been exceeded. \
                                 Try increasing \"ulimit -n\" or equivalent."
                            ),
                        );
                    }
                    return;
                }
            }
        }
    }

    fn let_in(&mut self, accepted: Accepted) {
        let Accepted {
            socket,
            peer,
            listener,
            port,
        } = accepted;
        let (ip, from_port) = (peer.ip(), peer.port());
        let messages = self.member.config.connection_messages;
        let log = &mut self.member.log;
        if let Some(option) = self.member.brain.is_crowded(listener) {
            if messages {
                log.line(
                    LogType::Notice,
                    format_args!("Client connection from {ip} denied: {option} exceeded."),
                );
            }
            return;
        }
        if messages {
            log.line(
                LogType::Notice,
                format_args!("New connection from {ip}:{from_port} on port {port}."),
            );
            let me = self.member.mesh.me();
            log.line(
                LogType::Debug,
                format_args!("Connection from {ip}:{from_port} is served by {me}."),
            );
        }
        self.keep_alive(&socket, listener);
        let from = AcceptedFrom { peer, listener };
        let id = self.member.with_cx(|brain, cx| brain.accept(from, cx));
        let poller = &self.member.poller;
        if let Err(e) = self.connections.insert(id, socket, poller) {
            self.hang_up(id, HangUp::Error(e.kind()));
        }
    }

    fn let_in_internal(&mut self, socket: OwnedFd) {
        let id = self.member.with_cx(|brain, cx| brain.accept_internal(cx));
        let poller = &self.member.poller;
        if let Err(e) = self.connections.insert(id, socket.into(), poller) {
            self.hang_up(id, HangUp::Error(e.kind()));
        }
    }

    /// Has the system look after peers that say nothing, where the listener asks for it.
    fn keep_alive(&mut self, socket: &Socket, listener: u16) {
        let settings = self.member.config.listeners.get(usize::from(listener));
        let Some(wanted) = settings.and_then(|l| l.tcp_keepalive) else {
            return;
        };
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(u64::from(wanted.idle_secs)))
            .with_interval(Duration::from_secs(u64::from(wanted.interval_secs)))
            .with_retries(u32::from(wanted.count));
        // A socket whose peer has gone already may refuse; reading it will tell.
        if let Err(e) = socket.set_tcp_keepalive(&keepalive) {
            self.member.log.line(
                LogType::Debug,
                format_args!("Unable to set tcp_keepalive: {e}."),
            );
        }
    }

    /// Gives everybody who may have sent something a turn. Who has none because others sent much is the first of the
    /// next turn: what was read is to be passed on before more is taken in.
    fn read(&mut self) {
        let mut left = INPUT_BYTES_PER_TURN;
        for nth in 1..=self.connections.readable_len() {
            if left == 0 || !self.may_read() {
                return;
            }
            let Some(id) = self.connections.next_readable() else {
                return;
            };
            if self.member.brain.wants_input(id) {
                left = left.saturating_sub(self.read_one(id).unwrap_or(0));
            } else {
                self.connections.park(id);
            }
            if nth.is_multiple_of(CONNECTIONS_BETWEEN_INBOXES) {
                self.member.inboxes_between();
            }
        }
    }

    /// Reads once, and says how many bytes; `None` if there was nothing.
    fn read_one(&mut self, id: ConnId) -> Option<usize> {
        self.member.mesh.beat();
        match self.connections.read(id) {
            Received::Bytes(bytes) => {
                self.member.with_cx(|brain, cx| brain.input(id, bytes, cx));
                return Some(bytes.len());
            }
            Received::Last(bytes) => {
                let input =
                    |brain: &mut Worker, cx: &mut Cx<'_, _>| brain.last_input(id, bytes, cx);
                self.member.with_cx(input);
                return Some(bytes.len());
            }
            Received::Nothing => return None,
            Received::Eof => self.hang_up(id, HangUp::Eof),
            Received::Error(kind) => self.hang_up(id, HangUp::Error(kind)),
        }
        Some(0)
    }

    fn hang_up(&mut self, id: ConnId, why: HangUp) {
        self.member.with_cx(|brain, cx| brain.hang_up(id, why, cx));
    }

    /// A keep-alive is over only if the socket has nothing either: bytes that wait here are not the client's silence.
    fn read_silent(&mut self) {
        let mut left = INPUT_BYTES_PER_TURN;
        while left > 0 && self.may_read() {
            let Some(id) = self.member.brain.pop_silent() else {
                return;
            };
            match self.read_one(id) {
                Some(bytes) => left = left.saturating_sub(bytes),
                None => self.member.with_cx(|brain, cx| brain.silent(id, cx)),
            }
        }
    }

    /// Writes what has been gathered, with one system call for each connection.
    fn write(&mut self) {
        let mut written = 0;
        for id in self.connections.take_writable() {
            self.write_one(id, &mut written);
        }
        // Who gets something meanwhile is written to in the next turn.
        for _ in 0..self.member.brain.dirty() {
            let Some(id) = self.member.brain.pop_dirty() else {
                return;
            };
            self.write_one(id, &mut written);
        }
    }

    fn write_one(&mut self, id: ConnId, written: &mut usize) {
        // A turn may write a megabyte to each of thousands, with a small share of a core: that is slow, not hung.
        self.member.mesh.beat();
        let was_full = self.member.brain.is_full(id);
        let Some(output) = self.member.brain.output(id) else {
            return;
        };
        let before = output.len();
        self.connections.write(id, output);
        *written += before.saturating_sub(output.len());
        self.member.brain.note_written(id, before);
        if was_full && !self.member.brain.is_full(id) {
            self.member.with_cx(|brain, cx| brain.wrote(id, cx));
        }
        if *written >= WRITE_BYTES_BETWEEN_INBOXES {
            *written = 0;
            self.member.inboxes_between();
        }
    }

    fn close(&mut self) {
        while let Some((id, rest)) = self.member.brain.pop_closed() {
            let now = self.member.now;
            self.connections.close(id, rest, now, &self.member.poller);
        }
    }
}

/// What the descriptor limit leaves for clients. A broker that uses its last descriptor could not hear of a new
/// sibling, whose rings come as descriptors.
fn connections_max() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    let soft = usize::try_from(soft).unwrap_or(usize::MAX);
    soft - DESCRIPTORS_RESERVED.min(soft / 2)
}

impl Brain for Worker {
    fn step(&mut self, event: Event<'_>, cx: &mut Cx<'_, SharedMesh>) {
        match event {
            Event::Record {
                from,
                incarnation,
                kind,
                bytes,
            } => self.record(from, incarnation, kind, bytes, cx),
            Event::Joined(member, incarnation) => self.member_joined(member, incarnation, cx),
            Event::Gone(member, incarnation) => self.member_gone(member, incarnation, cx),
            Event::Drained(member, incarnation) => self.member_drained(member, incarnation, cx),
            Event::Removed(member, incarnation) => self.member_removed(member, incarnation, cx),
            Event::Tick => self.tick(cx),
            Event::EndOfTurn => self.end_of_turn(cx),
            Event::Flushed => self.flushed(cx),
            Event::Others(others) => self.note_others(others.heap_bytes, others.queued_bytes),
            Event::Quiesce => self.quiesce(cx),
            Event::Stop => self.stop(cx),
        }
    }

    fn configure(&mut self, config: Rc<Config>) {
        self.set_config(config);
    }

    fn next_deadline(&self, cx: &Cx<'_, SharedMesh>) -> Option<Instant> {
        self.next_deadline(cx)
    }

    fn is_quiet(&self, cx: &Cx<'_, SharedMesh>) -> bool {
        self.is_quiet(cx)
    }

    fn figures(&self) -> Figures {
        self.figures()
    }
}
