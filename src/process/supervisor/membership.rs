//! Who is a member of the mesh, who knows whom, and who accepts for whom. Pure: (event, now) -> actions.
//!
//! The life of a member: started, has mapped what is its own, sealed, introduced to every other member in both
//! directions, ready. Its death: the others are told, drain its outbox, and once all have, they are told that its
//! slot is free. Its successor is started at once but introduced only then, so nobody ever knows two lives of one
//! slot. All pairs of introduced members know each other, so "who must drain" is "who is introduced now".
//!
//! Nobody waits for ever: whatever one member waits for comes from another member, which gets a named time for it
//! and is killed after that; a death settles what the dead one owed.

use std::time::Duration;

use super::hold_back::HoldBack;
use crate::base::clock::Instant;
use crate::base::ids::{Incarnation, MemberId, MemberMask};
use crate::base::limits::{
    ACCUSATIONS_MAX, ACCUSATIONS_WITHIN_SECS, DRAIN_WITHIN_SECS, END_WITHIN_SECS, JOIN_WITHIN_SECS,
    LEND_AFTER_MILLIS, QUIESCE_WITHIN_SECS, START_WITHIN_SECS, STOP_WITHIN_SECS,
};
use crate::ipc::control::ToSupervisor;

/// One life of one member.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Who {
    pub member: MemberId,
    pub incarnation: Incarnation,
}

impl Who {
    /// That life of that member.
    pub fn new(member: MemberId, incarnation: Incarnation) -> Self {
        Self {
            member,
            incarnation,
        }
    }
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// It sent this.
    Said(Who, ToSupervisor),
    /// What it mapped is sealed now ([`Action::Seal`]).
    Sealed(Who),
    /// It said what cannot be understood, takes no messages, or could not be sealed.
    Unfit(Who),
    /// It has closed its control channel, as a process does that ends.
    Closed(Who),
    /// Its heart stands still.
    Hung(Who),
    /// Its process is gone, or could not be started.
    Ended(Who),
    /// Time has passed; see [`Membership::wake_at`].
    Tick,
    /// SIGTERM.
    Terminate,
}

/// What is to be done, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Make its outbox, cursor page and doorbell, start its process, and greet it.
    Start(Who),
    /// Seal what it has mapped, then report [`Event::Sealed`] or [`Event::Unfit`].
    Seal(Who),
    /// Hand `peer`'s outbox, cursor page and doorbell to `to`.
    Introduce { to: Who, peer: Who },
    /// A message without descriptors.
    Tell { to: Who, word: Word },
    /// Hand the listening sockets of the worker `owner` to `to`: its own, or lent.
    Listen { to: Who, owner: MemberId },
    /// End its process now.
    Kill { who: Who, why: Why },
    /// Its successor will be started only after this long.
    HeldBack { member: MemberId, wait: Duration },
    /// Every member is ready, for the first time.
    AllReady,
    /// After [`Event::Terminate`]: no process is left.
    Finished,
}

/// The messages without descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    Welcome,
    PeerGone(Who),
    PeerRemoved(Who),
    TakeBack(MemberId),
    Quiesce,
    Stop,
}

/// Why a process is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// Its heart stands still.
    Hung,
    /// It holds up the ring of another member.
    Stuck { says: MemberId },
    /// It blames too many others.
    Accuser,
    /// It did not map, join, drain or end in time.
    Slow,
    /// It said what it may not say now, or nothing that can be understood.
    Unfit,
    /// It did not end in time.
    Stopping,
}

/// Every slot, and the phase that they are in.
#[derive(Debug)]
pub struct Membership {
    slots: Vec<Slot>,
    incarnations: u32,
    phase: Phase,
    all_ready_said: bool,
}

#[derive(Debug)]
struct Slot {
    member: MemberId,
    life: Option<Life>,
    dead: Option<Dead>,
    start_at: Option<Instant>,
    hold_back: HoldBack,
    /// Since when nobody accepts from this worker's sockets by right.
    down_since: Option<Instant>,
    lent_to: Option<Who>,
}

#[derive(Debug)]
struct Life {
    incarnation: Incarnation,
    stage: Stage,
    started: Instant,
    /// When this stage began.
    since: Instant,
    closed_at: Option<Instant>,
    killed: bool,
    told_to_stop: bool,
    accused_at: Vec<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Starting,
    Sealing,
    /// Waits until its predecessor's outbox is drained.
    Sealed,
    /// Introduced to all; the first stage in which others know it.
    Joining,
    Ready,
}

