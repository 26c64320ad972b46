//! What one client may cost a worker, whatever the client does. (That messages arrive is the simulation's concern.)

use super::connection::Stage;
use super::*;
use crate::base::ids::{ClientNumber, Position};
use crate::base::limits::{RETAINED_REQUESTS_MAX, RETAINED_WAITING_MAX, SILENCE_CHECK_SECS};
use crate::base::log::{Log, LogMask};
use crate::ipc::mesh::{Message, ToStore, ToWorker, kind};
use crate::mqtt::Qos;

mod retained;

/// A mesh whose other members have applied everything; the test decides what is covered.
#[derive(Default)]
struct Bench {
    said: Vec<(u8, Vec<u8>)>,
    serial: u64,
    covered: Option<u64>,
}

impl Mesh for Bench {
    fn me(&self) -> MemberId {
        worker()
    }
    fn live(&self) -> MemberMask {
        MemberId::STORE.mask()
    }
    fn append(&mut self, _: MemberMask, kind: u8, parts: &[&[u8]]) -> Serial {
        self.said.push((kind, parts.concat()));
        self.serial += 1;
        Serial(self.serial)
    }
    fn covered(&self) -> Serial {
        Serial(self.covered.unwrap_or(self.serial))
    }
    fn overflow_bytes(&self) -> usize {
        0
    }
    fn head(&self) -> Position {
        Position(self.serial)
    }
    fn passed(&self, _: MemberMask) -> Position {
        self.head()
    }
    fn wake_when_passed(&mut self, _: Position) {}
    fn applied(&self, _: MemberId) -> Option<(Incarnation, Position)> {
        None
    }
    fn published(&self, _: MemberId) -> Option<(Incarnation, Position)> {
        None
    }
    fn everyone_applied(&mut self, _: MemberId, _: Incarnation, _: Position) -> bool {
        true
    }
}

fn worker() -> MemberId {
    MemberId::worker(0).unwrap()
}

struct World {
    worker: Worker,
    mesh: Bench,
    log: Log,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let config = Config::default_local();
        let mut world = Self {
            worker: Worker::new(Rc::new(config), worker(), Incarnation(1), [1, 2], 3),
            mesh: Bench::default(),
            log: Log::new(LogMask::ALL),
            now: Instant(1_000_000_000),
        };
        world.step(|worker, cx| worker.member_joined(MemberId::STORE, Incarnation(2), cx));
        world
    }

    fn step<R>(&mut self, act: impl FnOnce(&mut Worker, &mut Cx<'_, Bench>) -> R) -> R {
        let mut cx = Cx {
            mesh: &mut self.mesh,
            log: &mut self.log,
            now: self.now,
        };
        act(&mut self.worker, &mut cx)
    }

    fn open(&mut self) -> ConnId {
        let from = AcceptedFrom {
            peer: ([127, 0, 0, 1], 9).into(),
            listener: 0,
        };
        self.step(|worker, cx| worker.accept(from, cx))
    }

    /// A client that was let in.
    fn connect(&mut self, keep_alive: u16, stored: bool) -> ConnId {
        let id = self.open();
        let [high, low] = keep_alive.to_be_bytes();
        let clean = if stored { 0 } else { 2 };
        let mut connect = vec![0x10, 14, 0, 4];
        connect.extend(b"MQTT");
        connect.extend([4, clean, high, low, 0, 2, b'i', b'd']);
        self.input(id, &connect);
        self.store_says(&ToWorker::Grant {
            claim: id.claim(),
            client: ClientNumber(1),
            session_present: false,
            stored,
            received: vec![],
        });
        assert_eq!(self.worker.conns[id].stage, Stage::Connected);
        id
    }

    fn input(&mut self, id: ConnId, bytes: &[u8]) {
        self.step(|worker, cx| worker.input(id, bytes, cx));
    }

    fn store_says(&mut self, what: &ToWorker<'_>) {
        let mut said = Bench::default();
        what.append(&mut said, worker(), &mut Vec::new());
        let (kind, bytes) = said.said.pop().unwrap();
        self.step(|worker, cx| worker.record(MemberId::STORE, Incarnation(2), kind, &bytes, cx));
    }

    fn subscribe(&mut self, id: ConnId, filters: usize) {
        let filters: Vec<String> = (0..filters).map(|n| format!("f{n}")).collect();
        let mut body = vec![0, 1];
        for filter in &filters {
            body.extend([0, u8::try_from(filter.len()).unwrap()]);
            body.extend(filter.as_bytes());
            body.push(0);
        }
        let len = body.len();
        let (low, high) = (len % 128 + 128, len / 128);
        assert!(high < 128);
        let mut packet = vec![
            0x82,
            u8::try_from(low).unwrap(),
            u8::try_from(high).unwrap(),
        ];
        packet.extend(body);
        self.input(id, &packet);
        self.turn();
    }

    fn turn(&mut self) {
        self.step(|worker, cx| {
            worker.tick(cx);
            worker.end_of_turn(cx);
            worker.flushed(cx);
            worker.end_of_turn(cx);
        });
    }

    fn hang_up(&mut self, id: ConnId) {
        self.step(|worker, cx| worker.hang_up(id, HangUp::Eof, cx));
        self.worker.pop_closed();
    }

    /// The retained requests since the last time.
    fn retained_requests(&mut self) -> Vec<u32> {
        let said = std::mem::take(&mut self.mesh.said);
        let requests =
            said.iter()
                .filter_map(|(kind, bytes)| match ToStore::decode(*kind, bytes) {
                    Ok(ToStore::RetainedRequest { request, .. }) => Some(request),
                    _ => None,
                });
        requests.collect()
    }
}

