use super::*;

const TAKEN_OVER: u8 = 0x8E;

/// (session present, stored) of the grant that this connection got; `None` without one.
fn grant(world: &mut World, conn: Conn) -> Option<(bool, bool)> {
    world.said_to(conn).iter().find_map(|what| match what {
        ToWorker::Grant {
            session_present,
            stored,
            ..
        } => Some((*session_present, *stored)),
        _ => None,
    })
}

#[test]
fn a_free_id_is_granted_and_only_a_persistent_session_is_stored() {
    let mut world = World::new();
    let a = world.claim(0, transient("a"));
    assert_eq!(grant(&mut world, a), Some((false, false)));
    let b = world.claim(1, persistent("b"));
    assert_eq!(grant(&mut world, b), Some((false, true)));
}

#[test]
fn rule_24_the_holder_is_evicted_and_the_claim_waits_for_its_release() {
    let mut world = World::new();
    let (old, _) = world.connect(0, transient("id"));
    let new = world.claim(1, transient("id"));
    let evict = ToWorker::Evict {
        claim: old.claim,
        reason: TAKEN_OVER,
    };
    assert_eq!(world.said(), [(worker(0).mask(), evict)]);
    world.later(3_600_000);
    assert_eq!(grant(&mut world, new), None, "no timer ends the wait");
    world.disconnect(old);
    assert_eq!(grant(&mut world, new), Some((false, false)));
}

#[test]
fn rule_24_a_newer_claim_supersedes_the_one_that_waits() {
    let mut world = World::new();
    let (holder, _) = world.connect(0, transient("id"));
    let second = world.claim(1, transient("id"));
    world.said();
    let third = world.claim(0, transient("id"));
    let refuse = ToWorker::Refuse {
        claim: second.claim,
        why: Refusal::Superseded,
    };
    assert_eq!(
        world.said(),
        [(worker(1).mask(), refuse)],
        "and no second eviction"
    );
    world.disconnect(holder);
    assert_eq!(grant(&mut world, third), Some((false, false)));
}

fn refused(world: &mut World, conn: Conn) -> Option<Refusal> {
    world.said_to(conn).iter().find_map(|what| match what {
        ToWorker::Refuse { why, .. } => Some(*why),
        _ => None,
    })
}

#[test]
fn a_claim_beyond_a_limit_is_refused_and_leaves_no_trace() {
    let limits = |of_listener, connections, clients| StoreSettings {
        max_connections: vec![-1, of_listener],
        global_max_connections: connections,
        global_max_clients: clients,
        ..SETTINGS
    };
    for (settings, why) in [
        (limits(1, -1, -1), Refusal::MaxConnections),
        (limits(0, 1, 0), Refusal::GlobalMaxConnections),
        (limits(-1, 0, 1), Refusal::GlobalMaxClients),
    ] {
        let mut world = World::with(settings);
        let of_listener = |id| Claim {
            listener: 1,
            ..persistent(id)
        };
        let (first, _) = world.connect(0, of_listener("first"));
        let other = world.claim(
            1,
            Claim {
                will: will("will", 0),
                ..of_listener("other")
            },
        );
        assert_eq!(refused(&mut world, other), Some(why));
        assert_eq!(world.store.clients(), 1, "no session of it");
        // Its worker knows nothing of the refusal yet.
        world.tell(other, &ToStore::Armed { claim: other.claim });
        world.release(other, WillFate::Delayed, None);
        world.settle();
        assert_eq!(world.said(), [], "nobody is evicted, no will comes");
        let again = world.claim(1, of_listener("first"));
        world.disconnect(first);
        assert_eq!(grant(&mut world, again), Some((true, true)));
    }
}

#[test]
fn the_seat_of_an_absent_session_is_free_when_it_expires() {
    let mut world = World::with(StoreSettings {
        global_max_clients: 1,
        ..SETTINGS
    });
    let (conn, _) = world.connect(
        0,
        Claim {
            expiry: 10,
            ..persistent("id")
        },
    );
    world.disconnect(conn);
    let other = world.claim(1, transient("other"));
    assert_eq!(refused(&mut world, other), Some(Refusal::GlobalMaxClients));
    world.later(10_000);
    let other = world.claim(1, transient("other"));
    assert_eq!(grant(&mut world, other), Some((false, false)));
}

#[test]
fn a_client_may_take_over_from_the_same_worker() {
    let mut world = World::new();
    let (old, _) = world.connect(0, persistent("id"));
    let new = world.claim(0, persistent("id"));
    world.disconnect(old);
    assert_eq!(grant(&mut world, new), Some((true, true)));
}

#[test]
fn rule_12_a_grant_waits_until_everybody_read_what_the_last_holder_published() {
    let mut world = World::new();
    let (old, _) = world.connect(0, transient("id"));
    world.mesh.everyone_applied = false;
    world.disconnect(old);
    let new = world.claim(1, transient("id"));
    world.settle();
    assert_eq!(grant(&mut world, new), None);
    assert_eq!(world.store.next_deadline(), Some(world.now.after_millis(1)));
    world.mesh.everyone_applied = true;
    world.later(1);
    assert_eq!(grant(&mut world, new), Some((false, false)));
}

