//! The store alone: what it says to workers, given what they say to it. One test file per concern.

mod claims;
mod delivery;
mod figures;
mod random;
mod retained;
mod shared;
mod subscribe;
mod wills;

use std::collections::BTreeMap;

use crate::base::clock::Instant;
use crate::base::ids::{
    ClaimSerial, ClientNumber, Incarnation, MemberId, MemberMask, Position, Serial,
};
use crate::base::log::{Log, LogMask};
use crate::ipc::mesh::{
    AckKind, Announcement, Claim, Deliver, Heads, Message, Refusal, Release, ToStore, ToWorker,
    WillFate, WillRecord, announcements, kind,
};
use crate::mqtt::{PacketId, Qos};
use crate::ring::{Cx, Mesh};

use super::{Store, StoreSettings};

/// A mesh without rings: every record is one position long, and the test decides who has read what.
struct Bench {
    live: MemberMask,
    said: Vec<(MemberMask, u8, Vec<u8>)>,
    serial: u64,
    /// Records that are still in the overflow list.
    uncovered: u64,
    overflow_bytes: usize,
    /// How far the workers have applied the store's outbox; `None` is all of it.
    passed: Option<u64>,
    wake_at: Option<Position>,
    published: BTreeMap<MemberId, (Incarnation, Position)>,
    applied: BTreeMap<MemberId, (Incarnation, Position)>,
    everyone_applied: bool,
}

impl Mesh for Bench {
    fn me(&self) -> MemberId {
        MemberId::STORE
    }
    fn live(&self) -> MemberMask {
        self.live
    }
    fn append(&mut self, to: MemberMask, kind: u8, parts: &[&[u8]]) -> Serial {
        self.said.push((to, kind, parts.concat()));
        self.serial += 1;
        Serial(self.serial)
    }
    fn covered(&self) -> Serial {
        Serial(self.serial - self.uncovered)
    }
    fn overflow_bytes(&self) -> usize {
        self.overflow_bytes
    }
    fn head(&self) -> Position {
        Position(self.serial - self.uncovered)
    }
    fn passed(&self, _: MemberMask) -> Position {
        self.passed.map_or(self.head(), Position)
    }
    fn wake_when_passed(&mut self, position: Position) {
        self.wake_at = Some(position);
    }
    fn applied(&self, of: MemberId) -> Option<(Incarnation, Position)> {
        self.applied.get(&of).copied()
    }
    fn published(&self, of: MemberId) -> Option<(Incarnation, Position)> {
        self.published.get(&of).copied()
    }
    fn everyone_applied(&mut self, _: MemberId, _: Incarnation, _: Position) -> bool {
        self.everyone_applied
    }
}

/// A store, two workers, and what the store says to them.
struct World {
    store: Store,
    mesh: Bench,
    log: Log,
    now: Instant,
    last_claim: u64,
}

/// A connection as the store sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Conn {
    worker: usize,
    incarnation: Incarnation,
    claim: ClaimSerial,
}

const SETTINGS: StoreSettings = StoreSettings {
    max_connections: Vec::new(),
    global_max_connections: -1,
    global_max_clients: -1,
    max_inflight_messages: 20,
    max_queued_messages: 1000,
    max_queued_bytes: 0,
    max_inflight_bytes: u64::MAX,
    global_max_queued_bytes: u64::MAX,
    drops_oldest: false,
    queue_qos0_messages: false,
    memory_limit: u64::MAX,
    upgrade_outgoing_qos: false,
    retain_available: true,
    global_max_retained_messages: usize::MAX,
    retain_expiry_secs: None,
    persistent_client_expiration: None,
};

const NEVER: u32 = u32::MAX;

