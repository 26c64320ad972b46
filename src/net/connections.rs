//! The sockets of the open connections, beside the deciding code's own table and under its keys.
//!
//! A socket is registered once, edge-triggered. What it may still have to read is remembered in a queue, so that one
//! busy connection gets its share of each turn and no more, and so that reading can pause without losing an edge.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read as _};
use std::os::fd::AsFd;

use slotmap::{Key, SecondaryMap};
use socket2::Socket;

use super::Token;
use super::linger::Lingering;
use super::output::Output;
use crate::base::clock::Instant;
use crate::base::limits::{OUTPUT_CHUNKS_PER_WRITE, READ_BYTES_PER_TURN, WRITE_BYTES_PER_TURN};
use crate::sys::poll::{Interest, Poller, Ready};

/// Every open connection's socket, by the key that the deciding code gave it.
#[derive(Debug)]
pub struct Connections<K: Key> {
    sockets: SecondaryMap<K, Connection>,
    /// Those that may have something to read, in the order in which they get their turn.
    readable: VecDeque<K>,
    /// Those that may have something to read, but nobody wants it yet.
    parked: Vec<K>,
    /// Those that could not take all of their output, and now may.
    writable: Vec<K>,
    lingering: Lingering,
    /// Counts turns, to know who was written to in this one.
    turn: u32,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    /// In one of the queues for reading.
    queued: bool,
    /// There is nothing to read beyond the end or the error that was reported.
    ended: bool,
    /// The end is in sight: read up to it, even if a read was short.
    hung_up: bool,
    /// Full: wait for the edge before writing again.
    full: bool,
    /// What broke the connection when it was written to. It is told when everything that came before was read.
    broken: Option<ErrorKind>,
    /// The turn in which it was last written to.
    written_in: u32,
}

