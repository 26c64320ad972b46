//! Options about who is let in, and what one client may ask for. Broker-wide limits are elsewhere.

use std::time::{Duration, Instant};

use crate::broker::Setup;
use crate::client::Client;
use crate::wire::{
    Connect, Got, PUBACK, PUBREC, V5, V31, V311, connect, packet, property, publish, subscribe,
    text,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(only_client_ids_with_the_prefix_are_let_in).setup(Setup::With(PREFIX)),
    test!(a_reload_disconnects_ids_without_the_prefix)
        .setup(Setup::With(PREFIX_RELOADED))
        .original_breaks("asks for the prefix when a client connects only"),
    test!(a_user_name_takes_the_place_of_the_id).setup(Setup::With(BY_NAME)),
    test!(the_prefix_is_that_of_the_user_name_that_is_the_id)
        .setup(Setup::With(BY_NAME_WITH_PREFIX))
        .original_breaks("looks at the id that nobody uses"),
    test!(only_versions_that_are_accepted_are_let_in)
        .setup(Setup::With(VERSIONS))
        .since_2_1(),
    test!(a_reload_disconnects_versions_that_are_not_accepted_any_more)
        .setup(Setup::With(VERSIONS_RELOADED))
        .original_breaks("asks for the version when a client connects only"),
    test!(an_assigned_id_begins_with_the_prefix_of_the_broker).setup(Setup::With(AUTO_ID)),
    test!(an_assigned_id_begins_with_the_prefix_of_the_listener)
        .setup(Setup::With(LISTENER_AUTO_ID))
        .since_2_1(),
    test!(a_payload_over_the_limit_is_acknowledged_and_dropped)
        .setup(Setup::With(PAYLOAD))
        .original_breaks("says 0x95, which no PUBACK may say"),
    test!(a_packet_over_the_limit_closes_whatever_it_is).setup(Setup::With(PACKET)),
    test!(a_reload_leaves_the_terms_of_connected_clients_alone)
        .setup(Setup::With(TERMS))
        .since_2_1(),
    test!(subscriptions_beyond_the_limit_are_refused)
        .setup(Setup::With(SUBSCRIPTIONS))
        .original_breaks("has no such option"),
    test!(sessions_bring_their_subscriptions_to_the_count)
        .setup(Setup::With(SUBSCRIPTIONS))
        .original_breaks("has no such option"),
    test!(sessions_of_which_the_store_does_all_are_counted_too)
        .setup(Setup::With(SUBSCRIPTIONS_AT_STORE))
        .original_breaks("has no such option"),
    test!(topics_and_filters_that_are_too_deep_close)
        .setup(Setup::With(LEVELS))
        .original_breaks("has no such option"),
];

const PREFIX: &str = "allow_anonymous true\nclientid_prefixes ab-\n";
const PREFIX_RELOADED: &str = "# alone\nallow_anonymous true\nclientid_prefixes ab-\n";
const BY_NAME: &str = "allow_anonymous true\nuse_username_as_clientid true\n";
const BY_NAME_WITH_PREFIX: &str =
    "allow_anonymous true\nuse_username_as_clientid true\nclientid_prefixes ab-\n";
const VERSIONS: &str = "allow_anonymous true\naccept_protocol_versions 3,5\n";
const VERSIONS_RELOADED: &str = "# alone\nallow_anonymous true\naccept_protocol_versions 3,4,5\n";
const AUTO_ID: &str = "allow_anonymous true\nauto_id_prefix guest-\n";
const LISTENER_AUTO_ID: &str =
    "allow_anonymous true\nauto_id_prefix guest-\nlistener_auto_id_prefix here-\n";
const PAYLOAD: &str = "allow_anonymous true\nmessage_size_limit 10\n";
const PACKET: &str = "allow_anonymous true\nmax_packet_size 100\n";
const TERMS: &str = "# alone\nallow_anonymous true\nmax_packet_size 1000\n";
const SUBSCRIPTIONS: &str = "allow_anonymous true\nmax_subscriptions 3\n";
const SUBSCRIPTIONS_AT_STORE: &str =
    "allow_anonymous true\nmax_subscriptions 3\nqueue_qos0_messages true\n";
const LEVELS: &str = "allow_anonymous true\nmax_topic_levels 3\n";

/// CONNACK's code for "not authorised".
fn not_authorised(version: u8) -> u8 {
    if version == V5 { 0x87 } else { 5 }
}

fn expect_refusal(bench: &Bench<'_>, connect: &Connect, code: u8) {
    let mut client = bench.socket();
    let (present, got, _) = client.connack(connect);
    assert_eq!((present, got), (false, code), "id {:?}", connect.id);
    client.expect_end();
}

fn only_client_ids_with_the_prefix_are_let_in(bench: &Bench<'_>) {
    for version in [V31, V311, V5] {
        let id = format!("ab-{}", bench.id("x"));
        bench.client(&connect(version, &id)).ping();
        bench.client(&connect(version, "ab-")).ping();
        for other in ["ab", "Ab-x", "xab-"] {
            expect_refusal(bench, &connect(version, other), not_authorised(version));
        }
    }
    // An id that the broker assigns has the broker's own prefix.
    expect_refusal(bench, &connect(V311, ""), 5);
    expect_refusal(bench, &connect(V5, ""), 0x87);
}