#[test]
fn what_a_closed_connection_waited_for_is_forgotten() {
    let mut world = World::new();
    for stored in [false, true] {
        let id = world.connect(0, stored);
        world.subscribe(id, 3);
        assert_ne!(world.worker.requests_waiting(), 0);
        world.hang_up(id);
        assert_eq!(world.worker.requests_waiting(), 0, "stored: {stored}");
        assert_eq!(world.worker.store_subscribing, 0);
    }
}

#[test]
fn one_client_asks_for_few_retained_filters_at_a_time_and_gets_them_all() {
    let mut world = World::new();
    let id = world.connect(0, false);
    world.subscribe(id, 500);
    let mut open = world.retained_requests();
    let mut answered = 0;
    while let Some(request) = open.pop() {
        assert!(open.len() < RETAINED_REQUESTS_MAX);
        world.store_says(&ToWorker::RetainedSlice {
            claim: id.claim(),
            request,
            last: true,
            positions: vec![],
            messages: vec![],
        });
        answered += 1;
        open.extend(world.retained_requests());
    }
    assert_eq!(answered, 500);
    assert_eq!(world.worker.requests_waiting(), 0);
}

#[test]
fn a_client_whose_retained_messages_do_not_come_is_not_read_on_and_on_and_others_are() {
    let mut world = World::new();
    let other = world.connect(0, false);
    let id = world.connect(0, false);
    let mut subscribed = 0;
    while world.worker.wants_input(id) {
        world.subscribe(id, 1000);
        subscribed += 1000;
        assert!(subscribed <= RETAINED_WAITING_MAX + 1000);
    }
    assert!(world.worker.wants_input(other));
}

#[test]
fn a_connect_that_comes_byte_by_byte_has_no_more_time() {
    let mut world = World::new();
    let id = world.open();
    for byte in [0x10, 14, 0, 4, b'M', b'Q'] {
        world.input(id, &[byte]);
        world.now = world.now.after_secs(12);
        world.turn();
        if let Some(silent) = world.worker.pop_silent() {
            world.step(|worker, cx| worker.silent(silent, cx));
        }
    }
    assert_eq!(world.worker.connections(), 0);
}

#[test]
fn timers_of_closed_connections_do_not_pile_up() {
    let mut world = World::new();
    for _ in 0..100 {
        let id = world.connect(u16::MAX, false);
        world.hang_up(id);
    }
    world.now = world.now.after_secs(SILENCE_CHECK_SECS + 1);
    world.turn();
    assert_eq!(world.worker.timers.next(), None);
}

