//! Control: administration. It publishes what the members count as `$SYS`; more will follow.
//!
//! It maps the members' figures and what dead members left, and no outbox: traffic is not its business. What it has
//! to say it says as an MQTT client of one worker, over a private socket pair that the supervisor made. When it dies,
//! nothing else does.

mod link;
mod system_topics;

use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;

use link::Link;
use system_topics::{MemberFigures, SystemTopics};

use super::child::{self, ControlChild};
use super::member::{self, MemberError};
use crate::base::clock::Instant;
use crate::base::ids::{Incarnation, MemberId};
use crate::base::limits::{MEMBERS_MAX, RETRY_MILLIS, SEVERED_REST_MILLIS, SLEEP_MILLIS_MAX};
use crate::base::log::Log;
use crate::config::Config;
use crate::config::stamp::Stamps;
use crate::ipc::control::{Channel, ControlError, ToChild, ToSupervisor};
use crate::ring::{LedgerView, MemberPage, OwnPage};
use crate::sys::poll::{Interest, Poller};
use crate::sys::{clock, strftime};

/// The life of control.
pub fn run(child: ControlChild) -> ExitCode {
    member::end(live(child))
}

fn live(child: ControlChild) -> Result<(), MemberError> {
    let mut control = Control::new(child)?;
    while !control.is_over {
        control.turn()?;
    }
    // As in a worker: the channel closes with the process, not before.
    std::mem::forget(control);
    Ok(())
}

struct Control {
    channel: Channel,
    poller: Poller,
    log: Log,
    stamps: Stamps,
    config: Config,
    now: Instant,
    /// Its own page, where its heart beats.
    page: OwnPage,
    ledger: LedgerView,
    /// By slot.
    pages: Vec<Option<(Incarnation, MemberPage)>>,
    topics: SystemTopics,
    link: Option<Link>,
    /// When another connection is asked for, if there is none.
    sever_at: Option<Instant>,
    /// When `$SYS` is looked after next.
    update_at: Instant,
    is_over: bool,
}

impl Control {
    fn new(child: ControlChild) -> Result<Self, MemberError> {
        let config = member::config_from(child.config)?;
        let failed = |e| MemberError::Io(e);
        let page = OwnPage::map(child.page.as_fd(), child.incarnation).map_err(failed)?;
        let ledger = LedgerView::map(child.ledger.as_fd()).map_err(failed)?;
        let mut channel = child.control;
        channel.send(ToSupervisor::Mapped)?;
        let poller = Poller::new(EVENTS)?;
        poller.add(channel.as_fd(), CHANNEL, Interest::ReadLevel)?;
        Ok(Self {
            channel,
            poller,
            log: Log::new(config.log_mask),
            stamps: Stamps::new(&config),
            config,
            now: clock::now(),
            page,
            ledger,
            pages: std::iter::repeat_with(|| None).take(MEMBERS_MAX).collect(),
            topics: SystemTopics::new(child.started),
            link: None,
            sever_at: None,
            update_at: Instant::default(),
            is_over: false,
        })
    }

    /// One turn: wait, obey, move bytes, and look after `$SYS` when it is time.
    fn turn(&mut self) -> Result<(), MemberError> {
        let timeout = self.sleep_until().since(clock::now());
        self.poller.wait(Some(timeout))?;
        self.page.beat();
        self.now = clock::now();
        self.stamp();
        let ready = (0..self.poller.len()).filter_map(|at| self.poller.ready(at));
        if ready.into_iter().any(|ready| ready.token == CHANNEL) {
            self.obey()?;
        }
        self.talk();
        self.look_after_topics();
        self.talk();
        self.ask_for_connection()?;
        child::write_log(&mut self.log);
        match self.channel.flush() {
            Err(ControlError::Closed) => self.is_over = true,
            result => result?,
        }
        Ok(())
    }

    fn sleep_until(&mut self) -> Instant {
        let heartbeat = self.now.after_millis(SLEEP_MILLIS_MAX);
        let retry = !self.log.pending().is_empty() || self.channel.has_queued();
        let is_online = self.link.as_ref().is_some_and(Link::is_online);
        let due = [
            is_online.then_some(self.update_at),
            self.link.as_ref().and_then(Link::deadline),
            self.sever_at,
            retry.then(|| self.now.after_millis(RETRY_MILLIS)),
        ];
        due.into_iter().flatten().fold(heartbeat, Instant::min)
    }

    fn stamp(&mut self) {
        let seconds = i64::try_from(clock::wall().as_secs()).unwrap_or(i64::MAX);
        let stamp = self.stamps.at(seconds, strftime::format_local);
        self.log.set_stamp(stamp);
    }

