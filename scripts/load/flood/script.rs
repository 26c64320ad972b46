//! What one hostile connection sends, and how.

use std::collections::VecDeque;

use mosquitto::mqtt::encode::encode;
use mosquitto::mqtt::property::{PropertiesBuilder, Property};
use mosquitto::mqtt::{
    Ack, Auth, Connack, Connect, Disconnect, Filter, Packet, PacketId, Properties, Publish, Qos,
    RetainHandling, Suback, Subscribe, SubscriptionOptions, Topic, Unsuback, Unsubscribe, Version,
    Will,
};

use super::PACKETS_PER_CONNECTION;
use super::random::Random;

/// Packets after the first bad one at most; few, because a correct broker reads none of them.
const BEHIND_BAD: usize = 3;

/// How a connection ends when the broker has not ended it before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Says that it is done and waits for the broker to close.
    HalfClose,
    Close,
    Reset,
    /// Reads nothing from beginning to end, then resets.
    Deaf,
}

/// The bytes of one connection.
pub struct Script {
    pieces: VecDeque<Vec<u8>>,
    /// Packets in it, the CONNECT too.
    pub packets: u64,
    pub end: End,
}

impl Script {
    pub fn new(random: &mut Random) -> Self {
        let versions = [
            Version::V31,
            Version::V311,
            Version::V311,
            Version::V5,
            Version::V5,
        ];
        let version = random.pick(&versions).copied().unwrap_or(Version::V311);
        let mut bytes = Vec::new();
        let mut packets = 1;
        if random.one_in(2) {
            connect(random, version, &mut bytes);
            // A correct broker goes on through all of these; so they come first.
            let most = if random.one_in(3) {
                3
            } else {
                PACKETS_PER_CONNECTION - 1 - BEHIND_BAD
            };
            for _ in 0..random.below(most + 1) {
                good(random, version, &mut bytes);
                packets += 1;
            }
            packets += 1;
        }
        bad(random, version, &mut bytes);
        // Some bad packets are harmless after all, or change where the next one begins.
        for _ in 0..random.below(BEHIND_BAD + 1) {
            if random.one_in(2) {
                good(random, version, &mut bytes);
            } else {
                bad(random, version, &mut bytes);
            }
            packets += 1;
        }
        let end = match random.below(32) {
            0 => End::Deaf,
            1..=3 => End::Reset,
            4..=7 => End::Close,
            _ => End::HalfClose,
        };
        Self {
            pieces: cut(random, bytes),
            packets,
            end,
        }
    }

    pub fn len(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }

    pub fn is_over(&self) -> bool {
        self.pieces.is_empty()
    }

    pub fn next_piece(&mut self, out: &mut Vec<u8>) {
        if let Some(piece) = self.pieces.pop_front() {
            out.extend_from_slice(&piece);
        }
    }
}

/// Three in four go out whole, the others in up to eight pieces that end anywhere.
fn cut(random: &mut Random, mut bytes: Vec<u8>) -> VecDeque<Vec<u8>> {
    let mut pieces = VecDeque::new();
    if random.one_in(4) {
        for _ in 0..random.below(8) {
            let rest = bytes.split_off(random.below(bytes.len() + 1));
            pieces.push_back(std::mem::replace(&mut bytes, rest));
        }
    }
    pieces.push_back(bytes);
    pieces
}

/// One in four is one of few, so that connections take over from each other and find sessions.
fn client_id(random: &mut Random) -> String {
    match random.below(40) {
        0 => String::new(),
        1 => "x".repeat(random.below(3000)),
        n @ 2..12 => format!("flood-{n}"),
        _ => format!("flood-{:016x}", random.next()),
    }
}

/// Few levels, so that topics and filters meet.
fn levels(random: &mut Random, words: &[&str]) -> String {
    let count = if random.one_in(100) {
        random.below(250)
    } else {
        1 + random.below(4)
    };
    let levels: Vec<&str> = (0..count)
        .filter_map(|_| random.pick(words).copied())
        .collect();
    levels.join("/")
}

fn topic(random: &mut Random) -> String {
    levels(random, &["flood", "a", "b", "c", "", "\u{e9}\u{20ac}"])
}

fn filter(random: &mut Random) -> String {
    let mut filter = levels(random, &["flood", "a", "b", "c", "", "+", "$SYS", "$share"]);
    if random.one_in(4) {
        filter.push_str("/#");
    }
    filter
}

fn payload(random: &mut Random) -> Vec<u8> {
    let len = match random.below(200) {
        0 => random.below(70_000),
        1..20 => random.below(5000),
        20..40 => 0,
        _ => random.below(100),
    };
    vec![random.byte() & 0x7f; len]
}

