//! Topic aliases of 5.0 towards a client, and how many a client may set.

use crate::broker::Setup;
use crate::client::Client;
use crate::wire::{
    Publish, V5, V311, connect, packet, property, publish, subscribe, subscribe_with, text,
};
use crate::{Bench, Test, test};

const ONE: Setup =
    Setup::With("max_topic_alias_broker 1\nallow_anonymous true\nset_tcp_nodelay true\n");
const NONE: Setup = Setup::With(
    "max_topic_alias_broker 0\nmax_topic_alias 0\nallow_anonymous true\nset_tcp_nodelay true\n",
);
const THREE_OF_CLIENTS: Setup =
    Setup::With("max_topic_alias 3\nallow_anonymous true\nset_tcp_nodelay true\n");

pub const TESTS: &[Test] = &[
    test!(the_first_topics_get_an_alias).since_2_1(),
    test!(without_leave_no_alias_is_set),
    test!(the_broker_sets_ten_at_most).since_2_1(),
    test!(the_listener_sets_how_many).setup(ONE).since_2_1(),
    test!(a_listener_may_want_none).setup(NONE).since_2_1(),
    test!(an_alias_ends_with_its_connection).since_2_1(),
    test!(every_receiver_has_its_own_aliases).since_2_1(),
    test!(an_alias_stands_behind_the_other_properties).since_2_1(),
    test!(what_waits_is_sent_with_its_alias).since_2_1(),
    test!(retained_messages_have_aliases_too).since_2_1(),
    test!(large_messages_have_aliases_too).since_2_1(),
    test!(no_message_is_lost_for_want_of_room_for_an_alias).since_2_1(),
    test!(a_client_may_set_as_many_as_the_listener_says).setup(THREE_OF_CLIENTS),
];

fn taker(bench: &Bench<'_>, name: &str, aliases: u16) -> Client {
    let takes = property::topic_alias_maximum(aliases);
    bench.client(&connect(V5, &bench.id(name)).property(takes))
}

/// Topic and alias of the next message, acknowledged; 0 is no alias.
fn heard(client: &mut Client) -> (String, u16) {
    let message = client.receive();
    let alias = alias_of(&message);
    (message.topic, alias)
}

fn alias_of(message: &Publish) -> u16 {
    match message.properties.concat()[..] {
        [.., 0x23, high, low] => u16::from_be_bytes([high, low]),
        _ => 0,
    }
}

fn the_first_topics_get_an_alias(bench: &Bench<'_>) {
    let (a, b, c) = (bench.topic("a"), bench.topic("b"), bench.topic("c"));
    let mut client = taker(bench, "s", 2);
    client.subscribe(&bench.topic("#"), 2);
    let mut publisher = bench.clean(V311, "p");
    let mut expect = |topic: &str, qos, name: &str, alias| {
        publisher.publish(&publish(topic, "x", qos, 1));
        assert_eq!(heard(&mut client), (name.to_owned(), alias));
    };
    expect(&a, 0, &a, 1);
    expect(&a, 0, "", 1);
    expect(&b, 1, &b, 2);
    expect(&c, 2, &c, 0);
    for qos in 0..3 {
        expect(&a, qos, "", 1);
        expect(&b, qos, "", 2);
        expect(&c, qos, &c, 0);
    }
}

fn without_leave_no_alias_is_set(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut clients = [
        taker(bench, "none", 0),
        bench.clean(V5, "silent"),
        bench.clean(V311, "3"),
    ];
    for client in &mut clients {
        client.subscribe(&topic, 1);
    }
    let mut publisher = bench.clean(V5, "p");
    for _ in 0..2 {
        publisher.publish(&publish(&topic, "x", 1, 1));
        for client in &mut clients {
            assert_eq!(heard(client), (topic.clone(), 0));
        }
    }
}

/// The aliases of the first of `topics` topics, and that of each once more.
fn aliases(bench: &Bench<'_>, topics: u16) -> Vec<u16> {
    let mut client = taker(bench, "s", u16::MAX);
    client.subscribe(&bench.topic("#"), 0);
    let mut publisher = bench.clean(V311, "p");
    let mut round = || {
        let mut aliases = Vec::new();
        for n in 0..topics {
            publisher.publish(&publish(&bench.topic(&n.to_string()), "x", 0, 0));
            aliases.push(heard(&mut client).1);
        }
        aliases
    };
    let first = round();
    assert_eq!(round(), first);
    first
}

