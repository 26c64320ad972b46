//! Shared memory of the kernel. The one audited unsafe file of this room.
//!
//! The facts that everything here stands on:
//! - A mapping's size never changes: regions are sealed against shrinking and growing before anybody but their owner
//!   maps them, and the owner's own descriptor comes from the supervisor. So no access beyond `len` is possible, and
//!   none within it can fault.
//! - Foreign memory is hostile: it may change between two reads and while we read. Therefore it is only ever read
//!   with atomic loads, a word at a time, into private memory; no reference to its bytes exists. A lying writer can
//!   give us any bytes, but no undefined behaviour, and callers check what they got.
//! - Own memory is written by this process alone, on one thread (the types are not `Sync`), and the kernel refuses
//!   anybody else a writable mapping once it is sealed. Payload is written with plain copies: nobody reads those
//!   bytes before the head is stored with Release, and nobody relies on them after the cursors passed.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::layout::{self, CURSORS_BYTES, LEDGER_BYTES};
use super::memory::{Region, View};
use super::record::HEADER_BYTES;

/// How well a region is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seal {
    /// Nobody can change its size, nor map it writable from now on.
    Whole,
    /// Nobody can change its size, but this kernel (before 5.1) knows no seal against future writable mappings:
    /// members could write to each other's memory. Worth a warning in the log.
    SizeOnly,
}

/// The owner's mapping: read and write.
pub struct OwnMap {
    map: Map,
}

/// Somebody else's region: read only, by the page tables.
pub struct ForeignMap {
    map: Map,
}

struct Map {
    raw: MmapRaw,
    /// Mappings are not `Sync`: the single-writer rule is kept by keeping each on one thread at a time.
    _one_thread: PhantomData<Cell<u8>>,
}

/// A new outbox with a ring of so many bytes, for a new incarnation of a member.
pub fn create_outbox(ring_bytes: u32) -> io::Result<OwnedFd> {
    if !layout::ring_bytes_are_valid(ring_bytes) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    create_region(c"mosquitto-outbox", layout::outbox_bytes(ring_bytes))
}

/// A new cursor page.
pub fn create_cursors() -> io::Result<OwnedFd> {
    create_region(c"mosquitto-cursors", CURSORS_BYTES)
}

/// A new ledger.
pub fn create_ledger() -> io::Result<OwnedFd> {
    create_region(c"mosquitto-ledger", LEDGER_BYTES)
}

/// Seals an outbox or cursor page. Its owner must have mapped it; only then may anybody else get it.
pub fn seal(region: BorrowedFd<'_>) -> io::Result<Seal> {
    let size = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    let whole = size | SealFlag::F_SEAL_FUTURE_WRITE | SealFlag::F_SEAL_SEAL;
    match fcntl(region, FcntlArg::F_ADD_SEALS(whole)) {
        Ok(_) => Ok(Seal::Whole),
        Err(nix::Error::EINVAL) => {
            fcntl(region, FcntlArg::F_ADD_SEALS(size | SealFlag::F_SEAL_SEAL))?;
            Ok(Seal::SizeOnly)
        }
        Err(error) => Err(error.into()),
    }
}

fn create_region(name: &std::ffi::CStr, bytes: usize) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let file = File::from(fd);
    file.set_len(u64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?)?;
    Ok(file.into())
}

fn check_size(region: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let size = nix::sys::stat::fstat(region)?.st_size;
    if usize::try_from(size).is_ok_and(|size| size == bytes) {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "shared region has the wrong size",
        ))
    }
}

impl OwnMap {
    /// Maps a region of `bytes` bytes that is ours to write. Not sealed yet: once it is, this is refused.
    pub fn new(region: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        check_size(region, bytes)?;
        let raw = MmapOptions::new().len(bytes).map_raw(&region)?;
        Ok(Self { map: Map::new(raw) })
    }
}

impl ForeignMap {
    /// Maps somebody else's region of `bytes` bytes. Refused unless it is sealed against changes of its size, since
    /// a region that shrinks under its readers kills them.
    pub fn new(region: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        let seals = SealFlag::from_bits_retain(fcntl(region, FcntlArg::F_GET_SEALS)?);
        let wanted = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        if !seals.contains(wanted) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "shared region is not sealed",
            ));
        }
        // After the seals: now the size is what it stays.
        check_size(region, bytes)?;
        let raw = MmapOptions::new().len(bytes).map_raw_read_only(&region)?;
        Ok(Self { map: Map::new(raw) })
    }
}

impl View for OwnMap {
    #[inline]
    fn load(&self, at: usize, order: Ordering) -> u32 {
        self.map.word(at).load(order)
    }

    #[inline]
    fn header(&self, at: usize) -> [u8; HEADER_BYTES] {
        self.map.header(at)
    }

    #[inline]
    fn copy_out(&self, at: usize, len: usize, out: &mut Vec<u8>) {
        self.map.copy_out(at, len, out);
    }
}

