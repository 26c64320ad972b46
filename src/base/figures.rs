//! What a member counts: plain numbers that it keeps for itself, and copies a few times a second to where others can
//! read them (`ring::figures`). $SYS, metrics and limits on memory stand on them.

/// How a figure behaves when its process dies, and when processes are added up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It only grows: what a dead process counted stays in the sum.
    Total,
    /// It is so now: it dies with its process.
    Now,
    /// The most there ever was, in one process and its successors.
    Peak,
}

/// Types of packets, by the number in the upper half of the first byte. There is no type 0.
pub const PACKET_TYPES: usize = 16;

macro_rules! figures {
    ($($(#[$doc:meta])* $kind:ident $name:ident,)*) => {
        /// The figures of one process, or of several added up.
        #[derive(Clone, PartialEq, Eq, Debug, Default)]
        pub struct Figures {
            $($(#[$doc])* pub $name: u64,)*
            /// Packets read from clients, by type.
            pub received: [u64; PACKET_TYPES],
            /// Packets for clients, by type.
            pub sent: [u64; PACKET_TYPES],
        }

        impl Figures {
            /// How many there are.
            pub const COUNT: usize = [$(Kind::$kind),*].len() + 2 * PACKET_TYPES;

            /// All of them, always in the same order.
            pub fn values(&self) -> impl Iterator<Item = u64> {
                [$(self.$name),*].into_iter().chain(self.received).chain(self.sent)
            }

            /// All of them to be set, in the order of [`Figures::values`].
            pub fn values_mut(&mut self) -> impl Iterator<Item = (Kind, &mut u64)> {
                let packets = self.received.iter_mut().chain(&mut self.sent);
                [$((Kind::$kind, &mut self.$name)),*]
                    .into_iter()
                    .chain(packets.map(|count| (Kind::Total, count)))
            }
        }
    };
}

figures! {
    /// Bytes read from clients.
    Total bytes_received,
    /// Bytes written to clients.
    Total bytes_sent,
    /// Payload in the PUBLISH packets read.
    Total publish_bytes_received,
    /// Payload in the PUBLISH packets for clients.
    Total publish_bytes_sent,
    /// Messages that a full queue or a slow reader cost.
    Total publish_dropped,
    /// Connections that were ever accepted.
    Total sockets_accepted,
    /// Open connections.
    Now sockets,
    /// Packets that wait until a client takes them, about.
    Now packets_waiting,
    /// Bytes that wait until a client takes them.
    Now packet_bytes_waiting,
    /// Subscriptions that are not shared.
    Now subscriptions,
    /// Those that are.
    Now shared_subscriptions,
    /// Clients that are connected.
    Now clients_connected,
    /// Sessions without a connection.
    Now clients_disconnected,
    /// The most clients, connected or not, at a time.
    Peak clients_maximum,
    /// Sessions that ended because nobody came back in time.
    Total clients_expired,
    /// Messages that were not retained, since there are too many.
    Total retained_dropped,
    /// Retained messages.
    Now retained,
    /// Messages that are kept, retained ones included, each once however many wait for it.
    Now stored_messages,
    /// Their payloads.
    Now stored_bytes,
    /// Payload bytes in queues, each message once for every client that it waits for.
    Now queued_bytes,
    /// What this process holds on its heap.
    Now heap_current,
    /// The most that it ever held.
    Peak heap_maximum,
    /// What does not fit the outbox.
    Now overflow_bytes,
    /// How far the slowest reader is behind.
    Now lag_bytes,
}

impl Figures {
    /// Adds another process's figures.
    pub fn add(&mut self, other: &Self) {
        for ((_, mine), theirs) in self.values_mut().zip(other.values()) {
            *mine = mine.saturating_add(theirs);
        }
    }

    /// Goes on from what the dead predecessors of this process left behind.
    pub fn inherit(&mut self, dead: &Self) {
        for ((kind, mine), theirs) in self.values_mut().zip(dead.values()) {
            match kind {
                Kind::Total => *mine = mine.saturating_add(theirs),
                Kind::Now => {}
                Kind::Peak => *mine = theirs.max(*mine),
            }
        }
    }

    /// What stays when the process is dead: all but what was only so at the time.
    pub fn bury(&mut self) {
        for (kind, value) in self.values_mut() {
            if kind == Kind::Now {
                *value = 0;
            }
        }
    }

    /// Packets of all types that were read.
    pub fn packets_received(&self) -> u64 {
        self.received
            .iter()
            .skip(1)
            .fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Packets of all types for clients.
    pub fn packets_sent(&self) -> u64 {
        self.sent
            .iter()
            .skip(1)
            .fold(0, |sum, n| sum.saturating_add(*n))
    }
}

/// Counts one packet that starts with this byte.
#[inline]
pub fn count_packet(counts: &mut [u64; PACKET_TYPES], first_byte: u8) {
    if let Some(count) = counts.get_mut(usize::from(first_byte >> 4)) {
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_places_come_in_the_same_order() {
        let mut figures = Figures::default();
        for (nth, (_, value)) in figures.values_mut().enumerate() {
            *value = nth as u64;
        }
        assert!(figures.values().eq(0..Figures::COUNT as u64));
        assert_eq!(figures.values().count(), Figures::COUNT);
    }

    #[test]
    fn a_successor_goes_on_with_totals_and_peaks_only() {
        let mut dead = Figures {
            bytes_sent: 7,
            sockets: 3,
            heap_maximum: 100,
            ..Figures::default()
        };
        dead.received[3] = 2;
        dead.bury();
        let mut heir = Figures {
            bytes_sent: 1,
            sockets: 1,
            heap_maximum: 50,
            ..Figures::default()
        };
        heir.received[3] = 1;
        heir.inherit(&dead);
        assert_eq!((heir.bytes_sent, heir.sockets), (8, 1));
        assert_eq!((heir.heap_maximum, heir.received[3]), (100, 3));
        assert_eq!(dead.sockets, 0);
    }

    #[test]
    fn processes_are_added_up() {
        let mut sum = Figures::default();
        for connected in [2, 3] {
            let mut one = Figures {
                clients_connected: connected,
                heap_maximum: 10,
                ..Figures::default()
            };
            count_packet(&mut one.sent, 0x3d);
            sum.add(&one);
        }
        assert_eq!((sum.clients_connected, sum.heap_maximum), (5, 20));
        assert_eq!(
            (sum.sent[3], sum.packets_sent(), sum.packets_received()),
            (2, 2, 0)
        );
    }
}
