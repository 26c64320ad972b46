//! What a client cannot know of its session and its wills, because connections end without a word.

use mosquitto::base::clock::Instant;
use mosquitto::mqtt::Qos;

use super::Client;
use crate::book::{Book, Fate, Moment};

impl Client {
    /// Wills of earlier connections: they come when the session ends, and do not when it goes on in time.
    pub(super) fn settle_wills(&self, present: bool, book: &mut Book, at: Moment) {
        for (number, fate) in &mut book.wills {
            let of = &book.publishes[*number as usize];
            if let Fate::Delayed(due) = *fate
                && of.publisher == self.index
                && Some(*number) != self.will
            {
                *fate = match (present, at.now < due) {
                    (true, true) => Fate::MustNot,
                    (true, false) => Fate::May,
                    (false, _) => Fate::Must,
                };
            }
        }
    }

    /// When its session may have ended, if the broker knew of the end of the last connection at once.
    pub(super) fn expires(&self) -> Instant {
        self.lost.now.after_secs(u64::from(self.expiry))
    }

    /// The session may have expired, and another one have begun whose CONNACK was lost. What the client knows of it is
    /// worth nothing: nothing that was subscribed to is owed any more, but all of it may come.
    pub(super) fn doubt_session(&mut self, book: &mut Book, at: Moment) {
        let Some(old) = self.session else { return };
        let pipe = self.link.pipe().unwrap_or_default();
        let new = book.begin_session(self.index, true, (self.opened, pipe), at);
        book.sessions[old].ended.get_or_insert(at.step);
        let of_old = &book.sessions[old];
        let mut both = [of_old.subscriptions.clone(), of_old.memberships.clone()];
        for subscription in both.iter_mut().flatten() {
            subscription.from = None;
            subscription.until.get_or_insert(at.step);
        }
        let [subscriptions, memberships] = both;
        book.sessions[new].subscriptions = subscriptions;
        book.sessions[new].memberships = memberships;
        self.session = Some(new);
    }

    /// The client gives up what it had not sent to the end.
    pub(super) fn give_up(&mut self) {
        self.received.clear();
        // Packet ids are to be free again on the other side too.
        self.outgoing.retain(|o| o.qos == Qos::ExactlyOnce);
        for outgoing in &mut self.outgoing {
            outgoing.given_up |= !outgoing.released;
            outgoing.released = true;
        }
    }

    pub(super) fn doubt_wills(&self, book: &mut Book) {
        for (number, fate) in &mut book.wills {
            let of = &book.publishes[*number as usize];
            if matches!(fate, Fate::Delayed(_)) && of.publisher == self.index {
                *fate = Fate::May;
            }
        }
    }
}
