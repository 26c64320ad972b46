//! Subscriptions: the barrier, one path for each message, what is retained. Rules 17 to 21.

use mosquitto::base::limits::RETAINED_REQUESTS_MAX;
use mosquitto::ipc::mesh::kind;
use mosquitto::mqtt::{RetainHandling, SubscriptionOptions};

use super::stage::{A, B, C, Q0, Q1, Q2, S, Stage, hello};

#[test]
fn rule_17_suback_waits_until_every_member_knows() {
    let mut stage = Stage::new(3);
    let publisher = stage.join(B, hello("publisher"));
    let subscriber = stage.join(A, hello("subscriber"));
    stage.ask(subscriber, "a", Q1);
    stage.turns(&[A, C, S]);
    assert_eq!(stage.heard(subscriber), [""; 0], "B does not know");
    stage.turn(B);
    stage.turn(A);
    assert_eq!(stage.heard(subscriber), ["suback [1]"]);
    stage.publish(publisher, "a", "1", Q1);
    stage.settle();
    assert_eq!(stage.heard(subscriber), ["a=1 q1 #1"]);
}

/// Nothing new is announced for the second subscriber, but the first announcement may still be on its way.
#[test]
fn rule_17_suback_waits_for_what_another_client_caused() {
    let mut stage = Stage::new(2);
    let first = stage.join(A, hello("first"));
    let second = stage.join(A, hello("second"));
    stage.ask(first, "a", Q1);
    stage.turns(&[A, S]);
    stage.ask(second, "a", Q1);
    stage.turns(&[A, S]);
    assert_eq!(stage.heard(second), [""; 0]);
    stage.settle();
    assert_eq!(stage.heard(first), ["suback [1]"]);
    assert_eq!(stage.heard(second), ["suback [1]"]);
}

/// The same where the store announces QoS 1 and 2, and the worker QoS 0: both must be known.
#[test]
fn rule_17_suback_of_a_stored_session_waits_too() {
    for unheard in [A, S] {
        let mut stage = Stage::new(2);
        let publisher = stage.join(B, hello("publisher"));
        let first = stage.join(A, hello("first").lasting(1000));
        let second = stage.join(A, hello("second").lasting(1000));
        for peer in [first, second] {
            stage.ask(peer, "a", Q1);
            for _ in 0..20 {
                stage.turn(A);
                stage.turn(S);
                stage.turn_hearing(B, &[A + S - unheard]);
            }
        }
        for peer in [first, second] {
            assert_eq!(stage.heard(peer), [""; 0], "B has not heard {unheard}");
        }
        stage.settle();
        for peer in [first, second] {
            assert_eq!(stage.heard(peer), ["suback [1]"]);
        }
        stage.publish(publisher, "a", "0", Q0);
        stage.publish(publisher, "a", "1", Q1);
        stage.settle();
        for peer in [first, second] {
            let mut heard = stage.heard(peer);
            heard.sort();
            assert_eq!(heard, ["a=0", "a=1 q1 #1"]);
        }
    }
}

/// A session that came back is announced without any SUBACK. The next client with its filter waits for that.
#[test]
fn rule_17_suback_waits_for_what_a_returning_session_caused() {
    let mut stage = Stage::new(2);
    let old = hello("old").lasting(1000);
    let first = stage.join(A, old);
    stage.subscribe(first, "a", Q0);
    stage.leave(first);
    let second = stage.join(A, hello("second").lasting(1000));
    let first = stage.connect(A, old);
    for _ in 0..20 {
        stage.turn(A);
        stage.turn(S);
        stage.turn_hearing(B, &[S]);
    }
    assert_eq!(stage.heard(first), ["connack present"]);
    stage.ask(second, "a", Q0);
    for _ in 0..20 {
        stage.turn(A);
        stage.turn(S);
        stage.turn_hearing(B, &[S]);
    }
    assert_eq!(stage.heard(second), [""; 0]);
    stage.settle();
    assert_eq!(stage.heard(second), ["suback [0]"]);
}

