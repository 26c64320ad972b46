//! Members that die at every step, say nothing, or lie, in every order that a seed can make.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::base::limits::DEATHS_WITHIN_SECS;

/// A process as the supervisor sees it: what was sent to it and by it, in order, and what it made of it.
struct Process {
    who: Who,
    inbox: VecDeque<Message>,
    said: VecDeque<Said>,
    /// Does nothing any more, since then.
    mute_since: Option<Instant>,
    /// Has said what it should not: what it said it drained need not be true.
    liar: bool,
    killed: bool,
    /// Whom it knows, and whether it was told of their death and has drained.
    knows: BTreeMap<MemberId, (Incarnation, Death)>,
    accepts_for: BTreeSet<MemberId>,
    ready: bool,
    quiesced: bool,
    told_to_stop: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Death {
    None,
    Drained,
}

#[derive(Clone, Copy, Debug)]
enum Message {
    Hello,
    Peer(Who),
    Listen(MemberId),
    Word(Word),
}

#[derive(Clone, Copy, Debug)]
enum Said {
    Message(ToSupervisor),
    Exit,
}

struct Simulation {
    seed: u64,
    random: u64,
    now: Instant,
    membership: Membership,
    processes: BTreeMap<u32, Process>,
    down_since: BTreeMap<MemberId, Instant>,
    lent: BTreeMap<MemberId, Who>,
    terminated_at: Option<Instant>,
    finished: bool,
    all_ready: u32,
    chaos: bool,
}

const WORKERS: usize = 4;

impl Simulation {
    fn new(seed: u64) -> Self {
        let now = Instant(1_000_000_000);
        let workers = || (1..=WORKERS).filter_map(MemberId::new);
        let mut simulation = Self {
            seed,
            random: seed,
            now,
            membership: Membership::new(WORKERS, now),
            processes: BTreeMap::new(),
            down_since: workers().map(|w| (w, now)).collect(),
            lent: BTreeMap::new(),
            terminated_at: None,
            finished: false,
            all_ready: 0,
            chaos: true,
        };
        simulation.event(Event::Tick);
        simulation
    }

    /// splitmix64
    fn below(&mut self, n: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn event(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = Vec::new();
            self.membership.on(event, self.now, &mut actions);
            for action in actions {
                self.perform(action, &mut events);
            }
        }
        self.check_lending();
    }

    fn perform(&mut self, action: Action, events: &mut VecDeque<Event>) {
        let seed = self.seed;
        match action {
            Action::Start(who) => {
                assert!(
                    self.terminated_at.is_none(),
                    "seed {seed}: a start at the end"
                );
                assert!(
                    self.processes.values().all(|p| p.who.member != who.member),
                    "seed {seed}: two processes in one slot"
                );
                if self.chaos && self.below(40) == 0 {
                    events.push_back(Event::Ended(who));
                    return;
                }
                self.processes.insert(who.incarnation.0, Process::new(who));
            }
            Action::Seal(who) => match self.chaos && self.below(40) == 0 {
                true => events.push_back(Event::Unfit(who)),
                false => events.push_back(Event::Sealed(who)),
            },
            Action::Introduce { to, peer } => self.send(to, Message::Peer(peer)),
            Action::Tell { to, word } => {
                match word {
                    Word::PeerRemoved(who) => self.check_all_drained(who),
                    Word::TakeBack(owner) => assert_eq!(self.lent.remove(&owner), Some(to)),
                    _ => {}
                }
                self.send(to, Message::Word(word));
            }
            Action::Listen { to, owner } => {
                if to.member == owner {
                    self.down_since.remove(&owner);
                } else {
                    assert_eq!(self.lent.insert(owner, to), None, "seed {seed}: lent twice");
                }
                self.send(to, Message::Listen(owner));
            }
            Action::Kill { who, .. } => {
                if let Some(process) = self.processes.get_mut(&who.incarnation.0) {
                    assert!(!process.killed, "seed {seed}: killed twice");
                    process.killed = true;
                }
            }
            Action::HeldBack { wait, .. } => {
                assert!(wait <= Duration::from_secs(DEATHS_WITHIN_SECS))
            }
            Action::AllReady => self.all_ready += 1,
            Action::Finished => {
                assert!(
                    self.processes.is_empty(),
                    "seed {seed}: finished before the end"
                );
                self.finished = true;
            }
        }
    }

