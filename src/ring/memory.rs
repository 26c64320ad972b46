//! What the rings' algorithm needs of shared memory and of doorbells. `shm.rs` has the real ones; the loom tests
//! have theirs, so that what loom checks is the code that runs.

use std::sync::atomic::Ordering;

use super::record::HEADER_BYTES;

/// A region that somebody else may be writing to at this moment.
pub trait View {
    /// The shared word at `at`.
    fn load(&self, at: usize, order: Ordering) -> u32;

    /// The 16 bytes at `at`, a multiple of 16.
    fn header(&self, at: usize) -> [u8; HEADER_BYTES];

    /// Appends the `len` bytes at `at`, a multiple of 16, to `out`.
    fn copy_out(&self, at: usize, len: usize, out: &mut Vec<u8>);
}

/// A region that this process alone writes to.
pub trait Region: View {
    /// Sets the shared word at `at`.
    fn store(&self, at: usize, value: u32, order: Ordering);

    /// Copies `bytes` to `at`.
    fn copy_in(&self, at: usize, bytes: &[u8]);

    /// A full fence (`SeqCst`): what this thread stored before is seen by whoever fences later, or what they
    /// stored before their fence is seen by this thread's later loads.
    fn fence(&self);
}

/// Wakes a member that sleeps.
pub trait Bell {
    /// Wakes the owner, now or when it next sleeps.
    fn ring(&self);

    /// Takes back all rings so far. Only its owner does this.
    fn hush(&self);
}
