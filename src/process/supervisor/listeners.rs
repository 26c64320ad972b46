//! Binding the ports: one socket per worker and address, so that the kernel spreads connections and each worker has
//! an accept queue of its own.
//!
//! The first socket of an address is bound without SO_REUSEPORT, so that a second broker (or anything else) on the
//! port is an error although the option is in use; then the option is set on it, and the siblings join.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use socket2::{Domain, Protocol, Socket, Type};

use crate::base::limits::LISTEN_BACKLOG;
use crate::base::log::{Log, LogType};
use crate::config::{Config, Listener, SocketDomain};

/// Every listening socket of the broker, held for as long as it lives.
#[derive(Debug)]
pub struct Listeners {
    /// Per address: which listener of the configuration it belongs to, and a socket for each worker.
    addresses: Vec<(u16, Vec<Rc<OwnedFd>>)>,
}

/// Why the broker cannot listen; status 1.
#[derive(Debug)]
pub enum ListenError {
    /// The address cannot be found.
    Resolve(String),
    /// The system refused, in its words.
    Socket(io::Error),
    /// There was no address to bind.
    Nothing { port: u16 },
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(why) => write!(f, "Error creating listener: {why}."),
            Self::Socket(e) => write!(f, "Error: {}", words(e)),
            Self::Nothing { port } => {
                write!(
                    f,
                    "Error: There is no address to listen on for port {port}."
                )
            }
        }
    }
}

impl std::error::Error for ListenError {}

impl Listeners {
    /// Binds everything that is configured, or nothing.
    pub fn bind(config: &Config, workers: usize, log: &mut Log) -> Result<Self, ListenError> {
        let mut addresses = Vec::new();
        for (number, listener) in (0..).zip(&config.listeners) {
            let mut bound = 0;
            for address in addresses_of(listener)? {
                let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
                log.line(
                    LogType::Info,
                    format_args!("Opening {family} listen socket on port {}.", listener.port),
                );
                match bind_all(address, workers) {
                    Ok(sockets) => {
                        bound += 1;
                        addresses.push((number, sockets));
                    }
                    Err(e) if may_be_missing(&e, config, listener) => {
                        log.line(LogType::Warning, format_args!("Warning: {}", words(&e)));
                    }
                    Err(e) => return Err(ListenError::Socket(e)),
                }
            }
            if bound == 0 && !config.local_only {
                return Err(ListenError::Nothing {
                    port: listener.port,
                });
            }
        }
        match (addresses.is_empty(), config.listeners.first()) {
            (true, Some(Listener { port, .. })) => Err(ListenError::Nothing { port: *port }),
            _ => Ok(Self { addresses }),
        }
    }

    /// How many sockets there are, for all workers together.
    pub fn len(&self) -> usize {
        self.addresses
            .iter()
            .map(|(_, sockets)| sockets.len())
            .sum()
    }

    /// The sockets of one worker, each with the number of its listener.
    pub fn of_worker(&self, index: usize) -> impl Iterator<Item = (u16, Rc<OwnedFd>)> {
        self.addresses
            .iter()
            .filter_map(move |(number, sockets)| Some((*number, sockets.get(index)?.clone())))
    }

    /// Closes them: whoever connects from now on, and is not with a worker yet, is refused.
    pub fn close(&mut self) {
        self.addresses.clear();
    }
}

/// A machine without IPv6 (or IPv4) listens on what it has, unless this address was asked for by name.
fn may_be_missing(error: &io::Error, config: &Config, listener: &Listener) -> bool {
    let no_such_family = error.raw_os_error() == Some(libc::EAFNOSUPPORT);
    let no_such_address = error.kind() == io::ErrorKind::AddrNotAvailable;
    let not_by_name = config.local_only || listener.address.is_none();
    not_by_name && (no_such_family || no_such_address)
}

