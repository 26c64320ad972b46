use super::*;
use crate::base::limits::{RETAINED_SCAN_BYTES_MAX, RETAINED_STEPS_PER_TURN};

fn retain(topic: &str, qos: Qos) -> Message<'_> {
    Message {
        retain: true,
        ..message(topic, qos)
    }
}

impl World {
    fn request(&mut self, conn: Conn, request: u32, heads: Heads, filter: &str) {
        self.request_after(conn, (request, filter, ""), heads);
    }

    fn request_after(&mut self, conn: Conn, what: (u32, &str, &str), heads: Heads) {
        let (request, filter, after) = what;
        let claim = conn.claim;
        let record = ToStore::RetainedRequest {
            claim,
            request,
            heads,
            filter,
            after,
        };
        self.tell(conn, &record);
    }

    /// How many deliveries of `topic` there were since the last time.
    fn delivered_topics(&mut self, topic: &str) -> usize {
        let said = self.said().into_iter();
        said.filter(|(_, what)| matches!(what, ToWorker::Deliver(d) if d.message.topic == topic))
            .count()
    }

    /// (request, last, topics) of each slice since the last time.
    fn slices(&mut self) -> Vec<(u32, bool, Vec<&'static str>)> {
        let said = self.said().into_iter();
        said.filter_map(|(_, what)| match what {
            ToWorker::RetainedSlice {
                request,
                last,
                messages,
                ..
            } => Some((request, last, messages.iter().map(|m| m.topic).collect())),
            _ => None,
        })
        .collect()
    }
}

#[test]
fn what_is_retained_is_sent_until_it_is_cleared() {
    let mut world = World::new();
    let (conn, _) = world.connect(0, transient("id"));
    world.publish(conn, &retain("a", Qos::AtMostOnce));
    world.publish(conn, &retain("b", Qos::ExactlyOnce));
    let clear = Message {
        payload: b"",
        ..retain("a", Qos::AtLeastOnce)
    };
    world.request(conn, 1, vec![], "#");
    world.turn();
    assert_eq!(world.slices(), [(1, true, vec!["a", "b"])]);
    world.publish(conn, &clear);
    world.request(conn, 2, vec![], "+");
    world.turn();
    assert_eq!(world.slices(), [(2, true, vec!["b"])]);
}

#[test]
fn rule_21_an_answer_waits_for_the_heads_and_carries_its_own() {
    let mut world = World::new();
    let (conn, _) = world.connect(0, transient("id"));
    let head = (worker(1), Incarnation(2), Position(7));
    let published = (Incarnation(2), Position(9));
    world.mesh.published.insert(worker(1), published);
    world.request(conn, 1, vec![head], "#");
    world.settle();
    assert_eq!(world.slices(), []);
    world.publish(conn, &retain("late", Qos::AtMostOnce));
    world
        .mesh
        .applied
        .insert(worker(1), (Incarnation(2), Position(8)));
    world.later(1);
    let said = world.said();
    let [
        (
            _,
            ToWorker::RetainedSlice {
                positions,
                messages,
                ..
            },
        ),
    ] = &said[..]
    else {
        panic!("{said:?}");
    };
    assert_eq!(messages.len(), 1);
    assert!(positions.contains(&(worker(1), Incarnation(2), Position(8))));
}

