//! Starting, reaping and killing processes.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::SockType;
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fexecve, fork};

use super::signals;

/// A process of ours. Its number is not used again before it is reaped, so it can be signalled until then.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ProcessId(i32);

impl std::fmt::Display for ProcessId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The descriptor that a child has its control channel on.
pub const CONTROL_FD: i32 = 3;

/// The program that is running now, whatever happens to its file.
pub fn open_own_program() -> io::Result<OwnedFd> {
    Ok(open(
        "/proc/self/exe",
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?)
}

/// A child's end of its control channel: descriptor 3, if it is what a supervisor puts there. To be called once, by
/// the child's first step.
pub fn take_control() -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd as _;
    // SAFETY: takes numbers only, and fails when there is no such descriptor.
    Errno::result(unsafe { libc::fcntl(CONTROL_FD, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the descriptor is open (above), and this is the process's first step, so nobody else here owns it.
    let control = unsafe { OwnedFd::from_raw_fd(CONTROL_FD) };
    match getsockopt(&control, SockType) {
        Ok(nix::sys::socket::SockType::SeqPacket) => Ok(control),
        _ => Err(io::ErrorKind::NotConnected.into()),
    }
}

/// This process.
pub fn own_id() -> ProcessId {
    ProcessId(Pid::this().as_raw())
}

/// What a new process is made of.
#[derive(Debug)]
pub struct Spawn<'a> {
    pub program: BorrowedFd<'a>,
    /// The first argument: what `ps` shows.
    pub title: &'a CStr,
    pub environment: &'a [CString],
    /// Its standard output and error.
    pub log: BorrowedFd<'a>,
    /// Its descriptor 3.
    pub control: BorrowedFd<'a>,
}

impl Spawn<'_> {
    /// Forks, and executes the program with these descriptors alone. Errors of the new process before it executes
    /// end it with status 127.
    pub fn start(&self) -> io::Result<ProcessId> {
        let nothing = File::options().read(true).open("/dev/null")?;
        // SAFETY: the supervisor has one thread, so the child's copy of the memory is consistent, locks included.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(ProcessId(child.as_raw())),
            ForkResult::Child => {
                let never = self.execute(nothing.as_fd());
                let _ = nix::unistd::write(self.log, describe(&never).as_bytes());
                // SAFETY: ends the process without running what its parent registered for its own end.
                unsafe { libc::_exit(127) }
            }
        }
    }

    fn execute(&self, nothing: BorrowedFd<'_>) -> io::Error {
        let prepare = || -> io::Result<OwnedFd> {
            signals::ignore_from_outside()?;
            // Out of the way of the numbers that are given out next.
            let program = out_of_the_way(self.program)?;
            let (log, control) = (out_of_the_way(self.log)?, out_of_the_way(self.control)?);
            let nothing = out_of_the_way(nothing)?;
            put_at(nothing.as_fd(), 0)?;
            put_at(log.as_fd(), 1)?;
            put_at(log.as_fd(), 2)?;
            put_at(control.as_fd(), CONTROL_FD)?;
            close_on_exec_from(CONTROL_FD + 1);
            Ok(program)
        };
        match prepare() {
            Ok(program) => match fexecve(&program, &[self.title], self.environment) {
                Ok(never) => match never {},
                Err(e) => e.into(),
            },
            Err(e) => e,
        }
    }
}

fn describe(error: &io::Error) -> String {
    format!("Error: Unable to start a process: {error}\n")
}

fn out_of_the_way(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd as _;
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(CONTROL_FD + 1))?;
    // SAFETY: the kernel has just made this descriptor for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

fn put_at(fd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: takes numbers only. What was at `number` is not used again: this is the child between fork and exec,
    // and everything that it still needs has been put out of the way.
    Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), number) })?;
    Ok(())
}

/// Our own descriptors close themselves; this is for what whoever started the broker left open. Kernels before 5.11
/// do not have it, and then that stays open.
fn close_on_exec_from(first: i32) {
    // SAFETY: takes numbers only, and closes nothing before exec.
    let _ = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            CLOSE_RANGE_CLOEXEC,
        )
    };
}

const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Exited(i32),
    Killed(Signal),
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Killed(signal) => write!(f, "was ended by {}", signal.as_str()),
        }
    }
}

/// The next process that has ended; as process 1 that may be anybody's orphan. `None`: no more for now.
pub fn reap() -> Option<(ProcessId, Ending)> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) => {
                return Some((ProcessId(pid.as_raw()), Ending::Exited(status)));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                return Some((ProcessId(pid.as_raw()), Ending::Killed(signal)));
            }
            Ok(WaitStatus::StillAlive) => return None,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// What a process got of the processors, since it started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProcessorTime {
    /// On one.
    pub used: Duration,
    /// Ready to run, while all were busy with others; only waits that are over.
    pub waited: Duration,
    /// On one, or waiting for one, at this moment.
    pub is_ready: bool,
}

/// `None` where the kernel does not count that, and for a process that is gone.
pub fn processor_time(pid: ProcessId) -> Option<ProcessorTime> {
    // Nanoseconds on a processor, nanoseconds waiting for one, turns.
    let counted = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    let mut nanos = counted.split_ascii_whitespace().map(str::parse);
    let mut next = || Some(Duration::from_nanos(nanos.next()?.ok()?));
    let (used, waited) = (next()?, next()?);
    // The state follows the name, which may hold anything, in brackets.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, state) = stat.rsplit_once(')')?;
    Some(ProcessorTime {
        used,
        waited,
        is_ready: state.trim_start().starts_with('R'),
    })
}

/// Ends a child that has not been reaped yet, now.
pub fn kill_now(pid: ProcessId) {
    // The only failure is that it has ended already.
    let _ = kill(Pid::from_raw(pid.0), Signal::SIGKILL);
}
