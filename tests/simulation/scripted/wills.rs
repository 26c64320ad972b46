//! Wills and their delays; sessions and their expiry. Row "the will of any client" of the promises.

use super::stage::{A, B, Hello, Q1, S, Stage, Testament, hello};

/// A subscriber to everything on B, at QoS 1.
fn with_observer() -> (Stage, usize) {
    let mut stage = Stage::new(2);
    let observer = stage.join(B, hello("observer"));
    stage.subscribe(observer, "#", Q1);
    (stage, observer)
}

#[test]
fn disconnect_removes_the_will_and_disconnect_0x04_does_not() {
    for (code, expected) in [(0, &[][..]), (4, &["will=dead q1 #1"][..])] {
        let (mut stage, observer) = with_observer();
        let client = stage.join(A, hello("client").will("will", "dead"));
        stage.leave_with(client, code, None);
        stage.settle();
        assert_eq!(stage.heard(observer), expected);
        stage.kill(A);
        stage.pass(1000);
        assert_eq!(stage.heard(observer), [""; 0]);
    }
}

/// [MQTT-3.1.3-9]
#[test]
fn a_delayed_will_is_cancelled_when_the_session_goes_on_in_time() {
    for kills in [false, true] {
        let (mut stage, observer) = with_observer();
        let who = hello("client").lasting(1000);
        let client = stage.join(A, who.will_after(10, "will", "1"));
        if kills {
            stage.kill(A);
        } else {
            stage.cut(client);
        }
        stage.pass(9);
        let client = stage.rejoin(B, who.will_after(10, "will", "2"));
        stage.pass(100);
        assert_eq!(stage.heard(observer), [""; 0]);
        stage.cut(client);
        stage.pass(9);
        assert_eq!(stage.heard(observer), [""; 0]);
        stage.pass(2);
        assert_eq!(stage.heard(observer), ["will=2 q1 #1"]);
        stage.pass(1000);
        assert_eq!(stage.heard(observer), [""; 0]);
    }
}

/// The delay or the end of the session, whichever comes first [MQTT-3.1.2-8].
#[test]
fn a_delayed_will_comes_when_the_session_ends() {
    // The session expires.
    let (mut stage, observer) = with_observer();
    let who = hello("client").lasting(5).will_after(100, "will", "dead");
    let client = stage.join(A, who);
    stage.cut(client);
    stage.pass(4);
    assert_eq!(stage.heard(observer), [""; 0]);
    stage.pass(2);
    assert_eq!(stage.heard(observer), ["will=dead q1 #1"]);
    // There is no session but the connection.
    let client = stage.join(A, hello("client").will_after(100, "will", "dead"));
    stage.cut(client);
    stage.settle();
    assert_eq!(stage.heard(observer), ["will=dead q1 #2"]);
    // A clean start ends it.
    let who = hello("client").lasting(1000);
    let client = stage.join(A, who.will_after(100, "will", "dead"));
    stage.cut(client);
    stage.settle();
    assert_eq!(stage.heard(observer), [""; 0]);
    stage.join(B, Hello { clean: true, ..who });
    assert_eq!(stage.heard(observer), ["will=dead q1 #3"]);
    // DISCONNECT with will, and with an expiry of 0.
    let who = hello("other").lasting(1000);
    let client = stage.join(A, who.will_after(100, "will", "dead"));
    stage.leave_with(client, 4, Some(0));
    stage.settle();
    assert_eq!(stage.heard(observer), ["will=dead q1 #4"]);
}

#[test]
fn a_delayed_will_outlives_its_worker() {
    let (mut stage, observer) = with_observer();
    let client = stage.join(
        A,
        hello("client").lasting(1000).will_after(10, "will", "dead"),
    );
    stage.publish(client, "a", "1", Q1);
    stage.turn(A);
    stage.kill(A);
    stage.settle();
    assert_eq!(stage.heard(observer), ["a=1 q1 #1"]);
    stage.pass(9);
    stage.kill(A);
    assert_eq!(stage.heard(observer), [""; 0]);
    stage.pass(2);
    assert_eq!(stage.heard(observer), ["will=dead q1 #2"]);
    stage.pass(1000);
    assert_eq!(stage.heard(observer), [""; 0]);
}

