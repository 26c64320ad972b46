//! Membership, publishing and stopping: rules 1 to 13, 27 and 28.

use mosquitto::ipc::mesh::kind;
use mosquitto::mqtt::{Packet, Version};

use super::stage::{A, B, C, Hello, Q0, Q1, Q2, S, Stage, Testament, Words, hello, words};
use crate::world::DieAt;

/// A joiner does not know yet who wants what. It must not tell a publisher that nobody does.
#[test]
fn rule_01_a_joiner_addresses_everybody() {
    let mut stage = Stage::new(2);
    let subscriber = stage.join(B, hello("subscriber"));
    stage.subscribe(subscriber, "a", Q1);
    stage.kill(A);
    let publisher = stage.connect(A, hello("publisher"));
    for _ in 0..20 {
        stage.turn(S);
        stage.turn(B);
        // B's index is not read.
        stage.turn_hearing(A, &[S]);
    }
    assert_eq!(stage.heard(publisher), ["connack"]);
    stage.publish(publisher, "a", "1", Q1);
    stage.publish(publisher, "nobody", "1", Q1);
    stage.turn_hearing(A, &[S]);
    assert_eq!(stage.heard(publisher), ["puback #1", "puback #2"]);
    stage.settle();
    assert_eq!(stage.heard(subscriber), ["a=1 q1 #1"]);
    stage.publish(publisher, "nobody", "1", Q1);
    stage.settle();
    assert_eq!(stage.heard(publisher), ["puback #3 0x10"]);
}

/// Row 3 of the promises: an outbox outlives its worker until everybody has drained it.
#[test]
fn rule_03_a_dead_outbox_is_drained_by_workers_and_store() {
    let mut stage = Stage::new(3);
    let transient = stage.join(B, hello("transient"));
    stage.subscribe(transient, "a", Q2);
    let stored = stage.join(C, hello("stored").lasting(1000));
    stage.subscribe(stored, "a", Q2);
    let publisher = stage.join(A, hello("publisher"));
    for payload in ["1", "2"] {
        stage.publish(publisher, "a", payload, Q1);
    }
    stage.turn(A);
    assert_eq!(stage.heard(publisher), ["puback #1", "puback #2"]);
    stage.kill(A);
    stage.settle();
    assert!(stage.is_alive(A), "it was buried and started again");
    assert_eq!(stage.heard(transient), ["a=1 q1 #1", "a=2 q1 #2"]);
    assert_eq!(stage.heard(stored), ["a=1 q1 #1", "a=2 q1 #2"]);
}

/// Nobody may start in a slot whose last owner's outbox is still being read.
#[test]
fn rule_02_a_slot_is_used_again_only_when_everybody_has_drained_it() {
    let mut stage = Stage::new(2);
    stage.kill(A);
    stage.turns(&[S]);
    assert!(!stage.is_alive(A), "B has not drained it");
    stage.turns(&[B]);
    assert!(stage.is_alive(A));
}

/// What waits in the overflow list dies with the worker, so it is not acknowledged.
#[test]
fn rule_08_only_what_is_in_the_ring_is_acknowledged() {
    for qos in [Q1, Q2] {
        let mut stage = Stage::with(2, 4, |_| {});
        let subscriber = stage.join(B, hello("subscriber"));
        stage.subscribe(subscriber, "a", Q1);
        let publisher = stage.join(A, hello("publisher"));
        for payload in ["1", "2", "3", "4", "5", "6", "7"] {
            stage.publish(publisher, "a", payload, qos);
        }
        stage.turn(A);
        let acknowledged = stage.heard(publisher).len();
        assert!((1..7).contains(&acknowledged), "{acknowledged}");
        stage.kill(A);
        stage.settle();
        assert_eq!(stage.heard(subscriber).len(), acknowledged);
    }
}

/// A worker whose outbox is full reads no clients, goes on with its inboxes, and loses nothing.
#[test]
fn rule_08_back_pressure_reaches_the_publisher() {
    let mut stage = Stage::with(2, 4, |_| {});
    let subscriber = stage.join(B, hello("subscriber"));
    stage.subscribe(subscriber, "a", Q0);
    let publisher = stage.join(A, hello("publisher"));
    for _ in 0..20 {
        stage.publish(publisher, "a", "x", Q0);
        stage.turn(A);
    }
    assert!(stage.unread(publisher) > 0);
    stage.settle();
    assert_eq!(stage.heard(subscriber).len(), 20);
}