fn packet_id(random: &mut Random) -> PacketId {
    u16::try_from(1 + random.below(15))
        .ok()
        .and_then(PacketId::new)
        .unwrap_or(PacketId::MIN)
}

fn qos(random: &mut Random) -> Qos {
    *random
        .pick(&[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce])
        .unwrap_or(&Qos::AtMostOnce)
}

fn reason(random: &mut Random) -> u8 {
    if random.one_in(10) { random.byte() } else { 0 }
}

fn number(random: &mut Random) -> u32 {
    let [.., a, b, c, d] = random.next().to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
        .checked_shr(u32::from(random.byte() % 32))
        .unwrap_or(0)
}

/// Each of `allowed` once in four times, with a value that is valid.
fn properties(random: &mut Random, allowed: &[Property<'static>]) -> PropertiesBuilder {
    let mut builder = PropertiesBuilder::default();
    for property in allowed {
        if !random.one_in(4) {
            continue;
        }
        let (short, long) = (
            u16::try_from(1 + random.below(200)).unwrap_or(1),
            number(random),
        );
        builder.push(match *property {
            Property::TopicAlias(_) => Property::TopicAlias(1 + short % 10),
            Property::ReceiveMaximum(_) => Property::ReceiveMaximum(short),
            Property::MessageExpiryInterval(_) => Property::MessageExpiryInterval(long),
            Property::SessionExpiryInterval(_) => Property::SessionExpiryInterval(long % 3),
            Property::WillDelayInterval(_) => Property::WillDelayInterval(long % 5),
            Property::SubscriptionIdentifier(_) => {
                Property::SubscriptionIdentifier(1 + long % 268_435_455)
            }
            Property::MaximumPacketSize(_) => Property::MaximumPacketSize(1000 + long % 1_000_000),
            other => other,
        });
    }
    builder
}

const USER: Property<'static> = Property::UserProperty("name", "value");
const IN_PUBLISH: [Property<'static>; 7] = [
    USER,
    Property::PayloadFormatIndicator(1),
    Property::MessageExpiryInterval(0),
    Property::ContentType("text/plain"),
    Property::ResponseTopic("flood/answer"),
    Property::CorrelationData(b"0123456789"),
    Property::TopicAlias(1),
];
const IN_CONNECT: [Property<'static>; 7] = [
    USER,
    Property::SessionExpiryInterval(0),
    Property::ReceiveMaximum(1),
    Property::MaximumPacketSize(1),
    Property::TopicAliasMaximum(10),
    Property::RequestResponseInformation(true),
    Property::RequestProblemInformation(false),
];
const IN_WILL: [Property<'static>; 4] = [
    USER,
    Property::WillDelayInterval(0),
    Property::MessageExpiryInterval(0),
    Property::ContentType("text/plain"),
];
const IN_SUBSCRIBE: [Property<'static>; 2] = [USER, Property::SubscriptionIdentifier(1)];
const IN_DISCONNECT: [Property<'static>; 3] = [
    USER,
    Property::SessionExpiryInterval(0),
    Property::ReasonString("because"),
];
const IN_ACK: [Property<'static>; 2] = [USER, Property::ReasonString("because")];
const ANY_PROPERTY: [Property<'static>; 8] = [
    USER,
    Property::AuthenticationMethod("none"),
    Property::AuthenticationData(b"\0\xff"),
    Property::ServerKeepAlive(1),
    Property::AssignedClientIdentifier("you"),
    Property::MaximumQos(1),
    Property::RetainAvailable(false),
    Property::SubscriptionIdentifier(0),
];

/// Appends a CONNECT that a broker accepts (most of the time).
fn connect(random: &mut Random, version: Version, out: &mut Vec<u8>) {
    let client_id = client_id(random);
    let (connect, will) = (
        properties(random, &IN_CONNECT),
        properties(random, &IN_WILL),
    );
    let (will_topic, will_payload) = (topic(random), payload(random));
    let in_v5 = |builder| {
        if version == Version::V5 {
            PropertiesBuilder::as_properties(builder)
        } else {
            Properties::NONE
        }
    };
    let will = Topic::new(&will_topic)
        .filter(|_| random.one_in(3))
        .map(|topic| Will {
            qos: qos(random),
            retain: random.one_in(4),
            topic,
            payload: &will_payload,
            properties: in_v5(&will),
        });
    let packet = Connect {
        version,
        bridge: random.one_in(50) && version != Version::V5,
        // The sessions of the few may stay; those of the many would fill the broker. 3.x refuses an empty client id of
        // a session that is to stay.
        clean_start: client_id.is_empty() || client_id.len() > 16 || random.one_in(2),
        keep_alive: u16::try_from(random.below(100)).unwrap_or(0),
        properties: in_v5(&connect),
        client_id: &client_id,
        will,
        username: random.one_in(5).then_some("someone"),
        password: None,
    };
    encode(&Packet::Connect(packet), version, out);
}

/// Appends a packet that a client may send at any time, and that no broker closes for.
fn good(random: &mut Random, version: Version, out: &mut Vec<u8>) {
    let packet_id = packet_id(random);
    match random.below(100) {
        0..60 => publish(random, version, out),
        60..66 => subscribe(random, version, out),
        66..76 => {
            let builder = properties_of(random, version, &[USER]);
            let names: Vec<String> = (0..=random.below(3)).map(|_| filter(random)).collect();
            let filters = names
                .iter()
                .filter_map(|n| Filter::new(n))
                .collect::<Vec<_>>();
            if !filters.is_empty() {
                let packet = Unsubscribe {
                    packet_id,
                    properties: builder.as_properties(),
                    filters,
                };
                encode(&Packet::Unsubscribe(packet), version, out);
            }
        }
        76..94 => {
            let builder = properties_of(random, version, &IN_ACK);
            let ack = Ack {
                packet_id,
                code: 0,
                properties: builder.as_properties(),
            };
            let packet = match random.below(4) {
                0 => Packet::Puback(ack),
                1 => Packet::Pubrec(ack),
                2 => Packet::Pubrel(ack),
                _ => Packet::Pubcomp(ack),
            };
            encode(&packet, version, out);
        }
        _ => encode(&Packet::Pingreq, version, out),
    }
}

/// Appends a packet that is well-formed and still not allowed, or ends the connection.
fn odd(random: &mut Random, version: Version, out: &mut Vec<u8>) {
    let packet_id = packet_id(random);
    let builder = properties_of(random, version, &ANY_PROPERTY);
    let properties = builder.as_properties();
    match random.below(8) {
        0 => connect(random, version, out),
        1 => {
            let builder = properties_of(random, version, &IN_DISCONNECT);
            let packet = Disconnect {
                code: reason(random),
                properties: builder.as_properties(),
            };
            encode(&Packet::Disconnect(packet), version, out);
        }
        2 => {
            let packet = Auth {
                code: 0x18 + random.byte() % 2,
                properties,
            };
            encode(&Packet::Auth(packet), Version::V5, out);
        }
        3 => {
            // Topics of the broker itself, and properties that belong elsewhere.
            let name = format!("$SYS/{}", topic(random));
            let packet = Publish {
                dup: true,
                qos: Qos::ExactlyOnce,
                retain: true,
                topic: Topic::new(&name).filter(|_| version != Version::V5),
                packet_id: Some(packet_id),
                properties,
                payload: &[],
            };
            encode(&Packet::Publish(packet), version, out);
        }
        4 => encode(
            &Packet::Pubrel(Ack {
                packet_id,
                code: random.byte(),
                properties,
            }),
            version,
            out,
        ),
        5 => encode(
            &Packet::Subscribe(Subscribe {
                packet_id,
                properties,
                filters: Vec::new(),
            }),
            version,
            out,
        ),
        6 => encode(
            &Packet::Unsubscribe(Unsubscribe {
                packet_id,
                properties,
                filters: Vec::new(),
            }),
            version,
            out,
        ),
        _ => of_a_server(random, version, out),
    }
}

fn properties_of(
    random: &mut Random,
    version: Version,
    allowed: &[Property<'static>],
) -> PropertiesBuilder {
    if version == Version::V5 {
        properties(random, allowed)
    } else {
        PropertiesBuilder::default()
    }
}

fn subscribe(random: &mut Random, version: Version, out: &mut Vec<u8>) {
    let builder = properties_of(random, version, &IN_SUBSCRIBE);
    let names: Vec<String> = (0..=random.below(3)).map(|_| filter(random)).collect();
    let filters = names.iter().filter_map(|name| {
        let filter = Filter::new(name)?;
        let mut options = subscription_options(random, version == Version::V5);
        // [MQTT5-3.8.3-4]
        options.no_local &= filter.shared().is_none();
        Some((filter, options))
    });
    let filters: Vec<_> = filters.collect();
    if !filters.is_empty() {
        let packet = Subscribe {
            packet_id: packet_id(random),
            properties: builder.as_properties(),
            filters,
        };
        encode(&Packet::Subscribe(packet), version, out);
    }
}

fn publish(random: &mut Random, version: Version, out: &mut Vec<u8>) {
    let builder = properties_of(random, version, &IN_PUBLISH);
    let (name, payload, qos) = (topic(random), payload(random), qos(random));
    let packet = Publish {
        dup: qos != Qos::AtMostOnce && random.one_in(5),
        qos,
        retain: random.one_in(5),
        topic: Topic::new(&name).or(Topic::new("flood")),
        packet_id: (qos != Qos::AtMostOnce).then(|| packet_id(random)),
        properties: builder.as_properties(),
        payload: &payload,
    };
    encode(&Packet::Publish(packet), version, out);
}

fn subscription_options(random: &mut Random, v5: bool) -> SubscriptionOptions {
    let qos = qos(random);
    if !v5 {
        return SubscriptionOptions {
            qos,
            ..SubscriptionOptions::default()
        };
    }
    let handling = [
        RetainHandling::Send,
        RetainHandling::SendIfNew,
        RetainHandling::DoNotSend,
    ];
    SubscriptionOptions {
        qos,
        no_local: random.one_in(4),
        retain_as_published: random.one_in(2),
        retain_handling: random.pick(&handling).copied().unwrap_or_default(),
    }
}

/// What no client may send.
fn of_a_server(random: &mut Random, version: Version, out: &mut Vec<u8>) {
    let (packet_id, properties) = (packet_id(random), Properties::NONE);
    let packet = match random.below(4) {
        0 => Packet::Connack(Connack {
            session_present: false,
            code: 0,
            properties,
        }),
        1 => Packet::Suback(Suback {
            packet_id,
            properties,
            codes: &[0],
        }),
        2 => Packet::Unsuback(Unsuback {
            packet_id,
            properties,
            codes: &[],
        }),
        _ => Packet::Pingresp,
    };
    encode(&packet, version, out);
}

/// Appends a packet that most likely ends the connection.
fn bad(random: &mut Random, version: Version, out: &mut Vec<u8>) {
    match random.below(12) {
        11 => odd(random, version, out),
        0 => {
            let len = 1 + random.below(64);
            random.bytes(len, out);
        }
        1 | 2 => {
            // A whole frame of any type with any body gets further than bytes without a frame.
            let len = random.below(100);
            out.extend([random.byte(), u8::try_from(len).unwrap_or(0)]);
            random.bytes(len, out);
        }
        _ => {
            let mut packet = Vec::new();
            match random.below(8) {
                0 => connect(random, version, &mut packet),
                1 => odd(random, version, &mut packet),
                _ => good(random, version, &mut packet),
            }
            for _ in 0..=random.below(3) {
                mutate(random, &mut packet);
            }
            out.append(&mut packet);
        }
    }
}

fn mutate(random: &mut Random, packet: &mut Vec<u8>) {
    let at = random.below(packet.len());
    let near = random.below(packet.len().min(12));
    match random.below(9) {
        0 => set(packet, at, |b| b ^ (1 << (random.byte() % 8))),
        1 => set(packet, near, |b| b ^ (1 << (random.byte() % 8))),
        2 => set(packet, near, |_| {
            *random
                .pick(&[0, 1, 2, 0x7f, 0x80, 0xc0, 0xfe, 0xff])
                .unwrap_or(&0)
        }),
        3 => set(packet, at, |_| random.byte()),
        4 => packet.truncate(at),
        5 => {
            let end = at + random.below(packet.len() - at + 1);
            packet.drain(at..end);
        }
        6 => {
            let copy: Vec<u8> = packet
                .iter()
                .skip(at)
                .take(random.below(20))
                .copied()
                .collect();
            packet.splice(near..near, copy);
        }
        7 => {
            let mut noise = Vec::new();
            random.bytes(1 + near, &mut noise);
            packet.splice(at..at, noise);
        }
        // The remaining length says more or less than there is.
        _ => set(packet, 1, |b| {
            b.wrapping_add(random.byte() % 7).wrapping_sub(3)
        }),
    }
}

fn set(packet: &mut [u8], at: usize, change: impl FnOnce(u8) -> u8) {
    if let Some(byte) = packet.get_mut(at) {
        *byte = change(*byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_number_make_the_same_script() {
        let script = |seed, number| Script::new(&mut Random::new(seed, number)).pieces;
        for number in 0..200 {
            assert_eq!(script(1, number), script(1, number));
        }
        assert_ne!(script(1, 5), script(1, 6));
        assert_ne!(script(1, 5), script(2, 5));
    }
}
