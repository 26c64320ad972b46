//! One connection: bytes in, cut into packets, and bytes out, gathered.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use mosquitto::mqtt::frame::frame;
use mosquitto::mqtt::{Packet, Version, decode};
use socket2::{Domain, Protocol, Socket, Type};

/// Bytes read at once.
pub const READ_BYTES: usize = 64 * 1024;
/// Reads from one connection before the others have their turn.
const READS_PER_TURN: usize = 16;
/// A packet of the broker at most; nothing that this program asks for is larger.
const PACKET_BYTES_MAX: usize = 1024 * 1024;

/// A non-blocking connection to the broker.
pub struct Wire {
    socket: Socket,
    version: Version,
    /// The beginning of a packet whose rest has not come yet.
    partial: Vec<u8>,
    /// What waits to be written, from `written` on. Write packets to its end, then `flush`.
    pub out: Vec<u8>,
    written: usize,
}

/// How a turn of reading ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Got {
    /// Everything that was there.
    All,
    /// There may be more: read again without waiting for an event.
    More,
    /// The peer has closed or reset.
    End,
}

impl Wire {
    /// Begins to connect. What is in `out` goes once the connection stands.
    pub fn connect(
        target: SocketAddrV4,
        source: Option<Ipv4Addr>,
        version: Version,
    ) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::IPV4,
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source {
            socket.bind(&SocketAddrV4::new(source, 0).into())?;
        }
        match socket.connect(&target.into()) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(e) => return Err(e),
        }
        Ok(Self {
            socket,
            version,
            partial: Vec::new(),
            out: Vec::new(),
            written: 0,
        })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads what is there and hands each whole packet to `on_packet`, with `out` for the answers and the time at
    /// which its last byte was read. `ended`: the peer writes no more (see [`crate::poll::Ready`]).
    ///
    /// # Errors
    /// A packet that cannot be decoded, in words.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        ended: bool,
        mut on_packet: impl FnMut(&Packet<'_>, &mut Vec<u8>, Instant) -> Result<(), String>,
    ) -> Result<Got, String> {
        for _ in 0..READS_PER_TURN {
            let n = match self.socket.read(buffer) {
                Ok(0) => return Ok(Got::End),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Got::All),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Ok(Got::End),
            };
            let bytes = buffer.get(..n).unwrap_or_default();
            if self.partial.is_empty() {
                let used = packets(
                    bytes,
                    self.version,
                    &mut self.out,
                    Instant::now(),
                    &mut on_packet,
                )?;
                self.partial
                    .extend_from_slice(bytes.get(used..).unwrap_or_default());
            } else {
                self.partial.extend_from_slice(bytes);
                let used = packets(
                    &self.partial,
                    self.version,
                    &mut self.out,
                    Instant::now(),
                    &mut on_packet,
                )?;
                self.partial.drain(..used);
            }
            // A read that does not fill the buffer has emptied the socket; the next arrival is a new edge. Only the
            // peer's end may have come together with the bytes; the event has said so.
            if n < buffer.len() && !ended {
                return Ok(Got::All);
            }
        }
        Ok(Got::More)
    }

    /// Reads and forgets, without decoding.
    pub fn discard(&mut self, buffer: &mut [u8], ended: bool) -> Got {
        for _ in 0..READS_PER_TURN {
            match self.socket.read(buffer) {
                Ok(0) => return Got::End,
                Ok(n) if n < buffer.len() && !ended => return Got::All,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Got::All,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Got::End,
            }
        }
        Got::More
    }

    /// Writes what waits, with one system call; the rest goes when the socket takes more.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        let waiting = self.out.get(self.written..).unwrap_or_default();
        if waiting.is_empty() {
            return Ok(());
        }
        match self.socket.write(waiting) {
            Ok(n) => self.written += n,
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected
                ) => {}
            Err(e) => return Err(e),
        }
        if self.is_flushed() {
            self.out.clear();
            self.written = 0;
        }
        Ok(())
    }

    /// Whether everything was written.
    pub fn is_flushed(&self) -> bool {
        self.written >= self.out.len()
    }

    /// Says that nothing more will be written; the peer's end can still be read.
    pub fn finish_writing(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Closes with a reset instead of an end.
    pub fn reset(self) {
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }
}

/// Hands the whole packets in `bytes` to `on_packet`; returns how many bytes they had.
fn packets(
    bytes: &[u8],
    version: Version,
    out: &mut Vec<u8>,
    at: Instant,
    on_packet: &mut impl FnMut(&Packet<'_>, &mut Vec<u8>, Instant) -> Result<(), String>,
) -> Result<usize, String> {
    let mut used = 0;
    loop {
        let rest = bytes.get(used..).unwrap_or_default();
        let Some(frame) = frame(rest, PACKET_BYTES_MAX).map_err(|e| e.to_string())? else {
            return Ok(used);
        };
        let packet = decode::decode(frame, version).map_err(|e| e.to_string())?;
        on_packet(&packet, out, at)?;
        used += frame.len;
    }
}

/// A source address of 127.0.0.0/8 that is not the usual one, the same for the same `n`. Sixteen million of them, so
/// that no pair of addresses runs out of ports and a broker that counts by address has something to count.
pub fn source_address(n: u64) -> Ipv4Addr {
    let [.., a, b, c] = n.to_be_bytes();
    Ipv4Addr::new(127, a.clamp(1, 254), b, c.clamp(1, 254))
}
