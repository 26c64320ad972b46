//! What one member promises another, step by step.

use std::time::Duration;

use mosquitto::base::clock::Instant;
use mosquitto::base::ids::{Incarnation, MemberId, MemberMask, Position, Serial};
use mosquitto::base::limits::OVERFLOW_BYTES_PAUSE;
use mosquitto::ring::Mesh;

use crate::members::{Ports, has_rung, mesh_of, read_all, to};

const RING: u32 = 4096;

fn payloads(records: &[(mosquitto::ring::Received, Vec<u8>)]) -> Vec<&[u8]> {
    records.iter().map(|(_, bytes)| &bytes[..]).collect()
}

#[test]
fn a_record_reaches_those_that_it_is_for() {
    let mut meshes = mesh_of(3, RING);
    meshes[0].append(to(&[1, 2]), 7, &[b"to ", b"", b"both"]);
    meshes[0].append(to(&[2]), 8, &[b"to one"]);
    meshes[0].flush();
    assert_eq!(payloads(&read_all(&mut meshes[1])), [b"to both"]);
    let both = read_all(&mut meshes[2]);
    assert_eq!(payloads(&both), [&b"to both"[..], b"to one"]);
    assert_eq!(both[1].0.kind, 8);
    assert_eq!(both[1].0.from, MemberId::STORE);
    assert_eq!(both[1].0.incarnation, Incarnation(1));
    assert_eq!(both[1].0.end, meshes[0].head());
}

#[test]
fn nothing_is_seen_before_the_flush() {
    let mut meshes = mesh_of(2, RING);
    meshes[0].append(MemberMask::ALL, 1, &[b"x"]);
    assert!(read_all(&mut meshes[1]).is_empty());
    meshes[0].flush();
    assert_eq!(payloads(&read_all(&mut meshes[1])), [b"x"]);
}

#[test]
fn a_full_ring_overflows_in_order_and_covers_what_is_in_it() {
    let mut meshes = mesh_of(2, RING);
    let mut last = Serial(0);
    while meshes[0].overflow_bytes() <= OVERFLOW_BYTES_PAUSE {
        last = meshes[0].append(to(&[1]), 1, &[&[7; 100]]);
    }
    meshes[0].flush();
    assert!(meshes[0].covered() < last);
    let mut seen = 0;
    while seen < last.0 {
        let records = read_all(&mut meshes[1]);
        assert!(!records.is_empty());
        seen += records.len() as u64;
        assert_eq!(meshes[0].covered(), Serial(seen));
        meshes[1].flush();
        meshes[0].flush();
    }
    assert_eq!(meshes[0].covered(), last);
    assert_eq!(meshes[0].overflow_bytes(), 0);
}

#[test]
fn a_large_record_passes_through_a_small_ring_and_those_behind_it_wait() {
    let mut meshes = mesh_of(2, RING);
    let large: Vec<u8> = (0..1_000_000u32).map(|i| i.to_le_bytes()[1]).collect();
    meshes[0].append(to(&[1]), 3, &[&large[..10], &large[10..]]);
    meshes[0].append(to(&[1]), 4, &[b"behind"]);
    let mut got = Vec::new();
    for _ in 0..10_000 {
        if got.len() == 2 {
            break;
        }
        meshes[0].flush();
        got.extend(read_all(&mut meshes[1]));
        meshes[1].flush();
    }
    assert!(got[0].1 == large, "the large record is torn");
    assert_eq!((got[0].0.kind, got[1].0.kind), (3, 4));
}

#[test]
fn a_barrier_passes_when_all_have_applied() {
    let mut meshes = mesh_of(3, RING);
    meshes[0].append(MemberMask::ALL, 1, &[b"x"]);
    let barrier = meshes[0].head();
    meshes[0].flush();
    read_all(&mut meshes[1]);
    assert!(meshes[0].passed(MemberMask::ALL) < barrier);
    meshes[1].flush();
    assert_eq!(meshes[0].passed(to(&[1])), barrier);
    assert!(meshes[0].passed(MemberMask::ALL) < barrier);
    read_all(&mut meshes[2]);
    meshes[2].flush();
    assert_eq!(meshes[0].passed(MemberMask::ALL), barrier);
}

