//! Members that write, read, stall, die and come back at random, against a model of what each must get: exactly the
//! records that are for it, in order, whole.

use std::collections::{BTreeMap, VecDeque};

use mosquitto::base::ids::{Incarnation, MemberId, MemberMask, Position, Serial};
use mosquitto::ring::{Mesh, SharedMesh};
use proptest::prelude::*;

use crate::members::{Ports, has_rung};

const SLOTS: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Op {
    Append { slot: usize, to: u64, bytes: usize },
    Flush { slot: usize },
    Read { slot: usize, records: usize },
    Sleep { slot: usize },
    Barrier { slot: usize },
    Kill { slot: usize },
    Start { slot: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let slot = 0..SLOTS;
    let bytes = prop_oneof![
        6 => 0usize..300,
        2 => 300usize..1000,
        1 => 1000usize..30_000,
    ];
    prop_oneof![
        40 => (slot.clone(), any::<u64>(), bytes)
            .prop_map(|(slot, to, bytes)| Op::Append { slot, to, bytes }),
        20 => slot.clone().prop_map(|slot| Op::Flush { slot }),
        20 => (slot.clone(), 0usize..40).prop_map(|(slot, records)| Op::Read { slot, records }),
        5 => slot.clone().prop_map(|slot| Op::Sleep { slot }),
        3 => slot.clone().prop_map(|slot| Op::Barrier { slot }),
        1 => slot.clone().prop_map(|slot| Op::Kill { slot }),
        2 => slot.prop_map(|slot| Op::Start { slot }),
    ]
}

/// What a record holds follows from who wrote it as which.
fn payload(writer: Incarnation, serial: Serial, bytes: usize) -> Vec<u8> {
    let mut state = u64::from(writer.0) << 40 | serial.0;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

struct Member {
    ports: Ports,
    mesh: SharedMesh,
    asleep: bool,
    /// Serial up to which all was published, if it died now.
    published: Serial,
    /// Its latest barrier: nobody comes to rest before it has passed.
    waits_for: Position,
}

/// A record that a reader has still to get.
struct Expected {
    serial: Serial,
    kind: u8,
    bytes: usize,
}

#[derive(Default)]
struct World {
    members: [Option<Member>; SLOTS],
    /// Dead ones that are not drained by all.
    dead: Vec<(MemberId, Incarnation)>,
    incarnations: u32,
    /// By incarnation of writer and reader.
    expected: BTreeMap<(Incarnation, Incarnation), VecDeque<Expected>>,
    buffer: Vec<u8>,
    ring_bytes: u32,
}

impl World {
    fn run(&mut self, op: Op) {
        match op {
            Op::Append { slot, to, bytes } => self.append(slot, to, bytes),
            Op::Flush { slot } => self.flush(slot),
            Op::Read { slot, records } => self.read(slot, records),
            Op::Sleep { slot } => self.sleep(slot),
            Op::Barrier { slot } => {
                if let Some(member) = &mut self.members[slot] {
                    member.wake();
                    member.waits_for = member.mesh.head();
                    member.mesh.wake_when_passed(member.waits_for);
                }
            }
            Op::Kill { slot } => self.kill(slot),
            Op::Start { slot } => self.start(slot),
        }
    }

    fn append(&mut self, slot: usize, to: u64, bytes: usize) {
        let Some(member) = &mut self.members[slot] else {
            return;
        };
        member.wake();
        // One in three is for everybody.
        let to = MemberMask(if to.is_multiple_of(3) { u64::MAX } else { to });
        let readers = to.intersection(member.mesh.live());
        let writer = member.ports.incarnation;
        let serial = member.mesh.append(MemberMask::NONE, 0, &[]);
        let serial = Serial(serial.0 + 1);
        let all = payload(writer, serial, bytes);
        let kind = all.first().copied().unwrap_or(9);
        let (a, b) = all.split_at(bytes / 3);
        assert_eq!(member.mesh.append(to, kind, &[a, b]), serial);
        for reader in readers.iter() {
            let reader = self.members[reader.slot()].as_ref().unwrap();
            self.expected
                .entry((writer, reader.ports.incarnation))
                .or_default()
                .push_back(Expected {
                    serial,
                    kind,
                    bytes,
                });
        }
    }

    fn flush(&mut self, slot: usize) {
        if let Some(member) = &mut self.members[slot] {
            member.wake();
            member.mesh.flush();
            member.published = member.mesh.covered();
            self.remove_the_drained();
        }
    }

    fn read(&mut self, slot: usize, records: usize) {
        let Some(member) = &mut self.members[slot] else {
            return;
        };
        member.wake();
        for _ in 0..records {
            let Some(received) = member.mesh.next(&mut self.buffer) else {
                return;
            };
            let pair = (received.incarnation, member.ports.incarnation);
            let expected = self.expected.get_mut(&pair).and_then(VecDeque::pop_front);
            let expected = expected.expect("a record that nobody sent to this reader");
            let all = payload(received.incarnation, expected.serial, expected.bytes);
            assert!(self.buffer == all, "torn, lost or out of order");
            assert_eq!(received.kind, expected.kind);
        }
    }

    fn sleep(&mut self, slot: usize) {
        self.flush(slot);
        if let Some(member) = &mut self.members[slot]
            && !member.asleep
        {
            member.mesh.hush();
            member.asleep = member.mesh.prepare_sleep();
        }
    }

    fn kill(&mut self, slot: usize) {
        let Some(dead) = self.members[slot].take() else {
            return;
        };
        let (member, incarnation) = (dead.ports.member, dead.ports.incarnation);
        for other in self.members.iter_mut().flatten() {
            // The supervisor's message wakes it.
            other.wake();
            other.mesh.peer_gone(member, incarnation);
        }
        self.expected.retain(|(writer, reader), records| {
            if *writer == incarnation {
                records.retain(|record| record.serial <= dead.published);
            }
            *reader != incarnation
        });
        self.dead.push((member, incarnation));
    }

    fn remove_the_drained(&mut self) {
        let members = &mut self.members;
        self.dead.retain(|(member, incarnation)| {
            let mut live = members.iter_mut().flatten();
            // A newcomer was not told of it.
            let drained = live.all(|live| live.mesh.drained(*member));
            if drained {
                for live in members.iter_mut().flatten() {
                    live.mesh.remove_peer(*member, *incarnation);
                }
            }
            !drained
        });
    }

    fn start(&mut self, slot: usize) {
        self.remove_the_drained();
        let taken = self.dead.iter().any(|(member, _)| member.slot() == slot);
        if taken || self.members[slot].is_some() {
            return;
        }
        self.incarnations += 1;
        let ports = Ports::new(slot, self.incarnations, self.ring_bytes);
        let mut mesh = ports.own();
        for other in self.members.iter_mut().flatten() {
            ports.introduce_to(&mut other.mesh);
            // What it had written is published by counting a reader.
            other.published = other.mesh.covered();
            other.ports.introduce_to(&mut mesh);
        }
        for other in self.members.iter_mut().flatten() {
            other.wake();
            assert!(other.mesh.joined() && mesh.joined());
        }
        self.members[slot] = Some(Member {
            ports,
            mesh,
            asleep: false,
            published: Serial(0),
            waits_for: Position(0),
        });
    }

    /// Everybody runs its loop, sleeps when it may, and goes on only when it is rung, until nobody is awake.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut awake = false;
            for slot in 0..SLOTS {
                if self.members[slot].as_ref().is_none_or(Member::sleeps_on) {
                    continue;
                }
                awake = true;
                self.read(slot, usize::MAX);
                self.sleep(slot);
            }
            if !awake {
                return;
            }
        }
        panic!("they never come to rest");
    }
}

