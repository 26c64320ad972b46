//! Tests of encoding and decoding against each other, over all packets and versions.

use proptest::prelude::*;

use super::decode::decode;
use super::encode::encode;
use super::frame::frame;
use super::property::Place;
use super::{
    Ack, Auth, Connack, Connect, Disconnect, Filter, Packet, PacketId, Properties,
    PropertiesBuilder, Property, PropertyId, Publish, Qos, RetainHandling, Suback, Subscribe,
    SubscriptionOptions, Topic, Unsuback, Unsubscribe, Version, Will,
};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// What a packet is made of, owned.
#[derive(Clone, Debug)]
struct Parts {
    kind: u8,
    version: Version,
    flags: u8,
    number: u16,
    qos: Qos,
    texts: [String; 3],
    topics: Vec<String>,
    bytes: Vec<u8>,
    pick: usize,
    properties: Vec<PropertyParts>,
}

/// Id, a number, and two texts: whatever the property needs of them.
type PropertyParts = (u8, u32, String, String);

fn parts() -> impl Strategy<Value = Parts> {
    let text = || "[ -~é世🦟]{0,20}";
    let property = (1..0x2bu8, any::<u32>(), text(), text());
    (
        (
            1..16u8,
            prop::sample::select(&VERSIONS[..]),
            any::<u8>(),
            any::<u16>(),
            0..3u8,
        ),
        [text(), text(), text()],
        prop::collection::vec("[a-c/]{1,30}", 1..20),
        prop::collection::vec(any::<u8>(), 0..300),
        any::<u16>().prop_map(usize::from),
        prop::collection::vec(property, 0..8),
    )
        .prop_map(
            |((kind, version, flags, number, qos), texts, topics, bytes, pick, properties)| Parts {
                kind,
                version,
                flags,
                number,
                qos: Qos::from_bits(qos).unwrap(),
                texts,
                topics,
                bytes,
                pick,
                properties,
            },
        )
}

/// One property of `place` out of its parts, if they make one.
fn property(place: Place, parts: &PropertyParts) -> Option<Property<'_>> {
    let (id, number, text, other) = parts;
    let id = PropertyId::from_u8(*id).filter(|id| place.allows(*id))?;
    let [.., high, low] = number.to_be_bytes();
    let short = u16::from_be_bytes([high, low]);
    let flag = number & 1 == 1;
    Some(match id {
        PropertyId::PayloadFormatIndicator => Property::PayloadFormatIndicator(low & 1),
        PropertyId::MessageExpiryInterval => Property::MessageExpiryInterval(*number),
        PropertyId::ContentType => Property::ContentType(text),
        PropertyId::ResponseTopic => Property::ResponseTopic(Topic::new(text)?.as_str()),
        PropertyId::CorrelationData => Property::CorrelationData(text.as_bytes()),
        PropertyId::SubscriptionIdentifier => {
            Property::SubscriptionIdentifier(1 + number % 268_435_455)
        }
        PropertyId::SessionExpiryInterval => Property::SessionExpiryInterval(*number),
        PropertyId::AssignedClientIdentifier => Property::AssignedClientIdentifier(text),
        PropertyId::ServerKeepAlive => Property::ServerKeepAlive(short),
        PropertyId::AuthenticationMethod => Property::AuthenticationMethod(text),
        PropertyId::AuthenticationData => Property::AuthenticationData(text.as_bytes()),
        PropertyId::RequestProblemInformation => Property::RequestProblemInformation(flag),
        PropertyId::WillDelayInterval => Property::WillDelayInterval(*number),
        PropertyId::RequestResponseInformation => Property::RequestResponseInformation(flag),
        PropertyId::ResponseInformation => Property::ResponseInformation(text),
        PropertyId::ServerReference => Property::ServerReference(text),
        PropertyId::ReasonString => Property::ReasonString(text),
        PropertyId::ReceiveMaximum => Property::ReceiveMaximum(short.max(1)),
        PropertyId::TopicAliasMaximum => Property::TopicAliasMaximum(short),
        PropertyId::TopicAlias => Property::TopicAlias(short.max(1)),
        PropertyId::MaximumQos => Property::MaximumQos(low & 1),
        PropertyId::RetainAvailable => Property::RetainAvailable(flag),
        PropertyId::UserProperty => Property::UserProperty(text, other),
        PropertyId::MaximumPacketSize => Property::MaximumPacketSize((*number).max(1)),
        PropertyId::WildcardSubscriptionAvailable => Property::WildcardSubscriptionAvailable(flag),
        PropertyId::SubscriptionIdentifierAvailable => {
            Property::SubscriptionIdentifierAvailable(flag)
        }
        PropertyId::SharedSubscriptionAvailable => Property::SharedSubscriptionAvailable(flag),
    })
}