#[test]
fn a_sleeper_is_rung_once_a_sleep_and_only_if_it_is_addressed() {
    let mut meshes = mesh_of(3, RING);
    for mesh in &mut meshes[1..] {
        mesh.hush();
        assert!(mesh.prepare_sleep());
    }
    meshes[0].append(to(&[1]), 1, &[b"x"]);
    meshes[0].flush();
    assert!(has_rung(&meshes[1]) && !has_rung(&meshes[2]));
    meshes[1].hush();
    meshes[0].append(to(&[1]), 1, &[b"x"]);
    meshes[0].flush();
    assert!(!has_rung(&meshes[1]), "one ring is enough for one sleep");
    meshes[1].awake();
    assert_eq!(read_all(&mut meshes[1]).len(), 2);
    meshes[1].flush();
    assert!(meshes[1].prepare_sleep());
    meshes[0].append(to(&[1]), 1, &[b"x"]);
    meshes[0].flush();
    assert!(has_rung(&meshes[1]));
}

#[test]
fn an_unaddressed_sleeper_is_rung_at_half_a_ring_or_when_somebody_waits() {
    let mut meshes = mesh_of(3, RING);
    meshes[2].hush();
    assert!(meshes[2].prepare_sleep());
    let mut bytes = 0;
    while !has_rung(&meshes[2]) {
        meshes[0].append(to(&[1]), 1, &[&[0; 84]]);
        meshes[0].flush();
        read_all(&mut meshes[1]);
        meshes[1].flush();
        bytes += 128;
    }
    assert!(bytes > RING / 2 && bytes <= RING / 2 + 256, "{bytes}");
    meshes[2].awake();
    meshes[2].hush();
    read_all(&mut meshes[2]);
    meshes[2].flush();
    assert!(meshes[2].prepare_sleep());
    meshes[0].append(to(&[1]), 1, &[b"x"]);
    let barrier = meshes[0].head();
    meshes[0].wake_when_passed(barrier);
    meshes[0].flush();
    assert!(has_rung(&meshes[2]));
}

#[test]
fn who_waits_for_a_barrier_is_rung_when_it_passes() {
    let mut meshes = mesh_of(2, RING);
    meshes[0].append(to(&[1]), 1, &[b"x"]);
    let barrier = meshes[0].head();
    meshes[0].flush();
    meshes[0].wake_when_passed(barrier);
    meshes[0].hush();
    assert!(meshes[0].prepare_sleep());
    read_all(&mut meshes[1]);
    assert!(!has_rung(&meshes[0]));
    meshes[1].flush();
    assert!(has_rung(&meshes[0]));
    meshes[0].awake();
    assert_eq!(meshes[0].passed(MemberMask::ALL), barrier);
}

#[test]
fn a_barrier_that_passed_before_the_sleep_prevents_it() {
    let mut meshes = mesh_of(2, RING);
    meshes[0].append(to(&[1]), 1, &[b"x"]);
    let barrier = meshes[0].head();
    meshes[0].flush();
    read_all(&mut meshes[1]);
    meshes[1].flush();
    meshes[0].wake_when_passed(barrier);
    assert!(!meshes[0].prepare_sleep());
    meshes[0].flush();
    assert!(!meshes[0].prepare_sleep(), "one whole turn sees it pass");
    assert!(meshes[0].prepare_sleep());
}

