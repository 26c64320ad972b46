//! Where the log goes: the supervisor's own lines and those of its children, which come through pipes and are opaque
//! here.
//!
//! Nothing in this file waits: what a terminal or a collector does not take is kept up to a bound, then dropped
//! whole line by whole line, and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::base::limits::{
    LOG_BUFFER_BYTES_MAX, LOG_CHILD_LINE_BYTES_MAX, LOG_READ_BYTES_PER_TURN,
};
use crate::config::{Config, LogDest};

/// Every destination.
#[derive(Debug, Default)]
pub struct Destinations {
    outputs: Vec<Output>,
}

#[derive(Debug)]
struct Output {
    sink: Sink,
    waiting: Vec<u8>,
    dropped: u64,
}

#[derive(Debug)]
enum Sink {
    Stdout(io::Stdout),
    Stderr(io::Stderr),
    File(File),
}

impl Destinations {
    /// Opens what is configured. A file that cannot be opened is named with the reason.
    pub fn open(config: &Config) -> Result<Self, (String, io::Error)> {
        let open = |dest: &LogDest| {
            let sink = match dest {
                LogDest::Stdout => Sink::Stdout(io::stdout()),
                LogDest::Stderr => Sink::Stderr(io::stderr()),
                LogDest::File(path) => {
                    let file = OpenOptions::new().append(true).create(true).open(path);
                    Sink::File(file.map_err(|e| (path.clone(), e))?)
                }
            };
            Ok(Output {
                sink,
                waiting: Vec::new(),
                dropped: 0,
            })
        };
        let outputs = config.log_dests.iter().map(open);
        Ok(Self {
            outputs: outputs.collect::<Result<_, _>>()?,
        })
    }

    /// Takes over what waits for the destinations that were open before (a reload).
    pub fn inherit(&mut self, mut before: Self) {
        before.write();
    }

    /// Appends whole lines.
    pub fn append(&mut self, lines: &[u8]) {
        for output in &mut self.outputs {
            output.append(lines);
        }
    }

    /// Writes what waits, as far as it goes.
    pub fn write(&mut self) {
        for output in &mut self.outputs {
            output.write();
        }
    }

    /// Whether something waits still.
    pub fn has_waiting(&self) -> bool {
        self.outputs.iter().any(|output| !output.waiting.is_empty())
    }
}

impl Output {
    fn append(&mut self, lines: &[u8]) {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if self.waiting.len() + line.len() > LOG_BUFFER_BYTES_MAX {
                self.write();
            }
            if self.waiting.len() + line.len() > LOG_BUFFER_BYTES_MAX {
                self.dropped += 1;
                continue;
            }
            if self.dropped > 0 {
                let dropped = std::mem::take(&mut self.dropped);
                let note = format!("Warning: {dropped} log lines were dropped.\n");
                self.waiting.extend_from_slice(note.as_bytes());
            }
            self.waiting.extend_from_slice(line);
        }
    }

    fn write(&mut self) {
        let mut written = 0;
        while let Some(rest) = self.waiting.get(written..).filter(|rest| !rest.is_empty()) {
            if !self.sink.takes_more() {
                break;
            }
            // A pipe with room takes this much without waiting.
            let piece = rest.get(..libc::PIPE_BUF).unwrap_or(rest);
            match self.sink.write(piece) {
                Ok(n) if n > 0 => written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                // Nobody is left to tell that the log cannot be written.
                Ok(_) | Err(_) => written = self.waiting.len(),
            }
        }
        self.waiting.drain(..written);
    }
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => {
                // Behind a line buffer of the standard library's; all of it goes out now.
                out.write_all(bytes)?;
                out.flush()?;
                Ok(bytes.len())
            }
            Self::Stderr(err) => err.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn takes_more(&self) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stdout(out) => out.as_fd(),
            Self::Stderr(err) => err.as_fd(),
            Self::File(file) => file.as_fd(),
        }
    }
}

/// The reading end of one child's log.
#[derive(Debug)]
pub struct ChildLog {
    pipe: io::PipeReader,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
}

impl ChildLog {
    /// Reads from a pipe that does not wait.
    pub fn new(pipe: io::PipeReader) -> Self {
        Self {
            pipe,
            partial: Vec::new(),
        }
    }

