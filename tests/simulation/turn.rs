//! A turn of a member's loop, in the order of the real one: what the supervisor said, inboxes, sockets, timers, end
//! of turn, flush, what the flush covered, sockets again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use mosquitto::base::clock::Instant;
use mosquitto::base::ids::{MemberId, MemberMask};
use mosquitto::base::limits::OVERFLOW_BYTES_PAUSE;
use mosquitto::base::log::Log;
use mosquitto::process::worker::dispatch::{AcceptedFrom, HangUp};
use mosquitto::ring::{Cx, Mesh};

use crate::book::Fate;
use crate::mesh::{Life, Net, Record, SimMesh};
use crate::trace::{self, trace};
use crate::world::{Brain, DieAt, Member, Told, World};

impl World {
    /// A turn of a member's loop; it may die in the middle. `most` bounds what it reads.
    pub fn turn(&mut self, slot: MemberId, most: usize, die: Option<DieAt>) {
        self.turn_reading(slot, MemberMask::ALL, most, die);
    }

    /// A turn that looks into the inboxes from `writers` only.
    pub fn turn_reading(
        &mut self,
        slot: MemberId,
        writers: MemberMask,
        most: usize,
        die: Option<DieAt>,
    ) {
        let Some(mut member) = self.members.remove(&slot) else {
            return;
        };
        self.hear(&mut member, most);
        self.read(&mut member, writers, most);
        if die == Some(DieAt::AfterReading) {
            self.members.insert(slot, member);
            return self.kill(slot);
        }
        self.sockets_in(&mut member, most);
        self.look_again(&mut member);
        self.step_member(&mut member, |brain, cx| match brain {
            Brain::Worker(worker) => {
                worker.tick(cx);
                worker.end_of_turn(cx);
            }
            Brain::Store(store) => {
                store.tick(cx);
                store.end_of_turn(cx);
            }
        });
        if die == Some(DieAt::BeforeFlush) {
            self.members.insert(slot, member);
            return self.kill(slot);
        }
        self.flush(&mut member);
        self.note_good_byes(&member);
        if die != Some(DieAt::AfterFlush) {
            self.sockets_out(&mut member);
        }
        self.members.insert(slot, member);
        self.print_log(slot);
        if die.is_some() {
            self.kill(slot);
        }
        self.bury();
    }

    /// Lets a member's brain do something, with what it is lent.
    pub fn step_member<R>(
        &mut self,
        member: &mut Member,
        act: impl FnOnce(&mut Brain, &mut Cx<'_, SimMesh<'_>>) -> R,
    ) -> R {
        let (net, now) = (self.net.clone(), self.now);
        member.step(&net, &mut self.log, now, act)
    }

    /// A DISCONNECT that was read, and whose release is in shared memory, has removed the will for good.
    fn note_good_byes(&mut self, member: &Member) {
        let is_covered = {
            let net = self.net.borrow();
            let outbox = &net.outboxes[&member.life];
            outbox.head == outbox.records.len() as u64
        };
        for pipe in self.pipes.values_mut() {
            let is_mine = pipe.accepted.is_some_and(|(i, _)| i == member.life.1);
            if !is_mine || !is_covered || !pipe.to_broker.is_empty() {
                continue;
            }
            if let Some(number) = pipe.good_bye.take() {
                self.book.wills.insert(number, Fate::MustNot);
            }
        }
    }

