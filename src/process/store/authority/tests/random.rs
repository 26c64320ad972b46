//! Random histories: persistent clients move between workers that die, and get every message in order.

use super::*;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }
}

/// A client with one subscription to everything that counts what it gets.
#[derive(Default)]
struct Client {
    conn: Option<Conn>,
    /// Claims that were made and neither granted nor refused.
    claiming: Vec<Conn>,
    /// Messages in the order in which they first came.
    got: Vec<usize>,
    /// Packet ids to acknowledge, and what was said last: PUBLISH or PUBREC.
    unacknowledged: Vec<(u16, Qos, AckKind)>,
    /// QoS 2 packet ids that were received and not released: a repetition of them is not new.
    held: Vec<u16>,
    subscribed: bool,
}

struct History {
    world: World,
    clients: Vec<Client>,
    /// Next incarnation, and who lives in the two slots.
    incarnation: u32,
    workers: [u32; 2],
    dead: Vec<(usize, u32)>,
    /// QoS of each message that was published since everybody had subscribed.
    published: Vec<Qos>,
}

const IDS: [&str; 3] = ["a", "b", "c"];

impl History {
    fn new() -> Self {
        let mut world = World::with(StoreSettings {
            max_inflight_messages: 3,
            max_queued_messages: 0,
            ..SETTINGS
        });
        let mut clients = Vec::new();
        for id in IDS {
            let (conn, _) = world.session(0, id, &[(2, "#")]);
            clients.push(Client {
                conn: Some(conn),
                subscribed: true,
                ..Client::default()
            });
        }
        Self {
            world,
            clients,
            incarnation: 2,
            workers: [1, 2],
            dead: Vec::new(),
            published: Vec::new(),
        }
    }

    fn hear(&mut self) {
        self.world.settle();
        figures::assert_true(&self.world.store);
        for (to, what) in self.world.said() {
            let claim = claim_of(&what);
            let is_it = |c: &Conn| c.claim == claim && worker(c.worker).mask() == to;
            let found = self
                .clients
                .iter_mut()
                .find(|c| c.conn.iter().any(is_it) || c.claiming.iter().any(is_it));
            // The connection may have been closed meanwhile.
            let Some(client) = found else { continue };
            match what {
                ToWorker::Grant {
                    session_present, ..
                } => {
                    assert!(session_present, "sessions never end here");
                    assert!(client.conn.is_none(), "one holder at a time");
                    client.conn = client.claiming.iter().copied().find(is_it);
                    client.claiming.retain(|c| c.claim != claim);
                }
                ToWorker::Refuse { .. } => client.claiming.retain(|c| c.claim != claim),
                ToWorker::Evict { .. } => {
                    if let Some(conn) = client.conn.take() {
                        client.unacknowledged.clear();
                        self.world.disconnect(conn);
                        // What follows is heard the next time.
                    }
                }
                ToWorker::Deliver(deliver) => client.receive(&deliver),
                ToWorker::Pubrel { packet_id, .. } => {
                    let one = (packet_id.get(), Qos::ExactlyOnce, AckKind::Pubcomp);
                    client.unacknowledged.push(one);
                }
                ToWorker::Subscribed { .. } | ToWorker::SessionFilters { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn step(&mut self, random: &mut Random) {
        let who = random.below(IDS.len());
        match random.below(12) {
            0..4 => {
                let n = self.published.len();
                let qos = [Qos::AtLeastOnce, Qos::ExactlyOnce][random.below(2)];
                self.published.push(qos);
                let topic = n.to_string();
                let (slot, from) = (0, Incarnation(self.workers[0]));
                let mut out = Encoded::default();
                message(&topic, qos).append(&mut out, MemberMask::ALL, &mut Vec::new());
                self.world.raw(slot, from, out.kind, &out.bytes);
            }
            4..8 => self.acknowledge(who, random),
            8 => {
                if let Some(conn) = self.clients[who].conn.take() {
                    self.clients[who].unacknowledged.clear();
                    self.world.disconnect(conn);
                }
            }
            9 | 10 => {
                let conn = self.world.claim(random.below(2), persistent(IDS[who]));
                self.clients[who].claiming.push(conn);
            }
            _ if !self.dead.is_empty() => {
                let (slot, incarnation) = self.dead.remove(0);
                self.world.step(|store, cx| {
                    store.member_removed(worker(slot), Incarnation(incarnation), cx);
                });
            }
            _ => self.kill(random.below(2)),
        }
    }

    fn kill(&mut self, slot: usize) {
        let old = self.workers[slot];
        self.world.die(slot, old);
        self.dead.push((slot, old));
        for client in &mut self.clients {
            if client.conn.is_some_and(|c| c.incarnation.0 == old) {
                client.conn = None;
                client.unacknowledged.clear();
            }
            client.claiming.retain(|c| c.incarnation.0 != old);
        }
        self.incarnation += 1;
        self.workers[slot] = self.incarnation;
        self.world.join(slot, self.incarnation);
    }

    fn acknowledge(&mut self, who: usize, random: &mut Random) {
        let client = &mut self.clients[who];
        let Some(conn) = client.conn.filter(|_| !client.unacknowledged.is_empty()) else {
            return;
        };
        let at = random.below(client.unacknowledged.len());
        let (packet_id, qos, what) = client.unacknowledged.remove(at);
        self.world.ack(conn, packet_id, what);
        if what == AckKind::Pubrec {
            client.held.retain(|id| *id != packet_id);
            client
                .unacknowledged
                .push((packet_id, qos, AckKind::Pubcomp));
        }
    }
}

impl Client {
    fn receive(&mut self, deliver: &Deliver<'_>) {
        assert!(self.subscribed);
        let packet_id = deliver.packet_id.unwrap().get();
        let n: usize = deliver.message.topic.parse().unwrap();
        let known = self.got.contains(&n);
        assert!(!known || deliver.dup, "a repetition says that it is one");
        match deliver.message.qos {
            Qos::ExactlyOnce => {
                assert_eq!(known, self.held.contains(&packet_id), "exactly once");
                if !known {
                    self.held.push(packet_id);
                    self.got.push(n);
                }
                self.unacknowledged
                    .push((packet_id, Qos::ExactlyOnce, AckKind::Pubrec));
            }
            qos => {
                if !known {
                    self.got.push(n);
                }
                self.unacknowledged.push((packet_id, qos, AckKind::Puback));
            }
        }
    }
}

#[test]
fn every_message_comes_in_order_whoever_dies() {
    for seed in 0..3000 {
        let mut random = Random(seed);
        let mut history = History::new();
        for _ in 0..60 {
            history.step(&mut random);
            history.hear();
        }
        // In the end everything works again.
        for (slot, incarnation) in std::mem::take(&mut history.dead) {
            history.world.step(|store, cx| {
                store.member_removed(worker(slot), Incarnation(incarnation), cx);
            });
        }
        for (who, id) in IDS.iter().enumerate() {
            let conn = history.world.claim(0, persistent(id));
            history.clients[who].claiming.push(conn);
        }
        for _ in 0..4 {
            history.hear();
        }
        while history.clients.iter().any(|c| !c.unacknowledged.is_empty()) {
            for who in 0..IDS.len() {
                history.acknowledge(who, &mut random);
                history.hear();
            }
        }
        let all: Vec<_> = (0..history.published.len()).collect();
        assert_eq!(history.world.store.queued_bytes(), 0, "seed {seed}");
        for client in &history.clients {
            assert!(client.conn.is_some(), "seed {seed}");
            assert_eq!(client.got, all, "seed {seed}");
        }
    }
}
