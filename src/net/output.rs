//! What waits to be written to one connection.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;

/// Bytes in order, gathered over a turn and written with few system calls. An empty one owns no memory.
#[derive(Debug, Default)]
pub struct Output {
    /// What is complete, oldest first.
    chunks: VecDeque<Chunk>,
    /// What comes after the chunks and still grows. Most of the time there is nothing else.
    tail: Vec<u8>,
    /// Bytes of the first chunk (of the tail, if there is none) that are written already.
    written: usize,
    /// Bytes that still wait.
    len: usize,
}

#[derive(Debug)]
enum Chunk {
    Owned(Vec<u8>),
    Shared(Rc<[u8]>),
}

impl Output {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `bytes` to the end.
    pub fn push(&mut self, bytes: &[u8]) {
        self.append(|out| out.extend_from_slice(bytes));
    }

    /// Lets `write` append to the end of what waits (an encoder writes its packet in place).
    /// `write` must only append.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        // A slow reader's backlog is cut into pieces that are freed one by one as it catches up.
        if self.tail.len() >= PIECE_BYTES {
            self.finish_tail();
        }
        if self.tail.capacity() == 0 {
            self.tail.reserve(TAIL_BYTES_MIN);
        }
        let before = self.tail.len();
        write(&mut self.tail);
        self.len += self.tail.len() - before;
    }

    /// Puts `bytes` at the end without a copy.
    pub fn push_shared(&mut self, bytes: Rc<[u8]>) {
        if bytes.is_empty() {
            return;
        }
        self.finish_tail();
        self.len += bytes.len();
        self.chunks.push_back(Chunk::Shared(bytes));
    }

    /// The buffers that wait, in order; none is empty.
    pub fn waiting(&self) -> impl Iterator<Item = &[u8]> {
        let all = self.chunks.iter().map(Chunk::bytes).chain([&*self.tail]);
        let mut skip = self.written;
        all.map(move |bytes| bytes.get(std::mem::take(&mut skip)..).unwrap_or(&[]))
            .filter(|bytes| !bytes.is_empty())
    }

    /// Puts the first of them into `out`, for `writev`, and says how many there are.
    pub fn fill<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let places = out.iter_mut().zip(self.waiting());
        places
            .map(|(place, bytes)| *place = IoSlice::new(bytes))
            .count()
    }

    /// Forgets the first `n` bytes: they were written.
    pub fn consume(&mut self, n: usize) {
        if n >= self.len {
            *self = Self::default();
            return;
        }
        let mut n = n;
        self.len -= n;
        while let Some(chunk) = self.chunks.front() {
            let left = chunk.bytes().len() - self.written;
            if n < left {
                break;
            }
            n -= left;
            self.written = 0;
            self.chunks.pop_front();
        }
        self.written += n;
    }

    fn finish_tail(&mut self) {
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.chunks.push_back(Chunk::Owned(tail));
        }
    }
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(v) => v,
            Self::Shared(s) => s,
        }
    }
}

/// A tail that is as long as this is complete.
const PIECE_BYTES: usize = 64 * 1024;
/// A new tail has room for some small packets at once.
const TAIL_BYTES_MIN: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gathered(out: &Output) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 1024];
        let n = out.fill(&mut slices);
        let filled: Vec<u8> = slices[..n].iter().flat_map(|s| s.to_vec()).collect();
        assert_eq!(filled, out.waiting().flatten().copied().collect::<Vec<_>>());
        filled
    }

    #[test]
    fn bytes_come_out_in_order_however_they_went_in() {
        let mut out = Output::default();
        out.push(b"ab");
        out.push_shared(Rc::from(&b"cdef"[..]));
        out.append(|v| v.extend_from_slice(b"gh"));
        assert_eq!((out.len(), gathered(&out)), (8, b"abcdefgh".to_vec()));
        out.consume(3);
        assert_eq!((out.len(), gathered(&out)), (5, b"defgh".to_vec()));
        out.consume(5);
        assert!(out.is_empty());
        out.push(b"x");
        assert_eq!(gathered(&out), b"x");
    }

    #[test]
    fn an_empty_output_owns_no_memory() {
        let mut out = Output::default();
        out.push(&[1; 300_000]);
        out.push_shared(Rc::from(&b"cdef"[..]));
        out.consume(300_004);
        assert_eq!((out.tail.capacity(), out.chunks.capacity()), (0, 0));
    }

    proptest! {
        #[test]
        fn any_mix_of_writes_and_takes_is_a_queue_of_bytes(
            steps in prop::collection::vec((0u8..3, 0usize..9000), 1..60),
        ) {
            let (mut out, mut model, mut next) = (Output::default(), VecDeque::new(), 0);
            for (what, n) in steps {
                let bytes: Vec<u8> = (0..=u8::MAX).cycle().skip(next).take(n).collect();
                match what {
                    0 => out.push(&bytes),
                    1 => out.push_shared(Rc::from(&*bytes)),
                    _ => {
                        out.consume(n);
                        model.drain(..n.min(model.len()));
                    }
                }
                if what < 2 {
                    next = (next + n) % 256;
                    model.extend(bytes);
                }
                prop_assert_eq!(out.len(), model.len());
            }
            prop_assert_eq!(gathered(&out), Vec::from(model));
        }
    }
}
