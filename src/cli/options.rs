//! What the client programs can be told on their command lines, and the rules by which they are read: each argument
//! is compared as a whole with the names in the table, and the argument behind an option that takes a value is that
//! value, even when it begins with a minus sign. There is no clustering, no `--name=value`, and no operand.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use super::table::{self, Effect};
use crate::client::{Settings, WillSettings};
use crate::mqtt::{Qos, RetainHandling, SubscriptionOptions, Version};

/// Which of the programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    Pub,
    Sub,
}

impl Program {
    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pub => "mosquitto_pub",
            Self::Sub => "mosquitto_sub",
        }
    }
}

/// What the command line says, with the defaults where it says nothing.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    pub program: Program,
    pub host: String,
    pub port: u16,
    /// A Unix socket instead of host and port.
    pub unix: Option<PathBuf>,
    /// The local address to connect from.
    pub bind_address: Option<String>,
    pub version: Version,
    pub client_id: Option<String>,
    pub id_prefix: Option<String>,
    pub clean: bool,
    pub session_expiry_secs: Option<u32>,
    pub keep_alive_secs: u16,
    pub username: Option<String>,
    pub password: Option<Vec<u8>>,
    pub will_topic: Option<String>,
    pub will_payload: Option<Vec<u8>>,
    pub will_qos: Qos,
    pub will_retain: bool,
    pub qos: Qos,
    /// One for the publisher, any number for the subscriber.
    pub topics: Vec<String>,
    pub debug: bool,
    pub quiet: bool,

    pub message: Payload,
    pub retain: bool,
    pub in_flight_max: u16,
    pub repeat: u32,
    pub repeat_delay: Duration,

    pub unsubscribe: Vec<String>,
    pub filter_out: Vec<String>,
    pub count: Option<u32>,
    pub timeout_secs: Option<u32>,
    pub verbose: bool,
    pub end_of_line: bool,
    pub exit_after_suback: bool,
    pub hide_retained: bool,
    pub retained_only: bool,
    pub remove_retained: bool,
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

/// The user's own defaults.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Defaults {
    pub path: PathBuf,
    pub text: Vec<u8>,
}

/// What the publisher sends.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Payload {
    /// Not said: an error.
    #[default]
    Missing,
    /// `-m`, `-n`
    Bytes(Vec<u8>),
    /// `-f`
    File(PathBuf),
    /// `-s`
    WholeInput,
    /// `-l`
    Lines,
}

/// Why the program does not run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    Help,
    Version,
    /// The command line is wrong. Printed with a hint at `--help`.
    Usage(String),
    /// The parts do not go together. Printed without the hint.
    Error(String),
    /// Too little was said: the usage is printed too.
    Incomplete(String),
}

impl Options {
    /// Reads the file of defaults, if there is one, and then the arguments, without the program's name in front.
    ///
    /// # Errors
    /// See [`Stop`]; the first error counts.
    pub fn parse(
        program: Program,
        defaults: Option<&Defaults>,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, Stop> {
        let mut options = Self::new(program);
        if let Some(defaults) = defaults {
            options.take_defaults(defaults)?;
        }
        let mut arguments = arguments.into_iter().map(OsString::into_vec);
        while let Some(name) = arguments.next() {
            options.take(&name, &mut arguments)?;
        }
        options.check()?;
        Ok(options)
    }

    /// One option a line, and behind the first space its value. Empty lines and comments do not count.
    fn take_defaults(&mut self, defaults: &Defaults) -> Result<(), Stop> {
        for (index, line) in defaults.text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let mut words = line.splitn(2, |byte| *byte == b' ');
            let name = words.next().unwrap_or_default();
            let value = words.next().filter(|value| !value.is_empty());
            self.take(name, &mut value.map(<[u8]>::to_vec).into_iter())
                .map_err(|stop| match stop {
                    Stop::Usage(text) => {
                        let path = defaults.path.display();
                        Stop::Usage(format!("{text}\nError found at {path}:{}.", index + 1))
                    }
                    other => other,
                })?;
        }
        Ok(())
    }

