//! The file in which a user keeps options that shall always hold.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use super::options::{Defaults, Options, Program, Stop};
use super::screen::words;
use crate::base::limits::CLIENT_DEFAULTS_BYTES_MAX;

/// The options of this process: its command line, and the file of its user.
pub(super) fn options(program: Program) -> Result<Options, Stop> {
    let defaults = load(program)?;
    Options::parse(program, defaults.as_ref(), std::env::args_os().skip(1))
}

/// Most users have none. One that cannot be read is an error: what it says may be a password or a host.
fn load(program: Program) -> Result<Option<Defaults>, Stop> {
    let Some(path) = path(program) else {
        return Ok(None);
    };
    match read(&path) {
        Ok(text) => Ok(Some(Defaults { path, text })),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(Stop::Error(format!(
            "Error: Unable to read {}: {}",
            path.display(),
            words(&error)
        ))),
    }
}

fn path(program: Program) -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let dir = match set("XDG_CONFIG_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(set("HOME")?).join(".config"),
    };
    Some(dir.join(program.name()))
}

fn read(path: &std::path::Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let bound = CLIENT_DEFAULTS_BYTES_MAX as u64 + 1;
    File::open(path)?.take(bound).read_to_end(&mut text)?;
    if text.len() > CLIENT_DEFAULTS_BYTES_MAX {
        return Err(io::Error::other("File is too large"));
    }
    Ok(text)
}
