use super::*;

#[test]
fn what_waits_elsewhere_takes_room_here() {
    let mut world = World::with(StoreSettings {
        global_max_queued_bytes: 3,
        ..SETTINGS
    });
    let (absent, _) = world.session(0, "id", &[(1, "t"), (1, "$share/g/t")]);
    world.disconnect(absent);
    world.step(|store, cx| store.note_others(1, 0, cx));
    let conn = world.new_conn(1);
    world.publish(conn, &message("t", Qos::AtLeastOnce));
    assert_eq!(
        world.store.queued_bytes(),
        2,
        "for the session and the group"
    );
    world.publish(conn, &message("t", Qos::AtLeastOnce));
    assert_eq!(world.store.queued_bytes(), 2);
    assert_eq!(world.log.pending().matches("being dropped").count(), 2);
    world.step(|store, cx| store.note_others(0, 0, cx));
    world.publish(conn, &message("t", Qos::AtLeastOnce));
    assert_eq!(world.store.queued_bytes(), 3);
    let (_, _) = world.connect(0, transient("id"));
    assert_eq!(world.store.queued_bytes(), 0, "the session is over");
}

const NO_LOCAL: u8 = 0b100;
const RETAIN_AS_PUBLISHED: u8 = 0b1000;

#[test]
fn messages_wait_while_the_client_is_away_and_come_in_order() {
    let mut world = World::new();
    let (conn, _) = world.session(0, "id", &[(1, "t/+")]);
    world.disconnect(conn);
    for topic in ["t/1", "t/2", "t/3", "u/1"] {
        world.publish(conn, &message(topic, Qos::AtLeastOnce));
    }
    assert_eq!(world.said(), []);
    world.claim(1, persistent("id"));
    assert_eq!(
        world.topics(),
        [(1, false, "t/1"), (2, false, "t/2"), (3, false, "t/3")]
    );
}

#[test]
fn filters_then_grant_then_repetitions_then_what_is_new() {
    let mut world = World::with(StoreSettings {
        max_inflight_messages: 2,
        ..SETTINGS
    });
    let (conn, client) = world.session(0, "id", &[(2, "t")]);
    for _ in 0..3 {
        world.publish(conn, &message("t", Qos::ExactlyOnce));
    }
    world.ack(conn, 1, AckKind::Pubrec);
    world.disconnect(conn);
    world.said();
    let conn = world.claim(1, persistent("id"));
    let claim = conn.claim;
    let said = world.said_to(conn);
    let grant = ToWorker::Grant {
        claim,
        client,
        session_present: true,
        stored: true,
        received: vec![],
    };
    let filters = vec![(2, 0, "t")];
    assert_eq!(said[0], ToWorker::SessionFilters { claim, filters });
    assert_eq!(said[1], grant);
    let packet_id = PacketId::MIN;
    assert_eq!(said[2], ToWorker::Pubrel { claim, packet_id });
    assert!(matches!(&said[3], ToWorker::Deliver(d) if d.dup && d.packet_id == PacketId::new(2)));
    assert_eq!(said.len(), 4, "the window is full");
    world.ack(conn, 1, AckKind::Pubcomp);
    assert_eq!(world.topics(), [(3, false, "t")]);
}

#[test]
fn each_session_gets_one_copy_at_its_highest_qos_with_all_its_identifiers() {
    let mut world = World::new();
    let (conn, _) = world.session(0, "id", &[]);
    world.subscribe(conn, 7, &[(0, "a/+")]);
    world.subscribe(conn, 3, &[(1, "a/#")]);
    world.subscribe(conn, 0, &[(1, "#")]);
    world.settle();
    world.mesh.said.clear();
    world.publish(conn, &message("a/b", Qos::ExactlyOnce));
    let delivered = world.delivered();
    assert_eq!(delivered.len(), 1);
    assert_eq!(delivered[0].subscription_ids, [3, 7]);
    assert_eq!(delivered[0].message.qos, Qos::AtLeastOnce);
}