/// A life that others knew, and that they have not all drained yet.
#[derive(Debug)]
struct Dead {
    incarnation: Incarnation,
    /// Who lives and was told of the death. Nobody who was introduced later heard of it, or needs to.
    told: MemberMask,
    /// Who of them has not drained it.
    waiting: MemberMask,
    since: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Running,
    Quiescing { waiting: MemberMask, since: Instant },
    EndingWorkers { since: Instant },
    EndingStore { since: Instant },
    Finished,
}

impl Membership {
    /// The store and `workers` workers, none of them started.
    pub fn new(workers: usize, now: Instant) -> Self {
        let slot = |member: MemberId| Slot {
            member,
            life: None,
            dead: None,
            start_at: Some(now),
            hold_back: HoldBack::default(),
            down_since: (member != MemberId::STORE).then_some(now),
            lent_to: None,
        };
        Self {
            slots: MemberId::all().take(workers + 1).map(slot).collect(),
            incarnations: 0,
            phase: Phase::Running,
            all_ready_said: false,
        }
    }

    /// Takes in one event, and appends what is to be done about it.
    pub fn on(&mut self, event: Event, now: Instant, out: &mut Vec<Action>) {
        match event {
            Event::Said(who, said) => {
                if self.life(who).is_some() {
                    self.said(who, said, now, out);
                }
            }
            Event::Sealed(who) => self.sealed(who, now),
            Event::Unfit(who) => self.kill(who, Why::Unfit, out),
            Event::Closed(who) => self.closed(who, now),
            Event::Hung(who) => self.kill(who, Why::Hung, out),
            Event::Ended(who) => self.ended(who, now, out),
            Event::Tick => self.overdue(now, out),
            Event::Terminate => self.terminate(now, out),
        }
        self.finish_drains(out);
        self.introduce(now, out);
        self.start_due(now, out);
        self.lend(now, out);
        self.go_on_ending(now, out);
    }

    /// When [`Event::Tick`] has something to do, if nothing else happens before.
    pub fn wake_at(&self) -> Option<Instant> {
        let slots = self.slots.iter().flat_map(|slot| {
            let lend_at = slot
                .down_since
                .filter(|_| slot.lent_to.is_none() && self.phase == Phase::Running)
                .map(|since| since.after_millis(LEND_AFTER_MILLIS))
                .filter(|_| self.ready_workers().next().is_some());
            let slow_at = slot.life.as_ref().and_then(Life::slow_at);
            let drain_at = slot.dead.as_ref().map(Dead::slow_at);
            [slot.start_at, lend_at, slow_at, drain_at]
        });
        slots.flatten().chain(self.phase.deadline()).min()
    }

    /// Those whose hearts are to be looked at.
    pub fn hearts(&self) -> impl Iterator<Item = Who> {
        self.slots.iter().filter_map(|slot| {
            let life = slot.life.as_ref()?;
            (life.stage > Stage::Sealing && !life.killed && !life.told_to_stop)
                .then_some(Who::new(slot.member, life.incarnation))
        })
    }

    /// Every process that runs.
    pub fn living(&self) -> impl Iterator<Item = Who> {
        self.slots.iter().filter_map(Slot::living)
    }

    fn said(&mut self, who: Who, said: ToSupervisor, now: Instant, out: &mut Vec<Action>) {
        let Some(stage) = self.life(who).map(|life| life.stage) else {
            return;
        };
        match said {
            ToSupervisor::Mapped if stage == Stage::Starting => {
                self.enter(who, Stage::Sealing, now);
                out.push(Action::Seal(who));
            }
            ToSupervisor::Ready if stage == Stage::Joining => {
                self.enter(who, Stage::Ready, now);
                self.ready(who, out);
            }
            ToSupervisor::Drained {
                member,
                incarnation,
            } => self.drained(who, Who::new(member, incarnation), out),
            ToSupervisor::Stuck {
                member,
                incarnation,
                ..
            } => self.accused(who, Who::new(member, incarnation), now, out),
            ToSupervisor::Quiet if self.phase != Phase::Running => {
                if let Phase::Quiescing { waiting, .. } = &mut self.phase {
                    *waiting = waiting.without(who.member);
                }
            }
            ToSupervisor::Mapped
            | ToSupervisor::Ready
            | ToSupervisor::Quiet
            | ToSupervisor::Severed => {
                self.kill(who, Why::Unfit, out);
            }
        }
    }

