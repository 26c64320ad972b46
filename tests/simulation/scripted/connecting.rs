//! Client ids: claims, takeovers and what a connection may ask for. Rules 22 and 24.

use mosquitto::mqtt::{SubscriptionOptions, Version};

use super::stage::{A, B, C, Hello, Q0, Q1, S, Stage, Testament, hello};

/// At most one claim waits for an id.
#[test]
fn rule_24_the_newest_claim_wins() {
    let mut stage = Stage::new(3);
    let first = stage.join(A, hello("x"));
    let second = stage.connect(B, hello("x"));
    stage.turns(&[B, S]);
    let third = stage.connect(C, hello("x"));
    // A has not heard yet that its connection is to go.
    stage.turns(&[B, C, S]);
    // CONNACK has no code for that, and DISCONNECT may not come before it.
    assert_eq!(stage.heard(second), ["connack 0x80"]);
    assert!(stage.is_closed(second));
    assert_eq!(stage.heard(third), [""; 0]);
    assert_eq!(stage.heard(first), [""; 0]);
    stage.settle();
    assert_eq!(stage.heard(first), ["disconnect 0x8e"]);
    assert_eq!(stage.heard(third), ["connack"]);
    assert!(stage.is_closed(first));
}

/// A claim is granted by the release or the holder's death, never by a timer; without `connect_timeout` it waits on.
#[test]
fn rule_24_a_claim_waits_for_its_holder_and_not_for_time() {
    for dies in [true, false] {
        let mut stage = Stage::with(2, 1000, |config| config.connect_timeout = u16::MAX);
        let holder = stage.join(A, hello("x"));
        let heir = stage.connect(B, hello("x"));
        for _ in 0..20 {
            stage.world.now = stage.world.now.after_secs(100);
            stage.turns(&[B, S]);
        }
        assert_eq!(stage.heard(heir), [""; 0]);
        assert!(!stage.is_closed(heir));
        if dies {
            stage.kill(A);
        }
        stage.settle();
        assert_eq!(stage.heard(heir), ["connack"]);
        assert!(stage.is_closed(holder));
    }
}

/// Its connection is given up in time, and then it is nobody's.
#[test]
fn rule_24_a_claim_that_was_given_up_is_not_granted() {
    let mut stage = Stage::new(2);
    let holder = stage.join(A, hello("x"));
    let heir = stage.connect(B, hello("x"));
    stage.turns(&[B, S]);
    stage.world.now = stage.world.now.after_secs(61);
    stage.turns(&[B, S]);
    assert_eq!(stage.heard(heir), ["connack 0x88"]);
    stage.settle();
    assert!(stage.is_closed(holder) && stage.is_closed(heir));
    let again = stage.join(B, hello("x"));
    assert!(!stage.is_closed(again));
}

/// Who was never told that he is connected has no will yet.
#[test]
fn rule_24_the_will_arms_with_connack() {
    let mut stage = Stage::new(2);
    let subscriber = stage.join(B, hello("subscriber"));
    stage.subscribe(subscriber, "will", Q1);
    // The grant is on its way when the worker dies.
    let client = stage.connect(A, hello("x").will("will", "1"));
    stage.turn(A);
    stage.turn(S);
    stage.kill(A);
    stage.settle();
    assert_eq!(stage.heard(client), [""; 0]);
    assert_eq!(stage.heard(subscriber), [""; 0]);
    // A claim that another one supersedes.
    let holder = stage.join(A, hello("x"));
    stage.connect(B, hello("x").will("will", "2"));
    stage.turns(&[B, S]);
    let last = stage.connect(B, hello("x"));
    stage.settle();
    assert!(stage.is_closed(holder));
    assert_eq!(stage.heard(last), ["connack"]);
    assert_eq!(stage.heard(subscriber), [""; 0]);
    // CONNACK is not even written, but the outbox says that it will be.
    stage.connect(A, hello("y").will("will", "3"));
    stage.turn(A);
    stage.turn(S);
    stage.dies_at(A, crate::world::DieAt::AfterFlush);
    stage.settle();
    assert_eq!(stage.heard(subscriber), ["will=3 q1 #1"]);
}

/// A server that has not sent CONNACK says nothing else. Here it waits for its record to be covered.
#[test]
fn rule_24_no_disconnect_comes_before_connack() {
    let mut stage = Stage::with(2, 3, |_| {});
    let subscriber = stage.join(B, hello("subscriber"));
    stage.subscribe(subscriber, "a", Q0);
    let publisher = stage.join(A, hello("publisher"));
    let old = stage.connect(A, hello("x").will("will", "dead"));
    stage.turn(A);
    stage.turn(S);
    // B reads nothing of A, whose outbox is full by the time it hears of the grant.
    for _ in 0..4 {
        stage.publish(publisher, "a", "x", Q0);
    }
    stage.turn_hearing(A, &[]);
    stage.turn_hearing(A, &[S]);
    stage.connect(B, hello("x"));
    for _ in 0..5 {
        stage.turn_hearing(B, &[S]);
        stage.turn(S);
    }
    stage.turn_hearing(A, &[S]);
    assert!(stage.is_closed(old));
    assert_eq!(stage.heard(old), [""; 0]);
}

/// What arrived before the takeover is still the client's word.
#[test]
fn rule_24_what_the_old_connection_said_is_read_first() {
    let mut stage = Stage::new(2);
    let subscriber = stage.join(B, hello("subscriber"));
    stage.subscribe(subscriber, "#", Q1);
    let old = stage.join(A, hello("x"));
    let new = stage.connect(B, hello("x"));
    stage.turns(&[B, S]);
    stage.publish(old, "a", "1", Q1);
    stage.publish(new, "a", "2", Q1);
    stage.settle();
    assert_eq!(stage.heard(old), ["puback #1", "disconnect 0x8e"]);
    assert_eq!(stage.heard(subscriber), ["a=1 q1 #1", "a=2 q1 #2"]);
}

