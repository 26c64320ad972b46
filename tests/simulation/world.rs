//! N workers, the store and clients in one process, driven by one random number generator: the same seed is the same
//! history, to the byte.
//!
//! Every step is one small thing: part of a member's turn, a few bytes of one connection, a death. The supervisor's
//! part (who is told what when a member dies) is played here.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use mosquitto::base::clock::Instant;
use mosquitto::base::ids::{Incarnation, MemberId};
use mosquitto::base::limits::OVERFLOW_BYTES_PAUSE;
use mosquitto::base::log::{Log, LogMask};
use mosquitto::config::Config;
use mosquitto::mqtt::{Qos, Version};
use mosquitto::process::store::authority::{Store, StoreSettings};
use mosquitto::process::worker::dispatch::{AcceptedFrom, ConnId, HangUp, Worker};
use mosquitto::ring::{Cx, Mesh};

use crate::book::Book;
use crate::client::{Client, Link};
use crate::mesh::{Life, Net, Outbox, SimMesh};

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

enum Brain {
    Worker(Box<Worker>),
    Store(Box<Store>),
}

/// What the supervisor tells a member.
#[derive(Clone, Copy, Debug)]
enum Told {
    Peer(Life),
    Gone(Life),
    Removed(Life),
}

struct Member {
    life: Life,
    brain: Brain,
    told: VecDeque<Told>,
    /// How far it has applied what it reads.
    applied: BTreeMap<MemberId, (Incarnation, u64)>,
    /// Peers that have not given it a start position yet.
    joining: BTreeSet<Life>,
    /// Peers that are dead and not drained.
    draining: BTreeSet<Life>,
}

/// One TCP connection.
pub struct Pipe {
    pub slot: MemberId,
    pub client: usize,
    /// Who accepted it.
    accepted: Option<(Incarnation, ConnId)>,
    to_broker: VecDeque<u8>,
    to_client: Vec<u8>,
    client_closed: bool,
    broker_closed: bool,
}

pub struct World {
    pub random: Random,
    pub now: Instant,
    pub step: u64,
    pub net: Rc<RefCell<Net>>,
    members: BTreeMap<MemberId, Member>,
    next_incarnation: u32,
    /// Dead lives, and who has not drained them yet.
    dead: BTreeMap<Life, BTreeSet<Life>>,
    pipes: BTreeMap<usize, Pipe>,
    next_pipe: usize,
    pub clients: Vec<Client>,
    pub book: Book,
    pub log: Log,
    config: Rc<Config>,
    pub workers: usize,
}

/// Where in its turn a member dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DieAt {
    AfterReading,
    BeforeFlush,
    AfterFlush,
    AfterSockets,
}

const HASH_KEY: [u64; 2] = [11, 22];

impl World {
    pub fn new(seed: u64, workers: usize, config: Config) -> Self {
        let mut random = Random(seed);
        let capacity = [4, 16, 1000][random.below(3)];
        let mut world = Self {
            random,
            now: Instant(1_000_000_000),
            step: 0,
            net: Rc::new(RefCell::new(Net {
                capacity,
                ..Net::default()
            })),
            members: BTreeMap::new(),
            next_incarnation: 0,
            dead: BTreeMap::new(),
            pipes: BTreeMap::new(),
            next_pipe: 0,
            clients: Vec::new(),
            book: Book {
                calm: true,
                ..Book::default()
            },
            log: Log::new(LogMask::NONE),
            config: Rc::new(config),
            workers,
        };
        for slot in 0..=workers {
            world.start(MemberId::new(slot).unwrap());
        }
        world
    }