/// A block that may stand in `place`.
fn block(place: Place, parts: &Parts) -> PropertiesBuilder {
    let mut builder = PropertiesBuilder::default();
    if parts.version != Version::V5 {
        return builder;
    }
    let mut pushed: Vec<PropertyId> = Vec::new();
    for property in parts.properties.iter().filter_map(|p| property(place, p)) {
        let id = property.id();
        let lacks_method = id == PropertyId::AuthenticationData
            && !pushed.contains(&PropertyId::AuthenticationMethod);
        if (place.allows_many(id) || !pushed.contains(&id)) && !lacks_method {
            builder.push(property);
            pushed.push(id);
        }
    }
    builder
}

const fn place(kind: u8) -> Place {
    match kind {
        1 => Place::Connect,
        2 => Place::Connack,
        3 => Place::Publish,
        8 => Place::Subscribe,
        10 => Place::Unsubscribe,
        14 => Place::Disconnect,
        15 => Place::Auth,
        _ => Place::Ack,
    }
}

/// The codes that the packet may hold in this version; a zero to pick where it has none.
fn codes(kind: u8, version: Version) -> Vec<u8> {
    match kind {
        1 | 3 | 8 | 10 | 12 | 13 => vec![0],
        _ if version == Version::V5 => {
            let allowed = |code: &u8| super::reason::is_allowed(kind << 4, *code);
            (0..=255).filter(allowed).collect()
        }
        2 => (0..=5).collect(),
        9 => vec![0, 1, 2, 0x80],
        _ => vec![0],
    }
}

/// The packet that the parts make.
fn packet<'a>(
    parts: &'a Parts,
    properties: Properties<'a>,
    will_properties: Properties<'a>,
    many_codes: &'a [u8],
) -> Packet<'a> {
    let version = parts.version;
    let flag = |bit: u8| parts.flags & 1 << bit != 0;
    let packet_id = PacketId::new(parts.number.max(1)).unwrap();
    let allowed = codes(parts.kind, version);
    let code = allowed
        .get(parts.pick % allowed.len().max(1))
        .copied()
        .unwrap_or(0);
    let topic = Topic::new(&parts.topics[0]).unwrap();
    let [text, username, _] = &parts.texts;
    let has_username = flag(4);
    let ack = Ack {
        packet_id,
        code,
        properties,
    };
    match parts.kind {
        1 => Packet::Connect(Connect {
            version,
            bridge: flag(0) && version != Version::V5,
            clean_start: flag(1),
            keep_alive: parts.number,
            properties,
            client_id: text,
            will: flag(2).then_some(Will {
                qos: parts.qos,
                retain: flag(3),
                topic,
                payload: &parts.bytes,
                properties: will_properties,
            }),
            username: has_username.then_some(username),
            password: (flag(5) && (has_username || version == Version::V5)).then_some(&parts.bytes),
        }),
        2 => Packet::Connack(Connack {
            session_present: flag(0) && version != Version::V31,
            code,
            properties,
        }),
        3 => Packet::Publish(Publish {
            dup: flag(0) && parts.qos != Qos::AtMostOnce,
            qos: parts.qos,
            retain: flag(1),
            topic: (version != Version::V5 || flag(2)).then_some(topic),
            packet_id: (parts.qos != Qos::AtMostOnce).then_some(packet_id),
            properties,
            payload: &parts.bytes,
        }),
        4 => Packet::Puback(ack),
        5 => Packet::Pubrec(ack),
        6 => Packet::Pubrel(ack),
        7 => Packet::Pubcomp(ack),
        8 => Packet::Subscribe(Subscribe {
            packet_id,
            properties,
            filters: filters(parts)
                .map(|filter| (filter, options(parts)))
                .collect(),
        }),
        9 => Packet::Suback(Suback {
            packet_id,
            properties,
            codes: many_codes,
        }),
        10 => Packet::Unsubscribe(Unsubscribe {
            packet_id,
            properties,
            filters: filters(parts).collect(),
        }),
        11 => Packet::Unsuback(Unsuback {
            packet_id,
            properties,
            codes: if version == Version::V5 {
                many_codes
            } else {
                &[]
            },
        }),
        12 => Packet::Pingreq,
        13 => Packet::Pingresp,
        14 => Packet::Disconnect(Disconnect { code, properties }),
        _ => Packet::Auth(Auth { code, properties }),
    }
}

fn filters(parts: &Parts) -> impl Iterator<Item = Filter<'_>> {
    let filters = parts.topics.iter().map(|name| Filter::new(name).unwrap());
    filters.chain(Filter::new("a/+/#"))
}

fn options(parts: &Parts) -> SubscriptionOptions {
    let qos = parts.qos;
    if parts.version != Version::V5 {
        return SubscriptionOptions {
            qos,
            ..SubscriptionOptions::default()
        };
    }
    SubscriptionOptions {
        qos,
        no_local: parts.flags & 1 != 0,
        retain_as_published: parts.flags & 2 != 0,
        retain_handling: match parts.number % 3 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            _ => RetainHandling::DoNotSend,
        },
    }
}

