//! Loom runs two members through every schedule and every value that a weakly ordered machine may load, up to a
//! bound on preemptions. What runs is the code of the broker over loom's atomics; payload bytes are watched for
//! races. A wake-up that is lost shows as a deadlock.
//!
//! `LOOM_MAX_PREEMPTIONS` raises the bound for a longer run.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32 as PlainU32, Ordering};

use loom::cell::UnsafeCell;
use loom::sync::Notify;
use loom::sync::atomic::{AtomicU32, fence};
use loom::thread;

use mosquitto::base::ids::{Incarnation, MemberId, MemberMask};
use mosquitto::ring::layout::{
    HEAD_AT, RING_AT, RING_ME_AT, SLEEP_AT, cell_at, outbox_bytes, start_at,
};
use mosquitto::ring::memory::{Bell, Region, View};
use mosquitto::ring::{Mesh, RingMesh};

const RING: u32 = 512;
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// What is planted, to see that it is found.
#[derive(Clone, Copy, PartialEq)]
enum Planted {
    Nothing,
    /// Nobody fences between a store and the look at the other side.
    NoFence,
    /// The head is released before the bytes below it need be visible.
    RelaxedHead,
    /// Cursors are released before reading below them need be done.
    RelaxedCursor,
    /// A reader's start position is given before all of it need be visible.
    RelaxedStart,
}

/// `Rc` will do: loom's threads take turns on one of ours.
#[derive(Clone)]
struct Memory(Rc<Shared>);

struct Shared {
    planted: Planted,
    /// Words that are loaded and stored while both members run.
    words: HashMap<usize, AtomicU32>,
    /// Words that are stored before anybody else sees the region.
    plain: Vec<PlainU32>,
    bytes: Mutex<Vec<u8>>,
    /// One for 16 bytes of ring, to watch for races.
    cells: Vec<UnsafeCell<()>>,
}

impl Memory {
    fn outbox(planted: Planted) -> Self {
        let starts = [start_at(A), start_at(B), start_at(C)];
        let words = starts.iter().flat_map(|at| [*at, at + 4, at + 8]);
        let words: Vec<_> = words.chain([HEAD_AT, RING_ME_AT]).collect();
        Self::new(planted, &words, outbox_bytes(RING), RING as usize / 16)
    }

    fn cursors(planted: Planted) -> Self {
        let cells = [cell_at(A), cell_at(B)];
        let words = cells.iter().flat_map(|at| [*at, at + 4]);
        let words: Vec<_> = words.chain([SLEEP_AT]).collect();
        Self::new(planted, &words, 0, 0)
    }

    fn new(planted: Planted, words: &[usize], bytes: usize, cells: usize) -> Self {
        Self(Rc::new(Shared {
            planted,
            words: words.iter().map(|at| (*at, AtomicU32::new(0))).collect(),
            plain: (0..256).map(|_| PlainU32::new(0)).collect(),
            bytes: Mutex::new(vec![0; bytes]),
            cells: (0..cells).map(|_| UnsafeCell::new(())).collect(),
        }))
    }

    fn watch(&self, at: usize, len: usize, access: impl Fn(&UnsafeCell<()>)) {
        let first = (at - RING_AT) / 16;
        let end = (at - RING_AT + len).div_ceil(16);
        self.0.cells[first..end].iter().for_each(access);
    }
}

impl View for Memory {
    fn load(&self, at: usize, order: Ordering) -> u32 {
        match self.0.words.get(&at) {
            Some(word) => word.load(order),
            None => self.0.plain[at / 4].load(Ordering::Relaxed),
        }
    }

    fn header(&self, at: usize) -> [u8; 16] {
        self.watch(at, 16, |cell| cell.with(|_| ()));
        self.0.bytes.lock().unwrap()[at..at + 16]
            .try_into()
            .unwrap()
    }

