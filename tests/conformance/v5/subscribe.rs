//! 3.8 and 3.9: SUBSCRIBE and SUBACK.

use super::{MALFORMED, closed, closes, stored};
use crate::harness::client::Client;
use crate::wire::{Got, PINGREQ, V5, connect, packet, publish, subscribe};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(other_flags_close).checks(&["MQTT-3.8.1-1"]),
    test!(a_subscribe_of_nothing_closes).checks(&["MQTT-3.8.3-2"]),
    test!(no_local_keeps_own_messages_away).checks(&["MQTT-3.8.3-3"]),
    test!(no_local_is_of_the_client_id).checks(&["MQTT-3.8.3-3"]),
    test!(no_local_keeps_own_retained_messages_away)
        .checks(&["MQTT-3.8.3-3"])
        .original_breaks("sends them"),
    test!(no_local_on_a_shared_subscription_closes)
        .checks(&["MQTT-3.8.3-4"])
        .original_breaks("grants it"),
    test!(reserved_options_close).checks(&["MQTT-3.8.3-5"]),
    test!(subscribe_is_answered).checks(&["MQTT-3.8.4-1", "MQTT-3.8.4-2"]),
    test!(the_same_filter_replaces_the_subscription).checks(&["MQTT-3.8.4-3"]),
    test!(the_options_are_replaced_too)
        .checks(&["MQTT-3.8.4-3"])
        .original_breaks("keeps the no local of before"),
    test!(replacing_loses_nothing).checks(&["MQTT-3.8.4-4"]),
    test!(many_filters_are_many_subscriptions).checks(&[
        "MQTT-3.8.4-5",
        "MQTT-3.8.4-6",
        "MQTT-3.9.3-1",
    ]),
    test!(suback_tells_the_granted_qos).checks(&["MQTT-3.8.4-7", "MQTT-3.9.3-2"]),
    test!(refused_filters_have_codes_of_the_table).checks(&["MQTT-3.8.4-7", "MQTT-3.9.3-2"]),
    test!(messages_come_at_the_lower_qos).checks(&["MQTT-3.8.4-8"]),
];

const NO_LOCAL: u8 = 4;

/// Codes of SUBACK.
const CODES: [u8; 12] = [
    0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2,
];

fn other_flags_close(bench: &Bench<'_>) {
    let body = subscribe(V5, 1, &[(&bench.topic("t"), 0)])[2..].to_vec();
    for flags in (0..16).filter(|flags| *flags != 2) {
        closes(bench, &packet(0x80 | flags, &body), MALFORMED);
    }
}

fn a_subscribe_of_nothing_closes(bench: &Bench<'_>) {
    closes(bench, &packet(0x82, &[0, 1, 0]), MALFORMED);
}

fn no_local_keeps_own_messages_away(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for session in [connect(V5, &bench.id("clean")), stored(bench, "stored")] {
        let mut client = bench.client(&session);
        let mut other = bench.clean(V5, "other");
        client.subscribe(&topic, 2 | NO_LOCAL);
        for qos in 0..3 {
            client.publish(&publish(&topic, "own", qos, 1));
            other.publish(&publish(&topic, "other", qos, 1));
            client.expect_message(&topic, "other", qos, false);
        }
        client.expect_nothing_from(&mut other);
        client.unsubscribe(&topic);
    }
}

fn no_local_is_of_the_client_id(bench: &Bench<'_>) {
    let (topic, session) = (bench.topic("t"), stored(bench, "s"));
    let mut client = bench.client(&session);
    client.subscribe(&topic, 2 | NO_LOCAL);
    client.publish(&publish(&topic, "own", 1, 1));
    client.disconnect();
    let mut other = bench.clean(V5, "other");
    other.publish(&publish(&topic, "other", 1, 1));
    // Another connection, but the same client.
    let mut client = bench.client(&session);
    client.expect_message(&topic, "other", 1, false);
    client.publish(&publish(&topic, "own", 2, 1));
    client.expect_nothing_from(&mut other);
    client.unsubscribe(&topic);
}

fn no_local_keeps_own_retained_messages_away(bench: &Bench<'_>) {
    let (own, other) = (bench.topic("own"), bench.topic("other"));
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&other, "x", 1, 1).retain());
    let mut client = bench.clean(V5, "c");
    client.publish(&publish(&own, "x", 1, 1).retain());
    client.subscribe(&own, 1 | NO_LOCAL);
    client.subscribe(&other, 1 | NO_LOCAL);
    let got = client.receive().topic;
    publisher.publish(&publish(&own, "", 1, 1).retain());
    publisher.publish(&publish(&other, "", 1, 1).retain());
    assert_eq!(got, other);
}

fn no_local_on_a_shared_subscription_closes(bench: &Bench<'_>) {
    let shared = format!("$share/g/{}", bench.topic("t"));
    let mut client = bench.clean(V5, "c");
    client.send(&subscribe(V5, 1, &[(&shared, 1 | NO_LOCAL)]));
    closed(&mut client, &[0x82]);
}

fn reserved_options_close(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    // The reserved bits, retain handling 3, QoS 3.
    for options in [0x40, 0x80, 0xc0, 0x30, 0x03] {
        closes(bench, &subscribe(V5, 1, &[(&topic, options)]), MALFORMED);
    }
}

fn subscribe_is_answered(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V5, "c");
    for id in [1, 2, 0xffff] {
        client.send(&subscribe(V5, id, &[(&topic, 0)]));
        client.expect(Got::Suback(id, vec![0]));
    }
}

