//! Shared subscriptions: each message to one member of a group, and back to the group when that one leaves.

use std::collections::BTreeMap;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::broker::Setup;
use crate::client::Client;
use crate::wire::{
    self, Connect, Got, PUBACK, PUBREC, PUBREL, V5, V31, V311, connect, property, publish,
    subscribe, subscribe_with, unsubscribe,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(each_message_goes_to_one_member),
    test!(members_take_turns),
    test!(each_group_of_a_filter_gets_its_copy),
    test!(an_ordinary_subscription_gets_its_own_copy),
    test!(an_ordinary_subscription_gets_its_own_copy_in_3)
        .original_breaks("drops the group's copy, unless allow_duplicate_messages is set"),
    test!(suback_has_the_codes_of_all_filters_in_order),
    test!(after_unsubscribe_the_others_get_it),
    test!(what_goes_out_is_as_its_member_asked),
    test!(subscribing_again_changes_the_options),
    test!(nothing_retained_comes_for_a_group).original_breaks("sends it"),
    test!(no_local_is_a_protocol_error).original_breaks("grants it"),
    test!(a_group_needs_a_name_and_a_filter)
        .original_breaks("takes $share/x for an ordinary filter"),
    test!(a_publisher_is_told_whether_there_is_a_group),
    test!(a_publish_right_behind_subscribe_comes),
    test!(a_will_goes_to_one_member),
    test!(a_single_member_gets_everything_in_order),
    test!(a_large_message_comes_whole),
    test!(a_member_that_takes_no_more_is_passed_over)
        .original_breaks("queues for the member whose turn it is"),
    test!(a_leavers_unacknowledged_messages_go_to_another)
        .original_breaks("they go with the session"),
    test!(a_persistent_leavers_unacknowledged_messages_go_to_another)
        .original_breaks("they wait for that session"),
    test!(qos_2_on_the_wire_goes_to_nobody_else),
    test!(a_persistent_member_completes_its_qos_2),
    test!(a_refused_message_goes_to_nobody_else),
    test!(messages_wait_for_the_only_member),
    test!(who_is_away_is_given_nothing).original_breaks("queues for members that are away"),
    test!(a_session_that_moves_keeps_its_groups),
    test!(a_clean_start_ends_memberships),
    test!(a_killed_workers_members_lose_nothing_for_the_group)
        .setup(Setup::Alone)
        .original_breaks("has no workers; what a lost member had goes with it"),
];

const VERSIONS: [u8; 3] = [V31, V311, V5];

fn share(bench: &Bench<'_>, group: &str, name: &str) -> String {
    format!("$share/{group}/{}", bench.topic(name))
}

/// Publishes `count` numbered messages and waits for each one's acknowledgement.
fn publish_numbers(publisher: &mut Client, topic: &str, qos: u8, count: usize) {
    for n in 0..count {
        publisher.publish(&publish(topic, &n.to_string(), qos, 7));
    }
}

/// Clients with clean sessions, each a member of `$share/g/NAME`, and of a group of its own for what marks the end:
/// ordinary subscriptions may be served another way.
fn members(bench: &Bench<'_>, version: u8, count: usize, name: &str) -> Vec<Client> {
    let client = |n| {
        let mut member = bench.clean(version, &format!("{name}/{version}/{n}"));
        member.subscribe(&share(bench, &format!("fence{n}"), "fence"), 2);
        member.subscribe(&share(bench, "g", name), 2);
        member
    };
    (0..count).map(client).collect()
}

/// What each member gets up to the fence, acknowledged.
fn take_to_fence(
    members: &mut [Client],
    publisher: &mut Client,
    bench: &Bench<'_>,
) -> Vec<Vec<String>> {
    let fence = bench.topic("fence");
    publisher.fence(&fence);
    let take = |member: &mut Client| {
        let (mut got, mut fences) = (Vec::new(), 0);
        while fences < 3 {
            let message = member.receive();
            if message.topic == fence {
                fences += 1;
            } else {
                got.push(String::from_utf8(message.payload).unwrap());
            }
        }
        got
    };
    members.iter_mut().map(take).collect()
}

/// How often each payload came, to whomever.
fn times(got: &[Vec<String>]) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for payload in got.iter().flatten() {
        *times.entry(payload.clone()).or_default() += 1;
    }
    times
}

