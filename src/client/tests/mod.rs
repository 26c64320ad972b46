//! Claims about single steps; `seeds` runs whole lives against a small broker.

mod seeds;

use super::*;
use crate::base::limits::{CLIENT_ANSWER_BYTES_MAX, CLIENT_PATIENCE_SECS, CLIENT_PUBLISHES_MAX};
use crate::mqtt::decode::decode;
use crate::mqtt::frame::frame;
use crate::mqtt::{
    Ack, Connack, Disconnect, Filter, Properties, PropertiesBuilder, Property, Publish, Reason,
    Suback, SubscriptionOptions, Topic, Version,
};

const START: Instant = Instant(1_000_000_000);

fn settings(version: Version) -> Settings {
    Settings {
        version,
        ..Settings::new("me")
    }
}

/// A client with its CONNECT sent.
fn connecting(settings: Settings) -> Client {
    let mut client = Client::new(settings);
    client.connected(START);
    flush(&mut client);
    client
}

/// A client that was accepted, with these properties (5.0).
fn online_with(settings: Settings, properties: &[Property<'_>], session_present: bool) -> Client {
    let mut client = connecting(settings);
    accept(&mut client, properties, session_present);
    client
}

fn accept(client: &mut Client, properties: &[Property<'_>], session_present: bool) {
    let mut builder = PropertiesBuilder::default();
    for property in properties {
        builder.push(*property);
    }
    let events = say(
        client,
        &Packet::Connack(Connack {
            session_present,
            code: 0,
            properties: builder.as_properties(),
        }),
    );
    assert!(matches!(events[0], Event::Connected { .. }), "{events:?}");
}

fn online(version: Version) -> Client {
    online_with(settings(version), &[], false)
}

fn bytes_of(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(packet, version, &mut bytes);
    bytes
}

/// The server says `packet`.
fn say(client: &mut Client, packet: &Packet<'_>) -> Vec<Event<'static>> {
    let bytes = bytes_of(packet, client.settings.version);
    hear(client, &bytes)
}

fn hear(client: &mut Client, mut bytes: &[u8]) -> Vec<Event<'static>> {
    let mut events = Vec::new();
    loop {
        let (used, event) = client.read(bytes, START);
        bytes = &bytes[used..];
        match event {
            Some(event) => events.push(owned(event)),
            None => return events,
        }
    }
}

fn owned(event: Event<'_>) -> Event<'static> {
    match event {
        Event::Message(message) => Event::Message(message.into_owned()),
        Event::Subscribed { packet_id, codes } => Event::Subscribed {
            packet_id,
            codes: codes.into_owned().into(),
        },
        Event::Unsubscribed { packet_id, codes } => Event::Unsubscribed {
            packet_id,
            codes: codes.into_owned().into(),
        },
        Event::Connected { session_present } => Event::Connected { session_present },
        Event::Refused { code } => Event::Refused { code },
        Event::Published { packet_id, code } => Event::Published { packet_id, code },
        Event::Disconnected { code } => Event::Disconnected { code },
        Event::Closed(cause) => Event::Closed(cause),
    }
}

/// What the client wants to write, written; each packet in short.
fn flush(client: &mut Client) -> Vec<String> {
    let bytes = client.output().to_vec();
    client.wrote(bytes.len(), START);
    let mut rest = &bytes[..];
    let mut packets = Vec::new();
    while let Some(frame) = frame(rest, usize::MAX).unwrap() {
        let version = client.settings.version;
        packets.push(short(&decode(frame, version).unwrap()));
        rest = &rest[frame.len..];
    }
    assert!(rest.is_empty(), "half a packet");
    packets
}

fn short(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Connect(c) => format!("connect {} clean={}", c.client_id, c.clean_start),
        Packet::Publish(p) => format!(
            "publish {} q{} d{} r{} {}",
            p.packet_id.map_or(0, PacketId::get),
            p.qos as u8,
            u8::from(p.dup),
            u8::from(p.retain),
            String::from_utf8_lossy(p.payload)
        ),
        Packet::Puback(a) => format!("puback {} {}", a.packet_id, a.code),
        Packet::Pubrec(a) => format!("pubrec {} {}", a.packet_id, a.code),
        Packet::Pubrel(a) => format!("pubrel {} {}", a.packet_id, a.code),
        Packet::Pubcomp(a) => format!("pubcomp {} {}", a.packet_id, a.code),
        Packet::Subscribe(s) => format!("subscribe {}", s.packet_id),
        Packet::Unsubscribe(s) => format!("unsubscribe {}", s.packet_id),
        Packet::Pingreq => "pingreq".to_owned(),
        Packet::Disconnect(d) => format!("disconnect {}", d.code),
        other => format!("{other:?}"),
    }
}

fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap()
}

fn ack(n: u16, code: u8) -> Ack<'static> {
    Ack {
        packet_id: id(n),
        code,
        properties: Properties::NONE,
    }
}

