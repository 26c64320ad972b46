//! Rows of the table of promises: what is kept for a persistent session, in which order it comes again, and what is
//! dropped beyond a limit.

use mosquitto::mqtt::{SubscriptionOptions, Version};

use super::stage::{A, B, Hello, Q0, Q1, Q2, S, Stage, Words, hello, words};
use crate::world::DieAt;

const EVERYWHERE: [DieAt; 4] = [
    DieAt::AfterReading,
    DieAt::BeforeFlush,
    DieAt::AfterFlush,
    DieAt::AfterSockets,
];

/// Row "a persistent session, QoS 1/2, persistence false: a worker dies". What was in flight comes again with its
/// packet id, marked, in its order, before what is new [MQTT-4.4.0-1], [MQTT-4.6.0-1].
#[test]
fn what_was_in_flight_comes_again_in_order() {
    for kills in [false, true] {
        let mut stage = Stage::new(2);
        let who = hello("stored").lasting(1000);
        let stored = stage.join(A, who);
        stage.subscribe(stored, "a", Q2);
        let publisher = stage.join(B, hello("publisher"));
        for (payload, qos) in [("1", Q1), ("2", Q2), ("3", Q2), ("4", Q1), ("5", Q2)] {
            stage.publish(publisher, "a", payload, qos);
        }
        stage.settle();
        assert_eq!(
            stage.heard(stored),
            [
                "a=1 q1 #1",
                "a=2 q2 #2",
                "a=3 q2 #3",
                "a=4 q1 #4",
                "a=5 q2 #5"
            ]
        );
        // 1 is done, 3 is received and not completed.
        stage.puback(stored, 1);
        stage.pubrec(stored, 3);
        stage.settle();
        assert_eq!(stage.heard(stored), ["pubrel #3"]);
        if kills {
            stage.kill(A);
        } else {
            stage.cut(stored);
        }
        stage.settle();
        stage.publish(publisher, "a", "6", Q1);
        stage.settle();
        let stored = stage.rejoin(B, who);
        stage.publish(publisher, "a", "7", Q1);
        stage.settle();
        assert_eq!(
            stage.heard(stored),
            [
                "pubrel #3",
                "a=2 q2 #2 dup",
                "a=4 q1 #4 dup",
                "a=5 q2 #5 dup",
                "a=6 q1 #6",
                "a=7 q1 #7"
            ],
            "killed: {kills}"
        );
        stage.pubcomp(stored, 3);
        stage.settle();
        stage.cut(stored);
        let stored = stage.rejoin(A, who);
        assert_eq!(stage.heard(stored)[0], "a=2 q2 #2 dup");
    }
}

/// The same row, wherever in its turn the publisher's or the subscriber's worker dies: accepted is kept.
#[test]
fn accepted_messages_of_a_stored_session_outlive_any_worker() {
    for at in EVERYWHERE {
        for dies in [A, B] {
            let mut stage = Stage::new(2);
            let who = hello("stored").lasting(1000);
            let stored = stage.join(A, who);
            stage.subscribe(stored, "a", Q1);
            let publisher = stage.join(B, hello("publisher"));
            stage.publish(publisher, "a", "1", Q1);
            if dies == B {
                stage.dies_at(B, at);
            } else {
                stage.turn(B);
                stage.turn(0);
                stage.dies_at(A, at);
            }
            stage.settle();
            let accepted = stage.heard(publisher) == ["puback #1"];
            stage.cut(stored);
            let stored = stage.rejoin(B, who);
            let heard = stage.heard(stored);
            assert!(heard.len() <= 1);
            assert!(
                !accepted || heard[0].starts_with("a=1 q1 #1"),
                "{at:?} of {dies}: {heard:?}"
            );
        }
    }
}

