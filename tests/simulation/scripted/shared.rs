//! Shared subscriptions: rules 17, 19 and 23, and what becomes of a group when its members, or the store, go.

use super::stage::{A, B, C, Q0, Q1, Q2, S, Stage, hello};

const GROUP: &str = "$share/g/t";

/// Two workers, each with a transient member, and a publisher on a third.
fn two_members(qos: mosquitto::mqtt::Qos) -> (Stage, usize, usize, usize) {
    let mut stage = Stage::new(3);
    let a = stage.join(A, hello("a"));
    stage.subscribe(a, GROUP, qos);
    let b = stage.join(B, hello("b"));
    stage.subscribe(b, GROUP, qos);
    let publisher = stage.join(C, hello("publisher"));
    (stage, a, b, publisher)
}

fn publish_all(stage: &mut Stage, publisher: usize, payloads: &[&str], qos: mosquitto::mqtt::Qos) {
    for payload in payloads {
        stage.publish(publisher, "t", payload, qos);
    }
    stage.settle();
    stage.heard(publisher);
}

#[test]
fn rule_17_suback_waits_until_every_worker_knows_of_the_group() {
    let mut stage = Stage::new(2);
    let member = stage.join(A, hello("member"));
    let publisher = stage.join(B, hello("publisher"));
    stage.ask(member, GROUP, Q1);
    for _ in 0..10 {
        stage.turns(&[A, S]);
        // B does not hear the store.
        stage.turn_hearing(B, &[A]);
    }
    assert_eq!(stage.heard(member), [""; 0]);
    stage.settle();
    assert_eq!(stage.heard(member), ["suback [1]"]);
    stage.publish(publisher, "t", "1", Q1);
    stage.settle();
    assert_eq!(stage.heard(publisher), ["puback #1"]);
    assert_eq!(stage.heard(member), ["t=1 q1 #1"]);
}

#[test]
fn rule_19_a_publish_behind_a_shared_subscribe_comes_at_every_qos() {
    for lasting in [false, true] {
        for (qos, came) in [(Q0, "t=1"), (Q1, "t=1 q1 #1"), (Q2, "t=1 q2 #1")] {
            let mut stage = Stage::new(2);
            let who = hello("member");
            let member = stage.join(A, if lasting { who.lasting(1000) } else { who });
            stage.ask(member, GROUP, Q2);
            stage.publish(member, "t", "1", qos);
            stage.settle();
            let heard = stage.heard(member);
            assert!(heard.iter().any(|packet| packet == came), "{heard:?}");
        }
    }
}

#[test]
fn rule_23_members_take_turns_wherever_they_are() {
    let (mut stage, a, b, publisher) = two_members(Q1);
    publish_all(&mut stage, publisher, &["1", "2", "3", "4"], Q1);
    assert_eq!(stage.heard(a), ["t=1 q1 #1", "t=3 q1 #2"]);
    assert_eq!(stage.heard(b), ["t=2 q1 #1", "t=4 q1 #2"]);
}

#[test]
fn rule_23_what_a_killed_workers_member_had_not_acknowledged_goes_to_another() {
    let (mut stage, a, b, publisher) = two_members(Q1);
    publish_all(&mut stage, publisher, &["1", "2", "3", "4", "5"], Q1);
    stage.heard(b);
    // The worker has read this one, and the store has not when it dies.
    stage.puback(a, 1);
    stage.turn(A);
    stage.kill(A);
    stage.settle();
    assert_eq!(stage.heard(b), ["t=3 q1 #3", "t=5 q1 #4"]);
}

#[test]
fn rule_23_a_killed_workers_stored_member_gives_back_too_and_keeps_its_qos_2() {
    let mut stage = Stage::new(2);
    let stored = stage.join(A, hello("stored").lasting(1000));
    stage.subscribe(stored, GROUP, Q2);
    publish_all(&mut stage, stored, &["1"], Q1);
    publish_all(&mut stage, stored, &["2"], Q2);
    let other = stage.join(B, hello("other"));
    stage.subscribe(other, GROUP, Q2);
    stage.kill(A);
    stage.settle();
    assert_eq!(stage.heard(other), ["t=1 q1 #1"]);
    let stored = stage.rejoin(B, hello("stored").lasting(1000));
    assert_eq!(stage.heard(stored), ["t=2 q2 #2 dup"]);
}

#[test]
fn rule_23_what_the_leavers_worker_has_not_read_goes_to_another_even_at_qos_2() {
    let (mut stage, a, b, publisher) = two_members(Q2);
    stage.publish(publisher, "t", "1", Q2);
    stage.turn(C);
    stage.turn(S);
    // It is given to a. Its worker sees a leave before it reads that.
    stage.leave(a);
    stage.turn_hearing(A, &[B, C]);
    stage.settle();
    assert_eq!(stage.heard(b), ["t=1 q2 #1"]);
}

#[test]
fn rule_23_what_waits_behind_a_leavers_window_goes_to_another_even_at_qos_2() {
    let mut stage = Stage::new(2);
    let mut narrow = hello("narrow");
    narrow.receive_maximum = Some(1);
    let narrow = stage.join(A, narrow);
    stage.subscribe(narrow, GROUP, Q2);
    stage.subscribe(narrow, "plain", Q2);
    let publisher = stage.join(B, hello("publisher"));
    // An ordinary message takes the window that the store knows nothing of.
    stage.publish(publisher, "plain", "0", Q2);
    stage.settle();
    publish_all(&mut stage, publisher, &["1"], Q2);
    assert_eq!(stage.heard(narrow), ["plain=0 q2 #1"]);
    let other = stage.join(B, hello("other"));
    stage.subscribe(other, GROUP, Q2);
    stage.leave(narrow);
    stage.settle();
    assert_eq!(stage.heard(other), ["t=1 q2 #1"]);
}