    fn copy_out(&self, at: usize, len: usize, out: &mut Vec<u8>) {
        self.watch(at, len, |cell| cell.with(|_| ()));
        out.extend_from_slice(&self.0.bytes.lock().unwrap()[at..at + len]);
    }
}

impl Region for Memory {
    fn store(&self, at: usize, value: u32, order: Ordering) {
        let planted = match at {
            HEAD_AT => Planted::RelaxedHead,
            _ if at == cell_at(A) + 4 => Planted::RelaxedCursor,
            _ if at == start_at(B) => Planted::RelaxedStart,
            _ => Planted::Nothing,
        };
        let order = if planted != Planted::Nothing && planted == self.0.planted {
            Ordering::Relaxed
        } else {
            order
        };
        match self.0.words.get(&at) {
            Some(word) => word.store(value, order),
            None => self.0.plain[at / 4].store(value, Ordering::Relaxed),
        }
    }

    fn copy_in(&self, at: usize, bytes: &[u8]) {
        self.watch(at, bytes.len(), |cell| cell.with_mut(|_| ()));
        self.0.bytes.lock().unwrap()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn fence(&self) {
        if self.0.planted != Planted::NoFence {
            fence(Ordering::SeqCst);
        }
    }
}

#[derive(Clone)]
struct Chime(Rc<Notify>);

impl Bell for Chime {
    fn ring(&self) {
        self.0.notify();
    }

    fn hush(&self) {}
}

type LoomMesh = RingMesh<Memory, Memory, Chime>;

/// One member: its mesh, and what the other one maps of it.
struct Member {
    mesh: LoomMesh,
    ports: Ports,
}

#[derive(Clone)]
struct Ports {
    member: MemberId,
    incarnation: Incarnation,
    outbox: Memory,
    cursors: Memory,
    chime: Chime,
}

impl Ports {
    fn introduce_to(&self, mesh: &mut LoomMesh) {
        mesh.admit(
            self.member,
            self.incarnation,
            RING,
            self.outbox.clone(),
            self.cursors.clone(),
            self.chime.clone(),
        )
        .unwrap();
    }
}

impl Member {
    fn new(slot: usize, planted: Planted) -> Self {
        let ports = Ports {
            member: MemberId::new(slot).unwrap(),
            incarnation: Incarnation(slot as u32 + 1),
            outbox: Memory::outbox(planted),
            cursors: Memory::cursors(planted),
            chime: Chime(Rc::new(Notify::new())),
        };
        let mesh = LoomMesh::over(
            ports.member,
            ports.incarnation,
            RING,
            ports.outbox.clone(),
            ports.cursors.clone(),
            ports.chime.clone(),
        );
        Self { mesh, ports }
    }

    /// One turn of an event loop that has nothing else to wait for.
    fn sleep(&mut self) {
        if self.mesh.prepare_sleep() {
            self.ports.chime.0.wait();
            self.mesh.awake();
        }
    }