#[test]
fn rule_17_the_dead_hold_up_no_suback() {
    let mut stage = Stage::new(3);
    let subscriber = stage.join(A, hello("subscriber"));
    let stored = stage.join(A, hello("stored").lasting(1000));
    stage.ask(subscriber, "a", Q1);
    stage.ask(stored, "a", Q1);
    stage.turns(&[A, S]);
    stage.kill(B);
    stage.turns(&[A, S]);
    assert_eq!(stage.heard(subscriber), [""; 0], "C lives");
    stage.turns(&[A, C, S]);
    assert_eq!(stage.heard(subscriber), ["suback [1]"]);
    // This one may wait for who has come to B's place.
    stage.settle();
    assert_eq!(stage.heard(stored), ["suback [1]"]);
}

/// QoS 0 goes from worker to worker, QoS 1 and 2 through the store; nothing goes both ways.
#[test]
fn rule_18_a_message_has_one_path_to_a_stored_session() {
    for (queue_qos0, delivered) in [(false, 2), (true, 3)] {
        for from in [A, B] {
            let mut stage = Stage::with(2, 1000, |c| c.queue_qos0_messages = queue_qos0);
            let stored = stage.join(A, hello("stored").lasting(1000));
            let transient = stage.join(A, hello("transient"));
            for peer in [stored, transient] {
                stage.subscribe(peer, "a", Q2);
            }
            let publisher = stage.join(from, hello("publisher"));
            for (payload, qos) in [("0", Q0), ("1", Q1), ("2", Q2)] {
                stage.publish(publisher, "a", payload, qos);
            }
            stage.settle();
            for peer in [stored, transient] {
                let mut heard = stage.heard(peer);
                heard.sort();
                assert_eq!(heard, ["a=0", "a=1 q1 #1", "a=2 q2 #2"]);
            }
            assert_eq!(stage.said(S, kind::DELIVER), delivered);
        }
    }
}

/// What goes through the store is not sent to the session's worker as well.
#[test]
fn rule_18_a_worker_is_not_told_what_its_client_gets_from_the_store() {
    let mut stage = Stage::new(2);
    let stored = stage.join(A, hello("stored").lasting(1000));
    stage.subscribe(stored, "a", Q2);
    let publisher = stage.join(B, hello("publisher"));
    stage.publish(publisher, "a", "1", Q1);
    stage.settle();
    assert!(stage.told(B, kind::PUBLISH, S) && !stage.told(B, kind::PUBLISH, A));
    stage.publish(publisher, "a", "0", Q0);
    stage.settle();
    assert!(stage.told(B, kind::PUBLISH, A));
    assert_eq!(stage.heard(stored), ["a=1 q1 #1", "a=0"]);
}

/// What a session missed at QoS 0 is gone, unless the operator wants it queued. The path is the same after a
/// reconnection.
#[test]
fn rule_18_qos_0_is_queued_only_if_asked_for() {
    for queue_qos0 in [false, true] {
        let mut stage = Stage::with(2, 1000, |c| c.queue_qos0_messages = queue_qos0);
        let who = hello("stored").lasting(1000);
        let stored = stage.join(A, who);
        stage.subscribe(stored, "a", Q2);
        let publisher = stage.join(B, hello("publisher"));
        stage.leave(stored);
        stage.settle();
        stage.publish(publisher, "a", "away", Q0);
        stage.settle();
        let stored = stage.rejoin(B, who);
        stage.publish(publisher, "a", "back", Q0);
        stage.settle();
        let heard = stage.heard(stored);
        let expected: &[&str] = if queue_qos0 {
            &["a=away", "a=back"]
        } else {
            &["a=back"]
        };
        assert_eq!(heard, expected);
    }
}

/// A client need not wait for CONNACK. What it says is newer than what its session had.
#[test]
fn rule_18_a_session_that_returns_may_change_its_subscriptions_at_once() {
    let mut stage = Stage::new(2);
    let who = hello("stored").lasting(1000);
    let stored = stage.join(A, who);
    stage.subscribe(stored, "a", Q0);
    stage.subscribe(stored, "b", Q0);
    stage.leave(stored);
    stage.settle();
    let stored = stage.connect(A, who);
    stage.unsubscribe(stored, "a");
    let options = SubscriptionOptions::default();
    stage.ask_with(stored, "b", options, 7);
    let publisher = stage.join(B, hello("publisher"));
    stage.publish(publisher, "a", "1", Q0);
    stage.publish(publisher, "b", "1", Q0);
    stage.settle();
    let heard = stage.heard(stored);
    assert_eq!(
        heard,
        ["connack present", "unsuback [0]", "suback [0]", "b=1 id 7"]
    );
}