    fn sealed(&mut self, who: Who, now: Instant) {
        if self.life(who).is_some_and(|l| l.stage == Stage::Sealing) {
            self.enter(who, Stage::Sealed, now);
        }
    }

    /// Killing it at once would hide how it ended.
    fn closed(&mut self, who: Who, now: Instant) {
        if let Some(life) = self.life(who) {
            life.closed_at.get_or_insert(now);
        }
    }

    fn ready(&mut self, who: Who, out: &mut Vec<Action>) {
        let Some(slot) = self.slot(who.member) else {
            return;
        };
        slot.down_since = None;
        let lent_to = slot.lent_to.take();
        if who.member != MemberId::STORE && self.phase == Phase::Running {
            out.push(Action::Listen {
                to: who,
                owner: who.member,
            });
            if let Some(to) = lent_to {
                let word = Word::TakeBack(who.member);
                out.push(Action::Tell { to, word });
            }
        }
        let ready = |slot: &Slot| slot.life.as_ref().is_some_and(|l| l.stage == Stage::Ready);
        if !self.all_ready_said && self.slots.iter().all(ready) {
            self.all_ready_said = true;
            out.push(Action::AllReady);
        }
    }

    fn drained(&mut self, by: Who, who: Who, out: &mut Vec<Action>) {
        let dead = self.slot(who.member).and_then(|slot| slot.dead.as_mut());
        match dead {
            Some(dead)
                if dead.incarnation == who.incarnation && dead.waiting.contains(by.member) =>
            {
                dead.waiting = dead.waiting.without(by.member);
            }
            _ => self.kill(by, Why::Unfit, out),
        }
    }

    /// `by` says that `who` holds it up. About a life that is over already that means nothing.
    fn accused(&mut self, by: Who, who: Who, now: Instant, out: &mut Vec<Action>) {
        if by.member == who.member {
            return self.kill(by, Why::Unfit, out);
        }
        let known = |life: &mut Life| life.stage >= Stage::Joining && !life.killed;
        if !self.life(who).is_some_and(known) {
            return;
        }
        let Some(accuser) = self.life(by) else {
            return;
        };
        let window = Duration::from_secs(ACCUSATIONS_WITHIN_SECS);
        accuser.accused_at.retain(|at| now - *at < window);
        if accuser.accused_at.len() >= ACCUSATIONS_MAX {
            return self.kill(by, Why::Accuser, out);
        }
        accuser.accused_at.push(now);
        let why = Why::Stuck { says: by.member };
        self.kill(who, why, out);
    }

    fn ended(&mut self, who: Who, now: Instant, out: &mut Vec<Action>) {
        if self.life(who).is_none() {
            return;
        }
        let running = self.phase == Phase::Running;
        let Some(slot) = self.slot(who.member) else {
            return;
        };
        let Some(life) = slot.life.take() else {
            return;
        };
        if who.member != MemberId::STORE {
            slot.down_since.get_or_insert(now);
        }
        if running {
            let wait = slot.hold_back.died(now, now - life.started);
            slot.start_at = Some(now + wait);
            if !wait.is_zero() {
                out.push(Action::HeldBack {
                    member: who.member,
                    wait,
                });
            }
        }
        self.settle_debts(who);
        if life.stage >= Stage::Joining {
            self.announce_death(who, now, out);
        }
    }

    /// The dead owe nothing: drains, listening sockets and quiet go on without it.
    fn settle_debts(&mut self, who: Who) {
        for slot in &mut self.slots {
            if let Some(dead) = &mut slot.dead {
                dead.waiting = dead.waiting.without(who.member);
                dead.told = dead.told.without(who.member);
            }
            if slot.lent_to == Some(who) {
                slot.lent_to = None;
            }
        }
        if let Phase::Quiescing { waiting, .. } = &mut self.phase {
            *waiting = waiting.without(who.member);
        }
    }

    fn announce_death(&mut self, who: Who, now: Instant, out: &mut Vec<Action>) {
        let mut waiting = MemberMask::NONE;
        for to in self.introduced() {
            waiting = waiting.with(to.member);
            let word = Word::PeerGone(who);
            out.push(Action::Tell { to, word });
        }
        if let Some(slot) = self.slot(who.member) {
            debug_assert!(slot.dead.is_none(), "introduced before its slot was free");
            slot.dead = Some(Dead {
                incarnation: who.incarnation,
                told: waiting,
                waiting,
                since: now,
            });
        }
    }

