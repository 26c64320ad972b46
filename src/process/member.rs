//! What the loops of the members (worker and store) share: the supervisor's channel, the rings, time, sleep and log.
//!
//! One turn is: wait, inboxes, sockets, timers, end of turn, flush (head, then cursors, then wake-ups), what the
//! flush has covered, sockets again. Heads before sockets: an acknowledgement leaves only when its record is in
//! shared memory.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use super::child::{self, Child};
use crate::base::clock::Instant;
use crate::base::figures::Figures;
use crate::base::ids::{Incarnation, MemberId};
use crate::base::limits::{
    CONFIG_SNAPSHOT_BYTES_MAX, EVENTS_PER_TURN, FIGURES_MILLIS, INBOX_BYTES_BETWEEN,
    RECORD_BUFFER_KEEP_BYTES, RETRY_MILLIS, SLEEP_MILLIS_MAX, STOP_STEP_MILLIS,
};
use crate::base::log::Log;
use crate::config::Config;
use crate::config::stamp::Stamps;
use crate::ipc::control::{Channel, ControlError, ToChild, ToSupervisor};
use crate::net::Token;
use crate::ring::{Cx, Mesh as _, RingError, SharedMesh};
use crate::sys::poll::{Interest, Poller};
use crate::sys::{clock, heap, memfd, strftime};

/// What a member decides with: pure code that is told what happened.
pub trait Brain {
    /// Something happened.
    fn step(&mut self, event: Event<'_>, cx: &mut Cx<'_, SharedMesh>);
    /// New settings.
    fn configure(&mut self, config: Rc<Config>);
    /// When something is due next.
    fn next_deadline(&self, cx: &Cx<'_, SharedMesh>) -> Option<Instant>;
    /// What it has counted, and what there is of everything now.
    fn figures(&self) -> Figures;
    /// Whether the first step of stopping is done.
    fn is_quiet(&self, cx: &Cx<'_, SharedMesh>) -> bool;
}

/// What a member's limits need to know of the others.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Others {
    /// What all members together hold on their heaps, this one included.
    pub heap_bytes: u64,
    /// What waits in the queues of the others.
    pub queued_bytes: u64,
}

/// What can happen to a member.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// `from` says something.
    Record {
        from: MemberId,
        incarnation: Incarnation,
        kind: u8,
        bytes: &'a [u8],
    },
    /// A member lives and reads this one's outbox from here on.
    Joined(MemberId, Incarnation),
    /// It died; what it published before still comes.
    Gone(MemberId, Incarnation),
    /// All that it ever published has been applied here.
    Drained(MemberId, Incarnation),
    /// All that it ever published has been applied everywhere.
    Removed(MemberId, Incarnation),
    /// Time has passed.
    Tick,
    /// The turn's events are over: last words into the outbox.
    EndOfTurn,
    /// The turn's records are in shared memory.
    Flushed,
    /// What the others said last, told a few times a second.
    Others(Others),
    /// First step of stopping.
    Quiesce,
    /// Second step: say good-bye to the clients.
    Stop,
}

/// Who a member is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub member: MemberId,
    pub incarnation: Incarnation,
    /// Keys the hashes of topics and filters for this start of the broker.
    pub hash_key: [u64; 2],
}

/// How far a member is on its way out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// At work.
    Serving,
    /// Finishing what is acknowledged.
    Quiescing,
    /// Done with it; waiting to be told to stop.
    Quiet,
    /// Saying good-bye.
    Stopping,
}

/// Why a member cannot go on. The supervisor starts another.
#[derive(Debug)]
pub enum MemberError {
    /// The supervisor's channel.
    Control(ControlError),
    /// The machine refused what the loop cannot do without.
    Io(io::Error),
    /// Rings that cannot be used.
    Ring(RingError),
    /// The configuration snapshot cannot be understood.
    Config,
    /// The supervisor greeted twice.
    SecondHello,
    /// It took this process for another one.
    NotForThisProcess,
}

