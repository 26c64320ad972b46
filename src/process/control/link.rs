//! The connection to a worker: an MQTT client over a socket pair.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::base::clock::Instant;
use crate::client::{Client, Event, Message, Settings};
use crate::mqtt::Qos;
use crate::sys::poll::{Interest, Poller};

/// A client, its socket, and the start of a packet whose end has not come.
pub(super) struct Link {
    client: Client,
    socket: UnixStream,
    partial: Vec<u8>,
}

impl Link {
    /// Says CONNECT through `socket`, which is to be reported as `token`.
    pub fn new(socket: OwnedFd, poller: &Poller, token: u64, now: Instant) -> io::Result<Self> {
        let socket = UnixStream::from(socket);
        poller.add(socket.as_fd(), token, Interest::ReadWrite)?;
        let mut settings = Settings::new(CLIENT_ID);
        // A worker that hangs is the supervisor's to find; one that dies closes the socket.
        settings.keep_alive_secs = 0;
        settings.in_flight_max = 0;
        let mut client = Client::new(settings);
        client.connected(now);
        Ok(Self {
            client,
            socket,
            partial: Vec::new(),
        })
    }

    /// Whether the worker has let it in.
    pub fn is_online(&self) -> bool {
        self.client.is_online()
    }

    /// Whether something that was published has not been taken over.
    pub fn is_busy(&self) -> bool {
        self.client.unfinished() > 0
    }

    /// When to talk at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.client.deadline()
    }

    /// Publishes a value of `$SYS`: retained, at QoS 2.
    pub fn publish(&mut self, topic: &str, value: &str) {
        let message = Message::new(topic, value.as_bytes(), Qos::ExactlyOnce, true);
        // There are far fewer topics than a client may hold messages, and none is published while one waits.
        let _ = self.client.publish(message);
    }

    /// Reads and writes what goes without waiting.
    ///
    /// # Errors
    /// The connection is over.
    pub fn talk(&mut self, now: Instant) -> io::Result<()> {
        self.client.advance(now);
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    let bytes = buffer.get(..read).unwrap_or_default();
                    self.partial.extend_from_slice(bytes);
                    self.digest(now)?;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        self.digest(now)?;
        while !self.client.output().is_empty() {
            match self.socket.write(self.client.output()) {
                Ok(written) => self.client.wrote(written, now),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Acts on the packets that have come whole. Nobody sends messages here.
    fn digest(&mut self, now: Instant) -> io::Result<()> {
        loop {
            let (used, event) = self.client.read(&self.partial, now);
            let is_over = matches!(
                event,
                Some(Event::Refused { .. } | Event::Disconnected { .. } | Event::Closed(_))
            );
            let is_done = event.is_none();
            self.partial.drain(..used);
            if is_over {
                return Err(ErrorKind::ConnectionAborted.into());
            }
            if is_done {
                return Ok(());
            }
        }
    }
}

/// No client of a listener meets it, whatever it is called.
const CLIENT_ID: &str = "control";

/// Answers are a few bytes each.
const READ_BYTES: usize = 4096;