fn each_message_goes_to_one_member(bench: &Bench<'_>) {
    for version in VERSIONS {
        for qos in 0..3 {
            let name = format!("{qos}/{version}");
            let mut members = members(bench, version, 4, &name);
            let mut publisher = bench.clean(version, &format!("p{version}{qos}"));
            publish_numbers(&mut publisher, &bench.topic(&name), qos, 20);
            let got = take_to_fence(&mut members, &mut publisher, bench);
            let expected = (0..20).map(|n| (n.to_string(), 1)).collect();
            assert_eq!(
                times(&got),
                expected,
                "version {version}, QoS {qos}: {got:?}"
            );
        }
    }
}

fn members_take_turns(bench: &Bench<'_>) {
    let mut members = members(bench, V5, 4, "t/+");
    let mut publisher = bench.clean(V5, "p");
    publish_numbers(&mut publisher, &bench.topic("t/x"), 1, 40);
    for got in take_to_fence(&mut members, &mut publisher, bench) {
        assert_eq!(got.len(), 10, "{got:?}");
    }
}

fn each_group_of_a_filter_gets_its_copy(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut members: Vec<Client> = (0..3)
        .map(|n| bench.clean(V311, &format!("m{n}")))
        .collect();
    members[0].subscribe(&share(bench, "g", "t"), 1);
    members[1].subscribe(&share(bench, "h", "t"), 1);
    members[2].subscribe(&share(bench, "g", "+"), 1);
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&topic, "x", 1, 1));
    for member in &mut members {
        member.expect_message(&topic, "x", 1, false);
        member.expect_nothing_from(&mut publisher);
    }
}

fn overlapping(bench: &Bench<'_>, version: u8) {
    let topic = bench.topic("t");
    for qos in 0..3 {
        for persistent in [false, true] {
            let mut session = connect(version, &bench.id(&format!("{persistent}{qos}")));
            if persistent {
                session = session.persistent();
            }
            let mut client = bench.client(&session);
            client.subscribe(&topic, 2);
            client.subscribe(&share(bench, "g", "t"), 2);
            let mut publisher = bench.clean(version, &format!("p{qos}"));
            publisher.publish(&publish(&topic, "x", qos, 1));
            client.expect_message(&topic, "x", qos, false);
            client.expect_message(&topic, "x", qos, false);
            client.expect_nothing_from(&mut publisher);
            client.unsubscribe(&topic);
            client.unsubscribe(&share(bench, "g", "t"));
        }
    }
}

fn an_ordinary_subscription_gets_its_own_copy(bench: &Bench<'_>) {
    overlapping(bench, V5);
}

fn an_ordinary_subscription_gets_its_own_copy_in_3(bench: &Bench<'_>) {
    overlapping(bench, V311);
}

fn suback_has_the_codes_of_all_filters_in_order(bench: &Bench<'_>) {
    for version in VERSIONS {
        for persistent in [false, true] {
            let mut session = connect(version, &bench.id(&format!("{version}{persistent}")));
            if persistent {
                session = session.persistent();
            }
            let mut client = bench.client(&session);
            let (shared, plain) = (share(bench, "g", "s"), bench.topic("p"));
            let filters = [(&*plain, 1), (&*shared, 2), ("other", 0), ("$share/h/x", 1)];
            client.send(&subscribe(version, 9, &filters));
            client.expect(Got::Suback(9, vec![1, 2, 0, 1]));
            client.send(&unsubscribe(
                version,
                10,
                &[&*plain, &*shared, "unknown", "other", "$share/h/x"],
            ));
            let codes = if version == V5 {
                vec![0, 0, 0x11, 0, 0]
            } else {
                vec![]
            };
            client.expect(Got::Unsuback(10, codes));
        }
    }
}

fn after_unsubscribe_the_others_get_it(bench: &Bench<'_>) {
    let mut members = members(bench, V311, 2, "t");
    members[0].unsubscribe(&share(bench, "g", "t"));
    let mut publisher = bench.clean(V311, "p");
    publish_numbers(&mut publisher, &bench.topic("t"), 1, 4);
    let got = take_to_fence(&mut members, &mut publisher, bench);
    assert_eq!((got[0].len(), got[1].len()), (0, 4));
}