impl View for ForeignMap {
    #[inline]
    fn load(&self, at: usize, order: Ordering) -> u32 {
        self.map.word(at).load(order)
    }

    #[inline]
    fn header(&self, at: usize) -> [u8; HEADER_BYTES] {
        self.map.header(at)
    }

    #[inline]
    fn copy_out(&self, at: usize, len: usize, out: &mut Vec<u8>) {
        self.map.copy_out(at, len, out);
    }
}

impl Region for OwnMap {
    #[inline]
    fn store(&self, at: usize, value: u32, order: Ordering) {
        self.map.word(at).store(value, order);
    }

    #[inline]
    fn copy_in(&self, at: usize, bytes: &[u8]) {
        self.map.check(at, bytes.len());
        // SAFETY: `check` keeps the address within the mapping, which lives as long as `self`.
        let to = unsafe { self.map.raw.as_mut_ptr().add(at) };
        // SAFETY: `to` and the next `bytes.len()` bytes are in our own writable mapping (an `OwnMap` is only made by
        // `map_raw`), which cannot overlap `bytes`, because no slice of a mapping is ever made. No other thread of
        // ours writes here, and other processes read here only below a head that is stored with Release later.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

impl Map {
    fn new(raw: MmapRaw) -> Self {
        Self {
            raw,
            _one_thread: PhantomData,
        }
    }

    /// Ends this process rather than touch anything outside: offsets come from our own arithmetic, never from
    /// others, so that one outside is a broken invariant of ours.
    #[inline]
    fn check(&self, at: usize, len: usize) {
        let end = at.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.raw.len()),
            "offset outside of a shared region"
        );
    }

    #[inline]
    fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4), "shared words are aligned");
        self.check(at, 4);
        // SAFETY: `check` keeps the address within the mapping, which lives as long as `self`.
        let word = unsafe { self.raw.as_ptr().add(at) };
        // SAFETY: aligned (mappings start on a page, `at` is a multiple of 4), within the mapping, and lives as long
        // as `self`. Everybody accesses shared words atomically. In a read-only mapping only loads happen, since
        // `ForeignMap` has no store, and loads of 32 bits with Relaxed or Acquire are allowed on read-only memory.
        unsafe { &*word.cast::<AtomicU32>() }
    }

    /// The machine word at `from`.
    ///
    /// # Safety
    /// `from` is aligned and points to a whole word of a mapping that is still there.
    #[inline]
    unsafe fn machine_word(from: *const usize) -> usize {
        // SAFETY: as the caller promises. An atomic load, so that a write by the other side at the same time gives
        // some bytes, not undefined behaviour; Relaxed, because the head was loaded with Acquire before. It is an
        // ordinary load of the register's size, which is allowed on read-only memory too.
        unsafe { &*from.cast::<AtomicUsize>() }.load(Ordering::Relaxed)
    }

    #[inline]
    fn header(&self, at: usize) -> [u8; HEADER_BYTES] {
        assert!(at.is_multiple_of(HEADER_BYTES), "headers are aligned");
        self.check(at, HEADER_BYTES);
        let mut out = [0; HEADER_BYTES];
        for (i, part) in out.chunks_exact_mut(WORD_BYTES).enumerate() {
            // SAFETY: `check` keeps all words of the header within the mapping, which lives as long as `self`.
            let from = unsafe { self.raw.as_ptr().add(at).cast::<usize>().add(i) };
            // SAFETY: within the mapping as just said, aligned because `at` is a multiple of 16.
            let word = unsafe { Self::machine_word(from) };
            part.copy_from_slice(&word.to_ne_bytes());
        }
        out
    }

    /// Copies whole words; the last may bring bytes that nobody asked for, which stay beyond the vector's length.
    #[inline]
    fn copy_out(&self, at: usize, len: usize, out: &mut Vec<u8>) {
        let words = len.div_ceil(WORD_BYTES);
        assert!(at.is_multiple_of(HEADER_BYTES), "payloads are aligned");
        self.check(at, words * WORD_BYTES);
        out.reserve(words * WORD_BYTES);
        let to = out.spare_capacity_mut().as_mut_ptr();
        for i in 0..words {
            // SAFETY: `check` covers all words, and the mapping lives as long as `self`.
            let from = unsafe { self.raw.as_ptr().add(at).cast::<usize>().add(i) };
            // SAFETY: within the mapping as just said, aligned because `at` is a multiple of 16.
            let word = unsafe { Self::machine_word(from) };
            // SAFETY: `reserve` made room for `words` words behind the vector's length.
            let to = unsafe { to.add(i * WORD_BYTES) };
            // SAFETY: room for one word as just said; written unaligned, since a vector's bytes may start anywhere.
            unsafe { to.cast::<usize>().write_unaligned(word) };
        }
        // SAFETY: the loop has initialised at least `len` bytes behind the old length, within the capacity.
        unsafe { out.set_len(out.len() + len) };
    }
}

/// Words that this machine loads at once: 8 bytes or 4.
const WORD_BYTES: usize = size_of::<usize>();