/// Hands the packet that the parts make to `test`.
fn with_packet<T>(mut parts: Parts, test: impl FnOnce(&Packet<'_>, Version) -> T) -> T {
    if parts.kind == 15 {
        parts.version = Version::V5;
    }
    let properties = block(place(parts.kind), &parts);
    let will_properties = block(Place::Will, &parts);
    let allowed = codes(parts.kind, parts.version);
    let many_codes: Vec<u8> = parts
        .bytes
        .iter()
        .map(|n| allowed[usize::from(*n) % allowed.len()])
        .collect();
    let packet = packet(
        &parts,
        properties.as_properties(),
        will_properties.as_properties(),
        &many_codes,
    );
    test(&packet, parts.version)
}

/// Decodes `bytes` in every version; what decodes must come out the same after another round.
fn decode_and_repeat(bytes: &[u8]) {
    for version in VERSIONS {
        let Ok(Some(found)) = frame(bytes, usize::MAX) else {
            return;
        };
        let Ok(packet) = decode(found, version) else {
            continue;
        };
        let mut again = Vec::new();
        encode(&packet, version, &mut again);
        let found = frame(&again, usize::MAX).unwrap().unwrap();
        assert_eq!(found.len, again.len());
        assert_eq!(decode(found, version).as_ref(), Ok(&packet));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_packet_comes_back_as_it_was_sent(parts in parts()) {
        with_packet(parts, |packet, version| {
            let mut bytes = Vec::new();
            encode(packet, version, &mut bytes);
            let found = frame(&bytes, usize::MAX).unwrap().unwrap();
            assert_eq!(found.len, bytes.len());
            let decoded = decode(found, version);
            assert_eq!(decoded.as_ref(), Ok(packet));
            let mut again = Vec::new();
            encode(&decoded.unwrap(), version, &mut again);
            assert_eq!(again, bytes);
        });
    }

    #[test]
    fn block_that_is_copied_in_pieces_is_the_same(parts in parts(), dropped in 1..0x2bu8) {
        let parts = Parts { version: Version::V5, ..parts };
        let block = block(place(parts.kind), &parts);
        let original = block.as_properties();
        let dropped = PropertyId::from_u8(dropped).unwrap_or(PropertyId::UserProperty);
        let mut copy = PropertiesBuilder::default();
        copy.push_all_but(original, dropped);
        let kept = original.iter().filter(|property| property.id() != dropped);
        prop_assert!(copy.as_properties().iter().eq(kept));
        copy.clear();
        copy.push_all_with_expiry(original, 5);
        let aged = original.iter().map(|property| match property {
            Property::MessageExpiryInterval(_) => Property::MessageExpiryInterval(5),
            other => other,
        });
        prop_assert!(copy.as_properties().iter().eq(aged));
    }

    #[test]
    fn packet_that_is_cut_short_is_never_whole(parts in parts(), cut in any::<prop::sample::Index>()) {
        with_packet(parts, |packet, version| {
            let mut bytes = Vec::new();
            encode(packet, version, &mut bytes);
            bytes.truncate(cut.index(bytes.len()));
            assert_eq!(frame(&bytes, usize::MAX), Ok(None));
        });
    }

    #[test]
    fn arbitrary_bytes_never_panic(first: u8, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = vec![first];
        super::output::put_varint(&mut bytes, body.len());
        bytes.extend(body);
        decode_and_repeat(&bytes);
    }
}

/// A xorshift generator: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 32).unwrap() % bound
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

/// Good packets to spoil, one at least of each type and version.
fn corpus() -> Vec<Vec<u8>> {
    let mut corpus = Vec::new();
    for kind in 1..16 {
        for version in VERSIONS {
            for flags in [0, 0x17, 0xff] {
                let parts = Parts {
                    kind,
                    version,
                    flags,
                    number: 7,
                    qos: Qos::AtLeastOnce,
                    texts: ["client".into(), "user".into(), String::new()],
                    topics: vec!["a/b".into(), "c".into()],
                    bytes: vec![1, 2, 3],
                    pick: 0,
                    properties: (1..0x2b)
                        .map(|id| (id, 1, "text".into(), "more".into()))
                        .collect(),
                };
                with_packet(parts, |packet, version| {
                    let mut bytes = Vec::new();
                    encode(packet, version, &mut bytes);
                    corpus.push(bytes);
                });
            }
        }
    }
    corpus
}

#[test]
fn spoilt_packets_never_panic() {
    let corpus = corpus();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for case in 0..200_000 {
        let mut bytes = corpus[case % corpus.len()].clone();
        for _ in 0..=numbers.below(3) {
            let at = numbers.below(bytes.len());
            match numbers.below(5) {
                0 => bytes[at] ^= 1 << numbers.below(8),
                1 => bytes[at] = numbers.byte(),
                2 => bytes.insert(at, numbers.byte()),
                3 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => bytes[at] = bytes[at].wrapping_add(1),
            }
        }
        // Mostly with a length that fits, so that more than the header is looked at.
        if let (Ok(len @ 2..), true) = (u8::try_from(bytes.len()), numbers.below(4) > 0)
            && len < 0x80
        {
            bytes[1] = len - 2;
        }
        decode_and_repeat(&bytes);
    }
}
