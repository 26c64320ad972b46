//! What time does: sessions expire, wills come due, old entries fade.

use crate::base::clock::Instant;
use crate::base::ids::ClientNumber;
use crate::base::limits::{
    FADING_CHECK_MILLIS, RETAINED_SWEEP_SECS, RETAINED_SWEEP_STEPS, TIMERS_PER_TURN,
};
use crate::base::log::LogType;
use crate::ring::{Cx, Mesh};

use super::Store;
use super::claims::is_applied;

impl Store {
    /// Does what is due by now. Call it when [`Store::next_deadline`] has come.
    pub fn tick<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        self.wait_anew();
        for _ in 0..TIMERS_PER_TURN {
            match self.timers.first() {
                Some((at, client)) if *at <= cx.now => {
                    let client = *client;
                    self.client_due(client, cx);
                }
                _ => break,
            }
        }
        if self.fading_at <= cx.now {
            self.fade(cx);
        }
        if self.sweep_at <= cx.now {
            self.retained.sweep(cx.now, RETAINED_SWEEP_STEPS);
            self.sweep_at = cx.now.after_secs(RETAINED_SWEEP_SECS);
        }
    }

    /// Follows a changed `persistent_client_expiration`, as if it had held when the clients left.
    fn wait_anew(&mut self) {
        let longest = self.settings.persistent_client_expiration;
        for _ in 0..TIMERS_PER_TURN {
            let Some(client) = self.to_wait_anew.pop() else {
                return;
            };
            let Some((None, kept)) = self.directory.held_mut(client) else {
                continue;
            };
            if let Some(session) = &mut kept.session {
                session.wait(longest);
                // A will comes when its session ends at the latest [MQTT-3.1.3.2.2].
                if let (Some(at), Some((_, due))) = (session.expires_at, &mut kept.delayed_will) {
                    *due = at.min(*due);
                }
            }
            self.set_timer(client);
        }
    }

    /// Ends this client's session and publishes its will if they are due, and sets its timer for what comes next.
    pub(super) fn client_due<M: Mesh>(&mut self, client: ClientNumber, cx: &mut Cx<'_, M>) {
        let is_held = self.directory.holder(client).is_some();
        let ends = |at: Option<Instant>| !is_held && at.is_some_and(|at| at <= cx.now);
        let kept = self.directory.get(client);
        let session = kept.and_then(|c| c.session.as_ref());
        if session.is_some_and(|s| ends(s.expires_at)) {
            if let Some(id) = self.directory.id(client) {
                cx.log.line(
                    LogType::Notice,
                    format_args!("Expiring client {id} due to timeout."),
                );
            }
            self.counted.clients_expired += 1;
            self.end_session(client, cx);
        }
        self.will_due(client, cx);
        self.set_timer(client);
        self.forget_if_idle(client);
    }

    /// A will comes after everything that its client had published, on every member.
    fn will_due<M: Mesh>(&mut self, client: ClientNumber, cx: &mut Cx<'_, M>) {
        let mut kept = self.directory.get_mut(client);
        let Some((_, due)) = kept.as_mut().and_then(|c| c.delayed_will.as_mut()) else {
            return;
        };
        if *due > cx.now {
            return;
        }
        if !self
            .directory
            .mark_passed(client, |mark| is_applied(mark, cx.mesh))
        {
            if let Some(kept) = self.directory.get_mut(client)
                && let Some((_, due)) = &mut kept.delayed_will
            {
                *due = cx.now.after_millis(1);
            }
            return;
        }
        let kept = self.directory.get_mut(client);
        if let Some((will, _)) = kept.and_then(|c| c.delayed_will.take()) {
            self.publish_will(client, &will, cx);
        }
    }

    /// Publishes every will that still waits for its delay: the broker is stopping, and as with the original none
    /// is lost by that.
    pub fn publish_delayed_wills<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        for client in self.directory.numbers() {
            let kept = self.directory.get_mut(client);
            if let Some((will, _)) = kept.and_then(|c| c.delayed_will.take()) {
                self.publish_will(client, &will, cx);
                self.set_timer(client);
            }
        }
    }

    pub(super) fn set_timer(&mut self, client: ClientNumber) {
        let Some(kept) = self.directory.get_mut(client) else {
            return;
        };
        let session = kept.session.as_ref().and_then(|s| s.expires_at);
        let will = kept.delayed_will.as_ref().map(|(_, due)| *due);
        let next = [session, will].into_iter().flatten().min();
        if next == kept.timer {
            return;
        }
        if let Some(old) = std::mem::replace(&mut kept.timer, next) {
            self.timers.remove(&(old, client));
        }
        if let Some(next) = next {
            self.timers.insert((next, client));
        }
    }

    /// Forgets clients in the order in which they left, as far as everybody has applied what they published.
    fn fade<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        while let Some(client) = self.fading.front().copied() {
            let is_held = self.directory.holder(client).is_some();
            let is_wanted = is_held || self.directory.waiting(client).is_some();
            let passed = is_wanted
                || self
                    .directory
                    .mark_passed(client, |mark| is_applied(mark, cx.mesh));
            if !passed {
                break;
            }
            self.fading.pop_front();
            if !is_wanted {
                self.forget_if_idle(client);
            }
        }
        self.fading_at = cx.now.after_millis(FADING_CHECK_MILLIS);
    }
}
