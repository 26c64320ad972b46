//! Pairs of SOCK_SEQPACKET sockets: one message is one packet, and descriptors travel beside the bytes.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};

/// Descriptors that one packet can carry.
pub const DESCRIPTORS_MAX: usize = 8;

/// Both ends, non-blocking and closed on exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        flags,
    )?)
}

/// Sends one packet, whole or not at all. `WouldBlock` when the other end does not read; descriptors that are on
/// their way in too great a number count as that too.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let beside: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    match sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        beside,
        flags,
        None,
    ) {
        Ok(_) => Ok(()),
        Err(nix::Error::ETOOMANYREFS | nix::Error::ENOBUFS) => Err(nix::Error::EAGAIN.into()),
        Err(e) => Err(e.into()),
    }
}

/// A packet as it came.
#[derive(Debug)]
pub struct Packet {
    /// Bytes of it in the caller's buffer. Zero is the end: empty packets are never sent.
    pub len: usize,
    /// What came beside them, closed on exec.
    pub fds: Vec<OwnedFd>,
}

/// Takes one packet, without waiting. One that is larger than the buffer, or carries descriptors where none are
/// wanted, or more than [`DESCRIPTORS_MAX`], is an `InvalidData` error.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors_wanted: bool,
) -> io::Result<Packet> {
    // Without room for them the kernel installs no descriptors, so a hostile child cannot fill our table.
    let mut space = descriptors_wanted.then(|| cmsg_space!([RawFd; DESCRIPTORS_MAX]));
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, space.as_deref_mut(), flags)?;
    let cut = message
        .flags
        .intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
    let mut fds = Vec::new();
    if descriptors_wanted && !message.flags.contains(MsgFlags::MSG_CTRUNC) {
        for beside in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = beside {
                for fd in raw {
                    // SAFETY: the kernel has just installed this descriptor for this call, and nobody else has
                    // seen its number.
                    fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
        }
    }
    if cut {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Packet {
        len: message.bytes,
        fds,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn descriptors_arrive_in_order_with_their_bytes() {
        let (near, far) = pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let (mut reader2, writer2) = io::pipe().unwrap();
        send(near.as_fd(), b"two", &[writer.as_fd(), writer2.as_fd()]).unwrap();
        send(near.as_fd(), b"none", &[]).unwrap();
        drop((writer, writer2));
        let mut buffer = [0; 16];
        let packet = receive(far.as_fd(), &mut buffer, true).unwrap();
        assert_eq!((&buffer[..packet.len], packet.fds.len()), (&b"two"[..], 2));
        for (fd, letter) in packet.fds.into_iter().zip([b"1", b"2"]) {
            std::fs::File::from(fd).write_all(letter).unwrap();
        }
        let mut got = String::new();
        reader.read_to_string(&mut got).unwrap();
        reader2.read_to_string(&mut got).unwrap();
        assert_eq!(got, "12");
        let packet = receive(far.as_fd(), &mut buffer, true).unwrap();
        assert_eq!((packet.len, packet.fds.len()), (4, 0));
        let error = receive(far.as_fd(), &mut buffer, true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(near);
        assert_eq!(receive(far.as_fd(), &mut buffer, true).unwrap().len, 0);
    }

    #[test]
    fn what_is_too_large_or_unwanted_is_an_error() {
        let (near, far) = pair().unwrap();
        let mut buffer = [0; 4];
        send(near.as_fd(), b"large", &[]).unwrap();
        send(near.as_fd(), b"fd", &[near.as_fd()]).unwrap();
        let nine = [near.as_fd(); DESCRIPTORS_MAX + 1];
        send(near.as_fd(), b"9", &nine).unwrap();
        for wanted in [true, false, true] {
            let error = receive(far.as_fd(), &mut buffer, wanted).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