    /// Outboxes that all have drained: their slots are free.
    fn finish_drains(&mut self, out: &mut Vec<Action>) {
        for at in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(at) else {
                return;
            };
            let Some(dead) = slot.dead.take_if(|dead| dead.waiting.is_empty()) else {
                continue;
            };
            let who = Who::new(slot.member, dead.incarnation);
            for to in self.introduced() {
                if dead.told.contains(to.member) {
                    let word = Word::PeerRemoved(who);
                    out.push(Action::Tell { to, word });
                }
            }
        }
    }

    /// Whoever is sealed and whose slot is free meets everybody.
    fn introduce(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.phase != Phase::Running {
            return;
        }
        for at in 0..self.slots.len() {
            let Some(slot) = self.slots.get(at) else {
                return;
            };
            let Some(life) = slot.life.as_ref() else {
                continue;
            };
            if life.stage != Stage::Sealed || life.killed || slot.dead.is_some() {
                continue;
            }
            let who = Who::new(slot.member, life.incarnation);
            for peer in self.introduced() {
                out.push(Action::Introduce {
                    to: peer,
                    peer: who,
                });
                out.push(Action::Introduce { to: who, peer });
            }
            let word = Word::Welcome;
            out.push(Action::Tell { to: who, word });
            self.enter(who, Stage::Joining, now);
        }
    }

    fn start_due(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.phase != Phase::Running {
            return;
        }
        for slot in &mut self.slots {
            if slot.start_at.is_some_and(|at| at <= now) {
                slot.start_at = None;
                self.incarnations += 1;
                let incarnation = Incarnation(self.incarnations);
                slot.life = Some(Life::new(incarnation, now));
                out.push(Action::Start(Who::new(slot.member, incarnation)));
            }
        }
    }

    /// Sockets of workers that are down for too long go to the sibling that has borrowed least.
    fn lend(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.phase != Phase::Running {
            return;
        }
        for at in 0..self.slots.len() {
            let Some(slot) = self.slots.get(at) else {
                return;
            };
            let down = |since: Instant| now >= since.after_millis(LEND_AFTER_MILLIS);
            if slot.lent_to.is_some() || !slot.down_since.is_some_and(down) {
                continue;
            }
            let owner = slot.member;
            let borrowed = |who: &Who| {
                let from = |slot: &&Slot| slot.lent_to == Some(*who);
                self.slots.iter().filter(from).count()
            };
            let Some(to) = self.ready_workers().min_by_key(borrowed) else {
                return;
            };
            out.push(Action::Listen { to, owner });
            if let Some(slot) = self.slots.get_mut(at) {
                slot.lent_to = Some(to);
            }
        }
    }

    fn overdue(&mut self, now: Instant, out: &mut Vec<Action>) {
        let introduced = self.introduced();
        let mut late = Vec::new();
        for slot in &mut self.slots {
            let life = slot.life.as_ref();
            if life.and_then(Life::slow_at).is_some_and(|at| at <= now) {
                late.extend(slot.living());
            }
            if let Some(dead) = slot.dead.as_mut().filter(|dead| dead.slow_at() <= now) {
                let owes = |who: &&Who| dead.waiting.contains(who.member);
                late.extend(introduced.iter().filter(owes));
                dead.since = now;
            }
        }
        for who in late {
            self.kill(who, Why::Slow, out);
        }
    }

    fn terminate(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.phase != Phase::Running {
            return;
        }
        let mut waiting = MemberMask::NONE;
        // The store too: it publishes the wills that wait for their delay.
        for to in self.introduced() {
            waiting = waiting.with(to.member);
            let word = Word::Quiesce;
            out.push(Action::Tell { to, word });
        }
        for slot in &mut self.slots {
            slot.start_at = None;
        }
        self.phase = Phase::Quiescing {
            waiting,
            since: now,
        };
    }

    /// After SIGTERM: the next phase once this one is over, or its time is up.
    fn go_on_ending(&mut self, now: Instant, out: &mut Vec<Action>) {
        let up = self.phase.deadline().is_some_and(|at| at <= now);
        let worker = |who: &Who| who.member != MemberId::STORE;
        let workers: Vec<Who> = self.living().filter(worker).collect();
        let store = self.living().find(|who| !worker(who));
        match self.phase {
            Phase::Quiescing { waiting, .. } if waiting.is_empty() || up => {
                self.phase = Phase::EndingWorkers { since: now };
                workers.iter().for_each(|who| self.tell_to_stop(*who, out));
            }
            Phase::EndingWorkers { .. } if workers.is_empty() => {
                self.phase = Phase::EndingStore { since: now };
                if let Some(store) = store {
                    self.tell_to_stop(store, out);
                }
            }
            Phase::EndingStore { .. } if store.is_none() => {
                self.phase = Phase::Finished;
                out.push(Action::Finished);
                return;
            }
            Phase::EndingWorkers { .. } if up => {
                self.phase = Phase::EndingWorkers { since: now };
                for who in workers {
                    self.kill(who, Why::Stopping, out);
                }
                return;
            }
            Phase::EndingStore { .. } if up => {
                self.phase = Phase::EndingStore { since: now };
                if let Some(who) = store {
                    self.kill(who, Why::Stopping, out);
                }
                return;
            }
            _ => return,
        }
        // A phase with nobody in it is over at once.
        self.go_on_ending(now, out);
    }

    fn tell_to_stop(&mut self, to: Who, out: &mut Vec<Action>) {
        if let Some(life) = self.life(to) {
            life.told_to_stop = true;
            let word = Word::Stop;
            out.push(Action::Tell { to, word });
        }
    }

    fn kill(&mut self, who: Who, why: Why, out: &mut Vec<Action>) {
        if let Some(life) = self.life(who)
            && !life.killed
        {
            life.killed = true;
            out.push(Action::Kill { who, why });
        }
    }

    fn enter(&mut self, who: Who, stage: Stage, now: Instant) {
        if let Some(life) = self.life(who) {
            life.stage = stage;
            life.since = now;
        }
    }

    fn slot(&mut self, member: MemberId) -> Option<&mut Slot> {
        self.slots.get_mut(member.slot())
    }

    fn life(&mut self, who: Who) -> Option<&mut Life> {
        self.slot(who.member)?
            .life
            .as_mut()
            .filter(|life| life.incarnation == who.incarnation)
    }

    /// Those that know each other and whom each of them knows.
    fn introduced(&self) -> Vec<Who> {
        let known = |slot: &Slot| {
            let life = slot.life.as_ref()?;
            (life.stage >= Stage::Joining).then_some(Who::new(slot.member, life.incarnation))
        };
        self.slots.iter().filter_map(known).collect()
    }

    /// Workers that serve.
    pub fn ready_workers(&self) -> impl Iterator<Item = Who> {
        self.slots.iter().filter_map(|slot| {
            let life = slot.life.as_ref()?;
            (slot.member != MemberId::STORE && life.stage == Stage::Ready && !life.killed)
                .then_some(Who::new(slot.member, life.incarnation))
        })
    }
}

