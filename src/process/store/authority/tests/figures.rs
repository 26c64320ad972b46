use super::*;
use crate::base::figures::Figures;

/// What is counted step by step is what there is. (The directory's own tests check its sums.)
pub(super) fn assert_true(store: &Store) {
    let clients = store.directory.numbers();
    let kept = clients.iter().filter_map(|c| store.directory.get(*c));
    let sessions = kept.filter_map(|kept| kept.session.as_ref());
    let subscriptions: usize = sessions.map(|s| s.subscriptions.len()).sum();
    assert_eq!(store.figures().subscriptions, subscriptions as u64);
}

#[test]
fn clients_and_sessions_are_counted_as_they_come_and_go() {
    let mut world = World::new();
    let (stays, _) = world.session(0, "stays", &[(1, "a"), (1, "b")]);
    let (goes, _) = world.session(1, "goes", &[(1, "a")]);
    world.subscribe(goes, 0, &[(0, "a")]);
    let (passes, _) = world.connect(1, transient("passes"));
    let of = |world: &World| {
        assert_true(&world.store);
        let figures = world.store.figures();
        (
            figures.clients_connected,
            figures.clients_disconnected,
            figures.subscriptions,
        )
    };
    assert_eq!(of(&world), (3, 0, 3));
    world.disconnect(passes);
    world.disconnect(stays);
    assert_eq!(of(&world), (1, 1, 3));
    world.die(1, 2);
    world.remove(1, 2);
    assert_eq!(of(&world), (0, 2, 3));
    // A clean start ends the session.
    world.connect(0, transient("goes"));
    assert_eq!(of(&world), (1, 1, 2));
    assert_eq!(world.store.figures().clients_maximum, 3);
    assert_eq!(world.store.figures().clients_expired, 0);
}

#[test]
fn an_expired_session_is_counted_once() {
    let mut world = World::new();
    let (conn, _) = world.connect(
        0,
        Claim {
            expiry: 1,
            ..persistent("id")
        },
    );
    world.disconnect(conn);
    world.later(2000);
    assert_true(&world.store);
    let figures = world.store.figures();
    assert_eq!(
        (figures.clients_expired, figures.clients_disconnected),
        (1, 0)
    );
}

#[test]
fn a_message_is_counted_once_however_many_keep_it_and_as_long_as_one_does() {
    let mut world = World::new();
    let of = |world: &World| {
        let Figures {
            retained,
            stored_messages,
            stored_bytes,
            ..
        } = world.store.figures();
        (retained, stored_messages, stored_bytes)
    };
    let (first, _) = world.session(0, "1", &[(1, "#")]);
    let (second, _) = world.session(0, "2", &[(1, "#")]);
    let mut kept = message("t", Qos::AtLeastOnce);
    (kept.retain, kept.payload) = (true, b"seven77");
    world.publish(first, &kept);
    assert_eq!(of(&world), (1, 1, 7));
    world.ack(first, 1, AckKind::Puback);
    kept.payload = b"";
    world.publish(first, &kept);
    assert_eq!(of(&world), (0, 2, 7));
    world.ack(second, 1, AckKind::Puback);
    assert_eq!(of(&world), (0, 1, 0));
    world.ack(second, 2, AckKind::Puback);
    world.ack(first, 2, AckKind::Puback);
    assert_eq!(of(&world), (0, 0, 0));
}

#[test]
fn what_a_full_queue_drops_is_counted() {
    let mut world = World::with(StoreSettings {
        max_queued_messages: 2,
        ..SETTINGS
    });
    let (conn, _) = world.session(0, "id", &[(1, "#")]);
    world.disconnect(conn);
    for _ in 0..5 {
        world.publish(conn, &message("t", Qos::AtLeastOnce));
    }
    assert_eq!(world.store.figures().publish_dropped, 3);
}
