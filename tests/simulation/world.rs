//! N workers, the store and clients in one process, driven by one random number generator: the same seed is the same
//! history (but for the order of filters within one announcement).
//!
//! Every step is one small thing: part of a member's turn, a few bytes of one connection, a death. The supervisor's
//! part (who is told what when a member dies) is played here; a member's turn is in `turn`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use mosquitto::base::clock::Instant;
use mosquitto::base::ids::{Incarnation, MemberId};
use mosquitto::base::log::{Log, LogMask};
use mosquitto::config::Config;
use mosquitto::mqtt::Version;
use mosquitto::process::store::authority::{Store, StoreSettings};
use mosquitto::process::worker::dispatch::{ConnId, Worker};

use crate::book::{Book, Moment};
use crate::client::{Client, Link};
use crate::mesh::{Life, Net, Outbox};
use crate::trace::{self, trace};

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

    pub fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

pub enum Brain {
    Worker(Box<Worker>),
    Store(Box<Store>),
}

/// What the supervisor tells a member.
#[derive(Clone, Copy, Debug)]
pub enum Told {
    Peer(Life),
    Gone(Life),
    Removed(Life),
}

pub struct Member {
    pub life: Life,
    pub brain: Brain,
    pub told: VecDeque<Told>,
    /// How far it has applied what it reads.
    pub applied: BTreeMap<MemberId, (Incarnation, u64)>,
    /// Peers that have not given it a start position yet.
    pub joining: BTreeSet<Life>,
    /// Peers that are dead and not drained.
    pub draining: BTreeSet<Life>,
    /// Connections whose output is not written yet.
    pub writable: BTreeSet<ConnId>,
}

/// One TCP connection.
pub struct Pipe {
    pub slot: MemberId,
    /// Whose it is; nobody's in a script.
    pub client: Option<usize>,
    /// Who accepted it.
    pub accepted: Option<(Incarnation, ConnId)>,
    pub to_broker: VecDeque<u8>,
    pub to_client: Vec<u8>,
    pub client_closed: bool,
    pub broker_closed: bool,
    /// Its CONNACK says 0.
    pub let_in: bool,
    /// The client reads nothing, and all buffers between are full.
    pub takes_nothing: bool,
    /// The will that a DISCONNECT at the end of `to_broker` removes.
    pub good_bye: Option<u64>,
}

pub struct World {
    pub random: Random,
    pub now: Instant,
    pub step: u64,
    pub net: Rc<RefCell<Net>>,
    pub members: BTreeMap<MemberId, Member>,
    next_incarnation: u32,
    /// Dead lives, and who has not drained them yet.
    pub dead: BTreeMap<Life, BTreeSet<Life>>,
    pub pipes: BTreeMap<usize, Pipe>,
    next_pipe: usize,
    /// Clients by connections that may be in, or on their way.
    pub standing: BTreeMap<usize, usize>,
    pub clients: Vec<Client>,
    pub book: Book,
    pub log: Log,
    pub config: Rc<Config>,
    pub workers: usize,
    /// It comes to rest once in so many steps; 0 is never.
    pub rests: usize,
    /// The member that started last.
    pub newest: MemberId,
    /// Bytes that are read from a connection at once, at most.
    pub chunk: usize,
    /// Bytes that clients have read.
    heard: usize,
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
    /// A world whose outboxes hold `capacity` records before they overflow.
    pub fn new(random: Random, workers: usize, capacity: u64, config: Config) -> Self {
        let net = Net {
            capacity,
            ..Net::default()
        };
        let mask = if trace::is_on() {
            LogMask::ALL
        } else {
            LogMask::NONE
        };
        let mut world = Self {
            random,
            now: Instant(1_000_000_000),
            step: 0,
            net: Rc::new(RefCell::new(net)),
            members: BTreeMap::new(),
            next_incarnation: 0,
            dead: BTreeMap::new(),
            pipes: BTreeMap::new(),
            next_pipe: 0,
            standing: BTreeMap::new(),
            clients: Vec::new(),
            book: Book {
                calm: true,
                ..Book::default()
            },
            log: Log::new(mask),
            config: Rc::new(config),
            workers,
            rests: 0,
            newest: MemberId::STORE,
            chunk: 200,
            heard: 0,
        };
        for slot in 0..=workers {
            world.start(MemberId::new(slot).unwrap());
        }
        world
    }

    pub fn moment(&self) -> Moment {
        Moment {
            step: self.step,
            now: self.now,
        }
    }

    /// Now, as far as order goes; but if a client's connection is broken already, it may have been so for as long as
    /// it was open.
    fn end_of(&self, client: usize) -> Moment {
        let client = &self.clients[client];
        let pipe = client.link.pipe().and_then(|key| self.pipes.get(&key));
        let now = match pipe {
            Some(pipe) if !pipe.broker_closed => self.now,
            _ => client.opened.now,
        };
        Moment {
            step: self.step,
            now,
        }
    }

