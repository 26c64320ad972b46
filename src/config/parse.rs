//! Lines of text to a [`Config`]: which row a line is about, what is wrong with it, and what follows at the end.
//!
//! Every fault of every line is gathered, so that an operator mends a file in one go; the original stops at the
//! first one.

use std::collections::HashSet;
use std::fmt;

use super::fault::{ConfigError, FileFault, Place, Problem};
use super::options::{Accepted, Put, Row, Scope, State};
use super::value::{Kind, Value};
use super::{Config, Listener, PORT_DEFAULT};
use crate::base::limits::{CONFIG_ERRORS_MAX, CONFIG_FILES_MAX, LISTENERS_MAX};
use crate::base::log::{LogMask, LogType};

/// A configuration file that was read.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// As messages name it.
    pub path: String,
    /// Its bytes.
    pub text: Vec<u8>,
    /// What its `include_dir` lines bring in.
    pub includes: Vec<Include>,
}

/// What one `include_dir` line brings in.
#[derive(Clone, Debug)]
pub struct Include {
    /// The line, from 1.
    pub line: usize,
    /// The directory's files in the order in which they count, or why there are none.
    pub files: Result<Vec<Result<Source, FileFault>>, FileFault>,
}

/// What the command line says about the configuration; it outlives a reload.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Overrides {
    /// Loopback listeners (`-p`), used if the files define none.
    pub ports: Vec<u16>,
    /// `-v` and `-q`.
    pub verbosity: Verbosity,
}

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Verbosity {
    /// What the files say.
    #[default]
    Configured,
    /// Every type of line (`-v`).
    All,
    /// Nothing (`-q`).
    Nothing,
}

/// What came of the files.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The configuration, or everything that is wrong with it (at least one fault).
    pub config: Result<Config, Vec<ConfigError>>,
    /// Lines to log, whatever came of it.
    pub notices: Vec<Notice>,
}

/// A line to log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// Its type.
    pub kind: LogType,
    /// Its text.
    pub text: String,
}

/// The configuration in the making.
pub struct Draft {
    pub(super) config: Config,
    /// Whether anonymous clients may connect, if that was said.
    pub(super) anonymous: Option<bool>,
    /// The listener of the options that stand before any `listener`; port 0 until there is one.
    pub(super) default_listener: Listener,
    /// Whether the first `log_dest` and `log_type` were seen, which replace the defaults.
    pub(super) log_dest_given: bool,
    pub(super) log_type_given: bool,
    /// A snapshot is read, which may say more than a file.
    snapshot: Option<SnapshotOnly>,
    /// The listener that options are about: an index, or the default listener.
    current: Option<usize>,
    /// Texts that may not be given again.
    seen: HashSet<(&'static str, Option<usize>)>,
    files: usize,
    place: Place,
    included_at: Option<Place>,
    errors: Vec<ConfigError>,
    errors_more: usize,
    notices: Vec<Notice>,
}

/// What only a snapshot says.
#[derive(Clone, Copy, Default)]
struct SnapshotOnly {
    local_only: bool,
}

impl Config {
    /// The configuration that the main file (with what it includes) and the command line make.
    pub fn parse(main: &Source, overrides: &Overrides) -> Parsed {
        let mut draft = Draft::new(None);
        draft.read(main);
        draft.finish(overrides)
    }

    /// The configuration that [`Config::to_snapshot`] wrote.
    pub fn from_snapshot(text: &str) -> Result<Self, Vec<ConfigError>> {
        let source = Source {
            path: "snapshot".to_owned(),
            text: text.as_bytes().to_vec(),
            includes: Vec::new(),
        };
        let mut draft = Draft::new(Some(SnapshotOnly::default()));
        draft.read(&source);
        draft.finish(&Overrides::default()).config
    }
}

impl Draft {
    fn new(snapshot: Option<SnapshotOnly>) -> Self {
        Self {
            config: Config::defaults(),
            anonymous: None,
            default_listener: Listener::new(0, None),
            log_dest_given: false,
            log_type_given: false,
            snapshot,
            current: None,
            seen: HashSet::new(),
            files: 0,
            place: Place {
                path: String::new(),
                line: 0,
            },
            included_at: None,
            errors: Vec::new(),
            errors_more: 0,
            notices: Vec::new(),
        }
    }