/// The worker knows what its client asked the store for, though nobody has announced it yet.
#[test]
fn rule_19_subscribe_then_publish_in_one_segment() {
    for who in [hello("x"), hello("x").lasting(1000)] {
        for qos in [Q0, Q1, Q2] {
            let mut stage = Stage::new(2);
            let client = stage.join(A, who);
            stage.ask(client, "a", qos);
            stage.publish(client, "a", "1", qos);
            stage.turn(A);
            stage.settle();
            let heard = stage.heard(client);
            let came = heard.iter().filter(|p| p.starts_with("a=1")).count();
            assert_eq!(came, 1, "{heard:?}");
            assert!(!heard.iter().any(|p| p.contains("0x10")), "{heard:?}");
        }
    }
}

/// A newer message that came live is not followed by the one that it replaced.
#[test]
fn rule_21_live_is_newer_than_what_was_retained() {
    let mut stage = Stage::new(2);
    let publisher = stage.join(B, hello("publisher"));
    stage.retain(publisher, "r", "old", Q1);
    stage.settle();
    let subscriber = stage.join(A, hello("subscriber"));
    stage.ask(subscriber, "r", Q1);
    stage.turns(&[B, S]);
    stage.turn(A);
    stage.turn(B);
    stage.turn_hearing(A, &[B]);
    // The store answers with the old one, and A does not hear it yet.
    stage.turns(&[S]);
    stage.retain(publisher, "r", "new", Q1);
    stage.turn(B);
    stage.turn_hearing(A, &[B]);
    assert_eq!(stage.heard(subscriber), ["suback [1]", "r=new q1 #1"]);
    stage.settle();
    assert_eq!(stage.heard(subscriber), [""; 0]);
}

/// One that is not retained replaces nothing.
#[test]
fn rule_21_what_is_not_retained_hides_nothing() {
    let mut stage = Stage::new(2);
    let publisher = stage.join(B, hello("publisher"));
    stage.retain(publisher, "r", "old", Q1);
    stage.settle();
    let subscriber = stage.join(A, hello("subscriber"));
    stage.ask(subscriber, "r", Q1);
    for _ in 0..5 {
        stage.turn_hearing(A, &[B]);
        stage.turn(B);
        stage.turn(S);
    }
    stage.publish(publisher, "r", "live", Q1);
    stage.turn(B);
    stage.turn_hearing(A, &[B]);
    assert_eq!(stage.heard(subscriber), ["suback [1]", "r=live q1 #1"]);
    stage.settle();
    assert_eq!(stage.heard(subscriber), ["r=old q1 #2 retain"]);
}

/// A message may come live because of another client, before anybody knows of the new subscription. What replaced it
/// went to the store alone, so the answer must bring that.
#[test]
fn rule_21_what_came_live_before_the_request_proves_nothing() {
    let mut stage = Stage::new(2);
    let publisher = stage.join(B, hello("publisher"));
    // Its worker wants QoS 0 of everything, the store QoS 1 and 2.
    let other = stage.join(A, hello("other").lasting(1000));
    stage.subscribe(other, "r", Q0);
    let subscriber = stage.join(A, hello("subscriber"));
    stage.retain(publisher, "r", "older", Q0);
    stage.retain(publisher, "r", "newer", Q1);
    stage.turn(B);
    stage.ask(subscriber, "r", Q1);
    // A reads the older one after the SUBSCRIBE; B hears of that after both.
    stage.turn_hearing(A, &[S]);
    stage.turn(B);
    stage.turn_hearing(A, &[S]);
    assert_eq!(stage.heard(subscriber), ["suback [1]"], "asked for by now");
    stage.settle();
    assert_eq!(stage.heard(subscriber), ["r=older", "r=newer q1 #1 retain"]);
}

