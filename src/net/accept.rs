//! Listening sockets: taking connections from their queues, a bounded number at a time.
//!
//! A worker accepts from its own sockets and from those that were lent to it while their worker is down. When
//! descriptors run out, accepting rests and the queues wait in the kernel: nothing is refused that could be served a
//! moment later.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use socket2::Socket;

use super::Token;
use crate::base::clock::Instant;
use crate::base::ids::MemberId;
use crate::base::limits::{
    ACCEPT_REST_MILLIS_MAX, ACCEPT_REST_MILLIS_MIN, ACCEPTS_PER_TURN, EXHAUSTION_EPISODE_SECS,
    LISTENING_SOCKETS_MAX,
};
use crate::sys::poll::{Interest, Poller};

/// Every socket that this process accepts from.
#[derive(Debug, Default)]
pub struct Listeners {
    /// A socket keeps its place until it is taken back.
    places: Vec<Option<Listening>>,
    rest: Rest,
}

#[derive(Debug)]
struct Listening {
    socket: Socket,
    listener: u16,
    lent_by: Option<MemberId>,
    port: u16,
    /// There may be connections in its queue.
    ready: bool,
}

/// A connection fresh from the queue; non-blocking, closed on exec.
#[derive(Debug)]
pub struct Accepted {
    pub socket: Socket,
    pub peer: SocketAddr,
    /// The number of the listener in the configuration.
    pub listener: u16,
    /// The local port.
    pub port: u16,
}

/// What came of trying to accept.
#[derive(Debug)]
pub enum Accept {
    One(Accepted),
    /// The queues are empty, or this turn's share is used.
    Nothing,
    /// Descriptors or memory have run out; accepting rests a little. `first`: it is worth a line in the log.
    Exhausted {
        first: bool,
    },
}

impl Listeners {
    /// Accepts from `socket` from now on.
    ///
    /// # Errors
    /// It is no listening socket, or there are too many.
    pub fn add(
        &mut self,
        listener: u16,
        lent_by: Option<MemberId>,
        socket: OwnedFd,
        poller: &Poller,
    ) -> io::Result<()> {
        let socket = Socket::from(socket);
        socket.set_nonblocking(true)?;
        // Accepted connections inherit it, which saves a system call for each. Output is gathered per turn, so
        // Nagle's algorithm would only delay what is complete already.
        if let Err(e) = socket.set_tcp_nodelay(true) {
            debug_assert!(e.kind() != io::ErrorKind::InvalidInput, "{e}");
        }
        let port = socket.local_addr()?.as_socket().map_or(0, |a| a.port());
        let free = self.places.iter().position(Option::is_none);
        let place = free.unwrap_or(self.places.len());
        if place >= LISTENING_SOCKETS_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let number = u32::try_from(place).map_err(io::Error::other)?;
        let token = Token::<slotmap::DefaultKey>::Listener(number).pack();
        poller.add(socket.as_fd(), token, Interest::Read)?;
        let listening = Some(Listening {
            socket,
            listener,
            lent_by,
            port,
            ready: true,
        });
        match self.places.get_mut(place) {
            Some(free) => *free = listening,
            None => self.places.push(listening),
        }
        Ok(())
    }

    /// Accepts no longer from what `from` lent.
    pub fn take_back(&mut self, from: MemberId, poller: &Poller) {
        self.retain(poller, |listening| listening.lent_by != Some(from));
    }

    /// Accepts no longer from anything.
    pub fn close(&mut self, poller: &Poller) {
        self.retain(poller, |_| false);
    }

    fn retain(&mut self, poller: &Poller, keep: impl Fn(&Listening) -> bool) {
        for place in &mut self.places {
            if let Some(gone) = place.take_if(|listening| !keep(listening)) {
                // The supervisor holds the same socket open, so closing ours does not end the registration.
                // It can only fail when there is none.
                let _ = poller.remove(gone.socket.as_fd());
            }
        }
    }

    /// Whether there is any socket to accept from.
    pub fn is_empty(&self) -> bool {
        self.places.iter().all(Option::is_none)
    }

    /// The poller says that the queue of the socket in `place` has something.
    pub fn ready(&mut self, place: u32) {
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        if let Some(Some(listening)) = self.places.get_mut(place) {
            listening.ready = true;
        }
    }

    /// Whether [`Listeners::accept`] may find something now.
    pub fn has_work(&self, now: Instant) -> bool {
        !self.rest.is_resting(now) && self.places.iter().flatten().any(|l| l.ready)
    }

    /// When accepting goes on, if it rests.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.rest.until
    }

    /// Takes one connection. Call it with a new `share` each turn, until there is nothing.
    pub fn accept(&mut self, share: &mut Share, now: Instant) -> Accept {
        if self.rest.is_resting(now) {
            return Accept::Nothing;
        }
        self.rest.until = None;
        while let Some(place) = self.places.get_mut(share.place) {
            let Some(listening) = place.as_mut().filter(|l| l.ready && share.left > 0) else {
                *share = Share::starting_at(share.place + 1);
                continue;
            };
            share.left -= 1;
            match listening.accept() {
                Ok(accepted) => {
                    self.rest.over();
                    return Accept::One(accepted);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => listening.ready = false,
                Err(e) if is_exhausted(&e) => return self.exhausted(now),
                // The connection is gone already (ECONNABORTED, or an error of the network that waited in the
                // queue); the next one may be well.
                Err(_) => {}
            }
        }
        Accept::Nothing
    }

    /// The caller cannot take more connections: as if accepting had failed.
    pub fn exhausted(&mut self, now: Instant) -> Accept {
        Accept::Exhausted {
            first: self.rest.begin(now),
        }
    }
}