impl Member {
    fn wake(&mut self) {
        if self.asleep {
            self.asleep = false;
            self.mesh.awake();
        }
    }

    fn sleeps_on(&self) -> bool {
        self.asleep && !has_rung(&self.mesh)
    }
}

fn run(ring_bytes: u32, ops: Vec<Op>) {
    let mut world = World {
        ring_bytes,
        ..World::default()
    };
    for slot in 0..SLOTS - 1 {
        world.start(slot);
    }
    for op in ops {
        world.run(op);
    }
    world.settle();
    for ((writer, reader), left) in &world.expected {
        assert!(
            left.is_empty(),
            "{reader:?} misses {} of {writer:?}, first {:?}",
            left.len(),
            left[0].serial
        );
    }
    for member in world.members.iter_mut().flatten() {
        assert_eq!(member.mesh.overflow_bytes(), 0);
        assert_eq!(member.mesh.lying(), None);
        let now = mosquitto::base::clock::Instant(1);
        assert_eq!(member.mesh.stuck(now), None);
        assert!(member.mesh.passed(MemberMask::ALL) >= member.waits_for);
    }
    world.remove_the_drained();
    assert_eq!(world.dead, []);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_reader_gets_exactly_its_records_in_order(
        ring_bytes in prop_oneof![Just(4096u32), Just(8192), Just(65536)],
        ops in prop::collection::vec(op(), 0..600),
    ) {
        run(ring_bytes, ops);
    }
}