#[test]
fn rule_22_no_local_is_by_client_not_by_connection() {
    let mut world = World::new();
    let (conn, own) = world.session(0, "id", &[(1 | NO_LOCAL, "t")]);
    world.disconnect(conn);
    let mine = Message {
        publisher: own,
        ..message("t", Qos::AtLeastOnce)
    };
    world.publish(conn, &mine);
    world.publish(conn, &message("t", Qos::AtLeastOnce));
    world.claim(1, persistent("id"));
    assert_eq!(world.topics().len(), 1, "only the foreign one");
}

#[test]
fn the_retain_flag_goes_on_only_if_it_was_asked_for() {
    let mut world = World::new();
    let (conn, _) = world.session(0, "id", &[(1, "a"), (1 | RETAIN_AS_PUBLISHED, "b")]);
    for topic in ["a", "b"] {
        let retained = Message {
            retain: true,
            ..message(topic, Qos::AtLeastOnce)
        };
        world.publish(conn, &retained);
    }
    let flags: Vec<_> = world.delivered().iter().map(|d| d.message.retain).collect();
    assert_eq!(flags, [false, true]);
}

#[test]
fn a_qos_2_message_is_applied_once_until_it_is_released() {
    let mut world = World::new();
    let (conn, client) = world.session(0, "id", &[(1, "t")]);
    let sent = Message {
        publisher: client,
        packet_id: PacketId::new(9),
        ..message("t", Qos::ExactlyOnce)
    };
    world.publish(conn, &sent);
    world.publish(conn, &sent);
    assert_eq!(world.topics().len(), 1);
    world.disconnect(conn);
    let conn = world.claim(1, persistent("id"));
    let said = world.said_to(conn);
    assert!(matches!(&said[1], ToWorker::Grant { received, .. } if *received == [9]));
    world.publish(conn, &sent);
    world.ack(conn, 9, AckKind::Pubrel);
    assert_eq!(world.topics().len(), 0);
    world.publish(conn, &sent);
    assert_eq!(world.topics().len(), 1, "a new message with the same id");
}

#[test]
fn the_window_is_the_smaller_of_the_clients_and_the_operators() {
    for (operator, client, expected) in [(20, 2, 2), (2, 20, 2), (0, 3, 3)] {
        let mut world = World::with(StoreSettings {
            max_inflight_messages: operator,
            ..SETTINGS
        });
        let asked = Claim {
            receive_maximum: client,
            ..persistent("id")
        };
        let (conn, _) = world.connect(0, asked);
        world.subscribe(conn, 0, &[(1, "t")]);
        world.settle();
        for _ in 0..10 {
            world.publish(conn, &message("t", Qos::AtLeastOnce));
        }
        assert_eq!(world.topics().len(), expected);
        world.ack(conn, 1, AckKind::Puback);
        assert_eq!(world.topics().len(), 1);
    }
}

#[test]
fn a_full_queue_drops_the_newest_and_logs_it_once() {
    let mut world = World::with(StoreSettings {
        max_queued_messages: 2,
        ..SETTINGS
    });
    let (conn, _) = world.session(0, "id", &[(1, "#")]);
    world.disconnect(conn);
    for topic in ["1", "2", "3", "4"] {
        world.publish(conn, &message(topic, Qos::AtLeastOnce));
    }
    let line = "Outgoing messages are being dropped for client id.\n";
    assert_eq!(world.log.pending(), line);
    world.claim(0, persistent("id"));
    assert_eq!(world.topics(), [(1, false, "1"), (2, false, "2")]);
}

#[test]
fn expired_messages_are_not_delivered() {
    let mut world = World::new();
    let (conn, _) = world.session(0, "id", &[(1, "#")]);
    world.disconnect(conn);
    let short = Message {
        expires_at: Some(world.now.after_secs(1)),
        ..message("short", Qos::AtLeastOnce)
    };
    world.publish(conn, &short);
    world.publish(conn, &message("long", Qos::AtLeastOnce));
    world.later(1000);
    world.claim(0, persistent("id"));
    assert_eq!(world.topics(), [(1, false, "long")]);
}