fn the_same_filter_replaces_the_subscription(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for session in [connect(V5, &bench.id("clean")), stored(bench, "stored")] {
        let mut subscriber = bench.client(&session);
        let mut publisher = bench.clean(V5, "p");
        for filter in [topic.clone(), bench.topic("+")] {
            for qos in [2, 0, 1] {
                subscriber.subscribe(&filter, qos);
                publisher.publish(&publish(&topic, "x", 2, 1));
                subscriber.expect_message(&topic, "x", qos, false);
                subscriber.expect_nothing_from(&mut publisher);
            }
            subscriber.unsubscribe(&filter);
        }
    }
}

fn the_options_are_replaced_too(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let as_published = 8;
    for session in [connect(V5, &bench.id("clean")), stored(bench, "stored")] {
        let mut client = bench.client(&session);
        for (options, retain) in [
            (NO_LOCAL, None),
            (0, Some(false)),
            (as_published, Some(true)),
        ] {
            client.subscribe(&topic, 1 | options | 2 << 4);
            client.publish(&publish(&topic, "own", 1, 1).retain());
            if let Some(retain) = retain {
                client.expect_message(&topic, "own", 1, retain);
            }
        }
        client.unsubscribe(&topic);
        client.publish(&publish(&topic, "", 1, 1).retain());
    }
}

fn replacing_loses_nothing(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for session in [connect(V5, &bench.id("clean")), stored(bench, "stored")] {
        let mut subscriber = bench.client(&session);
        subscriber.subscribe(&topic, 1);
        let mut publisher = bench.clean(V5, "p");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..200 {
                    publisher.publish(&publish(&topic, &n.to_string(), 1, 1));
                }
            });
            let mut next = 0;
            while next < 200 {
                // Again and again, with this many still to be read.
                subscriber.send(&subscribe(V5, 7, &[(&topic, 1)]));
                loop {
                    match subscriber.next() {
                        Got::Suback(7, _) => break,
                        Got::Publish(message) => {
                            subscriber.acknowledge(&message);
                            assert_eq!(message.payload, next.to_string().as_bytes());
                            next += 1;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        });
        subscriber.unsubscribe(&topic);
    }
}

fn many_filters_are_many_subscriptions(bench: &Bench<'_>) {
    let names: Vec<String> = (0..300).map(|n| bench.topic(&n.to_string())).collect();
    let filters: Vec<(&str, u8)> = names
        .iter()
        .enumerate()
        .map(|(n, f)| (&**f, (n % 3) as u8))
        .collect();
    let mut client = bench.clean(V5, "c");
    client.send(&subscribe(V5, 1, &filters));
    let granted = filters.iter().map(|(_, qos)| *qos).collect();
    client.expect(Got::Suback(1, granted));
    let mut publisher = bench.clean(V5, "p");
    for (name, qos) in filters.iter().step_by(20) {
        publisher.publish(&publish(name, "x", 2, 1));
        client.expect_message(name, "x", *qos, false);
    }
    // One after the other: the last one of a filter holds.
    let (a, b) = (&*names[0], &*names[1]);
    client.send(&subscribe(V5, 2, &[(a, 2), (b, 0), (a, 1)]));
    client.expect(Got::Suback(2, vec![2, 0, 1]));
    publisher.publish(&publish(a, "x", 2, 1));
    client.expect_message(a, "x", 1, false);
}

fn suback_tells_the_granted_qos(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V5, "c");
    let mut publisher = bench.clean(V5, "p");
    for asked in 0..3 {
        client.send(&subscribe(V5, 1, &[(&topic, asked)]));
        let Got::Suback(1, codes) = client.next() else {
            panic!("no SUBACK");
        };
        let [granted] = codes[..] else {
            panic!("{codes:?}")
        };
        assert!(granted <= asked);
        publisher.publish(&publish(&topic, "x", 2, 1));
        client.expect_message(&topic, "x", granted, false);
    }
}

fn refused_filters_have_codes_of_the_table(bench: &Bench<'_>) {
    let plain = bench.topic("t");
    for refused in [
        "",
        "a/#/b",
        "a#",
        "+a",
        "$share",
        "$share/",
        "$share/g",
        "$share/g/",
    ] {
        let mut client = bench.clean(V5, "c");
        client.send(&subscribe(V5, 1, &[(refused, 0), (&plain, 1)]));
        client.try_send(PINGREQ);
        match client.next() {
            // A code that says no to one, or the end.
            Got::Suback(1, codes) => {
                assert_eq!(codes.len(), 2);
                assert!(CODES.contains(&codes[0]) && codes[1] == 1, "{codes:02x?}");
            }
            Got::Disconnect(code) => assert!([0x81, 0x82, 0x8f].contains(&code), "{code:#x}"),
            other => panic!("{other:?}"),
        }
    }
}

fn messages_come_at_the_lower_qos(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V5, "p");
    for persistent in [false, true] {
        for granted in 0..3 {
            let session = connect(V5, &bench.id(&format!("{persistent}{granted}")));
            let session = if persistent {
                session.persistent()
            } else {
                session
            };
            let mut subscriber: Client = bench.client(&session);
            subscriber.subscribe(&topic, granted);
            for sent in 0..3 {
                publisher.publish(&publish(&topic, "x", sent, 1));
                subscriber.expect_message(&topic, "x", sent.min(granted), false);
            }
            subscriber.expect_nothing_from(&mut publisher);
            subscriber.unsubscribe(&topic);
        }
    }
}