#[test]
fn a_dead_workers_id_is_granted_only_when_the_worker_is_removed() {
    let mut world = World::new();
    world.connect(0, transient("id"));
    world.die(0, 1);
    let new = world.claim(1, transient("id"));
    world.later(1000);
    assert_eq!(
        world.said(),
        [],
        "neither granted nor is a dead worker told"
    );
    world.remove(0, 1);
    assert_eq!(grant(&mut world, new), Some((false, false)));
}

#[test]
fn a_claim_of_a_worker_that_is_dead_gets_nothing() {
    let mut world = World::new();
    let (holder, _) = world.connect(1, transient("id"));
    let late = world.new_conn(0);
    world.die(0, 1);
    let claim = late.claim;
    world.tell(
        late,
        &ToStore::Claim(Claim {
            claim,
            ..transient("id")
        }),
    );
    assert_eq!(world.said(), [], "the holder stays");
    world.disconnect(holder);
    world.settle();
    assert_eq!(world.said(), []);
}

#[test]
fn a_waiting_claim_dies_with_its_worker() {
    let mut world = World::new();
    let (holder, _) = world.connect(1, transient("id"));
    world.claim(0, transient("id"));
    world.die(0, 1);
    world.said();
    world.disconnect(holder);
    world.later(1000);
    assert_eq!(world.said(), []);
    assert_eq!(world.store.clients(), 0);
}

#[test]
fn nothing_of_an_old_life_reaches_a_workers_next_life() {
    let mut world = World::new();
    let (old, _) = world.session(0, "id", &[(1, "t")]);
    world.die(0, 1);
    world.join(0, 3);
    world.mesh.said.clear();
    world.publish(old, &message("t", Qos::AtLeastOnce));
    assert_eq!(world.said(), []);
    world.remove(0, 1);
    assert_eq!(world.said(), []);
    let next = world.claim(0, persistent("id"));
    assert_eq!(world.said_to(next).len(), 3, "grant, filters, message");
}

#[test]
fn a_clean_start_discards_the_session() {
    let mut world = World::new();
    let (conn, _) = world.session(0, "id", &[(1, "t/#")]);
    world.disconnect(conn);
    world.publish(conn, &message("t", Qos::AtLeastOnce));
    let clean = Claim {
        clean_start: true,
        ..persistent("id")
    };
    let conn = world.claim(1, clean);
    let said = world.said();
    assert_eq!(said.len(), 1, "no filters, no messages");
    assert!(matches!(
        said[0].1,
        ToWorker::Grant {
            session_present: false,
            stored: true,
            ..
        }
    ));
    world.publish(conn, &message("t", Qos::AtLeastOnce));
    assert_eq!(world.said(), []);
}

#[test]
fn a_session_that_continues_with_expiry_0_is_stored_until_its_connection_ends() {
    let mut world = World::new();
    let (conn, _) = world.session(0, "id", &[(1, "t")]);
    world.disconnect(conn);
    let last_time = Claim {
        clean_start: false,
        ..transient("id")
    };
    let conn = world.claim(1, last_time.clone());
    world.publish(conn, &message("t", Qos::AtLeastOnce));
    let said = world.said_to(conn);
    assert!(matches!(
        said[1],
        ToWorker::Grant {
            session_present: true,
            stored: true,
            ..
        }
    ));
    assert!(matches!(said.last(), Some(ToWorker::Deliver(_))));
    world.disconnect(conn);
    let conn = world.claim(1, last_time);
    assert_eq!(grant(&mut world, conn), Some((false, false)));
}

#[test]
fn a_session_ends_when_its_expiry_has_passed() {
    let mut world = World::new();
    let short = Claim {
        expiry: 10,
        ..persistent("id")
    };
    let (conn, _) = world.connect(0, short.clone());
    world.subscribe(conn, 0, &[(1, "t")]);
    world.later(20_000);
    world.disconnect(conn);
    world.later(9_999);
    world.publish(conn, &message("t", Qos::AtLeastOnce));
    let (conn, _) = world.connect(0, short.clone());
    world.disconnect(conn);
    world.mesh.said.clear();
    world.later(10_000);
    assert_eq!(world.announced().len(), 1, "the last subscriber is gone");
    assert_eq!(world.log.pending(), "Expiring client id due to timeout.\n");
    world.later(1000);
    assert_eq!(world.store.clients(), 0);
    let conn = world.claim(0, short);
    assert_eq!(grant(&mut world, conn), Some((false, true)));
}

