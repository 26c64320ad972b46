//! Limits on connections and clients, rule 26, and what comes at once: storms, and deaths two at a time.

use super::stage::{A, B, C, Hello, Q1, S, Stage, hello};

/// One that is turned away because of connections hears nothing.
fn is_in(stage: &mut Stage, peer: usize) -> bool {
    match stage.heard(peer).as_slice() {
        [] if stage.is_closed(peer) => false,
        [connack] if connack == "connack" && !stage.is_closed(peer) => true,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rule_26_seats_are_given_exactly_though_all_workers_ask_at_once() {
    let mut stage = Stage::with(3, 1000, |config| config.global_max_connections = 2);
    let ids = ["u", "v", "w", "x", "y", "z"];
    let come = |stage: &mut Stage| -> Vec<usize> {
        let slots = [A, B, C, A, B, C];
        let peers = ids.iter().zip(slots);
        let peers = peers.map(|(id, slot)| stage.connect(slot, hello(id)));
        let peers = peers.collect();
        stage.settle();
        peers
    };
    // Nobody who was turned away keeps a seat.
    for _ in 0..3 {
        let mut peers = come(&mut stage);
        peers.retain(|peer| is_in(&mut stage, *peer));
        assert_eq!(peers.len(), 2);
        let late = stage.connect(C, hello("late"));
        stage.settle();
        assert!(!is_in(&mut stage, late));
        for peer in peers {
            stage.leave(peer);
        }
        stage.settle();
    }
}

#[test]
fn rule_26_who_takes_over_its_id_inherits_the_seat() {
    for most in [
        (|config| config.global_max_connections = 1) as fn(&mut mosquitto::config::Config),
        |config| config.global_max_clients = 1,
        |config| config.listeners[0].max_connections = 1,
    ] {
        let mut stage = Stage::with(3, 1000, most);
        let old = stage.join(A, hello("x"));
        // The old connection is not gone yet when another client wants its seat.
        let heir = stage.connect(B, hello("x"));
        stage.turns(&[B, S]);
        let other = stage.connect(C, hello("y"));
        stage.turns(&[C, S]);
        assert!(stage.is_closed(other) && !stage.is_closed(old));
        stage.settle();
        assert!(stage.is_closed(old) && is_in(&mut stage, heir));
        stage.leave(heir);
        stage.settle();
        stage.join(C, hello("y"));
    }
}

#[test]
fn rule_26_the_dead_leave_their_seats() {
    let mut stage = Stage::with(3, 1000, |config| config.global_max_connections = 2);
    stage.join(A, hello("x"));
    stage.join(A, hello("y"));
    stage.kill(A);
    // C has not read to the end what A said: its slot is not free yet, but its seats are.
    stage.turns(&[S, B]);
    for id in ["v", "w"] {
        let peer = stage.connect(B, hello(id));
        stage.turns(&[S, B]);
        stage.settle();
        assert!(is_in(&mut stage, peer), "{id}");
    }
    let more = stage.connect(A, hello("x"));
    stage.settle();
    assert!(!is_in(&mut stage, more));
    // The next store counts anew.
    stage.kill(S);
    stage.settle();
    stage.join(A, hello("x"));
    stage.join(C, hello("y"));
    let more = stage.connect(B, hello("v"));
    stage.settle();
    assert!(!is_in(&mut stage, more));
}

#[test]
fn rule_26_a_session_counts_until_it_ends() {
    let mut stage = Stage::with(2, 1000, |config| config.global_max_clients = 1);
    let refused = |stage: &mut Stage| {
        let peer = stage.connect(B, hello("y"));
        stage.settle();
        stage.heard(peer) == ["connack 0x97"]
    };
    let peer = stage.join(A, hello("x").lasting(10));
    stage.leave(peer);
    stage.settle();
    assert!(refused(&mut stage), "the session is still there");
    stage.pass(9);
    let peer = stage.rejoin(B, hello("x").lasting(10));
    stage.kill(B);
    stage.settle();
    assert!(stage.is_closed(peer) && refused(&mut stage));
    stage.pass(11);
    let peer = stage.join(A, hello("y"));
    stage.leave(peer);
    stage.settle();
    stage.join(B, hello("z"));
}

/// One id on all workers at once: one connection is left, and each one that was let in leaves its will once.
#[test]
fn rule_24_a_storm_leaves_one_connection() {
    let mut stage = Stage::new(3);
    let observer = stage.join(B, hello("observer"));
    stage.subscribe(observer, "will/#", Q1);
    let mut peers = Vec::new();
    for n in 0..24 {
        let payload = n.to_string();
        let plain = hello("x").will("will/x", &payload);
        let all = [
            plain,
            plain.lasting(100),
            Hello {
                clean: true,
                ..plain.lasting(100)
            },
        ];
        peers.push(stage.connect(1 + n % 3, all[n / 3 % 3]));
        stage.turn([S, A, B, C][n % 4]);
    }
    stage.settle();
    let mut wills: Vec<String> = stage.heard(observer);
    let (mut open, mut left) = (0, Vec::new());
    for (n, peer) in peers.into_iter().enumerate() {
        let was_in = stage.next(peer).starts_with("connack") && stage.next(peer) != "nothing";
        match stage.is_closed(peer) {
            true if was_in => left.push(format!("will/x={n} ")),
            true => {}
            false => open += 1,
        }
    }
    assert!(open == 1 && left.len() > 2, "{open} open, {left:?}");
    for will in left {
        let at = wills.iter().position(|w| w.starts_with(&will));
        wills.remove(at.unwrap_or_else(|| panic!("{will} did not come")));
    }
    assert_eq!(wills, [""; 0]);
}

/// The publisher's worker and the session's die in the same moment, or one of them while the other is drained.
#[test]
fn what_was_accepted_outlives_two_workers() {
    for order in [[A, B], [B, A]] {
        for between in [false, true] {
            let mut stage = Stage::new(3);
            let transient = stage.join(C, hello("transient"));
            stage.subscribe(transient, "t", Q1);
            let stored = stage.join(B, hello("stored").lasting(100));
            stage.subscribe(stored, "t", Q1);
            let publisher = stage.join(A, hello("publisher").will("t", "will"));
            stage.publish(publisher, "t", "1", Q1);
            stage.turn(A);
            assert_eq!(stage.heard(publisher), ["puback #1"]);
            stage.kill(order[0]);
            if between {
                stage.turn(C);
            }
            stage.kill(order[1]);
            stage.settle();
            assert_eq!(stage.heard(transient), ["t=1 q1 #1", "t=will q1 #2"]);
            let stored = stage.rejoin(C, hello("stored").lasting(100));
            assert_eq!(stage.heard(stored), ["t=1 q1 #1", "t=will q1 #2"]);
        }
    }
}