#[test]
fn who_waits_for_room_is_rung_when_there_is_some() {
    let mut meshes = mesh_of(2, RING);
    while meshes[0].overflow_bytes() == 0 {
        meshes[0].append(to(&[1]), 1, &[&[1; 100]]);
    }
    meshes[0].flush();
    meshes[0].hush();
    assert!(meshes[0].prepare_sleep());
    read_all(&mut meshes[1]);
    meshes[1].flush();
    assert!(has_rung(&meshes[0]));
    meshes[0].awake();
    meshes[0].flush();
    assert_eq!(meshes[0].overflow_bytes(), 0);
}

#[test]
fn a_barrier_rings_although_there_is_no_room_yet() {
    let mut meshes = mesh_of(2, RING);
    meshes[0].append(to(&[1]), 1, &[b"x"]);
    let barrier = meshes[0].head();
    while meshes[0].overflow_bytes() == 0 {
        meshes[0].append(to(&[1]), 1, &[&[1; 100]]);
    }
    meshes[0].flush();
    meshes[0].wake_when_passed(barrier);
    meshes[0].hush();
    assert!(meshes[0].prepare_sleep());
    meshes[1].next(&mut Vec::new()).unwrap();
    meshes[1].flush();
    assert!(has_rung(&meshes[0]), "the barrier has passed");
    meshes[0].awake();
    meshes[0].hush();
    meshes[0].flush();
    assert!(!meshes[0].prepare_sleep(), "one whole turn sees it pass");
    assert!(meshes[0].prepare_sleep());
    read_all(&mut meshes[1]);
    meshes[1].flush();
    assert!(has_rung(&meshes[0]), "now there is room");
}

#[test]
fn a_joiner_starts_at_what_comes_after_it_was_counted() {
    let mut ports = vec![Ports::new(0, 1, RING), Ports::new(1, 2, RING)];
    let mut a = ports[0].own();
    let mut b = ports[1].own();
    ports[0].introduce_to(&mut b);
    ports[1].introduce_to(&mut a);
    assert!(a.joined() && b.joined());
    a.append(MemberMask::ALL, 1, &[b"before"]);
    ports.push(Ports::new(2, 3, RING));
    let mut c = ports[2].own();
    ports[0].introduce_to(&mut c);
    assert!(!c.joined(), "not counted yet");
    assert_eq!(c.applied(MemberId::STORE), None);
    ports[2].introduce_to(&mut a);
    assert!(has_rung(&c));
    a.append(MemberMask::ALL, 1, &[b"after"]);
    a.flush();
    assert!(c.joined());
    assert_eq!(payloads(&read_all(&mut c)), [b"after"]);
    assert_eq!(payloads(&read_all(&mut b)), [&b"before"[..], &b"after"[..]]);
}

#[test]
fn the_outbox_of_a_dead_member_is_read_to_its_last_head() {
    let mut meshes = mesh_of(3, RING);
    let member = MemberId::STORE;
    meshes[0].append(MemberMask::ALL, 1, &[b"published"]);
    meshes[0].flush();
    meshes[0].append(MemberMask::ALL, 1, &[b"never flushed"]);
    drop(meshes.remove(0));
    let [b, c] = &mut meshes[..] else { panic!() };
    for mesh in [&mut *b, &mut *c] {
        mesh.peer_gone(member, Incarnation(1));
        assert!(!mesh.drained(member));
        assert!(!mesh.live().contains(member));
        assert_eq!(payloads(&read_all(mesh)), [b"published"]);
        assert!(!mesh.drained(member), "not told in a flush yet");
    }
    let end = b.applied(member).unwrap().1;
    b.flush();
    assert!(b.drained(member));
    assert!(!b.everyone_applied(member, Incarnation(1), end));
    c.flush();
    assert!(b.everyone_applied(member, Incarnation(1), end));
    let never_published = Position(end.0 + 1000);
    assert!(b.everyone_applied(member, Incarnation(1), never_published));
    b.remove_peer(member, Incarnation(1));
    assert!(b.everyone_applied(member, Incarnation(1), end));
    assert_eq!(b.applied(member), None);
}

