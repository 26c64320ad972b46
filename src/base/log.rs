//! The log as a value: deciding code writes lines into a buffer, the process's loop sends them on.
//!
//! Lines are `TIMESTAMP: text` without a level, as the original writes them. Control characters are escaped, so one
//! call is always one line.

use std::fmt::{self, Write as _};

use super::limits::{LOG_BUFFER_BYTES_MAX, LOG_LINE_BYTES_MAX};

/// What a line is about; one bit each, with the numbers of the original.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum LogType {
    /// `information`
    Info = 1,
    /// `notice`
    Notice = 2,
    /// `warning`
    Warning = 4,
    /// `error`
    Error = 8,
    /// `debug`
    Debug = 16,
    /// `subscribe`
    Subscribe = 32,
    /// `unsubscribe`
    Unsubscribe = 64,
    /// `websockets`
    Websockets = 128,
}

/// A set of [`LogType`]s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogMask(pub u32);

impl LogMask {
    /// No line at all (`-q`, `log_type none`).
    pub const NONE: Self = Self(0);
    /// error, warning, notice, information: the default.
    pub const DEFAULT: Self = Self(1 | 2 | 4 | 8);
    /// Everything (`-v`, `log_type all`).
    pub const ALL: Self = Self(0xffff_ffff);

    /// Whether lines of this type are wanted.
    pub const fn contains(self, kind: LogType) -> bool {
        self.0 & kind as u32 != 0
    }

    /// The set with `kind` in it.
    #[must_use]
    pub const fn with(self, kind: LogType) -> Self {
        Self(self.0 | kind as u32)
    }
}

/// Lines waiting to be written. At [`LOG_BUFFER_BYTES_MAX`] further lines are dropped and counted; the count is
/// logged once there is room again.
#[derive(Debug)]
pub struct Log {
    mask: LogMask,
    buffer: String,
    dropped: u64,
    stamp: String,
}

impl Log {
    /// An empty log that keeps lines of the types in `mask`.
    pub fn new(mask: LogMask) -> Self {
        Self {
            mask,
            buffer: String::new(),
            dropped: 0,
            stamp: String::new(),
        }
    }

    /// Keeps lines of other types from now on.
    pub fn set_mask(&mut self, mask: LogMask) {
        self.mask = mask;
    }

    /// What stands before each line from now on: the time as configured, with `: ` after it, or nothing.
    pub fn set_stamp(&mut self, stamp: &str) {
        self.stamp.clear();
        self.stamp.push_str(stamp);
    }

    /// Whether a line of this type would be kept; ask before doing work for one.
    #[inline]
    pub fn wants(&self, kind: LogType) -> bool {
        self.mask.contains(kind)
    }

    /// Adds one line: `log.line(LogType::Notice, format_args!("..."))`.
    pub fn line(&mut self, kind: LogType, text: fmt::Arguments<'_>) {
        if !self.wants(kind) {
            return;
        }
        if self.buffer.len() >= LOG_BUFFER_BYTES_MAX {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            self.append(format_args!("Warning: {dropped} log lines were dropped."));
        }
        self.append(text);
    }

    fn append(&mut self, text: fmt::Arguments<'_>) {
        self.buffer.push_str(&self.stamp);
        let line_start = self.buffer.len();
        // Writing to a String cannot fail, and the sink cuts instead of failing.
        let _ = Escaped {
            out: &mut self.buffer,
            room: LOG_LINE_BYTES_MAX,
        }
        .write_fmt(text);
        debug_assert!(self.buffer.len() - line_start <= LOG_LINE_BYTES_MAX);
        self.buffer.push('\n');
    }

    /// The whole lines gathered so far; `clear` them once they are written.
    pub fn pending(&self) -> &str {
        &self.buffer
    }

    /// Forgets the first `bytes` of [`Log::pending`], which the reader has taken.
    pub fn consume(&mut self, bytes: usize) {
        if bytes >= self.buffer.len() {
            self.buffer.clear();
        } else {
            self.buffer.drain(..bytes);
        }
    }
}

/// Escapes control characters, and cuts what exceeds `room` bytes.
struct Escaped<'a> {
    out: &'a mut String,
    room: usize,
}

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        // Tabs stand in the original's own lines (subscriptions are indented by one).
        if s.len() <= self.room && !s.chars().any(|c| c.is_control() && c != '\t') {
            self.out.push_str(s);
            self.room -= s.len();
            return Ok(());
        }
        for c in s.chars() {
            let escaped = c.is_control() && c != '\t';
            let need = if escaped {
                c.escape_default().count()
            } else {
                c.len_utf8()
            };
            if need > self.room {
                self.room = 0;
                break;
            }
            self.room -= need;
            if escaped {
                self.out.extend(c.escape_default());
            } else {
                self.out.push(c);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_be_split_by_what_a_client_sends() {
        let mut log = Log::new(LogMask::ALL);
        log.line(LogType::Notice, format_args!("id {}", "a\nb\x1b[2J"));
        assert_eq!(log.pending(), "id a\\nb\\u{1b}[2J\n");
    }

    #[test]
    fn unwanted_types_leave_no_trace() {
        let mut log = Log::new(LogMask::DEFAULT);
        log.line(LogType::Debug, format_args!("x"));
        assert_eq!(log.pending(), "");
    }

    #[test]
    fn long_lines_are_cut_and_a_full_buffer_counts() {
        let mut log = Log::new(LogMask::ALL);
        log.line(LogType::Info, format_args!("{}", "x".repeat(5000)));
        assert_eq!(log.pending().len(), LOG_LINE_BYTES_MAX + 1);
        while log.pending().len() < LOG_BUFFER_BYTES_MAX {
            log.line(LogType::Info, format_args!("{}", "x".repeat(900)));
        }
        log.line(LogType::Info, format_args!("lost"));
        log.consume(usize::MAX);
        log.line(LogType::Info, format_args!("next"));
        assert_eq!(log.pending(), "Warning: 1 log lines were dropped.\nnext\n");
    }
}
