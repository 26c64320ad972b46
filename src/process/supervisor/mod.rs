//! The supervisor: privilege. It binds the ports, starts the others and starts them again, takes the signals, and
//! keeps the log. It never reads a byte that came from the network.
//!
//! ```text
//!                 supervisor ── signals, ports, pid file, log destinations
//!                /     |     \      a control channel and a log pipe to each
//!           store   worker 0   worker 1 ...      control
//!              \_______|_________/   outboxes and cursor pages, every pair (membership.rs introduces them)
//! ```
//!
//! `run` is its life from top to bottom. What is decided is in `membership`, `hold_back` and `heartbeat`, which are
//! pure; `turn` performs it.

mod attendance;
mod attendant;
mod children;
mod destinations;
mod heartbeat;
mod hold_back;
mod listeners;
mod membership;
mod startup;
mod turn;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use crate::base::limits::SUPERVISOR_EVENTS_PER_TURN;
use crate::base::log::{Log, LogMask, LogType};
use crate::cli::broker::{self, Command, Options};
use crate::config::{Config, Overrides, Parsed, load, stamp::Stamps};
use crate::ring::Ledger;
use crate::sys::poll::{Interest, Poller};
use crate::sys::signals::Signals;
use crate::sys::{clock, daemon, machine, memfd, privileges, process, random, strftime};

use attendant::Attendant;
use children::Common;
use destinations::Destinations;
use heartbeat::AttentiveClock;
use listeners::Listeners;
use membership::Membership;
use startup::{PidFile, StartError};
use turn::Supervisor;

/// The status of a busy port, a missing user and the like.
const STATUS_CANNOT_START: u8 = 1;
/// The status of a bad option or file.
const STATUS_BAD_OPTION: u8 = 3;

/// The broker, given the arguments after its name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match broker::parse(arguments) {
        Command::Help => say(&broker::help()),
        Command::Version => say(&broker::version()),
        Command::Bad(bad) => {
            eprintln!("{bad}");
            ExitCode::from(STATUS_BAD_OPTION)
        }
        Command::Run(options) => match configure(&options) {
            Err(status) => ExitCode::from(status),
            Ok(_) if options.test_config => say(&format!("{}\n", broker::TEST_CONFIG_OK)),
            Ok((config, log)) => in_place(&options, config, log),
        },
    }
}