impl Slot {
    fn living(&self) -> Option<Who> {
        let life = self.life.as_ref()?;
        Some(Who::new(self.member, life.incarnation))
    }
}

impl Life {
    fn new(incarnation: Incarnation, now: Instant) -> Self {
        Self {
            incarnation,
            stage: Stage::Starting,
            started: now,
            since: now,
            closed_at: None,
            killed: false,
            told_to_stop: false,
            accused_at: Vec::new(),
        }
    }

    /// When it has been in its stage for too long.
    fn slow_at(&self) -> Option<Instant> {
        let closed_at = self.closed_at.map(|at| at.after_secs(END_WITHIN_SECS));
        let secs = match self.stage {
            _ if self.killed => return None,
            _ if self.told_to_stop || closed_at.is_some() => return closed_at,
            Stage::Starting | Stage::Sealing => START_WITHIN_SECS,
            Stage::Joining => JOIN_WITHIN_SECS,
            // The first waits for others, who have their own time; the second is where all want to be.
            Stage::Sealed | Stage::Ready => return None,
        };
        Some(self.since.after_secs(secs))
    }
}

impl Dead {
    fn slow_at(&self) -> Instant {
        self.since.after_secs(DRAIN_WITHIN_SECS)
    }
}

impl Phase {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Running | Self::Finished => None,
            Self::Quiescing { since, .. } => Some(since.after_secs(QUIESCE_WITHIN_SECS)),
            Self::EndingWorkers { since } | Self::EndingStore { since } => {
                Some(since.after_secs(STOP_WITHIN_SECS))
            }
        }
    }
}

#[cfg(test)]
mod simulation;