fn the_broker_sets_ten_at_most(bench: &Bench<'_>) {
    assert_eq!(aliases(bench, 12), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0]);
}

fn the_listener_sets_how_many(bench: &Bench<'_>) {
    assert_eq!(aliases(bench, 3), [1, 0, 0]);
}

fn a_listener_may_want_none(bench: &Bench<'_>) {
    assert_eq!(aliases(bench, 3), [0, 0, 0]);
    let (_, _, properties) = bench.socket().connack(&connect(V5, &bench.id("c")));
    assert_ne!(properties[0], 0x22, "no topic alias maximum");
    let mut client = bench.clean(V5, "c");
    let message = publish("t", "x", 0, 0).property(property::topic_alias(1));
    client.send(&message.bytes(V5));
    client.expect_disconnect(0x94);
}

fn an_alias_ends_with_its_connection(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let session = connect(V5, &bench.id("s"))
        .persistent()
        .property(property::topic_alias_maximum(5));
    let mut publisher = bench.clean(V5, "p");
    for _ in 0..2 {
        let mut client = bench.client(&session);
        client.subscribe(&topic, 2);
        for qos in [0, 1, 2] {
            publisher.publish(&publish(&topic, "x", qos, 1));
            let name = if qos == 0 {
                topic.clone()
            } else {
                String::new()
            };
            assert_eq!(heard(&mut client), (name, 1), "QoS {qos}");
        }
        client.disconnect();
        // What waited comes with it too.
        publisher.publish(&publish(&topic, "x", 1, 1));
        let mut client = bench.client(&session);
        assert_eq!(heard(&mut client), (topic.clone(), 1));
        client.disconnect();
    }
    let mut client = bench.client(&session);
    client.unsubscribe(&topic);
}

fn every_receiver_has_its_own_aliases(bench: &Bench<'_>) {
    let (a, b) = (bench.topic("a"), bench.topic("b"));
    let mut with = taker(bench, "with", 9);
    let mut late = taker(bench, "late", 1);
    let mut without = bench.clean(V5, "without");
    let mut three = bench.clean(V311, "3");
    for client in [&mut with, &mut without, &mut three] {
        client.subscribe(&a, 1);
    }
    for client in [&mut with, &mut late, &mut without, &mut three] {
        client.subscribe(&b, 1);
    }
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&a, "x", 1, 1));
    publisher.publish(&publish(&b, "x", 1, 1));
    publisher.publish(&publish(&b, "x", 1, 1));
    let all = |client: &mut Client, expected: &[(&str, u16)]| {
        for (topic, alias) in expected {
            assert_eq!(heard(client), ((*topic).to_owned(), *alias));
        }
    };
    all(&mut with, &[(&a, 1), (&b, 2), ("", 2)]);
    all(&mut late, &[(&b, 1), ("", 1)]);
    all(&mut without, &[(&a, 0), (&b, 0), (&b, 0)]);
    all(&mut three, &[(&a, 0), (&b, 0), (&b, 0)]);
}

fn an_alias_stands_behind_the_other_properties(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = taker(bench, "s", 5);
    let identifier = [property::subscription_identifier(300)];
    client.send(&subscribe_with(V5, 1, &identifier, &[(&topic, 1)]));
    client.next();
    let own = [
        property::user("a", "b"),
        property::content_type("text"),
        property::message_expiry(u32::MAX),
    ];
    let mut message = publish(&topic, "x", 1, 1);
    for property in &own {
        message = message.property(property.clone());
    }
    let mut publisher = bench.clean(V5, "p");
    for name in [topic.as_str(), ""] {
        publisher.publish(&message);
        let got = client.receive();
        assert_eq!(got.topic, name);
        let properties = got.properties.concat();
        let head = [&own[0][..], &own[1]].concat();
        assert!(properties.starts_with(&head), "{properties:02x?}");
        let tail = [&identifier[0][..], &property::topic_alias(1)].concat();
        assert!(properties.ends_with(&tail), "{properties:02x?}");
    }
}

