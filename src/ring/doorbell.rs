//! An eventfd that wakes a member out of its poll.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd;

use super::memory::Bell;

/// The doorbell of a member: it hears, the others ring.
pub struct Doorbell {
    eventfd: OwnedFd,
}

/// A new doorbell, for a new incarnation of a member.
pub fn create_doorbell() -> io::Result<OwnedFd> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    Ok(EventFd::from_flags(flags)?.into())
}

impl Doorbell {
    /// The doorbell behind what [`create_doorbell`] made.
    pub fn new(eventfd: OwnedFd) -> Self {
        Self { eventfd }
    }
}

impl Bell for Doorbell {
    fn ring(&self) {
        // It fails when so many rings wait that the counter is full: then it is readable anyway.
        let _ = unistd::write(&self.eventfd, &1u64.to_ne_bytes());
    }

    fn hush(&self) {
        // It fails when nobody has rung, which is as good.
        let _ = unistd::read(&self.eventfd, &mut [0; 8]);
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}