    /// Clients of which more than one connection stands: the CONNECT of an older one may be read later.
    fn with_strays(&self) -> BTreeSet<usize> {
        let mut seen = BTreeSet::new();
        let clients = self.pipes.values().filter_map(|pipe| pipe.client);
        clients.filter(|client| !seen.insert(*client)).collect()
    }

    /// A client's connection ends without a good-bye.
    fn cut(&mut self, client: usize) {
        let at = self.end_of(client);
        let is_alone = !self.with_strays().contains(&client);
        self.book.calm = false;
        self.clients[client].cut(is_alone, &mut self.book, at);
    }

    /// A worker's slot at random.
    pub fn any_worker(&mut self) -> MemberId {
        let workers = self.workers;
        MemberId::new(1 + self.random.below(workers)).unwrap()
    }

    /// Starts a member, and introduces it to the others and them to it.
    fn start(&mut self, slot: MemberId) {
        self.next_incarnation += 1;
        self.newest = slot;
        let life = (slot, Incarnation(self.next_incarnation));
        let brain = self.brain(life);
        let mut net = self.net.borrow_mut();
        net.outboxes.insert(life, Outbox::default());
        drop(net);
        let mut told = VecDeque::new();
        for other in self.members.values_mut() {
            other.told.push_back(Told::Peer(life));
            told.push_back(Told::Peer(other.life));
        }
        let member = Member {
            life,
            brain,
            told,
            applied: BTreeMap::new(),
            joining: BTreeSet::new(),
            draining: BTreeSet::new(),
            writable: BTreeSet::new(),
        };
        self.members.insert(slot, member);
    }

    fn brain(&mut self, life: Life) -> Brain {
        let config = &self.config;
        if life.0 != MemberId::STORE {
            let seed = u128::from(self.random.next());
            let worker = Worker::new(config.clone(), life.0, life.1, HASH_KEY, seed);
            return Brain::Worker(Box::new(worker));
        }
        let settings = StoreSettings::of(config);
        Brain::Store(Box::new(Store::new(settings, HASH_KEY)))
    }

