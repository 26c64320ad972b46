//! The broker's own command line: arguments to a [`Command`], and the texts of `--help` and `--version`. Nothing is
//! read, printed or started here.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::base::limits::COMMAND_LINE_PORTS_MAX;
use crate::config::{Overrides, Verbosity};

/// What the command line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Run, or check the configuration.
    Run(Options),
    /// Print [`help`] and end with status 0.
    Help,
    /// Print [`version`] and end with status 0.
    Version,
    /// Print the message and end with status 3.
    Bad(BadArgument),
}

/// How to run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// The configuration file; there is no default one.
    pub config_file: Option<PathBuf>,
    /// Go to the background once the listeners are bound.
    pub daemon: bool,
    /// Only check the configuration, print [`TEST_CONFIG_OK`] and end; [`Options::config_file`] is there.
    pub test_config: bool,
    /// What stands above the configuration.
    pub overrides: Overrides,
}

/// What `--test-config` prints for a configuration without faults.
pub const TEST_CONFIG_OK: &str = "Configuration file is OK.";

/// A command line that cannot be obeyed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BadArgument {
    /// There is no such option.
    Unknown(String),
    /// The option needs an argument: it, and what is missing.
    Missing(&'static str, &'static str),
    /// Not a port.
    Port(String),
    /// More `-p` than [`COMMAND_LINE_PORTS_MAX`].
    TooManyPorts,
    /// `--test-config` without `-c`.
    NothingToTest,
    /// An option of the original that this version cannot do.
    NotBuilt(&'static str),
}

/// Parses the arguments that follow the program's name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Command {
    match read(arguments) {
        Ok(command) => command,
        Err(bad) => Command::Bad(bad),
    }
}

fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, BadArgument> {
    let mut arguments = arguments.into_iter();
    let mut options = Options::default();
    let mut quiet = false;
    while let Some(argument) = arguments.next() {
        let shown = argument.to_string_lossy();
        match shown.as_ref() {
            "-c" | "--config-file" => {
                let file = arguments
                    .next()
                    .ok_or(BadArgument::Missing("-c", "config file"))?;
                options.config_file = Some(file.into());
            }
            "-d" | "--daemon" => options.daemon = true,
            // As in the original, the first of these settles it, whatever follows.
            "-h" | "--help" => return Ok(Command::Help),
            "--version" => return Ok(Command::Version),
            "-p" | "--port" => {
                let port = arguments.next().ok_or(BadArgument::Missing("-p", "port"))?;
                add_port(&mut options.overrides.ports, &port.to_string_lossy())?;
            }
            "-q" | "--quiet" => quiet = true,
            "-v" | "--verbose" => options.overrides.verbosity = Verbosity::All,
            "--test-config" => options.test_config = true,
            "--tls-keylog" => return Err(BadArgument::NotBuilt("--tls-keylog")),
            unknown => return Err(BadArgument::Unknown(unknown.to_owned())),
        }
    }
    if options.test_config && options.config_file.is_none() {
        return Err(BadArgument::NothingToTest);
    }
    // -q wins over -v, in whatever order they come.
    if quiet {
        options.overrides.verbosity = Verbosity::Nothing;
    }
    Ok(Command::Run(options))
}

fn add_port(ports: &mut Vec<u16>, argument: &str) -> Result<(), BadArgument> {
    if ports.len() >= COMMAND_LINE_PORTS_MAX {
        return Err(BadArgument::TooManyPorts);
    }
    let port: Option<u16> = argument.parse().ok().filter(|port| *port > 0);
    ports.push(port.ok_or_else(|| BadArgument::Port(argument.to_owned()))?);
    Ok(())
}

/// The text of `--version`.
pub fn version() -> String {
    format!("mosquitto version {}\n", env!("CARGO_PKG_VERSION"))
}

/// The text of `--help`.
pub fn help() -> String {
    format!(
        "{}
mosquitto is an MQTT v5.0/v3.1.1/v3.1 broker.

Usage: mosquitto [-c config_file] [-d] [-h] [-p port] [-q] [-v]
                 [--test-config] [--version]

 -c, --config-file : the configuration file. Without one, only this machine
                     can connect, and clients need no user name.
 -d, --daemon      : go to the background after starting.
 -h, --help        : print this help.
 -p, --port        : listen on this port of this machine. May be given up to
                     {COMMAND_LINE_PORTS_MAX} times. Ignored if the configuration has a listener.
 -q, --quiet       : log nothing. Stands above -v and the configuration.
 -v, --verbose     : log everything. Stands above the configuration.
 --test-config     : check the file given with -c and end.
 --version         : print the version.

Every option of the configuration file is described in mosquitto.conf(5).
",
        version()
    )
}