    /// Reads until `count` records have come, in order; sleeps when there is nothing to read.
    fn read(&mut self, count: u8) {
        let mut buffer = Vec::new();
        let mut seen = 0;
        while seen < count {
            while self.mesh.next(&mut buffer).is_some() {
                assert_eq!(buffer[0], seen, "records in order");
                seen += 1;
            }
            self.mesh.flush();
            if seen < count {
                self.sleep();
            }
        }
    }
}

fn pair(planted: Planted) -> (Member, Member) {
    let mut a = Member::new(A, planted);
    let mut b = Member::new(B, planted);
    a.ports.introduce_to(&mut b.mesh);
    b.ports.introduce_to(&mut a.mesh);
    assert!(a.mesh.joined() && b.mesh.joined());
    (a, b)
}

fn check(planted: Planted, scenario: fn(Planted)) {
    let mut loom = loom::model::Builder::new();
    loom.preemption_bound = loom.preemption_bound.or(Some(4));
    loom.max_branches = 20_000;
    loom.check(move || scenario(planted));
}

/// A publishes two turns; B sleeps whenever it finds nothing.
fn publish_to_a_sleeper(planted: Planted) {
    let (mut a, mut b) = pair(planted);
    let reader = thread::spawn(move || b.read(2));
    for i in 0..2 {
        a.mesh.append(MemberMask::ALL, 1, &[&[i; 16]]);
        a.mesh.flush();
    }
    reader.join().unwrap();
}

/// A waits for its barrier while B reads.
fn wait_for_a_barrier(planted: Planted) {
    let (mut a, mut b) = pair(planted);
    a.mesh.append(MemberMask::ALL, 1, &[&[0; 16]]);
    let barrier = a.mesh.head();
    a.mesh.flush();
    let reader = thread::spawn(move || b.read(1));
    while a.mesh.passed(MemberMask::ALL) < barrier {
        a.mesh.wake_when_passed(barrier);
        a.mesh.flush();
        a.sleep();
    }
    reader.join().unwrap();
}

/// A has more than its ring holds, and waits for room: the ring's bytes are used again.
fn wait_for_room(planted: Planted) {
    let (mut a, mut b) = pair(planted);
    let mut records = 0;
    while a.mesh.overflow_bytes() == 0 {
        a.mesh.append(MemberMask::ALL, 1, &[&[records; 48]]);
        records += 1;
    }
    a.mesh.flush();
    let reader = thread::spawn(move || b.read(records));
    while a.mesh.overflow_bytes() > 0 {
        a.sleep();
        a.mesh.flush();
    }
    reader.join().unwrap();
}

/// A counts B while B already runs; a third member made A's head move before.
fn join_a_running_member(planted: Planted) {
    let mut a = Member::new(A, planted);
    let mut b = Member::new(B, planted);
    let c = Member::new(C, planted);
    c.ports.introduce_to(&mut a.mesh);
    a.mesh.append(MemberMask::ALL, 1, &[&[99; 16]]);
    a.mesh.flush();
    let start = a.mesh.head();
    let of_b = b.ports.clone();
    let of_a = a.ports.clone();
    let reader = thread::spawn(move || {
        let member = of_a.member;
        of_a.introduce_to(&mut b.mesh);
        while !b.mesh.joined() {
            b.sleep();
        }
        let joined_at = b.mesh.applied(member).map(|(_, position)| position);
        assert_eq!(joined_at, Some(start), "another start");
        b.read(1);
    });
    of_b.introduce_to(&mut a.mesh);
    a.mesh.append(MemberMask::ALL, 1, &[&[0; 16]]);
    a.mesh.flush();
    reader.join().unwrap();
}

#[test]
fn no_wake_up_is_lost_when_records_come() {
    check(Planted::Nothing, publish_to_a_sleeper);
}

#[test]
fn no_wake_up_is_lost_when_a_barrier_passes() {
    check(Planted::Nothing, wait_for_a_barrier);
}

#[test]
fn no_wake_up_is_lost_when_there_is_room_and_no_byte_is_reused_too_early() {
    check(Planted::Nothing, wait_for_room);
}

#[test]
fn no_wake_up_is_lost_when_a_reader_joins() {
    check(Planted::Nothing, join_a_running_member);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_planted_lost_wake_up_of_a_reader_is_found() {
    check(Planted::NoFence, publish_to_a_sleeper);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_planted_lost_wake_up_of_a_barrier_is_found() {
    check(Planted::NoFence, wait_for_a_barrier);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_planted_lost_wake_up_for_room_is_found() {
    check(Planted::NoFence, wait_for_room);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_planted_race_of_a_reader_is_found() {
    check(Planted::RelaxedHead, publish_to_a_sleeper);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_planted_race_of_the_writer_is_found() {
    check(Planted::RelaxedCursor, wait_for_room);
}

#[test]
#[should_panic(expected = "another start")]
fn a_planted_start_that_is_half_visible_is_found() {
    check(Planted::RelaxedStart, join_a_running_member);
}
