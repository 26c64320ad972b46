use super::*;

type Plain = Groups<u32>;

const UNLIMITED: Limits = Limits::NONE;
const NOW: Instant = Instant(0);
const A: ClientNumber = ClientNumber(1);
const B: ClientNumber = ClientNumber(2);

fn filter(name: &str) -> Filter<'_> {
    Filter::new(name).unwrap()
}

fn terms(qos: Qos) -> Terms {
    Terms {
        qos,
        retain_as_published: false,
        id: 0,
    }
}

fn entry(message: u32, qos: Qos) -> Entry<u32> {
    Entry {
        message,
        qos,
        retain: true,
        subscription_ids: None,
        expires_at: None,
        bytes: 10,
    }
}

/// One group, `$share/g/t`, with these members at QoS 2.
fn group_of(members: &[ClientNumber]) -> (Plain, GroupId) {
    let mut groups = Plain::new(0);
    for client in members {
        groups.join(*client, filter("$share/g/t"), terms(Qos::ExactlyOnce));
    }
    let mut found = Vec::new();
    groups.matching(Topic::new("t").unwrap(), &mut found);
    (groups, found[0])
}

fn push(groups: &mut Plain, group: GroupId, message: u32, qos: Qos) -> Pushed {
    groups.push(group, entry(message, qos), UNLIMITED, false, NOW)
}

/// Gives all that can be given, to members that always have room: who gets what.
fn give_all(groups: &mut Plain, group: GroupId) -> Vec<(ClientNumber, u32)> {
    let mut given = Vec::new();
    while let Some(turn) = groups.turn(group, NOW) {
        let one = groups.give(turn).unwrap();
        given.push((turn.client, one.entry.message));
        if one.entry.qos != Qos::AtMostOnce {
            groups.hold(turn.client, one.hold);
        }
    }
    given
}

#[test]
fn members_take_turns_in_the_order_in_which_they_came() {
    let (mut groups, group) = group_of(&[A, B]);
    for n in 0..5 {
        push(&mut groups, group, n, Qos::AtLeastOnce);
    }
    let given = give_all(&mut groups, group);
    assert_eq!(given, [(A, 0), (B, 1), (A, 2), (B, 3), (A, 4)]);
}

#[test]
fn a_member_without_room_is_passed_over_and_then_comes_first() {
    let (mut groups, group) = group_of(&[A, B]);
    push(&mut groups, group, 0, Qos::AtLeastOnce);
    let turn = groups.turn(group, NOW).unwrap();
    groups.park(turn);
    assert_eq!(give_all(&mut groups, group), [(B, 0)]);
    assert!(groups.is_parked(A) && !groups.is_parked(B));
    assert_eq!(groups.unpark(A), Some(group));
    push(&mut groups, group, 1, Qos::AtLeastOnce);
    assert_eq!(give_all(&mut groups, group), [(A, 1)]);
    assert_eq!(groups.unpark(A), None);
}

#[test]
fn qos_0_needs_no_room_and_waits_for_nobody() {
    let (mut groups, group) = group_of(&[A]);
    push(&mut groups, group, 0, Qos::AtLeastOnce);
    let turn = groups.turn(group, NOW).unwrap();
    groups.park(turn);
    push(&mut groups, group, 1, Qos::AtMostOnce);
    assert_eq!(give_all(&mut groups, group), [(A, 1)]);
    groups.go(A);
    push(&mut groups, group, 2, Qos::AtMostOnce);
    groups.come(A);
    assert_eq!(
        give_all(&mut groups, group),
        [(A, 0)],
        "nobody was there for it"
    );
}

#[test]
fn qos_0_waits_for_who_is_away_where_the_broker_keeps_it() {
    let (mut groups, group) = group_of(&[A]);
    groups.go(A);
    groups.push(group, entry(1, Qos::AtMostOnce), UNLIMITED, true, NOW);
    groups.come(A);
    assert_eq!(give_all(&mut groups, group), [(A, 1)]);
}