fn publish(qos: Qos, packet_id: u16, payload: &[u8]) -> Packet<'_> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: Topic::new("t"),
        packet_id: PacketId::new(packet_id),
        properties: Properties::NONE,
        payload,
    })
}

fn message(qos: Qos, payload: &str) -> Message<'_> {
    Message::new("t", payload.as_bytes(), qos, false)
}

fn publish_all(client: &mut Client, qos: Qos, payloads: &[&str]) {
    for payload in payloads {
        client.publish(message(qos, payload)).unwrap();
    }
}

/// The connection is lost and a new one made.
fn reconnect(client: &mut Client, session_present: bool) -> (Vec<Event<'static>>, Vec<String>) {
    client.lost();
    client.connected(START);
    flush(client);
    let events = say(
        client,
        &Packet::Connack(Connack {
            session_present,
            code: 0,
            properties: Properties::NONE,
        }),
    );
    (events, flush(client))
}

fn keeping(version: Version) -> Settings {
    Settings {
        clean_start: false,
        session_expiry_secs: u32::MAX,
        ..settings(version)
    }
}

#[test]
fn no_more_than_the_window_is_in_flight() {
    let mut client = online_with(
        Settings {
            in_flight_max: 2,
            ..settings(Version::V311)
        },
        &[],
        false,
    );
    publish_all(&mut client, Qos::AtLeastOnce, &["a", "b", "c"]);
    assert_eq!(
        flush(&mut client),
        ["publish 1 q1 d0 r0 a", "publish 2 q1 d0 r0 b"]
    );
    let events = say(&mut client, &Packet::Puback(ack(2, 0)));
    assert_eq!(
        events,
        [Event::Published {
            packet_id: id(2),
            code: 0
        }]
    );
    assert_eq!(flush(&mut client), ["publish 3 q1 d0 r0 c"]);
}

#[test]
fn the_server_s_receive_maximum_narrows_the_window() {
    let limits = [Property::ReceiveMaximum(1)];
    let mut client = online_with(settings(Version::V5), &limits, false);
    publish_all(&mut client, Qos::ExactlyOnce, &["a", "b"]);
    assert_eq!(flush(&mut client), ["publish 1 q2 d0 r0 a"]);
    say(&mut client, &Packet::Pubrec(ack(1, 0)));
    assert_eq!(flush(&mut client), ["pubrel 1 0"]);
    say(&mut client, &Packet::Pubcomp(ack(1, 0)));
    assert_eq!(flush(&mut client), ["publish 2 q2 d0 r0 b"]);
}

#[test]
fn a_session_that_goes_on_sends_again_with_dup_and_in_order() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut client = online_with(keeping(version), &[], false);
        publish_all(&mut client, Qos::ExactlyOnce, &["a"]);
        publish_all(&mut client, Qos::AtLeastOnce, &["b"]);
        publish_all(&mut client, Qos::ExactlyOnce, &["c"]);
        flush(&mut client);
        say(&mut client, &Packet::Pubrec(ack(1, 0)));
        let (events, sent) = reconnect(&mut client, true);
        assert_eq!(
            events,
            [Event::Connected {
                session_present: true
            }]
        );
        assert_eq!(
            sent,
            ["pubrel 1 0", "publish 2 q1 d1 r0 b", "publish 3 q2 d1 r0 c"]
        );
    }
}