#[test]
fn disconnect_may_change_the_expiry() {
    let mut world = World::new();
    let (conn, _) = world.connect(0, persistent("id"));
    world.release(conn, WillFate::Done, Some(0));
    let conn = world.claim(0, persistent("id"));
    assert_eq!(grant(&mut world, conn), Some((false, true)));
    world.release(conn, WillFate::Done, Some(5));
    world.later(5000);
    let conn = world.claim(0, persistent("id"));
    assert_eq!(grant(&mut world, conn), Some((false, true)));
}

#[test]
fn the_operator_may_limit_how_long_sessions_last() {
    let mut world = World::with(StoreSettings {
        persistent_client_expiration: Some(60),
        ..SETTINGS
    });
    let (conn, _) = world.connect(0, persistent("id"));
    world.disconnect(conn);
    world.later(60_000);
    let conn = world.claim(0, persistent("id"));
    assert_eq!(grant(&mut world, conn), Some((false, true)));
}

#[test]
fn rule_24_a_connection_that_is_over_already_evicts_nobody() {
    let mut world = World::new();
    let over = |id| Claim {
        is_pointless: true,
        ..persistent(id)
    };
    let (holder, _) = world.connect(0, persistent("id"));
    let late = world.claim(1, over("id"));
    assert_eq!(refused(&mut world, late), Some(Refusal::Superseded));
    assert!(world.said_to(holder).is_empty());
    world.disconnect(holder);
    let alone = world.claim(1, over("id"));
    assert_eq!(
        grant(&mut world, alone),
        Some((true, true)),
        "it harms nobody"
    );
}

#[test]
fn a_new_limit_holds_for_sessions_that_wait_already() {
    let mut world = World::new();
    let (connected, _) = world.connect(0, persistent("connected"));
    for id in ["early", "late"] {
        let asked = Claim {
            will: will(id, 1000),
            ..persistent(id)
        };
        let (conn, _) = world.connect(0, asked);
        world.release(conn, WillFate::Delayed, None);
        world.later(30_000);
    }
    let limit = |secs| StoreSettings {
        persistent_client_expiration: secs,
        ..SETTINGS
    };
    world.store.set_settings(limit(Some(60)));
    world.settle();
    assert_eq!(
        world.log.pending(),
        "Expiring client early due to timeout.\n"
    );
    let published = world.published();
    let topics: Vec<&str> = published.iter().map(|(_, topic)| &**topic).collect();
    assert_eq!(topics, ["early"], "its will comes with its end");
    world.store.set_settings(limit(Some(90)));
    world.later(30_000);
    assert_eq!(world.log.pending().lines().count(), 1);
    world.store.set_settings(limit(None));
    world.later(3_600_000);
    let late = world.claim(0, persistent("late"));
    assert_eq!(grant(&mut world, late), Some((true, true)));
    world.disconnect(connected);
    let connected = world.claim(0, persistent("connected"));
    assert_eq!(grant(&mut world, connected), Some((true, true)));
}

#[test]
fn a_transient_client_leaves_nothing_behind() {
    let mut world = World::new();
    for n in 0..50 {
        let (conn, _) = world.connect(n % 2, transient(&n.to_string()));
        world.disconnect(conn);
    }
    world.mesh.everyone_applied = false;
    world.later(1000);
    assert_eq!(world.store.clients(), 50, "their records may be on the way");
    world.mesh.everyone_applied = true;
    world.later(1000);
    assert_eq!(world.store.clients(), 0);
    assert_eq!(world.store.next_deadline(), None, "an idle store sleeps");
}

#[test]
fn nonsense_is_logged_once_and_ignored() {
    let mut world = World::new();
    for bytes in [&b""[..], b"\xff", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
        for kind in 0..=u8::MAX {
            world.raw(0, Incarnation(1), kind, bytes);
        }
    }
    assert_eq!(world.said(), []);
    assert_eq!(world.log.pending().lines().count(), 1);
}

#[test]
fn a_release_of_nothing_changes_nothing() {
    let mut world = World::new();
    let (conn, _) = world.connect(0, transient("id"));
    let other = Conn {
        worker: 1,
        incarnation: Incarnation(2),
        ..conn
    };
    world.disconnect(other);
    world.claim(1, transient("id"));
    assert!(
        matches!(world.said()[0].1, ToWorker::Evict { .. }),
        "still held"
    );
}

#[test]
fn a_session_moves_only_when_everybody_read_what_it_may_have_been_sent_directly() {
    let mut world = World::new();
    let (old, _) = world.session(0, "id", &[(0, "t")]);
    world.die(0, 1);
    world.remove(0, 1);
    // Worker 0 had sent it a message of worker 1 that worker 2 has not read yet.
    world.mesh.everyone_applied = false;
    world.join(2, 3);
    let new = world.claim(2, persistent("id"));
    world.settle();
    assert_eq!(grant(&mut world, new), None, "{old:?} is over");
    world.mesh.everyone_applied = true;
    world.later(1);
    assert_eq!(grant(&mut world, new), Some((true, true)));
}