/// The store may be ahead of the worker: then the same message comes once, live.
#[test]
fn rule_21_an_answer_waits_for_what_it_has_seen() {
    let mut stage = Stage::new(2);
    let publisher = stage.join(B, hello("publisher"));
    let subscriber = stage.join(A, hello("subscriber"));
    stage.ask(subscriber, "r", Q1);
    stage.turn(A);
    stage.turn(B);
    // The barrier has passed, the request is on its way.
    stage.turn_hearing(A, &[S]);
    stage.retain(publisher, "r", "new", Q1);
    stage.turn(B);
    stage.turns(&[S]);
    stage.turn_hearing(A, &[S]);
    assert_eq!(stage.heard(subscriber), ["suback [1]"]);
    stage.settle();
    assert_eq!(stage.heard(subscriber), ["r=new q1 #1"]);
}

/// Retained before the subscription was made: it comes with the flag, wherever the store is with reading.
#[test]
fn rule_21_what_was_accepted_before_is_sent_as_retained() {
    for who in [hello("x"), hello("x").lasting(1000)] {
        let mut stage = Stage::new(2);
        let publisher = stage.join(B, hello("publisher"));
        let subscriber = stage.join(A, who);
        stage.retain(publisher, "r", "1", Q1);
        stage.turn(B);
        assert_eq!(stage.heard(publisher), ["puback #1 0x10"]);
        stage.ask(subscriber, "r", Q1);
        for _ in 0..20 {
            stage.turn(A);
            stage.turn(B);
            // The store hears the SUBSCRIBE before the message.
            stage.turn_hearing(S, &[A]);
        }
        if who.expiry.is_some() {
            assert_eq!(stage.heard(subscriber), [""; 0]);
        }
        stage.settle();
        let mut heard = stage.heard(subscriber);
        heard.sort();
        assert_eq!(heard, ["r=1 q1 #1 retain", "suback [1]"]);
    }
}

/// QoS 0 of a stored session goes from worker to worker, what is retained comes from the store. A message that was
/// published before its worker knew of the subscription went to the store alone, and is not lost.
#[test]
fn rule_21_what_is_retained_of_qos_0_is_looked_up_late_enough() {
    let mut stage = Stage::new(2);
    let publisher = stage.join(B, hello("publisher"));
    let stored = stage.join(A, hello("stored").lasting(1000));
    stage.ask(stored, "r", Q1);
    stage.turn(A);
    stage.turn_hearing(S, &[A]);
    stage.retain(publisher, "r", "1", Q0);
    // B has heard the store, and not A.
    stage.turn_hearing(B, &[S]);
    for _ in 0..20 {
        stage.turn(A);
        stage.turn(B);
        stage.turn_hearing(S, &[A]);
        stage.world.now = stage.world.now.after_millis(2);
    }
    stage.settle();
    assert_eq!(stage.heard(stored), ["suback [1]", "r=1 retain"]);
}

/// Row "retained messages": any worker may die.
#[test]
fn retained_messages_outlive_workers() {
    let mut stage = Stage::new(2);
    let publisher = stage.join(A, hello("publisher"));
    for (topic, payload) in [("r/1", "1"), ("r/2", "2"), ("r/2", "")] {
        stage.retain(publisher, topic, payload, Q1);
    }
    stage.turn(A);
    assert_eq!(stage.heard(publisher).len(), 3);
    stage.kill(A);
    stage.kill(B);
    stage.settle();
    let subscriber = stage.join(B, hello("subscriber"));
    stage.subscribe(subscriber, "r/+", Q2);
    assert_eq!(stage.heard(subscriber), ["r/1=1 q1 #1 retain"]);
}

/// They are asked for a few at a time, and all come.
#[test]
fn many_filters_bring_what_is_retained_for_each() {
    for who in [hello("x"), hello("x").lasting(1000)] {
        let mut stage = Stage::new(2);
        let publisher = stage.join(B, hello("publisher"));
        let subscriber = stage.join(A, who);
        let count = 3 * RETAINED_REQUESTS_MAX;
        for at in 0..count {
            stage.retain(publisher, &format!("r/{at}"), "1", Q0);
        }
        stage.settle();
        for at in 0..count {
            stage.ask(subscriber, &format!("r/{at}"), Q1);
        }
        stage.settle();
        let heard = stage.heard(subscriber);
        let retained = heard.iter().filter(|p| p.ends_with("=1 retain")).count();
        assert_eq!((heard.len(), retained), (2 * count, count));
    }
}