/// What reading a connection gave.
#[derive(PartialEq, Eq, Debug)]
pub enum Received<'a> {
    Bytes(&'a [u8]),
    /// Not now.
    Nothing,
    /// The client closed its side. Told once.
    Eof,
    /// Bytes behind which there is nothing but the end, which is still to be told.
    Last(&'a [u8]),
    /// The connection is broken. Told once.
    Error(ErrorKind),
}

impl<K: Key> Connections<K> {
    /// No connection.
    pub fn new() -> Self {
        Self {
            sockets: SecondaryMap::new(),
            readable: VecDeque::new(),
            parked: Vec::new(),
            writable: Vec::new(),
            lingering: Lingering::default(),
            turn: 0,
            buffer: vec![0; READ_BYTES_PER_TURN].into(),
        }
    }

    /// How many sockets there are, those that only linger included.
    pub fn len(&self) -> usize {
        self.sockets.len() + self.lingering.len()
    }

    /// Whether there is no socket.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A new turn of the loop begins.
    pub fn next_turn(&mut self) {
        self.turn = self.turn.wrapping_add(1);
    }

    /// Looks after `socket` as `key` from now on. The next wait tells what it has to read already.
    ///
    /// # Errors
    /// The poller cannot take it; then the socket is closed.
    pub fn insert(&mut self, key: K, socket: Socket, poller: &Poller) -> io::Result<()> {
        let token = Token::Connection(key).pack();
        poller.add(socket.as_fd(), token, Interest::ReadWrite)?;
        let connection = Connection {
            socket,
            queued: false,
            ended: false,
            hung_up: false,
            full: false,
            broken: None,
            written_in: self.turn.wrapping_sub(1),
        };
        self.sockets.insert(key, connection);
        Ok(())
    }

    /// Takes note of what the poller said about `key`, which may be gone already.
    pub fn ready(&mut self, key: K, ready: Ready) {
        let Some(connection) = self.sockets.get_mut(key) else {
            return;
        };
        connection.hung_up |= ready.hung_up;
        if ready.readable && !connection.queued && !connection.ended {
            connection.queued = true;
            self.readable.push_back(key);
        }
        if ready.writable && connection.full {
            connection.full = false;
            self.writable.push(key);
        }
    }

    /// How many may have something to read; as many get their turn before anybody gets a second one.
    pub fn readable_len(&self) -> usize {
        self.readable.len()
    }

    /// Whose turn it is to be read. The caller reads it, or parks it.
    pub fn next_readable(&mut self) -> Option<K> {
        loop {
            let key = self.readable.pop_front()?;
            if let Some(connection) = self.sockets.get_mut(key) {
                connection.queued = false;
                return Some(key);
            }
        }
    }

    /// Nobody wants to read it now; it waits for [`Connections::unpark`].
    pub fn park(&mut self, key: K) {
        if let Some(connection) = self.sockets.get_mut(key)
            && !connection.queued
        {
            connection.queued = true;
            self.parked.push(key);
        }
    }

    /// Those that are parked and wanted again may be read from the next turn on.
    pub fn unpark(&mut self, wanted: impl Fn(K) -> bool) {
        let (sockets, readable) = (&self.sockets, &mut self.readable);
        self.parked.retain(|key| {
            if !sockets.contains_key(*key) {
                return false;
            }
            let wanted = wanted(*key);
            if wanted {
                readable.push_back(*key);
            }
            !wanted
        });
    }

    /// Reads once, a turn's share.
    pub fn read(&mut self, key: K) -> Received<'_> {
        let Some(connection) = self.sockets.get_mut(key).filter(|c| !c.ended) else {
            return Received::Nothing;
        };
        let result = loop {
            match (&connection.socket).read(&mut self.buffer) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match result {
            Ok(0) => {
                connection.ended = true;
                connection.broken.map_or(Received::Eof, Received::Error)
            }
            Ok(n) => {
                // After a short read the next bytes bring an edge of their own; but an end that the poller has told
                // already does not.
                let more = n == self.buffer.len() || connection.hung_up;
                if more && !connection.queued {
                    connection.queued = true;
                    self.readable.push_back(key);
                }
                // Once the end has come nothing follows it, and a read with room to spare took all that was before it.
                let is_last = n < self.buffer.len() && connection.hung_up;
                let bytes = self.buffer.get(..n).unwrap_or(&[]);
                match is_last {
                    true => Received::Last(bytes),
                    false => Received::Bytes(bytes),
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Received::Nothing,
            Err(e) => {
                connection.ended = true;
                Received::Error(e.kind())
            }
        }
    }

    /// Those that could not take all of their output before, and may now.
    pub fn take_writable(&mut self) -> Vec<K> {
        std::mem::take(&mut self.writable)
    }

    /// Whether somebody may be written to at once.
    pub fn has_writable(&self) -> bool {
        !self.writable.is_empty()
    }

    /// Writes what the client takes without waiting, at most a turn's share. What is left is written when
    /// [`Connections::take_writable`] names the connection. Output for a broken connection is dropped; the reason is
    /// told by a read, after what the client sent before.
    pub fn write(&mut self, key: K, output: &mut Output) {
        let Some(connection) = self.sockets.get_mut(key) else {
            return;
        };
        if connection.broken.is_some() {
            output.consume(usize::MAX);
            return;
        }
        if connection.full || output.is_empty() {
            return;
        }
        connection.written_in = self.turn;
        match write_some(&connection.socket, output, WRITE_BYTES_PER_TURN) {
            Ok(Progress::Done) => {}
            Ok(Progress::Full) => connection.full = true,
            Ok(Progress::ShareUsed) => self.writable.push(key),
            Err(kind) => {
                output.consume(usize::MAX);
                connection.broken = Some(kind);
                connection.hung_up = true;
                if !connection.queued && !connection.ended {
                    connection.queued = true;
                    self.readable.push_back(key);
                }
            }
        }
    }

    /// Forgets `key` and closes its socket, such that the client still gets what was written and `rest`, if it takes
    /// it soon.
    pub fn close(&mut self, key: K, rest: Output, now: Instant, poller: &Poller) {
        let Some(connection) = self.sockets.remove(key) else {
            return;
        };
        if connection.broken.is_some() {
            return;
        }
        // Who closed first and was told nothing since has nothing to wait for.
        let told = connection.written_in == self.turn || !rest.is_empty();
        if told {
            self.lingering
                .add(connection.socket, rest, connection.ended, now, poller);
        }
    }

    /// The poller says that the lingering socket in `place` goes on.
    pub fn lingering_ready(&mut self, place: u32) {
        self.lingering.ready(place);
    }

    /// Closes what has lingered long enough.
    pub fn tick(&mut self, now: Instant) {
        self.lingering.tick(now);
    }

    /// When [`Connections::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.lingering.next_deadline()
    }
}

impl<K: Key> Default for Connections<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// How far writing got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// Nothing waits any more.
    Done,
    /// The kernel takes no more now; an edge will tell.
    Full,
    /// There is more, and the kernel might take it.
    ShareUsed,
}

/// Writes up to about `share` bytes of `output`.
pub(super) fn write_some(
    socket: &Socket,
    output: &mut Output,
    share: usize,
) -> Result<Progress, ErrorKind> {
    let mut left = share;
    while !output.is_empty() {
        if left == 0 {
            return Ok(Progress::ShareUsed);
        }
        let mut slices = [IoSlice::new(&[]); OUTPUT_CHUNKS_PER_WRITE];
        let count = output.fill(&mut slices);
        let slices = slices.get(..count).unwrap_or(&[]);
        let offered: usize = slices.iter().map(|s| s.len()).sum();
        let result = match slices {
            [one] => socket.send_with_flags(one, libc::MSG_NOSIGNAL),
            many => socket.send_vectored_with_flags(many, libc::MSG_NOSIGNAL),
        };
        match result {
            Ok(n) => {
                output.consume(n);
                left = left.saturating_sub(n);
                // A short write found the kernel's buffer full, and left word that somebody waits for room.
                if n < offered {
                    return Ok(Progress::Full);
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Progress::Full),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e.kind()),
        }
    }
    Ok(Progress::Done)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use slotmap::{DefaultKey, SlotMap};

    use super::*;
    use crate::base::limits::{LINGER_MILLIS, LINGERING_SOCKETS_MAX};

    struct Bench {
        poller: Poller,
        connections: Connections<DefaultKey>,
        keys: SlotMap<DefaultKey, ()>,
        listener: TcpListener,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                poller: Poller::new(64).unwrap(),
                connections: Connections::new(),
                keys: SlotMap::new(),
                listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            }
        }

        fn connect(&mut self) -> (DefaultKey, TcpStream) {
            let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
            let (socket, _) = self.listener.accept().unwrap();
            socket.set_nonblocking(true).unwrap();
            let key = self.keys.insert(());
            let socket = Socket::from(socket);
            self.connections.insert(key, socket, &self.poller).unwrap();
            (key, client)
        }

        /// Waits until the poller says something, and notes it.
        fn wait(&mut self) {
            self.poller.wait(Some(Duration::from_secs(10))).unwrap();
            assert!(!self.poller.is_empty());
            for at in 0..self.poller.len() {
                let ready = self.poller.ready(at).unwrap();
                match Token::unpack(ready.token) {
                    Token::Connection(key) => self.connections.ready(key, ready),
                    Token::Lingering(place) => self.connections.lingering_ready(place),
                    token => panic!("{token:?}"),
                }
            }
        }

        /// Waits until `key` has its turn to be read.
        fn wait_readable(&mut self, key: DefaultKey) {
            loop {
                match self.connections.next_readable() {
                    Some(next) if next == key => return,
                    Some(_) => {}
                    None => self.wait(),
                }
            }
        }

        fn output(&mut self, key: DefaultKey, bytes: &[u8]) -> Output {
            let mut output = Output::default();
            output.push(bytes);
            self.connections.write(key, &mut output);
            output
        }
    }

    fn read_all(mut client: &TcpStream) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn the_end_is_found_behind_bytes_that_came_with_it() {
        let mut bench = Bench::new();
        let (key, mut client) = bench.connect();
        client.write_all(b"last words").unwrap();
        drop(client);
        bench.wait_readable(key);
        assert_eq!(bench.connections.read(key), Received::Last(b"last words"));
        bench.wait_readable(key);
        assert_eq!(bench.connections.read(key), Received::Eof);
        assert_eq!(bench.connections.read(key), Received::Nothing);
    }

    #[test]
    fn nobody_gets_a_second_turn_before_everybody_had_one() {
        let mut bench = Bench::new();
        let (busy, busy_client) = bench.connect();
        let (calm, mut calm_client) = bench.connect();
        busy_client.set_nonblocking(true).unwrap();
        while (&busy_client).write(&[7; READ_BYTES_PER_TURN]).is_ok() {}
        bench.wait_readable(busy);
        let Received::Bytes(bytes) = bench.connections.read(busy) else {
            panic!("nothing was read");
        };
        assert_eq!(bytes.len(), READ_BYTES_PER_TURN);
        calm_client.write_all(b"x").unwrap();
        while bench.connections.readable_len() < 2 {
            bench.wait();
        }
        assert_eq!(bench.connections.next_readable(), Some(busy));
        bench.connections.read(busy);
        assert_eq!(bench.connections.next_readable(), Some(calm));
        assert_eq!(bench.connections.read(calm), Received::Bytes(b"x"));
    }

    #[test]
    fn parked_connections_keep_their_edge() {
        let mut bench = Bench::new();
        let (key, mut client) = bench.connect();
        client.write_all(b"x").unwrap();
        bench.wait_readable(key);
        bench.connections.park(key);
        client.write_all(b"y").unwrap();
        bench.wait();
        assert_eq!(bench.connections.next_readable(), None);
        bench.connections.unpark(|_| false);
        assert_eq!(bench.connections.next_readable(), None);
        bench.connections.unpark(|_| true);
        assert_eq!(bench.connections.next_readable(), Some(key));
        assert_eq!(bench.connections.read(key), Received::Bytes(b"xy"));
    }

    #[test]
    fn what_does_not_fit_is_written_after_the_edge() {
        let mut bench = Bench::new();
        let (key, client) = bench.connect();
        let big: Vec<u8> = (0..=u8::MAX).cycle().take(20_000_000).collect();
        let mut output = Output::default();
        output.push(&big);
        while bench.connections.has_writable() || output.len() == big.len() {
            bench.connections.write(key, &mut output);
            bench.connections.take_writable();
            bench.wait_nothing();
        }
        assert!(!output.is_empty(), "the kernel took everything");
        let reader = std::thread::spawn(move || read_all(&client).unwrap());
        while !output.is_empty() {
            if !bench.connections.has_writable() {
                bench.wait();
            }
            for key in bench.connections.take_writable() {
                bench.connections.write(key, &mut output);
            }
        }
        bench
            .connections
            .close(key, Output::default(), Instant(0), &bench.poller);
        bench.connections.tick(Instant(u64::MAX));
        assert!(reader.join().unwrap() == big);
    }

    impl Bench {
        fn wait_nothing(&mut self) {
            self.poller.wait(Some(Duration::ZERO)).unwrap();
            for at in 0..self.poller.len() {
                let ready = self.poller.ready(at).unwrap();
                if let Token::Connection(key) = Token::unpack(ready.token) {
                    self.connections.ready(key, ready);
                }
            }
        }
    }

    #[test]
    fn the_last_packet_arrives_although_input_was_not_read() {
        let mut bench = Bench::new();
        let (key, mut client) = bench.connect();
        client.write_all(&[1; 1000]).unwrap();
        bench.connections.next_turn();
        bench.output(key, b"reason");
        bench
            .connections
            .close(key, Output::default(), Instant(0), &bench.poller);
        assert_eq!(bench.connections.len(), 1);
        client.write_all(&[2; 1000]).unwrap();
        bench.wait();
        assert_eq!(read_all(&client).unwrap(), b"reason");
        drop(client);
        while !bench.connections.is_empty() {
            bench.wait();
        }
    }

    #[test]
    fn who_never_closes_is_cut_off_in_time_and_in_number() {
        let mut bench = Bench::new();
        let mut clients = Vec::new();
        for n in 0..LINGERING_SOCKETS_MAX + 10 {
            let (key, client) = bench.connect();
            clients.push(client);
            bench.output(key, b"reason");
            let now = Instant(n as u64);
            bench
                .connections
                .close(key, Output::default(), now, &bench.poller);
        }
        assert_eq!(bench.connections.len(), LINGERING_SOCKETS_MAX);
        assert_eq!(
            bench.connections.next_deadline(),
            Some(Instant(10).after_millis(LINGER_MILLIS))
        );
        bench
            .connections
            .tick(Instant(10).after_millis(LINGER_MILLIS));
        assert_eq!(bench.connections.len(), LINGERING_SOCKETS_MAX - 1);
    }

    #[test]
    fn a_broken_connection_gives_all_it_had_sent_and_then_the_reason() {
        let mut bench = Bench::new();
        let (key, mut client) = bench.connect();
        bench.output(key, b"never read");
        client.write_all(b"sent before").unwrap();
        // Unread input makes the close a reset.
        client.peek(&mut [0]).unwrap();
        drop(client);
        bench.wait_readable(key);
        let mut output = Output::default();
        loop {
            output.push(b"to nobody");
            bench.connections.write(key, &mut output);
            if bench.connections.sockets[key].broken.is_some() {
                break;
            }
        }
        assert!(output.is_empty());
        assert_eq!(bench.connections.read(key), Received::Last(b"sent before"));
        bench.wait_readable(key);
        assert!(matches!(
            bench.connections.read(key),
            Received::Error(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
        ));
    }
}