    /// SIGKILL: what was not published never was; connections break; the others are told.
    pub fn kill(&mut self, slot: MemberId) {
        let Some(member) = self.members.remove(&slot) else {
            return;
        };
        let life = member.life;
        // What happens before and after it is told apart.
        self.step += 1;
        trace!(self.step, "{life:?} is killed");
        self.book.calm = false;
        self.net.borrow_mut().cut(life);
        if slot == MemberId::STORE {
            self.book.store_died(self.step);
        }
        let (at, strays) = (self.moment(), self.with_strays());
        for (key, pipe) in &mut self.pipes {
            if pipe.accepted.is_none_or(|(i, _)| i != life.1) {
                continue;
            }
            pipe.broker_closed = true;
            self.book.broker_closed(*key, at.step);
            let client = pipe.client.map(|c| &mut self.clients[c]);
            if let Some(client) = client.filter(|c| c.link.pipe() == Some(*key)) {
                let is_alone = !strays.contains(&client.index);
                client.cut(is_alone, &mut self.book, at);
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
        self.step += 1;
        self.bury();
    }

    /// Dead members that everybody has drained: all are told, and the slot is used again.
    pub fn bury(&mut self) {
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
            trace!(self.step, "{} starts again", life.0);
            self.start(life.0);
        }
    }

    pub fn is_alive(&self, slot: MemberId) -> bool {
        self.members.contains_key(&slot)
    }

    /// A new connection to a worker's listening socket.
    pub fn dial(&mut self, client: Option<usize>, slot: MemberId) -> usize {
        self.next_pipe += 1;
        let pipe = Pipe {
            slot,
            client,
            accepted: None,
            to_broker: VecDeque::new(),
            to_client: Vec::new(),
            client_closed: false,
            broker_closed: false,
            let_in: false,
            takes_nothing: false,
            good_bye: None,
        };
        self.pipes.insert(self.next_pipe, pipe);
        self.next_pipe
    }

    /// A client connects, with a will of this number and this delay.
    pub fn connect(&mut self, client: usize, slot: MemberId, will: Option<(u64, u32)>) {
        trace!(
            self.step,
            "client {client} connects to {slot}, will {will:?}"
        );
        let key = self.dial(Some(client), slot);
        self.standing.insert(key, client);
        let at = self.moment();
        let bytes = self.clients[client].connect(key, will, &mut self.book, at);
        self.write(key, &bytes);
    }

    /// Bytes on a connection, to the broker.
    pub fn write(&mut self, key: usize, bytes: &[u8]) {
        if let Some(pipe) = self.pipes.get_mut(&key) {
            pipe.to_broker.extend(bytes);
        }
    }

    /// A client sends bytes, if it has a connection.
    pub fn send(&mut self, client: usize, bytes: &[u8]) {
        if let Some(key) = self.clients[client].link.pipe() {
            self.write(key, bytes);
        }
    }

    /// A client closes its connection; what it sent still arrives.
    pub fn close(&mut self, client: usize) {
        let Some(key) = self.clients[client].link.pipe() else {
            return;
        };
        let at = self.end_of(client);
        self.cut(client);
        self.clients[client].lost(&mut self.book, at);
        self.hang_up(key);
    }

    /// A client says good-bye and closes its connection.
    pub fn disconnect(&mut self, client: usize, with_will: bool) {
        let Some(key) = self.clients[client].link.pipe() else {
            return;
        };
        let at = self.end_of(client);
        let is_alone = !self.with_strays().contains(&client);
        let how = (with_will, is_alone);
        let (bytes, removed) = self.clients[client].disconnect(how, &mut self.book, at);
        trace!(
            self.step,
            "client {client} disconnects, will removed: {removed:?}"
        );
        self.write(key, &bytes);
        if let Some(pipe) = self.pipes.get_mut(&key) {
            pipe.good_bye = removed.filter(|_| !pipe.broker_closed);
        }
        self.clients[client].lost(&mut self.book, at);
        self.hang_up(key);
    }

    /// The client's end of a connection is closed; what it sent still arrives.
    pub fn hang_up(&mut self, key: usize) {
        if let Some(pipe) = self.pipes.get_mut(&key) {
            pipe.client_closed = true;
            if pipe.broker_closed {
                self.pipes.remove(&key);
            }
        }
    }

    /// A client forgets its connection, which stands on: the broker knows nothing of it until another comes.
    pub fn abandon(&mut self, client: usize) {
        trace!(self.step, "client {client} abandons its connection");
        let at = self.end_of(client);
        self.cut(client);
        self.clients[client].lost(&mut self.book, at);
    }

    /// The network finds out about connections that their clients have forgotten.
    pub fn close_abandoned(&mut self) {
        for (key, pipe) in &mut self.pipes {
            let owner = pipe.client.map(|c| self.clients[c].link.pipe());
            if owner.is_some_and(|link| link != Some(*key)) {
                pipe.client_closed = true;
            }
        }
    }

    /// A client reads what has come, sends what it owes, and sees whether its connection is closed.
    pub fn client_reads(&mut self, client: usize) -> Result<(), String> {
        let at = self.moment();
        let Some(key) = self.clients[client].link.pipe() else {
            return Ok(());
        };
        let Some(pipe) = self.pipes.get_mut(&key) else {
            return Ok(());
        };
        let bytes = std::mem::take(&mut pipe.to_client);
        let (used, answer) = self.clients[client]
            .read(&bytes, &mut self.book, at)
            .map_err(|e| format!("client {client}: {e}"))?;
        pipe.to_client.splice(0..0, bytes[used..].iter().copied());
        self.heard += used;
        pipe.to_broker.extend(answer);
        let is_over = pipe.broker_closed && pipe.to_client.is_empty();
        if std::mem::take(&mut self.clients[client].turned_away) {
            self.check_refusal(client)?;
        } else if is_over && self.book.calm {
            // Too many connections are closed without a word.
            if self.is_limited() && matches!(self.clients[client].link, Link::Opening(_)) {
                self.check_refusal(client)?;
            } else {
                return Err(format!("client {client} was cut off for no reason"));
            }
        }
        if is_over {
            let at = self.end_of(client);
            if self.is_up(client) {
                self.cut(client);
            }
            self.pipes.remove(&key);
            self.clients[client].lost(&mut self.book, at);
        }
        Ok(())
    }

    /// A client sends up to `most` of the acknowledgements that it owes.
    pub fn client_acknowledges(&mut self, client: usize, most: usize) {
        let at = self.moment();
        let bytes = self.clients[client].acknowledge(most, &mut self.book, at);
        self.send(client, &bytes);
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
                self.client_acknowledges(client, usize::MAX);
            }
            let now = self.fingerprint();
            still = if now == before { still + 1 } else { 0 };
            if still > 4 {
                return self.come_to_rest();
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
            "{outboxes:?} {:?} {pipes:?} {links:?} {told:?} {:?} {}",
            net.cursors, self.dead, self.heard
        )
    }

    /// Adds a client.
    pub fn client(&mut self, version: Version, persistent: bool) -> usize {
        let index = self.clients.len();
        self.clients.push(Client::new(index, version, persistent));
        index
    }

    pub fn is_up(&self, client: usize) -> bool {
        matches!(self.clients[client].link, Link::Up(_))
    }
}