fn a_reload_disconnects_ids_without_the_prefix(bench: &Bench<'_>) {
    let versions = [V311, V5];
    let connected = |id: &str| -> Vec<Client> {
        let of = |version| bench.client(&connect(version, &format!("ab-{id}{version}")));
        versions.into_iter().map(of).collect()
    };
    let (mut kept, mut refused) = (connected("c"), connected("d"));
    let lines = "# alone\nallow_anonymous true\nclientid_prefixes ab-c\n";
    bench.broker.reload(lines);
    for client in &mut refused {
        client.expect_disconnect(0x98);
    }
    for client in &mut kept {
        client.ping();
    }
}

fn a_user_name_takes_the_place_of_the_id(bench: &Bench<'_>) {
    for version in [V31, V311, V5] {
        let id = bench.id(&version.to_string());
        expect_refusal(bench, &connect(version, &id), not_authorised(version));
        let nameless = connect(version, &id).username("");
        expect_refusal(bench, &nameless, not_authorised(version));
        // Another connection with the name takes the session over, whatever its id.
        let name = format!("joe{version}");
        let mut first = bench.client(&connect(version, "one").username(&name));
        let mut second = bench.client(&connect(version, "two").username(&name));
        // The original does not say so.
        if let Some(word) = first.try_next() {
            assert_eq!((version, word), (V5, Got::Disconnect(0x8e)));
            first.expect_end();
        }
        second.ping();
    }
    let mut client = bench.socket();
    let (_, code, properties) = client.connack(&connect(V5, "").username("joe"));
    assert_eq!(code, 0);
    let assigned = property::assigned_client_id("joe");
    assert!(properties.windows(assigned.len()).any(|w| w == assigned));
}

fn the_prefix_is_that_of_the_user_name_that_is_the_id(bench: &Bench<'_>) {
    bench.client(&connect(V5, "any").username("ab-joe")).ping();
    expect_refusal(bench, &connect(V5, "ab-joe").username("joe"), 0x87);
}

fn only_versions_that_are_accepted_are_let_in(bench: &Bench<'_>) {
    for version in [V31, V5] {
        bench.client(&connect(version, &bench.id("let in"))).ping();
    }
    expect_refusal(bench, &connect(V311, &bench.id("refused")), 1);
}

fn a_reload_disconnects_versions_that_are_not_accepted_any_more(bench: &Bench<'_>) {
    let mut clients: Vec<_> = [V31, V311, V5]
        .into_iter()
        .map(|version| bench.client(&connect(version, &bench.id(&version.to_string()))))
        .collect();
    let lines = "# alone\nallow_anonymous true\naccept_protocol_versions 4\n";
    bench.broker.reload(lines);
    clients[0].expect_end();
    clients[2].expect_disconnect(0x98);
    clients[1].ping();
    expect_refusal(bench, &connect(V5, &bench.id("late")), 0x84);
}

fn expect_assigned(bench: &Bench<'_>, prefix: &str) {
    let mut client = bench.socket();
    let (_, code, properties) = client.connack(&connect(V5, ""));
    assert_eq!(code, 0);
    let length = u16::try_from(prefix.len() + 36).unwrap().to_be_bytes();
    let begins = [&[0x12][..], &length, prefix.as_bytes()].concat();
    assert!(
        properties.windows(begins.len()).any(|w| w == begins),
        "{properties:02x?}"
    );
}

fn an_assigned_id_begins_with_the_prefix_of_the_broker(bench: &Bench<'_>) {
    expect_assigned(bench, "guest-");
}

fn an_assigned_id_begins_with_the_prefix_of_the_listener(bench: &Bench<'_>) {
    expect_assigned(bench, "here-");
}

fn a_payload_over_the_limit_is_acknowledged_and_dropped(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V311, "subscriber");
    subscriber.subscribe(&topic, 2);
    for version in [V311, V5] {
        let mut client = bench.clean(version, &format!("p{version}"));
        let code = if version == V5 { 0x97 } else { 0 };
        client.send(&publish(&topic, "12345678901", 0, 0).bytes(version));
        client.send(&publish(&topic, "12345678901", 1, 1).bytes(version));
        client.expect(Got::Ack(PUBACK, 1, code));
        client.send(&publish(&topic, "12345678901", 2, 2).bytes(version));
        client.expect(Got::Ack(PUBREC, 2, code));
        client.send(&publish(&topic, "1234567890", 1, 3).bytes(version));
        client.expect(Got::Ack(PUBACK, 3, 0));
        subscriber.expect_message(&topic, "1234567890", 1, false);
    }
}