/// In memory, every session is the store's: without it nothing can be kept.
#[test]
fn rule_09_when_the_store_dies_all_start_over_together() {
    let mut stage = Stage::new(2);
    let transient = stage.join(A, hello("transient"));
    stage.subscribe(transient, "a", Q1);
    let stored = stage.join(B, hello("stored").lasting(1000));
    stage.subscribe(stored, "a", Q1);
    stage.retain(transient, "a", "1", Q1);
    stage.settle();
    stage.heard(transient);
    stage.heard(stored);
    stage.kill(S);
    stage.settle();
    for peer in [transient, stored] {
        assert_eq!(stage.heard(peer), ["disconnect 0x80"]);
        assert!(stage.is_closed(peer));
    }
    let stored = stage.join(B, hello("stored").lasting(1000));
    let publisher = stage.join(A, hello("publisher"));
    stage.publish(publisher, "a", "2", Q1);
    stage.settle();
    assert_eq!(stage.heard(publisher), ["puback #1 0x10"]);
    stage.subscribe(stored, "a", Q1);
    assert_eq!(stage.heard(stored), [""; 0], "nothing is retained");
}

/// Wills that were armed are published once there is a store again. Who was connected is not, so that only a
/// retained one can be seen.
#[test]
fn rule_10_wills_are_kept_for_the_next_store() {
    let mut stage = Stage::new(2);
    for (slot, id, topic, delay) in [(A, "first", "w/1", 0), (B, "second", "w/2", 500)] {
        let will = Testament {
            topic,
            payload: "dead",
            qos: Q1,
            retain: true,
            delay,
        };
        let who = Hello {
            will: Some(will),
            ..hello(id).lasting(1000)
        };
        stage.join(slot, who);
    }
    stage.kill(S);
    stage.settle();
    let heir = stage.join(A, hello("heir"));
    stage.subscribe(heir, "w/+", Q1);
    assert_eq!(
        stage.heard(heir),
        ["w/1=dead q1 #1 retain", "w/2=dead q1 #2 retain"]
    );
}

/// A CONNECT that comes while there is no store is answered by the next one.
#[test]
fn rule_10_connections_wait_for_the_next_store() {
    let mut stage = Stage::new(2);
    stage.kill(S);
    let early = stage.connect(A, hello("early"));
    stage.turns(&[A]);
    assert_eq!(stage.heard(early), [""; 0]);
    stage.settle();
    assert_eq!(stage.heard(early), ["connack"]);
}

#[test]
fn rule_11_qos_2_is_routed_at_publish_and_once() {
    let mut stage = Stage::new(2);
    let subscriber = stage.join(B, hello("subscriber"));
    stage.subscribe(subscriber, "a", Q2);
    let publisher = stage.join(A, hello("publisher"));
    let mut what = Words {
        id: 7,
        ..words("a", "1", Q2)
    };
    stage.say(publisher, what);
    stage.settle();
    assert_eq!(stage.heard(publisher), ["pubrec #7"]);
    assert_eq!(stage.heard(subscriber), ["a=1 q2 #1"], "without a PUBREL");
    what.dup = true;
    stage.say(publisher, what);
    stage.pubrel(publisher, 7);
    what.payload = "2";
    stage.say(publisher, what);
    stage.settle();
    assert_eq!(
        stage.heard(publisher),
        ["pubrec #7", "pubcomp #7", "pubrec #7"]
    );
    assert_eq!(stage.heard(subscriber), ["a=2 q2 #2"]);
}

