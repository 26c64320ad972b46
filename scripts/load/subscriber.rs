//! A subscriber: acknowledges, and checks that each publisher's messages come whole, once and in order.

use mosquitto::mqtt::encode::encode;
use mosquitto::mqtt::{Packet, Publish, Qos, Version};

use crate::packets::{Stamp, ack};

/// What went wrong with messages, counted.
#[derive(Clone, Default, Debug)]
pub struct Faults {
    /// Never came, or came after a later one.
    pub lost: u64,
    /// Came again, or after a later one.
    pub repeated: u64,
    /// Not of this run, on the wrong topic, or not for this subscriber.
    pub foreign: u64,
    /// Payload, QoS or flags changed.
    pub altered: u64,
    /// The first of them, in words.
    pub first: Option<String>,
}

impl Faults {
    pub const fn count(&self) -> u64 {
        self.lost + self.repeated + self.foreign + self.altered
    }

    pub fn note(&mut self, what: impl FnOnce() -> String) {
        if self.first.is_none() {
            self.first = Some(what());
        }
    }
}

pub struct Subscriber {
    pub filter: String,
    qos: Qos,
    version: Version,
    payload_bytes: usize,
    nonce: u32,
    /// The publishers that it hears: the first one's index, and the next number expected of each.
    first: u32,
    expected: Vec<u64>,
}

/// A message that is what it should be: numbers `from..=stamp.seq` are settled by it (more than one after a gap).
pub struct Arrival {
    pub stamp: Stamp,
    pub from: u64,
}

impl Subscriber {
    pub fn new(
        filter: String,
        common: crate::publisher::Common,
        heard: std::ops::Range<u32>,
    ) -> Self {
        Self {
            filter,
            qos: common.qos,
            version: common.version,
            payload_bytes: common.payload_bytes,
            nonce: common.nonce,
            first: heard.start,
            expected: vec![0; heard.len()],
        }
    }

    /// Answers `packet`; a message in order comes back as an arrival, any other is counted in `faults`.
    ///
    /// # Errors
    /// A packet that has no place here.
    pub fn on_packet(
        &mut self,
        packet: &Packet<'_>,
        topics: &[String],
        faults: &mut Faults,
        out: &mut Vec<u8>,
    ) -> Result<Option<Arrival>, String> {
        match packet {
            Packet::Publish(publish) => {
                match publish.packet_id {
                    Some(id) if publish.qos == Qos::AtLeastOnce => {
                        encode(&Packet::Puback(ack(id)), self.version, out)
                    }
                    Some(id) => encode(&Packet::Pubrec(ack(id)), self.version, out),
                    None => {}
                }
                Ok(self.check(publish, topics, faults))
            }
            Packet::Pubrel(a) => {
                encode(&Packet::Pubcomp(ack(a.packet_id)), self.version, out);
                Ok(None)
            }
            other => Err(format!("a subscriber received {other:?}")),
        }
    }

    /// Counts what never came: `sent` are the messages that each publisher has sent.
    pub fn finish(&self, sent: &[u64], faults: &mut Faults) {
        for (publisher, expected) in (self.first..).zip(&self.expected) {
            let sent = sent.get(publisher as usize).copied().unwrap_or(0);
            let missing = sent.saturating_sub(*expected);
            if missing > 0 {
                faults.lost += missing;
                faults.note(|| {
                    format!(
                        "the last {missing} of publisher {publisher} did not come to {}",
                        self.filter
                    )
                });
            }
        }
    }

    fn check(
        &mut self,
        publish: &Publish<'_>,
        topics: &[String],
        faults: &mut Faults,
    ) -> Option<Arrival> {
        let Some(stamp) = Stamp::read(publish.payload, self.payload_bytes) else {
            faults.altered += 1;
            faults.note(|| {
                format!(
                    "a payload of {} bytes is not what was sent",
                    publish.payload.len()
                )
            });
            return None;
        };
        let topic = topics.get(stamp.publisher as usize);
        let index = stamp.publisher.checked_sub(self.first).map(|i| i as usize);
        let expected = index.and_then(|i| self.expected.get_mut(i));
        let (Some(expected), true, true) = (
            expected,
            stamp.nonce == self.nonce,
            publish.topic.map(|t| t.as_str()) == topic.map(String::as_str),
        ) else {
            faults.foreign += 1;
            faults.note(|| format!("{stamp:?} on {:?} came to {}", publish.topic, self.filter));
            return None;
        };
        if publish.qos != self.qos || publish.retain || publish.dup {
            faults.altered += 1;
            faults.note(|| {
                format!(
                    "QoS {:?}, retain {}, dup {}",
                    publish.qos, publish.retain, publish.dup
                )
            });
        }
        let from = *expected;
        if stamp.seq < from {
            faults.repeated += 1;
            faults.note(|| {
                format!(
                    "publisher {}: {} came after {}",
                    stamp.publisher,
                    stamp.seq,
                    from - 1
                )
            });
            return None;
        }
        if stamp.seq > from {
            faults.lost += stamp.seq - from;
            faults.note(|| {
                format!(
                    "publisher {}: {} came where {from} should",
                    stamp.publisher, stamp.seq
                )
            });
        }
        *expected = stamp.seq + 1;
        Some(Arrival { stamp, from })
    }
}
