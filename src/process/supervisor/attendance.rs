//! How the supervisor performs what `attendant` decides about control.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use super::attendant::{Action, Event};
use super::children::{ChildProcess, Whose};
use super::listeners::words;
use super::membership::Who;
use super::turn::Supervisor;
use crate::base::ids::Incarnation;
use crate::base::log::LogType;
use crate::ipc::control::{Role, ToChild};

impl Supervisor {
    /// Until nothing more follows from what concerns control.
    pub(super) fn decide_on_control(&mut self) {
        let mut actions = Vec::new();
        while let Some(event) = self.control_events.pop_front() {
            self.parts.control.on(event, self.now, &mut actions);
            for action in std::mem::take(&mut actions) {
                self.perform_on_control(action);
            }
        }
    }

    fn perform_on_control(&mut self, action: Action) {
        match action {
            Action::Start(who) => self.start_control(who),
            Action::Seal(who) => self.seal(Whose::Control(who)),
            Action::ShowMembers(to) => {
                let members = self.children.values().filter_map(ChildProcess::as_page);
                for page in members.collect::<Vec<_>>() {
                    self.tell(Whose::Control(to), page);
                }
            }
            Action::Connect { to, worker } => self.connect(to, worker),
            Action::Stop(who) => {
                if let Some(child) = self.children.get_mut(&who.0) {
                    child.told_to_stop = true;
                }
                self.tell(Whose::Control(who), ToChild::Stop);
            }
            Action::Kill { who, why } => self.kill(Whose::Control(who), why),
            Action::HeldBack(wait) => {
                let (role, secs) = (Role::Control, wait.as_secs());
                self.error(format_args!(
                    "Error: {role} keeps dying; it is started again in {secs} seconds."
                ));
            }
        }
    }

    fn start_control(&mut self, who: Incarnation) {
        // As for members: what waits here must not be written twice.
        self.write_log();
        let started = self.parts.ledger.fd().try_clone_to_owned().and_then(|fd| {
            let (common, poller) = (&self.parts.common, &self.parts.poller);
            ChildProcess::start_control(who, Rc::new(fd), common, poller)
        });
        match started {
            Ok(child) => drop(self.children.insert(who.0, child)),
            Err(e) => {
                let (role, text) = (Role::Control, words(&e));
                self.error(format_args!("Error: Unable to start {role}: {text}"));
                self.control_events.push_back(Event::Ended(who));
            }
        }
    }

    /// A private connection between control and a worker.
    fn connect(&mut self, to: Incarnation, worker: Who) {
        let pair = UnixStream::pair().and_then(|(near, far)| {
            near.set_nonblocking(true)?;
            far.set_nonblocking(true)?;
            Ok((near, far))
        });
        match pair {
            Ok((near, far)) => {
                let socket = |end: UnixStream| Rc::new(OwnedFd::from(end));
                let (near, far) = (socket(near), socket(far));
                let internal = |socket| ToChild::Internal { socket };
                self.tell(Whose::Member(worker), internal(far));
                self.tell(Whose::Control(to), internal(near));
            }
            Err(e) => {
                let text = words(&e);
                self.log.line(
                    LogType::Error,
                    format_args!("Error: Unable to make a socket pair: {text}"),
                );
                // It gets its connection when it is started again.
                self.control_events.push_back(Event::Unfit(to));
            }
        }
    }

    /// Control learns of a member.
    pub(super) fn show_to_control(&mut self, page: ToChild<Rc<OwnedFd>>) {
        if let Some(control) = self.parts.control.at_work() {
            self.tell(Whose::Control(control), page);
        }
    }
}