    fn send(&mut self, to: Who, message: Message) {
        if let Some(process) = self.processes.get_mut(&to.incarnation.0) {
            process.inbox.push_back(message);
        }
    }

    /// When a slot is declared free, nobody who knows its dead one has still to drain it.
    fn check_all_drained(&self, dead: Who) {
        for process in self.processes.values().filter(|p| !p.liar) {
            let death = process
                .knows
                .get(&dead.member)
                .filter(|(i, _)| *i == dead.incarnation);
            let told = matches!(death, Some((_, Death::None)));
            assert!(
                !told,
                "seed {}: {:?} has not drained {dead:?}",
                self.seed, process.who
            );
        }
    }

    fn check_lending(&self) {
        if self.terminated_at.is_some() {
            return;
        }
        let ready = self.membership.ready_workers().next().is_some();
        for (owner, since) in &self.down_since {
            let due = self.now >= since.after_millis(LEND_AFTER_MILLIS);
            assert!(
                !(ready && due) || self.lent.contains_key(owner),
                "seed {}: nobody accepts for {owner}",
                self.seed
            );
        }
    }

    fn end(&mut self, incarnation: u32) {
        let Some(process) = self.processes.remove(&incarnation) else {
            return;
        };
        let who = process.who;
        if who.member != MemberId::STORE {
            self.down_since.entry(who.member).or_insert(self.now);
        }
        self.lent.retain(|_, to| *to != who);
        if self.terminated_at.is_some() && who.member == MemberId::STORE && process.told_to_stop {
            assert!(
                self.processes.is_empty(),
                "seed {}: the store was not last",
                self.seed
            );
        }
        self.event(Event::Ended(who));
    }

    fn pick(&mut self) -> Option<u32> {
        let n = u64::try_from(self.processes.len()).unwrap();
        let at = self.below(n.max(1));
        self.processes
            .keys()
            .nth(usize::try_from(at).unwrap())
            .copied()
    }

    /// One thing happens.
    fn step(&mut self) {
        let Some(incarnation) = self.pick() else {
            return self.pass_time();
        };
        let what = self.below(100);
        let process = self.processes.get_mut(&incarnation).unwrap();
        let who = process.who;
        match what {
            0..45 => process.work(self.now, self.seed),
            45..80 => match process.said.pop_front() {
                Some(Said::Message(message)) => self.event(Event::Said(who, message)),
                Some(Said::Exit) => {
                    self.event(Event::Closed(who));
                    self.end(incarnation);
                }
                None => {}
            },
            80..90 if process.killed => self.end(incarnation),
            90..93 if self.chaos => match self.below(6) {
                0 => self.end(incarnation),
                1 if self.below(3) == 0 => {
                    let process = self.processes.get_mut(&incarnation).unwrap();
                    process.mute_since.get_or_insert(self.now);
                }
                2 => self.lie(who),
                _ => {}
            },
            _ => self.pass_time(),
        }
    }

    /// Says what a healthy member would not.
    fn lie(&mut self, by: Who) {
        let slot = usize::try_from(self.below(6)).unwrap();
        let member = MemberId::new(slot).unwrap();
        let incarnation = Incarnation(u32::try_from(self.below(20)).unwrap());
        let said = match self.below(6) {
            0 => ToSupervisor::Mapped,
            1 => ToSupervisor::Ready,
            2 => ToSupervisor::Quiet,
            3 => ToSupervisor::Drained {
                member,
                incarnation,
            },
            _ => ToSupervisor::Stuck {
                member,
                incarnation,
                lies: false,
            },
        };
        if let Some(process) = self.processes.get_mut(&by.incarnation.0) {
            process.liar = true;
        }
        self.event(Event::Said(by, said));
    }

