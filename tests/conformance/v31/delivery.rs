//! Sessions and messages in 3.1.

use crate::wire::{
    Got, PUBACK, PUBCOMP, PUBREC, PUBREL, V31, V311, ack, connect, publish, subscribe,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(a_session_is_kept_or_dropped).checks(&["3.1-clean", "4.2-retry"]),
    test!(a_session_goes_on_in_3_1_1_and_back).checks(&["3.1-clean"]),
    test!(a_takeover_closes_the_older_connection).checks(&["3.1-client-id", "3.1-clean"]),
    test!(each_qos_has_its_flow).checks(&["3.6-qos", "2.4-ids"]),
    test!(one_id_serves_both_directions_at_once).checks(&["2.4-ids"]),
    test!(what_was_not_acknowledged_is_sent_again).checks(&["4.2-retry", "3.3-dup"]),
    test!(a_repeated_qos_2_is_delivered_once).checks(&["4.2-retry", "3.6-qos"]),
    test!(a_repeated_pubrel_with_dup_is_completed).checks(&["4.2-retry", "2.1-flags"]),
    test!(a_repeated_subscribe_with_dup_is_answered).checks(&["4.2-retry", "2.1-flags"]),
    test!(dup_of_a_publisher_stays_with_it).checks(&["3.3-dup"]),
    test!(retain_is_for_new_subscriptions).checks(&["3.3-retain"]),
    test!(messages_keep_their_order).checks(&["4.3-order"]),
    test!(wildcards_match).checks(&["A-wildcards"]),
];

fn a_session_is_kept_or_dropped(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V31, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 2);
    client.disconnect();
    let mut publisher = bench.clean(V31, "p");
    for qos in 0..3 {
        publisher.publish(&publish(&topic, &qos.to_string(), qos, 1));
    }
    let mut client = bench.client(&session);
    for qos in 1..3 {
        client.expect_message(&topic, &qos.to_string(), qos, false);
    }
    client.expect_nothing_from(&mut publisher);
    client.disconnect();
    publisher.publish(&publish(&topic, "dropped", 1, 1));
    bench.client(&session.clone().clean(true)).disconnect();
    let mut client = bench.client(&session);
    publisher.publish(&publish(&topic, "dropped", 1, 1));
    client.expect_nothing_from(&mut publisher);
    client.disconnect();
    bench.client(&session.clean(true)).disconnect();
}

fn a_session_goes_on_in_3_1_1_and_back(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V31, "p");
    let mut client = bench.client(&connect(V31, &bench.id("s")).persistent());
    client.subscribe(&topic, 2);
    for version in [V311, V31, V311, V31] {
        client.disconnect();
        publisher.publish(&publish(&topic, "x", 2, 1));
        client = bench.client(&connect(version, &bench.id("s")).persistent());
        client.expect_message(&topic, "x", 2, false);
    }
    client.disconnect();
    bench.clean(V31, "s").disconnect();
}

fn a_takeover_closes_the_older_connection(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V31, &bench.id("s")).persistent();
    let mut publisher = bench.clean(V31, "p");
    let mut older = bench.client(&session);
    older.subscribe(&topic, 1);
    publisher.publish(&publish(&topic, "x", 1, 1));
    let first = older.message();
    for _ in 0..3 {
        let mut newer = bench.client(&session);
        older.expect_end();
        assert_eq!(newer.message(), first.clone().dup());
        older = newer;
    }
    let mut newer = bench.client(&session.clean(true));
    older.expect_end();
    newer.expect_nothing_from(&mut publisher);
}

fn each_qos_has_its_flow(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V31, "c");
    let mut subscriber = bench.clean(V31, "s");
    subscriber.subscribe(&topic, 2);
    client.send(&publish(&topic, "zero", 0, 0).bytes(V31));
    client.ping();
    client.send(&publish(&topic, "one", 1, 0x0102).bytes(V31));
    client.expect_bytes(&[0x40, 2, 1, 2]);
    client.send(&publish(&topic, "two", 2, 0xffff).bytes(V31));
    client.expect_bytes(&[0x50, 2, 0xff, 0xff]);
    client.send(&ack(PUBREL, 0xffff));
    client.expect_bytes(&[0x70, 2, 0xff, 0xff]);
    subscriber.expect_message(&topic, "zero", 0, false);
    let one = subscriber.message();
    assert!(one.qos == 1 && one.id > 0);
    subscriber.send(&ack(PUBACK, one.id));
    let two = subscriber.message();
    assert!(two.qos == 2 && two.id > 0);
    subscriber.send(&ack(PUBREC, two.id));
    subscriber.expect(Got::Ack(PUBREL, two.id, 0));
    subscriber.send(&ack(PUBCOMP, two.id));
    subscriber.expect_nothing_from(&mut client);
}

fn one_id_serves_both_directions_at_once(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V31, "c");
    client.subscribe(&topic, 2);
    let mut other = bench.clean(V31, "other");
    other.publish(&publish(&topic, "theirs", 2, 1));
    let theirs = client.message();
    client.send(&publish(&topic, "own", 2, theirs.id).bytes(V31));
    client.expect_ack(PUBREC, theirs.id);
    client.send(&ack(PUBREL, theirs.id));
    client.expect_ack(PUBCOMP, theirs.id);
    client.acknowledge(&theirs);
    client.expect_message(&topic, "own", 2, false);
    client.expect_nothing_from(&mut other);
}