fn addresses_of(listener: &Listener) -> Result<Vec<SocketAddr>, ListenError> {
    let port = listener.port;
    let wanted = |address: &SocketAddr| match listener.socket_domain {
        SocketDomain::Both => true,
        SocketDomain::Ipv4 => address.is_ipv4(),
        SocketDomain::Ipv6 => address.is_ipv6(),
    };
    let Some(host) = &listener.address else {
        let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let all = all.into_iter().map(|ip| SocketAddr::new(ip, port));
        return Ok(all.filter(wanted).collect());
    };
    let found = (host.as_str(), port).to_socket_addrs().map_err(|e| {
        let text = e.to_string();
        let known = "failed to lookup address information: ";
        ListenError::Resolve(text.strip_prefix(known).unwrap_or(&text).to_owned())
    })?;
    let mut addresses: Vec<_> = found.filter(wanted).collect();
    addresses.dedup();
    Ok(addresses)
}

/// The sockets of one address, all of them listening.
fn bind_all(address: SocketAddr, workers: usize) -> io::Result<Vec<Rc<OwnedFd>>> {
    let first = new_socket(address)?;
    first.bind(&address.into())?;
    first.set_reuse_port(true)?;
    let mut sockets = vec![first];
    while sockets.len() < workers {
        let sibling = new_socket(address)?;
        sibling.set_reuse_port(true)?;
        sibling.bind(&address.into())?;
        sockets.push(sibling);
    }
    // Only now, so that an address is open either for all workers or not at all.
    for socket in &sockets {
        socket.listen(LISTEN_BACKLOG)?;
    }
    Ok(sockets.into_iter().map(|s| Rc::new(s.into())).collect())
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // The IPv4 socket of the same port stands beside it.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// The system's words alone, as C programs print them.
pub fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::base::log::LogMask;

    fn local(port: u16) -> Config {
        Config::local_on_ports(&[port])
    }

    fn free_port() -> u16 {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().port()
    }

    #[test]
    fn every_worker_has_a_socket_of_its_own_and_a_second_broker_fails() {
        let mut log = Log::new(LogMask::ALL);
        let config = local(free_port());
        let listeners = Listeners::bind(&config, 3, &mut log).unwrap();
        for index in 0..3 {
            let mine: Vec<_> = listeners.of_worker(index).collect();
            assert!((1..=2).contains(&mine.len()));
            assert!(mine.iter().all(|(_, s)| Rc::strong_count(s) == 2));
        }
        assert_eq!(listeners.of_worker(3).count(), 0);
        let second = Listeners::bind(&config, 3, &mut log).unwrap_err();
        assert_eq!(second.to_string(), "Error: Address already in use");
        drop(listeners);
        Listeners::bind(&config, 3, &mut log).unwrap();
    }

    #[test]
    fn connections_come_to_every_worker() {
        let mut log = Log::new(LogMask::ALL);
        let config = local(free_port());
        let listeners = Listeners::bind(&config, 2, &mut log).unwrap();
        let clients: Vec<_> = (0..64)
            .map(|_| std::net::TcpStream::connect(("127.0.0.1", config.listeners[0].port)).unwrap())
            .collect();
        let mut accepted = 0;
        for index in 0..2 {
            let (_, socket) = listeners.of_worker(index).next().unwrap();
            let socket = TcpListener::from(socket.as_fd().try_clone_to_owned().unwrap());
            let mine = socket.incoming().take_while(Result::is_ok).count();
            assert!(mine > 0);
            accepted += mine;
        }
        assert_eq!(accepted, clients.len());
    }

    #[test]
    fn an_address_that_is_not_ours_is_an_error() {
        let mut log = Log::new(LogMask::ALL);
        let mut config = local(free_port());
        config.local_only = false;
        config.listeners.truncate(1);
        config.listeners[0].address = Some("192.0.2.1".to_owned());
        let error = Listeners::bind(&config, 1, &mut log).unwrap_err();
        assert_eq!(error.to_string(), "Error: Cannot assign requested address");
    }
}
