//! MQTT 5.0: a file for each chapter.

mod acknowledgements;
mod auth;
mod connack;
mod connect;
mod delivery;
mod disconnect;
mod errors;
mod format;
mod ping;
mod publish;
mod retained;
mod shared;
mod subscribe;
mod topics;
mod unsubscribe;
mod wills;

use crate::harness::broker::Setup;
use crate::harness::client::Client;
use crate::wire::{Connect, Got, Publish, V5, connect, property};
use crate::{Bench, Test};

pub const TABLES: &[&[Test]] = &[
    acknowledgements::TESTS,
    auth::TESTS,
    connack::TESTS,
    connect::TESTS,
    delivery::TESTS,
    disconnect::TESTS,
    errors::TESTS,
    format::TESTS,
    ping::TESTS,
    publish::TESTS,
    retained::TESTS,
    shared::TESTS,
    subscribe::TESTS,
    topics::TESTS,
    unsubscribe::TESTS,
    wills::TESTS,
];

/// A broker that refuses payloads of more than 100 bytes, and has words for it.
const SMALL_MESSAGES: Setup = Setup::With("allow_anonymous true\nmessage_size_limit 100\n");

/// What a broker may say about bytes that are not well formed; it need not say it.
const MALFORMED: &[u8] = &[0x81, 0x82];

/// The broker ends the connection; it may tell one of these reasons first.
fn closed(client: &mut Client, reasons: &[u8]) {
    match client.try_next() {
        None => {}
        Some(Got::Disconnect(code)) if reasons.contains(&code) => client.expect_end(),
        Some(other) => panic!("{other:x?} instead of the end of the connection"),
    }
}

/// A client that is connected sends this, and is closed, perhaps with one of these reasons.
fn closes(bench: &Bench<'_>, bytes: &[u8], reasons: &[u8]) {
    let mut client = bench.clean(V5, "closed");
    client.try_send(bytes);
    closed(&mut client, reasons);
}

/// CONNECT is refused: with one of these codes, or without an answer.
fn rejected(client: &mut Client, codes: &[u8]) {
    match client.try_next() {
        None => {}
        Some(Got::Connack { present, code, .. }) => {
            assert!(codes.contains(&code), "{code:#x}");
            assert!(!present);
            client.expect_end();
        }
        Some(other) => panic!("{other:x?} instead of a refusal"),
    }
}

/// These bytes instead of CONNECT are refused.
fn rejects(bench: &Bench<'_>, bytes: &[u8], codes: &[u8]) {
    let mut client = bench.socket();
    client.version = V5;
    client.try_send(bytes);
    rejected(&mut client, codes);
}

/// The properties of a block, one by one: identifier and value.
fn properties(mut block: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some((&identifier, rest)) = block.split_first() {
        let field = |at: usize| 2 + usize::from(u16::from_be_bytes([rest[at], rest[at + 1]]));
        let length = match identifier {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => 1,
            0x13 | 0x21 | 0x22 | 0x23 => 2,
            0x02 | 0x11 | 0x18 | 0x27 => 4,
            0x0b => 1 + rest.iter().position(|byte| byte & 0x80 == 0).unwrap(),
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => field(0),
            0x26 => field(0) + field(field(0)),
            _ => panic!("unknown property {identifier:#x}"),
        };
        let (value, rest) = rest.split_at(length);
        found.push((identifier, value.to_vec()));
        block = rest;
    }
    found
}

/// Whether a block has a property with this identifier.
fn has(block: &[u8], identifier: u8) -> bool {
    properties(block).iter().any(|(id, _)| *id == identifier)
}

/// The properties of a PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK or DISCONNECT.
fn answer_properties(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    // None of the packets looked at is longer than one byte of length says.
    assert!(bytes[1] < 128);
    let body = &bytes[2..];
    let at = match bytes[0] >> 4 {
        4..=7 => 3,
        9 | 11 => 2,
        14 => 1,
        other => panic!("packet type {other}"),
    };
    let Some(&length) = body.get(at) else {
        return Vec::new();
    };
    properties(&body[at + 1..at + 1 + usize::from(length)])
}

fn with(message: Publish, properties: &[Vec<u8>]) -> Publish {
    Publish {
        properties: properties.to_vec(),
        ..message
    }
}

/// A session that stays.
fn stored(bench: &Bench<'_>, name: &str) -> Connect {
    connect(V5, &bench.id(name)).persistent()
}

/// A session that stays for so long.
fn expiring(bench: &Bench<'_>, name: &str, seconds: u32) -> Connect {
    connect(V5, &bench.id(name))
        .clean(false)
        .property(property::session_expiry(seconds))
}

/// A client that takes no larger packets than this.
fn limited(bench: &Bench<'_>, bytes: u32) -> Connect {
    connect(V5, &bench.id("limited")).property(property::maximum_packet_size(bytes))
}

/// How long the CONNACK of `limited` is: no other answer may need more.
fn connack_length(bench: &Bench<'_>) -> u32 {
    let mut client = bench.socket();
    client.say_connect(&limited(bench, 1000));
    client.bytes().expect("CONNACK").len() as u32
}
