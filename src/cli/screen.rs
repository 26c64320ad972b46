//! What the client programs print.

use std::io::{self, Write};

use crate::base::log::Log;
use crate::client::Client;

/// Standard output, gathered and written once a turn, and standard error.
#[derive(Debug)]
pub(super) struct Screen {
    out: Vec<u8>,
    quiet: bool,
    broken: Option<io::Error>,
}

impl Screen {
    pub(super) fn new(quiet: bool) -> Self {
        Self {
            out: Vec::new(),
            quiet,
            broken: None,
        }
    }

    /// Where to write what is for standard output.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Prints what the client has said about its packets.
    pub(super) fn debug(&mut self, client: &mut Client) {
        let log: &mut Log = client.log();
        if !log.pending().is_empty() {
            self.out.extend_from_slice(log.pending().as_bytes());
            log.consume(usize::MAX);
        }
    }

    /// Prints an error about the connection or a message, unless `--quiet`.
    pub(super) fn error(&mut self, text: &str) {
        self.flush();
        if !self.quiet {
            complain(text);
        }
    }

    /// Writes what is gathered if it is a lot: one turn may bring many messages.
    pub(super) fn flush_if_large(&mut self) {
        if self.out.len() >= OUT_BYTES_GATHERED {
            self.flush();
        }
    }

    /// Writes what is gathered. The first failure is kept, and all that follows goes nowhere.
    pub(super) fn flush(&mut self) {
        if !self.out.is_empty() {
            if self.broken.is_none() {
                let mut stdout = io::stdout().lock();
                self.broken = stdout
                    .write_all(&self.out)
                    .and_then(|()| stdout.flush())
                    .err();
            }
            self.out.clear();
        }
    }

    /// Why nothing can be printed any more.
    pub(super) fn broken(&self) -> Option<&io::Error> {
        self.broken.as_ref()
    }
}

/// Prints to standard error, whatever `--quiet` says. If that fails there is nobody left to tell.
pub(super) fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
    let _ = io::stderr().write_all(b"\n");
}

/// A system error in the words of the system alone.
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// More than a read brings, if it is no large message.
const OUT_BYTES_GATHERED: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_lose_their_number() {
        let error = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        assert_eq!(words(&error), "Connection refused");
    }
}
