use super::*;

fn with_will<'a>(id: &'a str, delay: u32, expiry: u32) -> Claim<'a> {
    Claim {
        expiry,
        clean_start: false,
        will: will("will", delay),
        ..transient(id)
    }
}

fn everybody() -> MemberMask {
    worker(0).mask().union(worker(1).mask())
}

#[test]
fn rule_13_wills_of_a_dead_worker_are_published_when_everybody_has_drained_it() {
    let mut world = World::new();
    world.connect(0, with_will("id", 0, 0));
    let unarmed = world.claim(0, with_will("other", 0, 0));
    let next = world.claim(1, transient("id"));
    world.die(0, 1);
    world.later(1000);
    assert_eq!(world.published(), []);
    world.remove(0, 1);
    let order: Vec<_> = world.mesh.said.iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(order, [kind::PUBLISH, kind::GRANT], "the will comes first");
    assert_eq!(
        world.published(),
        [(worker(1).mask(), "will".to_owned())],
        "and only that of {next:?}'s predecessor, not of {unarmed:?}"
    );
}

#[test]
fn a_delayed_will_is_published_when_its_delay_has_passed() {
    let mut world = World::new();
    let (conn, _) = world.connect(0, with_will("id", 5, 60));
    world.mesh.said.clear();
    world.release(conn, WillFate::Delayed, None);
    world.later(4999);
    assert_eq!(world.published(), []);
    world.later(1);
    assert_eq!(world.published(), [(everybody(), "will".to_owned())]);
    world.later(600_000);
    assert_eq!(world.published(), []);
}

#[test]
fn a_delayed_will_is_published_when_the_session_ends_before() {
    let mut world = World::new();
    let (conn, _) = world.connect(0, with_will("id", 50, 3));
    world.mesh.said.clear();
    world.release(conn, WillFate::Delayed, None);
    world.later(3000);
    assert_eq!(world.published(), [(everybody(), "will".to_owned())]);
}

#[test]
fn a_client_that_comes_back_in_time_takes_its_will_with_it() {
    let mut world = World::new();
    let (conn, _) = world.connect(0, with_will("id", 5, 60));
    world.release(conn, WillFate::Delayed, None);
    world.later(4000);
    world.connect(1, persistent("id"));
    world.later(60_000);
    assert_eq!(world.published(), []);
}

#[test]
fn a_clean_start_ends_the_session_and_so_the_delay() {
    let mut world = World::new();
    let (conn, _) = world.connect(0, with_will("id", 5, 60));
    world.release(conn, WillFate::Delayed, None);
    world.mesh.said.clear();
    world.claim(1, transient("id"));
    let order: Vec<_> = world.mesh.said.iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(order, [kind::PUBLISH, kind::GRANT]);
}

#[test]
fn a_will_does_not_overtake_what_its_client_published() {
    let mut world = World::new();
    let (conn, _) = world.connect(0, with_will("id", 5, 0));
    world.mesh.said.clear();
    world.mesh.everyone_applied = false;
    world.release(conn, WillFate::Delayed, None);
    world.later(10);
    assert_eq!(world.published(), [], "due at once, but too early");
    world.mesh.everyone_applied = true;
    world.later(1);
    assert_eq!(world.published(), [(everybody(), "will".to_owned())]);
}

#[test]
fn a_will_in_one_record_with_the_release_is_applied_once() {
    let mut world = World::new();
    let (reader, _) = world.session(1, "reader", &[(1, "will")]);
    let (conn, client) = world.connect(0, with_will("id", 0, 0));
    world.mesh.said.clear();
    let releases = Some(Release {
        claim: conn.claim,
        will: WillFate::Done,
        expiry: None,
    });
    let will = Message {
        publisher: client,
        releases,
        ..message("will", Qos::AtLeastOnce)
    };
    world.publish(conn, &will);
    assert_eq!(world.said_to(reader).len(), 1);
    world.remove(0, 1);
    world.later(1000);
    assert_eq!(world.said(), [], "not again with the worker");
    world.claim(1, transient("id"));
    assert!(matches!(world.said()[0].1, ToWorker::Grant { .. }));
}

#[test]
fn a_dead_clients_will_reaches_persistent_sessions_and_the_retained_set() {
    let mut world = World::new();
    let (reader, _) = world.session(1, "reader", &[(2, "#")]);
    // Message expiry interval: 7 seconds.
    let properties = [2, 0, 0, 0, 7];
    let retained = WillRecord {
        retain: true,
        properties: &properties,
        ..will("will", 0).unwrap()
    };
    let asked = Claim {
        will: Some(retained),
        ..transient("id")
    };
    let (_, client) = world.connect(0, asked);
    world.die(0, 1);
    world.mesh.said.clear();
    world.remove(0, 1);
    let said = world.said_to(reader);
    let [ToWorker::Deliver(deliver)] = &said[..] else {
        panic!("{said:?}");
    };
    assert_eq!(deliver.message.publisher, client);
    assert_eq!(deliver.message.expires_at, Some(world.now.after_secs(7)));
    assert_eq!(world.store.retained_messages(), 1);
    world.later(30_000);
    assert_eq!(world.store.retained_messages(), 0, "expired and swept");
}

#[test]
fn a_stopping_broker_publishes_the_wills_that_wait() {
    let mut world = World::new();
    let (conn, _) = world.connect(0, with_will("id", 500, NEVER));
    world.release(conn, WillFate::Delayed, None);
    world.mesh.said.clear();
    world.step(|store, cx| store.publish_delayed_wills(cx));
    assert_eq!(world.published().len(), 1);
    world.later(600_000);
    assert_eq!(world.published(), []);
}
