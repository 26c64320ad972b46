//! Rules of time: what has expired is not sent any more, nothing expires early, and no will comes before its delay.

use mosquitto::mqtt::Qos;

use crate::book::{Book, Delivery, Publish, Session};

impl Book {
    /// What one publisher says on a topic at one QoS comes in order. So a message whose successor came had its turn by
    /// then; it must have come too, if it still lived.
    pub fn check_nothing_expires_early(&self, session: &Session) -> Result<(), String> {
        let dying = self.publishes.iter().enumerate().filter(|(_, p)| {
            p.may_expire() && !p.clears && p.qos > Qos::AtMostOnce && p.accepted.is_some()
        });
        for (number, publish) in dying {
            let number = number as u64;
            if session.received.iter().any(|d| d.number == number) {
                continue;
            }
            let dies_at = publish
                .sent_at
                .after_secs(u64::from(publish.expiry.unwrap_or(0)));
            let is_next = |d: &&Delivery| {
                let p = &self.publishes[d.number as usize];
                let same = p.publisher == publish.publisher && p.topic == publish.topic;
                let later = d.number > number && p.qos == publish.qos && !p.resent && !p.will;
                same && later && !d.retain && !d.dup && d.now < dies_at
            };
            let is_owed = |step| {
                session.subscriptions.iter().any(|s| {
                    s.stood(publish, step)
                        && s.matches(&publish.topic)
                        && s.options.qos > Qos::AtMostOnce
                        && s.takes(session.client, publish)
                })
            };
            let mut next = session.received.iter().filter(is_next);
            if self.may_be_dropped(session, publish) {
                continue;
            }
            if let Some(next) = next.find(|d| is_owed(d.step)) {
                return Err(format!(
                    "message {number} expired before {dies_at:?}: {publish:?}, but {next:?}"
                ));
            }
        }
        Ok(())
    }

    pub fn check_no_will_comes_early(&self, session: &Session) -> Result<(), String> {
        for delivery in &session.received {
            let due = self.not_before.get(&delivery.number);
            if let Some(due) = due.filter(|due| delivery.now < **due) {
                return Err(format!("the will came before {due:?}: {delivery:?}"));
            }
        }
        Ok(())
    }
}

/// The expiry goes on counting in the broker [MQTT-3.3.2-6]; what has expired is not sent any more.
pub fn check_expiry(delivery: &Delivery, publish: &Publish) -> Result<(), String> {
    let (Some(secs), false) = (publish.expiry.map(u64::from), delivery.dup) else {
        return Ok(());
    };
    let left = delivery.expiry.map(u64::from);
    if left.is_none() && delivery.is_five {
        return Err("without its expiry".into());
    }
    // It cannot have waited longer than from its sending until it was read.
    let longest = delivery.now.since(publish.sent_at).as_secs() + 1;
    match left {
        Some(left) if left > secs => return Err("it lives longer than at first".into()),
        Some(left) if left + longest < secs => return Err("it dies too soon".into()),
        _ => {}
    }
    let Some(accepted) = publish.accepted.filter(|_| !publish.resent) else {
        return Ok(());
    };
    // Nor less than from its PUBACK until there was a connection, and room in its window.
    let waited = delivery.earliest.since(accepted.now);
    if waited.as_secs() >= secs {
        return Err(format!("sent {waited:?} after it came"));
    }
    match left {
        Some(left) if left > secs - waited.as_secs() => {
            Err("the time that it waited does not count".into())
        }
        _ => Ok(()),
    }
}
