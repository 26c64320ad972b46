//! A process beside the members: started while it is wanted, started again when it dies. Pure.
//!
//! Nobody waits for it and nothing dies with it, so its life is simpler than a member's: started, has mapped what is
//! its own, sealed, at work. At work it is handed the members' pages as they come, and a connection to a worker
//! whenever it has none.

use std::time::Duration;

use super::hold_back::HoldBack;
use super::membership::{Who, Why};
use crate::base::clock::Instant;
use crate::base::ids::Incarnation;
use crate::base::limits::{END_WITHIN_SECS, START_WITHIN_SECS, STOP_WITHIN_SECS};
use crate::ipc::control::ToSupervisor;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Whether there is to be one.
    Want(bool),
    /// It sent this.
    Said(Incarnation, ToSupervisor),
    /// What it mapped is sealed now.
    Sealed(Incarnation),
    /// It said what cannot be understood, takes no messages, or could not be sealed.
    Unfit(Incarnation),
    /// It has closed its control channel.
    Closed(Incarnation),
    /// Its heart stands still.
    Hung(Incarnation),
    /// Its process is gone, or could not be started.
    Ended(Incarnation),
    /// Time has passed; this worker can take a connection.
    Tick { worker: Option<Who> },
    /// SIGTERM.
    Terminate,
}

/// What is to be done, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Start its process, and greet it.
    Start(Incarnation),
    /// Seal what it has mapped, then report [`Event::Sealed`] or [`Event::Unfit`].
    Seal(Incarnation),
    /// Hand it the pages of all members.
    ShowMembers(Incarnation),
    /// Make a connection between it and this worker.
    Connect { to: Incarnation, worker: Who },
    /// Tell it to end.
    Stop(Incarnation),
    /// End its process now.
    Kill { who: Incarnation, why: Why },
    /// Its successor will be started only after this long.
    HeldBack(Duration),
}

/// The process, and whether there is to be one.
#[derive(Debug)]
pub struct Attendant {
    wanted: bool,
    life: Option<Life>,
    start_at: Instant,
    hold_back: HoldBack,
    lives: u32,
}

#[derive(Debug)]
struct Life {
    incarnation: Incarnation,
    stage: Stage,
    started: Instant,
    /// When it is killed, unless something happens before.
    until: Option<Instant>,
    killed: bool,
    told_to_stop: bool,
    /// It has no connection to a worker.
    is_severed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Starting,
    Sealing,
    AtWork,
}

impl Attendant {
    /// Not started yet.
    pub fn new(wanted: bool) -> Self {
        Self {
            wanted,
            life: None,
            start_at: Instant::default(),
            hold_back: HoldBack::default(),
            lives: 0,
        }
    }

    /// Takes in one event, and appends what is to be done about it.
    pub fn on(&mut self, event: Event, now: Instant, out: &mut Vec<Action>) {
        match event {
            Event::Want(wanted) => self.wanted = wanted,
            Event::Said(who, said) => self.said(who, said, now, out),
            Event::Sealed(who) => self.sealed(who, out),
            Event::Unfit(who) => self.kill(who, Why::Unfit, out),
            Event::Closed(who) => self.closed(who, now),
            Event::Hung(who) => self.kill(who, Why::Hung, out),
            Event::Ended(who) => self.ended(who, now, out),
            Event::Tick { worker } => self.tick(worker, now, out),
            Event::Terminate => self.wanted = false,
        }
        self.start_or_stop(now, out);
    }

    /// When [`Event::Tick`] has something to do, if nothing else happens before.
    pub fn wake_at(&self) -> Option<Instant> {
        match &self.life {
            Some(life) if life.killed => None,
            Some(life) => life.until,
            None => self.wanted.then_some(self.start_at),
        }
    }

    /// Whose heart is to be looked at.
    pub fn heart(&self) -> Option<Incarnation> {
        let life = self.life.as_ref()?;
        (life.stage == Stage::AtWork && !life.killed && !life.told_to_stop)
            .then_some(life.incarnation)
    }

    /// The process that is to be told of members and settings.
    pub fn at_work(&self) -> Option<Incarnation> {
        let life = self.life.as_ref()?;
        (life.stage == Stage::AtWork).then_some(life.incarnation)
    }

    /// Whether there is no process.
    pub fn is_gone(&self) -> bool {
        self.life.is_none()
    }

