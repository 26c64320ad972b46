//! The child processes: what the supervisor holds of each, and how it performs what membership decides.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;

use nix::fcntl::OFlag;

use super::destinations::{ChildLog, Destinations};
use super::heartbeat::{Heart, Look, Verdict};
use super::membership::{Who, Word};
use crate::base::clock::Instant;
use crate::base::figures::Figures;
use crate::base::ids::Incarnation;
use crate::ipc::control::{Channel, ControlError, Role, ToChild, ToSupervisor};
use crate::process::child::TITLE_PREFIX;
use crate::ring::{self, MemberPage, Seal};
use crate::sys::poll::{Interest, Poller};
use crate::sys::process::{self, ProcessId, Spawn};
use crate::sys::seqpacket;
use crate::sys::users::Identity;

type Shared = Rc<OwnedFd>;

/// What is the same for every child.
#[derive(Debug)]
pub struct Common {
    /// The binary that runs now.
    pub program: OwnedFd,
    pub environment: Vec<CString>,
    pub hash_key: [u64; 2],
    pub ring_bytes: u32,
    pub become_user: Option<Identity>,
    /// The configuration, sealed.
    pub config: Shared,
    /// When the broker started.
    pub started: Instant,
}

/// Which process a child is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    Member(Who),
    Control(Incarnation),
}

impl Whose {
    /// No two processes share it.
    pub fn incarnation(self) -> Incarnation {
        match self {
            Self::Member(who) => who.incarnation,
            Self::Control(incarnation) => incarnation,
        }
    }

    /// What it is started as.
    pub fn role(self) -> Role {
        match self {
            Self::Member(who) => Role::of(who.member),
            Self::Control(_) => Role::Control,
        }
    }
}

/// One child process.
pub struct ChildProcess {
    pub whose: Whose,
    pub pid: ProcessId,
    /// It was told to end, so that its end is no news.
    pub told_to_stop: bool,
    channel: Channel<Shared>,
    log: ChildLog,
    log_ended: bool,
    /// Its cursor page; of a process that is no member, only its heart is in there.
    cursors: Shared,
    /// What only a member has.
    mesh: Option<MeshParts>,
    heart: Heart,
    page: Option<MemberPage>,
}

struct MeshParts {
    outbox: Shared,
    doorbell: Shared,
}

/// Which of a child's descriptors is ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    Control,
    Log,
}

impl Source {
    fn token(self, whose: Whose) -> u64 {
        let source = match self {
            Self::Control => 1u64,
            Self::Log => 2,
        };
        // Incarnations are never reused, so a token never means another child.
        source << 32 | u64::from(whose.incarnation().0)
    }

    /// What was registered as `token`: the source, and the child's incarnation.
    pub fn of(token: u64) -> Option<(Self, u32)> {
        let incarnation = u32::try_from(token & u64::from(u32::MAX)).ok()?;
        match token >> 32 {
            1 => Some((Self::Control, incarnation)),
            2 => Some((Self::Log, incarnation)),
            _ => None,
        }
    }
}

impl ChildProcess {
    /// Makes what is a member's own, starts it, and greets it.
    pub fn start_member(who: Who, common: &Common, poller: &Poller) -> io::Result<Self> {
        let outbox = Rc::new(ring::create_outbox(common.ring_bytes)?);
        let doorbell = Rc::new(ring::create_doorbell()?);
        let mut child = Self::spawn(Whose::Member(who), common)?;
        let hello = ToChild::Hello {
            role: Role::of(who.member),
            member: who.member,
            incarnation: who.incarnation,
            hash_key: common.hash_key,
            ring_bytes: common.ring_bytes,
            become_user: common.become_user,
            config: common.config.clone(),
            outbox: outbox.clone(),
            cursors: child.cursors.clone(),
            doorbell: doorbell.clone(),
        };
        child.mesh = Some(MeshParts { outbox, doorbell });
        child.greet(hello, poller)
    }

    /// Starts control, and greets it.
    pub fn start_control(
        incarnation: Incarnation,
        ledger: Shared,
        common: &Common,
        poller: &Poller,
    ) -> io::Result<Self> {
        let child = Self::spawn(Whose::Control(incarnation), common)?;
        let hello = ToChild::HelloControl {
            incarnation,
            started: common.started,
            become_user: common.become_user,
            config: common.config.clone(),
            page: child.cursors.clone(),
            ledger,
        };
        child.greet(hello, poller)
    }

    fn spawn(whose: Whose, common: &Common) -> io::Result<Self> {
        let cursors = Rc::new(ring::create_cursors()?);
        let (ours, theirs) = seqpacket::pair()?;
        // Neither side ever waits for the other.
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let title = CString::new(format!("{TITLE_PREFIX}{}", whose.role()))?;
        let pid = Spawn {
            program: common.program.as_fd(),
            title: &title,
            environment: &common.environment,
            log: writer.as_fd(),
            control: theirs.as_fd(),
        }
        .start()?;
        Ok(Self {
            whose,
            pid,
            told_to_stop: false,
            channel: Channel::new(ours),
            log: ChildLog::new(reader.into()),
            log_ended: false,
            cursors,
            mesh: None,
            heart: Heart::default(),
            page: None,
        })
    }