impl fmt::Display for MemberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control(e) => e.fmt(f),
            Self::Io(e) => write!(f, "the event loop failed: {e}"),
            Self::Config => f.write_str("the configuration cannot be understood"),
            Self::NotForThisProcess => f.write_str("the supervisor took it for another process"),
            Self::SecondHello => f.write_str("the supervisor greeted twice"),
            Self::Ring(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for MemberError {}

impl From<ControlError> for MemberError {
    fn from(e: ControlError) -> Self {
        Self::Control(e)
    }
}

impl From<RingError> for MemberError {
    fn from(e: RingError) -> Self {
        Self::Ring(e)
    }
}

impl From<io::Error> for MemberError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// What the supervisor says that only a worker can do.
#[derive(Debug)]
pub enum Sockets {
    /// Accept from it.
    Listen {
        listener: u16,
        lent_by: Option<MemberId>,
        socket: OwnedFd,
    },
    /// Accept no longer from what this member lent.
    TakeBack(MemberId),
    /// A connection of another part of the broker.
    Internal(OwnedFd),
}

/// A member without its sockets.
pub struct Member<B> {
    pub brain: B,
    pub mesh: SharedMesh,
    pub log: Log,
    /// The time of this turn.
    pub now: Instant,
    pub poller: Poller,
    pub config: Rc<Config>,
    phase: Phase,
    /// When the current step of stopping is over, done or not.
    step_until: Option<Instant>,
    /// The supervisor is gone, so nobody will say what is next.
    orphaned: bool,
    /// The supervisor waits to hear that this member is joined to all others.
    ready_owed: bool,
    /// Dead members whose outboxes are not drained yet.
    leaving: Vec<(MemberId, Incarnation)>,
    /// There is something to flush that came too late for this turn.
    turn_owed: bool,
    control: Channel,
    stamps: Stamps,
    /// The record that is being read.
    record: Vec<u8>,
    /// When the figures are told next.
    figures_at: Instant,
}

impl<B: Brain> Member<B> {
    /// Maps the rings, says so, and registers what every member waits for. `brain` makes the deciding code.
    ///
    /// # Errors
    /// The configuration cannot be read, or the machine refuses memory or descriptors.
    pub fn new(
        child: Child,
        brain: impl FnOnce(Rc<Config>, &Identity) -> B,
    ) -> Result<Self, MemberError> {
        let config = Rc::new(config_from(child.config)?);
        let mesh = SharedMesh::new(
            child.member,
            child.incarnation,
            child.outbox,
            child.cursors,
            child.doorbell,
            child.ring_bytes,
        )?;
        let mut control = child.control;
        control.send(ToSupervisor::Mapped)?;
        let poller = Poller::new(EVENTS_PER_TURN)?;
        poller.add(control.as_fd(), CONTROL.pack(), Interest::ReadLevel)?;
        poller.add(mesh.doorbell(), DOORBELL.pack(), Interest::Read)?;
        let identity = Identity {
            member: child.member,
            incarnation: child.incarnation,
            hash_key: child.hash_key,
        };
        Ok(Self {
            brain: brain(config.clone(), &identity),
            mesh,
            log: Log::new(config.log_mask),
            now: clock::now(),
            poller,
            stamps: Stamps::new(&config),
            config,
            phase: Phase::Serving,
            step_until: None,
            orphaned: false,
            ready_owed: false,
            leaving: Vec::new(),
            turn_owed: false,
            control,
            record: Vec::new(),
            figures_at: Instant::default(),
        })
    }

    /// The brain and what it is lent, at once.
    pub fn with_cx<R>(&mut self, step: impl FnOnce(&mut B, &mut Cx<'_, SharedMesh>) -> R) -> R {
        let mut cx = Cx {
            mesh: &mut self.mesh,
            log: &mut self.log,
            now: self.now,
        };
        step(&mut self.brain, &mut cx)
    }

    /// Tells the brain what happened.
    pub fn step(&mut self, event: Event<'_>) {
        self.with_cx(|brain, cx| brain.step(event, cx));
    }

    /// How far this member is on its way out.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether good-byes have taken long enough.
    pub fn is_out_of_time(&self) -> bool {
        self.phase == Phase::Stopping && self.step_until.is_some_and(|until| until <= self.now)
    }

    /// Sleeps until something happens or is due, at most until the next heartbeat. `busy`: there is work already.
    pub fn wait(&mut self, busy: bool, deadline: Option<Instant>) -> Result<(), MemberError> {
        let mut timeout = Duration::ZERO;
        let turn_owed = std::mem::take(&mut self.turn_owed);
        if !busy && !turn_owed {
            timeout = self.sleep_until(deadline).since(clock::now());
        }
        if !timeout.is_zero() && !self.mesh.prepare_sleep() {
            timeout = Duration::ZERO;
        }
        self.poller.wait(Some(timeout))?;
        self.mesh.awake();
        self.mesh.beat();
        self.now = clock::now();
        self.stamp();
        Ok(())
    }

    fn stamp(&mut self) {
        let wall = clock::wall();
        let seconds = i64::try_from(wall.as_secs()).unwrap_or(i64::MAX);
        let stamp = self.stamps.at(seconds, strftime::format_local);
        self.log.set_stamp(stamp);
    }

    fn sleep_until(&mut self, deadline: Option<Instant>) -> Instant {
        let heartbeat = self.now.after_millis(SLEEP_MILLIS_MAX);
        // A reader that holds up this member's outbox is looked at often; it may never ring.
        let retry = !self.log.pending().is_empty()
            || self.control.has_queued()
            || self.mesh.overflow_bytes() > 0
            || self.phase == Phase::Quiescing;
        let due = [
            deadline,
            self.with_cx(|brain, cx| brain.next_deadline(cx)),
            self.step_until,
            retry.then(|| self.now.after_millis(RETRY_MILLIS)),
        ];
        due.into_iter().flatten().fold(heartbeat, Instant::min)
    }

    /// Does what the supervisor says, when the poller says that it spoke. What concerns sockets is returned.
    pub fn obey(&mut self) -> Result<Vec<Sockets>, MemberError> {
        let mut sockets = Vec::new();
        while !self.orphaned {
            match self.control.receive() {
                Ok(Some(message)) => sockets.extend(self.obey_one(message)?),
                Ok(None) => break,
                Err(ControlError::Closed) => self.lose_supervisor(),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(sockets)
    }

    fn obey_one(&mut self, message: ToChild) -> Result<Option<Sockets>, MemberError> {
        match message {
            ToChild::Hello { .. } => return Err(MemberError::SecondHello),
            ToChild::HelloControl { .. } | ToChild::Page { .. } => {
                return Err(MemberError::NotForThisProcess);
            }
            ToChild::Welcome => self.ready_owed = true,
            ToChild::Peer {
                member,
                incarnation,
                ring_bytes,
                outbox,
                cursors,
                doorbell,
            } => {
                self.mesh
                    .add_peer(member, incarnation, outbox, cursors, doorbell, ring_bytes)?;
                self.step(Event::Joined(member, incarnation));
            }
            ToChild::PeerGone {
                member,
                incarnation,
            } => {
                self.mesh.peer_gone(member, incarnation);
                self.leaving.push((member, incarnation));
                self.step(Event::Gone(member, incarnation));
            }
            ToChild::PeerRemoved {
                member,
                incarnation,
            } => {
                self.mesh.remove_peer(member, incarnation);
                self.step(Event::Removed(member, incarnation));
            }
            ToChild::Listener {
                listener,
                lent_by,
                socket,
            } => {
                return Ok(Some(Sockets::Listen {
                    listener,
                    lent_by,
                    socket,
                }));
            }
            ToChild::Internal { socket } => return Ok(Some(Sockets::Internal(socket))),
            ToChild::TakeBack { from } => return Ok(Some(Sockets::TakeBack(from))),
            ToChild::Config { config } => self.reconfigure(config_from(config)?),
            ToChild::Quiesce => self.quiesce(),
            ToChild::Stop => self.stop(),
        }
        Ok(None)
    }

    fn reconfigure(&mut self, config: Config) {
        self.config = Rc::new(config);
        self.log.set_mask(self.config.log_mask);
        self.stamps = Stamps::new(&self.config);
        self.brain.configure(self.config.clone());
    }

    fn quiesce(&mut self) {
        if self.phase == Phase::Serving {
            self.phase = Phase::Quiescing;
            self.step_until = Some(self.now.after_millis(STOP_STEP_MILLIS));
            self.step(Event::Quiesce);
        }
    }

    fn stop(&mut self) {
        self.quiesce();
        if self.phase < Phase::Stopping {
            self.phase = Phase::Stopping;
            self.step_until = Some(self.now.after_millis(STOP_STEP_MILLIS));
            self.step(Event::Stop);
        }
    }

    /// Nobody will say what to do any more: finish what is acknowledged, and end.
    fn lose_supervisor(&mut self) {
        self.orphaned = true;
        // It is readable for ever now; and nobody is told anything through it.
        let _ = self.poller.remove(self.control.as_fd());
        self.quiesce();
    }

    /// Applies what other members have said, about `bytes` of it.
    pub fn inboxes(&mut self, bytes: usize) {
        let mut left = bytes;
        while left > 0 {
            let Some(found) = self.mesh.next(&mut self.record) else {
                // Nothing may follow for hours.
                if self.record.capacity() > RECORD_BUFFER_KEEP_BYTES {
                    self.record = Vec::new();
                }
                return;
            };
            left = left.saturating_sub(RECORD_COST_BYTES + self.record.len());
            self.mesh.beat();
            let mut cx = Cx {
                mesh: &mut self.mesh,
                log: &mut self.log,
                now: self.now,
            };
            let record = Event::Record {
                from: found.from,
                incarnation: found.incarnation,
                kind: found.kind,
                bytes: &self.record,
            };
            self.brain.step(record, &mut cx);
        }
    }

    /// A look into the inboxes in the middle of a long turn, so that no writer waits for all of it.
    pub fn inboxes_between(&mut self) {
        self.inboxes(INBOX_BYTES_BETWEEN);
        self.mesh.flush();
    }

    /// Ends a turn, up to the point from which sockets may be written to.
    pub fn finish_turn(&mut self) -> Result<(), MemberError> {
        self.step(Event::EndOfTurn);
        self.mesh.flush();
        self.step(Event::Flushed);
        self.see_off()?;
        self.accuse()?;
        if self.ready_owed && self.mesh.joined() {
            self.ready_owed = false;
            self.tell(ToSupervisor::Ready)?;
        }
        self.follow_phase()?;
        self.tell_figures();
        self.control.flush().or_else(|e| self.survive(e))
    }

    /// Lets others see what was counted, and the brain what all hold; now and then, so that it costs nothing for each
    /// message.
    fn tell_figures(&mut self) {
        if self.now < self.figures_at {
            return;
        }
        self.figures_at = self.now.after_millis(FIGURES_MILLIS);
        let mut figures = self.brain.figures();
        let heap = heap::bytes();
        figures.heap_current = heap.current as u64;
        figures.heap_maximum = heap.maximum as u64;
        self.mesh.tell_figures(&mut figures);
        let others = self.mesh.figures_of_others();
        self.step(Event::Others(Others {
            heap_bytes: others.heap_current.saturating_add(figures.heap_current),
            queued_bytes: others.queued_bytes,
        }));
    }

    /// Dead members whose last words have been applied, as of the flush that said so in the cursors.
    fn see_off(&mut self) -> Result<(), MemberError> {
        let mesh = &mut self.mesh;
        let drained: Vec<_> = self
            .leaving
            .extract_if(.., |(member, _)| mesh.drained(*member))
            .collect();
        for (member, incarnation) in drained {
            self.step(Event::Drained(member, incarnation));
            // What the brain says to that is flushed by another turn.
            self.turn_owed = true;
            self.tell(ToSupervisor::Drained {
                member,
                incarnation,
            })?;
        }
        Ok(())
    }

    /// Members that hold this one up, or whose rings make no sense.
    fn accuse(&mut self) -> Result<(), MemberError> {
        let stuck = self.mesh.stuck(self.now);
        let mut accused: Vec<_> = stuck.into_iter().map(|who| (who, false)).collect();
        accused.extend(std::iter::from_fn(|| self.mesh.lying()).map(|who| (who, true)));
        for ((member, incarnation), lies) in accused {
            self.tell(ToSupervisor::Stuck {
                member,
                incarnation,
                lies,
            })?;
        }
        Ok(())
    }

    /// Goes on from one step of stopping to the next.
    fn follow_phase(&mut self) -> Result<(), MemberError> {
        let out_of_time = self.step_until.is_some_and(|until| until <= self.now);
        // Without a supervisor nobody says when the workers are done with the store, so it takes all its time.
        let is_last = self.orphaned && self.mesh.me() == MemberId::STORE;
        let head = self.mesh.head();
        if self.phase == Phase::Quiescing && self.mesh.passed(self.mesh.live()) < head {
            // To be quiet is to be heard by all; those that sleep would hear only at their next heartbeat.
            self.mesh.wake_when_passed(head);
        }
        if self.phase == Phase::Quiescing
            && (out_of_time || (!is_last && self.with_cx(|brain, cx| brain.is_quiet(cx))))
        {
            self.phase = Phase::Quiet;
            self.step_until = None;
            self.tell(ToSupervisor::Quiet)?;
        }
        if self.phase == Phase::Quiet && self.orphaned {
            self.stop();
        }
        Ok(())
    }

    fn tell(&mut self, message: ToSupervisor) -> Result<(), MemberError> {
        if self.orphaned {
            return Ok(());
        }
        self.control.send(message).or_else(|e| self.survive(e))
    }

    /// A closed channel is the supervisor's end, not this member's.
    fn survive(&mut self, error: ControlError) -> Result<(), MemberError> {
        match error {
            _ if self.orphaned => Ok(()),
            ControlError::Closed => {
                self.lose_supervisor();
                Ok(())
            }
            error => Err(error.into()),
        }
    }

    /// Hands the turn's lines to the supervisor, as far as it takes them now.
    pub fn write_log(&mut self) {
        child::write_log(&mut self.log);
    }
}

/// The configuration in a snapshot.
pub fn config_from(snapshot: OwnedFd) -> Result<Config, MemberError> {
    let bytes = memfd::read_snapshot(snapshot, CONFIG_SNAPSHOT_BYTES_MAX)?;
    let text = String::from_utf8(bytes).map_err(|_| MemberError::Config)?;
    Config::from_snapshot(&text).map_err(|_| MemberError::Config)
}

/// The end of a member's life: what went wrong goes to the log, and the status to the supervisor.
pub fn end(result: Result<(), MemberError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("Error: A process of the broker ends: {e}.");
            ExitCode::FAILURE
        }
    }
}

/// What reading a record costs beside its bytes.
const RECORD_COST_BYTES: usize = 64;

const CONTROL: Token<slotmap::DefaultKey> = Token::Control;
const DOORBELL: Token<slotmap::DefaultKey> = Token::Doorbell;