    /// One option; its value is the next of `values`.
    fn take(&mut self, name: &[u8], values: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), Stop> {
        let text = String::from_utf8_lossy(name);
        let Some(row) = table::find(self.program, name) else {
            return Err(Stop::Usage(format!("Error: Unknown option '{text}'.")));
        };
        match row.effect {
            Effect::Help => Err(Stop::Help),
            Effect::Version => Err(Stop::Version),
            Effect::NotBuilt => Err(Stop::Usage(format!(
                "Error: The option '{text}' is not available yet."
            ))),
            Effect::Flag(apply) => apply(self).map_err(Stop::Usage),
            Effect::Value { missing, apply } => match values.next() {
                Some(value) => apply(self, value).map_err(Stop::Usage),
                None => Err(Stop::Usage(format!("Error: {missing}."))),
            },
        }
    }

    fn new(program: Program) -> Self {
        Self {
            program,
            host: "localhost".to_owned(),
            port: 1883,
            unix: None,
            bind_address: None,
            version: Version::V311,
            client_id: None,
            id_prefix: None,
            clean: true,
            session_expiry_secs: None,
            keep_alive_secs: 60,
            username: None,
            password: None,
            will_topic: None,
            will_payload: None,
            will_qos: Qos::AtMostOnce,
            will_retain: false,
            qos: Qos::AtMostOnce,
            topics: Vec::new(),
            debug: false,
            quiet: false,
            message: Payload::Missing,
            retain: false,
            in_flight_max: 20,
            repeat: 1,
            repeat_delay: Duration::ZERO,
            unsubscribe: Vec::new(),
            filter_out: Vec::new(),
            count: None,
            timeout_secs: None,
            verbose: false,
            end_of_line: true,
            exit_after_suback: false,
            hide_retained: false,
            retained_only: false,
            remove_retained: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }

    /// What can be seen only when everything is read.
    fn check(&mut self) -> Result<(), Stop> {
        let usage = |text: &str| Err(Stop::Usage(format!("Error: {text}")));
        if self.will_topic.is_none() {
            if self.will_payload.is_some() {
                return usage("Will payload given, but no will topic given.");
            }
            if self.will_retain {
                return usage("Will retain given, but no will topic given.");
            }
        }
        // original: a prefix alone is not enough, as it makes another id each time.
        if !self.clean && self.client_id.is_none() {
            return usage("You must provide a client id if you are using the -c option.");
        }
        if self.version == Version::V5
            && self.session_expiry_secs == Some(u32::MAX)
            && self.client_id.is_none()
        {
            return usage(
                "You must provide a client id if you are using an infinite session expiry interval.",
            );
        }
        match self.program {
            Program::Pub => {
                if self.topics.is_empty() || self.message == Payload::Missing {
                    let text = "Error: Both topic and message must be supplied.";
                    return Err(Stop::Incomplete(text.to_owned()));
                }
            }
            Program::Sub => {
                if self.topics.is_empty() {
                    return usage("You must specify a topic to subscribe to.");
                }
                if self.hide_retained && self.retained_only {
                    let text = "Error: Combining '-R' and '--retained-only' makes no sense.";
                    return Err(Stop::Error(text.to_owned()));
                }
            }
        }
        if self.client_id.as_deref() == Some("") {
            return Err(Stop::Error(match self.program {
                Program::Pub => "Error: Invalid id.".to_owned(),
                Program::Sub => "Error: Invalid id and/or clean_session.".to_owned(),
            }));
        }
        // [MQTT-3.1.2-22]
        if self.version != Version::V5 && self.password.is_some() && self.username.is_none() {
            let text = "Error: Problem setting username and/or password.";
            return Err(Stop::Error(text.to_owned()));
        }
        Ok(())
    }

    /// The client that was asked for. `pid` and `random` make its id, where it needs one.
    pub fn settings(&self, pid: u32, random: impl FnOnce() -> String) -> Settings {
        let client_id = match (&self.client_id, &self.id_prefix) {
            (Some(id), _) => id.clone(),
            (None, Some(prefix)) => format!("{prefix}{pid}"),
            // 3.1 knows no empty id; later versions let the broker choose.
            (None, None) if self.version == Version::V31 => format!("mosq-{}", random()),
            (None, None) => String::new(),
        };
        let session_expiry_secs = match (self.session_expiry_secs, self.clean) {
            (Some(secs), _) => secs,
            (None, false) => u32::MAX,
            (None, true) => 0,
        };
        Settings {
            version: self.version,
            clean_start: self.clean,
            session_expiry_secs,
            keep_alive_secs: self.keep_alive_secs,
            username: self.username.clone(),
            password: self.password.clone(),
            will: self.will_topic.clone().map(|topic| WillSettings {
                topic,
                payload: self.will_payload.clone().unwrap_or_default(),
                qos: self.will_qos,
                retain: self.will_retain,
                properties: Vec::new(),
            }),
            in_flight_max: self.in_flight_max,
            ..Settings::new(&client_id)
        }
    }

    /// How the subscriber subscribes. 3.x sends the QoS alone.
    pub fn subscription(&self) -> SubscriptionOptions {
        if self.version != Version::V5 {
            return SubscriptionOptions {
                qos: self.qos,
                ..SubscriptionOptions::default()
            };
        }
        SubscriptionOptions {
            qos: self.qos,
            no_local: false,
            retain_as_published: self.retain_as_published,
            // original: does not even ask for what it would not print.
            retain_handling: match self.hide_retained {
                true => RetainHandling::DoNotSend,
                false => self.retain_handling,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(program: Program, line: &[&str]) -> Result<Options, Stop> {
        Options::parse(program, None, line.iter().map(OsString::from))
    }

    fn usage_error(program: Program, line: &[&str]) -> String {
        match parse(program, line) {
            Err(Stop::Usage(text)) => text,
            other => panic!("{line:?} gave {other:?}"),
        }
    }

    #[test]
    fn the_argument_behind_an_option_is_its_value_whatever_it_looks_like() {
        let options = parse(Program::Pub, &["-m", "-t", "-t", "--help"]).unwrap();
        assert_eq!(options.message, Payload::Bytes(b"-t".to_vec()));
        assert_eq!(options.topics, ["--help"]);
    }

    #[test]
    fn options_are_neither_clustered_nor_joined_with_their_value() {
        for argument in ["-dr", "-ta", "--topic=a", "--top", "a", "-", "--", ""] {
            assert_eq!(
                usage_error(Program::Pub, &[argument]),
                format!("Error: Unknown option '{argument}'.")
            );
        }
    }

    #[test]
    fn the_other_program_s_options_are_unknown() {
        assert_eq!(
            usage_error(Program::Pub, &["-v"]),
            "Error: Unknown option '-v'."
        );
        assert_eq!(
            usage_error(Program::Sub, &["-m", "x"]),
            "Error: Unknown option '-m'."
        );
    }

    #[test]
    fn what_is_not_built_is_refused_by_name_and_what_works_is_not() {
        for row in table::ROWS {
            for name in row.names {
                for program in [Program::Pub, Program::Sub] {
                    if !row.programs.contains(program) {
                        continue;
                    }
                    let said = match parse(program, &[*name]) {
                        Err(Stop::Usage(text)) => text,
                        _ => String::new(),
                    };
                    assert!(!said.contains("Unknown option"), "{name}: {said}");
                    let refused = said.contains(&format!("'{name}' is not available yet"));
                    assert_eq!(refused, matches!(row.effect, Effect::NotBuilt), "{name}");
                }
            }
        }
    }

    #[test]
    fn no_name_stands_for_two_options() {
        for program in [Program::Pub, Program::Sub] {
            let mut names: Vec<_> = table::ROWS
                .iter()
                .filter(|row| row.programs.contains(program))
                .flat_map(|row| row.names)
                .collect();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "{}", program.name());
        }
    }

    #[test]
    fn a_value_that_is_missing_is_named() {
        assert_eq!(
            usage_error(Program::Pub, &["-t"]),
            "Error: -t argument given but no topic specified."
        );
        assert_eq!(
            usage_error(Program::Sub, &["--topic"]),
            "Error: -t argument given but no topic specified."
        );
    }

    #[test]
    fn the_defaults_are_those_of_the_original() {
        let options = parse(Program::Sub, &["-t", "a"]).unwrap();
        assert_eq!((options.host.as_str(), options.port), ("localhost", 1883));
        assert_eq!(options.keep_alive_secs, 60);
        let settings = options.settings(1, || "random".to_owned());
        assert_eq!(settings.version, Version::V311);
        assert_eq!(settings.client_id, "");
        assert!(settings.clean_start);
        assert_eq!((settings.receive_maximum, settings.in_flight_max), (20, 20));
    }

    #[test]
    fn a_client_of_3_1_gets_an_id_that_fits() {
        let options = parse(Program::Sub, &["-t", "a", "-V", "31"]).unwrap();
        let settings = options.settings(1, || "ABCDEFGHIJKLMNOPQR".to_owned());
        assert_eq!(settings.client_id, "mosq-ABCDEFGHIJKLMNOPQR");
        assert!(settings.client_id.len() <= 23);
    }

    #[test]
    fn one_kind_of_message_is_enough() {
        let both = "Error: Only one type of message can be sent at once.";
        for second in [&["-n"][..], &["-m", "y"], &["-l"], &["-s"], &["-f", "z"]] {
            let line: Vec<&str> = ["-t", "a", "-m", "x"]
                .iter()
                .chain(second)
                .copied()
                .collect();
            assert_eq!(usage_error(Program::Pub, &line), both);
        }
    }

    #[test]
    fn a_url_gives_host_port_login_and_topic() {
        let options = parse(Program::Pub, &["-L", "mqtt://u:p@h:99/a/b", "-n"]).unwrap();
        assert_eq!((options.host.as_str(), options.port), ("h", 99));
        assert_eq!(options.username.as_deref(), Some("u"));
        assert_eq!(options.password.as_deref(), Some(&b"p"[..]));
        assert_eq!(options.topics, ["a/b"]);
    }

    #[test]
    fn a_session_without_end_needs_an_id() {
        assert!(usage_error(Program::Sub, &["-t", "a", "-c"]).contains("client id"));
        let line = ["-t", "a", "-V", "5", "-x", "-1"];
        assert!(usage_error(Program::Sub, &line).contains("client id"));
        assert!(parse(Program::Sub, &["-t", "a", "-c", "-i", "me"]).is_ok());
    }

    #[test]
    fn a_session_expiry_needs_5_0() {
        let options = parse(Program::Sub, &["-t", "a", "-x", "5"]).unwrap();
        assert_eq!(options.version, Version::V5);
        let options = parse(
            Program::Sub,
            &["-t", "a", "-V", "31", "-x", "5", "-i", "me"],
        )
        .unwrap();
        assert_eq!(options.version, Version::V5);
    }

    fn parse_with(text: &str, line: &[&str]) -> Result<Options, Stop> {
        let defaults = Defaults {
            path: "file".into(),
            text: text.as_bytes().to_vec(),
        };
        Options::parse(
            Program::Sub,
            Some(&defaults),
            line.iter().map(OsString::from),
        )
    }

    #[test]
    fn the_command_line_stands_above_the_file_of_defaults() {
        let file = "# mine\n-h example.org\n\n-p 1884\r\n-v\n-u a b\n-t one";
        let options = parse_with(file, &["-p", "1885", "-t", "two"]).unwrap();
        assert_eq!((options.host.as_str(), options.port), ("example.org", 1885));
        assert!(options.verbose);
        assert_eq!(options.username.as_deref(), Some("a b"));
        assert_eq!(options.topics, ["one", "two"]);
    }

    #[test]
    fn an_error_in_the_file_of_defaults_names_its_line() {
        for (file, text) in [
            (
                "-v\n-z 1",
                "Error: Unknown option '-z'.\nError found at file:2.",
            ),
            (
                "-F %t",
                "Error: The option '-F' is not available yet.\nError found at file:1.",
            ),
            (
                "-p",
                "Error: -p argument given but no port specified.\nError found at file:1.",
            ),
        ] {
            assert_eq!(parse_with(file, &[]), Err(Stop::Usage(text.to_owned())));
        }
    }
}