/// What came after the worker had died was sent to nobody, so it is no repetition.
#[test]
fn what_comes_after_a_death_is_not_marked_as_sent() {
    let mut stage = Stage::new(2);
    let who = hello("stored").lasting(1000);
    let stored = stage.join(A, who);
    stage.subscribe(stored, "a", Q1);
    let publisher = stage.join(B, hello("publisher"));
    stage.kill(A);
    stage.turn(S);
    stage.publish(publisher, "a", "1", Q1);
    stage.publish(publisher, "a", "0", Q0);
    stage.settle();
    let stored = stage.rejoin(B, who);
    assert_eq!(stage.heard(stored), ["a=1 q1 #1"]);
}

/// Messages that came while nobody was there wait; the session follows its client to any worker.
#[test]
fn a_session_follows_its_client() {
    let mut stage = Stage::new(3);
    let who = hello("stored").lasting(1000);
    let stored = stage.join(A, who);
    stage.subscribe(stored, "a/#", Q1);
    stage.leave(stored);
    stage.settle();
    let publisher = stage.join(A, hello("publisher"));
    for payload in ["1", "2", "3"] {
        stage.publish(publisher, "a/b", payload, Q2);
    }
    stage.settle();
    for slot in [B, 3, A] {
        let stored = stage.rejoin(slot, who);
        let heard = stage.heard(stored);
        let payloads: Vec<_> = heard.iter().map(|p| p.split(' ').next().unwrap()).collect();
        assert_eq!(payloads, ["a/b=1", "a/b=2", "a/b=3"], "{heard:?}");
        stage.cut(stored);
    }
}

/// Row "transient": the session ends with its connection.
#[test]
fn a_transient_session_leaves_nothing_behind() {
    let mut stage = Stage::new(2);
    for version in [Version::V31, Version::V311, Version::V5] {
        let who = Hello {
            version,
            ..hello("x")
        };
        let client = stage.join(A, who);
        stage.subscribe(client, "a", Q1);
        stage.cut(client);
        stage.settle();
        let publisher = stage.join(B, hello("publisher"));
        stage.publish(publisher, "a", "1", Q1);
        stage.settle();
        assert_eq!(stage.heard(publisher), ["puback #1 0x10"]);
        let lasting = who.lasting(1000);
        let client = stage.join(A, lasting);
        assert_eq!(stage.heard(client), [""; 0]);
        // And a clean start ends a stored one.
        stage.subscribe(client, "a", Q1);
        stage.leave(client);
        let client = stage.join(B, who);
        stage.leave(client);
        stage.settle();
        stage.publish(publisher, "a", "2", Q1);
        stage.settle();
        assert_eq!(stage.heard(publisher), ["puback #2 0x10"]);
    }
}

/// No more than the client takes at once, or than the operator allows; in order; for both kinds of session.
#[test]
fn the_window_is_kept() {
    for (asked, allowed, fits) in [(Some(2), 20, 2), (None, 3, 3), (Some(9), 1, 1)] {
        for who in [hello("x"), hello("x").lasting(1000)] {
            let mut stage = Stage::with(2, 1000, |c| c.max_inflight_messages = allowed);
            let who = Hello {
                receive_maximum: asked,
                ..who
            };
            let subscriber = stage.join(A, who);
            stage.subscribe(subscriber, "a", Q2);
            let publisher = stage.join(
                B,
                Hello {
                    version: Version::V311,
                    ..hello("publisher")
                },
            );
            for (payload, qos) in [("1", Q2), ("2", Q1), ("3", Q2), ("4", Q1), ("5", Q2)] {
                stage.publish(publisher, "a", payload, qos);
            }
            stage.publish(publisher, "a", "0", Q0);
            stage.settle();
            let mut came = stage.heard(subscriber);
            assert!(came.contains(&"a=0".to_owned()), "QoS 0 needs no window");
            came.retain(|p| p != "a=0");
            assert_eq!(came.len(), fits);
            for at in 1..=5 {
                let last = came[at - 1].clone();
                assert!(last.starts_with(&format!("a={at} ")), "{came:?}");
                let id = u16::try_from(at).unwrap();
                if last.contains("q1") {
                    stage.puback(subscriber, id);
                } else {
                    stage.pubrec(subscriber, id);
                    stage.settle();
                    assert_eq!(stage.heard(subscriber), [format!("pubrel #{id}")]);
                    stage.pubcomp(subscriber, id);
                }
                stage.settle();
                came.extend(stage.heard(subscriber));
                assert_eq!(came.len(), (at + fits).min(5), "one goes, one comes");
            }
        }
    }
}

