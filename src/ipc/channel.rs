//! The two ends of a control channel: whole messages in, whole messages out, and nobody waits.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::control::{LEFT_OVER, ToChild, ToSupervisor};
use super::wire::WireError;
use crate::base::limits::{CONTROL_MESSAGE_BYTES_MAX, CONTROL_QUEUE_MAX};
use crate::sys::seqpacket;

/// Why a control channel is of no use any more.
#[derive(Debug)]
pub enum ControlError {
    /// The other side has closed it, or is gone.
    Closed,
    /// The other side said what cannot be understood.
    Wire(WireError),
    /// The other side takes nothing, and what waits for it has reached its bound.
    Full,
    /// The machine refused.
    Io(io::Error),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the control channel is closed"),
            Self::Wire(e) => write!(f, "the control channel cannot be understood: {}", e.what),
            Self::Full => f.write_str("the control channel is full"),
            Self::Io(e) => write!(f, "the control channel failed: {e}"),
        }
    }
}

impl std::error::Error for ControlError {}

/// One end of the channel. Nothing here waits: what the other side does not take yet is queued, up to
/// [`CONTROL_QUEUE_MAX`] messages.
#[derive(Debug)]
pub struct Channel<F = OwnedFd> {
    socket: OwnedFd,
    queue: VecDeque<(Vec<u8>, Vec<F>)>,
}

impl<F: AsFd> Channel<F> {
    /// The end that `socket` is.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            queue: VecDeque::new(),
        }
    }

    /// Whether messages wait for the other side: call [`Channel::flush`] when it is writable, or now and then.
    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Sends what waits, as far as the other side takes it.
    pub fn flush(&mut self) -> Result<(), ControlError> {
        while let Some((bytes, fds)) = self.queue.front() {
            let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            match seqpacket::send(self.socket.as_fd(), bytes, &borrowed) {
                Ok(()) => drop(self.queue.pop_front()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(closed_or(e)),
            }
        }
        Ok(())
    }

    fn queue(&mut self, bytes: Vec<u8>, fds: Vec<F>) -> Result<(), ControlError> {
        if self.queue.len() >= CONTROL_QUEUE_MAX {
            return Err(ControlError::Full);
        }
        self.queue.push_back((bytes, fds));
        self.flush()
    }

    fn packet<T>(
        &self,
        descriptors_wanted: bool,
        decode: impl FnOnce(&[u8], Vec<OwnedFd>) -> Result<T, WireError>,
    ) -> Result<Option<T>, ControlError> {
        let mut buffer = [0; CONTROL_MESSAGE_BYTES_MAX];
        let packet = match seqpacket::receive(self.socket.as_fd(), &mut buffer, descriptors_wanted)
        {
            Ok(packet) => packet,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                return Err(ControlError::Wire(LEFT_OVER));
            }
            Err(e) => return Err(closed_or(e)),
        };
        match buffer.get(..packet.len) {
            None | Some([]) => Err(ControlError::Closed),
            Some(bytes) => decode(bytes, packet.fds)
                .map(Some)
                .map_err(ControlError::Wire),
        }
    }
}

impl Channel<OwnedFd> {
    /// A child's way to its supervisor.
    pub fn send(&mut self, message: ToSupervisor) -> Result<(), ControlError> {
        self.queue(message.encode(), Vec::new())
    }

    /// What the supervisor said next; `None` when it has said nothing more.
    pub fn receive(&mut self) -> Result<Option<ToChild>, ControlError> {
        self.packet(true, ToChild::decode)
    }
}

impl<F: AsFd> Channel<F>
where
    F: SharedDescriptor,
{
    /// The supervisor's way to a child.
    pub fn tell(&mut self, message: ToChild<F>) -> Result<(), ControlError> {
        let (bytes, fds) = message.encode();
        self.queue(bytes, fds)
    }

    /// What the child said next; `None` when it has said nothing more.
    pub fn hear(&mut self) -> Result<Option<ToSupervisor>, ControlError> {
        self.packet(false, |bytes, _| ToSupervisor::decode(bytes))
    }
}

/// A descriptor that the supervisor keeps and hands to many.
pub trait SharedDescriptor: AsFd {}

impl SharedDescriptor for std::rc::Rc<OwnedFd> {}

impl<F> AsFd for Channel<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn closed_or(error: io::Error) -> ControlError {
    match error.kind() {
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::NotConnected => ControlError::Closed,
        _ => ControlError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn messages_wait_for_a_slow_child_and_come_in_order() {
        let (near, far) = seqpacket::pair().unwrap();
        let mut supervisor: Channel<Rc<OwnedFd>> = Channel::new(near);
        let mut child: Channel = Channel::new(far);
        let shared = Rc::new(OwnedFd::from(std::io::pipe().unwrap().0));
        let mut told = 0u16;
        while !supervisor.has_queued() || told < 500 {
            let socket = shared.clone();
            let message = ToChild::Listener {
                listener: told,
                lent_by: None,
                socket,
            };
            supervisor.tell(message).unwrap();
            told += 1;
        }
        for expected in 0..told {
            supervisor.flush().unwrap();
            let got = child.receive().unwrap();
            assert!(
                matches!(got, Some(ToChild::Listener { listener, .. }) if listener == expected)
            );
        }
        assert!(child.receive().unwrap().is_none());
        child.send(ToSupervisor::Mapped).unwrap();
        assert_eq!(supervisor.hear().unwrap(), Some(ToSupervisor::Mapped));
        drop(child);
        assert!(matches!(supervisor.hear(), Err(ControlError::Closed)));
        let end = supervisor.tell(ToChild::Stop);
        assert!(matches!(end, Err(ControlError::Closed)));
    }

    #[test]
    fn a_child_that_sends_nonsense_or_descriptors_is_found_out() {
        let (near, far) = seqpacket::pair().unwrap();
        let mut supervisor: Channel<Rc<OwnedFd>> = Channel::new(near);
        seqpacket::send(far.as_fd(), b"\xff", &[]).unwrap();
        assert!(matches!(supervisor.hear(), Err(ControlError::Wire(_))));
        seqpacket::send(far.as_fd(), &ToSupervisor::Ready.encode(), &[far.as_fd()]).unwrap();
        assert!(matches!(supervisor.hear(), Err(ControlError::Wire(_))));
    }

    #[test]
    fn what_waits_is_bounded() {
        let (near, _far) = seqpacket::pair().unwrap();
        let mut child: Channel = Channel::new(near);
        let error = loop {
            if let Err(e) = child.send(ToSupervisor::Quiet) {
                break e;
            }
        };
        assert!(matches!(error, ControlError::Full));
    }
}
