use super::*;
use crate::base::ids::ShareToken;
use crate::ipc::mesh::{AnnouncedFilter, Class};

const RETAIN_AS_PUBLISHED: u8 = 0b1000;

/// A transient session of `id` with this filter and options, everything answered.
fn member(world: &mut World, n: usize, asked: Claim<'_>, filter: (u8, &str)) -> Conn {
    let (conn, _) = world.connect(n, asked);
    world.subscribe(conn, 0, &[filter]);
    world.settle();
    world.mesh.said.clear();
    conn
}

fn at_most(receive_maximum: u16, asked: Claim<'_>) -> Claim<'_> {
    Claim {
        receive_maximum,
        ..asked
    }
}

/// (claim, packet id or 0, token or 0, topic) of each delivery since the last time.
fn given(world: &mut World) -> Vec<(u64, u16, u64, &'static str)> {
    world.settle();
    let delivered = world.delivered().into_iter();
    delivered
        .map(|d| {
            let packet_id = d.packet_id.map_or(0, PacketId::get);
            let token = d.token.map_or(0, |token| token.0);
            (d.claim.0, packet_id, token, d.message.topic)
        })
        .collect()
}

fn publish_all(world: &mut World, from: Conn, topics: &[&str], qos: Qos) {
    for topic in topics {
        world.publish(from, &message(topic, qos));
    }
}

fn settled(world: &mut World, conn: Conn, tokens: &[u64]) {
    let claim = conn.claim;
    let tokens = tokens.iter().map(|token| ShareToken(*token)).collect();
    world.tell(conn, &ToStore::Settled { claim, tokens });
}

fn unsent(world: &mut World, conn: Conn, seen: u64, tokens: &[u64]) {
    let unsent = ToStore::Unsent {
        claim: conn.claim,
        seen: ShareToken(seen),
        tokens: tokens.iter().map(|token| ShareToken(*token)).collect(),
    };
    world.tell(conn, &unsent);
}

#[test]
fn members_of_both_kinds_take_turns_across_workers() {
    let mut world = World::new();
    let a = member(&mut world, 0, transient("a"), (2, "$share/g/t/+"));
    let (b, _) = world.session(1, "b", &[(1, "$share/g/t/+")]);
    publish_all(&mut world, a, &["t/1", "t/2", "t/3", "u"], Qos::ExactlyOnce);
    let (a, b) = (a.claim.0, b.claim.0);
    assert_eq!(
        given(&mut world),
        [(a, 0, 1, "t/1"), (b, 1, 0, "t/2"), (a, 0, 2, "t/3")]
    );
}

#[test]
fn the_filter_is_announced_for_both_classes_beside_what_sessions_want() {
    let mut world = World::new();
    let (a, _) = world.session(0, "a", &[(1, "x"), (1, "y/#")]);
    let (b, _) = world.connect(1, transient("b"));
    world.mesh.said.clear();
    let filters = [(1, "$share/g/x"), (1, "$share/g/y/#"), (1, "$share/h/x")];
    world.subscribe(b, 0, &filters);
    let exact = AnnouncedFilter::Exact(world.store.hash.of("x"));
    let wild = AnnouncedFilter::Wildcard("y/#");
    let everybody = world.mesh.live;
    let announced = |class, filter| (everybody, Announcement { class, filter });
    let both = Class::BOTH;
    assert_eq!(
        world.announced(),
        [announced(both, exact), announced(both, wild)]
    );
    let unsubscribe = |conn: Conn, filters: &[&'static str]| ToStore::Unsubscribe {
        claim: conn.claim,
        request: 4,
        filters: filters.to_vec(),
    };
    world.tell(a, &unsubscribe(a, &["y/#"]));
    world.tell(b, &unsubscribe(b, &["$share/g/x", "$share/g/z"]));
    assert_eq!(world.announced(), [], "another group wants both still");
    world.tell(b, &unsubscribe(b, &["$share/h/x"]));
    assert_eq!(world.announced(), [announced(Class::QOS12, exact)]);
    // A member that joins hears what each filter is wanted for.
    world.join(2, 9);
    let to_joiner = |class, filter| (worker(2).mask(), Announcement { class, filter });
    assert_eq!(
        world.announced(),
        [to_joiner(Class::QOS12, exact), to_joiner(both, wild)]
    );
    world.disconnect(b);
    let everybody = world.mesh.live;
    let class = Class(0);
    let gone = Announcement {
        class,
        filter: wild,
    };
    assert_eq!(world.announced(), [(everybody, gone)]);
}

#[test]
fn the_answer_to_a_transient_session_waits_for_its_announcement() {
    let mut world = World::new();
    let (conn, _) = world.connect(0, transient("a"));
    world.said();
    world.mesh.passed = Some(0);
    let filters = [(1, "$share/g/x"), (1, "$share/g"), (1, "plain")];
    world.subscribe(conn, 0, &filters);
    world.settle();
    assert_eq!(world.said_to(conn), []);
    world.mesh.passed = None;
    world.settle();
    let answer = ToWorker::Subscribed {
        claim: conn.claim,
        request: 1,
        existed: vec![false; 3],
    };
    assert_eq!(world.said_to(conn), [answer]);
    world.subscribe(conn, 0, &[(0, "$share/g/x")]);
    world.settle();
    let again = ToWorker::Subscribed {
        claim: conn.claim,
        request: 1,
        existed: vec![true],
    };
    assert_eq!(world.said_to(conn), [again]);
}

#[test]
fn qos_0_reaches_groups_and_no_session_a_second_time() {
    let mut world = World::new();
    let (a, _) = world.session(0, "a", &[(1, "t"), (1, "$share/g/t")]);
    world.publish(a, &message("t", Qos::AtMostOnce));
    assert_eq!(given(&mut world), [(a.claim.0, 0, 0, "t")]);
    // At QoS 1 each is a subscription of its own.
    world.publish(a, &message("t", Qos::AtLeastOnce));
    let one = (a.claim.0, 1, 0, "t");
    let other = (a.claim.0, 2, 0, "t");
    assert_eq!(given(&mut world), [one, other]);
}

#[test]
fn no_more_are_under_way_to_a_member_than_it_takes() {
    let mut world = World::with(StoreSettings {
        max_inflight_messages: 2,
        ..SETTINGS
    });
    let a = member(&mut world, 0, transient("a"), (1, "$share/g/+"));
    let b = member(
        &mut world,
        1,
        at_most(1, persistent("b")),
        (1, "$share/g/+"),
    );
    publish_all(
        &mut world,
        a,
        &["1", "2", "3", "4", "5", "6"],
        Qos::AtLeastOnce,
    );
    let (of_a, of_b) = (a.claim.0, b.claim.0);
    let first = [(of_a, 0, 1, "1"), (of_b, 1, 0, "2"), (of_a, 0, 2, "3")];
    assert_eq!(given(&mut world), first);
    settled(&mut world, a, &[1, 99]);
    assert_eq!(given(&mut world), [(of_a, 0, 3, "4")]);
    world.ack(b, 1, AckKind::Puback);
    assert_eq!(given(&mut world), [(of_b, 2, 0, "5")]);
    // QoS 0 needs no room.
    world.publish(a, &message("7", Qos::AtMostOnce));
    assert_eq!(given(&mut world), [(of_a, 0, 0, "7")]);
    settled(&mut world, a, &[2, 3]);
    assert_eq!(given(&mut world), [(of_a, 0, 4, "6")]);
}

#[test]
fn rule_23_what_a_leaver_has_not_acknowledged_goes_to_another_in_order() {
    let mut world = World::new();
    let a = member(&mut world, 0, transient("a"), (1, "$share/g/+"));
    let b = member(&mut world, 1, at_most(2, transient("b")), (1, "$share/g/+"));
    let all = ["1", "2", "3", "4", "5", "6"];
    publish_all(&mut world, b, &all, Qos::ExactlyOnce);
    given(&mut world);
    // 1, 3, 5, 6 are with a, 2 and 4 with b.
    settled(&mut world, a, &[3]);
    unsent(&mut world, a, 6, &[]);
    world.disconnect(a);
    settled(&mut world, b, &[2, 4]);
    let of_b = b.claim.0;
    assert_eq!(given(&mut world), [(of_b, 0, 7, "1"), (of_b, 0, 8, "5")]);
    settled(&mut world, b, &[7, 8]);
    assert_eq!(given(&mut world), [(of_b, 0, 9, "6")]);
}

#[test]
fn at_qos_2_only_what_never_was_on_the_wire_goes_to_another() {
    let mut world = World::new();
    let a = member(&mut world, 0, transient("a"), (2, "$share/g/+"));
    publish_all(&mut world, a, &["1", "2", "3", "4"], Qos::ExactlyOnce);
    given(&mut world);
    let b = member(&mut world, 1, transient("b"), (2, "$share/g/+"));
    // The worker has not read of 4 yet, and 2 waits there.
    unsent(&mut world, a, 3, &[2]);
    world.disconnect(a);
    let of_b = b.claim.0;
    assert_eq!(given(&mut world), [(of_b, 0, 5, "2"), (of_b, 0, 6, "4")]);
}

#[test]
fn who_says_what_it_did_not_send_is_given_nothing_more() {
    let mut world = World::new();
    let a = member(&mut world, 0, transient("a"), (2, "$share/g/+"));
    let b = member(&mut world, 1, transient("b"), (2, "$share/g/+"));
    unsent(&mut world, a, 0, &[]);
    publish_all(&mut world, b, &["1", "2"], Qos::ExactlyOnce);
    let of_b = b.claim.0;
    assert_eq!(given(&mut world), [(of_b, 0, 1, "1"), (of_b, 0, 2, "2")]);
}

#[test]
fn rule_23_a_dead_workers_members_give_back_what_they_did_not_acknowledge() {
    let mut world = World::new();
    let a = member(&mut world, 0, transient("a"), (2, "$share/g/+"));
    let c = member(&mut world, 0, persistent("c"), (1, "$share/g/+"));
    let b = member(&mut world, 1, transient("b"), (2, "$share/g/+"));
    publish_all(&mut world, b, &["1", "2", "3", "4", "5"], Qos::AtLeastOnce);
    world.publish(b, &message("qos2", Qos::ExactlyOnce));
    given(&mut world);
    // 1 and 4 are with a, 2 and 5 with c, 3 and the QoS 2 one with b.
    world.die(0, 1);
    publish_all(&mut world, b, &["6"], Qos::AtLeastOnce);
    let of_b = b.claim.0;
    assert_eq!(
        given(&mut world),
        [(of_b, 0, 5, "6")],
        "the dead get nothing"
    );
    // What it said before it died counts.
    settled(&mut world, a, &[1]);
    world.ack(c, 1, AckKind::Puback);
    assert_eq!(given(&mut world), []);
    world.remove(0, 1);
    assert_eq!(
        given(&mut world),
        [(of_b, 0, 6, "4"), (of_b, 0, 7, "5")],
        "no more than one each"
    );
}

#[test]
fn a_dead_workers_qos_2_is_sent_to_nobody_else() {
    let mut world = World::new();
    let a = member(&mut world, 0, transient("a"), (2, "$share/g/+"));
    publish_all(&mut world, a, &["1"], Qos::ExactlyOnce);
    given(&mut world);
    let _b = member(&mut world, 1, transient("b"), (2, "$share/g/+"));
    world.die(0, 1);
    world.remove(0, 1);
    assert_eq!(given(&mut world), []);
}

#[test]
fn a_persistent_session_completes_its_qos_2_and_gives_back_its_qos_1() {
    let mut world = World::new();
    let a = member(&mut world, 0, persistent("a"), (2, "$share/g/+"));
    world.publish(a, &message("two", Qos::ExactlyOnce));
    world.publish(a, &message("one", Qos::AtLeastOnce));
    world.publish(a, &message("released", Qos::ExactlyOnce));
    world.ack(a, 3, AckKind::Pubrec);
    given(&mut world);
    let b = member(&mut world, 1, transient("b"), (2, "$share/g/+"));
    world.disconnect(a);
    assert_eq!(given(&mut world), [(b.claim.0, 0, 1, "one")]);
    world.said();
    let a = world.claim(0, persistent("a"));
    world.settle();
    let mut said = world.said_to(a).into_iter();
    let filters = said.next();
    assert!(matches!(
        filters,
        Some(ToWorker::SessionFilters { ref filters, .. }) if filters[..] == [(0, 0, "$share/g/+")]
    ));
    assert!(matches!(said.next(), Some(ToWorker::Grant { .. })));
    let packet_id = PacketId::new(3).unwrap();
    let claim = a.claim;
    assert_eq!(said.next(), Some(ToWorker::Pubrel { claim, packet_id }));
    let Some(ToWorker::Deliver(again)) = said.next() else {
        panic!("it is not completed");
    };
    let seen = (again.packet_id, again.dup, again.message.topic);
    assert_eq!(seen, (PacketId::new(1), true, "two"));
    assert_eq!(said.next(), None);
}

/// What a server has begun to send, it sends to the end [MQTT-3.10.4-3].
#[test]
fn without_a_group_to_go_back_to_it_stays_with_its_session() {
    let mut world = World::new();
    let a = member(&mut world, 0, persistent("a"), (1, "$share/g/+"));
    publish_all(&mut world, a, &["1"], Qos::AtLeastOnce);
    given(&mut world);
    let unsubscribe = ToStore::Unsubscribe {
        claim: a.claim,
        request: 4,
        filters: vec!["$share/g/+"],
    };
    world.tell(a, &unsubscribe);
    world.disconnect(a);
    world.settle();
    world.mesh.said.clear();
    let a = world.claim(0, persistent("a"));
    let delivered = world.delivered();
    let again: Vec<_> = delivered
        .iter()
        .map(|d| (d.claim, d.packet_id, d.dup, d.message.topic))
        .collect();
    assert_eq!(again, [(a.claim, PacketId::new(1), true, "1")]);
}

#[test]
fn qos_2_of_a_session_that_ends_is_sent_to_nobody_else() {
    let mut world = World::new();
    let a = member(&mut world, 0, persistent("a"), (2, "$share/g/+"));
    publish_all(&mut world, a, &["two"], Qos::ExactlyOnce);
    given(&mut world);
    let _b = member(&mut world, 1, transient("b"), (2, "$share/g/+"));
    world.disconnect(a);
    world.claim(0, transient("a"));
    assert_eq!(given(&mut world), []);
}

#[test]
fn a_refusal_is_an_answer() {
    let mut world = World::new();
    let a = member(&mut world, 0, persistent("a"), (2, "$share/g/+"));
    world.publish(a, &message("one", Qos::AtLeastOnce));
    world.publish(a, &message("two", Qos::ExactlyOnce));
    given(&mut world);
    let _b = member(&mut world, 1, transient("b"), (2, "$share/g/+"));
    for (packet_id, what) in [(1, AckKind::Puback), (2, AckKind::Pubrec)] {
        let refusal = ToStore::Ack {
            claim: a.claim,
            packet_id: PacketId::new(packet_id).unwrap(),
            what,
            code: 0x80,
        };
        world.tell(a, &refusal);
    }
    world.disconnect(a);
    assert_eq!(given(&mut world), []);
}

#[test]
fn messages_wait_for_members_that_are_away_and_for_nobody_when_the_last_has_left() {
    let mut world = World::new();
    let a = member(&mut world, 0, persistent("a"), (1, "$share/g/+"));
    let b = member(&mut world, 1, persistent("b"), (1, "$share/g/+"));
    world.disconnect(a);
    world.disconnect(b);
    publish_all(&mut world, a, &["0"], Qos::AtMostOnce);
    publish_all(&mut world, a, &["1", "2"], Qos::AtLeastOnce);
    assert_eq!(given(&mut world), [], "nobody is there");
    // One of them ends: the other one gets everything.
    world.claim(0, transient("a"));
    let b = world.claim(1, persistent("b"));
    let of_b = b.claim.0;
    assert_eq!(given(&mut world), [(of_b, 1, 0, "1"), (of_b, 2, 0, "2")]);
    world.disconnect(b);
    world.claim(1, transient("b"));
    let _c = member(&mut world, 0, transient("c"), (1, "$share/g/+"));
    assert_eq!(given(&mut world), []);
}

#[test]
fn with_queue_qos0_messages_qos_0_waits_too() {
    let mut world = World::with(StoreSettings {
        queue_qos0_messages: true,
        ..SETTINGS
    });
    let a = member(&mut world, 0, persistent("a"), (1, "$share/g/+"));
    world.disconnect(a);
    publish_all(&mut world, a, &["0"], Qos::AtMostOnce);
    let a = world.claim(0, persistent("a"));
    assert_eq!(given(&mut world), [(a.claim.0, 0, 0, "0")]);
}

#[test]
fn a_taken_over_session_and_others_share_what_the_old_connection_left() {
    let mut world = World::new();
    let old = member(&mut world, 0, persistent("a"), (1, "$share/g/+"));
    publish_all(&mut world, old, &["1", "2"], Qos::AtLeastOnce);
    given(&mut world);
    let new = world.claim(1, persistent("a"));
    let b = member(&mut world, 0, at_most(1, transient("b")), (1, "$share/g/+"));
    world.disconnect(old);
    world.settle();
    let (b, new) = (b.claim.0, new.claim.0);
    assert_eq!(given(&mut world), [(b, 0, 1, "1"), (new, 3, 0, "2")]);
}

#[test]
fn what_goes_out_is_as_its_member_asked() {
    let mut world = World::new();
    let (a, _) = world.connect(0, transient("a"));
    world.subscribe(a, 7, &[(1 | RETAIN_AS_PUBLISHED, "$share/g/t")]);
    world.settle();
    world.mesh.said.clear();
    let retained = Message {
        retain: true,
        ..message("t", Qos::ExactlyOnce)
    };
    world.publish(a, &retained);
    let first = world.delivered().remove(0);
    let wire = (first.message.qos, first.message.retain);
    assert_eq!(wire, (Qos::AtLeastOnce, true));
    assert_eq!(first.subscription_ids, [7]);
    // Subscribing again brings other terms, and nothing that is retained.
    world.subscribe(a, 0, &[(0, "$share/g/t")]);
    world.settle();
    assert_eq!(world.delivered(), []);
    world.publish(a, &retained);
    let second = world.delivered().remove(0);
    let wire = (second.message.qos, second.message.retain);
    assert_eq!(wire, (Qos::AtMostOnce, false));
    assert_eq!((second.token, second.subscription_ids), (None, vec![]));
}

#[test]
fn a_full_line_drops_what_comes_and_says_so_once() {
    let mut world = World::with(StoreSettings {
        max_queued_messages: 2,
        ..SETTINGS
    });
    let a = member(&mut world, 0, persistent("a"), (1, "$share/g/+"));
    world.disconnect(a);
    publish_all(&mut world, a, &["1", "2", "3", "4"], Qos::AtLeastOnce);
    let text = world.log.pending();
    let line = "dropped for shared subscription $share/g/+.";
    assert_eq!(text.matches(line).count(), 1, "{text}");
    assert_eq!(world.store.figures().publish_dropped, 2);
    let a = world.claim(0, persistent("a"));
    let of_a = a.claim.0;
    assert_eq!(given(&mut world), [(of_a, 1, 0, "1"), (of_a, 2, 0, "2")]);
}

#[test]
fn while_the_outbox_is_full_messages_wait_in_the_group() {
    let mut world = World::new();
    let a = member(&mut world, 0, transient("a"), (1, "$share/g/+"));
    world.mesh.overflow_bytes = usize::MAX;
    publish_all(&mut world, a, &["0"], Qos::AtMostOnce);
    publish_all(&mut world, a, &["1"], Qos::AtLeastOnce);
    world.turn();
    assert_eq!(world.delivered(), []);
    assert!(world.store.next_deadline().is_some());
    world.mesh.overflow_bytes = 0;
    world.later(1);
    let of_a = a.claim.0;
    assert_eq!(given(&mut world), [(of_a, 0, 0, "0"), (of_a, 0, 1, "1")]);
}

#[test]
fn members_without_room_are_asked_a_bounded_number_in_a_turn() {
    let mut world = World::with(StoreSettings {
        max_inflight_messages: 1,
        ..SETTINGS
    });
    let count = 2 * crate::base::limits::SHARED_STEPS_PER_TURN as u64;
    let mut all = Vec::new();
    for n in 0..count {
        let (conn, _) = world.connect(0, transient(&n.to_string()));
        world.subscribe(conn, 0, &[(1, "$share/own/x"), (1, "$share/g/t")]);
        all.push(conn);
    }
    world.settle();
    // Each holds one message of a group.
    for _ in 0..count {
        world.publish(all[0], &message("x", Qos::AtLeastOnce));
    }
    world.settle();
    assert_eq!(world.delivered().len() as u64, count);
    let last = member(&mut world, 1, transient("last"), (1, "$share/g/t"));
    world.publish(last, &message("t", Qos::AtLeastOnce));
    world.turn();
    assert_eq!(world.delivered(), [], "not all in one turn");
    assert_eq!(world.store.next_deadline(), Some(Instant::default()));
    let delivered = given(&mut world);
    assert_eq!(delivered, [(last.claim.0, 0, count + 1, "t")]);
    // Whoever has room again is asked again.
    settled(&mut world, all[7], &[8]);
    world.publish(last, &message("t", Qos::AtLeastOnce));
    let again = given(&mut world);
    assert_eq!(again, [(all[7].claim.0, 0, count + 2, "t")]);
}

#[test]
fn a_worker_that_lies_about_tokens_harms_its_own_clients_at_most() {
    let mut world = World::new();
    let a = member(&mut world, 0, transient("a"), (1, "$share/g/+"));
    let b = member(&mut world, 1, transient("b"), (1, "$share/g/+"));
    publish_all(&mut world, a, &["1", "2"], Qos::AtLeastOnce);
    given(&mut world);
    settled(&mut world, a, &[2, 0, u64::MAX]);
    unsent(&mut world, a, u64::MAX, &[2, 1, 0]);
    let stranger = world.new_conn(0);
    settled(&mut world, stranger, &[1, 2]);
    unsent(&mut world, stranger, 0, &[1, 2]);
    assert_eq!(given(&mut world), [(b.claim.0, 0, 3, "1")]);
    world.disconnect(b);
    assert_eq!(given(&mut world), [], "nobody is left to be given anything");
    world.disconnect(a);
}

#[test]
fn what_is_counted_is_true() {
    let mut world = World::new();
    let a = member(&mut world, 0, transient("a"), (1, "$share/g/+"));
    let (b, _) = world.session(1, "b", &[(1, "$share/g/+"), (1, "$share/h/t"), (1, "t")]);
    let figures = world.store.figures();
    assert_eq!(
        (figures.subscriptions, figures.shared_subscriptions),
        (1, 3)
    );
    publish_all(&mut world, a, &["t"], Qos::AtLeastOnce);
    world.disconnect(a);
    world.release(b, WillFate::Done, Some(0));
    let figures = world.store.figures();
    assert_eq!(
        (figures.subscriptions, figures.shared_subscriptions),
        (0, 0)
    );
    assert_eq!(figures.stored_messages, 0);
}
