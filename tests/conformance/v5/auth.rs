//! 3.15 and 4.12: AUTH and extended authentication, while the broker knows no method.

use super::{MALFORMED, closed, closes, has, rejects, stored};
use crate::wire::{PINGREQ, PINGRESP, V5, connect, packet, property};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(reserved_flags_close).checks(&["MQTT-3.15.1-1"]),
    test!(other_reasons_close).checks(&["MQTT-3.15.2-1"]),
    test!(an_unknown_method_is_refused).checks(&["MQTT-4.12.0-1", "MQTT-4.12.0-4"]),
    test!(an_unknown_method_takes_over_nothing).checks(&["MQTT-4.12.0-4"]),
    test!(without_a_method_there_is_no_auth).checks(&["MQTT-4.12.0-6"]),
    test!(auth_without_a_method_in_connect_closes).checks(&["MQTT-4.12.0-7"]),
    test!(another_authentication_that_fails_closes).checks(&["MQTT-4.12.1-2"]),
];

/// AUTH with this reason code for this method.
fn auth(reason: u8, method: &str) -> Vec<u8> {
    let method = property::authentication_method(method);
    packet(0xf0, &[&[reason, method.len() as u8][..], &method].concat())
}

fn reserved_flags_close(bench: &Bench<'_>) {
    let body = auth(0x18, "m")[2..].to_vec();
    for flags in 1..16 {
        closes(bench, &packet(0xf0 | flags, &body), MALFORMED);
    }
}

fn other_reasons_close(bench: &Bench<'_>) {
    for reason in [0x01, 0x17, 0x1a, 0x80, 0x8c] {
        closes(bench, &auth(reason, "m"), &[0x81, 0x82, 0x8c]);
    }
}

fn an_unknown_method_is_refused(bench: &Bench<'_>) {
    for method in ["GS2-KRB5", "SCRAM-SHA-256", "", "m"] {
        let session = connect(V5, &bench.id("c"));
        let session = session.property(property::authentication_method(method));
        rejects(bench, &session.bytes(), &[0x8c, 0x87]);
        let data = session.property(vec![0x16, 0, 2, 0, 255]);
        rejects(bench, &data.bytes(), &[0x8c, 0x87]);
    }
}

fn an_unknown_method_takes_over_nothing(bench: &Bench<'_>) {
    let session = stored(bench, "c");
    let mut client = bench.client(&session);
    let other = session.property(property::authentication_method("m"));
    rejects(bench, &other.clone().bytes(), &[0x8c, 0x87]);
    rejects(bench, &other.clean(true).bytes(), &[0x8c, 0x87]);
    client.ping();
}

fn without_a_method_there_is_no_auth(bench: &Bench<'_>) {
    for session in [
        connect(V5, &bench.id("c")),
        connect(V5, &bench.id("c")).username("u").password("p"),
    ] {
        // The first packet is CONNACK, and no AUTH comes behind it.
        let mut client = bench.socket();
        let (_, code, told) = client.connack(&session);
        assert_eq!(code, 0);
        assert!(!has(&told, 0x15) && !has(&told, 0x16), "{told:02x?}");
        client.send(PINGREQ);
        client.expect_bytes(PINGRESP);
    }
}

fn auth_without_a_method_in_connect_closes(bench: &Bench<'_>) {
    for bytes in [auth(0x18, "m"), packet(0xf0, &[0x18, 0]), packet(0xf0, &[])] {
        closes(bench, &bytes, &[0x81, 0x82, 0x8c]);
    }
}

fn another_authentication_that_fails_closes(bench: &Bench<'_>) {
    let mut client = bench.clean(V5, "c");
    client.send(&auth(0x19, "m"));
    closed(&mut client, &[0x82, 0x87, 0x8c]);
}