/// A packet that is too large for a client is not sent to it [MQTT-3.1.2-24]; the others are, and the window does not
/// fill up with what never goes out.
#[test]
fn the_maximum_packet_size_is_kept() {
    for who in [hello("x"), hello("x").lasting(1000)] {
        let mut stage = Stage::new(2);
        let who = Hello {
            packet_bytes_max: Some(50),
            receive_maximum: Some(1),
            ..who
        };
        let subscriber = stage.join(A, who);
        stage.subscribe(subscriber, "a", Q2);
        let publisher = stage.join(B, hello("publisher"));
        let large = "x".repeat(60);
        for qos in [Q0, Q1, Q2] {
            stage.publish(publisher, "a", &large, qos);
        }
        stage.publish(publisher, "a", "small", Q1);
        stage.settle();
        let heard = stage.heard(subscriber);
        assert!(
            heard.len() == 1 && heard[0].starts_with("a=small q1"),
            "{heard:?}"
        );
    }
}

/// It waits no longer than it lives, and its reader is told what is left [MQTT-3.3.2-5], [MQTT-3.3.2-6].
#[test]
fn a_message_expires_where_it_waits() {
    let mut stage = Stage::new(2);
    let who = hello("stored").lasting(1000);
    let stored = stage.join(A, who);
    stage.subscribe(stored, "a", Q1);
    stage.leave(stored);
    let publisher = stage.join(B, hello("publisher"));
    for (payload, expiry) in [("short", Some(5)), ("long", Some(100)), ("ever", None)] {
        let what = words("a", payload, Q1);
        stage.say(publisher, Words { expiry, ..what });
        let (retain, topic) = (true, if expiry == Some(5) { "r/1" } else { "r/2" });
        stage.say(
            publisher,
            Words {
                expiry,
                retain,
                topic,
                ..what
            },
        );
    }
    stage.settle();
    stage.pass(10);
    let stored = stage.rejoin(B, who);
    let heard = stage.heard(stored);
    assert_eq!(heard, ["a=long q1 #1 90 s", "a=ever q1 #2"]);
    let late = stage.join(A, hello("late"));
    stage.subscribe(late, "r/+", Q0);
    assert_eq!(stage.heard(late), ["r/2=ever retain"]);

    // In the window of a transient session.
    let one = Hello {
        receive_maximum: Some(1),
        ..hello("one")
    };
    let one = stage.join(A, one);
    stage.subscribe(one, "b", Q1);
    stage.publish(publisher, "b", "1", Q1);
    for (payload, expiry) in [("2", 5), ("3", 100)] {
        let expiry = Some(expiry);
        stage.say(
            publisher,
            Words {
                expiry,
                ..words("b", payload, Q1)
            },
        );
    }
    stage.pass(10);
    assert_eq!(stage.heard(one), ["b=1 q1 #1"]);
    stage.puback(one, 1);
    stage.settle();
    assert_eq!(stage.heard(one), ["b=3 q1 #2 90 s"]);
}