    /// Passes on the whole lines that are there, up to a bound for one turn. `false` at the end.
    pub fn read(&mut self, to: &mut Destinations) -> bool {
        let mut left = LOG_READ_BYTES_PER_TURN;
        let mut buffer = [0; 16 * 1024];
        while left > 0 {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return false,
                Ok(n) => {
                    left = left.saturating_sub(n);
                    self.take(buffer.get(..n).unwrap_or_default(), to);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// The child is dead: its last words, whole line or not.
    pub fn finish(mut self, to: &mut Destinations) {
        self.read(to);
        if !self.partial.is_empty() {
            self.partial.push(b'\n');
            to.append(&self.partial);
        }
    }

    fn take(&mut self, bytes: &[u8], to: &mut Destinations) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if self.partial.len() > LOG_CHILD_LINE_BYTES_MAX {
                self.partial.truncate(LOG_CHILD_LINE_BYTES_MAX);
                self.partial.push(b'\n');
            }
            if self.partial.last() == Some(&b'\n') {
                to.append(&self.partial);
                self.partial.clear();
            }
        }
    }
}

impl AsFd for ChildLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;

    use super::*;

    fn to_file() -> (Destinations, File) {
        let memory = nix::sys::memfd::memfd_create("log", nix::sys::memfd::MFdFlags::empty());
        let file = File::from(memory.unwrap());
        let output = Output {
            sink: Sink::File(file.try_clone().unwrap()),
            waiting: Vec::new(),
            dropped: 0,
        };
        (
            Destinations {
                outputs: vec![output],
            },
            file,
        )
    }

    fn text(mut file: File) -> String {
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    fn pipe() -> (ChildLog, File) {
        let flags = nix::fcntl::OFlag::O_NONBLOCK;
        let (reader, writer) = nix::unistd::pipe2(flags).unwrap();
        (ChildLog::new(reader.into()), writer.into())
    }

    #[test]
    fn lines_of_two_children_are_never_mixed() {
        let (mut destinations, file) = to_file();
        let ((mut one, mut to_one), (mut two, mut to_two)) = (pipe(), pipe());
        to_one.write_all(b"first half, ").unwrap();
        assert!(one.read(&mut destinations));
        to_two.write_all(b"whole\n").unwrap();
        assert!(two.read(&mut destinations));
        to_one.write_all(b"second half\nnext").unwrap();
        assert!(one.read(&mut destinations));
        destinations.write();
        assert_eq!(text(file), "whole\nfirst half, second half\n");
    }

    #[test]
    fn last_words_get_through_without_a_line_end() {
        let (mut destinations, file) = to_file();
        let (log, mut writer) = pipe();
        writer
            .write_all(b"panicked at x\nassertion failed")
            .unwrap();
        drop(writer);
        log.finish(&mut destinations);
        destinations.write();
        assert_eq!(text(file), "panicked at x\nassertion failed\n");
    }

    #[test]
    fn a_line_without_end_is_cut_and_takes_no_more_memory() {
        let (mut destinations, file) = to_file();
        let (mut log, mut writer) = pipe();
        for _ in 0..LOG_CHILD_LINE_BYTES_MAX / 512 + 1 {
            writer.write_all(&[b'x'; 512]).unwrap();
            log.read(&mut destinations);
            assert!(log.partial.len() <= LOG_CHILD_LINE_BYTES_MAX);
        }
        destinations.write();
        assert_eq!(text(file).len(), LOG_CHILD_LINE_BYTES_MAX + 1);
    }

    #[test]
    fn a_reader_that_stands_still_costs_lines_but_no_time_and_no_memory() {
        let (mut reader, writer) = io::pipe().unwrap();
        let output = Output {
            sink: Sink::File(File::from(std::os::fd::OwnedFd::from(writer))),
            waiting: Vec::new(),
            dropped: 0,
        };
        let mut destinations = Destinations {
            outputs: vec![output],
        };
        let line = [&[b'x'; 99][..], b"\n"].concat();
        for _ in 0..10_000 {
            destinations.append(&line);
            destinations.write();
        }
        assert!(destinations.has_waiting());
        assert!(destinations.outputs[0].waiting.len() <= LOG_BUFFER_BYTES_MAX);
        let mut got = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        while destinations.has_waiting() {
            destinations.write();
            let n = reader.read(&mut buffer).unwrap();
            got.extend_from_slice(&buffer[..n]);
        }
        destinations.append(b"and on\n");
        destinations.write();
        drop(destinations);
        reader.read_to_end(&mut got).unwrap();
        let text = String::from_utf8(got).unwrap();
        assert!(text.ends_with(" log lines were dropped.\nand on\n"));
        assert!(
            text.lines()
                .all(|l| l.len() == 99 || l.contains("dropped") || l == "and on")
        );
    }
}
