//! Connections to the broker: TCP over whatever addresses its name has, and Unix sockets.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::options::Options;

/// Where the broker is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Tcp {
        host: String,
        port: u16,
        bind_address: Option<String>,
    },
    Unix(PathBuf),
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// The name has no address.
    Lookup,
    /// No address took the connection; of the last one.
    System(io::Error),
    /// A signal came while waiting.
    Interrupted,
}

impl Target {
    pub(super) fn new(options: &Options) -> Self {
        match &options.unix {
            Some(path) => Self::Unix(path.clone()),
            None => Self::Tcp {
                host: options.host.clone(),
                port: options.port,
                bind_address: options.bind_address.clone(),
            },
        }
    }

    /// Connects, trying each address in turn. Gives up when `interrupt` becomes readable.
    pub(super) fn connect(
        &self,
        interrupt: Option<BorrowedFd<'_>>,
    ) -> Result<Stream, ConnectError> {
        match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).map_err(ConnectError::System)?;
                stream.set_nonblocking(true).map_err(ConnectError::System)?;
                Ok(Stream::Unix(stream))
            }
            Self::Tcp {
                host,
                port,
                bind_address,
            } => {
                let local = match bind_address {
                    Some(name) => lookup(name, 0)?,
                    None => Vec::new(),
                };
                let mut error = ConnectError::Lookup;
                for address in lookup(host, *port)? {
                    match connect_tcp(
                        address,
                        bind_address.is_some().then_some(&*local),
                        interrupt,
                    ) {
                        Err(other @ ConnectError::System(_)) => error = other,
                        done => return done.map(Stream::Tcp),
                    }
                }
                Err(error)
            }
        }
    }
}

fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    // An empty name would be taken for this machine by some resolvers.
    if host.is_empty() {
        return Err(ConnectError::Lookup);
    }
    let addresses = (host, port).to_socket_addrs();
    Ok(addresses.map_err(|_| ConnectError::Lookup)?.collect())
}

fn connect_tcp(
    address: SocketAddr,
    local: Option<&[SocketAddr]>,
    interrupt: Option<BorrowedFd<'_>>,
) -> Result<TcpStream, ConnectError> {
    let socket = start_tcp(address, local).map_err(ConnectError::System)?;
    let fd = socket.as_fd();
    let mut fds = vec![PollFd::new(fd, PollFlags::POLLOUT)];
    fds.extend(interrupt.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(ConnectError::System(error.into())),
        }
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
        if ready.next() == Some(true) {
            break;
        }
        if ready.next() == Some(true) {
            return Err(ConnectError::Interrupted);
        }
    }
    match socket.take_error().map_err(ConnectError::System)? {
        Some(error) => Err(ConnectError::System(error)),
        None => Ok(socket.into()),
    }
}

fn start_tcp(address: SocketAddr, local: Option<&[SocketAddr]>) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // What is worth sending is gathered here; the kernel need not wait for more.
    socket.set_tcp_nodelay(true)?;
    if let Some(local) = local {
        let mut same_family = local
            .iter()
            .filter(|local| local.is_ipv4() == address.is_ipv4());
        let Some(local) = same_family.next() else {
            return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL));
        };
        socket.bind(&SockAddr::from(*local))?;
    }
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::from(address)) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        other => other,
    }?;
    Ok(socket)
}

/// A connection that never blocks.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
