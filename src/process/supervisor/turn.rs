//! The supervisor's turns: wait, take in what happened, let `membership` decide, perform it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use super::attendant;
use super::children::{ChildProcess, Source, Whose};
use super::destinations::Destinations;
use super::heartbeat::Verdict;
use super::listeners::words;
use super::membership::{Action, Event, Who, Why, Word};
use super::{Parts, read_config, stamp};
use crate::base::clock::Instant;
use crate::base::ids::MemberId;
use crate::base::limits::{CONTROL_MESSAGES_PER_TURN, SUPERVISOR_RETRY_MILLIS};
use crate::base::log::{Log, LogType};
use crate::config::{Config, stamp::Stamps};
use crate::ipc::control::{ControlError, Role, ToChild, ToSupervisor};
use crate::ring::Seal;
use crate::sys::signals::Number;
use crate::sys::{clock, memfd, process};

/// The poller's token for signals; those of children are [`Source`]s.
pub const SIGNALS: u64 = 0;

/// The supervisor at work.
pub struct Supervisor {
    pub(super) parts: Parts,
    destinations: Destinations,
    pub(super) log: Log,
    /// By incarnation.
    pub(super) children: BTreeMap<u32, ChildProcess>,
    events: VecDeque<Event>,
    pub(super) control_events: VecDeque<attendant::Event>,
    pub(super) now: Instant,
    seal_warned: bool,
    finished: bool,
}

/// What happened to a child, whichever it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Report {
    Said(ToSupervisor),
    Sealed,
    Unfit,
    Closed,
    Hung,
    Ended,
}

impl Supervisor {
    /// Nothing is started yet.
    pub fn new(parts: Parts, destinations: Destinations, log: Log) -> Self {
        Self {
            parts,
            destinations,
            log,
            children: BTreeMap::new(),
            events: VecDeque::from([Event::Tick]),
            control_events: VecDeque::new(),
            now: Instant::default(),
            seal_warned: false,
            finished: false,
        }
    }

    /// From the first child to the last; status 0 unless the machine fails.
    pub fn live(mut self) -> ExitCode {
        loop {
            self.now = self.parts.clock.awake(clock::now());
            stamp(&mut self.log, &mut self.parts.stamps);
            self.take_in();
            self.decide_and_do();
            self.write_log();
            if self.finished && self.parts.control.is_gone() {
                break;
            }
            let timeout = self.timeout();
            if let Err(e) = self.parts.poller.wait(Some(timeout)) {
                // Without it nothing works; the children see their channels close, and end in order.
                let text = words(&e);
                self.error(format_args!("Error: Unable to wait for events: {text}"));
                self.write_log();
                return ExitCode::FAILURE;
            }
        }
        drop(self.parts.pid_file.take());
        let version = env!("CARGO_PKG_VERSION");
        self.log.line(
            LogType::Info,
            format_args!("mosquitto version {version} terminating"),
        );
        self.write_log();
        ExitCode::SUCCESS
    }

    fn timeout(&self) -> Duration {
        let mut until = self.parts.clock.next_look();
        let due = [
            self.parts.membership.wake_at(),
            self.parts.control.wake_at(),
        ];
        until = due.into_iter().flatten().fold(until, Instant::min);
        let queued = self.children.values().any(ChildProcess::has_queued);
        if queued || self.destinations.has_waiting() {
            until = until.min(self.now.after_millis(SUPERVISOR_RETRY_MILLIS));
        }
        until - self.now
    }

    /// What has happened since the last turn.
    fn take_in(&mut self) {
        for at in 0..self.parts.poller.len() {
            let Some(ready) = self.parts.poller.ready(at) else {
                break;
            };
            if let Some((source, incarnation)) = Source::of(ready.token) {
                self.child_is_ready(incarnation, source);
            }
        }
        self.signals();
        if let Some(look) = self.parts.clock.look() {
            let members = self.parts.membership.hearts().map(Whose::Member);
            let control = self.parts.control.heart().map(Whose::Control);
            for whose in members.chain(control).collect::<Vec<_>>() {
                let child = self.children.get_mut(&whose.incarnation().0);
                if child.is_some_and(|child| child.look(look) == Verdict::Hung) {
                    self.report(whose, Report::Hung);
                }
            }
        }
        let mut broken = Vec::new();
        for child in self.children.values_mut().filter(|c| c.has_queued()) {
            broken.extend(child.flush().err().map(|e| (child.whose, e)));
        }
        for (whose, error) in broken {
            self.broken(whose, &error);
        }
        self.events.push_back(Event::Tick);
        let worker = self.parts.membership.ready_workers().next();
        self.control_events
            .push_back(attendant::Event::Tick { worker });
    }

