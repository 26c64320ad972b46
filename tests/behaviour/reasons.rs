//! Why a client of 5.0 is refused, and in which words; AUTH, for which no method is configured.

use crate::broker::Setup;
use crate::wire::{
    Got, PUBACK, PUBREC, Publish, V5, V311, connect, disconnect, field, packet, property, publish,
    text, varint,
};
use crate::{Bench, Test, test};

const SMALL_PAYLOADS: Setup =
    Setup::With("allow_anonymous true\nmessage_size_limit 10\nset_tcp_nodelay true\n");

pub const TESTS: &[Test] = &[
    test!(auth_without_a_method_is_a_protocol_error).original_breaks("closes without a reason"),
    test!(auth_that_cannot_be_read_is_malformed).original_breaks("closes without a reason"),
    test!(auth_before_connect_closes),
    test!(authentication_data_needs_a_method).original_breaks("lets it in"),
    test!(a_client_with_a_method_is_refused_without_properties),
    test!(a_code_that_says_little_comes_with_words).original_breaks("has no reason strings"),
    test!(a_code_that_says_all_comes_without).original_breaks("does not say why it closes"),
    test!(words_are_left_out_where_there_is_no_room),
    test!(a_refused_message_is_explained)
        .setup(SMALL_PAYLOADS)
        .original_breaks("says 0x95, which is no code of these packets"),
    test!(a_refused_message_is_not_explained_to_who_does_not_ask)
        .setup(SMALL_PAYLOADS)
        .original_breaks("says 0x95, which is no code of these packets"),
    test!(an_answer_that_is_too_large_for_the_client_closes).original_breaks("sends it"),
    test!(a_client_that_cannot_take_connack_is_not_let_in),
    test!(a_session_expiry_cannot_begin_at_disconnect),
    test!(a_disconnect_may_have_every_property_of_its_own),
];

/// DISCONNECT or an acknowledgement with a reason string: what stands before the property length, and the string.
fn reason_string(bytes: &[u8], fixed: usize) -> (Vec<u8>, String) {
    let (head, properties) = bytes.split_at(2 + fixed);
    assert_eq!(properties[0] as usize, properties.len() - 1, "{bytes:02x?}");
    assert_eq!(properties[1], 0x1f, "{bytes:02x?}");
    let text = String::from_utf8(properties[4..].to_vec()).unwrap();
    (head.to_vec(), text)
}

fn auth(flags: u8, code: u8, properties: &[Vec<u8>]) -> Vec<u8> {
    let properties = properties.concat();
    let mut body = vec![code];
    body.extend(varint(properties.len()));
    body.extend(properties);
    packet(0xf0 | flags, &body)
}

fn auth_without_a_method_is_a_protocol_error(bench: &Bench<'_>) {
    let method = property::authentication_method("SCRAM-SHA-1");
    for bytes in [
        packet(0xf0, &[]),
        auth(0, 0x18, &[]),
        auth(0, 0x18, std::slice::from_ref(&method)),
        auth(0, 0x19, &[method]),
    ] {
        let mut client = bench.clean(V5, "auth");
        client.send(&bytes);
        client.expect_disconnect(0x82);
    }
}

fn auth_that_cannot_be_read_is_malformed(bench: &Bench<'_>) {
    for bytes in [
        auth(1, 0x18, &[]),
        packet(0xf0, &[0x18, 9]),
        auth(0, 0x18, &[property::topic_alias(1)]),
    ] {
        let mut client = bench.clean(V5, "auth");
        client.send(&bytes);
        client.expect_disconnect(0x81);
    }
}

fn auth_before_connect_closes(bench: &Bench<'_>) {
    let mut client = bench.socket();
    client.send(&auth(0, 0x18, &[property::authentication_method("x")]));
    client.expect_end();
}

fn authentication_data_needs_a_method(bench: &Bench<'_>) {
    let mut data = vec![0x16];
    data.extend(field(b"secret"));
    let mut client = bench.socket();
    client.say_connect(&connect(V5, &bench.id("data")).property(data));
    client.expect_end();
}

fn a_client_with_a_method_is_refused_without_properties(bench: &Bench<'_>) {
    let mut client = bench.socket();
    let method = property::authentication_method("GS2-KRB5");
    client.say_connect(&connect(V5, &bench.id("a")).property(method));
    client.expect_bytes(&[0x20, 3, 0, 0x8c, 0]);
    client.expect_end();
}