/// Every QoS 2 message of a stored session goes to the store too, whoever subscribes.
#[test]
fn rule_11_the_qos_2_ids_of_a_stored_session_survive_its_worker() {
    for at in [DieAt::AfterFlush, DieAt::AfterSockets] {
        let mut stage = Stage::new(3);
        let subscriber = stage.join(C, hello("subscriber"));
        stage.subscribe(subscriber, "a", Q2);
        let publisher = stage.join(A, hello("publisher").lasting(1000));
        let mut what = Words {
            id: 7,
            ..words("a", "1", Q2)
        };
        stage.say(publisher, what);
        stage.dies_at(A, at);
        let publisher = stage.rejoin(B, hello("publisher").lasting(1000));
        what.dup = true;
        stage.say(publisher, what);
        stage.settle();
        assert_eq!(stage.heard(publisher), ["pubrec #7"]);
        assert_eq!(stage.heard(subscriber), ["a=1 q2 #1"], "{at:?}");
        // The PUBREL frees the id for good: also for the next connection.
        stage.pubrel(publisher, 7);
        stage.settle();
        assert_eq!(stage.heard(publisher), ["pubcomp #7"]);
        stage.cut(publisher);
        let publisher = stage.rejoin(A, hello("publisher").lasting(1000));
        what.payload = "2";
        stage.say(publisher, what);
        stage.settle();
        assert_eq!(stage.heard(subscriber), ["a=2 q2 #2"]);
    }
}

/// Order is owed per client, not per connection.
#[test]
fn rule_12_who_reconnects_elsewhere_does_not_overtake_himself() {
    for stays in [true, false] {
        let mut stage = Stage::new(3);
        let subscriber = stage.join(C, hello("subscriber"));
        stage.subscribe(subscriber, "a", Q1);
        let first = stage.join(A, hello("publisher"));
        stage.publish(first, "a", "1", Q1);
        stage.turn(A);
        // A takeover, or another connection after the end of the first.
        if !stays {
            stage.leave(first);
        }
        let second = stage.connect(B, hello("publisher"));
        stage.publish(second, "a", "2", Q1);
        for _ in 0..20 {
            for slot in [A, B, S] {
                stage.turn(slot);
            }
            stage.turn_hearing(C, &[S, B]);
        }
        assert_eq!(stage.heard(second), [""; 0], "C has not read what A says");
        stage.settle();
        assert_eq!(stage.heard(second), ["connack", "puback #1"]);
        assert_eq!(stage.heard(subscriber), ["a=1 q1 #1", "a=2 q1 #2"]);
    }
}

/// The store publishes the wills of a dead worker after everybody has read its outbox.
#[test]
fn rule_13_a_will_comes_after_what_its_client_had_sent() {
    for is_killed in [true, false] {
        let mut stage = Stage::new(2);
        let subscriber = stage.join(B, hello("subscriber"));
        stage.subscribe(subscriber, "#", Q1);
        let client = stage.join(A, hello("client").will("will", "dead"));
        stage.publish(client, "a", "1", Q1);
        stage.turn(A);
        if is_killed {
            stage.kill(A);
        } else {
            stage.cut(client);
        }
        for _ in 0..20 {
            stage.turn(A);
            stage.turn(S);
            stage.turn_hearing(B, &[S]);
        }
        assert_eq!(stage.heard(subscriber), [""; 0], "killed: {is_killed}");
        stage.settle();
        assert_eq!(stage.heard(subscriber), ["a=1 q1 #1", "will=dead q1 #2"]);
    }
}

/// Neither can happen without the other, wherever the worker dies.
#[test]
fn rule_13_will_and_release_are_one_record() {
    let mut stage = Stage::new(2);
    let client = stage.join(A, hello("client").will("will", "dead"));
    let releases = stage.said(A, kind::RELEASE);
    stage.cut(client);
    stage.settle();
    assert_eq!(stage.said(A, kind::PUBLISH), 1);
    assert_eq!(stage.said(A, kind::RELEASE), releases);

    let everywhere = [
        DieAt::AfterReading,
        DieAt::BeforeFlush,
        DieAt::AfterFlush,
        DieAt::AfterSockets,
    ];
    for at in everywhere {
        let mut stage = Stage::new(2);
        let subscriber = stage.join(B, hello("subscriber"));
        stage.subscribe(subscriber, "will", Q1);
        let client = stage.join(A, hello("client").will("will", "dead"));
        stage.cut(client);
        stage.dies_at(A, at);
        stage.settle();
        assert_eq!(stage.heard(subscriber), ["will=dead q1 #1"], "{at:?}");
    }
}