/// Retain handling 0, 1, 2, for transient and stored sessions, once for each SUBSCRIBE.
#[test]
fn retain_handling_decides_what_a_subscribe_brings() {
    for who in [hello("x"), hello("x").lasting(1000)] {
        let mut stage = Stage::new(2);
        let publisher = stage.join(B, hello("publisher"));
        stage.retain(publisher, "r", "1", Q0);
        stage.settle();
        let subscriber = stage.join(A, who);
        let handlings = [
            (RetainHandling::DoNotSend, 0),
            (RetainHandling::SendIfNew, 0),
            (RetainHandling::Send, 1),
            (RetainHandling::Send, 1),
        ];
        for (retain_handling, times) in handlings {
            let options = SubscriptionOptions {
                qos: Q1,
                retain_handling,
                ..Default::default()
            };
            stage.ask_with(subscriber, "r", options, 0);
            stage.settle();
            let heard = stage.heard(subscriber);
            let came = heard.iter().filter(|p| *p == "r=1 retain").count();
            assert_eq!(came, times, "{retain_handling:?}: {heard:?}");
        }
        stage.unsubscribe(subscriber, "r");
        stage.settle();
        stage.heard(subscriber);
        let if_new = SubscriptionOptions {
            qos: Q1,
            retain_handling: RetainHandling::SendIfNew,
            ..Default::default()
        };
        stage.ask_with(subscriber, "r", if_new, 0);
        stage.settle();
        assert!(stage.heard(subscriber).contains(&"r=1 retain".to_owned()));
    }
}

/// One copy for a client, however many of its filters match, with all their identifiers [MQTT-3.3.4-3].
#[test]
fn overlapping_subscriptions_bring_one_copy() {
    for who in [hello("x"), hello("x").lasting(1000)] {
        let mut stage = Stage::new(2);
        let subscriber = stage.join(A, who);
        for (filter, qos, id) in [("a/+", Q0, 3), ("a/#", Q2, 0), ("a/b", Q1, 7)] {
            let options = SubscriptionOptions {
                qos,
                ..Default::default()
            };
            stage.ask_with(subscriber, filter, options, id);
        }
        stage.settle();
        stage.heard(subscriber);
        let publisher = stage.join(B, hello("publisher"));
        stage.publish(publisher, "a/b", "1", Q2);
        stage.settle();
        let heard = stage.heard(subscriber);
        let either = ["a/b=1 q2 #1 id 3 id 7", "a/b=1 q2 #1 id 7 id 3"];
        assert!(
            heard.len() == 1 && either.contains(&heard[0].as_str()),
            "{heard:?}"
        );
    }
}

/// After UNSUBACK nothing comes that is published later, and the other members are told so.
#[test]
fn unsubscribed_is_unsubscribed() {
    for who in [hello("x"), hello("x").lasting(1000)] {
        let mut stage = Stage::new(3);
        let subscriber = stage.join(A, who);
        stage.subscribe(subscriber, "a", Q1);
        stage.subscribe(subscriber, "#", Q1);
        stage.unsubscribe(subscriber, "a");
        stage.unsubscribe(subscriber, "#");
        stage.unsubscribe(subscriber, "b");
        stage.settle();
        assert_eq!(
            stage.heard(subscriber),
            ["unsuback [0]", "unsuback [0]", "unsuback [17]"]
        );
        for from in [A, B, C] {
            let publisher = stage.join(from, hello("publisher"));
            stage.publish(publisher, "a", "1", Q0);
            stage.publish(publisher, "a", "2", Q1);
            stage.settle();
            assert_eq!(stage.heard(publisher), ["puback #1 0x10"]);
        }
        assert_eq!(stage.heard(subscriber), [""; 0]);
        // It does not come back with a reconnection.
        stage.cut(subscriber);
        let (subscriber, _) = stage.enter(B, who);
        let publisher = stage.join(C, hello("publisher"));
        stage.publish(publisher, "a", "3", Q0);
        stage.settle();
        assert_eq!(stage.heard(subscriber), [""; 0]);
    }
}