    fn said(&mut self, who: Incarnation, said: ToSupervisor, now: Instant, out: &mut Vec<Action>) {
        let Some(life) = self.life(who) else {
            return;
        };
        match said {
            ToSupervisor::Mapped if life.stage == Stage::Starting => {
                life.stage = Stage::Sealing;
                life.until = Some(now.after_secs(START_WITHIN_SECS));
                out.push(Action::Seal(who));
            }
            ToSupervisor::Severed if life.stage == Stage::AtWork => life.is_severed = true,
            _ => self.kill(who, Why::Unfit, out),
        }
    }

    fn sealed(&mut self, who: Incarnation, out: &mut Vec<Action>) {
        if let Some(life) = self.life(who).filter(|life| life.stage == Stage::Sealing) {
            life.stage = Stage::AtWork;
            life.until = None;
            out.push(Action::ShowMembers(who));
        }
    }

    /// Killing it at once would hide how it ended.
    fn closed(&mut self, who: Incarnation, now: Instant) {
        if let Some(life) = self.life(who) {
            let until = now.after_secs(END_WITHIN_SECS);
            life.until = Some(life.until.map_or(until, |at| at.min(until)));
        }
    }

    fn ended(&mut self, who: Incarnation, now: Instant, out: &mut Vec<Action>) {
        if self.life(who).is_none() {
            return;
        }
        let Some(life) = self.life.take() else {
            return;
        };
        self.start_at = now;
        if !life.told_to_stop {
            let wait = self.hold_back.died(now, now - life.started);
            self.start_at = now + wait;
            if !wait.is_zero() {
                out.push(Action::HeldBack(wait));
            }
        }
    }

    fn tick(&mut self, worker: Option<Who>, now: Instant, out: &mut Vec<Action>) {
        let Some(life) = &mut self.life else {
            return;
        };
        let who = life.incarnation;
        if life.until.is_some_and(|at| at <= now) {
            let why = if life.told_to_stop {
                Why::Stopping
            } else {
                Why::Slow
            };
            return self.kill(who, why, out);
        }
        if let Some(worker) = worker
            && life.stage == Stage::AtWork
            && std::mem::take(&mut life.is_severed)
        {
            out.push(Action::Connect { to: who, worker });
        }
    }

    fn start_or_stop(&mut self, now: Instant, out: &mut Vec<Action>) {
        match &mut self.life {
            None if self.wanted && self.start_at <= now => {
                self.lives += 1;
                let incarnation = Incarnation(FIRST | self.lives);
                self.life = Some(Life {
                    incarnation,
                    stage: Stage::Starting,
                    started: now,
                    until: Some(now.after_secs(START_WITHIN_SECS)),
                    killed: false,
                    told_to_stop: false,
                    is_severed: true,
                });
                out.push(Action::Start(incarnation));
            }
            Some(life) if !self.wanted && !life.told_to_stop => {
                life.told_to_stop = true;
                life.until = Some(now.after_secs(STOP_WITHIN_SECS));
                out.push(Action::Stop(life.incarnation));
            }
            _ => {}
        }
    }

    fn kill(&mut self, who: Incarnation, why: Why, out: &mut Vec<Action>) {
        if let Some(life) = self.life(who).filter(|life| !life.killed) {
            life.killed = true;
            out.push(Action::Kill { who, why });
        }
    }

    fn life(&mut self, who: Incarnation) -> Option<&mut Life> {
        self.life.as_mut().filter(|life| life.incarnation == who)
    }
}

