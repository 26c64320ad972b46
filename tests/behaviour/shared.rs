//! Shared subscriptions: each message to one member of a group, and back to the group when that one leaves.

use std::collections::BTreeMap;

use crate::client::Client;
use crate::wire::{Got, V5, V31, V311, connect, publish, subscribe, unsubscribe};
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
