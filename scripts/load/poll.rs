//! One edge-triggered epoll set and, for paced load, one timer.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::Failure;

const EVENTS_PER_TURN: usize = 1024;
const TIMER: u64 = u64::MAX;

pub struct Poll {
    epoll: Epoll,
    events: Vec<EpollEvent>,
    timer: Option<TimerFd>,
}

/// What happened to the connection with this token.
#[derive(Clone, Copy)]
pub struct Ready {
    pub token: usize,
    pub readable: bool,
    pub writable: bool,
    /// The peer writes no more: a read that does not fill the buffer may have the end behind it.
    pub ended: bool,
}

impl Poll {
    pub fn new() -> Result<Self, Failure> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self {
            epoll,
            events: vec![EpollEvent::empty(); EVENTS_PER_TURN],
            timer: None,
        })
    }

    /// Reports everything about `fd` from now on, each change once.
    pub fn add(&self, fd: impl AsFd, token: usize) -> Result<(), Failure> {
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        Ok(self.epoll.add(fd, EpollEvent::new(flags, token as u64))?)
    }

    /// Ends a wait every `interval` from now on.
    pub fn tick(&mut self, interval: Duration) -> Result<(), Failure> {
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )?;
        timer.set(
            Expiration::Interval(TimeSpec::from_duration(interval)),
            TimerSetTimeFlags::empty(),
        )?;
        self.epoll
            .add(timer.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        self.timer = Some(timer);
        Ok(())
    }

    /// Waits at most `timeout_ms` and puts what is ready into `out`.
    pub fn wait(&mut self, timeout_ms: u16, out: &mut Vec<Ready>) -> Result<(), Failure> {
        out.clear();
        let n = match self
            .epoll
            .wait(&mut self.events, EpollTimeout::from(timeout_ms))
        {
            Ok(n) => n,
            Err(Errno::EINTR) => 0,
            Err(e) => return Err(e.into()),
        };
        for event in self.events.iter().take(n) {
            if event.data() == TIMER {
                // A periodic timer goes on only when its count was read.
                if let Some(timer) = &self.timer {
                    let _ = timer.wait();
                }
                continue;
            }
            let flags = event.events();
            let ended = flags
                .intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR | EpollFlags::EPOLLRDHUP);
            out.push(Ready {
                token: usize::try_from(event.data()).unwrap_or(usize::MAX),
                readable: ended || flags.contains(EpollFlags::EPOLLIN),
                writable: ended || flags.contains(EpollFlags::EPOLLOUT),
                ended,
            });
        }
        Ok(())
    }
}
