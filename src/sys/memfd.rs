//! Snapshots: bytes that several processes read and nobody can change any more.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Puts `bytes` into a new memfd and seals it against every change.
pub fn snapshot(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create(name, flags)?);
    file.write_all(bytes)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(all_seals()))?;
    Ok(file.into())
}

/// The bytes of a snapshot of at most `bytes_max`. Something that is not sealed is refused: it could change while
/// it is read.
pub fn read_snapshot(snapshot: OwnedFd, bytes_max: usize) -> io::Result<Vec<u8>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let seals = SealFlag::from_bits_retain(fcntl(&snapshot, FcntlArg::F_GET_SEALS)?);
    if !seals.contains(all_seals()) {
        return Err(invalid());
    }
    let file = File::from(snapshot);
    let len = usize::try_from(file.metadata()?.len()).map_err(|_| invalid())?;
    if len > bytes_max {
        return Err(invalid());
    }
    let mut bytes = vec![0; len];
    // All readers share one file offset, so none of them uses it.
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn all_seals() -> SealFlag {
    SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_as_often_as_wanted_and_never_changed() {
        let made = snapshot("test", b"listener 1883\n").unwrap();
        for _ in 0..2 {
            let copy = made.try_clone().unwrap();
            assert_eq!(read_snapshot(copy, 100).unwrap(), b"listener 1883\n");
        }
        let file = File::from(made.try_clone().unwrap());
        assert!(file.write_at(b"x", 0).is_err());
        assert!(file.set_len(0).is_err());
        assert!(read_snapshot(made, 3).is_err());
    }

    #[test]
    fn what_is_not_sealed_is_refused() {
        let loose = memfd_create("test", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        assert!(read_snapshot(loose, 100).is_err());
    }
}