    fn print_log(&mut self, slot: MemberId) {
        if trace::is_on() {
            for line in self.log.pending().lines() {
                trace!(self.step, "{slot} logs: {line}");
            }
            self.log.consume(usize::MAX);
        }
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
                    net.borrow_mut().forget_reader(member.life, life);
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
    fn read(&mut self, member: &mut Member, from: MemberMask, most: usize) {
        let me = member.life;
        for life in member.joining.clone() {
            let start = {
                let net = self.net.borrow();
                let outbox = net.outboxes.get(&life);
                outbox.and_then(|o| o.readers.get(&me.0).copied())
            };
            if let Some((_, start)) = start.filter(|(incarnation, _)| *incarnation == me.1) {
                member.applied.insert(life.0, (life.1, start));
                member.joining.remove(&life);
            }
        }
        let mut writers: Vec<MemberId> = member.applied.keys().copied().collect();
        writers.retain(|writer| from.contains(*writer));
        for at in (1..writers.len()).rev() {
            writers.swap(at, self.random.below(at + 1));
        }
        for writer in writers {
            for _ in 0..most {
                let (incarnation, at) = member.applied[&writer];
                let Some(record) = self.record_at((writer, incarnation), at) else {
                    break;
                };
                member.applied.insert(writer, (incarnation, at + 1));
                if record.to.contains(me.0) {
                    self.apply(member, (writer, incarnation), &record);
                }
            }
        }
        self.finish_draining(member);
    }

    /// The record at a place in an outbox, if it is published.
    fn record_at(&self, writer: Life, at: u64) -> Option<Record> {
        let net = self.net.borrow();
        let outbox = net.outboxes.get(&writer)?;
        (at < outbox.head).then(|| outbox.records[at as usize].clone())
    }

    fn apply(&mut self, member: &mut Member, writer: Life, record: &Record) {
        let (kind, bytes) = (record.kind, &record.bytes);
        let (me, (from, incarnation)) = (member.life.0, writer);
        trace!(
            self.step,
            "{me} reads of {from}: {}",
            trace::record(kind, bytes)
        );
        self.step_member(member, |brain, cx| match brain {
            Brain::Worker(worker) => worker.record(from, incarnation, kind, bytes, cx),
            Brain::Store(store) => store.record(from, incarnation, kind, bytes, cx),
        });
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
        let (book, step) = (&mut self.book, self.step);
        // A worker accepts once it hears from the store.
        if !member.applied.contains_key(&MemberId::STORE) {
            return;
        }
        for (key, pipe) in self.pipes.iter_mut().filter(|(_, p)| p.slot == life.0) {
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
            let bytes = 1 + self
                .random
                .below(if most > 100 { 10_000 } else { self.chunk });
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
                    book.broker_closed(*key, step);
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
        let life = member.life;
        let Brain::Worker(worker) = &mut member.brain else {
            return;
        };
        while let Some(conn) = worker.pop_dirty() {
            member.writable.insert(conn);
        }
        let mut came_in = false;
        let mut written = Vec::new();
        let mut closed = BTreeMap::new();
        while let Some((conn, mut output)) = worker.pop_closed() {
            member.writable.remove(&conn);
            closed.insert(conn, drain(&mut output));
        }
        for (key, pipe) in self.pipes.iter_mut().filter(|(_, p)| !p.takes_nothing) {
            let Some((incarnation, conn)) = pipe.accepted else {
                continue;
            };
            if incarnation != life.1 {
                continue;
            }
            let mut bytes = Vec::new();
            if let Some(last) = closed.remove(&conn) {
                pipe.broker_closed = true;
                self.book.broker_closed(*key, self.step);
                bytes = last;
            } else if member.writable.remove(&conn)
                && let Some(output) = worker.output(conn)
            {
                if output.len() >= self.config.max_output_bytes as usize {
                    written.push(conn);
                }
                bytes = drain(output);
            }
            if let [0x20, _, _, 0, ..] = bytes[..] {
                came_in = true;
                pipe.let_in = true;
            }
            if !pipe.client_closed {
                pipe.to_client.extend(bytes);
            }
        }
        if came_in {
            self.note_let_in();
        }
        for conn in written {
            self.step_member(member, |brain, cx| {
                if let Brain::Worker(worker) = brain {
                    worker.wrote(conn, cx);
                }
            });
        }
    }
}

impl Member {
    fn step<R>(
        &mut self,
        net: &Rc<RefCell<Net>>,
        log: &mut Log,
        now: Instant,
        act: impl FnOnce(&mut Brain, &mut Cx<'_, SimMesh<'_>>) -> R,
    ) -> R {
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
        )
    }
}

fn drain(output: &mut mosquitto::net::output::Output) -> Vec<u8> {
    let bytes: Vec<u8> = output.waiting().flatten().copied().collect();
    output.consume(bytes.len());
    bytes
}