#[test]
fn large_answers_come_in_slices_and_only_while_there_is_room() {
    let mut world = World::new();
    let (conn, _) = world.connect(0, transient("id"));
    let payload = vec![0; 40_000];
    for n in 0..100 {
        let topic = format!("t/{n:02}");
        let message = Message {
            payload: &payload,
            ..retain(&topic, Qos::AtMostOnce)
        };
        world.publish(conn, &message);
    }
    world.request(conn, 1, vec![], "t/#");
    world.request(conn, 2, vec![], "t/05");
    world.mesh.overflow_bytes = 1;
    world.turn();
    assert_eq!(world.slices(), []);
    world.mesh.overflow_bytes = 0;
    world.turn();
    let first = world.slices();
    assert_eq!(first[0], (1, false, vec!["t/00", "t/01"]));
    assert_eq!(first[1], (2, true, vec!["t/05"]), "others are not held up");
    world.settle();
    assert_eq!(world.slices(), [], "no more than was asked for");
    for (request, asked, topics, last) in [
        (3, "t/01", ["t/02", "t/03"], false),
        (4, "t/97", ["t/98", "t/99"], true),
    ] {
        world.request_after(conn, (request, "t/#", asked), vec![]);
        world.settle();
        let slice = world.slices().remove(0);
        assert_eq!(slice.2, topics);
        // Whether that was all is known when the next one is looked for.
        if last && !slice.1 {
            world.request_after(conn, (request, "t/#", "t/99"), vec![]);
            world.settle();
            assert_eq!(world.slices(), [(request, true, vec![])]);
        }
    }
}

#[test]
fn expired_messages_are_not_sent() {
    let mut world = World::new();
    let (conn, _) = world.connect(0, transient("id"));
    let short = Message {
        expires_at: Some(world.now.after_secs(1)),
        ..retain("t", Qos::AtMostOnce)
    };
    world.publish(conn, &short);
    world.later(1000);
    world.request(conn, 1, vec![], "t");
    world.turn();
    assert_eq!(world.slices(), [(1, true, vec![])]);
}

#[test]
fn nothing_is_retained_when_the_operator_does_not_want_it() {
    let mut world = World::with(StoreSettings {
        retain_available: false,
        ..SETTINGS
    });
    let (conn, _) = world.connect(0, transient("id"));
    world.publish(conn, &retain("t", Qos::AtMostOnce));
    assert_eq!(world.store.retained_messages(), 0);
}

#[test]
fn requests_of_a_connection_that_is_over_are_forgotten() {
    let mut world = World::new();
    let (conn, _) = world.connect(0, transient("id"));
    world.request(conn, 1, vec![], "#");
    world.disconnect(conn);
    world.settle();
    assert_eq!(world.said(), []);
    assert!(world.store.requests.is_empty());
}

