//! The store: client directory, persistent sessions and their queues, retained messages, wills; and (later) disk.
//!
//! This file is its life; what it decides is `authority`. It touches no socket but the supervisor's channel.

pub mod authority;

use std::process::ExitCode;
use std::rc::Rc;

use authority::{Store, StoreSettings};

use super::child::Child;
use super::member::{self, Brain, Event, Identity, Member, MemberError, Phase};
use crate::base::clock::Instant;
use crate::base::figures::Figures;
use crate::base::limits::INBOX_BYTES_PER_TURN;
use crate::config::Config;
use crate::net::Token;
use crate::ring::{Cx, Mesh as _, SharedMesh};

/// The life of the store.
pub fn run(child: Child) -> ExitCode {
    member::end(live(child))
}

fn live(child: Child) -> Result<(), MemberError> {
    let mut store = Member::new(child, |config, me: &Identity| {
        Store::new(StoreSettings::of(&config), me.hash_key)
    })?;
    while !is_over(&store) {
        turn(&mut store)?;
    }
    // As in a worker: the channel closes with the process, not before.
    std::mem::forget(store);
    Ok(())
}

fn turn(store: &mut Member<Store>) -> Result<(), MemberError> {
    store.wait(false, None)?;
    for at in 0..store.poller.len() {
        let ready = store.poller.ready(at).map(|ready| ready.token);
        if ready.map(Token::<slotmap::DefaultKey>::unpack) == Some(Token::Control) {
            // The store has no use for sockets, and is given none.
            store.obey()?;
        }
    }
    store.inboxes(INBOX_BYTES_PER_TURN);
    store.step(Event::Tick);
    store.finish_turn()?;
    store.write_log();
    Ok(())
}

fn is_over(store: &Member<Store>) -> bool {
    store.phase() == Phase::Stopping && (store.mesh.overflow_bytes() == 0 || store.is_out_of_time())
}

impl Brain for Store {
    fn step(&mut self, event: Event<'_>, cx: &mut Cx<'_, SharedMesh>) {
        match event {
            Event::Record {
                from,
                incarnation,
                kind,
                bytes,
            } => self.record(from, incarnation, kind, bytes, cx),
            Event::Joined(member, incarnation) => self.member_joined(member, incarnation, cx),
            Event::Gone(member, incarnation) => self.member_gone(member, incarnation, cx),
            Event::Removed(member, incarnation) => self.member_removed(member, incarnation, cx),
            Event::Others(others) => self.note_others(others.queued_bytes, others.heap_bytes, cx),
            Event::Tick => self.tick(cx),
            Event::EndOfTurn => self.end_of_turn(cx),
            Event::Flushed => self.flushed(cx),
            // As the original: no delay outlives the broker.
            Event::Quiesce => self.publish_delayed_wills(cx),
            // What a member left behind is settled when everybody has drained it; and the store has no clients.
            Event::Drained(..) | Event::Stop => {}
        }
    }

    fn configure(&mut self, config: Rc<Config>) {
        self.set_settings(StoreSettings::of(&config));
    }

    fn next_deadline(&self, _: &Cx<'_, SharedMesh>) -> Option<Instant> {
        self.next_deadline()
    }

    fn figures(&self) -> Figures {
        self.figures()
    }

    fn is_quiet(&self, cx: &Cx<'_, SharedMesh>) -> bool {
        cx.mesh.overflow_bytes() == 0 && cx.mesh.passed(cx.mesh.live()) >= cx.mesh.head()
    }
}