fn say(text: &str) -> ExitCode {
    use std::io::Write as _;
    // A reader that has gone away (`| head`) is no error worth a panic.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Reads the configuration whole. What is wrong with it goes to standard error, stamped as the log would be.
fn configure(options: &Options) -> Result<(Config, Log), u8> {
    let parsed = read_config(options.config_file.as_deref(), &options.overrides);
    let mut log = Log::new(LogMask::ALL);
    let config = match parsed.config {
        Ok(config) => {
            stamp(&mut log, &mut Stamps::new(&config));
            log.set_mask(config.log_mask);
            Ok(config)
        }
        Err(errors) => {
            stamp(&mut log, &mut Stamps::new(&Config::default_local()));
            for line in errors.iter().flat_map(|error| error.log_lines()) {
                log.line(LogType::Error, format_args!("{line}"));
            }
            Err(STATUS_BAD_OPTION)
        }
    };
    for notice in parsed.notices {
        log.line(notice.kind, format_args!("{}", notice.text));
    }
    if options.test_config || config.is_err() {
        eprint!("{}", log.pending());
    }
    config.map(|config| (config, log))
}

fn read_config(file: Option<&Path>, overrides: &Overrides) -> Parsed {
    match file {
        Some(path) => load::load(path, overrides),
        None => Config::parse(&Default::default(), overrides),
    }
}

/// In the foreground, or in the background with a starter that waits until the ports are bound.
fn in_place(options: &Options, config: Config, log: Log) -> ExitCode {
    if let Err(e) = daemon::fill_standard_descriptors() {
        return cannot_start(&StartError::System("open /dev/null", e), None);
    }
    let background = if options.daemon {
        match daemon::fork_into_background() {
            Ok(daemon::Side::Starter(starter)) => return ExitCode::from(starter.wait()),
            Ok(daemon::Side::Background(background)) => Some(background),
            Err(e) => return cannot_start(&StartError::System("go to the background", e), None),
        }
    } else {
        None
    };
    let supervisor = match start(options, config, log) {
        Ok(supervisor) => supervisor,
        Err(status) => return ExitCode::from(status),
    };
    if let Some(background) = background
        && let Err(e) = background.started(0)
    {
        return cannot_start(&StartError::System("go to the background", e), None);
    }
    supervisor.live()
}

fn cannot_start(error: &dyn std::error::Error, log: Option<&mut Log>) -> ExitCode {
    match log {
        Some(log) => log.line(LogType::Error, format_args!("{error}")),
        None => eprintln!("{error}"),
    }
    ExitCode::from(STATUS_CANNOT_START)
}

/// Everything between a good configuration and the first child: log, user, pid file, ports.
fn start(options: &Options, config: Config, mut log: Log) -> Result<Supervisor, u8> {
    let mut destinations = match Destinations::open(&config) {
        Ok(destinations) => destinations,
        Err((path, _)) => {
            cannot_start(&StartError::LogFile(path), None);
            return Err(STATUS_CANNOT_START);
        }
    };
    match prepare(options, config, &mut log) {
        Ok(parts) => Ok(Supervisor::new(parts, destinations, log)),
        Err(error) => {
            cannot_start(&*error, Some(&mut log));
            destinations.append(log.pending().as_bytes());
            destinations.write();
            Err(STATUS_CANNOT_START)
        }
    }
}

/// What the supervisor lives with.
pub struct Parts {
    config: Config,
    config_file: Option<std::path::PathBuf>,
    overrides: Overrides,
    stamps: Stamps,
    poller: Poller,
    signals: Signals,
    clock: AttentiveClock,
    common: Common,
    listeners: Listeners,
    membership: Membership,
    control: Attendant,
    /// What dead members counted.
    ledger: Ledger,
    pid_file: Option<PidFile>,
}

fn prepare(
    options: &Options,
    config: Config,
    log: &mut Log,
) -> Result<Parts, Box<dyn std::error::Error>> {
    let system = |what| move |e: io::Error| StartError::System(what, e);
    let mut stamps = Stamps::new(&config);
    stamp(log, &mut stamps);
    let _ = privileges::set_comm(c"mosquitto");
    // Before anything is started or bound, so that no signal is missed.
    let signals = Signals::take().map_err(system("take signals"))?;
    let program = process::open_own_program().map_err(system("open its own program"))?;
    let become_user = startup::identity(&config, log)?;
    // Not being allowed to is no reason not to start.
    let raised = privileges::raise_descriptor_limit();

    let version = env!("CARGO_PKG_VERSION");
    log.line(
        LogType::Info,
        format_args!("mosquitto version {version} starting"),
    );
    match &options.config_file {
        Some(file) => log.line(
            LogType::Info,
            format_args!("Config loaded from {}.", file.display()),
        ),
        None => log.line(LogType::Info, format_args!("Using default config.")),
    }
    if config.local_only {
        say_local_only(log);
    }
    let workers = config.workers.count(machine::cores());
    let listeners = Listeners::bind(&config, workers, log)?;
    if let Ok(allowed) = raised.or_else(|_| privileges::descriptor_limit()) {
        startup::check_descriptors(allowed, workers, listeners.len())?;
    }
    // Only now: a second broker that fails on the port leaves the first one's file alone.
    let pid_file = PidFile::write(&config)?;

    let poller = Poller::new(SUPERVISOR_EVENTS_PER_TURN).map_err(system("make an epoll"))?;
    poller
        .add(
            std::os::fd::AsFd::as_fd(&signals),
            turn::SIGNALS,
            Interest::ReadLevel,
        )
        .map_err(system("wait for signals"))?;
    let snapshot = memfd::snapshot("mosquitto-config", config.to_snapshot().as_bytes())
        .map_err(system("make a configuration snapshot"))?;
    let key = || random::u64().map_err(system("get random bytes"));
    let common = Common {
        program,
        environment: startup::environment(),
        hash_key: [key()?, key()?],
        ring_bytes: startup::ring_bytes(&config, workers + 1),
        become_user,
        config: Rc::new(snapshot),
        started: clock::now(),
    };
    let now = clock::now();
    let ledger = Ledger::new().map_err(system("make shared memory"))?;
    Ok(Parts {
        control: Attendant::new(config.sys_interval > 0),
        ledger,
        config_file: options.config_file.clone(),
        overrides: options.overrides.clone(),
        config,
        stamps,
        poller,
        signals,
        clock: AttentiveClock::new(now),
        common,
        listeners,
        membership: Membership::new(workers, now),
        pid_file,
    })
}

/// In the words of the original, which people search for.
fn say_local_only(log: &mut Log) {
    for line in [
        "Starting in local only mode. Connections will only be possible from clients running on this machine.",
        "Create a configuration file which defines a listener to allow remote access.",
        "For more details see https://mosquitto.org/documentation/authentication-methods/",
    ] {
        log.line(LogType::Info, format_args!("{line}"));
    }
}

/// Lines from now on bear the present second.
fn stamp(log: &mut Log, stamps: &mut Stamps) {
    let seconds = i64::try_from(clock::wall().as_secs()).unwrap_or(i64::MAX);
    log.set_stamp(stamps.at(seconds, strftime::format_local));
}