    /// The listener that the options at this place are about.
    pub(super) fn listener(&mut self) -> &mut Listener {
        match self.current {
            Some(index) => self
                .config
                .listeners
                .get_mut(index)
                .unwrap_or(&mut self.default_listener),
            None => &mut self.default_listener,
        }
    }

    /// Begins a listener; the options that follow are about it.
    pub(super) fn begin_listener(&mut self, listener: Listener) -> Result<(), Problem> {
        if self.config.listeners.len() >= LISTENERS_MAX {
            return Err(Problem::TooMany {
                what: "listeners",
                max: LISTENERS_MAX,
            });
        }
        self.current = Some(self.config.listeners.len());
        self.config.listeners.push(listener);
        Ok(())
    }

    /// Notes that a text was given for `option` here.
    pub(super) fn once(&mut self, option: &'static str, scope: Scope) -> Result<(), Problem> {
        let of = match scope {
            Scope::Listener => self.current,
            Scope::Global | Scope::Bridge => None,
        };
        match self.seen.insert((option, of)) {
            true => Ok(()),
            false => Err(Problem::Duplicate {
                option: option.to_owned(),
            }),
        }
    }

    /// Adds a line for the log about the place that is read.
    pub(super) fn notice(&mut self, kind: LogType, option: &str, text: fmt::Arguments<'_>) {
        let prefix = match kind {
            LogType::Error => "Error",
            LogType::Warning => "Warning",
            _ => "Note",
        };
        let Place { path, line } = &self.place;
        self.notices.push(Notice {
            kind,
            text: format!("{prefix}: {path}:{line}: {option}: {text}."),
        });
    }

    fn read(&mut self, source: &Source) {
        for (index, line) in source.text.split(|byte| *byte == b'\n').enumerate() {
            self.place = Place {
                path: source.path.clone(),
                line: index + 1,
            };
            // A comment starts in the first column, as in the original; it need not be UTF-8.
            if line.first() == Some(&b'#') {
                continue;
            }
            let mut words = Words::new(without_line_end(line));
            let name = match words.word() {
                Ok(Some(name)) => name.to_owned(),
                Ok(None) => continue,
                Err(problem) => {
                    self.error(String::new(), problem);
                    continue;
                }
            };
            match self.line(&name, &mut words) {
                Ok(()) if name == "include_dir" => self.include(source),
                Ok(()) => {}
                Err(problem) => self.error(name, problem),
            }
        }
    }

    /// One line that is about the directive `name`.
    fn line(&mut self, name: &str, words: &mut Words<'_>) -> Result<(), Problem> {
        if let (Some(snapshot), "local_only") = (&mut self.snapshot, name) {
            if let Value::Bool(on) = Kind::Bool.parse(name, words)? {
                snapshot.local_only = on;
            }
            return Ok(());
        }
        let row = Row::find(name).ok_or_else(|| Problem::Unknown {
            option: name.to_owned(),
        })?;
        if let Some(instead) = row.deprecated {
            self.notice(
                LogType::Warning,
                name,
                format_args!("deprecated, {instead}"),
            );
        }
        match &row.state {
            State::Built(built) => match built.put {
                Put::Line(put) => put(self, words)?,
                Put::Value(put) => {
                    let value = row.kind.parse(name, words)?;
                    if matches!(row.kind, Kind::Text { .. } | Kind::TopicStart | Kind::Host) {
                        self.once(row.name, row.scope)?;
                    }
                    put(self, value);
                    self.warn_of_more(name, words);
                }
            },
            State::Ignored(why) => {
                self.notice(LogType::Warning, name, format_args!("ignored, {why}"));
            }
            State::NotBuilt(accepted) => {
                let value = row.kind.parse(name, words)?;
                if !accepted.accepts(row.kind, &value) {
                    return Err(Problem::NotBuilt {
                        unless: accepted.to_string(),
                    });
                }
                if matches!(row.kind, Kind::Text { .. } | Kind::TopicStart | Kind::Host) {
                    self.once(row.name, row.scope)?;
                }
            }
        }
        Ok(())
    }