#[test]
fn an_unfinished_record_of_a_dead_member_is_dropped() {
    let mut meshes = mesh_of(2, RING);
    meshes[0].append(to(&[1]), 1, &[&[9; 20_000]]);
    meshes[0].flush();
    assert!(meshes[0].overflow_bytes() > 0);
    drop(meshes.remove(0));
    assert!(read_all(&mut meshes[0]).is_empty());
    meshes[0].peer_gone(MemberId::STORE, Incarnation(1));
    meshes[0].flush();
    assert!(meshes[0].drained(MemberId::STORE));
}

#[test]
fn what_waits_for_a_dead_member_does_not_reach_the_next_in_its_slot() {
    let mut ports = vec![Ports::new(0, 1, RING), Ports::new(1, 2, RING)];
    let mut a = ports[0].own();
    let mut b = ports[1].own();
    ports[0].introduce_to(&mut b);
    ports[1].introduce_to(&mut a);
    while a.overflow_bytes() == 0 {
        a.append(MemberMask::ALL, 1, &[&[1; 200]]);
    }
    a.flush();
    a.peer_gone(ports[1].member, Incarnation(2));
    a.remove_peer(ports[1].member, Incarnation(2));
    ports.push(Ports::new(1, 3, RING));
    let mut next = ports[2].own();
    ports[0].introduce_to(&mut next);
    ports[2].introduce_to(&mut a);
    a.append(MemberMask::ALL, 2, &[b"new"]);
    a.flush();
    assert_eq!(payloads(&read_all(&mut next)), [b"new"]);
    assert_eq!(a.overflow_bytes(), 0);
}

#[test]
fn a_reader_that_holds_a_full_ring_is_reported_but_not_for_a_pause_of_ours() {
    let mut meshes = mesh_of(3, RING);
    while meshes[0].overflow_bytes() == 0 {
        meshes[0].append(to(&[1, 2]), 1, &[&[1; 100]]);
    }
    meshes[0].flush();
    read_all(&mut meshes[2]);
    meshes[2].flush();
    let mut now = Instant(5_000_000_000);
    assert_eq!(meshes[0].stuck(now), None);
    now = now.after_secs(3600);
    assert_eq!(meshes[0].stuck(now), None);
    // Looks may be nearer to each other than a millisecond.
    let stuck = (1..10_000).find_map(|i| {
        now = now + Duration::from_micros(300);
        meshes[0].stuck(now).map(|who| (i, who))
    });
    let (looks, who) = stuck.unwrap();
    assert_eq!(who, (MemberId::new(1).unwrap(), Incarnation(2)));
    assert_eq!(looks, 1500, "500 ms less 50 for the pause, in steps of 0.3");
    read_all(&mut meshes[1]);
    meshes[1].flush();
    meshes[0].flush();
    for _ in 0..100 {
        now = now.after_millis(40);
        assert_eq!(meshes[0].stuck(now), None);
    }
}

#[test]
fn everyone_applied_knows_incarnations_of_the_past_and_of_the_future() {
    let mut meshes = mesh_of(2, RING);
    let [a, b] = &mut meshes[..] else { panic!() };
    let slot = MemberId::new(5).unwrap();
    assert!(!a.everyone_applied(slot, Incarnation(9), Position(100)));
    assert!(!b.everyone_applied(slot, Incarnation(2), Position(100)));
    assert!(b.everyone_applied(slot, Incarnation(1), Position(100)));
    assert!(b.everyone_applied(MemberId::STORE, Incarnation(1), Position(0)));
    a.append(MemberMask::ALL, 1, &[b"x"]);
    a.flush();
    let (incarnation, head) = b.published(MemberId::STORE).unwrap();
    assert!(!b.everyone_applied(MemberId::STORE, incarnation, head));
    assert!(!a.everyone_applied(MemberId::STORE, incarnation, head));
    read_all(b);
    b.flush();
    assert!(b.everyone_applied(MemberId::STORE, incarnation, head));
    assert!(a.everyone_applied(MemberId::STORE, incarnation, head));
}