    fn obey(&mut self) -> Result<(), MemberError> {
        loop {
            match self.channel.receive() {
                Ok(Some(message)) => self.obey_one(message)?,
                Ok(None) => return Ok(()),
                // Nobody is left to administer.
                Err(ControlError::Closed) => {
                    self.is_over = true;
                    return Ok(());
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn obey_one(&mut self, message: ToChild) -> Result<(), MemberError> {
        match message {
            ToChild::Page {
                member,
                incarnation,
                page,
            } => self.take_page(member, incarnation, &page)?,
            ToChild::Internal { socket } => {
                self.link = Some(Link::new(socket, &self.poller, LINK, self.now)?);
                self.sever_at = None;
                self.topics.forget_published();
                self.update_at = self.now;
            }
            ToChild::Config { config } => {
                self.config = member::config_from(config)?;
                self.log.set_mask(self.config.log_mask);
                self.stamps = Stamps::new(&self.config);
                self.update_at = self.now;
            }
            ToChild::Stop => self.is_over = true,
            ToChild::Hello { .. } | ToChild::HelloControl { .. } => {
                return Err(MemberError::SecondHello);
            }
            ToChild::Welcome
            | ToChild::Peer { .. }
            | ToChild::PeerGone { .. }
            | ToChild::PeerRemoved { .. }
            | ToChild::Listener { .. }
            | ToChild::TakeBack { .. }
            | ToChild::Quiesce => return Err(MemberError::NotForThisProcess),
        }
        Ok(())
    }

    fn take_page(
        &mut self,
        member: MemberId,
        incarnation: Incarnation,
        page: &OwnedFd,
    ) -> Result<(), MemberError> {
        let page = MemberPage::map(page.as_fd())?;
        if let Some(slot) = self.pages.get_mut(member.slot()) {
            *slot = Some((incarnation, page));
        }
        Ok(())
    }

    /// Moves bytes between the client and its worker.
    fn talk(&mut self) {
        let ended = match &mut self.link {
            Some(link) => link.talk(self.now).is_err(),
            None => false,
        };
        if ended {
            self.link = None;
            // A worker that is there but refuses must not be asked again and again.
            self.sever_at = Some(self.now.after_millis(SEVERED_REST_MILLIS));
        }
    }

    fn ask_for_connection(&mut self) -> Result<(), MemberError> {
        if self.sever_at.is_some_and(|at| at <= self.now) {
            self.sever_at = None;
            self.channel
                .send(ToSupervisor::Severed)
                .or_else(|e| match e {
                    ControlError::Closed => Ok(()),
                    e => Err(e),
                })?;
        }
        Ok(())
    }

    /// Publishes what has changed, if it is time and all was taken that was published before.
    fn look_after_topics(&mut self) {
        let Some(link) = self.link.as_mut().filter(|link| link.is_online()) else {
            return;
        };
        if self.now < self.update_at || self.config.sys_interval == 0 {
            return;
        }
        self.update_at = next_update(self.now, clock::wall(), self.config.sys_interval);
        if link.is_busy() {
            return;
        }
        let members = figures(&mut self.pages, &self.ledger);
        for change in self.topics.update(&members, self.now) {
            link.publish(&change.topic, &change.value);
        }
    }
}

/// Every member's figures, with those of its dead predecessors. The ledger says up to which life it has them, so that
/// nothing is counted twice while one dies.
fn figures(
    pages: &mut [Option<(Incarnation, MemberPage)>],
    ledger: &LedgerView,
) -> Vec<MemberFigures> {
    let mut all = Vec::new();
    for (member, slot) in MemberId::all().zip(pages) {
        let Some((incarnation, page)) = slot else {
            continue;
        };
        // The page first: what it holds is in the ledger only if the ledger is read later and says so.
        let mut figures = page.figures().clone();
        let dead = ledger.entry(member);
        if dead.last >= *incarnation {
            figures = Default::default();
        }
        figures.inherit(&dead.figures);
        all.push(MemberFigures {
            member,
            restarts: dead.deaths,
            figures,
        });
    }
    all
}

/// The next whole multiple of the interval on the wall clock.
fn next_update(now: Instant, wall: std::time::Duration, interval_secs: u16) -> Instant {
    let interval = std::time::Duration::from_secs(interval_secs.max(1).into());
    let into = wall.as_nanos() % interval.as_nanos();
    let rest = interval.as_nanos() - into;
    now + std::time::Duration::from_nanos(u64::try_from(rest).unwrap_or(u64::MAX))
}

/// Descriptors that one wait reports.
const EVENTS: usize = 8;

const CHANNEL: u64 = 0;
const LINK: u64 = 1;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn updates_are_aligned_to_the_wall_clock() {
        let now = Instant(7);
        let at = |wall_millis, interval| {
            (next_update(now, Duration::from_millis(wall_millis), interval) - now).as_millis()
        };
        assert_eq!(at(1_700_000_003_250, 10), 6_750);
        assert_eq!(at(1_700_000_000_000, 10), 10_000);
        assert_eq!(at(59_999, 60), 1);
    }
}
