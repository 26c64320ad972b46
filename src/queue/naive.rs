//! Random histories of a queue against a client and a session as plain lists.

use super::{IDS, Limits, Next, Queue, Sending};
use crate::base::clock::Instant;
use crate::mqtt::{PacketId, Qos};

fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap()
}

type Plain = Queue<u32, &'static str>;

const NONE: Limits = Limits::NONE;

fn entry(message: u32, qos: Qos) -> super::Entry<u32> {
    super::Entry {
        message,
        qos,
        retain: false,
        subscription_ids: None,
        expires_at: None,
        bytes: 10,
    }
}

/// The lists, written without the queue's own code.
#[derive(Default)]
struct Naive {
    waiting: Vec<(u32, Qos)>,
    /// (message, QoS, packet id, PUBREC came, sent on this connection)
    unacknowledged: Vec<(u32, Qos, u16, bool, bool)>,
    window: Option<usize>,
}

impl Naive {
    fn in_use(&self) -> usize {
        let counts = |m: &&(u32, Qos, u16, bool, bool)| m.3 || m.4;
        self.unacknowledged.iter().filter(counts).count()
    }

    fn sent(&mut self, queue: &mut Plain) {
        let Some(window) = self.window else {
            assert!(queue.next(Instant(0)).is_none());
            return;
        };
        loop {
            let unsent = self.unacknowledged.iter().position(|m| !m.4 && !m.3);
            let pubrel = self.unacknowledged.iter().any(|m| m.3 && !m.4);
            match queue.next(Instant(0)) {
                Some(Next::Pubrel(packet_id)) => {
                    let one = |m: &&mut (u32, Qos, u16, bool, bool)| m.2 == packet_id.get();
                    let found = self.unacknowledged.iter_mut().find(one).unwrap();
                    assert!(found.3 && !found.4);
                    found.4 = true;
                }
                Some(Next::Publish(Sending {
                    packet_id: Some(packet_id),
                    dup,
                    entry,
                })) => {
                    assert!(!pubrel, "PUBREL first");
                    if dup {
                        let at = unsent.unwrap();
                        assert_eq!(self.unacknowledged[at].0, entry.message);
                        assert_eq!(self.unacknowledged[at].2, packet_id.get());
                        self.unacknowledged[at].4 = true;
                    } else {
                        assert_eq!(unsent, None, "repetitions first");
                        assert_eq!(self.waiting.remove(0), (entry.message, entry.qos));
                        let fresh = |m: &(u32, Qos, u16, bool, bool)| m.2 != packet_id.get();
                        assert!(self.unacknowledged.iter().all(fresh));
                        let new = (entry.message, entry.qos, packet_id.get(), false, true);
                        self.unacknowledged.push(new);
                    }
                    assert!(self.in_use() <= window);
                }
                Some(Next::Publish(Sending { entry, .. })) => {
                    assert_eq!((unsent, pubrel), (None, false));
                    assert_eq!(self.waiting.remove(0), (entry.message, Qos::AtMostOnce));
                }
                Some(Next::Gap(_)) => panic!("there is none"),
                None => {
                    assert!(!pubrel);
                    let more = unsent.is_some()
                        || self.waiting.first().is_some_and(|m| m.1 != Qos::AtMostOnce);
                    assert!(!more || self.in_use() >= window, "there was room");
                    let qos0 = self.waiting.first().is_some_and(|m| m.1 == Qos::AtMostOnce);
                    assert!(unsent.is_some() || !qos0, "QoS 0 needs no window");
                    return;
                }
            }
        }
    }
}

#[test]
fn random_histories_agree_with_a_naive_session() {
    for seed in 0..3000_u64 {
        let mut random = seed;
        let mut below = |n: usize| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(random >> 33).unwrap() % n
        };
        let (mut queue, mut naive) = (Plain::default(), Naive::default());
        // Close to the end of the ids, so that some histories go around.
        queue.next_sequence = IDS - 5;
        for message in 0..80 {
            match below(6) {
                0..2 => {
                    let qos = Qos::from_bits(u8::try_from(below(3)).unwrap()).unwrap();
                    queue.push(entry(message, qos), NONE, Instant(0));
                    naive.waiting.push((message, qos));
                }
                2 if below(3) == 0 => {
                    naive.window = None;
                    queue.detach();
                    naive.unacknowledged.iter_mut().for_each(|m| m.4 = false);
                    if below(4) > 0 {
                        let window = below(4) + 1;
                        naive.window = Some(window);
                        queue.attach(u16::try_from(window).unwrap(), u64::MAX);
                    }
                }
                _ if naive.unacknowledged.is_empty() => {}
                _ => {
                    let at = below(naive.unacknowledged.len());
                    let (_, qos, n, released, _) = naive.unacknowledged[at];
                    let done = match (qos, released) {
                        (Qos::AtLeastOnce, _) => queue.puback(id(n)),
                        (_, true) => queue.pubcomp(id(n)),
                        _ => {
                            assert!(queue.pubrec(id(n), 0));
                            naive.unacknowledged[at].3 = true;
                            // The worker has answered with PUBREL at once.
                            naive.unacknowledged[at].4 = true;
                            naive.sent(&mut queue);
                            continue;
                        }
                    };
                    assert!(done, "seed {seed}");
                    naive.unacknowledged.remove(at);
                }
            }
            naive.sent(&mut queue);
            assert_eq!(
                queue.len(),
                naive.waiting.len() + naive.unacknowledged.len()
            );
        }
    }
}
