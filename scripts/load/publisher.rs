//! A publisher: numbers its messages, keeps a window of them in flight and follows their acknowledgements.
//!
//! A message is in flight until all its deliveries were seen and, above QoS 0, its handshake is complete. So neither
//! the broker's queues nor its sockets ever hold more than the windows, and a broker has no reason to drop.

use std::collections::VecDeque;

use mosquitto::mqtt::encode::{PublishForm, encode, encode_publish_head};
use mosquitto::mqtt::{Packet, Properties, Qos, Topic, Version};

use crate::packets::{Stamp, ack};

pub struct Publisher {
    qos: Qos,
    version: Version,
    window: u64,
    payload_bytes: usize,
    /// A PUBLISH up to its payload, and where its packet id is.
    head: Vec<u8>,
    id_at: Option<usize>,
    stamp: Stamp,
    /// Deliveries that each message in flight still lacks, by the low bits of its number.
    lacking: Vec<usize>,
    deliveries_per_message: usize,
    /// All messages below this number were delivered to every subscriber.
    completed: u64,
    /// Packet id N is slot N - 1.
    handshakes: Vec<Handshake>,
    /// Slots that are free, the one that was free longest first.
    free: VecDeque<u16>,
    /// Paced load: the messages that should have gone by now.
    pub overdue: VecDeque<Due>,
}

/// When a message should go, and whether the window has held it back.
#[derive(Clone, Copy)]
pub struct Due {
    pub at: u64,
    pub held: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Handshake {
    Free,
    AwaitsPuback,
    AwaitsPubrec,
    AwaitsPubcomp,
}

/// What all publishers of a run have in common.
#[derive(Clone, Copy)]
pub struct Common {
    pub qos: Qos,
    pub version: Version,
    pub window: u16,
    pub payload_bytes: usize,
    pub nonce: u32,
    pub deliveries_per_message: usize,
}

impl Publisher {
    pub fn new(index: u32, topic: Topic<'_>, common: Common) -> Self {
        let mut head = Vec::new();
        let form = PublishForm {
            version: common.version,
            qos: common.qos,
            retain: false,
            topic,
            properties: Properties::NONE,
            payload: &vec![0; common.payload_bytes],
        };
        let id_at = encode_publish_head(&form, &mut head);
        let slots = if common.qos == Qos::AtMostOnce {
            0
        } else {
            common.window
        };
        Self {
            qos: common.qos,
            version: common.version,
            window: u64::from(common.window),
            payload_bytes: common.payload_bytes,
            head,
            id_at,
            stamp: Stamp {
                nonce: common.nonce,
                publisher: index,
                seq: 0,
                nanos: 0,
            },
            lacking: vec![0; usize::from(common.window).next_power_of_two()],
            deliveries_per_message: common.deliveries_per_message,
            completed: 0,
            handshakes: vec![Handshake::Free; usize::from(slots)],
            free: (0..slots).collect(),
            overdue: VecDeque::new(),
        }
    }

    /// Messages sent so far; also the number of the next.
    pub const fn sent(&self) -> u64 {
        self.stamp.seq
    }

    pub fn may_send(&self) -> bool {
        self.sent() - self.completed < self.window
            && (self.qos == Qos::AtMostOnce || !self.free.is_empty())
    }

    /// Whether nothing is in flight.
    pub fn is_settled(&self) -> bool {
        self.completed == self.sent() && self.free.len() == self.handshakes.len()
    }

    /// Appends the next message, stamped `nanos`, to `out`. Only when [`Self::may_send`].
    pub fn send(&mut self, nanos: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.head);
        if let Some(at) = self.id_at {
            let slot = self.free.pop_front().unwrap_or_default();
            if let Some(field) = out.get_mut(start + at..).and_then(|b| b.first_chunk_mut()) {
                *field = (slot + 1).to_be_bytes();
            }
            if let Some(handshake) = self.handshakes.get_mut(usize::from(slot)) {
                *handshake = match self.qos {
                    Qos::ExactlyOnce => Handshake::AwaitsPubrec,
                    _ => Handshake::AwaitsPuback,
                };
            }
        }
        self.stamp.nanos = nanos;
        self.stamp.write(self.payload_bytes, out);
        let slot = self.slot(self.stamp.seq);
        if let Some(lacking) = self.lacking.get_mut(slot) {
            *lacking = self.deliveries_per_message;
        }
        self.stamp.seq += 1;
    }

    /// A subscriber has received message `seq`, or will never (the gap was counted as a fault).
    pub fn delivered(&mut self, seq: u64) {
        if seq < self.completed || seq >= self.sent() {
            return;
        }
        let slot = self.slot(seq);
        if let Some(lacking) = self.lacking.get_mut(slot) {
            *lacking = lacking.saturating_sub(1);
        }
        while self.completed < self.sent()
            && self.lacking.get(self.slot(self.completed)) == Some(&0)
        {
            self.completed += 1;
        }
    }

    /// An acknowledgement from the broker.
    ///
    /// # Errors
    /// It answers nothing that was asked, or refuses.
    pub fn on_packet(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let (got, awaited, next) = match packet {
            Packet::Puback(a) => (a, Handshake::AwaitsPuback, Handshake::Free),
            Packet::Pubrec(a) => (a, Handshake::AwaitsPubrec, Handshake::AwaitsPubcomp),
            Packet::Pubcomp(a) => (a, Handshake::AwaitsPubcomp, Handshake::Free),
            other => return Err(format!("a publisher received {other:?}")),
        };
        let slot = got.packet_id.get() - 1;
        match self.handshakes.get_mut(usize::from(slot)) {
            Some(handshake) if *handshake == awaited && got.code < 0x80 => *handshake = next,
            _ => return Err(format!("a publisher received {packet:?} out of turn")),
        }
        if next == Handshake::Free {
            self.free.push_back(slot);
        } else {
            encode(&Packet::Pubrel(ack(got.packet_id)), self.version, out);
        }
        Ok(())
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "only the low bits are wanted"
    )]
    fn slot(&self, seq: u64) -> usize {
        seq as usize & (self.lacking.len() - 1)
    }
}
