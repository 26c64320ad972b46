//! Going into the background.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::AsFd as _;

use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

/// What is left of the process that was started: it waits for its child's word, then ends.
#[derive(Debug)]
pub struct Starter {
    word: PipeReader,
}

impl Starter {
    /// The exit status that the background process said; 1 if it ended without a word.
    pub fn wait(mut self) -> u8 {
        let mut status = [1];
        let _ = self.word.read_exact(&mut status);
        let [status] = status;
        status
    }
}

/// The process in the background.
#[derive(Debug)]
pub struct Background {
    word: PipeWriter,
}

impl Background {
    /// Lets the starter end with `status`, and lets go of the terminal.
    pub fn started(mut self, status: u8) -> io::Result<()> {
        self.word.write_all(&[status])?;
        let nothing = File::options().read(true).write(true).open("/dev/null")?;
        dup2_stdin(nothing.as_fd())?;
        dup2_stdout(nothing.as_fd())?;
        dup2_stderr(nothing.as_fd())?;
        Ok(())
    }
}

/// Both sides of going into the background.
#[derive(Debug)]
pub enum Side {
    Starter(Starter),
    Background(Background),
}

/// Splits in two: the caller's shell waits for one, the other has a session of its own. The terminal stays until
/// [`Background::started`], so that errors of starting are seen.
pub fn fork_into_background() -> io::Result<Side> {
    let (reader, writer) = io::pipe()?;
    // SAFETY: called before there is a second thread, so the copy of the memory is consistent, locks included.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(Side::Starter(Starter { word: reader })),
        ForkResult::Child => {
            setsid()?;
            Ok(Side::Background(Background { word: writer }))
        }
    }
}

/// Whoever started us may have closed descriptors 0 to 2; a socket in their place would get our log.
pub fn fill_standard_descriptors() -> io::Result<()> {
    use std::os::fd::{AsRawFd as _, IntoRawFd as _};
    loop {
        let nothing = File::options().read(true).write(true).open("/dev/null")?;
        if nothing.as_raw_fd() > 2 {
            return Ok(());
        }
        let _ = nothing.into_raw_fd();
    }
}
