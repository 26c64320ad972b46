//! Closed connections whose client has not taken the last packet yet.
//!
//! Closing a socket that has unread input makes the kernel send a reset, and a reset makes the client's kernel drop
//! what the client has not read: the reason of the DISCONNECT is lost. So our side is closed first, what still comes
//! is thrown away, and the socket goes when the client has closed too, or soon after.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _};
use std::net::Shutdown;
use std::os::fd::AsFd;

use socket2::Socket;

use super::Token;
use super::connections::{Progress, write_some};
use super::output::Output;
use crate::base::clock::Instant;
use crate::base::limits::{LINGER_BYTES_MAX, LINGER_MILLIS, LINGERING_SOCKETS_MAX};
use crate::sys::poll::{Interest, Poller};

/// The sockets that are kept a little, oldest first.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    sockets: VecDeque<Lingerer>,
    next_place: u32,
}

#[derive(Debug)]
struct Lingerer {
    place: u32,
    socket: Socket,
    until: Instant,
    /// What is to be written before our side is closed.
    rest: Output,
    /// Bytes that came since, and were thrown away.
    discarded: usize,
    /// The client has closed its side.
    ended: bool,
    /// Our side is closed.
    shut: bool,
}

impl Lingering {
    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Keeps `socket` until `rest` is written and the client has closed, if that takes any time at all.
    /// `ended`: the client has closed its side already.
    pub(super) fn add(
        &mut self,
        socket: Socket,
        rest: Output,
        ended: bool,
        now: Instant,
        poller: &Poller,
    ) {
        if rest.len() > LINGER_BYTES_MAX {
            return;
        }
        let place = self.next_place;
        let mut lingerer = Lingerer {
            place,
            socket,
            until: now.after_millis(LINGER_MILLIS),
            rest,
            discarded: 0,
            ended,
            shut: false,
        };
        if lingerer.go_on() {
            return;
        }
        self.next_place = self.next_place.wrapping_add(1) & PLACES_MASK;
        let token = Token::<slotmap::DefaultKey>::Lingering(place).pack();
        let fd = lingerer.socket.as_fd();
        if poller.modify(fd, token, Interest::ReadWrite).is_err() {
            return;
        }
        if self.sockets.len() >= LINGERING_SOCKETS_MAX {
            self.sockets.pop_front();
        }
        self.sockets.push_back(lingerer);
    }

    /// The poller says that something happened to the socket in `place`, which may be gone.
    pub(super) fn ready(&mut self, place: u32) {
        let Some(at) = self.sockets.iter().position(|l| l.place == place) else {
            return;
        };
        if self.sockets.get_mut(at).is_some_and(Lingerer::go_on) {
            self.sockets.remove(at);
        }
    }

    /// Cuts off those whose time is over.
    pub(super) fn tick(&mut self, now: Instant) {
        while self.sockets.front().is_some_and(|l| l.until <= now) {
            self.sockets.pop_front();
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.sockets.front().map(|l| l.until)
    }
}

impl Lingerer {
    /// Goes as far as it can without waiting; true when the socket can be closed.
    fn go_on(&mut self) -> bool {
        match write_some(&self.socket, &mut self.rest, usize::MAX) {
            Ok(Progress::Done) if !self.shut => {
                self.shut = true;
                if self.socket.shutdown(Shutdown::Write).is_err() {
                    return true;
                }
            }
            Ok(_) => {}
            Err(_) => return true,
        }
        self.discard();
        (self.ended && self.shut) || self.discarded > LINGER_BYTES_MAX
    }

    fn discard(&mut self) {
        let mut buffer = [0; 4096];
        while !self.ended && self.discarded <= LINGER_BYTES_MAX {
            match (&self.socket).read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(n) => self.discarded += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.ended = true,
            }
        }
    }
}

/// Places are numbered anew after so many; long before that the first ones are free again.
const PLACES_MASK: u32 = 0x00ff_ffff;