/// Row "beyond a configured limit": the newest are dropped, logged once, and once again after there was room.
#[test]
fn a_full_queue_drops_the_newest_and_says_so_once() {
    for (who, leaves) in [
        (hello("x"), false),
        (hello("x").lasting(1000), false),
        (hello("x").lasting(1000), true),
    ] {
        let mut stage = Stage::with(2, 1000, |c| {
            c.max_inflight_messages = 1;
            c.max_queued_messages = 2;
        });
        let subscriber = stage.join(A, who);
        stage.subscribe(subscriber, "a", Q1);
        let publisher = stage.join(B, hello("publisher"));
        if leaves {
            stage.leave(subscriber);
            stage.settle();
        }
        stage.log();
        for payload in ["1", "2", "3", "4", "5", "6"] {
            stage.publish(publisher, "a", payload, Q1);
        }
        stage.settle();
        let dropping = "Outgoing messages are being dropped for client x.";
        assert_eq!(stage.log().matches(dropping).count(), 1);
        let accepted = stage.heard(publisher);
        assert_eq!(accepted.len(), 6, "the publisher is not told");
        let subscriber = if leaves {
            stage.rejoin(A, who)
        } else {
            subscriber
        };
        let mut came = Vec::new();
        for id in 1..=6 {
            came.extend(stage.heard(subscriber));
            stage.puback(subscriber, id);
            stage.settle();
        }
        let expected: &[&str] = if leaves {
            &["a=1 q1 #1", "a=2 q1 #2"]
        } else {
            &["a=1 q1 #1", "a=2 q1 #2", "a=3 q1 #3"]
        };
        assert_eq!(came, expected);
        for payload in ["7", "8", "9", "10"] {
            stage.publish(publisher, "a", payload, Q1);
        }
        stage.settle();
        assert_eq!(stage.log().matches(dropping).count(), 1, "another episode");
    }
}

/// A client that takes nothing loses what is of QoS 0, and nothing else; nobody else suffers.
#[test]
fn a_client_that_does_not_read_is_sent_no_more_qos_0() {
    for who in [hello("x"), hello("x").lasting(1000)] {
        let mut stage = Stage::new(2);
        let slow = stage.join(A, who);
        stage.subscribe(slow, "a", Q1);
        let other = stage.join(A, hello("other"));
        stage.subscribe(other, "a", Q1);
        let publisher = stage.join(B, hello("publisher"));
        stage.take_nothing(slow, true);
        stage.log();
        let payload = "x".repeat(500_000);
        let count = mosquitto::config::Config::default_local().max_output_bytes as usize
            / payload.len()
            + 5;
        for _ in 0..count {
            stage.publish(publisher, "a", &payload, Q0);
            stage.settle();
        }
        for payload in ["1", "2"] {
            stage.publish(publisher, "a", payload, Q1);
        }
        stage.settle();
        let log = stage.log();
        assert_eq!(
            log.matches("Outgoing messages are being dropped").count(),
            1
        );
        assert_eq!(stage.heard(other).len(), count + 2);
        stage.take_nothing(slow, false);
        stage.settle();
        let heard = stage.heard(slow);
        assert!(heard.len() < count && heard.len() > 5, "{}", heard.len());
        let last: Vec<_> = heard.iter().filter(|p| p.contains('#')).collect();
        assert_eq!(last, ["a=1 q1 #1", "a=2 q1 #2"]);
    }
}

/// The retain flag as published only for who asked for it [MQTT-3.3.1-12], [MQTT-3.3.1-13].
#[test]
fn retain_as_published_keeps_the_flag() {
    for who in [hello("x"), hello("x").lasting(1000)] {
        for (retain_as_published, expected) in [(false, "r=1 q1 #1"), (true, "r=1 q1 #1 retain")] {
            let mut stage = Stage::new(2);
            let subscriber = stage.join(A, who);
            let options = SubscriptionOptions {
                qos: Q1,
                retain_as_published,
                ..Default::default()
            };
            stage.ask_with(subscriber, "r", options, 0);
            stage.settle();
            stage.heard(subscriber);
            let publisher = stage.join(B, hello("publisher"));
            stage.retain(publisher, "r", "1", Q1);
            stage.settle();
            assert_eq!(stage.heard(subscriber), [expected]);
        }
    }
}