/// One thing that the store said: to whom, and what.
type Said = (MemberMask, ToWorker<'static>);

fn worker(n: usize) -> MemberId {
    MemberId::worker(n).unwrap()
}

impl World {
    fn new() -> Self {
        Self::with(SETTINGS)
    }

    fn with(settings: StoreSettings) -> Self {
        let mut world = Self {
            store: Store::new(settings, [1, 2]),
            mesh: Bench {
                live: MemberMask::NONE,
                said: Vec::new(),
                serial: 0,
                uncovered: 0,
                overflow_bytes: 0,
                passed: None,
                wake_at: None,
                published: BTreeMap::new(),
                applied: BTreeMap::new(),
                everyone_applied: true,
            },
            log: Log::new(LogMask::ALL),
            now: Instant(1_000_000_000),
            last_claim: 0,
        };
        world.join(0, 1);
        world.join(1, 2);
        world.mesh.said.clear();
        world
    }

    fn step<R>(&mut self, act: impl FnOnce(&mut Store, &mut Cx<'_, Bench>) -> R) -> R {
        let mut cx = Cx {
            mesh: &mut self.mesh,
            log: &mut self.log,
            now: self.now,
        };
        act(&mut self.store, &mut cx)
    }

    fn join(&mut self, n: usize, incarnation: u32) {
        let (member, incarnation) = (worker(n), Incarnation(incarnation));
        self.mesh.live = self.mesh.live.with(member);
        self.mesh
            .published
            .insert(member, (incarnation, Position(0)));
        self.mesh.applied.insert(member, (incarnation, Position(0)));
        self.step(|store, cx| store.member_joined(member, incarnation, cx));
    }

    fn die(&mut self, n: usize, incarnation: u32) {
        self.mesh.live = self.mesh.live.without(worker(n));
        self.step(|store, cx| store.member_gone(worker(n), Incarnation(incarnation), cx));
    }

    fn remove(&mut self, n: usize, incarnation: u32) {
        let is_other = |_: &MemberId, at: &mut (Incarnation, Position)| at.0.0 != incarnation;
        self.mesh.published.retain(is_other);
        self.mesh.applied.retain(is_other);
        self.step(|store, cx| store.member_removed(worker(n), Incarnation(incarnation), cx));
    }

    /// The end of a turn, and its flush.
    fn turn(&mut self) {
        self.step(|store, cx| {
            if store.next_deadline().is_some_and(|at| at <= cx.now) {
                store.tick(cx);
            }
            store.end_of_turn(cx);
            store.flushed(cx);
        });
    }

    /// Turns until nothing is due at once.
    fn settle(&mut self) {
        for _ in 0..100 {
            self.turn();
            if self.store.next_deadline().is_none_or(|at| at > self.now) {
                return;
            }
        }
        panic!("the store finds no rest");
    }

    fn later(&mut self, millis: u64) {
        self.now = self.now.after_millis(millis);
        self.settle();
    }

    fn tell(&mut self, conn: Conn, record: &ToStore<'_>) {
        let mut out = Encoded::default();
        record.append(&mut out, &mut Vec::new());
        self.raw(conn.worker, conn.incarnation, out.kind, &out.bytes);
    }

    fn raw(&mut self, n: usize, incarnation: Incarnation, kind: u8, bytes: &[u8]) {
        self.step(|store, cx| store.record(worker(n), incarnation, kind, bytes, cx));
    }

    fn publish(&mut self, conn: Conn, message: &Message<'_>) {
        let mut out = Encoded::default();
        message.append(&mut out, MemberMask::ALL, &mut Vec::new());
        self.raw(conn.worker, conn.incarnation, out.kind, &out.bytes);
    }

    fn new_conn(&mut self, n: usize) -> Conn {
        self.last_claim += 1;
        let (incarnation, _) = self.mesh.published[&worker(n)];
        Conn {
            worker: n,
            incarnation,
            claim: ClaimSerial(self.last_claim),
        }
    }

    /// A claim with these of its fields.
    fn claim(&mut self, n: usize, asked: Claim<'_>) -> Conn {
        let conn = self.new_conn(n);
        let claim = conn.claim;
        self.tell(conn, &ToStore::Claim(Claim { claim, ..asked }));
        conn
    }

    /// A claim that is granted and armed.
    fn connect(&mut self, n: usize, asked: Claim<'_>) -> (Conn, ClientNumber) {
        self.mesh.said.clear();
        let conn = self.claim(n, asked);
        let said = self.said();
        let client = said.iter().find_map(|(_, what)| match what {
            ToWorker::Grant { claim, client, .. } if *claim == conn.claim => Some(*client),
            _ => None,
        });
        let claim = conn.claim;
        self.tell(conn, &ToStore::Armed { claim });
        (conn, client.expect("the claim was not granted"))
    }

    /// A persistent session of `id` with these filters and options, everything answered.
    fn session(&mut self, n: usize, id: &str, filters: &[(u8, &str)]) -> (Conn, ClientNumber) {
        let (conn, client) = self.connect(n, persistent(id));
        if !filters.is_empty() {
            self.subscribe(conn, 0, filters);
            self.settle();
        }
        self.mesh.said.clear();
        (conn, client)
    }

    fn subscribe(&mut self, conn: Conn, subscription_id: u32, filters: &[(u8, &str)]) {
        let heads = vec![];
        self.subscribe_after(conn, subscription_id, heads, filters);
    }

    fn subscribe_after(&mut self, conn: Conn, id: u32, heads: Heads, filters: &[(u8, &str)]) {
        let record = ToStore::Subscribe {
            claim: conn.claim,
            request: 1,
            subscription_id: id,
            heads,
            filters: filters.to_vec(),
        };
        self.tell(conn, &record);
    }

    fn release(&mut self, conn: Conn, will: WillFate, expiry: Option<u32>) {
        let claim = conn.claim;
        let release = Release {
            claim,
            will,
            expiry,
        };
        self.tell(conn, &ToStore::Release(release));
    }

    fn disconnect(&mut self, conn: Conn) {
        self.release(conn, WillFate::Done, None);
    }

    fn ack(&mut self, conn: Conn, packet_id: u16, what: AckKind) {
        let packet_id = PacketId::new(packet_id).unwrap();
        let (claim, code) = (conn.claim, 0);
        let ack = ToStore::Ack {
            claim,
            packet_id,
            what,
            code,
        };
        self.tell(conn, &ack);
    }

    /// What was said to workers since the last time, announcements and publishes left out.
    fn said(&mut self) -> Vec<Said> {
        let said = std::mem::take(&mut self.mesh.said);
        let to_worker = said.into_iter().filter_map(|(to, kind, bytes)| {
            let bytes: &'static [u8] = bytes.leak();
            Some((to, ToWorker::decode(kind, bytes).ok()?))
        });
        to_worker.collect()
    }

    /// What was said to one connection since the last time.
    fn said_to(&mut self, conn: Conn) -> Vec<ToWorker<'static>> {
        let mask = worker(conn.worker).mask();
        let said = self.said().into_iter();
        said.filter(|(to, what)| *to == mask && claim_of(what) == conn.claim)
            .map(|(_, what)| what)
            .collect()
    }

    /// The deliveries since the last time.
    fn delivered(&mut self) -> Vec<Deliver<'static>> {
        let said = self.said().into_iter();
        said.filter_map(|(_, what)| match what {
            ToWorker::Deliver(deliver) => Some(deliver),
            _ => None,
        })
        .collect()
    }

    /// (packet id or 0, dup, topic) of each delivery since the last time.
    fn topics(&mut self) -> Vec<(u16, bool, &'static str)> {
        let delivered = self.delivered().into_iter();
        delivered
            .map(|d| (d.packet_id.map_or(0, PacketId::get), d.dup, d.message.topic))
            .collect()
    }

    /// The messages that the store published since the last time: to whom, and on which topic.
    fn published(&mut self) -> Vec<(MemberMask, String)> {
        let said = std::mem::take(&mut self.mesh.said).into_iter();
        said.filter(|(_, k, _)| *k == kind::PUBLISH)
            .map(|(to, _, bytes)| (to, Message::decode(&bytes).unwrap().topic.to_owned()))
            .collect()
    }

    /// What was announced since the last time.
    fn announced(&mut self) -> Vec<(MemberMask, Announcement<'static>)> {
        let mut all = Vec::new();
        for (to, kind, bytes) in std::mem::take(&mut self.mesh.said) {
            if kind == kind::ANNOUNCE {
                let bytes: &'static [u8] = bytes.leak();
                all.extend(announcements(bytes).map(|a| (to, a.unwrap())));
            }
        }
        all
    }
}