    /// Lets whoever decides about this process know what happened to it.
    pub(super) fn report(&mut self, whose: Whose, what: Report) {
        match whose {
            Whose::Member(who) => self.events.push_back(match what {
                Report::Said(said) => Event::Said(who, said),
                Report::Sealed => Event::Sealed(who),
                Report::Unfit => Event::Unfit(who),
                Report::Closed => Event::Closed(who),
                Report::Hung => Event::Hung(who),
                Report::Ended => Event::Ended(who),
            }),
            Whose::Control(who) => self.control_events.push_back(match what {
                Report::Said(said) => attendant::Event::Said(who, said),
                Report::Sealed => attendant::Event::Sealed(who),
                Report::Unfit => attendant::Event::Unfit(who),
                Report::Closed => attendant::Event::Closed(who),
                Report::Hung => attendant::Event::Hung(who),
                Report::Ended => attendant::Event::Ended(who),
            }),
        }
    }

    fn child_is_ready(&mut self, incarnation: u32, source: Source) {
        let Some(child) = self.children.get_mut(&incarnation) else {
            return;
        };
        if source == Source::Log {
            return child.read_log(&self.parts.poller, &mut self.destinations);
        }
        let (mut said_by, mut failed) = (Vec::new(), None);
        for _ in 0..CONTROL_MESSAGES_PER_TURN {
            let whose = child.whose;
            match child.hear() {
                Ok(None) => break,
                Ok(Some(said)) => said_by.push((whose, said)),
                Err(error) => {
                    child.stop_listening(&self.parts.poller);
                    failed = Some((whose, error));
                    break;
                }
            }
        }
        for (whose, said) in said_by {
            if self.is_news(&said) {
                self.report(whose, Report::Said(said));
            }
        }
        if let Some((whose, error)) = failed {
            self.broken(whose, &error);
        }
    }

    /// Whether what a child said is to be acted on: not that another holds it up that got no processor. It will be said
    /// again.
    fn is_news(&mut self, said: &ToSupervisor) -> bool {
        let ToSupervisor::Stuck {
            incarnation,
            lies: false,
            ..
        } = said
        else {
            return true;
        };
        let accused = self.children.get_mut(&incarnation.0);
        accused.is_none_or(ChildProcess::is_to_blame)
    }

    /// The control channel of a process is of no use any more.
    fn broken(&mut self, whose: Whose, error: &ControlError) {
        if matches!(error, ControlError::Closed) {
            // The end itself is about to be seen, and logged.
            return self.report(whose, Report::Closed);
        }
        let role = whose.role();
        self.error(format_args!("Error: {role}: {error}."));
        self.report(whose, Report::Unfit);
    }

    fn signals(&mut self) {
        let mut ended = false;
        while let Ok(Some(signal)) = self.parts.signals.take_next() {
            match signal {
                Number::SIGCHLD => ended = true,
                Number::SIGTERM | Number::SIGINT => {
                    self.parts.listeners.close();
                    self.events.push_back(Event::Terminate);
                    self.control_events.push_back(attendant::Event::Terminate);
                }
                Number::SIGHUP => self.reload(),
                Number::SIGUSR1 => self.log.line(
                    LogType::Notice,
                    format_args!("SIGUSR1: there is no database to save."),
                ),
                Number::SIGUSR2 => self.log.line(
                    LogType::Notice,
                    format_args!("SIGUSR2: printing the subscriptions is not built yet."),
                ),
                _ => {}
            }
        }
        if ended {
            self.reap();
        }
    }

