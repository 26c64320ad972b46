//! The publishes of QoS 1 and 2 that the server has not taken over yet, in the order in which they were made.

use std::collections::{BTreeMap, HashMap};

use super::Message;
use crate::base::limits::{CLIENT_PUBLISH_BYTES_MAX, CLIENT_PUBLISHES_MAX};
use crate::mqtt::{PacketId, Qos};

/// Messages in flight, and behind them those that wait for the window to open.
#[derive(Default, Debug)]
pub(super) struct Outgoing {
    /// By serial number: the order of sending, the first time and again.
    kept: BTreeMap<u64, Kept>,
    serial_of: HashMap<PacketId, u64, foldhash::fast::RandomState>,
    next_serial: u64,
    /// Those from this serial number on are not sent on this connection yet.
    unsent_from: u64,
    in_flight: usize,
    payload_bytes: usize,
}

/// One message and how far it is.
#[derive(Debug)]
pub(super) struct Kept {
    pub packet_id: PacketId,
    pub message: Message<'static>,
    /// PUBREC has come; what is owed is a PUBREL, and the message is empty.
    pub released: bool,
    /// Was sent on an earlier connection of the same session.
    pub dup: bool,
    sent: bool,
}

/// What an acknowledgement did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Acked {
    /// The message is done with.
    Done,
    /// PUBREL is to be sent.
    Release,
    /// Nothing with this packet id is in flight.
    Unknown,
    /// The wrong acknowledgement for the message's QoS or state.
    Wrong,
}

impl Outgoing {
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn contains(&self, id: PacketId) -> bool {
        self.serial_of.contains_key(&id)
    }

    /// Whether no further message is taken.
    pub(super) fn is_full(&self) -> bool {
        self.kept.len() >= CLIENT_PUBLISHES_MAX || self.payload_bytes >= CLIENT_PUBLISH_BYTES_MAX
    }

    pub(super) fn push(&mut self, packet_id: PacketId, message: Message<'static>) {
        self.payload_bytes += message.payload.len();
        self.serial_of.insert(packet_id, self.next_serial);
        let kept = Kept {
            packet_id,
            message,
            released: false,
            dup: false,
            sent: false,
        };
        self.kept.insert(self.next_serial, kept);
        self.next_serial += 1;
    }

    /// The next message to send if fewer than `window` are in flight; counts it as sent. A release owed from an
    /// earlier connection needs no room: it makes some.
    pub(super) fn next_to_send(&mut self, window: usize) -> Option<&Kept> {
        let (serial, kept) = self.kept.range_mut(self.unsent_from..).next()?;
        if self.in_flight >= window && !kept.released {
            return None;
        }
        self.unsent_from = serial + 1;
        self.in_flight += 1;
        kept.sent = true;
        Some(kept)
    }

    /// PUBACK for `id`.
    pub(super) fn puback(&mut self, id: PacketId) -> Acked {
        self.acknowledge(id, |kept| match kept.message.qos {
            Qos::AtLeastOnce => Acked::Done,
            _ => Acked::Wrong,
        })
    }

    /// PUBREC for `id`; `refused` if its code says that the server does not want the message.
    pub(super) fn pubrec(&mut self, id: PacketId, refused: bool) -> Acked {
        self.acknowledge(id, |kept| match kept.message.qos {
            Qos::ExactlyOnce if refused && !kept.released => Acked::Done,
            Qos::ExactlyOnce => Acked::Release,
            _ => Acked::Wrong,
        })
    }

    /// PUBCOMP for `id`.
    pub(super) fn pubcomp(&mut self, id: PacketId) -> Acked {
        self.acknowledge(id, |kept| match kept.released {
            true => Acked::Done,
            false => Acked::Wrong,
        })
    }

    fn acknowledge(&mut self, id: PacketId, judge: impl FnOnce(&Kept) -> Acked) -> Acked {
        let Some(serial) = self.serial_of.get(&id).copied() else {
            return Acked::Unknown;
        };
        // What is not sent on this connection yet cannot be acknowledged on it.
        let Some(kept) = self
            .kept
            .get_mut(&serial)
            .filter(|_| serial < self.unsent_from)
        else {
            return Acked::Unknown;
        };
        let acked = judge(kept);
        match acked {
            Acked::Done => {
                self.in_flight -= 1;
                self.remove(serial);
            }
            Acked::Release if !kept.released => {
                kept.released = true;
                self.payload_bytes -= kept.message.payload.len();
                kept.message = Message {
                    qos: Qos::ExactlyOnce,
                    ..Message::default()
                };
            }
            Acked::Release | Acked::Unknown | Acked::Wrong => {}
        }
        acked
    }

    fn remove(&mut self, serial: u64) {
        if let Some(kept) = self.kept.remove(&serial) {
            self.payload_bytes -= kept.message.payload.len();
            self.serial_of.remove(&kept.packet_id);
        }
    }

    /// A new connection goes on with the session: all is sent again, in order.
    pub(super) fn resume(&mut self) {
        self.in_flight = 0;
        self.unsent_from = 0;
        for kept in self.kept.values_mut() {
            kept.dup |= kept.sent;
        }
    }

    /// A new connection begins a new session: what was not taken over is sent as if for the first time. What had its
    /// PUBREC was taken over: returns those.
    pub(super) fn restart(&mut self) -> Vec<PacketId> {
        self.in_flight = 0;
        self.unsent_from = 0;
        let mut done = Vec::new();
        self.kept.retain(|_, kept| {
            kept.dup = false;
            kept.sent = false;
            if kept.released {
                done.push(kept.packet_id);
            }
            !kept.released
        });
        for id in &done {
            self.serial_of.remove(id);
        }
        done
    }
}
