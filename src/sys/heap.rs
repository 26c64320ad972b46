//! Bytes that this process holds on its heap, and the most that it ever held: an allocator that counts what it hands
//! out and leaves the work to the system's.
//!
//! The counters are loaded and stored, not exchanged: the broker's processes have one thread each, and an exchange
//! costs as much as a small allocation. With more threads they would drift, but do no harm.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// To be named as `#[global_allocator]` by a program that wants to know.
#[derive(Debug)]
pub struct CountingHeap;

/// What was asked for and not given back, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HeapBytes {
    /// Now.
    pub current: usize,
    /// At most, since the process started.
    pub maximum: usize,
}

/// What this process holds; zeroes in a program without [`CountingHeap`].
pub fn bytes() -> HeapBytes {
    HeapBytes {
        current: CURRENT.load(Relaxed),
        maximum: MAXIMUM.load(Relaxed),
    }
}

static CURRENT: AtomicUsize = AtomicUsize::new(0);
static MAXIMUM: AtomicUsize = AtomicUsize::new(0);

#[inline]
fn took(bytes: usize) {
    let current = CURRENT.load(Relaxed).wrapping_add(bytes);
    CURRENT.store(current, Relaxed);
    if current > MAXIMUM.load(Relaxed) {
        MAXIMUM.store(current, Relaxed);
    }
}

#[inline]
fn gave_back(bytes: usize) {
    CURRENT.store(CURRENT.load(Relaxed).wrapping_sub(bytes), Relaxed);
}

// SAFETY: every call is the system allocator's with the same arguments, and what it returns is returned; counting
// touches two words of its own and neither allocates nor panics. So all that holds for `System` holds here.
unsafe impl GlobalAlloc for CountingHeap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is what `System` asks for.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            took(layout.size());
        }
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            took(layout.size());
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller got `block` from this allocator with `layout`, so `System` gave it out with the same.
        unsafe { System.dealloc(block, layout) };
        gave_back(layout.size());
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as in `dealloc`, and the caller's promise about `size` is what `System` asks for.
        let moved = unsafe { System.realloc(block, layout, size) };
        if !moved.is_null() {
            // Given back first, or a vector that grows would leave a maximum that was never reached.
            gave_back(layout.size());
            took(size);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tests' own program does not count, so nothing else moves the counters.
    #[test]
    fn what_is_given_back_no_longer_counts_and_the_maximum_stays() {
        let before = bytes().current;
        let heap = CountingHeap;
        let layout = Layout::from_size_align(1000, 8).unwrap();
        // SAFETY: the layout has a size, and the block is used with the layout that it was made with.
        let grown = unsafe {
            let block = heap.alloc_zeroed(layout);
            heap.realloc(block, layout, 5000)
        };
        assert!(!grown.is_null());
        assert_eq!(bytes().current - before, 5000);
        // SAFETY: `grown` came from `realloc` with this size and alignment.
        unsafe { heap.dealloc(grown, Layout::from_size_align(5000, 8).unwrap()) };
        assert_eq!(bytes().current, before);
        assert!(bytes().maximum >= before + 5000);
    }
}