fn what_waits_is_sent_with_its_alias(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let narrow = connect(V5, &bench.id("s"))
        .property(property::receive_maximum(1))
        .property(property::topic_alias_maximum(5));
    let mut client = bench.client(&narrow);
    client.subscribe(&topic, 1);
    let mut publisher = bench.clean(V5, "p");
    for n in 0..5 {
        publisher.publish(&publish(&topic, &n.to_string(), 1, 1));
    }
    for n in 0..5 {
        let message = client.receive();
        assert_eq!(message.payload, n.to_string().as_bytes());
        assert_eq!(alias_of(&message), 1);
        assert_eq!(message.topic.is_empty(), n > 0);
    }
}

fn retained_messages_have_aliases_too(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&topic, "x", 1, 1).retain());
    let session = connect(V5, &bench.id("stored")).persistent();
    let takes = property::topic_alias_maximum(5);
    let mut stored = bench.client(&session.property(takes));
    let mut transient = taker(bench, "s", 5);
    for client in [&mut stored, &mut transient] {
        client.subscribe(&topic, 1);
        let first = heard(client);
        // A stored session's may wait behind its SUBACK, where no new alias is set.
        assert!(
            first == (topic.clone(), 1) || first == (topic.clone(), 0),
            "{first:?}"
        );
        client.send(&subscribe(V5, 7, &[(&topic, 1)]));
        client.next();
        let again = heard(client);
        assert!(again.0 == topic || again.1 == 1, "{again:?}");
        publisher.publish(&publish(&topic, "y", 1, 1));
        heard(client);
        publisher.publish(&publish(&topic, "z", 1, 1));
        assert_eq!(heard(client), (String::new(), 1));
        client.unsubscribe(&topic);
    }
    publisher.publish(&publish(&topic, "", 1, 1).retain());
}

fn large_messages_have_aliases_too(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = taker(bench, "s", 5);
    client.subscribe(&topic, 2);
    let mut publisher = bench.clean(V5, "p");
    let payload = "large ".repeat(20_000);
    for qos in 0..3 {
        publisher.publish(&publish(&topic, &payload, qos, 1));
        let message = client.receive();
        assert!(message.payload == payload.as_bytes());
        assert_eq!(alias_of(&message), 1);
        assert_eq!(message.topic.is_empty(), qos > 0);
    }
}

fn no_message_is_lost_for_want_of_room_for_an_alias(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    // Without an alias, a message of the payload that is sent here has just the size that the client takes.
    let most = publish(&topic, &"x".repeat(20), 0, 0).bytes(V5).len();
    let tight = connect(V5, &bench.id("s"))
        .property(property::maximum_packet_size(u32::try_from(most).unwrap()))
        .property(property::topic_alias_maximum(5));
    let mut client = bench.client(&tight);
    client.subscribe(&topic, 0);
    let mut publisher = bench.clean(V5, "p");
    publisher.publish(&publish(&topic, &"x".repeat(20), 0, 0));
    assert_eq!(heard(&mut client), (topic.clone(), 0));
    publisher.publish(&publish(&topic, "x", 0, 0));
    assert_eq!(heard(&mut client), (topic.clone(), 1));
    // With it, there is room for more.
    publisher.publish(&publish(&topic, &"x".repeat(25), 0, 0));
    assert_eq!(heard(&mut client), (String::new(), 1));
    publisher.publish(&publish(&topic, &"x".repeat(200), 0, 0));
    publisher.publish(&publish(&topic, "last", 0, 0));
    assert_eq!(client.receive().payload, b"last");
}

fn a_client_may_set_as_many_as_the_listener_says(bench: &Bench<'_>) {
    let (_, _, properties) = bench.socket().connack(&connect(V5, &bench.id("c")));
    assert!(properties.starts_with(&property::topic_alias_maximum(3)));
    let topic = bench.topic("t");
    let mut subscriber = bench.clean(V5, "s");
    subscriber.subscribe(&topic, 0);
    let mut client = bench.clean(V5, "p");
    for name in [topic.as_str(), ""] {
        let message = publish(name, "x", 0, 0).property(property::topic_alias(3));
        client.send(&message.bytes(V5));
        subscriber.expect_message(&topic, "x", 0, false);
    }
    let mut body = text(&topic);
    body.extend([3, 0x23, 0, 4]);
    client.send(&packet(0x30, &body));
    client.expect_disconnect(0x94);
}