/// Bytes that wait in the socket are not the client's silence: a worker under back-pressure reads nothing.
#[test]
fn rule_27_keep_alive_is_not_charged_for_a_stall() {
    let mut stage = Stage::with(2, 2, |_| {});
    let subscriber = stage.join(B, hello("subscriber"));
    stage.subscribe(subscriber, "a", Q0);
    let publisher = stage.join(A, hello("publisher"));
    let client = stage.join(
        A,
        Hello {
            keep_alive: 10,
            ..hello("client")
        },
    );
    for _ in 0..10 {
        stage.publish(publisher, "a", "x", Q0);
    }
    stage.turn(A);
    stage.send(client, &Packet::Pingreq);
    stage.world.now = stage.world.now.after_secs(100);
    stage.turn(A);
    assert!(!stage.is_closed(client));
    stage.settle();
    assert_eq!(stage.heard(client), ["pingresp"]);
}

/// One and a half times the keep-alive, then the will.
#[test]
fn rule_27_a_silent_client_is_cut_off_with_its_will() {
    let mut stage = Stage::new(2);
    let subscriber = stage.join(B, hello("subscriber"));
    stage.subscribe(subscriber, "will", Q1);
    let who = Hello {
        keep_alive: 10,
        ..hello("client").will("will", "dead")
    };
    let client = stage.join(A, who);
    stage.pass(14);
    assert!(!stage.is_closed(client));
    stage.pass(2);
    assert_eq!(stage.heard(client), ["disconnect 0x8d"]);
    assert_eq!(stage.heard(subscriber), ["will=dead q1 #1"]);
}

/// Stop reading; wills; barrier; acknowledgements; 0x8B.
#[test]
fn rule_28_sigterm_publishes_wills_and_tells_everybody() {
    let mut stage = Stage::new(2);
    let subscriber = stage.join(B, hello("subscriber"));
    stage.subscribe(subscriber, "#", Q1);
    let old = stage.join(
        B,
        Hello {
            version: Version::V311,
            ..hello("old")
        },
    );
    let late = hello("late").lasting(1000).will_after(500, "late", "dead");
    let late = stage.join(A, late);
    let client = stage.join(A, hello("client").will("will", "dead"));
    stage.leave_with(late, 4, None);
    stage.settle();
    stage.publish(client, "a", "1", Q1);
    stage.turn(A);
    stage.publish(client, "a", "too late", Q1);
    for slot in [A, B] {
        stage.worker(slot, |worker, cx| worker.quiesce(cx));
    }
    stage.store(|store, cx| store.publish_delayed_wills(cx));
    stage.turns(&[A]);
    assert!(
        !stage.worker(A, |worker, cx| worker.is_quiet(cx)),
        "B has not read it"
    );
    stage.settle();
    for slot in [A, B] {
        assert!(stage.worker(slot, |worker, cx| worker.is_quiet(cx)));
        stage.worker(slot, |worker, cx| worker.stop(cx));
    }
    stage.settle();
    assert_eq!(stage.heard(client), ["puback #1", "disconnect 0x8b"]);
    let mut heard = stage.heard(subscriber);
    assert_eq!(heard.pop().as_deref(), Some("disconnect 0x8b"));
    heard.sort();
    let payloads: Vec<_> = heard.iter().map(|p| p.split(' ').next().unwrap()).collect();
    assert_eq!(payloads, ["a=1", "late=dead", "will=dead"], "each once");
    assert_eq!(stage.heard(old), [""; 0]);
    assert!(stage.is_closed(old));
}

/// A worker that hangs while it stops is killed. Its wills are published by then.
#[test]
fn rule_28_wills_come_once_though_the_worker_dies_while_it_stops() {
    let mut stage = Stage::new(2);
    let subscriber = stage.join(B, hello("subscriber"));
    stage.subscribe(subscriber, "will", Q1);
    stage.join(A, hello("client").will("will", "dead"));
    stage.worker(A, |worker, cx| worker.quiesce(cx));
    stage.turn(A);
    stage.kill(A);
    stage.settle();
    assert_eq!(stage.heard(subscriber), ["will=dead q1 #1"]);
}
