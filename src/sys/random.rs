//! Random bytes of the kernel.

use std::io;

/// Fills `buffer`. Waits only in a machine's first seconds, before the kernel has gathered enough.
pub fn fill(buffer: &mut [u8]) -> io::Result<()> {
    let mut rest = buffer;
    while !rest.is_empty() {
        // SAFETY: `rest` is memory of this process that may be written for its whole length, and the call keeps no
        // pointer to it.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => rest = rest.get_mut(got..).unwrap_or_default(),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// A random number.
pub fn u64() -> io::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_filled() {
        let mut seen = [0u8; 700];
        for _ in 0..8 {
            let mut buffer = [0u8; 700];
            fill(&mut buffer).unwrap();
            seen.iter_mut().zip(buffer).for_each(|(s, b)| *s |= b);
        }
        assert!(seen.iter().filter(|s| **s == 0).count() == 0);
    }
}