fn a_packet_over_the_limit_closes_whatever_it_is(bench: &Bench<'_>) {
    let long = "x".repeat(100);
    let mut subscribe = [0, 1, 0].to_vec();
    subscribe.extend(text(&long));
    for body in [subscribe.clone(), [&subscribe[..], &[0]].concat()] {
        let first = if body.len() == subscribe.len() {
            0xa2
        } else {
            0x82
        };
        let mut client = bench.clean(V5, "s");
        client.send(&packet(first, &body));
        client.expect_disconnect(0x95);
    }
    let mut client = bench.socket();
    client.send(&connect(V311, &long).bytes());
    client.expect_end();
    bench.clean(V311, "short").ping();
}

fn a_reload_leaves_the_terms_of_connected_clients_alone(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.clean(V5, "before");
    bench.broker.reload(
        "# alone\nallow_anonymous true\nmax_packet_size 1000\nmax_qos 0\nmax_inflight_messages 1\n",
    );
    // New clients are told as soon as the workers know.
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        assert!(Instant::now() < end, "new clients have the old terms");
        let mut other = bench.socket();
        let (_, code, properties) = other.connack(&connect(V5, &bench.id("after")));
        assert_eq!(code, 0);
        if properties.windows(2).any(|w| w == [0x24, 0]) {
            other.send(&publish(&topic, "x", 1, 1).bytes(V5));
            other.expect_disconnect(0x9b);
            break;
        }
    }
    for id in 1..=2 {
        client.send(&publish(&topic, "x", 2, id).bytes(V5));
        client.expect_ack(PUBREC, id);
    }
}

/// The codes of the answer to one SUBSCRIBE at QoS 1.
fn subscribed(client: &mut Client, filters: &[&str]) -> Vec<u8> {
    let filters: Vec<_> = filters.iter().map(|filter| (*filter, 1)).collect();
    client.send(&subscribe(client.version, 77, &filters));
    loop {
        match client.next() {
            Got::Suback(77, codes) => return codes,
            Got::Publish(_) => {}
            other => panic!("{other:?} instead of SUBACK"),
        }
    }
}

fn subscriptions_beyond_the_limit_are_refused(bench: &Bench<'_>) {
    for version in [V311, V5] {
        let refused = if version == V5 { 0x97 } else { 0x80 };
        let mut client = bench.clean(version, &format!("c{version}"));
        let group = format!("$share/{}/s", bench.id("g"));
        let codes = subscribed(&mut client, &["a", &group, "c", "d"]);
        assert_eq!(codes, [1, 1, 1, refused]);
        // What is there can be replaced, and what was refused is not there.
        assert_eq!(
            subscribed(&mut client, &["a", &group, "e"]),
            [1, 1, refused]
        );
        let mut publisher = bench.clean(V311, "p");
        publisher.publish(&publish("d", "no", 1, 1));
        publisher.publish(&publish("c", "yes", 1, 2));
        client.expect_message("c", "yes", 1, false);
        client.unsubscribe(&group);
        assert_eq!(subscribed(&mut client, &["d", "e"]), [1, refused]);
        client.disconnect();
    }
}

fn expect_counted(bench: &Bench<'_>) {
    for version in [V311, V5] {
        let refused = if version == V5 { 0x97 } else { 0x80 };
        let id = bench.id(&format!("s{version}"));
        let group = format!("$share/{id}/s");
        let persistent = connect(version, &id).persistent();
        let mut client = bench.client(&persistent);
        let codes = subscribed(&mut client, &["a/1", &group, "a/2", "a/3"]);
        assert_eq!(codes, [1, 1, 1, refused]);
        client.disconnect();
        let mut client = bench.socket();
        assert!(client.connect(&persistent));
        let codes = subscribed(&mut client, &["a/3", "a/1", &group]);
        assert_eq!(codes, [refused, 1, 1]);
        client.unsubscribe("a/1");
        assert_eq!(subscribed(&mut client, &["a/3", "a/4"]), [1, refused]);
        client.disconnect();
        bench.client(&connect(version, &id)).disconnect();
    }
}

fn sessions_bring_their_subscriptions_to_the_count(bench: &Bench<'_>) {
    expect_counted(bench);
}

fn sessions_of_which_the_store_does_all_are_counted_too(bench: &Bench<'_>) {
    expect_counted(bench);
}

fn topics_and_filters_that_are_too_deep_close(bench: &Bench<'_>) {
    for version in [V311, V5] {
        let mut client = bench.clean(version, "s");
        assert_eq!(
            subscribed(&mut client, &["a/b/c", "$share/g/a/b/c", "+/+/#"]),
            [1, 1, 1]
        );
        client.send(&subscribe(version, 1, &[("$share/g/a/b/c/d", 0)]));
        client.expect_disconnect(0x8f);
        let mut client = bench.clean(version, "p");
        client.publish(&publish("a/b/c", "x", 1, 1));
        client.send(&publish("a/b/c/d", "x", 1, 2).bytes(version));
        client.expect_disconnect(0x90);
    }
    let deep = connect(V5, &bench.id("w")).will("a/b/c/d", "x", 0, false);
    expect_refusal(bench, &deep, 0x90);
}
