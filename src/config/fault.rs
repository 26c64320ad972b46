//! What can be wrong with a configuration, and the words for it. Where the original has words, they stand in ours,
//! since scripts match them.

use std::fmt;

/// One fault of a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// File and line; `None` if the file itself could not be read.
    pub place: Option<Place>,
    /// The line of the main file that included the file.
    pub included_at: Option<Place>,
    /// The directive as it was written.
    pub option: String,
    /// What is wrong.
    pub problem: Problem,
}

/// A line of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The file as messages name it.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
}

/// What is wrong with a line. The words of the original stand in its `Display`, since scripts match them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// There is no such directive.
    Unknown { option: String },
    /// There is no value.
    Empty { option: String },
    /// The value is not one of those that are allowed.
    Invalid {
        option: String,
        value: String,
        allowed: String,
    },
    /// May be given once only.
    Duplicate { option: String },
    /// Not UTF-8, or control characters.
    NotText,
    /// Known, but this version cannot do it. `unless` are the values that it can do.
    NotBuilt { unless: String },
    /// Port 0 is a Unix socket, and its path is missing.
    UnixWithoutPath,
    /// More of something than the broker can hold.
    TooMany { what: &'static str, max: usize },
    /// A file could not be read.
    File(FileFault),
}

/// Why a file or a directory could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FileFault {
    /// The system refused; `cause` are its words.
    Unreadable { path: String, cause: String },
    /// A directory stands where a file should.
    IsDirectory { path: String },
    /// Larger than [`crate::base::limits::CONFIG_FILE_BYTES_MAX`].
    TooLarge { path: String, bytes_max: u64 },
    /// `include_dir` names what is no readable directory.
    IncludeDir { path: String, cause: String },
}

impl ConfigError {
    /// A file that could not be read at all.
    pub fn unreadable(fault: FileFault) -> Self {
        Self {
            place: None,
            included_at: None,
            option: String::new(),
            problem: Problem::File(fault),
        }
    }

    /// The lines to log, of which the `Error found at` ones are as in the original.
    pub fn log_lines(&self) -> Vec<String> {
        let mut lines = vec![format!("Error: {self}.")];
        for place in self.place.iter().chain(&self.included_at) {
            lines.push(format!("Error found at {}:{}.", place.path, place.line));
        }
        lines
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { path, line }) = &self.place {
            write!(f, "{path}:{line}: ")?;
        }
        if !self.option.is_empty() {
            write!(f, "{}: ", self.option)?;
        }
        write!(f, "{}", self.problem)
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { option } => {
                write!(f, "Unknown configuration variable \"{option}\"")?;
                match option.contains('\t') {
                    true => f.write_str(", words are separated by spaces, not by tabs"),
                    false => f.write_str(", mosquitto.conf(5) lists those there are"),
                }
            }
            Self::Empty { option } => write!(f, "Empty {option} value in configuration"),
            Self::Invalid {
                option,
                value,
                allowed,
            } => write!(f, "Invalid {option} value ({value}), allowed: {allowed}"),
            Self::Duplicate { option } => {
                write!(f, "Duplicate {option} value in configuration, allowed: one")
            }
            Self::NotText => f.write_str(
                "Malformed UTF-8 in configuration, allowed: UTF-8 without control characters",
            ),
            Self::NotBuilt { unless } => {
                f.write_str("not built yet in this version of mosquitto")?;
                match unless.is_empty() {
                    true => f.write_str(", remove this line"),
                    false => write!(f, ", allowed: {unless}"),
                }
            }
            Self::UnixWithoutPath => {
                f.write_str("A listener with port 0 must provide a Unix socket path")
            }
            Self::TooMany { what, max } => write!(f, "too many {what}, allowed: {max}"),
            Self::File(fault) => write!(f, "{fault}"),
        }
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, cause } => {
                write!(f, "Unable to open config file {path}: {cause}")
            }
            Self::IsDirectory { path } => write!(f, "Config file {path} is a directory"),
            Self::TooLarge { path, bytes_max } => {
                write!(f, "Config file {path} is larger than {bytes_max} bytes")
            }
            Self::IncludeDir { path, cause } => {
                write!(f, "Unable to open include_dir '{path}': {cause}")
            }
        }
    }
}