fn claim_of(what: &ToWorker<'_>) -> ClaimSerial {
    match what {
        ToWorker::Grant { claim, .. }
        | ToWorker::Refuse { claim, .. }
        | ToWorker::Evict { claim, .. }
        | ToWorker::Subscribed { claim, .. }
        | ToWorker::Unsubscribed { claim, .. }
        | ToWorker::RetainedSlice { claim, .. }
        | ToWorker::Pubrel { claim, .. }
        | ToWorker::SessionFilters { claim, .. } => *claim,
        ToWorker::Deliver(deliver) => deliver.claim,
    }
}

/// Keeps the one record that is appended to it, for encoding.
#[derive(Default)]
struct Encoded {
    kind: u8,
    bytes: Vec<u8>,
}

impl Mesh for Encoded {
    fn me(&self) -> MemberId {
        worker(0)
    }
    fn live(&self) -> MemberMask {
        MemberMask::NONE
    }
    fn append(&mut self, _: MemberMask, kind: u8, parts: &[&[u8]]) -> Serial {
        (self.kind, self.bytes) = (kind, parts.concat());
        Serial(1)
    }
    fn covered(&self) -> Serial {
        Serial(1)
    }
    fn overflow_bytes(&self) -> usize {
        0
    }
    fn head(&self) -> Position {
        Position(0)
    }
    fn passed(&self, _: MemberMask) -> Position {
        Position(0)
    }
    fn wake_when_passed(&mut self, _: Position) {}
    fn applied(&self, _: MemberId) -> Option<(Incarnation, Position)> {
        None
    }
    fn published(&self, _: MemberId) -> Option<(Incarnation, Position)> {
        None
    }
    fn everyone_applied(&mut self, _: MemberId, _: Incarnation, _: Position) -> bool {
        true
    }
}

fn transient(id: &str) -> Claim<'_> {
    Claim {
        claim: ClaimSerial(0),
        listener: 0,
        client_id: id,
        clean_start: true,
        is_pointless: false,
        expiry: 0,
        receive_maximum: 65_535,
        will: None,
    }
}

fn persistent(id: &str) -> Claim<'_> {
    Claim {
        clean_start: false,
        expiry: NEVER,
        ..transient(id)
    }
}

fn message(topic: &str, qos: Qos) -> Message<'_> {
    Message {
        qos,
        retain: false,
        publisher: ClientNumber(0),
        packet_id: None,
        releases: None,
        expires_at: None,
        topic,
        properties: &[],
        payload: b"x",
    }
}

fn will(topic: &str, delay_secs: u32) -> Option<WillRecord<'_>> {
    Some(WillRecord {
        qos: Qos::AtLeastOnce,
        retain: false,
        delay_secs,
        topic,
        properties: &[],
        payload: b"gone",
    })
}