    fn greet(mut self, hello: ToChild<Shared>, poller: &Poller) -> io::Result<Self> {
        let told = self.channel.tell(hello).map_err(io::Error::other);
        let greeted = told.and_then(|()| {
            let control = Source::Control.token(self.whose);
            let log = Source::Log.token(self.whose);
            poller.add(self.channel.as_fd(), control, Interest::ReadLevel)?;
            poller.add(self.log.as_fd(), log, Interest::ReadLevel)
        });
        if let Err(e) = greeted {
            process::kill_now(self.pid);
            return Err(e);
        }
        Ok(self)
    }

    /// Seals what the child has mapped. From now on it may be handed to others, and the heart can be seen.
    pub fn seal(&mut self) -> io::Result<Seal> {
        let cursors = ring::seal(self.cursors.as_fd())?;
        let outbox = match &self.mesh {
            Some(mesh) => ring::seal(mesh.outbox.as_fd())?,
            None => Seal::Whole,
        };
        self.page = Some(MemberPage::map(self.cursors.as_fd())?);
        Ok(match (cursors, outbox) {
            (Seal::Whole, Seal::Whole) => Seal::Whole,
            _ => Seal::SizeOnly,
        })
    }

    /// What other members get of this member.
    pub fn as_peer(&self, ring_bytes: u32) -> Option<ToChild<Shared>> {
        let (Whose::Member(who), Some(mesh)) = (self.whose, &self.mesh) else {
            return None;
        };
        Some(ToChild::Peer {
            member: who.member,
            incarnation: who.incarnation,
            ring_bytes,
            outbox: mesh.outbox.clone(),
            cursors: self.cursors.clone(),
            doorbell: mesh.doorbell.clone(),
        })
    }

    /// What control gets of this member, once it is sealed.
    pub fn as_page(&self) -> Option<ToChild<Shared>> {
        let (Whose::Member(who), Some(_)) = (self.whose, &self.page) else {
            return None;
        };
        Some(ToChild::Page {
            member: who.member,
            incarnation: who.incarnation,
            page: self.cursors.clone(),
        })
    }

    /// What it counted, as it last told.
    pub fn figures(&mut self) -> Option<&Figures> {
        self.page.as_mut().map(MemberPage::figures)
    }

    /// Sends a message, or queues it while the child does not read.
    pub fn tell(&mut self, message: ToChild<Shared>) -> Result<(), ControlError> {
        self.channel.tell(message)
    }

    /// Sends a message without descriptors.
    pub fn tell_word(&mut self, word: Word) -> Result<(), ControlError> {
        self.told_to_stop |= word == Word::Stop;
        self.tell(match word {
            Word::Welcome => ToChild::Welcome,
            Word::PeerGone(who) => ToChild::PeerGone {
                member: who.member,
                incarnation: who.incarnation,
            },
            Word::PeerRemoved(who) => ToChild::PeerRemoved {
                member: who.member,
                incarnation: who.incarnation,
            },
            Word::TakeBack(from) => ToChild::TakeBack { from },
            Word::Quiesce => ToChild::Quiesce,
            Word::Stop => ToChild::Stop,
        })
    }

    /// Its next message, if there is one.
    pub fn hear(&mut self) -> Result<Option<ToSupervisor>, ControlError> {
        self.channel.hear()
    }

    /// Sends what is queued.
    pub fn flush(&mut self) -> Result<(), ControlError> {
        self.channel.flush()
    }

    /// Whether something is queued.
    pub fn has_queued(&self) -> bool {
        self.channel.has_queued()
    }

    /// Passes on what it logged.
    pub fn read_log(&mut self, poller: &Poller, to: &mut Destinations) {
        if !self.log_ended && !self.log.read(to) {
            self.log_ended = true;
            let _ = poller.remove(self.log.as_fd());
        }
    }

    /// No more is heard from it until it is gone.
    pub fn stop_listening(&self, poller: &Poller) {
        let _ = poller.remove(self.channel.as_fd());
    }

    /// It is gone: passes on its last words, and lets go of everything.
    pub fn finish(self, poller: &Poller, to: &mut Destinations) {
        self.stop_listening(poller);
        if !self.log_ended {
            let _ = poller.remove(self.log.as_fd());
        }
        self.log.finish(to);
    }

    /// One look at its heart.
    pub fn look(&mut self, look: Look) -> Verdict {
        let Some(page) = &self.page else {
            return Verdict::Well;
        };
        let time = process::processor_time(self.pid);
        self.heart.look(page.beats(), look, time)
    }

    /// Another member says that this one holds it up: whether to believe it.
    pub fn is_to_blame(&mut self) -> bool {
        self.heart.is_to_blame()
    }
}