    /// The original reads one word and lets pass what follows; so do we, but not silently.
    fn warn_of_more(&mut self, name: &str, words: &mut Words<'_>) {
        match words.rest() {
            Ok(None) => {}
            Ok(Some(rest)) if rest.starts_with('#') => {}
            Ok(Some(rest)) => {
                self.notice(LogType::Warning, name, format_args!("ignored: {rest}"));
            }
            Err(_) => self.notice(
                LogType::Warning,
                name,
                format_args!("ignored what follows the value"),
            ),
        }
    }

    /// Reads what the `include_dir` at this line brings in.
    fn include(&mut self, source: &Source) {
        let here = self.place.clone();
        if self.included_at.is_some() {
            self.notice(
                LogType::Warning,
                "include_dir",
                format_args!("ignored, only the main file can include others"),
            );
            return;
        }
        let found = source.includes.iter().find(|i| i.line == here.line);
        let files = match found.map(|include| &include.files) {
            Some(Ok(files)) => files,
            Some(Err(fault)) => {
                return self.error("include_dir".to_owned(), Problem::File(fault.clone()));
            }
            // Only a caller that reads no files ends here.
            None => {
                let fault = FileFault::IncludeDir {
                    path: String::new(),
                    cause: "it was not read".to_owned(),
                };
                return self.error("include_dir".to_owned(), Problem::File(fault));
            }
        };
        // An included file begins with the default listener, and the listener of the main file goes on after it.
        let current = self.current;
        for file in files {
            self.current = None;
            self.place = here.clone();
            self.files += 1;
            match file {
                _ if self.files > CONFIG_FILES_MAX => {
                    let problem = Problem::TooMany {
                        what: "included files",
                        max: CONFIG_FILES_MAX,
                    };
                    self.error("include_dir".to_owned(), problem);
                    break;
                }
                Err(fault) => {
                    self.error("include_dir".to_owned(), Problem::File(fault.clone()));
                }
                Ok(file) => {
                    self.notices.push(Notice {
                        kind: LogType::Info,
                        text: format!("Loading config file {}", file.path),
                    });
                    self.included_at = Some(here.clone());
                    self.read(file);
                    self.included_at = None;
                }
            }
        }
        self.current = current;
        self.place = here;
    }

    fn error(&mut self, option: String, problem: Problem) {
        if self.errors.len() >= CONFIG_ERRORS_MAX {
            self.errors_more += 1;
            return;
        }
        self.errors.push(ConfigError {
            place: Some(self.place.clone()),
            included_at: self.included_at.clone(),
            option,
            problem,
        });
    }

    /// What follows from all lines together.
    fn finish(mut self, overrides: &Overrides) -> Parsed {
        if !self.errors.is_empty() {
            if self.errors_more > 0 {
                self.notices.push(Notice {
                    kind: LogType::Error,
                    text: format!("Error: {} more errors are not shown.", self.errors_more),
                });
            }
            return Parsed {
                config: Err(self.errors),
                notices: self.notices,
            };
        }
        self.finish_listeners(overrides);
        let config = &mut self.config;
        config.allow_anonymous = self.anonymous.unwrap_or(config.local_only);
        match overrides.verbosity {
            Verbosity::Configured => {}
            Verbosity::All => config.log_mask = LogMask::ALL,
            Verbosity::Nothing => {
                config.log_mask = LogMask::NONE;
                config.log_dests.clear();
            }
        }
        Parsed {
            config: Ok(self.config),
            notices: self.notices,
        }
    }

