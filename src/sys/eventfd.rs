//! Doorbells: eventfds that one process rings and another waits for.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// A doorbell that nobody has rung: non-blocking, closed on exec.
pub fn create() -> io::Result<OwnedFd> {
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
    Ok(EventFd::from_value_and_flags(0, flags)?.into())
}

/// Rings it. A doorbell that has been rung 2^64 times without an answer stays rung, so "full" is success.
pub fn ring(doorbell: BorrowedFd<'_>) -> io::Result<()> {
    match nix::unistd::write(doorbell, &1u64.to_ne_bytes()) {
        Ok(_) | Err(nix::Error::EAGAIN) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Takes note of all rings so far, and says whether there was any.
pub fn clear(doorbell: BorrowedFd<'_>) -> io::Result<bool> {
    let mut count = [0; 8];
    match nix::unistd::read(doorbell, &mut count) {
        Ok(_) => Ok(true),
        Err(nix::Error::EAGAIN) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn many_rings_are_one() {
        let bell = create().unwrap();
        assert!(!clear(bell.as_fd()).unwrap());
        ring(bell.as_fd()).unwrap();
        ring(bell.as_fd()).unwrap();
        assert!(clear(bell.as_fd()).unwrap());
        assert!(!clear(bell.as_fd()).unwrap());
    }
}