/// Members' incarnations count up from 1; these never meet them.
const FIRST: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::MemberId;

    const NOW: Instant = Instant(1_000_000_000);

    fn worker() -> Option<Who> {
        Some(Who::new(MemberId::worker(0).unwrap(), Incarnation(7)))
    }

    fn life(n: u32) -> Incarnation {
        Incarnation(FIRST | n)
    }

    fn all(attendant: &mut Attendant, now: Instant, events: &[Event]) -> Vec<Action> {
        let mut out = Vec::new();
        for event in events {
            attendant.on(*event, now, &mut out);
        }
        out
    }

    fn at_work(now: Instant) -> Attendant {
        let mut one = Attendant::new(true);
        let (who, worker) = (life(1), worker());
        let events = [
            Event::Tick { worker },
            Event::Said(who, ToSupervisor::Mapped),
            Event::Sealed(who),
            Event::Tick { worker },
            Event::Tick { worker },
        ];
        let expected = [
            Action::Start(who),
            Action::Seal(who),
            Action::ShowMembers(who),
            Action::Connect {
                to: who,
                worker: worker.unwrap(),
            },
        ];
        assert_eq!(all(&mut one, now, &events), expected);
        assert_eq!((one.heart(), one.wake_at()), (Some(who), None));
        one
    }

    #[test]
    fn it_is_started_sealed_shown_the_members_and_connected_once() {
        at_work(NOW);
    }

    #[test]
    fn it_gets_another_connection_when_it_asks_and_a_worker_is_there() {
        let mut one = at_work(NOW);
        let (who, severed) = (life(1), Event::Said(life(1), ToSupervisor::Severed));
        assert_eq!(
            all(&mut one, NOW, &[severed, Event::Tick { worker: None }]),
            []
        );
        let connect = Action::Connect {
            to: who,
            worker: worker().unwrap(),
        };
        assert_eq!(
            all(&mut one, NOW, &[Event::Tick { worker: worker() }]),
            [connect]
        );
    }

    #[test]
    fn a_dead_one_is_replaced_at_once_and_held_back_when_it_keeps_dying() {
        let mut one = at_work(NOW);
        let mut out = Vec::new();
        for n in 1..5 {
            one.on(Event::Ended(life(n)), NOW, &mut out);
        }
        let starts: Vec<_> = (2..6).map(|n| Action::Start(life(n))).collect();
        assert_eq!(out, starts);
        let wait = Duration::from_secs(1);
        assert_eq!(
            all(&mut one, NOW, &[Event::Ended(life(5))]),
            [Action::HeldBack(wait)]
        );
        assert_eq!(one.wake_at(), Some(NOW + wait));
        let later = all(&mut one, NOW + wait, &[Event::Tick { worker: None }]);
        assert_eq!(later, [Action::Start(life(6))]);
    }

    #[test]
    fn one_that_is_not_wanted_ends_and_comes_back_when_it_is() {
        let mut one = at_work(NOW);
        assert_eq!(
            all(&mut one, NOW, &[Event::Want(false)]),
            [Action::Stop(life(1))]
        );
        assert_eq!(one.heart(), None);
        // Wanted again before it has ended.
        assert_eq!(all(&mut one, NOW, &[Event::Want(true)]), []);
        assert_eq!(
            all(&mut one, NOW, &[Event::Ended(life(1))]),
            [Action::Start(life(2))]
        );
        let none = all(&mut one, NOW, &[Event::Terminate, Event::Ended(life(2))]);
        assert_eq!(none, [Action::Stop(life(2))]);
        assert!(one.is_gone());
        assert_eq!(one.wake_at(), None);
    }

    #[test]
    fn one_that_does_not_come_up_or_end_or_breaks_the_rules_is_killed() {
        let late = NOW.after_secs(START_WITHIN_SECS);
        let tick = Event::Tick { worker: None };
        let kill = |why| [Action::Kill { who: life(1), why }];
        let mut one = Attendant::new(true);
        all(&mut one, NOW, &[tick]);
        assert_eq!(all(&mut one, late, &[tick, tick]), kill(Why::Slow));

        let mut one = at_work(NOW);
        all(&mut one, NOW, &[Event::Terminate]);
        assert_eq!(all(&mut one, late, &[tick]), kill(Why::Stopping));

        let mut one = at_work(NOW);
        all(&mut one, NOW, &[Event::Closed(life(1))]);
        assert_eq!(all(&mut one, late, &[tick]), kill(Why::Slow));

        for (event, why) in [
            (Event::Hung(life(1)), Why::Hung),
            (Event::Said(life(1), ToSupervisor::Ready), Why::Unfit),
            (Event::Unfit(life(1)), Why::Unfit),
        ] {
            assert_eq!(all(&mut at_work(NOW), NOW, &[event, event]), kill(why));
        }
    }

    #[test]
    fn what_an_earlier_one_says_concerns_nobody() {
        let mut one = at_work(NOW);
        all(&mut one, NOW, &[Event::Ended(life(1))]);
        for event in [
            Event::Said(life(1), ToSupervisor::Ready),
            Event::Hung(life(1)),
            Event::Ended(life(1)),
        ] {
            assert_eq!(all(&mut one, NOW, &[event]), []);
        }
    }
}