impl fmt::Display for BadArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(option) => {
                write!(f, "Error: Unknown option '{option}'.\n{}", help())
            }
            Self::Missing(option, what) => write!(
                f,
                "Error: {option} argument given, but no {what} specified."
            ),
            Self::Port(port) => write!(
                f,
                "Error: Invalid port specified ({port}), allowed: 1 to 65535."
            ),
            Self::TooManyPorts => write!(
                f,
                "Error: Only {COMMAND_LINE_PORTS_MAX} ports can be specified on the command line."
            ),
            Self::NothingToTest => {
                f.write_str("Error: --test-config argument given, but no config file specified.")
            }
            Self::NotBuilt(option) => {
                write!(
                    f,
                    "Error: {option} is not built yet in this version of mosquitto."
                )
            }
        }
    }
}

impl std::error::Error for BadArgument {}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Command {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn options(line: &str) -> Options {
        match command(line) {
            Command::Run(options) => options,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn complaint(line: &str) -> String {
        match command(line) {
            Command::Bad(bad) => bad.to_string(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn short_and_long_options_mean_the_same() {
        let short = options("-c /x/y.conf -d -p 1884 -p 1885 -v");
        let long = options("--config-file /x/y.conf --daemon --port 1884 --port 1885 --verbose");
        assert_eq!(short, long);
        assert_eq!(short.config_file, Some("/x/y.conf".into()));
        assert_eq!(short.overrides.ports, [1884, 1885]);
        assert_eq!(short.overrides.verbosity, Verbosity::All);
        assert!(short.daemon && !short.test_config);
        assert_eq!(options(""), Options::default());
    }

    #[test]
    fn quiet_wins_over_verbose_in_either_order() {
        for line in ["-q -v", "-v -q", "--quiet"] {
            assert_eq!(options(line).overrides.verbosity, Verbosity::Nothing);
        }
    }

    #[test]
    fn help_and_version_need_nothing_else() {
        assert_eq!(command("-v --help -c"), Command::Help);
        assert_eq!(command("-h"), Command::Help);
        assert_eq!(command("--version"), Command::Version);
        assert_eq!(version(), "mosquitto version 3.0.0-alpha.1\n");
    }

    #[test]
    fn complaints_are_those_of_the_original() {
        assert!(complaint("-x").starts_with("Error: Unknown option '-x'.\nmosquitto version "));
        assert!(complaint("-vd").starts_with("Error: Unknown option '-vd'.\n"));
        assert!(complaint("file.conf").starts_with("Error: Unknown option 'file.conf'.\n"));
        let missing = "argument given, but no";
        assert_eq!(
            complaint("-c"),
            format!("Error: -c {missing} config file specified.")
        );
        assert_eq!(
            complaint("-p"),
            format!("Error: -p {missing} port specified.")
        );
        assert_eq!(
            complaint(&"-p 1 ".repeat(11)),
            "Error: Only 10 ports can be specified on the command line."
        );
        for port in ["0", "65536", "abc", "-1", "1x"] {
            let expected = format!("Error: Invalid port specified ({port})");
            assert!(complaint(&format!("-p {port}")).starts_with(&expected));
        }
    }

    #[test]
    fn a_test_needs_a_file() {
        assert_eq!(
            command("--test-config"),
            Command::Bad(BadArgument::NothingToTest)
        );
        assert!(options("--test-config -c x").test_config);
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        assert!(complaint("--tls-keylog f").contains("--tls-keylog is not built yet"));
    }

    #[test]
    fn every_option_stands_in_the_help() {
        let help = help();
        for option in [
            "-c, --config-file",
            "-d, --daemon",
            "-h, --help",
            "-p, --port",
            "-q, --quiet",
            "-v, --verbose",
            "--test-config",
            "--version",
        ] {
            assert!(help.contains(option), "{option}");
        }
        assert!(help.lines().all(|line| line.len() <= 80));
    }
}