#[test]
fn what_is_taken_back_stands_where_it_stood() {
    let (mut groups, group) = group_of(&[A, B]);
    for n in 0..4 {
        push(&mut groups, group, n, Qos::AtLeastOnce);
    }
    give_all(&mut groups, group);
    push(&mut groups, group, 4, Qos::AtLeastOnce);
    groups.go(B);
    groups.take_back(B, |_, _| true);
    groups.go(A);
    groups.take_back(A, |_, _| true);
    groups.come(B);
    assert_eq!(groups.next_due(), Some(group));
    let given = give_all(&mut groups, group);
    assert_eq!(given, [(B, 0), (B, 1), (B, 2), (B, 3), (B, 4)]);
}

#[test]
fn what_is_settled_is_not_taken_back() {
    let (mut groups, group) = group_of(&[A]);
    push(&mut groups, group, 0, Qos::AtLeastOnce);
    let turn = groups.turn(group, NOW).unwrap();
    let given = groups.give(turn).unwrap();
    let token = groups.hold(A, given.hold);
    assert_eq!(groups.held(A), 1);
    assert!(groups.settle(A, token) && !groups.settle(A, token));
    assert!(groups.take_back(A, |_, _| true).is_empty());
}

#[test]
fn what_a_member_takes_along_when_the_last_one_leaves_goes_nowhere() {
    let (mut groups, group) = group_of(&[A]);
    push(&mut groups, group, 0, Qos::AtLeastOnce);
    give_all(&mut groups, group);
    push(&mut groups, group, 1, Qos::AtLeastOnce);
    assert_eq!(groups.leave(A, "$share/g/t"), Some(true));
    assert_eq!(groups.leave(A, "$share/g/t"), None);
    assert!(groups.is_empty());
    // Another group of the same name has nothing to do with it.
    groups.join(A, filter("$share/g/t"), terms(Qos::ExactlyOnce));
    assert!(groups.take_back(A, |_, _| true).is_empty());
    assert_eq!(groups.next_due(), None);
}

#[test]
fn what_goes_out_is_as_its_member_asked() {
    let mut groups = Plain::new(0);
    let asked = Terms {
        qos: Qos::AtLeastOnce,
        retain_as_published: true,
        id: 7,
    };
    groups.join(A, filter("$share/g/+"), asked);
    let mut found = Vec::new();
    groups.matching(Topic::new("t").unwrap(), &mut found);
    push(&mut groups, found[0], 0, Qos::ExactlyOnce);
    let turn = groups.turn(found[0], NOW).unwrap();
    let sent = groups.give(turn).unwrap().entry;
    assert_eq!((sent.qos, sent.retain), (Qos::AtLeastOnce, true));
    assert_eq!(sent.subscription_ids.as_deref(), Some(&[7][..]));
    // Asked again with other terms, which hold from then on; to another it goes as that one asked.
    let again = groups.join(A, filter("$share/g/+"), terms(Qos::AtMostOnce));
    let was_there = Joined {
        existed: true,
        is_first: false,
    };
    assert_eq!(again, Some(was_there));
    push(&mut groups, found[0], 1, Qos::ExactlyOnce);
    let turn = groups.turn(found[0], NOW).unwrap();
    let sent = groups.give(turn).unwrap().entry;
    assert_eq!((sent.qos, sent.retain), (Qos::AtMostOnce, false));
    assert_eq!(sent.subscription_ids, None);
}