    fn reap(&mut self) {
        while let Some((pid, ending)) = process::reap() {
            // As process 1, orphans of others come by too.
            let Some(incarnation) = self
                .children
                .iter()
                .find(|(_, child)| child.pid == pid)
                .map(|(incarnation, _)| *incarnation)
            else {
                continue;
            };
            let Some(mut child) = self.children.remove(&incarnation) else {
                continue;
            };
            let whose = child.whose;
            if let (Whose::Member(who), Some(figures)) = (whose, child.figures()) {
                let ledger = &mut self.parts.ledger;
                ledger.bury(who.member, who.incarnation, figures);
            }
            let expected = child.told_to_stop && ending == process::Ending::Exited(0);
            child.finish(&self.parts.poller, &mut self.destinations);
            if !expected {
                let role = whose.role();
                self.log.line(
                    LogType::Warning,
                    format_args!("Warning: {role} (process {pid}) {ending}."),
                );
            }
            self.report(whose, Report::Ended);
        }
    }

    /// Until nothing more follows from anything.
    fn decide_and_do(&mut self) {
        let mut actions = Vec::new();
        while !self.events.is_empty() || !self.control_events.is_empty() {
            while let Some(event) = self.events.pop_front() {
                self.parts.membership.on(event, self.now, &mut actions);
                for action in std::mem::take(&mut actions) {
                    self.perform(action);
                }
            }
            self.decide_on_control();
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Start(who) => self.start(who),
            Action::Seal(who) => self.seal(Whose::Member(who)),
            Action::Introduce { to, peer } => {
                let ring_bytes = self.parts.common.ring_bytes;
                let peer = self.children.get(&peer.incarnation.0);
                if let Some(message) = peer.and_then(|peer| peer.as_peer(ring_bytes)) {
                    self.tell(Whose::Member(to), message);
                }
            }
            Action::Tell { to, word } => self.tell_word(to, word),
            Action::Listen { to, owner } => self.listen(to, owner),
            Action::Kill { who, why } => self.kill(Whose::Member(who), why),
            Action::HeldBack { member, wait } => {
                let (name, secs) = (name(member), wait.as_secs());
                self.error(format_args!(
                    "Error: {name} keeps dying; it is started again in {secs} seconds."
                ));
            }
            Action::AllReady => {
                let version = env!("CARGO_PKG_VERSION");
                self.log.line(
                    LogType::Info,
                    format_args!("mosquitto version {version} running"),
                );
            }
            Action::Finished => self.finished = true,
        }
    }

    fn start(&mut self, who: Who) {
        // Between fork and exec the child would write what waits here a second time, if it ever wrote.
        self.write_log();
        match ChildProcess::start_member(who, &self.parts.common, &self.parts.poller) {
            Ok(child) => drop(self.children.insert(who.incarnation.0, child)),
            Err(e) => {
                let (name, text) = (name(who.member), words(&e));
                self.error(format_args!("Error: Unable to start {name}: {text}"));
                self.events.push_back(Event::Ended(who));
            }
        }
    }

    pub(super) fn seal(&mut self, whose: Whose) {
        let Some(child) = self.children.get_mut(&whose.incarnation().0) else {
            return;
        };
        let sealed = child.seal();
        let child_page = child.as_page();
        match sealed {
            Ok(seal) => {
                if seal == Seal::SizeOnly && !std::mem::replace(&mut self.seal_warned, true) {
                    self.log.line(
                        LogType::Warning,
                        format_args!(
                            "Warning: This kernel is older than 5.1: the broker's processes are not protected from \
                             each other."
                        ),
                    );
                }
                self.report(whose, Report::Sealed);
                if let Some(page) = child_page {
                    self.show_to_control(page);
                }
            }
            Err(e) => {
                let (role, text) = (whose.role(), words(&e));
                self.error(format_args!("Error: Unable to seal {role}: {text}"));
                self.report(whose, Report::Unfit);
            }
        }
    }

    fn listen(&mut self, to: Who, owner: MemberId) {
        let Role::Worker(index) = Role::of(owner) else {
            return;
        };
        let lent_by = (to.member != owner).then_some(owner);
        let sockets: Vec<_> = self.parts.listeners.of_worker(index.into()).collect();
        for (listener, socket) in sockets {
            self.tell(
                Whose::Member(to),
                ToChild::Listener {
                    listener,
                    lent_by,
                    socket,
                },
            );
        }
        if lent_by.is_some() {
            let (to, owner) = (name(to.member), name(owner));
            self.log.line(
                LogType::Notice,
                format_args!("{to} accepts connections for {owner}, which is down."),
            );
        }
    }