    /// Starts a member, and introduces it to the others and them to it.
    fn start(&mut self, slot: MemberId) {
        self.next_incarnation += 1;
        let life = (slot, Incarnation(self.next_incarnation));
        let brain = if slot == MemberId::STORE {
            let settings = StoreSettings {
                max_inflight_messages: self.config.max_inflight_messages,
                max_queued_messages: self.config.max_queued_messages,
                max_queued_bytes: self.config.max_queued_bytes,
                queue_qos0_messages: self.config.queue_qos0_messages,
                retain_available: true,
                persistent_client_expiration: None,
            };
            Brain::Store(Box::new(Store::new(settings, HASH_KEY)))
        } else {
            let id_seed = u128::from(self.random.next());
            Brain::Worker(Box::new(Worker::new(
                self.config.clone(),
                slot,
                life.1,
                HASH_KEY,
                id_seed,
            )))
        };
        self.net
            .borrow_mut()
            .outboxes
            .insert(life, Outbox::default());
        let mut told = VecDeque::new();
        for other in self.members.values_mut() {
            other.told.push_back(Told::Peer(life));
            told.push_back(Told::Peer(other.life));
        }
        let (joining, draining) = (BTreeSet::new(), BTreeSet::new());
        self.members.insert(
            slot,
            Member {
                life,
                brain,
                told,
                applied: BTreeMap::new(),
                joining,
                draining,
            },
        );
    }

    /// SIGKILL: what was not published never was; connections break; the others are told.
    pub fn kill(&mut self, slot: MemberId) {
        let Some(member) = self.members.remove(&slot) else {
            return;
        };
        let life = member.life;
        if std::env::var_os("TRACE").is_some() {
            println!("{}: {life:?} is killed", self.step);
        }
        self.book.calm = false;
        self.net.borrow_mut().cut(life);
        if slot == MemberId::STORE {
            self.book.store_deaths.push(self.step);
            for session in self.book.sessions.iter_mut() {
                session.ended.get_or_insert(self.step);
            }
            // Wills whose connection the store's death ended have no subscriber left that was promised them.
        }
        for (key, pipe) in &mut self.pipes {
            if pipe
                .accepted
                .is_some_and(|(incarnation, _)| incarnation == life.1)
            {
                pipe.broker_closed = true;
                let client = &mut self.clients[pipe.client];
                if client.link.pipe() == Some(*key) {
                    client.cut(&mut self.book);
                }
            }
        }
        for others in self.dead.values_mut() {
            others.remove(&life);
        }
        let others: BTreeSet<Life> = self.members.values().map(|m| m.life).collect();
        for other in self.members.values_mut() {
            other.told.push_back(Told::Gone(life));
        }
        self.dead.insert(life, others);
        self.bury();
    }

    /// Dead members that everybody has drained: all are told, and the slot is used again.
    fn bury(&mut self) {
        let done: Vec<Life> = self
            .dead
            .iter()
            .filter(|(_, left)| left.is_empty())
            .map(|(life, _)| *life)
            .collect();
        for life in done {
            self.dead.remove(&life);
            self.net.borrow_mut().outboxes.remove(&life);
            for member in self.members.values_mut() {
                member.told.push_back(Told::Removed(life));
            }
            self.start(life.0);
        }
    }

    pub fn is_alive(&self, slot: MemberId) -> bool {
        self.members.contains_key(&slot)
    }

    /// A turn of a member's loop; it may die in the middle. `most` bounds what it reads.
    pub fn turn(&mut self, slot: MemberId, most: usize, die: Option<DieAt>) {
        let Some(mut member) = self.members.remove(&slot) else {
            return;
        };
        self.hear(&mut member, most);
        self.read(&mut member, most);
        if die == Some(DieAt::AfterReading) {
            self.members.insert(slot, member);
            return self.kill(slot);
        }
        self.sockets_in(&mut member, most);
        self.look_again(&mut member);
        let now = self.now;
        let mut log = std::mem::replace(&mut self.log, Log::new(LogMask::NONE));
        member.step(&self.net, &mut log, now, |brain, cx| match brain {
            Brain::Worker(worker) => {
                worker.tick(cx);
                worker.end_of_turn(cx);
            }
            Brain::Store(store) => {
                store.tick(cx);
                store.end_of_turn(cx);
            }
        });
        self.log = log;
        if die == Some(DieAt::BeforeFlush) {
            self.members.insert(slot, member);
            return self.kill(slot);
        }
        self.flush(&mut member);
        if die != Some(DieAt::AfterFlush) {
            self.sockets_out(&mut member);
        }
        self.members.insert(slot, member);
        if die.is_some() {
            self.kill(slot);
        }
        self.bury();
    }