fn a_code_that_says_little_comes_with_words(bench: &Bench<'_>) {
    // Also to a client that wants no problem information: DISCONNECT may have them all the same.
    for wanted in [0, 1] {
        let who = connect(V5, &bench.id("words")).property(vec![0x17, wanted]);
        let mut client = bench.client(&who);
        client.send(&who.bytes());
        let (head, words) = reason_string(&client.bytes().unwrap(), 1);
        assert_eq!((head[0], head[2]), (0xe0, 0x82));
        assert_eq!(words, "a second CONNECT");
        client.expect_end();
    }
}

fn a_code_that_says_all_comes_without(bench: &Bench<'_>) {
    let who = connect(V5, &bench.id("taken"));
    let mut client = bench.client(&who);
    let _next = bench.client(&who);
    client.expect_bytes(&disconnect(0x8e));
    client.expect_end();
}

fn words_are_left_out_where_there_is_no_room(bench: &Bench<'_>) {
    let who = connect(V5, &bench.id("small")).property(property::maximum_packet_size(25));
    let mut client = bench.client(&who);
    client.send(&publish("", "x", 0, 0).bytes(V5));
    client.expect_bytes(&disconnect(0x82));
    client.expect_end();
}

fn too_large(qos: u8) -> Publish {
    publish("t", "more than ten bytes", qos, 7)
}

fn a_refused_message_is_explained(bench: &Bench<'_>) {
    for (qos, first) in [(1, PUBACK), (2, PUBREC)] {
        let mut client = bench.clean(V5, "words");
        client.send(&too_large(qos).bytes(V5));
        let (head, words) = reason_string(&client.bytes().unwrap(), 3);
        assert_eq!(head[0], first);
        assert_eq!(head[2..], [0, 7, 0x97]);
        assert_eq!(words, "payload too large");
        client.publish(&publish("t", "small", qos, 7));
    }
}

fn a_refused_message_is_not_explained_to_who_does_not_ask(bench: &Bench<'_>) {
    let who = connect(V5, &bench.id("words")).property(vec![0x17, 0]);
    let mut client = bench.client(&who);
    client.send(&too_large(1).bytes(V5));
    client.expect_bytes(&[PUBACK, 3, 0, 7, 0x97]);
    let mut client = bench.clean(V311, "3");
    client.send(&too_large(1).bytes(V311));
    client.expect_bytes(&[PUBACK, 2, 0, 7]);
}

fn an_answer_that_is_too_large_for_the_client_closes(bench: &Bench<'_>) {
    let who = connect(V5, &bench.id("small")).property(property::maximum_packet_size(25));
    let mut client = bench.client(&who);
    let filters: Vec<(&str, u8)> = (0..30).map(|_| ("t", 0)).collect();
    client.send(&crate::wire::subscribe(V5, 1, &filters));
    client.expect_disconnect(0x95);
}

fn a_client_that_cannot_take_connack_is_not_let_in(bench: &Bench<'_>) {
    for most in [1, 5] {
        let who = connect(V5, &bench.id("tiny")).property(property::maximum_packet_size(most));
        let mut client = bench.socket();
        client.say_connect(&who);
        client.expect_end();
    }
}

fn a_session_expiry_cannot_begin_at_disconnect(bench: &Bench<'_>) {
    let mut client = bench.clean(V5, "expiry");
    let property = property::session_expiry(5);
    let mut body = vec![0, 5];
    body.extend(property);
    client.send(&packet(0xe0, &body));
    match client.bytes() {
        Some(bytes) => assert_eq!((bytes[0], bytes[2]), (0xe0, 0x82)),
        None => panic!("closed without a reason"),
    }
    client.expect_end();
}

fn a_disconnect_may_have_every_property_of_its_own(bench: &Bench<'_>) {
    let session = connect(V5, &bench.id("all")).persistent();
    let mut client = bench.client(&session);
    let mut reason = vec![0x1f];
    reason.extend(text("going home"));
    let properties = [
        property::session_expiry(0),
        reason,
        property::user("a", "b"),
        property::user("a", "c"),
    ]
    .concat();
    let mut body = vec![0];
    body.extend(varint(properties.len()));
    body.extend(properties);
    client.send(&packet(0xe0, &body));
    client.expect_end();
    // The session ended with the connection.
    let mut client = bench.socket();
    assert!(!client.connect(&session.clone().clean(false)));
    client.send(&crate::wire::unsubscribe(V5, 1, &["t"]));
    assert!(matches!(client.next(), Got::Unsuback(1, _)));
    client.disconnect();
    // And ends here, for the next run.
    bench.client(&connect(V5, &bench.id("all"))).disconnect();
}
