//! A client and its connection: moves bytes between the two, and waits.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::options::Options;
use super::screen::Screen;
use super::transport::{ConnectError, Stream, Target};
use crate::base::clock::Instant;
use crate::base::log::LogMask;
use crate::client::{Client, Event, Settings};
use crate::sys::clock;

/// A client, its transport if it has one, and what came and is not read yet.
pub(super) struct Link {
    pub client: Client,
    target: Target,
    stream: Option<Stream>,
    input: Vec<u8>,
    /// Bytes of `input` that are filled.
    filled: usize,
}

/// What to wait for besides the connection.
#[derive(Default)]
pub(super) struct Watch<'fd> {
    /// Told when it can be read.
    pub input: Option<BorrowedFd<'fd>>,
    /// Told when nobody reads it any more.
    pub output: Option<BorrowedFd<'fd>>,
    /// Told when it can be read.
    pub signals: Option<BorrowedFd<'fd>>,
    /// Wait no longer than this.
    pub until: Option<Instant>,
}

/// What there is.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Ready {
    pub input: bool,
    pub output_broken: bool,
    pub signals: bool,
}

impl Link {
    pub(super) fn new(options: &Options, settings: Settings) -> Self {
        let mut client = Client::new(settings);
        if options.debug {
            client.log().set_mask(LogMask::ALL);
        }
        Self {
            client,
            target: Target::new(options),
            stream: None,
            input: Vec::new(),
            filled: 0,
        }
    }

    /// Connects. Whatever connection there was is gone.
    pub(super) fn connect(
        &mut self,
        interrupt: Option<BorrowedFd<'_>>,
    ) -> Result<(), ConnectError> {
        self.drop_connection();
        self.stream = Some(self.target.connect(interrupt)?);
        self.client.connected(clock::now());
        Ok(())
    }

    pub(super) fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Ends the connection as it is.
    pub(super) fn drop_connection(&mut self) {
        self.stream = None;
        self.filled = 0;
        self.client.lost();
    }

    /// Handles what has come, and lets time pass. `handle` is given each event.
    pub(super) fn each_event(
        &mut self,
        screen: &mut Screen,
        mut handle: impl FnMut(&mut Screen, &mut Client, Event<'_>),
    ) {
        let now = clock::now();
        self.client.advance(now);
        let mut used = 0;
        loop {
            let rest = self.input.get(used..self.filled).unwrap_or_default();
            let (read, event) = if rest.is_empty() {
                (0, self.client.next_event())
            } else {
                self.client.read(rest, now)
            };
            used += read;
            screen.debug(&mut self.client);
            let Some(event) = event else { break };
            handle(screen, &mut self.client, event);
            screen.debug(&mut self.client);
            screen.flush_if_large();
        }
        self.input.copy_within(used..self.filled, 0);
        self.filled -= used;
        if self.filled == 0 && self.input.len() > INPUT_BYTES_KEPT {
            self.input = Vec::new();
        }
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    /// The connection is gone.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        while !self.client.output().is_empty() {
            match stream.write(self.client.output()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.client.wrote(written, clock::now()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what the socket has, as far as one buffer goes.
    ///
    /// # Errors
    /// The connection is gone: an end is `UnexpectedEof`.
    pub(super) fn read(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        if self.filled == self.input.len() {
            // What is here is less than a packet. The client refuses packets that are too large, so this ends.
            let len = (self.input.len() * 2).max(INPUT_BYTES);
            self.input.resize(len, 0);
        }
        let room = self.input.get_mut(self.filled..).unwrap_or_default();
        match stream.read(room) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                self.filled += read;
                Ok(())
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until something can be done, does what concerns the connection, and says what else there is.
    ///
    /// # Errors
    /// The connection is gone. What came before is to be handled still.
    pub(super) fn wait(&mut self, watch: &Watch<'_>) -> io::Result<Ready> {
        let interest = match self.client.output().is_empty() {
            true => PollFlags::POLLIN,
            false => PollFlags::POLLIN | PollFlags::POLLOUT,
        };
        let watched = [
            (self.stream.as_ref().map(AsFd::as_fd), interest),
            (watch.input, PollFlags::POLLIN),
            // Errors are told without being asked for.
            (watch.output, PollFlags::empty()),
            (watch.signals, PollFlags::POLLIN),
        ];
        let mut fds: Vec<PollFd<'_>> = watched
            .iter()
            .filter_map(|(fd, flags)| fd.map(|fd| PollFd::new(fd, *flags)))
            .collect();
        let until = earlier(watch.until, self.client.deadline());
        match poll(&mut fds, timeout(until, clock::now())) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
        let mut seen = fds.iter().map(|fd| fd.revents());
        // In the order in which they stand above.
        let [socket, input, output, signals] = watched.map(|(fd, _)| {
            fd.and_then(|_| seen.next().flatten())
                .unwrap_or(PollFlags::empty())
        });
        if socket.contains(PollFlags::POLLOUT) {
            self.write()?;
        }
        if socket.intersects(!PollFlags::POLLOUT) {
            self.read()?;
        }
        Ok(Ready {
            input: !input.is_empty(),
            output_broken: output.contains(PollFlags::POLLERR),
            signals: !signals.is_empty(),
        })
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// Rounded up, so that the time has come when the wait is over.
fn timeout(until: Option<Instant>, now: Instant) -> PollTimeout {
    let Some(until) = until else {
        return PollTimeout::NONE;
    };
    let wait = until.since(now) + Duration::from_micros(999);
    PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
}

/// A first buffer, and what is kept of a larger one.
const INPUT_BYTES: usize = 64 * 1024;
const INPUT_BYTES_KEPT: usize = 1024 * 1024;