#[test]
fn a_keep_alive_of_hours_ends_when_it_is_over_and_not_before() {
    let mut world = World::new();
    world.connect(10_000, false);
    let start = world.now;
    while world.worker.connections() > 0 {
        world.now = world.worker.timers.next().unwrap();
        world.turn();
        if let Some(silent) = world.worker.pop_silent() {
            world.step(|worker, cx| worker.silent(silent, cx));
        }
    }
    let seconds = world.now.since(start).as_secs();
    assert!((15_000..=15_001).contains(&seconds), "{seconds} s");
}

#[test]
fn what_waits_for_the_ring_counts_as_what_waits_for_the_client() {
    let mut world = World::new();
    let id = world.connect(0, false);
    world.subscribe(id, 1);
    // A PUBACK that waits for its record, as when another member holds up the ring.
    world.mesh.covered = Some(world.mesh.serial);
    world.input(id, &[0x32, 5, 0, 1, b'x', 0, 1]);
    world.input(id, &[0xc0, 0]);
    world.step(|worker, cx| {
        worker.last = Serial(cx.mesh.serial + 1);
        worker.say_after_last(id, &Packet::Pingresp, cx);
    });
    let payload = vec![0; 1 << 20];
    for _ in 0..10 {
        let message = Message {
            qos: Qos::AtMostOnce,
            retain: false,
            publisher: ClientNumber(0),
            packet_id: None,
            releases: None,
            expires_at: None,
            topic: "f0",
            properties: &[],
            payload: &payload,
        };
        world.step(|worker, cx| worker.fan_out_local(&message, None, cx));
    }
    let conn = &world.worker.conns[id];
    assert!(conn.held > 0 && conn.is_full());
    assert!(conn.unsent() < conn.output_bytes_max + payload.len() + 100);
    world.mesh.covered = None;
    world.mesh.serial += 1;
    assert!(world.worker.fan_out.keeps_payload());
    world.turn();
    assert!(!world.worker.fan_out.keeps_payload());
    let conn = &world.worker.conns[id];
    assert_eq!((conn.held, conn.held_bytes), (0, 0));
    assert!(conn.output.len() >= conn.output_bytes_max);
}

#[test]
fn packets_and_bytes_are_counted_both_ways() {
    let mut world = World::new();
    let id = world.connect(60, false);
    world.subscribe(id, 2);
    world.input(id, &[0x30, 6, 0, 2, b'f', b'0', b'x', b'y']);
    world.input(id, &[0xc0, 0]);
    let counted = world.worker.figures();
    let of = |counts: [u64; 16]| counts[1..15].to_vec();
    assert_eq!(
        of(counted.received),
        [1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0]
    );
    assert_eq!(of(counted.sent), [0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0]);
    assert_eq!(counted.bytes_received, 16 + (5 + 2 * 5) + 8 + 2);
    assert_eq!(
        (counted.publish_bytes_received, counted.publish_bytes_sent),
        (2, 2)
    );
    assert_eq!((counted.sockets, counted.sockets_accepted), (1, 1));
    assert_eq!(counted.subscriptions, 2);
    let waiting = world.worker.output(id).unwrap().len();
    world.worker.output(id).unwrap().consume(waiting - 1);
    world.worker.note_written(id, waiting);
    let counted = world.worker.figures();
    assert_eq!(counted.bytes_sent, waiting as u64 - 1);
    assert_eq!(
        (counted.packets_waiting, counted.packet_bytes_waiting),
        (1, 1)
    );
    world.hang_up(id);
    let counted = world.worker.figures();
    assert_eq!(
        (counted.packets_waiting, counted.packet_bytes_waiting),
        (0, 0)
    );
    assert_eq!((counted.sockets, counted.subscriptions), (0, 0));
}

#[test]
fn a_connect_in_drops_ends_with_the_first_drop_after_its_time() {
    let mut world = World::new();
    let id = world.open();
    world.input(id, &[0x10, 14]);
    world.now = world.now.after_secs(60);
    world.input(id, &[0]);
    assert_eq!(world.worker.connections(), 0);
}