    /// Heeds what the supervisor said.
    fn hear(&mut self, member: &mut Member, most: usize) {
        for _ in 0..most.max(1) {
            let Some(told) = member.told.pop_front() else {
                return;
            };
            let (net, now) = (self.net.clone(), self.now);
            let log = &mut self.log;
            match told {
                Told::Peer(life) => {
                    // Count the reader first; it starts at what is in the ring now.
                    let mut borrowed = net.borrow_mut();
                    if let Some(outbox) = borrowed.outboxes.get_mut(&member.life) {
                        let start = outbox.written;
                        outbox.readers.insert(life.0, (life.1, start));
                    }
                    drop(borrowed);
                    member.joining.insert(life);
                    member.step(&net, log, now, |brain, cx| match brain {
                        Brain::Worker(worker) => worker.member_joined(life.0, life.1, cx),
                        Brain::Store(store) => store.member_joined(life.0, life.1, cx),
                    });
                }
                Told::Gone(life) => {
                    if let Some(outbox) = net.borrow_mut().outboxes.get_mut(&member.life) {
                        outbox.readers.remove(&life.0);
                    }
                    member.draining.insert(life);
                    member.step(&net, log, now, |brain, cx| match brain {
                        Brain::Worker(worker) => worker.member_gone(life.0, life.1, cx),
                        Brain::Store(store) => store.member_gone(life.0, life.1, cx),
                    });
                }
                Told::Removed(life) => member.step(&net, log, now, |brain, cx| match brain {
                    Brain::Worker(worker) => worker.member_removed(life.0, life.1, cx),
                    Brain::Store(store) => store.member_removed(life.0, life.1, cx),
                }),
            }
        }
    }

    /// Reads inboxes, in a random order, up to `most` records of each.
    fn read(&mut self, member: &mut Member, most: usize) {
        let net = self.net.clone();
        let me = member.life;
        for life in member.joining.clone() {
            let start = net
                .borrow()
                .outboxes
                .get(&life)
                .and_then(|o| o.readers.get(&me.0).copied());
            if let Some((incarnation, start)) =
                start.filter(|(incarnation, _)| *incarnation == me.1)
            {
                let _ = incarnation;
                member.applied.insert(life.0, (life.1, start));
                member.joining.remove(&life);
            }
        }
        let mut writers: Vec<MemberId> = member.applied.keys().copied().collect();
        for at in (1..writers.len()).rev() {
            writers.swap(at, self.random.below(at + 1));
        }
        for writer in writers {
            let (incarnation, mut at) = member.applied[&writer];
            for _ in 0..most {
                let record = {
                    let net = net.borrow();
                    let Some(outbox) = net.outboxes.get(&(writer, incarnation)) else {
                        break;
                    };
                    if at >= outbox.head {
                        break;
                    }
                    outbox.records[at as usize].clone()
                };
                at += 1;
                if record.to.contains(me.0) {
                    let (kind, bytes) = (record.kind, &record.bytes);
                    if std::env::var_os("TRACE").is_some() {
                        if kind == 1 {
                            println!(
                                "{}: {} reads {:?} {:?}",
                                self.step,
                                me.0,
                                mosquitto::ipc::mesh::Message::decode(bytes).map(|m| (
                                    m.topic.to_owned(),
                                    m.qos,
                                    m.publisher,
                                    String::from_utf8_lossy(m.payload).into_owned()
                                )),
                                record.to
                            );
                        }
                        println!(
                            "{}: {} reads {:?}/{:?}",
                            self.step,
                            me.0,
                            mosquitto::ipc::mesh::ToStore::decode(kind, bytes).ok(),
                            mosquitto::ipc::mesh::ToWorker::decode(kind, bytes).ok()
                        );
                    }
                    let now = self.now;
                    member.step(&net, &mut self.log, now, |brain, cx| match brain {
                        Brain::Worker(worker) => {
                            worker.record(writer, incarnation, kind, bytes, cx)
                        }
                        Brain::Store(store) => store.record(writer, incarnation, kind, bytes, cx),
                    });
                }
                member.applied.insert(writer, (incarnation, at));
            }
        }
        self.finish_draining(member);
    }

