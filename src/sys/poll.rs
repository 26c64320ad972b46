//! Waiting for descriptors: epoll with one reused buffer.
//!
//! Registration is edge-triggered unless asked otherwise: who is told that a socket is readable reads until there is
//! nothing left, or remembers that there is.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// What to be told about a descriptor. Errors and hang-ups are always told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// Something new to read, once.
    Read,
    /// Something new to read, or room to write again, once each.
    ReadWrite,
    /// Room to write again, once.
    Write,
    /// Told again in every wait, as long as there is something to read.
    ReadLevel,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Self::Read => EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET,
            Self::Write => EpollFlags::EPOLLOUT | EpollFlags::EPOLLET,
            Self::ReadWrite => Self::Read.flags() | EpollFlags::EPOLLOUT,
            Self::ReadLevel => EpollFlags::EPOLLIN,
        }
    }
}

/// A descriptor that something happened to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    /// As it was registered.
    pub token: u64,
    /// Reading gets bytes, the end, or an error.
    pub readable: bool,
    /// Writing gets somewhere, or an error.
    pub writable: bool,
    /// The other side writes no more (RDHUP), or the connection is over; there may be bytes to read before that.
    pub hung_up: bool,
}

/// A set of descriptors to wait for. A descriptor leaves it when it is closed.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
    filled: usize,
}

impl Poller {
    /// An empty set that reports up to `events_max` descriptors in one wait.
    pub fn new(events_max: usize) -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            events: vec![EpollEvent::empty(); events_max.max(1)],
            filled: 0,
        })
    }

    /// Adds a descriptor, to be reported as `token`.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self
            .epoll
            .add(fd, EpollEvent::new(interest.flags(), token))?)
    }

    /// Changes what is reported. What is true already is reported again by the next wait.
    pub fn modify(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        let mut event = EpollEvent::new(interest.flags(), token);
        Ok(self.epoll.modify(fd, &mut event)?)
    }

    /// Takes a descriptor out; needed only when it, or a copy of it elsewhere, stays open.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(self.epoll.delete(fd)?)
    }

    /// Waits until something happens or `timeout` has passed (`None`: however long it takes). A signal ends the
    /// wait with nothing to report. Rounded up to milliseconds, so that a timer has passed when its wait is over.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = match timeout {
            None => EpollTimeout::NONE,
            Some(time) => {
                let millis = time.as_nanos().div_ceil(1_000_000);
                EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::MAX)
            }
        };
        self.filled = 0;
        match self.epoll.wait(&mut self.events, timeout) {
            Ok(n) => self.filled = n,
            Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    /// How many descriptors the last wait reported.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether the last wait reported nothing.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Number `at` of what the last wait reported. By number, so that the caller may add and remove meanwhile.
    pub fn ready(&self, at: usize) -> Option<Ready> {
        let event = self.events.get(..self.filled)?.get(at)?;
        let flags = event.events();
        let over = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        Some(Ready {
            token: event.data(),
            readable: flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | over),
            writable: flags.intersects(EpollFlags::EPOLLOUT | over),
            hung_up: flags.intersects(EpollFlags::EPOLLRDHUP | over),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn an_edge_is_told_once_and_a_level_again() {
        for (interest, again) in [(Interest::Read, 0), (Interest::ReadLevel, 1)] {
            let (mut near, mut far) = UnixStream::pair().unwrap();
            let mut poller = Poller::new(8).unwrap();
            poller.add(near.as_fd(), 7, interest).unwrap();
            poller.wait(Some(Duration::ZERO)).unwrap();
            assert!(poller.is_empty());
            far.write_all(b"x").unwrap();
            poller.wait(None).unwrap();
            let ready = poller.ready(0).unwrap();
            assert_eq!(
                (ready.token, ready.readable, ready.hung_up),
                (7, true, false)
            );
            poller.wait(Some(Duration::ZERO)).unwrap();
            assert_eq!(poller.len(), again);
            near.read_exact(&mut [0]).unwrap();
            drop(far);
            poller.wait(None).unwrap();
            assert!(poller.ready(0).unwrap().readable);
        }
    }

    #[test]
    fn a_wait_is_not_shorter_than_asked() {
        let mut poller = Poller::new(1).unwrap();
        let start = std::time::Instant::now();
        poller.wait(Some(Duration::from_micros(1500))).unwrap();
        assert!(start.elapsed() >= Duration::from_micros(1500));
    }
}
