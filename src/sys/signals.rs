//! Signals as something to read, and signals that do nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

pub use nix::sys::signal::Signal as Number;

/// What an administrator may send to every process of the broker at once, and a writer to a closed pipe to itself.
const FROM_OUTSIDE: [Signal; 6] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGPIPE,
];

/// The signals that the supervisor lives by, read instead of delivered.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// From now on they wait until they are read.
    pub fn take() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for number in FROM_OUTSIDE {
            set.add(number);
        }
        set.remove(Signal::SIGPIPE);
        set.add(Signal::SIGCHLD);
        set.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self {
            fd: SignalFd::with_flags(&set, flags)?,
        })
    }

    /// The next one that came. Several of one kind may have become one.
    pub fn take_next(&mut self) -> io::Result<Option<Signal>> {
        let Some(info) = self.fd.read_signal()? else {
            return Ok(None);
        };
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        Ok(Signal::try_from(number).ok())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What reaches a child from outside does nothing from now on, through exec too. Whatever was blocked is not any
/// more, in this order, so that there is no moment in which one could end the process.
pub fn ignore_from_outside() -> io::Result<()> {
    for number in FROM_OUTSIDE {
        // SAFETY: no handler of ours is called, so no code of ours runs at a bad moment.
        unsafe { signal(number, SigHandler::SigIgn) }?;
    }
    // Ignored in the supervisor's parent, perhaps; a child that waits for nothing needs the default.
    // SAFETY: as above.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    SigSet::empty().thread_set_mask()?;
    Ok(())
}