    fn pass_time(&mut self) {
        let millis = self.below(60);
        let mut then = self.now.after_millis(millis);
        if let Some(at) = self.membership.wake_at() {
            assert!(at > self.now || self.terminated_at.is_some() || millis == 0 || at == self.now);
            then = then.min(at.max(self.now));
        }
        self.now = then;
        let hearts: Vec<Who> = self.membership.hearts().collect();
        for who in hearts {
            let process = self.processes.get(&who.incarnation.0);
            let mute = process.and_then(|p| p.mute_since);
            if mute.is_some_and(|since| self.now - since > Duration::from_secs(2)) {
                self.event(Event::Hung(who));
            }
        }
        self.event(Event::Tick);
    }

    /// Without new faults, everybody is where it belongs in the end.
    fn settle(&mut self) {
        self.chaos = false;
        let until = self.now.after_secs(60);
        while self.now < until {
            self.step();
        }
        for _ in 0..5_000 {
            if self
                .processes
                .values()
                .all(|p| p.inbox.is_empty() && p.said.is_empty())
            {
                break;
            }
            self.step();
        }
        assert_eq!(self.processes.len(), WORKERS + 1, "seed {}", self.seed);
        for process in self.processes.values() {
            assert!(
                process.ready,
                "seed {}: {:?} is not ready",
                self.seed, process.who
            );
            let knows: Vec<_> = process
                .knows
                .iter()
                .map(|(m, (i, d))| (*m, *i, *d))
                .collect();
            let others = self.processes.values().filter(|p| p.who != process.who);
            let mut others: Vec<_> = others
                .map(|p| (p.who.member, p.who.incarnation, Death::None))
                .collect();
            others.sort_by_key(|(member, ..)| *member);
            assert_eq!(knows, others, "seed {}: {:?}", self.seed, process.who);
            let own: BTreeSet<_> = match process.who.member {
                MemberId::STORE => BTreeSet::new(),
                worker => BTreeSet::from([worker]),
            };
            assert_eq!(
                process.accepts_for, own,
                "seed {}: {:?}",
                self.seed, process.who
            );
        }
        assert!(self.lent.is_empty() && self.down_since.is_empty());
        assert_eq!(self.all_ready, 1);
    }

    /// SIGTERM, with or without faults, ends everything in bounded time.
    fn terminate(&mut self) {
        self.terminated_at = Some(self.now);
        self.event(Event::Terminate);
        let bound = QUIESCE_WITHIN_SECS + 2 * STOP_WITHIN_SECS + 1;
        let until = self.now.after_secs(bound);
        while !self.finished {
            assert!(self.now < until, "seed {}: it does not end", self.seed);
            self.step();
        }
    }
}

impl Process {
    fn new(who: Who) -> Self {
        Self {
            who,
            inbox: VecDeque::from([Message::Hello]),
            said: VecDeque::new(),
            mute_since: None,
            liar: false,
            killed: false,
            knows: BTreeMap::new(),
            accepts_for: BTreeSet::new(),
            ready: false,
            quiesced: false,
            told_to_stop: false,
        }
    }

