//! Before anything runs: whom the children become, the pid file, the size of the rings.

use std::ffi::CString;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use crate::base::limits::{
    DESCRIPTORS_CLIENTS_MIN, DESCRIPTORS_OWN, DESCRIPTORS_PER_CHILD, DESCRIPTORS_PER_PEER,
    RING_BYTES_AUTO_MAX, RING_BYTES_AUTO_MIN, RING_MEMORY_SHARE,
};
use crate::base::log::{Log, LogType};
use crate::config::Config;
use crate::sys::users::{self, Identity};
use crate::sys::{machine, process};

/// Why the broker cannot start; status 1. The words are those of the original.
#[derive(Debug)]
pub enum StartError {
    NoSuchUser(String),
    Users(io::Error),
    PidFile,
    LogFile(String),
    System(&'static str, io::Error),
    Descriptors { allowed: u64, needed: u64 },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchUser(name) => write!(
                f,
                "Error: Unable to drop privileges to '{name}' because this user does not exist."
            ),
            Self::Users(e) => write!(f, "Error: Unable to look up users: {e}."),
            Self::PidFile => f.write_str("Error: Unable to write pid file."),
            Self::LogFile(path) => {
                write!(f, "Error: Unable to open log file {path} for writing.")
            }
            Self::Descriptors { allowed, needed } => write!(
                f,
                "Error: Only {allowed} descriptors are allowed (ulimit -n), and these workers and listeners need {needed}."
            ),
            Self::System(what, e) => write!(f, "Error: Unable to {what}: {e}."),
        }
    }
}

impl std::error::Error for StartError {}

/// Whom the children become: nobody else unless we are root, and then never root unless that was asked for.
pub fn identity(config: &Config, log: &mut Log) -> Result<Option<Identity>, StartError> {
    if !users::am_root() {
        return Ok(None);
    }
    let wanted = config.user.as_deref();
    let name = wanted.unwrap_or(USER_DEFAULT);
    if name == "root" {
        return Ok(None);
    }
    let lookup = |name: &str| users::lookup(name).map_err(StartError::Users);
    if let Some(user) = lookup(name)? {
        return Ok(Some(user));
    }
    // As in the original, also when the default was written down.
    if name != USER_DEFAULT {
        return Err(StartError::NoSuchUser(name.to_owned()));
    }
    let Some(user) = lookup(USER_FALLBACK)? else {
        return Err(StartError::NoSuchUser(name.to_owned()));
    };
    log.line(
        LogType::Warning,
        format_args!(
            "Warning: There is no user '{USER_DEFAULT}', so '{USER_FALLBACK}' is used instead."
        ),
    );
    Ok(Some(user))
}

const USER_DEFAULT: &str = "mosquitto";
const USER_FALLBACK: &str = "nobody";

/// The pid file; it goes when this value does.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes this process's number, if a file is configured.
    pub fn write(config: &Config) -> Result<Option<Self>, StartError> {
        let Some(path) = &config.pid_file else {
            return Ok(None);
        };
        // Its directory may belong to a less privileged user, so a symbolic link there is not followed.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path);
        let mut file = file.map_err(|_| StartError::PidFile)?;
        write!(file, "{}", process::own_id()).map_err(|_| StartError::PidFile)?;
        Ok(Some(Self { path: path.into() }))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Bytes of each outbox: as configured, or by the machine's memory, a power of two.
pub fn ring_bytes(config: &Config, members: usize) -> u32 {
    if let Some(bytes) = config.ring_bytes {
        return 1 << bytes.max(1).ilog2();
    }
    let memory = machine::memory_bytes().unwrap_or(0);
    auto_ring_bytes(memory, members)
}

fn auto_ring_bytes(memory: u64, members: usize) -> u32 {
    let members = u64::try_from(members.max(1)).unwrap_or(u64::MAX);
    let each = memory / RING_MEMORY_SHARE / members;
    let each = u32::try_from(each).unwrap_or(u32::MAX);
    let bounded = each.clamp(RING_BYTES_AUTO_MIN, RING_BYTES_AUTO_MAX);
    // The largest power of two that is not larger.
    1 << bounded.ilog2()
}

/// Refuses to start where no client could be served. `sockets` listen, for all workers together.
pub fn check_descriptors(allowed: u64, workers: usize, sockets: usize) -> Result<(), StartError> {
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    // The store and the control process are children too.
    let (members, sockets) = (number(workers) + 2, number(sockets));
    let supervisor = DESCRIPTORS_OWN + members * DESCRIPTORS_PER_CHILD + sockets;
    // While a sibling is down, a worker has its listening sockets too.
    let own_sockets = sockets.div_ceil(number(workers).max(1)) * 2;
    let worker =
        DESCRIPTORS_OWN + members * DESCRIPTORS_PER_PEER + own_sockets + DESCRIPTORS_CLIENTS_MIN;
    let needed = supervisor.max(worker);
    if allowed < needed {
        return Err(StartError::Descriptors { allowed, needed });
    }
    Ok(())
}

/// What a child inherits of the environment: the time zone of its log lines, and whether a panic says where it came
/// from.
pub fn environment() -> Vec<CString> {
    ["TZ", "RUST_BACKTRACE"]
        .iter()
        .filter_map(|name| {
            let value = std::env::var(name).ok()?;
            CString::new(format!("{name}={value}")).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_workers_and_listeners_need_more_descriptors() {
        assert!(check_descriptors(16, 1, 1).is_err());
        assert!(check_descriptors(1024, 2, 4).is_ok());
        assert!(check_descriptors(1024, 56, 56 * 20).is_err());
        let Err(StartError::Descriptors { needed, .. }) = check_descriptors(16, 2, 4) else {
            panic!("16 are too few");
        };
        assert!(check_descriptors(needed - 1, 2, 4).is_err());
        assert!(check_descriptors(needed, 2, 4).is_ok());
    }

    #[test]
    fn rings_follow_the_machine() {
        assert_eq!(auto_ring_bytes(64 << 20, 2), RING_BYTES_AUTO_MIN);
        assert_eq!(auto_ring_bytes(16 << 30, 3), RING_BYTES_AUTO_MAX);
        for memory in [0, 1 << 28, 3 << 29, u64::MAX] {
            assert!(auto_ring_bytes(memory, 5).is_power_of_two());
        }
    }

    #[test]
    fn a_pid_file_is_no_way_to_write_elsewhere() {
        let dir = std::env::temp_dir().join(format!("pid-file-test-{}", process::own_id()));
        fs::create_dir_all(&dir).unwrap();
        let (target, link) = (dir.join("target"), dir.join("link"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut config = Config::default_local();
        config.pid_file = Some(link.to_str().unwrap().to_owned());
        assert!(matches!(PidFile::write(&config), Err(StartError::PidFile)));
        config.pid_file = Some(target.to_str().unwrap().to_owned());
        let written = PidFile::write(&config).unwrap();
        let text = fs::read_to_string(&target).unwrap();
        assert_eq!(text, process::own_id().to_string());
        drop(written);
        assert!(!target.exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