#[test]
fn a_claim_that_is_not_granted_ends_with_the_time_to_connect() {
    let mut world = World::new();
    let id = world.open();
    let mut connect = vec![0x10, 14, 0, 4];
    connect.extend(b"MQTT");
    connect.extend([4, 2, 0, 0, 0, 2, b'i', b'd']);
    world.input(id, &connect);
    assert_eq!(world.worker.conns[id].stage, Stage::Claiming);
    world.now = world.now.after_secs(59);
    world.turn();
    assert_eq!(world.worker.connections(), 1);
    world.now = world.now.after_secs(2);
    world.turn();
    let (closed, rest) = world.worker.pop_closed().unwrap();
    let rest: Vec<u8> = rest.waiting().flatten().copied().collect();
    assert_eq!((closed, &*rest), (id, &[0x20, 2, 0, 3][..]));
    // The store hears that nobody waits any more.
    let (kind, bytes) = world.mesh.said.last().unwrap();
    let said = ToStore::decode(*kind, bytes).unwrap();
    assert!(matches!(said, ToStore::Release(release) if release.claim == id.claim()));
}

/// PUBACKs and PINGRESPs that a connection was sent, by their packet ids (0 for a ping), and taken out.
fn answers(world: &mut World, id: ConnId) -> Vec<u8> {
    world.turn();
    let output = world.worker.output(id).unwrap();
    let bytes: Vec<u8> = output.waiting().flatten().copied().collect();
    output.consume(usize::MAX);
    let mut rest = &*bytes;
    let mut answers = Vec::new();
    loop {
        rest = match rest {
            [0x40, 2, 0, packet_id, rest @ ..] => {
                answers.push(*packet_id);
                rest
            }
            [0xd0, 0, rest @ ..] => {
                answers.push(0);
                rest
            }
            [0x20, 2, 0, 0, rest @ ..] => rest,
            [] => return answers,
            other => panic!("{other:02x?}"),
        }
    }
}

fn publishes(ids: std::ops::RangeInclusive<u8>) -> Vec<u8> {
    ids.flat_map(|id| [0x32, 5, 0, 1, b'x', 0, id]).collect()
}

#[test]
fn who_sends_too_fast_waits_in_order_and_others_do_not() {
    let mut world = World::new();
    let mut config = Config::default_local();
    config.client_message_rate = 4;
    world.worker.set_config(Rc::new(config));
    let fast = world.connect(1, false);
    let other = world.connect(0, false);
    let mut bytes = publishes(1..=10);
    bytes.extend([0xc0, 0]);
    world.input(fast, &bytes);
    world.input(other, &publishes(1..=1));
    assert_eq!(answers(&mut world, fast), [1, 2, 3, 4]);
    assert_eq!(answers(&mut world, other), [1]);
    assert!(!world.worker.wants_input(fast) && world.worker.wants_input(other));
    for id in 5..=10 {
        let due = world.step(|worker, cx| worker.next_deadline(cx)).unwrap();
        assert_eq!(due.since(world.now).as_millis(), 250);
        world.now = due;
        // A keep-alive of one second is long over; but who is not read cannot be silent.
        let expected = if id == 10 { vec![10, 0] } else { vec![id] };
        assert_eq!(answers(&mut world, fast), expected);
    }
    assert!(world.worker.wants_input(fast) && world.worker.pop_silent().is_none());
}

#[test]
fn clients_of_a_listener_that_is_at_its_rate_take_turns() {
    let mut world = World::new();
    let mut config = Config::default_local();
    config.listeners[0].message_rate = 8;
    world.worker.set_config(Rc::new(config.clone()));
    world.worker.set_machine(Machine {
        workers: 2,
        memory_bytes: None,
    });
    let (one, two) = (world.connect(0, false), world.connect(0, false));
    world.input(one, &publishes(1..=10));
    world.input(two, &publishes(1..=2));
    // The burst was there for the first; then it is fair.
    assert_eq!(answers(&mut world, one), [1, 2, 3, 4]);
    assert_eq!(answers(&mut world, two), [0; 0]);
    world.now = world.now.after_secs(1);
    assert_eq!(answers(&mut world, one), [5, 6]);
    assert_eq!(answers(&mut world, two), [1, 2]);
    world.now = world.now.after_millis(250);
    assert_eq!(answers(&mut world, one), [7]);
    // Without a limit nobody waits any more; and who is gone is forgotten.
    config.listeners[0].message_rate = 0;
    config.client_message_rate = 1;
    world.worker.set_config(Rc::new(config.clone()));
    assert_eq!(answers(&mut world, one), [8]);
    assert!(world.worker.pauses_end(world.now).is_some());
    config.client_message_rate = 0;
    world.worker.set_config(Rc::new(config));
    assert_eq!(answers(&mut world, one), [9, 10]);
    assert_eq!(world.worker.pauses_end(world.now), None);
}