    fn finish_listeners(&mut self, overrides: &Overrides) {
        let mut warn = |text: &str| {
            self.notices.push(Notice {
                kind: LogType::Warning,
                text: text.to_owned(),
            });
        };
        if makes_a_listener(&self.default_listener) {
            let mut listener = self.default_listener.clone();
            if listener.port == 0 {
                listener.port = PORT_DEFAULT;
                if listener.address.is_none() {
                    warn(
                        "Warning: options that stand before any listener open port 1883 on all addresses; \
                         write 'listener 1883' above them to say so.",
                    );
                }
            }
            self.config.listeners.push(listener);
        }
        self.config.local_only = match self.snapshot {
            Some(snapshot) => snapshot.local_only,
            None => self.config.listeners.is_empty(),
        };
        if !self.config.listeners.is_empty() {
            if !overrides.ports.is_empty() {
                warn("Warning: -p is ignored, since the configuration file defines a listener.");
            }
            return;
        }
        let ports = match overrides.ports.as_slice() {
            [] => &[PORT_DEFAULT],
            ports => ports,
        };
        self.config.listeners = Config::local_listeners(ports, &self.default_listener);
    }
}

/// Whether options that stand before any `listener` ask for a listener of their own. As in the original, options
/// that restrict it do so too; options that only open it wider do not, so that nothing is opened by surprise.
fn makes_a_listener(listener: &Listener) -> bool {
    let plain = Listener::new(0, None);
    listener.port != plain.port
        || listener.address != plain.address
        || listener.socket_domain != plain.socket_domain
        || listener.max_connections != plain.max_connections
        || listener.max_qos != plain.max_qos
}

impl Accepted {
    /// Whether `value`, of the row's `kind`, asks for what is done anyway.
    fn accepts(&self, kind: Kind, value: &Value) -> bool {
        match self {
            Self::Nothing => false,
            Self::Any => true,
            Self::Values(values) => values.iter().any(|text| {
                kind.parse("", &mut Words::new(text.as_bytes()))
                    .is_ok_and(|accepted| accepted == *value)
            }),
        }
    }
}

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing | Self::Any => Ok(()),
            Self::Values(values) => f.write_str(&values.join(", ")),
        }
    }
}

/// What is left of a line.
pub struct Words<'a> {
    left: &'a [u8],
}

impl<'a> Words<'a> {
    /// All of `line`.
    pub fn new(line: &'a [u8]) -> Self {
        Self { left: line }
    }

    /// The next word. Words are separated by spaces; a tab is part of a word, as in the original.
    pub fn word(&mut self) -> Result<Option<&'a str>, Problem> {
        let start = self.left.iter().take_while(|b| **b == b' ').count();
        let (_, from_start) = self.left.split_at_checked(start).unwrap_or_default();
        let length = from_start.iter().take_while(|b| **b != b' ').count();
        let (word, left) = from_start.split_at_checked(length).unwrap_or_default();
        self.left = left;
        let word = std::str::from_utf8(word).map_err(|_| Problem::NotText)?;
        Ok(Some(word).filter(|word| !word.is_empty()))
    }

    /// The rest of the line without white space around it.
    pub fn rest(&mut self) -> Result<Option<&'a str>, Problem> {
        let rest = std::mem::take(&mut self.left).trim_ascii();
        let rest = std::str::from_utf8(rest).map_err(|_| Problem::NotText)?;
        if rest.chars().any(char::is_control) {
            return Err(Problem::NotText);
        }
        Ok(Some(rest).filter(|rest| !rest.is_empty()))
    }
}

/// The lines of the main file that include a directory, and its name, for the caller that reads it.
pub fn include_lines(text: &[u8]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let mut words = Words::new(without_line_end(line));
        if let Ok(Some("include_dir")) = words.word()
            && let Ok(Some(dir)) = words.rest()
        {
            found.push((index + 1, dir.to_owned()));
        }
    }
    found
}

/// The line without its carriage returns: files come from other systems too.
fn without_line_end(mut line: &[u8]) -> &[u8] {
    while let Some(shorter) = line.strip_suffix(b"\r") {
        line = shorter;
    }
    line
}

#[cfg(test)]
mod tests;