/// Subscription options of 5.0.
const NO_LOCAL: u8 = 0b100;
const RETAIN_AS_PUBLISHED: u8 = 0b1000;

fn what_goes_out_is_as_its_member_asked(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for persistent in [false, true] {
        let mut session = connect(V5, &bench.id(&persistent.to_string()));
        if persistent {
            session = session.persistent();
        }
        let mut client = bench.client(&session);
        let filter = share(bench, "g", "t");
        let properties = [property::subscription_identifier(300)];
        let options = 1 | RETAIN_AS_PUBLISHED;
        client.send(&subscribe_with(V5, 1, &properties, &[(&filter, options)]));
        client.expect(Got::Suback(1, vec![1]));
        let mut publisher = bench.clean(V5, "p");
        publisher.publish(&publish(&topic, "x", 2, 1).retain());
        let got = client.expect_message(&topic, "x", 1, true);
        assert_eq!(got.properties, [property::subscription_identifier(300)]);
        publisher.publish(&publish(&topic, "", 1, 2).retain());
        client.expect_message(&topic, "", 1, true);
        client.unsubscribe(&filter);
    }
}

fn subscribing_again_changes_the_options(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V5, "s");
    let mut publisher = bench.clean(V5, "p");
    for qos in [2, 0, 1] {
        client.subscribe(&share(bench, "g", "t"), qos);
        publisher.publish(&publish(&topic, "x", 2, 1));
        client.expect_message(&topic, "x", qos, false);
    }
}

fn nothing_retained_comes_for_a_group(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&topic, "kept", 1, 1).retain());
    for version in VERSIONS {
        for persistent in [false, true] {
            let mut session = connect(version, &bench.id(&format!("{version}{persistent}")));
            if persistent {
                session = session.persistent();
            }
            let mut client = bench.client(&session);
            client.subscribe(&share(bench, "g", "t"), 1);
            client.expect_nothing_from(&mut publisher);
            client.unsubscribe(&share(bench, "g", "t"));
        }
    }
    publisher.publish(&publish(&topic, "", 1, 2).retain());
}

fn no_local_is_a_protocol_error(bench: &Bench<'_>) {
    let mut client = bench.clean(V5, "s");
    let filters = [("fine", 1), ("$share/g/t", 1 | NO_LOCAL)];
    client.send(&subscribe(V5, 1, &filters));
    client.expect_disconnect(0x82);
}

fn a_group_needs_a_name_and_a_filter(bench: &Bench<'_>) {
    for version in [V311, V5] {
        for filter in [
            "$share/x",
            "$share//f",
            "$share/a+b/f",
            "$share/#/f",
            "$share/g/",
            "$share/g/a#",
        ] {
            let mut client = bench.clean(version, "s");
            client.send(&subscribe(version, 1, &[(filter, 1)]));
            match client.try_next() {
                None | Some(Got::Disconnect(_)) => {}
                Some(other) => panic!("{other:?} for {filter}"),
            }
        }
    }
}

fn a_publisher_is_told_whether_there_is_a_group(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V5, "p");
    let mut member = bench.clean(V5, "s");
    member.subscribe(&share(bench, "g", "t"), 1);
    publisher.send(&publish(&topic, "x", 1, 1).bytes(V5));
    publisher.expect(Got::Ack(PUBACK, 1, 0));
    member.receive();
    member.unsubscribe(&share(bench, "g", "t"));
    // Other members are told in their own time.
    for id in 2.. {
        assert!(id < 60_000, "somebody still subscribes");
        publisher.send(&publish(&topic, "x", 1, id).bytes(V5));
        match publisher.next() {
            Got::Ack(_, got, 0x10) if got == id => return,
            Got::Ack(_, got, 0) if got == id => {}
            other => panic!("{other:?}"),
        }
    }
}