    pub(super) fn kill(&mut self, whose: Whose, why: Why) {
        let Some(child) = self.children.get(&whose.incarnation().0) else {
            return;
        };
        process::kill_now(child.pid);
        let (name, pid) = (whose.role(), child.pid);
        let reason = match why {
            Why::Hung => "makes no progress".to_owned(),
            Why::Stuck { says } => format!("holds up {says}"),
            Why::Accuser => "blames too many others".to_owned(),
            Why::Slow => {
                "took too long to join, to end, or to drain a dead member's outbox".to_owned()
            }
            Why::Unfit => "breaks the rules of the control channel".to_owned(),
            Why::Stopping => "took too long to stop".to_owned(),
        };
        self.error(format_args!(
            "Error: {name} (process {pid}) {reason}, and is killed."
        ));
    }

    fn tell_word(&mut self, to: Who, word: Word) {
        if let Some(child) = self.children.get_mut(&to.incarnation.0)
            && let Err(error) = child.tell_word(word)
        {
            self.broken(Whose::Member(to), &error);
        }
    }

    pub(super) fn tell(&mut self, to: Whose, message: ToChild<Rc<OwnedFd>>) {
        if let Some(child) = self.children.get_mut(&to.incarnation().0)
            && let Err(error) = child.tell(message)
        {
            self.broken(to, &error);
        }
    }

    /// SIGHUP: everything or nothing. Log files are opened anew either way, for those who rotate them.
    fn reload(&mut self) {
        let reloaded = match self.parts.config_file.clone() {
            None => self.parts.config.clone(),
            Some(file) => self.reread(&file).unwrap_or_else(|| {
                self.error(format_args!(
                    "Error: The configuration was not reloaded; nothing has changed."
                ));
                self.parts.config.clone()
            }),
        };
        if let Err(e) = self.take_on(reloaded) {
            let text = words(&e);
            self.error(format_args!(
                "Error: The configuration was not reloaded: {text}; nothing has changed."
            ));
        }
    }

    /// What holds after a reload of this file, if it is without faults.
    fn reread(&mut self, file: &Path) -> Option<Config> {
        self.log
            .line(LogType::Info, format_args!("Reloading config."));
        let parsed = read_config(Some(file), &self.parts.overrides);
        for notice in parsed.notices {
            self.log.line(notice.kind, format_args!("{}", notice.text));
        }
        let new = match parsed.config {
            Ok(config) => config,
            Err(errors) => {
                for line in errors.iter().flat_map(|error| error.log_lines()) {
                    self.error(format_args!("{line}"));
                }
                return None;
            }
        };
        let old = &self.parts.config;
        for option in Config::reload_differences(old, &new) {
            self.log.line(
                LogType::Warning,
                format_args!("Warning: A change of '{option}' needs a restart of the broker."),
            );
        }
        match Config::reload(old, &new) {
            Ok(config) => Some(config),
            Err(differ) => {
                self.error(format_args!("Error: {differ}."));
                None
            }
        }
    }

    fn take_on(&mut self, config: Config) -> io::Result<()> {
        self.write_log();
        let destinations = Destinations::open(&config).map_err(|(_, e)| e)?;
        if config != self.parts.config {
            let text = config.to_snapshot();
            let snapshot = memfd::snapshot("mosquitto-config", text.as_bytes())?;
            self.parts.common.config = Rc::new(snapshot);
            let members = self.parts.membership.living().map(Whose::Member);
            let control = self.parts.control.at_work().map(Whose::Control);
            for to in members.chain(control).collect::<Vec<_>>() {
                let config = self.parts.common.config.clone();
                self.tell(to, ToChild::Config { config });
            }
        }
        let before = std::mem::replace(&mut self.destinations, destinations);
        self.destinations.inherit(before);
        self.log.set_mask(config.log_mask);
        self.parts.stamps = Stamps::new(&config);
        stamp(&mut self.log, &mut self.parts.stamps);
        let want = attendant::Event::Want(config.sys_interval > 0);
        self.control_events.push_back(want);
        self.parts.config = config;
        Ok(())
    }

    pub(super) fn error(&mut self, text: std::fmt::Arguments<'_>) {
        self.log.line(LogType::Error, text);
    }

    pub(super) fn write_log(&mut self) {
        self.destinations.append(self.log.pending().as_bytes());
        self.log.consume(usize::MAX);
        self.destinations.write();
    }
}

/// As `ps` shows it, without the program's name.
fn name(member: MemberId) -> String {
    Role::of(member).to_string()
}