#[test]
fn who_goes_while_it_waits_leaves_nothing_behind() {
    let mut world = World::new();
    let mut config = Config::default_local();
    config.client_byte_rate = 10;
    config.listeners[0].byte_rate = 10;
    world.worker.set_config(Rc::new(config));
    for _ in 0..3 {
        let id = world.connect(0, false);
        world.input(id, &publishes(1..=10));
        world.turn();
        assert!(world.worker.pauses_end(world.now).is_some());
        world.hang_up(id);
    }
    assert_eq!(world.worker.pauses_end(world.now), None);
}

#[test]
fn what_waits_for_credit_still_counts_when_the_session_is_taken_over() {
    let mut world = World::new();
    let mut config = Config::default_local();
    config.client_message_rate = 1;
    world.worker.set_config(Rc::new(config));
    let id = world.connect(0, false);
    world.input(id, &publishes(1..=5));
    world.worker.evict(id, 0x8e);
    let silent = world.worker.pop_silent().unwrap();
    world.step(|worker, cx| worker.silent(silent, cx));
    let (_, rest) = world.worker.pop_closed().unwrap();
    let bytes: Vec<u8> = rest.waiting().flatten().copied().collect();
    assert!(bytes.ends_with(&[0x40, 2, 0, 5]), "{bytes:02x?}");
}

#[test]
fn when_too_much_waits_for_all_those_who_read_least_go_first() {
    let mut world = World::new();
    let mut config = Config::default_local();
    config.global_max_output_bytes = Some(800);
    world.worker.set_config(Rc::new(config));
    world.worker.set_machine(Machine {
        workers: 2,
        memory_bytes: None,
    });
    let ids: Vec<_> = (0..4).map(|_| world.connect(0, false)).collect();
    let wait = |world: &mut World, id: ConnId, bytes: usize| {
        let output = world.worker.output(id).unwrap();
        output.consume(usize::MAX);
        output.push(&vec![0; bytes]);
        world.worker.note_written(id, bytes);
    };
    for (id, bytes) in ids.iter().zip([110, 100, 90, 100]) {
        wait(&mut world, *id, bytes);
    }
    world.turn();
    assert_eq!(world.worker.connections(), 4, "400 bytes are this worker's");
    wait(&mut world, ids[3], 101);
    world.turn();
    // One is enough to free an eighth.
    assert!(world.worker.conns.get(ids[0]).is_none());
    assert_eq!(world.worker.connections(), 3);
    world.turn();
    assert_eq!(world.worker.connections(), 3);
}

/// CONNECT of 5.0 with these properties, not answered yet.
fn connect_of_5(world: &mut World, properties: &[u8]) -> ConnId {
    let id = world.open();
    let length = u8::try_from(properties.len()).unwrap();
    let mut connect = vec![0x10, 15 + length, 0, 4];
    connect.extend(b"MQTT");
    connect.extend([5, 2, 0, 0, length]);
    connect.extend(properties);
    connect.extend([0, 2, b'i', b'd']);
    world.input(id, &connect);
    id
}

fn grant(world: &mut World, id: ConnId) {
    world.store_says(&ToWorker::Grant {
        claim: id.claim(),
        client: ClientNumber(1),
        session_present: false,
        stored: false,
        received: vec![],
    });
}

fn last_words(world: &mut World) -> Vec<u8> {
    let (_, rest) = world.worker.pop_closed().unwrap();
    rest.waiting().flatten().copied().collect()
}