    /// Takes one message, and checks that it may come now.
    fn work(&mut self, now: Instant, seed: u64) {
        let context = format!("seed {seed}, {now:?}, {:?}", self.who);
        if self.mute_since.is_some() {
            return;
        }
        let Some(message) = self.inbox.pop_front() else {
            return;
        };
        let answer = match message {
            Message::Hello => Some(ToSupervisor::Mapped),
            Message::Peer(who) => {
                let before = self
                    .knows
                    .insert(who.member, (who.incarnation, Death::None));
                assert_eq!(before, None, "{context}: two lives of one slot");
                assert_ne!(who.member, self.who.member, "{context}");
                None
            }
            Message::Listen(owner) => {
                assert!(self.ready && self.accepts_for.insert(owner), "{context}");
                None
            }
            Message::Word(Word::Welcome) => {
                assert!(!std::mem::replace(&mut self.ready, true), "{context}");
                Some(ToSupervisor::Ready)
            }
            Message::Word(Word::PeerGone(who)) => {
                let known = self.knows.get_mut(&who.member).unwrap();
                assert_eq!(*known, (who.incarnation, Death::None), "{context}");
                // What it says is on its way; nothing can come between for the check above.
                known.1 = Death::Drained;
                let Who {
                    member,
                    incarnation,
                } = who;
                Some(ToSupervisor::Drained {
                    member,
                    incarnation,
                })
            }
            Message::Word(Word::PeerRemoved(who)) => {
                let known = self.knows.remove(&who.member);
                assert_eq!(known, Some((who.incarnation, Death::Drained)), "{context}");
                None
            }
            Message::Word(Word::TakeBack(owner)) => {
                assert!(self.accepts_for.remove(&owner), "{context}");
                None
            }
            Message::Word(Word::Quiesce) => {
                assert!(!std::mem::replace(&mut self.quiesced, true), "{context}");
                Some(ToSupervisor::Quiet)
            }
            Message::Word(Word::Stop) => {
                assert!(
                    !std::mem::replace(&mut self.told_to_stop, true),
                    "{context}"
                );
                self.said.push_back(Said::Exit);
                self.mute_since = Some(now);
                None
            }
        };
        self.said.extend(answer.map(Said::Message));
    }
}

/// As in the simulation of the mesh: `SEEDS=N` runs N seeds, `SEED=X` starts at X. Without SEED the start moves with
/// the time, and is printed.
fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let from_environment = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let first = from_environment("SEED")
        .unwrap_or_else(|| u64::try_from(crate::sys::clock::wall().as_millis()).unwrap());
    let count = from_environment("SEEDS").unwrap_or(count);
    println!("SEED={first} SEEDS={count}");
    (0..count).map(move |n| first.wrapping_add(n))
}

#[test]
fn whatever_dies_in_whatever_order_everybody_meets_everybody() {
    for seed in seeds(250) {
        let mut simulation = Simulation::new(seed);
        let steps = simulation.below(3000);
        for _ in 0..steps {
            simulation.step();
        }
        simulation.settle();
    }
}

#[test]
fn sigterm_at_any_moment_ends_everything_in_bounded_time_and_the_store_last() {
    for seed in seeds(1000) {
        let mut simulation = Simulation::new(seed);
        let steps = simulation.below(600);
        for _ in 0..steps {
            simulation.step();
        }
        simulation.terminate();
    }
}

#[test]
fn a_member_that_accuses_everybody_is_the_one_to_go() {
    let mut simulation = Simulation::new(1);
    simulation.settle();
    let accuser = simulation.membership.ready_workers().next().unwrap();
    let living: Vec<Who> = simulation
        .membership
        .living()
        .filter(|who| *who != accuser)
        .collect();
    let mut kills = Vec::new();
    for Who {
        member,
        incarnation,
    } in living
    {
        let said = ToSupervisor::Stuck {
            member,
            incarnation,
            lies: false,
        };
        let mut actions = Vec::new();
        simulation
            .membership
            .on(Event::Said(accuser, said), simulation.now, &mut actions);
        kills.extend(actions);
    }
    assert_eq!(kills.len(), ACCUSATIONS_MAX + 1);
    let last = Action::Kill {
        who: accuser,
        why: Why::Accuser,
    };
    assert_eq!(kills.last(), Some(&last));
}

#[test]
fn an_accusation_of_an_earlier_life_means_nothing() {
    let mut simulation = Simulation::new(2);
    simulation.settle();
    let victim = simulation.membership.living().next().unwrap();
    let accuser = simulation.membership.ready_workers().last().unwrap();
    simulation.end(victim.incarnation.0);
    simulation.settle();
    let said = ToSupervisor::Stuck {
        member: victim.member,
        incarnation: victim.incarnation,
        lies: false,
    };
    let mut actions = Vec::new();
    simulation
        .membership
        .on(Event::Said(accuser, said), simulation.now, &mut actions);
    assert_eq!(actions, []);
}

#[test]
fn a_dead_child_is_started_again_at_once() {
    let mut simulation = Simulation::new(3);
    simulation.settle();
    let victim = simulation.membership.living().last().unwrap();
    let mut actions = Vec::new();
    simulation
        .membership
        .on(Event::Ended(victim), simulation.now, &mut actions);
    let started =
        |action: &Action| matches!(action, Action::Start(who) if who.member == victim.member);
    assert!(actions.iter().any(started), "{actions:?}");
}
