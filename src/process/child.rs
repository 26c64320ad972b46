//! What every child does first, in this order: title, wire, user, capabilities, no new privileges, hidden memory,
//! signals, loop.
//!
//! Until the last step nothing is read but the supervisor's first message.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use crate::base::clock::Instant;
use crate::base::ids::{Incarnation, MemberId};
use crate::base::limits::CHILD_HELLO_WITHIN_SECS;
use crate::base::log::Log;
use crate::ipc::control::{Channel, ControlError, ToChild};
use crate::sys::poll::{Interest, Poller};
use crate::sys::users::Identity;
use crate::sys::{privileges, process, signals};

/// What the titles of children start with; the role follows.
pub const TITLE_PREFIX: &str = "mosquitto: ";

/// What a child's loop starts with. It maps `outbox` and `cursors`, and then says `Mapped`.
#[derive(Debug)]
pub struct Child {
    pub member: MemberId,
    pub incarnation: Incarnation,
    /// Keys the hashes of topics and filters for this start of the broker.
    pub hash_key: [u64; 2],
    pub ring_bytes: u32,
    /// The sealed configuration snapshot.
    pub config: OwnedFd,
    pub outbox: OwnedFd,
    pub cursors: OwnedFd,
    pub doorbell: OwnedFd,
    /// The way to the supervisor. When it closes, finish what is acknowledged and end.
    pub control: Channel,
}

/// What control's loop starts with. It maps `page` and `ledger`, and then says `Mapped`.
#[derive(Debug)]
pub struct ControlChild {
    pub incarnation: Incarnation,
    /// When the broker started.
    pub started: Instant,
    /// The sealed configuration snapshot.
    pub config: OwnedFd,
    /// Its own page, where its heart beats.
    pub page: OwnedFd,
    /// What dead members counted.
    pub ledger: OwnedFd,
    /// The way to the supervisor. When it closes, end.
    pub control: Channel,
}

enum Newborn {
    Member(Child),
    Control(ControlChild),
}

/// The life of a child.
pub fn run() -> ExitCode {
    let child = match enter() {
        Ok(Newborn::Member(child)) => child,
        Ok(Newborn::Control(child)) => return super::control::run(child),
        Err(e) => {
            eprintln!("Error: A process of the broker cannot start: {e}.");
            return ExitCode::FAILURE;
        }
    };
    if child.member == MemberId::STORE {
        super::store::run(child)
    } else {
        super::worker::run(child)
    }
}

/// The numbered steps.
fn enter() -> Result<Newborn, EnterError> {
    // 1. Title: `ps` shows the first argument, which the supervisor chose; this is for `top` and `killall`.
    step("title", privileges::set_comm(c"mosquitto"))?;
    // 2. Wire: the control channel, and the one message that says who this is.
    let (child, user) = wire()?;
    // 3. Groups and user.
    privileges::drop_bounding_set();
    if let Some(user) = user {
        step("user", privileges::become_user(user))?;
    }
    // 4. Capabilities.
    step("capabilities", privileges::drop_capabilities())?;
    // 5. No new privileges.
    step("no new privileges", privileges::set_no_new_privs())?;
    // 6. Nobody looks into this memory, dead or alive.
    step("hidden memory", privileges::hide_memory())?;
    // 7. Signals from outside mean nothing here.
    step("signals", signals::ignore_from_outside())?;
    Ok(child)
}

fn wire() -> Result<(Newborn, Option<Identity>), EnterError> {
    let control = process::take_control().map_err(|_| EnterError::NoSupervisor)?;
    let mut control = Channel::new(control);
    let mut poller = Poller::new(1).map_err(|e| EnterError::Step("wire", e))?;
    step("wire", poller.add(control.as_fd(), 0, Interest::ReadLevel))?;
    let first = loop {
        if let Some(message) = control.receive().map_err(EnterError::Control)? {
            break message;
        }
        let patience = Duration::from_secs(CHILD_HELLO_WITHIN_SECS);
        step("wire", poller.wait(Some(patience)))?;
        if poller.is_empty() {
            return Err(EnterError::NoSupervisor);
        }
    };
    match first {
        ToChild::Hello {
            role: _,
            member,
            incarnation,
            hash_key,
            ring_bytes,
            become_user,
            config,
            outbox,
            cursors,
            doorbell,
        } => {
            let child = Child {
                member,
                incarnation,
                hash_key,
                ring_bytes,
                config,
                outbox,
                cursors,
                doorbell,
                control,
            };
            Ok((Newborn::Member(child), become_user))
        }
        ToChild::HelloControl {
            incarnation,
            started,
            become_user,
            config,
            page,
            ledger,
        } => {
            let child = ControlChild {
                incarnation,
                started,
                config,
                page,
                ledger,
                control,
            };
            Ok((Newborn::Control(child), become_user))
        }
        _ => Err(EnterError::NotHello),
    }
}

fn step<T>(name: &'static str, result: io::Result<T>) -> Result<T, EnterError> {
    result.map_err(|e| EnterError::Step(name, e))
}

/// Writes what a child has logged into its pipe, as far as it goes without waiting; the rest stays.
pub fn write_log(log: &mut Log) {
    while !log.pending().is_empty() {
        match nix::unistd::write(io::stderr(), log.pending().as_bytes()) {
            Ok(written) => log.consume(written),
            Err(nix::Error::EINTR) => {}
            Err(nix::Error::EAGAIN) => return,
            // Nobody reads any more: the supervisor is gone, and this process will be soon.
            Err(_) => return log.consume(usize::MAX),
        }
    }
}

/// Why a child ends before its loop.
#[derive(Debug)]
enum EnterError {
    NoSupervisor,
    NotHello,
    Control(ControlError),
    Step(&'static str, io::Error),
}

impl fmt::Display for EnterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSupervisor => f.write_str("only a running broker can start it"),
            Self::NotHello => f.write_str("the first control message is not a greeting"),
            Self::Control(e) => e.fmt(f),
            Self::Step(name, e) => write!(f, "{name}: {e}"),
        }
    }
}