#[test]
fn a_new_session_sends_what_was_not_taken_over_as_new() {
    let mut client = online_with(keeping(Version::V5), &[], false);
    publish_all(&mut client, Qos::ExactlyOnce, &["a", "b"]);
    flush(&mut client);
    say(&mut client, &Packet::Pubrec(ack(1, 0)));
    let (events, sent) = reconnect(&mut client, false);
    // The PUBREC said that the server has the message; nothing is left to do for it.
    assert_eq!(
        events[1..],
        [Event::Published {
            packet_id: id(1),
            code: 0
        }]
    );
    assert_eq!(sent, ["publish 2 q2 d0 r0 b"]);
    assert_eq!(client.unfinished(), 1);
}

#[test]
fn messages_of_qos_1_wait_for_a_connection_and_those_of_qos_0_do_not() {
    let mut client = Client::new(keeping(Version::V311));
    publish_all(&mut client, Qos::AtLeastOnce, &["a"]);
    assert_eq!(
        client.publish(message(Qos::AtMostOnce, "b")),
        Err(Refusal::NotConnected)
    );
    let (_, sent) = reconnect(&mut client, false);
    assert_eq!(sent, ["publish 1 q1 d0 r0 a"]);
}

#[test]
fn what_was_never_sent_carries_no_dup() {
    let mut client = online_with(
        Settings {
            in_flight_max: 1,
            ..keeping(Version::V311)
        },
        &[],
        false,
    );
    publish_all(&mut client, Qos::AtLeastOnce, &["a", "b"]);
    flush(&mut client);
    let (_, sent) = reconnect(&mut client, true);
    assert_eq!(sent, ["publish 1 q1 d1 r0 a"]);
    say(&mut client, &Packet::Puback(ack(1, 0)));
    assert_eq!(flush(&mut client), ["publish 2 q1 d0 r0 b"]);
}

#[test]
fn a_message_of_qos_2_comes_once_however_often_it_is_sent() {
    let mut client = online_with(keeping(Version::V311), &[], false);
    assert!(say(&mut client, &publish(Qos::ExactlyOnce, 7, b"x")).is_empty());
    assert!(say(&mut client, &publish(Qos::ExactlyOnce, 7, b"x")).is_empty());
    assert_eq!(flush(&mut client), ["pubrec 7 0", "pubrec 7 0"]);
    reconnect(&mut client, true);
    assert!(say(&mut client, &publish(Qos::ExactlyOnce, 7, b"x")).is_empty());
    let events = say(&mut client, &Packet::Pubrel(ack(7, 0)));
    assert!(matches!(&events[..], [Event::Message(m)] if &*m.payload == b"x"));
    assert!(say(&mut client, &Packet::Pubrel(ack(7, 0))).is_empty());
    assert_eq!(
        flush(&mut client),
        ["pubrec 7 0", "pubcomp 7 0", "pubcomp 7 0"]
    );
}

#[test]
fn a_new_session_forgets_what_was_not_released() {
    let mut client = online_with(keeping(Version::V311), &[], false);
    say(&mut client, &publish(Qos::ExactlyOnce, 7, b"old"));
    reconnect(&mut client, false);
    say(&mut client, &publish(Qos::ExactlyOnce, 7, b"new"));
    let events = say(&mut client, &Packet::Pubrel(ack(7, 0)));
    assert!(matches!(&events[..], [Event::Message(m)] if &*m.payload == b"new"));
}

#[test]
fn unknown_packet_ids_are_answered_in_5_0() {
    let mut client = online(Version::V5);
    say(&mut client, &Packet::Pubrel(ack(9, 0)));
    say(&mut client, &Packet::Pubrec(ack(9, 0)));
    say(&mut client, &Packet::Puback(ack(9, 0)));
    say(&mut client, &Packet::Pubcomp(ack(9, 0)));
    assert_eq!(flush(&mut client), ["pubcomp 9 146", "pubrel 9 146"]);
}