    fn finish_draining(&mut self, member: &mut Member) {
        for life in member.draining.clone() {
            let head = self.net.borrow().outboxes.get(&life).map_or(0, |o| o.head);
            let reads = member
                .applied
                .get(&life.0)
                .filter(|(incarnation, _)| *incarnation == life.1);
            if reads.is_some_and(|(_, at)| *at < head) {
                continue;
            }
            if reads.is_some() {
                member.applied.remove(&life.0);
            }
            member.joining.remove(&life);
            member.draining.remove(&life);
            let (net, now) = (self.net.clone(), self.now);
            member.step(&net, &mut self.log, now, |brain, cx| {
                if let Brain::Worker(worker) = brain {
                    worker.member_drained(life.0, life.1, cx);
                }
            });
            // The real member says so after its flush: what it concluded is visible then.
            self.flush(member);
            if let Some(left) = self.dead.get_mut(&life) {
                left.remove(&member.life);
            }
        }
    }

    fn flush(&mut self, member: &mut Member) {
        let applied = member.applied.iter().map(|(m, (i, at))| ((*m, *i), *at));
        self.net.borrow_mut().flush(member.life, applied);
        let (net, now) = (self.net.clone(), self.now);
        member.step(&net, &mut self.log, now, |brain, cx| match brain {
            Brain::Worker(worker) => worker.flushed(cx),
            Brain::Store(store) => store.flushed(cx),
        });
    }

    /// Accepts, and reads some bytes of some connections.
    fn sockets_in(&mut self, member: &mut Member, most: usize) {
        let life = member.life;
        let (net, now) = (self.net.clone(), self.now);
        // A worker accepts once it hears from the store.
        if !member.applied.contains_key(&MemberId::STORE) {
            return;
        }
        for (key, pipe) in self.pipes.iter_mut().filter(|(_, p)| p.slot == life.0) {
            let _ = key;
            if pipe.accepted.is_none() && !pipe.broker_closed {
                member.step(&net, &mut self.log, now, |brain, cx| {
                    if let Brain::Worker(worker) = brain {
                        let peer = "127.0.0.1:9".parse().unwrap();
                        pipe.accepted = Some((
                            life.1,
                            worker.accept(AcceptedFrom { peer, listener: 0 }, cx),
                        ));
                    }
                });
            }
            let Some((incarnation, conn)) = pipe.accepted else {
                continue;
            };
            if incarnation != life.1 || pipe.broker_closed || (most < 100 && self.random.one_in(4))
            {
                continue;
            }
            let bytes = 1 + self.random.below(if most > 100 { 10_000 } else { 200 });
            member.step(&net, &mut self.log, now, |brain, cx| {
                let Brain::Worker(worker) = brain else { return };
                if cx.mesh.overflow_bytes() > OVERFLOW_BYTES_PAUSE || !worker.wants_input(conn) {
                    return;
                }
                let n = bytes.min(pipe.to_broker.len());
                let chunk: Vec<u8> = pipe.to_broker.drain(..n).collect();
                if !chunk.is_empty() {
                    worker.input(conn, &chunk, cx);
                } else if pipe.client_closed {
                    pipe.broker_closed = true;
                    worker.hang_up(conn, HangUp::Eof, cx);
                }
            });
        }
    }