#[test]
fn rule_18_qos_0_does_not_come_through_the_store() {
    let mut world = World::new();
    let (conn, _) = world.session(0, "id", &[(1, "t"), (0, "u")]);
    world.publish(conn, &message("t", Qos::AtMostOnce));
    assert_eq!(world.topics(), [], "it went from worker to worker");
    world.publish(conn, &message("u", Qos::AtLeastOnce));
    assert_eq!(
        world.topics(),
        [(0, false, "u")],
        "only its subscription is of QoS 0"
    );
    world.disconnect(conn);
    world.publish(conn, &message("u", Qos::AtLeastOnce));
    world.claim(0, persistent("id"));
    assert_eq!(world.topics(), [], "QoS 0 does not wait");
}

#[test]
fn rule_18_with_queue_qos0_messages_everything_comes_through_the_store() {
    let mut world = World::with(StoreSettings {
        queue_qos0_messages: true,
        ..SETTINGS
    });
    let (conn, _) = world.session(0, "id", &[(1, "t")]);
    world.publish(conn, &message("t", Qos::AtMostOnce));
    assert_eq!(world.topics(), [(0, false, "t")]);
    world.disconnect(conn);
    world.publish(conn, &message("t", Qos::AtMostOnce));
    let conn = world.claim(0, persistent("id"));
    let said = world.said_to(conn);
    assert!(matches!(
        said[..],
        [
            ToWorker::SessionFilters { .. },
            ToWorker::Grant { .. },
            ToWorker::Deliver(_)
        ]
    ));
}

#[test]
fn rule_18_with_upgrade_outgoing_qos_everything_comes_through_the_store_and_waits() {
    let mut world = World::with(StoreSettings {
        upgrade_outgoing_qos: true,
        ..SETTINGS
    });
    let (conn, _) = world.session(0, "id", &[(1, "t"), (0, "u")]);
    for qos in [Qos::AtMostOnce, Qos::ExactlyOnce] {
        world.publish(conn, &message("t", qos));
        world.publish(conn, &message("u", qos));
    }
    let topics = world.topics();
    assert_eq!(
        topics
            .iter()
            .map(|(_, _, topic)| *topic)
            .collect::<Vec<_>>(),
        ["t", "u", "t", "u"]
    );
    world.disconnect(conn);
    world.publish(conn, &message("t", Qos::AtMostOnce));
    world.publish(conn, &message("u", Qos::AtMostOnce));
    let conn = world.claim(0, persistent("id"));
    let waited: Vec<_> = world
        .said_to(conn)
        .into_iter()
        .filter_map(|said| match said {
            ToWorker::Deliver(deliver) => Some((deliver.message.topic, deliver.message.qos)),
            _ => None,
        })
        .collect();
    let again = ("t", Qos::AtLeastOnce);
    assert_eq!(
        waited,
        [again, again, again],
        "two unacknowledged, and what waited"
    );
}

#[test]
fn a_full_outbox_holds_deliveries_back_and_drops_none() {
    let mut world = World::with(StoreSettings {
        max_inflight_messages: 0,
        ..SETTINGS
    });
    let (conn, _) = world.session(0, "id", &[(1, "t")]);
    world.mesh.overflow_bytes = usize::MAX;
    for _ in 0..5000 {
        world.publish(conn, &message("t", Qos::AtLeastOnce));
    }
    world.turn();
    assert_eq!(world.said(), []);
    assert!(world.store.next_deadline().is_some(), "it looks again");
    world.mesh.overflow_bytes = 0;
    world.later(1);
    assert_eq!(world.topics().len(), 5000);
}

#[test]
fn acknowledgements_of_another_connection_do_not_count() {
    let mut world = World::with(StoreSettings {
        max_inflight_messages: 1,
        ..SETTINGS
    });
    let (old, _) = world.session(0, "id", &[(1, "t")]);
    world.publish(old, &message("t", Qos::AtLeastOnce));
    world.publish(old, &message("t", Qos::AtLeastOnce));
    world.disconnect(old);
    world.claim(1, persistent("id"));
    world.said();
    world.ack(old, 1, AckKind::Puback);
    assert_eq!(world.topics(), []);
}