fn a_publish_right_behind_subscribe_comes(bench: &Bench<'_>) {
    for version in VERSIONS {
        for (qos, persistent) in [(0, false), (1, false), (2, false), (1, true), (2, true)] {
            let name = format!("{version}{qos}{persistent}");
            let mut session = connect(version, &bench.id(&name));
            if persistent {
                session = session.persistent();
            }
            let mut client = bench.client(&session);
            let topic = bench.topic(&name);
            let mut bytes = subscribe(version, 1, &[(&share(bench, "g", &name), qos)]);
            bytes.extend(publish(&topic, "x", qos, 2).bytes(version));
            client.send(&bytes);
            let (mut suback, mut message) = (false, false);
            while !(suback && message) {
                match client.next() {
                    Got::Suback(..) => suback = true,
                    Got::Publish(_) => message = true,
                    Got::Ack(PUBREC, id, _) => client.send(&wire::ack(PUBREL, id)),
                    Got::Ack(..) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

fn a_will_goes_to_one_member(bench: &Bench<'_>) {
    let mut members = members(bench, V311, 3, "will");
    let topic = bench.topic("will");
    let dying = bench.client(&connect(V311, &bench.id("dying")).will(&topic, "gone", 1, false));
    dying.drop_connection();
    // Who gets it is the broker's choice: the next message tells whether anybody has.
    let mut publisher = bench.clean(V311, "p");
    let mut got = Vec::new();
    while got.is_empty() {
        got = take_to_fence(&mut members, &mut publisher, bench).concat();
    }
    assert_eq!(got, ["gone"]);
    assert!(
        take_to_fence(&mut members, &mut publisher, bench)
            .concat()
            .is_empty()
    );
}

fn a_single_member_gets_everything_in_order(bench: &Bench<'_>) {
    const MESSAGES: usize = 300;
    for qos in 1..3 {
        for persistent in [false, true] {
            let name = format!("{qos}{persistent}");
            let mut session = connect(V311, &bench.id(&name));
            if persistent {
                session = session.persistent();
            }
            let mut member = bench.client(&session);
            member.subscribe(&share(bench, "g", &name), 2);
            let mut publisher = bench.clean(V311, &format!("p{name}"));
            let topic = bench.topic(&name);
            std::thread::scope(|scope| {
                scope.spawn(|| publish_numbers(&mut publisher, &topic, qos, MESSAGES));
                for n in 0..MESSAGES {
                    member.expect_message(&topic, &n.to_string(), qos, false);
                }
            });
            member.unsubscribe(&share(bench, "g", &name));
        }
    }
}

fn a_large_message_comes_whole(bench: &Bench<'_>) {
    let mut member = bench.clean(V311, "s");
    member.subscribe(&share(bench, "g", "t"), 2);
    let mut publisher = bench.clean(V311, "p");
    let payload = "large ".repeat(200_000);
    for qos in 0..3 {
        publisher.publish(&publish(&bench.topic("t"), &payload, qos, 1));
        member.expect_message(&bench.topic("t"), &payload, qos, false);
    }
}

/// A member that takes few messages at a time, and acknowledges none by itself.
fn member_of(bench: &Bench<'_>, session: &Connect, name: &str) -> Client {
    let mut client = bench.client(session);
    client.subscribe(&share(bench, "g", name), 2);
    client
}

fn a_member_that_takes_no_more_is_passed_over(bench: &Bench<'_>) {
    let takes_two = property::receive_maximum(2);
    let session = connect(V5, &bench.id("slow")).property(takes_two);
    for session in [session.clone(), session.persistent()] {
        let mut slow = member_of(bench, &session, "t");
        let mut fast = members(bench, V5, 1, "t");
        let mut publisher = bench.clean(V5, "p");
        publish_numbers(&mut publisher, &bench.topic("t"), 1, 30);
        let held = [slow.message(), slow.message()];
        let got = take_to_fence(&mut fast, &mut publisher, bench);
        assert_eq!(got[0].len(), 28, "{got:?}");
        // With room again, it has its turn again.
        held.iter().for_each(|message| slow.acknowledge(message));
        // Behind this SUBACK, whoever runs the groups knows of the acknowledgements.
        slow.subscribe(&format!("$share/g/{}", bench.topic("else")), 1);
        publish_numbers(&mut publisher, &bench.topic("t"), 1, 2);
        slow.message();
        slow.disconnect();
    }
}

/// A member has these unacknowledged messages of its group.
fn holding(bench: &Bench<'_>, session: &Connect, qos: u8, count: usize) -> (Client, Client) {
    let mut holder = member_of(bench, session, "t");
    let mut publisher = bench.clean(V5, "p");
    publish_numbers(&mut publisher, &bench.topic("t"), qos, count);
    for n in 0..count {
        assert_eq!(holder.message().payload, n.to_string().as_bytes());
    }
    (holder, publisher)
}

fn a_leavers_unacknowledged_messages_go_to_another(bench: &Bench<'_>) {
    for version in VERSIONS {
        for good_bye in [false, true] {
            let session = connect(version, &bench.id("holder"));
            let (mut holder, mut publisher) = holding(bench, &session, 1, 3);
            let mut heirs = members(bench, version, 1, "t");
            // The broker must have read the acknowledgement; the rest it never gets.
            holder.send(&wire::ack(PUBACK, 2));
            holder.ping();
            if good_bye {
                holder.disconnect();
            } else {
                holder.drop_connection();
            }
            let topic = bench.topic("t");
            heirs[0].expect_message(&topic, "0", 1, false);
            heirs[0].expect_message(&topic, "2", 1, false);
            let more = take_to_fence(&mut heirs, &mut publisher, bench);
            assert!(more.concat().is_empty(), "{more:?}");
            heirs.remove(0).disconnect();
        }
    }
}

fn a_persistent_leavers_unacknowledged_messages_go_to_another(bench: &Bench<'_>) {
    let session = connect(V5, &bench.id("holder")).persistent();
    let (holder, mut publisher) = holding(bench, &session, 1, 3);
    let mut heirs = members(bench, V5, 1, "t");
    holder.drop_connection();
    let topic = bench.topic("t");
    for n in ["0", "1", "2"] {
        heirs[0].expect_message(&topic, n, 1, false);
    }
    let mut holder = bench.client(&session);
    holder.expect_nothing_from(&mut publisher);
}

fn qos_2_on_the_wire_goes_to_nobody_else(bench: &Bench<'_>) {
    let session = connect(V311, &bench.id("holder"));
    let (holder, mut publisher) = holding(bench, &session, 2, 3);
    let mut others = members(bench, V311, 1, "t");
    holder.disconnect();
    // Whether the group has heard of it, the next message tells.
    publish_numbers(&mut publisher, &bench.topic("t"), 2, 1);
    let got = take_to_fence(&mut others, &mut publisher, bench);
    assert!(got[0].len() <= 1, "{got:?}");
}

fn a_persistent_member_completes_its_qos_2(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V311, &bench.id("holder")).persistent();
    let (mut holder, mut publisher) = holding(bench, &session, 2, 2);
    holder.send(&wire::ack(PUBREC, 1));
    holder.expect_ack(PUBREL, 1);
    let mut others = members(bench, V311, 1, "t");
    holder.drop_connection();
    let mut holder = bench.client(&session);
    let (mut again, mut released) = (None, false);
    while !(released && again.is_some()) {
        match holder.next() {
            Got::Ack(PUBREL, 1, _) => released = true,
            Got::Publish(message) => again = Some(message),
            other => panic!("{other:?}"),
        }
    }
    let again = again.unwrap();
    let seen = (&*again.topic, &*again.payload, again.id, again.dup);
    assert_eq!(seen, (&*topic, &b"1"[..], 2, true));
    let got = take_to_fence(&mut others, &mut publisher, bench);
    assert!(got.concat().is_empty(), "{got:?}");
}

fn a_refused_message_goes_to_nobody_else(bench: &Bench<'_>) {
    for (qos, first) in [(1, PUBACK), (2, PUBREC)] {
        let session = connect(V5, &bench.id("holder"));
        let (mut holder, mut publisher) = holding(bench, &session, qos, 1);
        let mut others = members(bench, V5, 1, "t");
        holder.send(&wire::packet(first, &[0, 1, 0x80]));
        holder.ping();
        holder.disconnect();
        let got = take_to_fence(&mut others, &mut publisher, bench);
        assert!(got.concat().is_empty(), "{got:?}");
    }
}

fn messages_wait_for_the_only_member(bench: &Bench<'_>) {
    for version in VERSIONS {
        let session = connect(version, &bench.id(&version.to_string())).persistent();
        let name = format!("t{version}");
        member_of(bench, &session, &name).disconnect();
        let mut publisher = bench.clean(version, &format!("p{version}"));
        publish_numbers(&mut publisher, &bench.topic(&name), 1, 30);
        let mut member = bench.client(&session);
        for n in 0..30 {
            member.expect_message(&bench.topic(&name), &n.to_string(), 1, false);
        }
        member.unsubscribe(&share(bench, "g", &name));
    }
}

fn who_is_away_is_given_nothing(bench: &Bench<'_>) {
    let session = connect(V311, &bench.id("away")).persistent();
    member_of(bench, &session, "t").disconnect();
    let mut others = members(bench, V311, 1, "t");
    let mut publisher = bench.clean(V311, "p");
    publish_numbers(&mut publisher, &bench.topic("t"), 1, 10);
    let got = take_to_fence(&mut others, &mut publisher, bench);
    assert_eq!(got[0].len(), 10);
}

fn a_session_that_moves_keeps_its_groups(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V5, &bench.id("mover")).persistent();
    let mut publisher = bench.clean(V5, "p");
    let mut member = member_of(bench, &session, "t");
    for n in 0..8 {
        publisher.publish(&publish(&topic, &n.to_string(), 1, 1));
        member.expect_message(&topic, &n.to_string(), 1, false);
        // Each is on the next worker; every other one takes over.
        if n % 2 == 0 {
            member.disconnect();
            member = bench.client(&session);
        } else {
            let old = std::mem::replace(&mut member, bench.socket());
            assert!(member.connect(&session), "the session is there");
            drop(old);
        }
    }
    member.unsubscribe(&share(bench, "g", "t"));
}

fn a_clean_start_ends_memberships(bench: &Bench<'_>) {
    let session = connect(V311, &bench.id("s"));
    member_of(bench, &session.clone().persistent(), "t").disconnect();
    let mut member = bench.client(&session);
    let mut publisher = bench.clean(V311, "p");
    publisher.publish(&publish(&bench.topic("t"), "x", 1, 1));
    member.expect_nothing_from(&mut publisher);
}

/// The pid of one worker, by its title.
fn worker_pid(supervisor: u32, worker: usize) -> Option<Pid> {
    let children = format!("/proc/{supervisor}/task/{supervisor}/children");
    let children = std::fs::read_to_string(children).unwrap();
    let is_it = |pid: &&str| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|title| title.contains(&format!("worker {worker}")))
    };
    let pid = children.split_whitespace().find(is_it)?;
    Some(Pid::from_raw(pid.parse().unwrap()))
}

fn a_killed_workers_members_lose_nothing_for_the_group(bench: &Bench<'_>) {
    const MESSAGES: usize = 20;
    let topic = bench.topic("t");
    // An heir on another worker, if there is one; where there is not, its session survives.
    let session = connect(V311, &bench.id("heir")).persistent();
    let heir = || loop {
        let mut heir = bench.socket_on(1);
        heir.version = V311;
        heir.try_send(&session.bytes());
        // A worker that is about to die may still accept.
        if let Some(Got::Connack { .. }) = heir.try_next() {
            return heir;
        }
    };
    let mut there = heir();
    there.subscribe(&share(bench, "g", "t"), 1);
    let mut doomed = bench.socket_on(0);
    doomed.connect(&connect(V311, &bench.id("doomed")));
    doomed.subscribe(&share(bench, "g", "t"), 1);
    let mut publisher = bench.socket_on(2);
    publisher.connect(&connect(V311, &bench.id("p")));
    publish_numbers(&mut publisher, &topic, 1, MESSAGES);
    for _ in 0..MESSAGES / 2 {
        doomed.message();
    }
    if let Some(pid) = worker_pid(bench.broker.pid, 0) {
        kill(pid, Signal::SIGKILL).unwrap();
    } else {
        doomed.stream.shutdown(std::net::Shutdown::Both).unwrap();
    }
    let mut got = std::collections::BTreeSet::new();
    while got.len() < MESSAGES {
        match there.try_next() {
            Some(Got::Publish(message)) => {
                there.try_send(&wire::ack(PUBACK, message.id));
                got.insert(String::from_utf8(message.payload).unwrap());
            }
            Some(other) => panic!("{other:?}"),
            None => there = heir(),
        }
    }
}