    /// Connections that are silent for too long, or taken over: what has arrived is read first.
    fn look_again(&mut self, member: &mut Member) {
        loop {
            let Brain::Worker(worker) = &mut member.brain else {
                return;
            };
            let Some(conn) = worker.pop_silent() else {
                return;
            };
            let accepted = Some((member.life.1, conn));
            let Some(pipe) = self.pipes.values_mut().find(|p| p.accepted == accepted) else {
                continue;
            };
            let n = self.random.below(200).max(1).min(pipe.to_broker.len());
            let chunk: Vec<u8> = pipe.to_broker.drain(..n).collect();
            let closed = pipe.client_closed;
            pipe.broker_closed |= chunk.is_empty() && closed;
            member.step(&self.net, &mut self.log, self.now, |brain, cx| {
                let Brain::Worker(worker) = brain else { return };
                match (chunk.is_empty(), closed) {
                    (false, _) => worker.input(conn, &chunk, cx),
                    (true, true) => worker.hang_up(conn, HangUp::Eof, cx),
                    (true, false) => worker.silent(conn, cx),
                }
            });
        }
    }

    /// Writes outputs, closes what is closed.
    fn sockets_out(&mut self, member: &mut Member) {
        let Brain::Worker(worker) = &mut member.brain else {
            return;
        };
        let mut bytes = BTreeMap::new();
        while let Some(conn) = worker.pop_dirty() {
            let Some(output) = worker.output(conn) else {
                continue;
            };
            bytes.insert(conn.token(), (drain(output), false));
        }
        while let Some((conn, mut output)) = worker.pop_closed() {
            let last = drain(&mut output);
            let entry = bytes.entry(conn.token()).or_insert((Vec::new(), true));
            entry.0.extend(last);
            entry.1 = true;
        }
        for pipe in self.pipes.values_mut() {
            let Some((incarnation, conn)) = pipe.accepted.filter(|_| !pipe.client_closed) else {
                continue;
            };
            if incarnation != member.life.1 {
                continue;
            }
            if let Some((bytes, closed)) = bytes.remove(&conn.token()) {
                pipe.to_client.extend(bytes);
                pipe.broker_closed |= closed;
            }
        }
    }

    /// A client opens a connection to a worker's listening socket.
    pub fn connect(&mut self, client: usize, slot: MemberId, will: Option<(u64, u32)>) {
        if std::env::var_os("TRACE").is_some() {
            println!("{}: client {client} connects to {slot}", self.step);
        }
        self.next_pipe += 1;
        let key = self.next_pipe;
        let bytes = self.clients[client].connect(key, will);
        self.pipes.insert(
            key,
            Pipe {
                slot,
                client,
                accepted: None,
                to_broker: bytes.into(),
                to_client: Vec::new(),
                client_closed: false,
                broker_closed: false,
            },
        );
    }

    /// A client sends bytes, if it has a connection.
    pub fn send(&mut self, client: usize, bytes: &[u8]) {
        if let Some(pipe) = self.clients[client]
            .link
            .pipe()
            .and_then(|key| self.pipes.get_mut(&key))
        {
            pipe.to_broker.extend(bytes);
        }
    }

    /// A client closes its connection; what it sent still arrives.
    pub fn close(&mut self, client: usize, on_purpose: bool) {
        let Some(key) = self.clients[client].link.pipe() else {
            return;
        };
        if !on_purpose {
            self.book.calm = false;
            self.clients[client].cut(&mut self.book);
        }
        if let Some(pipe) = self.pipes.get_mut(&key) {
            pipe.client_closed = true;
            if pipe.broker_closed || pipe.accepted.is_none() {
                self.pipes.remove(&key);
            }
        }
        let step = self.step;
        self.clients[client].lost(&mut self.book, step);
    }

    /// A client forgets its connection, which stands on: the broker knows nothing of it until another comes.
    pub fn abandon(&mut self, client: usize) {
        self.book.calm = false;
        self.clients[client].cut(&mut self.book);
        let step = self.step;
        self.clients[client].lost(&mut self.book, step);
    }

    /// A client reads what has come, and sees whether its connection is closed.
    pub fn client_reads(&mut self, client: usize) -> Result<(), String> {
        let Some(key) = self.clients[client].link.pipe() else {
            return Ok(());
        };
        let step = self.step;
        let Some(pipe) = self.pipes.get_mut(&key) else {
            return Ok(());
        };
        let bytes = std::mem::take(&mut pipe.to_client);
        let (used, answer) = self.clients[client]
            .read(&bytes, &mut self.book, step)
            .map_err(|e| format!("client {client}: {e}"))?;
        pipe.to_client.splice(0..0, bytes[used..].iter().copied());
        pipe.to_broker.extend(answer);
        if pipe.broker_closed && pipe.to_client.is_empty() {
            self.pipes.remove(&key);
            self.clients[client].lost(&mut self.book, step);
        }
        Ok(())
    }