impl Listening {
    fn accept(&self) -> io::Result<Accepted> {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let (socket, peer) = self.socket.accept4(flags)?;
        let peer = peer.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        Ok(Accepted {
            socket,
            peer,
            listener: self.listener,
            port: self.port,
        })
    }
}

/// How far one turn's accepting has come: every socket gets [`ACCEPTS_PER_TURN`].
#[derive(Debug)]
pub struct Share {
    place: usize,
    left: usize,
}

impl Share {
    /// A new turn.
    pub fn new() -> Self {
        Self::starting_at(0)
    }

    fn starting_at(place: usize) -> Self {
        Self {
            place,
            left: ACCEPTS_PER_TURN,
        }
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::new()
    }
}

fn is_exhausted(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

/// The pauses while descriptors are short. Somebody who goes lets another one in, and the limit is reached again: all
/// that is one episode.
#[derive(Debug, Default)]
struct Rest {
    until: Option<Instant>,
    /// How long the last pause was; 0 when accepting has worked since.
    millis: u64,
    /// When the last pause began.
    last: Option<Instant>,
}

impl Rest {
    fn is_resting(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Starts a pause, twice as long as the last; true if it is the first of its episode.
    fn begin(&mut self, now: Instant) -> bool {
        let episode = Duration::from_secs(EXHAUSTION_EPISODE_SECS);
        let goes_on = |last: Instant| now.since(last) < episode;
        let first = !self.last.replace(now).is_some_and(goes_on);
        self.millis = (self.millis * 2).clamp(ACCEPT_REST_MILLIS_MIN, ACCEPT_REST_MILLIS_MAX);
        self.until = Some(now.after_millis(self.millis));
        first
    }

    fn over(&mut self) {
        self.until = None;
        self.millis = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};

    fn listening(listeners: &mut Listeners, poller: &Poller, lent_by: Option<MemberId>) -> u16 {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        listeners.add(3, lent_by, socket.into(), poller).unwrap();
        port
    }

    fn drain(listeners: &mut Listeners, now: Instant) -> Vec<Accepted> {
        let mut share = Share::new();
        std::iter::from_fn(|| match listeners.accept(&mut share, now) {
            Accept::One(accepted) => Some(accepted),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn a_turn_takes_a_bounded_number_and_the_next_one_goes_on() {
        let (poller, mut listeners) = (Poller::new(8).unwrap(), Listeners::default());
        let port = listening(&mut listeners, &poller, None);
        let clients: Vec<_> = (0..ACCEPTS_PER_TURN + 5)
            .map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap())
            .collect();
        let first = drain(&mut listeners, Instant(0));
        assert_eq!(first.len(), ACCEPTS_PER_TURN);
        assert_eq!((first[0].listener, first[0].port), (3, port));
        assert_eq!(first[0].peer, clients[0].local_addr().unwrap());
        assert!(listeners.has_work(Instant(0)));
        assert_eq!(drain(&mut listeners, Instant(0)).len(), 5);
        assert!(!listeners.has_work(Instant(0)));
    }

    #[test]
    fn accepted_connections_never_block_and_never_wait_for_more_to_send() {
        let (poller, mut listeners) = (Poller::new(8).unwrap(), Listeners::default());
        let port = listening(&mut listeners, &poller, None);
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let accepted = drain(&mut listeners, Instant(0)).pop().unwrap();
        assert!(accepted.socket.tcp_nodelay().unwrap());
        let error = (&accepted.socket).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_was_lent_is_taken_back_and_its_events_end() {
        let (mut poller, mut listeners) = (Poller::new(8).unwrap(), Listeners::default());
        let sibling = MemberId::worker(1).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let held_by_supervisor = socket.try_clone().unwrap();
        let port = socket.local_addr().unwrap().port();
        let own = listening(&mut listeners, &poller, None);
        listeners
            .add(0, Some(sibling), socket.into(), &poller)
            .unwrap();
        listeners.take_back(sibling, &poller);
        let _lent = TcpStream::connect(("127.0.0.1", port)).unwrap();
        poller.wait(Some(Duration::ZERO)).unwrap();
        assert!(poller.is_empty());
        let _own = TcpStream::connect(("127.0.0.1", own)).unwrap();
        assert_eq!(drain(&mut listeners, Instant(0)).len(), 1);
        assert!(held_by_supervisor.accept().is_ok());
    }

    #[test]
    fn an_episode_of_exhaustion_is_told_once_and_rests_longer_each_time() {
        let mut rest = Rest::default();
        assert!(rest.begin(Instant(0)));
        assert!(rest.is_resting(Instant(0).after_millis(99)));
        assert!(!rest.is_resting(Instant(0).after_millis(100)));
        assert!(!rest.begin(Instant(0)));
        assert!(rest.is_resting(Instant(0).after_millis(199)));
        for _ in 0..5 {
            assert!(!rest.begin(Instant(0)));
        }
        assert!(!rest.is_resting(Instant(0).after_millis(1000)));
        rest.over();
        assert!(!rest.begin(Instant(0).after_secs(9)));
        assert!(rest.is_resting(Instant(0).after_millis(9_099)));
        assert!(!rest.is_resting(Instant(0).after_millis(9_100)));
        assert!(rest.begin(Instant(0).after_secs(19)));
    }
}