/// [MQTT-3.1.4-3]: the will of the connection that is replaced is published, unless its session goes on and its
/// delay has not passed.
#[test]
fn rule_24_a_takeover_publishes_the_will_as_the_standard_says() {
    for to in [A, B] {
        for (delay, clean, comes) in [
            (0, false, true),
            (0, true, true),
            (100, false, false),
            (100, true, true),
        ] {
            let mut stage = Stage::new(2);
            let subscriber = stage.join(B, hello("subscriber"));
            stage.subscribe(subscriber, "will", Q1);
            let who = hello("x").lasting(1000);
            let old = stage.join(A, who.will_after(delay, "will", "dead"));
            let (new, present) = stage.enter(to, Hello { clean, ..who });
            assert_eq!(present, !clean);
            assert_eq!(stage.heard(old), ["disconnect 0x8e"]);
            let heard = stage.heard(subscriber);
            let expected: &[&str] = if comes { &["will=dead q1 #1"] } else { &[] };
            assert_eq!(heard, expected, "delay {delay}, clean {clean}, to {to}");
            stage.pass(200);
            assert!(!stage.is_closed(new));
            assert_eq!(stage.heard(subscriber), [""; 0]);
        }
    }
}

/// QoS 0 goes to an attached session from worker to worker. What its old connection was sent is not sent to the new
/// one again, by a worker that reads later.
#[test]
fn rule_12_a_session_that_moves_gets_a_message_of_qos_0_once() {
    let mut stage = Stage::new(3);
    let who = hello("x").lasting(1000);
    let old = stage.join(A, who);
    stage.subscribe(old, "a", Q0);
    let other = stage.join(B, hello("other"));
    stage.subscribe(other, "a", Q0);
    let publisher = stage.join(C, hello("publisher"));
    stage.publish(publisher, "a", "1", Q0);
    stage.turn(C);
    stage.turn(A);
    assert_eq!(stage.heard(old), ["a=1"]);
    stage.cut(old);
    let new = stage.connect(B, who);
    for _ in 0..20 {
        for slot in [A, C, S] {
            stage.turn(slot);
        }
        stage.turn_hearing(B, &[A, S]);
        stage.world.now = stage.world.now.after_millis(2);
    }
    assert_eq!(stage.heard(new), [""; 0], "B has not read what C says");
    stage.settle();
    assert_eq!(stage.heard(new), ["connack present"]);
    assert_eq!(stage.heard(other), ["a=1"]);
}

/// The message names its publisher's client id, not his connection.
#[test]
fn rule_22_no_local_holds_across_a_reconnection() {
    let mut stage = Stage::new(3);
    let who = hello("x").lasting(1000);
    let first = stage.join(A, who);
    let no_local = SubscriptionOptions {
        qos: Q1,
        no_local: true,
        ..Default::default()
    };
    stage.ask_with(first, "a", no_local, 0);
    stage.settle();
    stage.publish(first, "a", "own", Q1);
    stage.turn(A);
    assert_eq!(stage.heard(first), ["suback [1]", "puback #2"]);
    stage.cut(first);
    let second = stage.rejoin(B, who);
    let other = stage.join(C, hello("other"));
    stage.publish(second, "a", "own", Q1);
    stage.publish(other, "a", "other", Q1);
    stage.settle();
    assert_eq!(stage.heard(second), ["puback #1", "a=other q1 #1"]);
    // For a transient subscriber too, and for what is retained.
    let client = stage.join(A, hello("y"));
    stage.retain(client, "r", "own", Q1);
    stage.settle();
    stage.ask_with(client, "r", no_local, 0);
    stage.settle();
    stage.retain(client, "r", "own again", Q1);
    stage.settle();
    let heard = stage.heard(client);
    assert_eq!(heard, ["puback #1 0x10", "suback [1]", "puback #3 0x10"]);
}

#[test]
fn an_empty_client_id_is_assigned_or_refused() {
    let mut stage = Stage::new(2);
    let old = Hello {
        version: Version::V311,
        ..hello("")
    };
    stage.join(A, old);
    let lasting = stage.connect(
        A,
        Hello {
            clean: false,
            ..old
        },
    );
    stage.settle();
    assert_eq!(stage.heard(lasting), ["connack 0x02"]);
    assert!(stage.is_closed(lasting));
    let one = stage.join(A, hello(""));
    let another = stage.join(B, hello(""));
    assert!(!stage.is_closed(one) && !stage.is_closed(another));
}

/// Whoever sends anything before CONNECT, or CONNECT twice, is closed; nobody else notices.
#[test]
fn connect_is_first_and_once() {
    let mut stage = Stage::new(1);
    let stranger = stage.dial(A, Version::V5);
    stage.publish(stranger, "a", "1", Q1);
    let will = Testament {
        topic: "will",
        payload: "dead",
        qos: Q1,
        retain: false,
        delay: 0,
    };
    let who = Hello {
        will: Some(will),
        ..hello("twice")
    };
    let twice = stage.join(A, who);
    let subscriber = stage.join(A, hello("subscriber"));
    stage.subscribe(subscriber, "will", Q1);
    stage.write(
        twice,
        &[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0, 0, 0],
    );
    stage.settle();
    assert!(stage.is_closed(stranger) && stage.is_closed(twice));
    assert_eq!(stage.heard(twice), ["disconnect 0x82"]);
    assert_eq!(stage.heard(subscriber), ["will=dead q1 #1"]);
}