#[test]
fn the_reason_is_told_although_an_acknowledgement_is_held() {
    let mut world = World::new();
    let id = connect_of_5(&mut world, &[]);
    grant(&mut world, id);
    world.worker.output(id).unwrap().consume(usize::MAX);
    world.mesh.covered = Some(0);
    // One message that is held, and a packet that only a server sends.
    world.step(|worker, cx| worker.say_after_last(id, &Packet::Pingresp, cx));
    assert_eq!(world.worker.conns[id].held, 1);
    world.input(id, &[0xd0, 0]);
    let words = last_words(&mut world);
    assert_eq!((words[0], words[2]), (0xe0, 0x82), "{words:02x?}");
}

#[test]
fn nothing_is_said_before_connack() {
    let mut world = World::new();
    let id = connect_of_5(&mut world, &[]);
    world.mesh.covered = Some(0);
    grant(&mut world, id);
    assert_eq!(world.worker.conns[id].held, 1, "CONNACK");
    world.input(id, &[0xd0, 0]);
    assert_eq!(last_words(&mut world), []);
}

#[test]
fn an_alias_that_nobody_uses_costs_no_memory() {
    let mut world = World::new();
    let id = connect_of_5(&mut world, &[0x22, 0xff, 0xff]);
    grant(&mut world, id);
    let aliases = format!("{:?}", world.worker.conns[id].client.aliases);
    assert_eq!(aliases, "Aliases { most: 10, given: None }");
}

#[test]
fn what_the_broker_itself_says_has_no_limits_and_is_neither_counted_nor_logged() {
    let mut world = World::new();
    let mut config = Config::default_local();
    (config.max_packet_size, config.message_size_limit) = (20, 1);
    config.retain_available = false;
    world.worker.set_config(Rc::new(config));
    world.mesh.said.clear();
    let id = world.step(|worker, cx| worker.accept_internal(cx));
    let mut connect = vec![0x10, 19, 0, 4];
    connect.extend(b"MQTT");
    connect.extend([4, 2, 0, 0, 0, 7]);
    connect.extend(b"control");
    world.input(id, &connect);
    let mut publish = vec![0x35, 25, 0, 15];
    publish.extend(b"$SYS/broker/any");
    publish.extend([0, 1]);
    publish.extend(b"value!");
    world.input(id, &publish);
    world.input(id, &publish);
    world.input(id, &[0x62, 2, 0, 1]);
    world.turn();
    let (kind, bytes) = world.mesh.said.pop().unwrap();
    assert_eq!(
        (kind, world.mesh.said.len()),
        (kind::PUBLISH, 0),
        "said once, and no claim"
    );
    let message = Message::decode(&bytes).unwrap();
    assert_eq!(
        (message.topic, message.payload),
        ("$SYS/broker/any", &b"value!"[..])
    );
    let mut answers = Vec::new();
    for bytes in world.worker.output(id).unwrap().waiting() {
        answers.extend_from_slice(bytes);
    }
    let pubrec = [0x50, 2, 0, 1];
    let expected = [&[0x20, 2, 0, 0][..], &pubrec, &pubrec, &[0x70, 2, 0, 1]];
    assert_eq!(answers, expected.concat());
    world.hang_up(id);
    assert!(world.mesh.said.is_empty(), "nothing to release");
    assert_eq!(world.worker.figures(), Figures::default());
    assert_eq!(world.log.pending(), "");
}

#[test]
fn an_internal_client_can_do_nothing_else() {
    for packet in [&[0x82, 6, 0, 1, 0, 1, b'a', 0][..], &[0x40, 2, 0, 1]] {
        let mut world = World::new();
        let id = world.step(|worker, cx| worker.accept_internal(cx));
        let mut connect = vec![0x10, 12, 0, 4];
        connect.extend(b"MQTT");
        connect.extend([4, 2, 0, 0, 0, 0]);
        world.input(id, &connect);
        assert!(world.worker.pop_closed().is_none());
        world.input(id, packet);
        assert!(world.worker.pop_closed().is_some());
    }
}