    /// Runs until nothing happens any more.
    pub fn settle(&mut self) -> Result<(), String> {
        let mut before = String::new();
        let mut still = 0;
        for _ in 0..5000 {
            self.step += 1;
            self.now = self.now.after_millis(2);
            for slot in 0..=self.workers {
                self.turn(MemberId::new(slot).unwrap(), 1000, None);
            }
            for client in 0..self.clients.len() {
                self.client_reads(client)?;
            }
            let now = self.fingerprint();
            still = if now == before { still + 1 } else { 0 };
            if still > 4 {
                return Ok(());
            }
            before = now;
        }
        Err(format!("the world does not come to rest: {before}"))
    }

    fn fingerprint(&self) -> String {
        let net = self.net.borrow();
        let outboxes: Vec<_> = net
            .outboxes
            .iter()
            .map(|(l, o)| (*l, o.head, o.records.len()))
            .collect();
        let pipes: Vec<_> = self
            .pipes
            .values()
            .map(|p| (p.client, p.to_broker.len(), p.to_client.len()))
            .collect();
        let links: Vec<_> = self
            .clients
            .iter()
            .map(|c| (c.link, c.unacknowledged()))
            .collect();
        let told: Vec<_> = self
            .members
            .values()
            .map(|m| (m.told.len(), m.joining.len()))
            .collect();
        format!(
            "{outboxes:?} {:?} {pipes:?} {links:?} {told:?} {:?}",
            net.cursors, self.dead
        )
    }

    /// The newest packet bytes of a client's connection that the broker has not read.
    pub fn unread(&self, client: usize) -> usize {
        self.clients[client]
            .link
            .pipe()
            .and_then(|key| self.pipes.get(&key))
            .map_or(0, |p| p.to_broker.len())
    }

    /// Adds a client.
    pub fn client(&mut self, version: Version, persistent: bool) -> usize {
        let index = self.clients.len();
        self.clients.push(Client::new(index, version, persistent));
        index
    }

    /// A client publishes; the number of the message.
    pub fn publish(&mut self, client: usize, topic: &str, qos: Qos, retain: bool) -> u64 {
        let number = Client::note(
            &mut self.book,
            client,
            topic.to_owned(),
            qos,
            retain,
            self.step,
            false,
        );
        let bytes = self.clients[client].publish(number, &self.book);
        self.send(client, &bytes);
        number
    }

    pub fn subscribe(&mut self, client: usize, filter: &str, qos: Qos) {
        let bytes = self.clients[client].subscribe(filter, qos, &mut self.book, self.step);
        self.send(client, &bytes);
    }

    pub fn unsubscribe(&mut self, client: usize, filter: &str) {
        let bytes = self.clients[client].unsubscribe(filter, &mut self.book, self.step);
        self.send(client, &bytes);
    }

    pub fn is_up(&self, client: usize) -> bool {
        matches!(self.clients[client].link, Link::Up(_))
    }
}

impl Member {
    fn step(
        &mut self,
        net: &Rc<RefCell<Net>>,
        log: &mut Log,
        now: Instant,
        act: impl FnOnce(&mut Brain, &mut Cx<'_, SimMesh<'_>>),
    ) {
        let mut mesh = SimMesh {
            net,
            me: self.life,
            applied: &self.applied,
        };
        act(
            &mut self.brain,
            &mut Cx {
                mesh: &mut mesh,
                log,
                now,
            },
        );
    }
}

fn drain(output: &mut mosquitto::net::output::Output) -> Vec<u8> {
    let bytes: Vec<u8> = output.waiting().flatten().copied().collect();
    output.consume(bytes.len());
    bytes
}