#[test]
fn rule_23_qos_2_on_the_wire_goes_to_nobody_else() {
    for killed in [false, true] {
        let (mut stage, a, b, publisher) = two_members(Q2);
        publish_all(&mut stage, publisher, &["1"], Q2);
        assert_eq!(stage.heard(a), ["t=1 q2 #1"]);
        if killed {
            stage.kill(A);
        } else {
            stage.leave(a);
        }
        stage.settle();
        assert_eq!(stage.heard(b), [""; 0]);
    }
}

#[test]
fn rule_23_with_nobody_there_a_group_waits_for_its_stored_members() {
    let mut stage = Stage::new(2);
    let stored = stage.join(A, hello("stored").lasting(1000));
    stage.subscribe(stored, GROUP, Q1);
    let transient = stage.join(B, hello("transient"));
    stage.subscribe(transient, GROUP, Q1);
    stage.leave(stored);
    publish_all(&mut stage, transient, &["1", "2"], Q1);
    stage.heard(transient);
    stage.kill(B);
    stage.settle();
    let stored = stage.rejoin(A, hello("stored").lasting(1000));
    assert_eq!(stage.heard(stored), ["t=1 q1 #1", "t=2 q1 #2"]);
}

#[test]
fn a_message_that_expires_behind_the_window_makes_room() {
    let mut stage = Stage::new(2);
    let mut narrow = hello("narrow");
    narrow.receive_maximum = Some(1);
    let narrow = stage.join(A, narrow);
    stage.subscribe(narrow, GROUP, Q1);
    stage.subscribe(narrow, "plain", Q1);
    let publisher = stage.join(B, hello("publisher"));
    stage.publish(publisher, "plain", "0", Q1);
    stage.settle();
    let mut brief = super::stage::words("t", "1", Q1);
    brief.expiry = Some(1);
    stage.say(publisher, brief);
    stage.pass(2);
    publish_all(&mut stage, publisher, &["2"], Q1);
    assert_eq!(stage.heard(narrow), ["plain=0 q1 #1"]);
    stage.puback(narrow, 1);
    stage.settle();
    assert_eq!(stage.heard(narrow), ["t=2 q1 #2"]);
}

#[test]
fn a_message_that_is_too_large_for_its_member_makes_room() {
    let mut stage = Stage::new(2);
    let mut small = hello("small");
    small.receive_maximum = Some(1);
    small.packet_bytes_max = Some(50);
    let small = stage.join(A, small);
    stage.subscribe(small, GROUP, Q1);
    let publisher = stage.join(B, hello("publisher"));
    let large = "x".repeat(100);
    publish_all(&mut stage, publisher, &[&large, "2"], Q1);
    assert_eq!(stage.heard(small), ["t=2 q1 #1"]);
}

#[test]
fn a_member_that_takes_its_session_elsewhere_gets_each_message_once() {
    let mut stage = Stage::new(3);
    let session = hello("mover").lasting(1000);
    let old = stage.join(A, session);
    stage.subscribe(old, GROUP, Q1);
    let publisher = stage.join(C, hello("publisher"));
    publish_all(&mut stage, publisher, &["1", "2"], Q1);
    stage.heard(old);
    stage.puback(old, 1);
    let new = stage.rejoin(B, session);
    assert_eq!(stage.heard(new), ["t=2 q1 #3"]);
    assert!(stage.is_closed(old));
    publish_all(&mut stage, publisher, &["3"], Q1);
    assert_eq!(stage.heard(new), ["t=3 q1 #4"]);
}

#[test]
fn rule_09_groups_start_over_with_the_store() {
    let (mut stage, a, b, _) = two_members(Q1);
    stage.kill(S);
    stage.settle();
    assert!(stage.is_closed(a) && stage.is_closed(b));
    let a = stage.join(A, hello("a"));
    let publisher = stage.join(B, hello("publisher"));
    stage.publish(publisher, "t", "1", Q1);
    stage.settle();
    assert_eq!(
        stage.heard(publisher),
        ["puback #1 0x10"],
        "no group is left"
    );
    stage.subscribe(a, GROUP, Q1);
    publish_all(&mut stage, publisher, &["2"], Q1);
    assert_eq!(stage.heard(a), ["t=2 q1 #1"]);
}

#[test]
fn rule_08_a_full_outbox_of_the_store_stops_no_group_for_good() {
    let mut stage = Stage::with(2, 4, |_| {});
    let member = stage.join(A, hello("member"));
    stage.subscribe(member, GROUP, Q1);
    let publisher = stage.join(B, hello("publisher"));
    let payloads: Vec<String> = (0..15).map(|n| n.to_string()).collect();
    for payload in &payloads {
        stage.publish(publisher, "t", payload, Q1);
    }
    for _ in 0..10 {
        stage.turns(&[B, S]);
    }
    stage.settle();
    let expected: Vec<String> = (0..15).map(|n| format!("t={n} q1 #{}", n + 1)).collect();
    assert_eq!(stage.heard(member), expected);
}