#[test]
fn a_full_line_drops_the_newest_and_says_so_once() {
    let (mut groups, group) = group_of(&[A, B]);
    groups.go(A);
    groups.go(B);
    let each = Limits {
        messages: 2,
        ..UNLIMITED
    };
    let mut pushed = Vec::new();
    for n in 0..6 {
        pushed.push(groups.push(group, entry(n, Qos::AtLeastOnce), each, false, NOW));
    }
    assert_eq!(pushed[..4], [Pushed::Kept; 4], "two for each member");
    let dropped = |first| Pushed::Dropped { messages: 1, first };
    assert_eq!(pushed[4..], [dropped(true), dropped(false)]);
    groups.come(A);
    let given = give_all(&mut groups, group);
    assert_eq!(
        given.iter().map(|(_, n)| *n).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    // What comes back is not measured by the limit.
    groups.go(A);
    for n in 6..8 {
        groups.push(group, entry(n, Qos::AtLeastOnce), each, false, NOW);
    }
    groups.take_back(A, |_, _| true);
    groups.come(B);
    assert_eq!(give_all(&mut groups, group).len(), 6);
}

#[test]
fn bytes_are_limited_for_each_member_too() {
    let (mut groups, group) = group_of(&[A]);
    groups.go(A);
    let each = Limits {
        bytes: 15,
        ..UNLIMITED
    };
    let pushed: Vec<_> = (0..3)
        .map(|n| groups.push(group, entry(n, Qos::AtLeastOnce), each, false, NOW))
        .collect();
    let dropped = Pushed::Dropped {
        messages: 1,
        first: true,
    };
    assert_eq!(pushed, [Pushed::Kept, Pushed::Kept, dropped]);
}

#[test]
fn what_has_expired_is_given_to_nobody_and_makes_room() {
    let (mut groups, group) = group_of(&[A]);
    groups.go(A);
    let each = Limits {
        messages: 2,
        bytes: 20,
        ..UNLIMITED
    };
    let with_expiry = |n, at| Entry {
        expires_at: Some(Instant(at)),
        ..entry(n, Qos::AtLeastOnce)
    };
    groups.push(group, with_expiry(0, 9), each, false, NOW);
    groups.push(group, with_expiry(1, 5), each, false, NOW);
    let pushed = groups.push(group, entry(2, Qos::AtLeastOnce), each, false, Instant(5));
    assert_eq!(pushed, Pushed::Kept);
    groups.come(A);
    let turn = groups.turn(group, Instant(9)).unwrap();
    assert_eq!(groups.give(turn).unwrap().entry.message, 2);
    assert_eq!(groups.turn(group, Instant(9)), None);
}

#[test]
fn each_group_of_a_filter_has_its_own_line() {
    let mut groups = Plain::new(0);
    for (client, name) in [(A, "$share/g/t"), (B, "$share/h/t"), (B, "$share/g/+")] {
        let joined = groups.join(client, filter(name), terms(Qos::AtLeastOnce));
        assert_eq!(joined.map(|j| j.is_first), Some(true));
    }
    let mut found = Vec::new();
    groups.matching(Topic::new("t").unwrap(), &mut found);
    assert_eq!(found.len(), 3);
    assert_eq!(groups.join(A, filter("t"), terms(Qos::AtLeastOnce)), None);
    let mut gone = groups.leave_all(B);
    gone.sort();
    assert_eq!(
        gone.iter().map(|n| &**n).collect::<Vec<_>>(),
        ["$share/g/+", "$share/h/t"]
    );
    found.clear();
    groups.matching(Topic::new("t").unwrap(), &mut found);
    assert_eq!(found.len(), 1);
}

#[test]
fn a_hundred_thousand_members_take_turns_without_a_search() {
    let (mut groups, group) = group_of(&[A]);
    for n in 2..=100_000 {
        groups.join(
            ClientNumber(n),
            filter("$share/g/t"),
            terms(Qos::AtLeastOnce),
        );
    }
    for n in 0..100_000 {
        push(&mut groups, group, n, Qos::AtLeastOnce);
        let turn = groups.turn(group, NOW).unwrap();
        assert_eq!(turn.client, ClientNumber(n + 1));
        groups.give(turn);
    }
}

#[test]
fn a_full_line_drops_the_oldest_if_it_is_to_and_counts_what_waits() {
    let (mut groups, group) = group_of(&[A]);
    groups.go(A);
    let each = Limits {
        messages: 2,
        drops_oldest: true,
        ..UNLIMITED
    };
    groups.push(group, entry(9, Qos::AtMostOnce), each, true, NOW);
    for n in 0..4 {
        groups.push(group, entry(n, Qos::AtLeastOnce), each, false, NOW);
    }
    assert_eq!(groups.bytes_waiting(), 30, "QoS 0 takes no room of theirs");
    let crowded = Limits {
        room: 9,
        ..UNLIMITED
    };
    let pushed = groups.push(group, entry(5, Qos::AtLeastOnce), crowded, false, NOW);
    assert_ne!(pushed, Pushed::Kept);
    groups.come(A);
    let given: Vec<_> = give_all(&mut groups, group).iter().map(|g| g.1).collect();
    assert_eq!(given, [9, 2, 3]);
    assert_eq!(groups.bytes_waiting(), 0);
    groups.go(A);
    groups.push(group, entry(6, Qos::AtLeastOnce), each, false, NOW);
    groups.leave_all(A);
    assert_eq!(groups.bytes_waiting(), 0, "a line goes with its group");
}
