//! What waits to be written to one connection.

use std::collections::VecDeque;
use std::rc::Rc;

/// Bytes in order, gathered over a turn and written with few system calls. An empty one owns no memory.
#[derive(Debug, Default)]
pub struct Output {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that are written already.
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
        if !matches!(self.chunks.back(), Some(Chunk::Owned(_))) {
            self.chunks.push_back(Chunk::Owned(Vec::new()));
        }
        if let Some(Chunk::Owned(tail)) = self.chunks.back_mut() {
            let before = tail.len();
            write(tail);
            self.len += tail.len() - before;
        }
    }

    /// Puts `bytes` at the end without a copy.
    pub fn push_shared(&mut self, bytes: Rc<[u8]>) {
        self.len += bytes.len();
        self.chunks.push_back(Chunk::Shared(bytes));
    }

    /// The first `N` buffers that wait, for `writev`.
    pub fn slices<'a>(&'a self, out: &mut Vec<std::io::IoSlice<'a>>, most: usize) {
        let mut skip = self.written;
        for chunk in self.chunks.iter().take(most) {
            let bytes: &[u8] = match chunk {
                Chunk::Owned(v) => v,
                Chunk::Shared(s) => s,
            };
            out.push(std::io::IoSlice::new(bytes.get(skip..).unwrap_or(&[])));
            skip = 0;
        }
    }

    /// Forgets the first `n` bytes: they were written.
    pub fn consume(&mut self, n: usize) {
        let mut n = n.min(self.len);
        self.len -= n;
        while let Some(chunk) = self.chunks.front() {
            let left = chunk.len() - self.written;
            if n < left {
                self.written += n;
                return;
            }
            n -= left;
            self.written = 0;
            self.chunks.pop_front();
        }
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
        }
    }
}

impl Chunk {
    fn len(&self) -> usize {
        match self {
            Self::Owned(v) => v.len(),
            Self::Shared(s) => s.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(out: &Output) -> Vec<u8> {
        let mut slices = Vec::new();
        out.slices(&mut slices, usize::MAX);
        slices.iter().flat_map(|s| s.to_vec()).collect()
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
}