/// The store retains it, and gives it to its own sessions too.
#[test]
fn a_will_of_the_store_is_retained_and_reaches_stored_sessions() {
    let mut stage = Stage::new(2);
    let stored = stage.join(B, hello("stored").lasting(1000));
    stage.subscribe(stored, "will", Q1);
    let will = Testament {
        topic: "will",
        payload: "dead",
        qos: Q1,
        retain: true,
        delay: 0,
    };
    let who = Hello {
        will: Some(will),
        ..hello("client")
    };
    stage.join(A, who);
    stage.kill(A);
    stage.settle();
    assert_eq!(stage.heard(stored), ["will=dead q1 #1"]);
    let late = stage.join(A, hello("late"));
    stage.subscribe(late, "will", Q1);
    assert_eq!(stage.heard(late), ["will=dead q1 #1 retain"]);
}

/// A worker that dies takes several wills along: each comes once, also if another worker dies meanwhile.
#[test]
fn wills_come_once_though_deaths_follow_each_other() {
    let mut stage = Stage::new(3);
    let observer = stage.join(B, hello("observer"));
    stage.subscribe(observer, "#", Q1);
    for id in ["1", "2"] {
        stage.join(A, hello(id).will("will", id));
    }
    stage.join(3, hello("3").will("will", "3"));
    stage.kill(A);
    stage.turn(S);
    stage.kill(3);
    stage.settle();
    stage.kill(A);
    stage.settle();
    let mut heard = stage.heard(observer);
    heard.sort();
    let payloads: Vec<_> = heard.iter().map(|p| p.split(' ').next().unwrap()).collect();
    assert_eq!(payloads, ["will=1", "will=2", "will=3"]);
}

#[test]
fn a_session_lasts_as_long_as_it_was_asked_to() {
    let mut stage = Stage::new(2);
    let who = hello("client").lasting(10);
    for kills in [false, true] {
        let client = stage.join(A, Hello { clean: true, ..who });
        stage.subscribe(client, "a", Q1);
        if kills {
            stage.kill(A);
        } else {
            stage.leave(client);
        }
        stage.pass(9);
        let client = stage.rejoin(B, who);
        // Connected, it does not age.
        stage.pass(100);
        stage.cut(client);
        stage.pass(11);
        let client = stage.join(A, who);
        let publisher = stage.join(B, hello("publisher"));
        stage.publish(publisher, "a", "1", Q1);
        stage.settle();
        assert_eq!(stage.heard(publisher), ["puback #1 0x10"]);
        stage.leave(client);
        stage.pass(11);
    }
}

/// [MQTT-3.14.2-2]
#[test]
fn disconnect_may_change_the_expiry_but_not_from_zero() {
    let mut stage = Stage::new(2);
    let who = hello("client").lasting(10);
    let client = stage.join(A, who);
    stage.leave_with(client, 0, Some(100));
    stage.pass(50);
    let client = stage.rejoin(B, who);
    stage.leave_with(client, 0, Some(0));
    stage.settle();
    let (client, present) = stage.enter(A, who);
    assert!(!present);
    stage.leave(client);
    let client = stage.join(A, hello("transient"));
    let code = 0;
    let properties = [17, 0, 0, 0, 9];
    stage.write(client, &[0xe0, 7, code, 5]);
    stage.write(client, &properties);
    stage.settle();
    assert_eq!(stage.heard(client), ["disconnect 0x82"]);
}

/// The operator's limit holds for everybody.
#[test]
fn persistent_client_expiration_ends_sessions() {
    let mut stage = Stage::with(2, 1000, |c| c.persistent_client_expiration = Some(60));
    let old = Hello {
        version: mosquitto::mqtt::Version::V311,
        clean: false,
        ..hello("old")
    };
    let five = hello("five").lasting(u32::MAX);
    for who in [old, five] {
        let client = stage.join(A, who);
        stage.cut(client);
    }
    stage.pass(59);
    for who in [old, five] {
        let client = stage.rejoin(B, who);
        stage.cut(client);
    }
    stage.pass(61);
    for who in [old, five] {
        stage.join(A, who);
    }
}