#[test]
fn a_pubrec_that_refuses_ends_the_exchange() {
    let mut client = online(Version::V5);
    publish_all(&mut client, Qos::ExactlyOnce, &["a"]);
    flush(&mut client);
    let events = say(&mut client, &Packet::Pubrec(ack(1, 0x87)));
    assert_eq!(
        events,
        [Event::Published {
            packet_id: id(1),
            code: 0x87
        }]
    );
    assert!(flush(&mut client).is_empty());
    assert_eq!(client.unfinished(), 0);
}

#[test]
fn the_wrong_acknowledgement_ends_the_connection() {
    let wrong: [(Qos, Packet<'_>); 3] = [
        (Qos::AtLeastOnce, Packet::Pubrec(ack(1, 0))),
        (Qos::ExactlyOnce, Packet::Puback(ack(1, 0))),
        (Qos::ExactlyOnce, Packet::Pubcomp(ack(1, 0))),
    ];
    for (qos, packet) in wrong {
        let mut client = online(Version::V5);
        publish_all(&mut client, qos, &["a"]);
        flush(&mut client);
        let events = say(&mut client, &packet);
        assert!(
            matches!(events[..], [Event::Closed(Cause::Protocol(_))]),
            "{events:?}"
        );
        assert_eq!(flush(&mut client), ["disconnect 130"]);
        assert!(client.is_closing());
    }
}

#[test]
fn what_a_client_does_not_want_to_hear_ends_the_connection() {
    let unwanted = [
        Packet::Pingreq,
        Packet::Connack(Connack {
            session_present: false,
            code: 0,
            properties: Properties::NONE,
        }),
    ];
    for packet in unwanted {
        let mut client = online(Version::V311);
        let events = say(&mut client, &packet);
        assert!(matches!(events[..], [Event::Closed(Cause::Protocol(_))]));
        assert!(flush(&mut client).is_empty(), "3.x has no words for it");
    }
}

#[test]
fn nothing_but_a_connack_comes_first() {
    let mut client = connecting(settings(Version::V311));
    let events = say(&mut client, &publish(Qos::AtMostOnce, 0, b"x"));
    assert!(matches!(events[..], [Event::Closed(Cause::Protocol(_))]));
}

#[test]
fn a_refusal_is_told_with_its_code() {
    let mut client = connecting(settings(Version::V311));
    let connack = Connack {
        session_present: false,
        code: 5,
        properties: Properties::NONE,
    };
    let events = say(&mut client, &Packet::Connack(connack));
    assert_eq!(events, [Event::Refused { code: 5 }]);
    assert!(client.is_closing() && client.output().is_empty());
}

#[test]
fn a_server_without_5_0_says_so_in_its_own_words() {
    let mut client = connecting(settings(Version::V5));
    let unsupported = Reason::UnsupportedProtocolVersion.code();
    assert_eq!(
        hear(&mut client, &[0x20, 2, 0, 1]),
        [Event::Refused { code: unsupported }]
    );
}

#[test]
fn an_idle_client_pings_and_gives_up_without_an_answer() {
    let mut client = online_with(
        Settings {
            keep_alive_secs: 10,
            ..settings(Version::V311)
        },
        &[],
        false,
    );
    assert_eq!(client.deadline(), Some(START.after_secs(10)));
    client.advance(START.after_secs(9));
    assert!(client.output().is_empty());
    client.advance(START.after_secs(10));
    assert_eq!(flush(&mut client), ["pingreq"]);
    assert_eq!(client.deadline(), Some(START.after_secs(20)));
    client.advance(START.after_secs(20));
    assert_eq!(client.next_event(), Some(Event::Closed(Cause::NoPingresp)));
    assert!(client.is_closing() && client.output().is_empty());
}

#[test]
fn a_pingresp_is_good_for_another_round() {
    let mut client = online_with(
        Settings {
            keep_alive_secs: 10,
            ..settings(Version::V311)
        },
        &[],
        false,
    );
    client.advance(START.after_secs(10));
    let at = START.after_secs(10);
    let len = client.output().len();
    client.wrote(len, at);
    let (used, event) = client.read(&[0xd0, 0], at);
    assert_eq!((used, event), (2, None));
    assert_eq!(client.deadline(), Some(START.after_secs(20)));
}

#[test]
fn a_large_packet_on_its_way_is_a_sign_of_life() {
    let mut client = online_with(
        Settings {
            keep_alive_secs: 10,
            ..settings(Version::V311)
        },
        &[],
        false,
    );
    let whole = bytes_of(&publish(Qos::AtMostOnce, 0, &[b'x'; 1000]), Version::V311);
    client.advance(START.after_secs(10));
    for secs in [15, 24, 33] {
        client.advance(START.after_secs(secs));
        assert_eq!(
            client.read(&whole[..500], START.after_secs(secs)),
            (0, None)
        );
    }
    assert!(client.is_online());
}

#[test]
fn the_server_s_keep_alive_counts() {
    let client = online_with(
        settings(Version::V5),
        &[Property::ServerKeepAlive(3)],
        false,
    );
    assert_eq!(client.deadline(), Some(START.after_secs(3)));
    let client = online_with(
        settings(Version::V5),
        &[Property::ServerKeepAlive(0)],
        false,
    );
    assert_eq!(client.deadline(), None);
}

#[test]
fn a_connack_is_not_waited_for_for_ever() {
    let mut client = connecting(Settings {
        keep_alive_secs: 0,
        ..settings(Version::V311)
    });
    let end = START.after_secs(CLIENT_PATIENCE_SECS);
    assert_eq!(client.deadline(), Some(end));
    client.advance(end);
    assert_eq!(client.next_event(), Some(Event::Closed(Cause::NoConnack)));
}

#[test]
fn last_words_that_nobody_takes_are_dropped() {
    let mut client = online(Version::V311);
    client.disconnect(0);
    assert!(!client.output().is_empty());
    let end = client.deadline().unwrap();
    client.advance(end);
    assert!(client.output().is_empty() && client.is_closing());
}

#[test]
fn an_assigned_client_id_is_kept_for_the_next_connection() {
    let mut client = online_with(
        Settings {
            client_id: String::new(),
            ..settings(Version::V5)
        },
        &[Property::AssignedClientIdentifier("auto-1")],
        false,
    );
    client.lost();
    client.connected(START);
    assert_eq!(flush(&mut client), ["connect auto-1 clean=true"]);
}

#[test]
fn what_the_server_does_not_take_is_refused_here() {
    let limits = [
        Property::MaximumQos(1),
        Property::RetainAvailable(false),
        Property::MaximumPacketSize(20),
    ];
    let mut client = online_with(settings(Version::V5), &limits, false);
    assert_eq!(
        client.publish(message(Qos::ExactlyOnce, "a")),
        Err(Refusal::QosNotSupported)
    );
    assert_eq!(
        client.publish(message(Qos::AtMostOnce, "01234567890123456789")),
        Err(Refusal::TooLarge)
    );
    let retained = Message::new("t", b"a", Qos::AtLeastOnce, true);
    client.publish(retained).unwrap();
    assert_eq!(flush(&mut client), ["publish 1 q1 d0 r0 a"]);
}

#[test]
fn a_topic_with_a_wildcard_is_refused() {
    let mut client = online(Version::V311);
    for topic in ["", "a/#", "+"] {
        assert_eq!(
            client.publish(Message::new(topic, b"", Qos::AtMostOnce, false)),
            Err(Refusal::InvalidTopic)
        );
    }
}

#[test]
fn a_full_client_refuses_and_forgets_nothing() {
    let mut client = Client::new(keeping(Version::V311));
    for _ in 0..CLIENT_PUBLISHES_MAX {
        client.publish(message(Qos::AtLeastOnce, "")).unwrap();
    }
    assert_eq!(
        client.publish(message(Qos::AtLeastOnce, "")),
        Err(Refusal::Full)
    );
    assert_eq!(client.unfinished(), CLIENT_PUBLISHES_MAX);
}

#[test]
fn packet_ids_wrap_and_spare_those_in_use() {
    let mut client = online(Version::V311);
    let kept = client.publish(message(Qos::AtLeastOnce, "")).unwrap();
    let mut seen = Vec::new();
    for _ in 0..u16::MAX {
        seen.push(client.publish(message(Qos::AtMostOnce, "")).unwrap());
        flush(&mut client);
    }
    assert_eq!(kept, id(1));
    assert!(!seen.contains(&kept));
    assert_eq!(seen.last(), Some(&id(2)));
}

#[test]
fn answers_that_nobody_reads_end_the_connection() {
    let mut client = online(Version::V311);
    let bytes = bytes_of(&publish(Qos::AtLeastOnce, 1, b""), Version::V311);
    let mut events = Vec::new();
    for _ in 0..CLIENT_ANSWER_BYTES_MAX {
        events = hear(&mut client, &bytes);
        if client.is_closing() {
            break;
        }
    }
    assert!(matches!(events[..], [Event::Closed(Cause::Protocol(_))]));
    assert!(client.output().len() <= CLIENT_ANSWER_BYTES_MAX + 4);
}

#[test]
fn more_unreleased_messages_than_allowed_end_the_connection() {
    let mut client = online_with(
        Settings {
            receive_maximum: 2,
            ..settings(Version::V5)
        },
        &[],
        false,
    );
    for n in 1..=2 {
        assert!(say(&mut client, &publish(Qos::ExactlyOnce, n, b"")).is_empty());
    }
    say(&mut client, &publish(Qos::ExactlyOnce, 3, b""));
    assert_eq!(flush(&mut client).last().unwrap(), "disconnect 147");
}

#[test]
fn an_answer_to_a_question_that_was_not_asked_is_ignored() {
    let mut client = online(Version::V5);
    let filter = Filter::new("a/#").unwrap();
    let asked = client
        .subscribe(
            &[(filter, SubscriptionOptions::default())],
            Properties::NONE,
        )
        .unwrap();
    let suback = |packet_id| {
        Packet::Suback(Suback {
            packet_id,
            properties: Properties::NONE,
            codes: &[0],
        })
    };
    assert!(say(&mut client, &suback(id(99))).is_empty());
    assert_eq!(say(&mut client, &suback(asked)).len(), 1);
    assert!(say(&mut client, &suback(asked)).is_empty());
}

#[test]
fn the_server_s_goodbye_is_told_and_nothing_is_read_behind_it() {
    let mut client = online(Version::V5);
    let mut bytes = bytes_of(
        &Packet::Disconnect(Disconnect {
            code: 0x8b,
            properties: Properties::NONE,
        }),
        Version::V5,
    );
    bytes.extend(bytes_of(&publish(Qos::AtMostOnce, 0, b"x"), Version::V5));
    assert_eq!(
        hear(&mut client, &bytes),
        [Event::Disconnected { code: 0x8b }]
    );
}

#[test]
fn events_come_one_by_one_so_that_the_caller_can_answer_in_between() {
    let mut client = online(Version::V311);
    let mut bytes = bytes_of(&publish(Qos::AtMostOnce, 0, b"1"), Version::V311);
    let first = bytes.len();
    bytes.extend(bytes_of(&publish(Qos::AtMostOnce, 0, b"2"), Version::V311));
    let (used, event) = client.read(&bytes, START);
    assert_eq!(used, first);
    assert!(matches!(event, Some(Event::Message(_))));
    client.disconnect(0);
    let (used, event) = client.read(&bytes[first..], START);
    assert_eq!(used, 0, "nothing is read behind a disconnect");
    assert_eq!(event, Some(Event::Closed(Cause::Disconnect)));
}