#[test]
fn a_persistent_session_gets_what_is_retained_after_its_answer() {
    let mut world = World::new();
    let (conn, _) = world.session(0, "id", &[]);
    world.publish(conn, &retain("t/0", Qos::AtMostOnce));
    world.publish(conn, &retain("t/2", Qos::ExactlyOnce));
    world.subscribe(conn, 5, &[(1, "t/#")]);
    world.settle();
    let said = world.said_to(conn);
    assert!(matches!(said[0], ToWorker::Subscribed { .. }));
    let delivered: Vec<_> = said[1..]
        .iter()
        .map(|what| match what {
            ToWorker::Deliver(d) => (d.message.topic, d.message.qos, d.message.retain),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        delivered,
        [
            ("t/0", Qos::AtMostOnce, true),
            ("t/2", Qos::AtLeastOnce, true)
        ]
    );
    assert!(matches!(&said[1], ToWorker::Deliver(d) if d.subscription_ids == [5]));
}

#[test]
fn retain_handling_decides_whether_anything_is_sent() {
    let mut world = World::new();
    let (conn, _) = world.session(0, "id", &[]);
    world.publish(conn, &retain("t", Qos::AtLeastOnce));
    const IF_NEW: u8 = 0b01_0000;
    const NEVER_SEND: u8 = 0b10_0000;
    for (options, expected) in [(1 | NEVER_SEND, 0), (1 | IF_NEW, 0), (1, 1)] {
        world.subscribe(conn, 0, &[(options, "t")]);
        world.settle();
        assert_eq!(world.topics().len(), expected);
    }
    world.subscribe(conn, 0, &[(1 | IF_NEW, "+")]);
    world.settle();
    assert_eq!(world.topics().len(), 1, "a new filter");
}

#[test]
fn a_message_retained_behind_the_subscribe_comes_once() {
    let mut world = World::new();
    let (conn, _) = world.session(0, "id", &[]);
    world.publish(conn, &retain("t", Qos::AtLeastOnce));
    world.subscribe(conn, 0, &[(1, "#")]);
    world.publish(conn, &retain("t", Qos::AtLeastOnce));
    world.publish(conn, &retain("u", Qos::AtLeastOnce));
    world.settle();
    assert_eq!(world.topics(), [(1, false, "t"), (2, false, "u")]);
}

#[test]
fn a_message_published_before_the_subscribe_is_retained_however_late_it_comes() {
    let mut world = World::new();
    let (conn, _) = world.session(0, "id", &[]);
    let (other, _) = world.connect(1, transient("other"));
    let heads = vec![(worker(1), Incarnation(2), Position(3))];
    let published = (Incarnation(2), Position(3));
    world.mesh.published.insert(worker(1), published);
    world.subscribe_after(conn, 0, heads, &[(2, "#")]);
    world.settle();
    let messages = [
        retain("0", Qos::AtMostOnce),
        message("1", Qos::AtLeastOnce),
        retain("2", Qos::AtLeastOnce),
        retain("3", Qos::AtLeastOnce),
    ];
    for (end, message) in (1..).zip(&messages) {
        // The record in hand counts as applied.
        let applied = (Incarnation(2), Position(end));
        world.mesh.applied.insert(worker(1), applied);
        world.publish(other, message);
    }
    world.later(1);
    let delivered: Vec<_> = world
        .delivered()
        .iter()
        .map(|d| (d.message.topic, d.message.retain))
        .collect();
    assert_eq!(
        delivered,
        [("0", true), ("1", false), ("2", true), ("3", false)]
    );
}

#[test]
fn a_retained_qos_0_value_is_not_lost_between_the_subscribe_and_the_announcements() {
    let mut world = World::new();
    let (conn, _) = world.session(0, "id", &[]);
    world.publish(conn, &retain("t", Qos::AtMostOnce));
    world.subscribe(conn, 0, &[(1, "t")]);
    world.mesh.everyone_applied = false;
    world.settle();
    world.delivered();
    // Worker 1 has published a newer value before it knew that worker 0 wants it.
    world
        .mesh
        .published
        .insert(worker(1), (Incarnation(2), Position(1)));
    world.mesh.everyone_applied = true;
    world.later(1);
    assert_eq!(world.topics(), [], "that value has not been read yet");
    let newer = Message {
        payload: b"newer",
        ..retain("t", Qos::AtMostOnce)
    };
    world.publish(conn, &newer);
    world
        .mesh
        .applied
        .insert(worker(1), (Incarnation(2), Position(1)));
    world.later(1);
    let delivered = world.delivered();
    assert_eq!(delivered.len(), 1);
    assert_eq!(delivered[0].message.payload, b"newer");
}

#[test]
fn a_million_retained_messages_fit_any_queue_and_window() {
    let mut world = World::with(StoreSettings {
        max_inflight_messages: 2,
        max_queued_messages: 3,
        ..SETTINGS
    });
    let (conn, _) = world.session(0, "id", &[]);
    // Some hundred do as well.
    for n in 0..300 {
        world.publish(conn, &retain(&format!("t/{n:03}"), Qos::AtLeastOnce));
    }
    world.subscribe(conn, 0, &[(1, "t/#")]);
    world.settle();
    let mut topics = world.topics();
    while let Some((packet_id, _, _)) = topics.get(topics.len() - 2).copied() {
        world.ack(conn, packet_id, AckKind::Puback);
        let more = world.topics();
        if more.is_empty() {
            break;
        }
        topics.extend(more);
    }
    assert_eq!(topics.len(), 300);
    assert_eq!(topics.last().unwrap().2, "t/299");
    assert_eq!(world.log.pending(), "");
}

#[test]
fn unsubscribing_ends_the_retained_messages_too() {
    let mut world = World::new();
    let (conn, _) = world.session(0, "id", &[]);
    world.publish(conn, &retain("t", Qos::AtLeastOnce));
    world.subscribe(conn, 0, &[(1, "t")]);
    let unsubscribe = ToStore::Unsubscribe {
        claim: conn.claim,
        request: 4,
        filters: vec!["t"],
    };
    world.tell(conn, &unsubscribe);
    world.settle();
    assert_eq!(world.topics(), []);
}

/// Topics that make a search for `+/b` long, and find nothing.
fn many_retained(world: &mut World) -> Conn {
    let (publisher, _) = world.connect(1, transient("publisher"));
    for n in 0..RETAINED_STEPS_PER_TURN - 10 {
        world.publish(publisher, &retain(&format!("{n}/a"), Qos::AtMostOnce));
    }
    world.publish(publisher, &retain("wanted", Qos::AtMostOnce));
    publisher
}

#[test]
fn a_turn_looks_at_a_bounded_number_of_topics_however_many_ask() {
    let mut world = World::new();
    many_retained(&mut world);
    let (greedy, _) = world.connect(0, transient("greedy"));
    let (modest, _) = world.connect(0, transient("modest"));
    for request in 0..20 {
        world.request(greedy, request, vec![], "+/b");
    }
    world.request(modest, 100, vec![], "wanted");
    world.turn();
    let answered = world.slices().len();
    assert!(
        (1..=2).contains(&answered),
        "{answered} searches in one turn"
    );
    world.settle();
    let answers = world.slices();
    assert!(answers.contains(&(100, true, vec!["wanted"])));
    assert_eq!(answered + answers.len(), 21);
}

#[test]
fn a_turn_looks_at_a_bounded_number_of_topics_for_all_sessions_together() {
    let mut world = World::new();
    many_retained(&mut world);
    let filters = [(0, "+/b"), (0, "+/c"), (0, "+/d"), (0, "wanted")];
    let greedy: Vec<_> = (0..5)
        .map(|n| world.connect(0, persistent(&format!("greedy{n}"))).0)
        .collect();
    for conn in greedy {
        world.subscribe(conn, 0, &filters);
    }
    let mut turns = 0;
    let mut found = 0;
    while found < 5 {
        turns += 1;
        assert!(turns < 100, "{found} sessions got what is retained");
        world.now = world.now.after_millis(1);
        world.turn();
        found += world.delivered_topics("wanted");
    }
    assert!(turns >= 14, "15 searches in {turns} turns");
}

#[test]
fn subscribing_on_and_on_while_nothing_is_taken_stays_cheap_and_bounded() {
    let mut world = World::new();
    let (conn, client) = world.session(0, "id", &[(1, "a")]);
    let (publisher, _) = world.connect(1, transient("publisher"));
    for _ in 0..SETTINGS.max_inflight_messages + 1 {
        world.publish(publisher, &message("a", Qos::AtLeastOnce));
    }
    let filter = "f".repeat(49);
    for _ in 0..RETAINED_SCAN_BYTES_MAX / 50 + 100 {
        world.subscribe(conn, 0, &[(0, &filter)]);
        world.mesh.said.clear();
    }
    world.settle();
    let kept = world.store.directory.get(client);
    let session = kept.and_then(|c| c.session.as_ref()).unwrap();
    assert_eq!(session.scan_bytes, RETAINED_SCAN_BYTES_MAX);
}

#[test]
fn a_retained_message_is_forgotten_after_its_interval_or_expires_before() {
    let mut world = World::with(StoreSettings {
        retain_expiry_secs: Some(60),
        ..SETTINGS
    });
    let (conn, _) = world.connect(0, transient("id"));
    world.publish(conn, &retain("a", Qos::AtMostOnce));
    let expires_at = Some(world.now.after_secs(10));
    let short = Message {
        expires_at,
        ..retain("b", Qos::AtMostOnce)
    };
    world.publish(conn, &short);
    world.later(9_999);
    world.publish(conn, &retain("c", Qos::AtMostOnce));
    world.request(conn, 1, vec![], "#");
    world.turn();
    assert_eq!(world.slices(), [(1, true, vec!["a", "b", "c"])]);
    world.later(1);
    world.request(conn, 2, vec![], "#");
    world.turn();
    assert_eq!(world.slices(), [(2, true, vec!["a", "c"])]);
    world.later(50_000);
    world.request(conn, 3, vec![], "#");
    world.turn();
    assert_eq!(world.slices(), [(3, true, vec!["c"])]);
    // A session gets the same.
    let (session, _) = world.session(1, "session", &[]);
    world.subscribe(session, 0, &[(1, "#")]);
    world.settle();
    assert_eq!(world.delivered_topics("c"), 1);
    world.later(20_000);
    assert_eq!(world.store.retained_messages(), 0, "swept away");
}

#[test]
fn a_retained_message_that_is_forgotten_soon_does_not_say_so_on_the_wire() {
    let mut world = World::with(StoreSettings {
        retain_expiry_secs: Some(60),
        ..SETTINGS
    });
    let (session, _) = world.session(0, "id", &[(1, "t")]);
    world.publish(session, &retain("t", Qos::AtLeastOnce));
    assert_eq!(world.delivered()[0].message.expires_at, None);
}

#[test]
fn beyond_the_limit_no_further_topic_is_retained() {
    let mut world = World::with(StoreSettings {
        global_max_retained_messages: 2,
        ..SETTINGS
    });
    let (conn, _) = world.session(0, "id", &[(1, "#")]);
    for topic in ["a", "b", "c", "d"] {
        world.publish(conn, &retain(topic, Qos::AtLeastOnce));
    }
    assert_eq!(world.delivered().len(), 4, "subscribers get them all");
    assert_eq!(world.store.retained_messages(), 2);
    assert_eq!(world.store.figures().retained_dropped, 2);
    assert_eq!(world.log.pending().lines().count(), 1, "said once");
    // One that is there can be replaced and cleared, which makes room.
    let replacement = Message {
        expires_at: Some(world.now.after_secs(1)),
        ..retain("a", Qos::AtLeastOnce)
    };
    world.publish(conn, &replacement);
    world.publish(
        conn,
        &Message {
            payload: b"",
            ..retain("b", Qos::AtLeastOnce)
        },
    );
    world.publish(conn, &retain("c", Qos::AtLeastOnce));
    world.publish(conn, &retain("d", Qos::AtLeastOnce));
    assert_eq!(world.log.pending().lines().count(), 2, "another episode");
    // What has expired takes no room, swept or not.
    world.now = world.now.after_secs(1);
    world.publish(conn, &retain("d", Qos::AtLeastOnce));
    world.request(conn, 1, vec![], "#");
    let (reader, _) = world.connect(1, transient("reader"));
    world.request(reader, 2, vec![], "#");
    world.turn();
    let slices = world.slices();
    assert!(slices.iter().any(|s| s.2 == ["c", "d"]), "{slices:?}");
}

#[test]
fn what_the_broker_says_of_itself_is_retained_beyond_the_limit_and_not_forgotten() {
    let mut world = World::with(StoreSettings {
        global_max_retained_messages: 2,
        retain_expiry_secs: Some(1),
        ..SETTINGS
    });
    let (conn, client) = world.session(0, "id", &[]);
    let of = |topic: &'static str, publisher: ClientNumber| Message {
        publisher,
        ..retain(topic, Qos::ExactlyOnce)
    };
    for topic in ["$SYS/a", "$SYS/b", "$SYS/b", "$SYS/c"] {
        world.publish(conn, &of(topic, ClientNumber(0)));
    }
    for topic in ["$SYS/broker/connection/c/state", "a", "b"] {
        world.publish(conn, &of(topic, client));
    }
    assert_eq!(world.store.retained_messages(), 5, "two of the client's");
    world.now = world.now.after_secs(2);
    world.request(conn, 1, vec![], "$SYS/#");
    world.turn();
    let slices = world.slices();
    assert!(
        slices.iter().any(|s| s.2 == ["$SYS/a", "$SYS/b", "$SYS/c"]),
        "{slices:?}"
    );
}