fn what_was_not_acknowledged_is_sent_again(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V31, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 2);
    let mut publisher = bench.clean(V31, "p");
    for n in 1..=4 {
        publisher.publish(&publish(&topic, &n.to_string(), 1 + n as u8 % 2, n));
    }
    let mut sent: Vec<_> = (0..4).map(|_| client.message()).collect();
    assert!(sent.iter().all(|m| !m.dup));
    client.send(&ack(PUBREC, sent[0].id));
    client.expect_ack(PUBREL, sent[0].id);
    let released = sent.remove(0).id;
    for _ in 0..2 {
        client.drop_connection();
        client = bench.client(&session);
        let mut got: Vec<Got> = (0..4).map(|_| client.next()).collect();
        // In 3.1 a PUBREL may have DUP when it comes again.
        let at = got
            .iter()
            .position(|got| matches!(got, Got::Ack(first, id, 0) if first & 0xf7 == PUBREL && *id == released));
        got.remove(at.expect("PUBREL"));
        let again = sent.iter().map(|m| Got::Publish(m.clone().dup()));
        assert_eq!(got, again.collect::<Vec<_>>());
    }
    client.disconnect();
    bench.client(&session.clean(true)).disconnect();
}

fn a_repeated_qos_2_is_delivered_once(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V31, "s");
    subscriber.subscribe(&topic, 2);
    let session = connect(V31, &bench.id("p")).persistent();
    let mut publisher = bench.client(&session);
    let message = publish(&topic, "once", 2, 9);
    publisher.send(&message.bytes(V31));
    publisher.expect_ack(PUBREC, 9);
    publisher.drop_connection();
    let mut publisher = bench.client(&session);
    publisher.publish(&message.dup());
    subscriber.expect_message(&topic, "once", 2, false);
    subscriber.expect_nothing_from(&mut publisher);
    publisher.disconnect();
    bench.client(&session.clean(true)).disconnect();
}

fn a_repeated_pubrel_with_dup_is_completed(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V31, "s");
    subscriber.subscribe(&topic, 2);
    let mut publisher = bench.clean(V31, "p");
    publisher.send(&publish(&topic, "once", 2, 9).bytes(V31));
    publisher.expect_ack(PUBREC, 9);
    for first in [PUBREL | 8, PUBREL | 8, PUBREL] {
        publisher.send(&ack(first, 9));
        publisher.expect_ack(PUBCOMP, 9);
    }
    subscriber.expect_message(&topic, "once", 2, false);
    subscriber.expect_nothing_from(&mut publisher);
}

fn a_repeated_subscribe_with_dup_is_answered(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V31, "c");
    let mut bytes = subscribe(V31, 5, &[(&topic, 1)]);
    for _ in 0..3 {
        client.send(&bytes);
        client.expect(Got::Suback(5, vec![1]));
        bytes[0] |= 8;
    }
    client.publish(&publish(&topic, "x", 1, 1));
    client.expect_message(&topic, "x", 1, false);
    let mut publisher = bench.clean(V31, "p");
    client.expect_nothing_from(&mut publisher);
}

fn dup_of_a_publisher_stays_with_it(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscribers = [bench.clean(V31, "31"), bench.clean(V311, "311")];
    for subscriber in &mut subscribers {
        subscriber.subscribe(&topic, 2);
    }
    let mut publisher = bench.clean(V31, "p");
    for qos in 1..3 {
        publisher.publish(&publish(&topic, "x", qos, 9).dup());
        for subscriber in &mut subscribers {
            assert!(!subscriber.expect_message(&topic, "x", qos, false).dup);
        }
    }
}

fn retain_is_for_new_subscriptions(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut live = bench.clean(V31, "live");
    live.subscribe(&topic, 2);
    let mut publisher = bench.clean(V31, "p");
    for qos in 0..3 {
        publisher.publish(&publish(&topic, &qos.to_string(), qos, 1).retain());
        publisher.ping();
        live.expect_message(&topic, &qos.to_string(), qos, false);
    }
    let mut later = bench.clean(V31, "later");
    later.subscribe(&topic, 1);
    later.expect_message(&topic, "2", 1, true);
    publisher.publish(&publish(&topic, "", 1, 1).retain());
    later.expect_message(&topic, "", 1, false);
    let mut latest = bench.clean(V31, "latest");
    latest.subscribe(&topic, 1);
    latest.expect_nothing_from(&mut publisher);
}

fn messages_keep_their_order(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V31, &bench.id("s")).persistent();
    let mut client = bench.client(&session);
    client.subscribe(&topic, 2);
    let mut publisher = bench.clean(V31, "p");
    for n in 1..=60 {
        publisher.publish(&publish(&topic, &n.to_string(), 1 + n as u8 % 2, n));
        if n == 30 {
            client.drop_connection();
            client = bench.client(&session);
        }
    }
    for n in 1..=60 {
        client.expect_message(&topic, &n.to_string(), 1 + n as u8 % 2, false);
    }
    client.disconnect();
    bench.client(&session.clean(true)).disconnect();
}

fn wildcards_match(bench: &Bench<'_>) {
    let mut client = bench.clean(V31, "c");
    let mut publisher = bench.clean(V31, "p");
    for (filter, inside, outside) in [
        ("a/+", &["a/b", "a/"][..], &["a", "a/b/c"][..]),
        ("a/#", &["a", "a/b", "a/b/c"], &["ab"]),
        ("+/+", &["a/b", "/b"], &["a"]),
        ("#", &["a", "a/b"], &[]),
    ] {
        let filter = bench.topic(filter);
        client.subscribe(&filter, 1);
        for name in inside.iter().chain(outside) {
            publisher.publish(&publish(&bench.topic(name), "x", 1, 1));
        }
        for name in inside {
            client.expect_message(&bench.topic(name), "x", 1, false);
        }
        client.expect_nothing_from(&mut publisher);
        client.unsubscribe(&filter);
    }
}
