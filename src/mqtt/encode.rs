//! Packets to bytes. Every function appends one whole packet to `out` and cannot fail: what does not fit a field
//! was refused where it came in.

use super::connect::put_connect;
pub use super::frame::DUP;
use super::frame::kind;
use super::output::{put_text, put_u16, put_varint, varint_len};
use super::property::PropertyId;
use super::{
    Ack, Connack, Packet, Properties, Publish, Qos, Subscribe, SubscriptionOptions, Topic,
    Unsubscribe, Version,
};
use crate::base::limits::REMAINING_LENGTH_MAX;

/// Appends `packet` as `version` writes it: properties only in 5.0, and the short forms of acknowledgements and
/// DISCONNECT where the code is 0 and there are no properties.
///
/// CONNECT has its own version. AUTH exists in 5.0 only and is written as 5.0 whatever `version` says.
pub fn encode(packet: &Packet<'_>, version: Version, out: &mut Vec<u8>) {
    match packet {
        Packet::Connect(connect) => put_connect(out, connect),
        Packet::Connack(connack) => put_connack(out, connack, version),
        Packet::Publish(publish) => put_publish(out, publish, version),
        Packet::Puback(ack) => put_ack(out, kind::PUBACK << 4, ack, version),
        Packet::Pubrec(ack) => put_ack(out, kind::PUBREC << 4, ack, version),
        Packet::Pubrel(ack) => put_ack(out, kind::PUBREL << 4 | 2, ack, version),
        Packet::Pubcomp(ack) => put_ack(out, kind::PUBCOMP << 4, ack, version),
        Packet::Subscribe(subscribe) => put_subscribe(out, subscribe, version),
        Packet::Suback(suback) => put_packet(out, kind::SUBACK << 4, |out| {
            put_u16(out, suback.packet_id.get());
            put_properties(out, suback.properties, version);
            out.extend_from_slice(suback.codes);
        }),
        Packet::Unsubscribe(unsubscribe) => put_unsubscribe(out, unsubscribe, version),
        Packet::Unsuback(unsuback) => put_packet(out, kind::UNSUBACK << 4, |out| {
            put_u16(out, unsuback.packet_id.get());
            put_properties(out, unsuback.properties, version);
            if version == Version::V5 {
                out.extend_from_slice(unsuback.codes);
            }
        }),
        Packet::Pingreq => out.extend_from_slice(&[kind::PINGREQ << 4, 0]),
        Packet::Pingresp => out.extend_from_slice(&[kind::PINGRESP << 4, 0]),
        Packet::Disconnect(disconnect) => put_packet(out, kind::DISCONNECT << 4, |out| {
            put_code(out, disconnect.code, disconnect.properties, version);
        }),
        Packet::Auth(auth) => put_packet(out, kind::AUTH << 4, |out| {
            // Code and property length go together here: only a bare 0 may leave both out.
            if auth.code != 0 || !auth.properties.is_empty() {
                out.push(auth.code);
                put_properties(out, auth.properties, Version::V5);
            }
        }),
    }
}

/// As [`encode`], for a receiver that takes packets of at most `bytes_max`. If that is too little, the properties of
/// an answer are left out: they are a reason string, which may be missing [MQTT-3.4.2-2]. False, and nothing is
/// appended, if the packet is too large even so, or if it is a CONNACK that lets in: what it says must be said.
pub fn encode_within(
    packet: &Packet<'_>,
    version: Version,
    bytes_max: u32,
    out: &mut Vec<u8>,
) -> bool {
    let start = out.len();
    let mut put = |packet: &Packet<'_>| {
        encode(packet, version, out);
        let fits = u32::try_from(out.len() - start).is_ok_and(|len| len <= bytes_max);
        if !fits {
            out.truncate(start);
        }
        fits
    };
    put(packet) || without_properties(packet).is_some_and(|bare| put(&bare))
}

/// An answer without what may be left out of it; `None` if there is nothing of the kind.
fn without_properties<'a>(packet: &Packet<'a>) -> Option<Packet<'a>> {
    let mut bare = packet.clone();
    let properties = match &mut bare {
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            &mut ack.properties
        }
        Packet::Suback(suback) => &mut suback.properties,
        Packet::Unsuback(unsuback) => &mut unsuback.properties,
        Packet::Disconnect(disconnect) => &mut disconnect.properties,
        Packet::Connack(connack) if connack.code != 0 => &mut connack.properties,
        _ => return None,
    };
    let had_some = !properties.is_empty();
    *properties = Properties::NONE;
    had_some.then_some(bare)
}

/// A PUBLISH that goes to many connections: encoded once, then patched per connection.
#[derive(Clone, Copy, Debug)]
pub struct PublishForm<'a> {
    pub version: Version,
    pub qos: Qos,
    pub retain: bool,
    pub topic: Topic<'a>,
    /// 5.0 only, raw and checked.
    pub properties: Properties<'a>,
    pub payload: &'a [u8],
}

/// Appends everything of a PUBLISH except its payload, with packet id 0 in place; returns the offset of the packet
/// id's two bytes from the start of the appended bytes (`None` at QoS 0). The payload may then be appended, or
/// shared as a chunk of its own. The first byte may be patched too, with [`DUP`].
pub fn encode_publish_head(form: &PublishForm<'_>, out: &mut Vec<u8>) -> Option<usize> {
    let remaining = publish_remaining(form);
    let header_len = 1 + varint_len(remaining);
    out.reserve(header_len + remaining - form.payload.len());
    out.push(publish_first(false, form.qos, form.retain));
    put_varint(out, remaining);
    put_text(out, form.topic.as_str());
    if form.qos != Qos::AtMostOnce {
        put_u16(out, 0);
    }
    put_properties(out, form.properties, form.version);
    (form.qos != Qos::AtMostOnce).then_some(header_len + 2 + form.topic.as_str().len())
}

/// A PUBLISH for one connection alone, whose topic or alias is its own; the rest is of a form that was encoded.
#[derive(Clone, Copy, Debug)]
pub struct OwnHead<'a> {
    /// The first byte, with all its flags.
    pub first: u8,
    /// Empty when `alias` stands for it.
    pub topic: &'a str,
    /// Left out at QoS 0, 0 where there is none yet.
    pub packet_id: u16,
    /// The block without its length; `None` in 3.x.
    pub properties: Option<&'a [u8]>,
    /// Behind the other properties; 5.0 only.
    pub alias: Option<u16>,
    /// What will be appended.
    pub payload_len: usize,
}

impl OwnHead<'_> {
    const fn has_packet_id(&self) -> bool {
        self.first & 0b110 != 0
    }

    fn properties_len(&self) -> Option<usize> {
        let own = if self.alias.is_some() { ALIAS_LEN } else { 0 };
        self.properties.map(|raw| raw.len() + own)
    }

    fn remaining(&self) -> usize {
        let packet_id_len = if self.has_packet_id() { 2 } else { 0 };
        let properties_len = self.properties_len().map_or(0, |len| varint_len(len) + len);
        2 + self.topic.len() + packet_id_len + properties_len + self.payload_len
    }

    /// Bytes of the whole packet.
    pub fn packet_len(&self) -> usize {
        let remaining = self.remaining();
        1 + varint_len(remaining) + remaining
    }

    /// Appends everything but the payload.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.push(self.first);
        put_varint(out, self.remaining());
        put_text(out, self.topic);
        if self.has_packet_id() {
            put_u16(out, self.packet_id);
        }
        if let (Some(raw), Some(len)) = (self.properties, self.properties_len()) {
            put_varint(out, len);
            out.extend_from_slice(raw);
            if let Some(alias) = self.alias {
                out.push(PropertyId::TopicAlias as u8);
                put_u16(out, alias);
            }
        }
    }
}

/// A topic alias with its identifier.
const ALIAS_LEN: usize = 3;

/// Bytes of the whole packet that `form` makes, to compare with the receiver's maximum packet size. `None` if no
/// packet can be that long: properties that were added on the way can make it so.
pub fn publish_len(form: &PublishForm<'_>) -> Option<usize> {
    let remaining = publish_remaining(form);
    (remaining <= REMAINING_LENGTH_MAX).then(|| 1 + varint_len(remaining) + remaining)
}

fn publish_remaining(form: &PublishForm<'_>) -> usize {
    let packet_id_len = if form.qos == Qos::AtMostOnce { 0 } else { 2 };
    let properties_len = if form.version == Version::V5 {
        let len = form.properties.raw().len();
        varint_len(len) + len
    } else {
        0
    };
    2 + form.topic.as_str().len() + packet_id_len + properties_len + form.payload.len()
}

const fn publish_first(dup: bool, qos: Qos, retain: bool) -> u8 {
    let dup = if dup { DUP } else { 0 };
    kind::PUBLISH << 4 | dup | (qos as u8) << 1 | retain as u8
}

/// One packet whose body is written once its header has a place: the remaining length is known only afterwards.
pub(super) fn put_packet(out: &mut Vec<u8>, first: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[first, 0]);
    let body_start = out.len();
    body(out);
    let body_len = out.len() - body_start;
    if let Ok(len @ 0..=0x7f) = u8::try_from(body_len)
        && let Some(place) = out.get_mut(start + 1)
    {
        *place = len;
        return;
    }
    // A long body moves to make room for the other length bytes: rare, since PUBLISH is written elsewhere.
    let mut length = Vec::with_capacity(4);
    put_varint(&mut length, body_len);
    out.splice(start + 1..body_start, length);
}

pub(super) fn put_properties(out: &mut Vec<u8>, properties: Properties<'_>, version: Version) {
    if version == Version::V5 {
        put_varint(out, properties.raw().len());
        out.extend_from_slice(properties.raw());
    }
}

/// Code and properties where a packet ends with them: nothing in 3.x, and as little as says it in 5.0.
fn put_code(out: &mut Vec<u8>, code: u8, properties: Properties<'_>, version: Version) {
    if version != Version::V5 || (code == 0 && properties.is_empty()) {
        return;
    }
    out.push(code);
    if !properties.is_empty() {
        put_properties(out, properties, version);
    }
}

fn put_connack(out: &mut Vec<u8>, connack: &Connack<'_>, version: Version) {
    put_packet(out, kind::CONNACK << 4, |out| {
        // 3.1 has no session present flag.
        out.push(u8::from(connack.session_present && version != Version::V31));
        out.push(connack.code);
        put_properties(out, connack.properties, version);
    });
}

fn put_publish(out: &mut Vec<u8>, publish: &Publish<'_>, version: Version) {
    let start = out.len();
    let packet_id_at = encode_publish_head(
        &PublishForm {
            version,
            qos: publish.qos,
            retain: publish.retain,
            topic: publish.topic.unwrap_or(Topic::trusted("")),
            properties: publish.properties,
            payload: publish.payload,
        },
        out,
    );
    if let Some(first) = out.get_mut(start) {
        *first = publish_first(publish.dup, publish.qos, publish.retain);
    }
    if let Some(at) = packet_id_at
        && let Some(place) = out.get_mut(start + at..start + at + 2)
        && let Some(packet_id) = publish.packet_id
    {
        place.copy_from_slice(&packet_id.get().to_be_bytes());
    }
    out.extend_from_slice(publish.payload);
}

fn put_ack(out: &mut Vec<u8>, first: u8, ack: &Ack<'_>, version: Version) {
    put_packet(out, first, |out| {
        put_u16(out, ack.packet_id.get());
        put_code(out, ack.code, ack.properties, version);
    });
}

fn put_subscribe(out: &mut Vec<u8>, subscribe: &Subscribe<'_>, version: Version) {
    put_packet(out, kind::SUBSCRIBE << 4 | 2, |out| {
        put_u16(out, subscribe.packet_id.get());
        put_properties(out, subscribe.properties, version);
        for (filter, options) in &subscribe.filters {
            put_text(out, filter.as_str());
            out.push(options_byte(*options, version));
        }
    });
}

fn options_byte(options: SubscriptionOptions, version: Version) -> u8 {
    if version != Version::V5 {
        return options.qos as u8;
    }
    options.qos as u8
        | u8::from(options.no_local) << 2
        | u8::from(options.retain_as_published) << 3
        | (options.retain_handling as u8) << 4
}

fn put_unsubscribe(out: &mut Vec<u8>, unsubscribe: &Unsubscribe<'_>, version: Version) {
    put_packet(out, kind::UNSUBSCRIBE << 4 | 2, |out| {
        put_u16(out, unsubscribe.packet_id.get());
        put_properties(out, unsubscribe.properties, version);
        for filter in &unsubscribe.filters {
            put_text(out, filter.as_str());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::{Disconnect, PacketId, PropertiesBuilder, Property, Suback};

    fn encoded(packet: &Packet<'_>, version: Version) -> Vec<u8> {
        let mut out = b"before".to_vec();
        encode(packet, version, &mut out);
        out.split_off(6)
    }

    fn ack(code: u8) -> Ack<'static> {
        Ack {
            packet_id: PacketId::new(0x0102).unwrap(),
            code,
            properties: Properties::NONE,
        }
    }

    #[test]
    fn acknowledgements_are_as_short_as_they_can_be() {
        let puback = |code, version| encoded(&Packet::Puback(ack(code)), version);
        assert_eq!(puback(0, Version::V311), [0x40, 2, 1, 2]);
        assert_eq!(puback(0x10, Version::V311), [0x40, 2, 1, 2]);
        assert_eq!(puback(0, Version::V5), [0x40, 2, 1, 2]);
        assert_eq!(puback(0x10, Version::V5), [0x40, 3, 1, 2, 0x10]);
        assert_eq!(
            encoded(&Packet::Pubrel(ack(0)), Version::V5),
            [0x62, 2, 1, 2]
        );
    }

    #[test]
    fn disconnect_has_a_body_in_5_0_alone() {
        let disconnect = |code, version| {
            let properties = Properties::NONE;
            encoded(
                &Packet::Disconnect(Disconnect { code, properties }),
                version,
            )
        };
        assert_eq!(disconnect(0x8e, Version::V5), [0xe0, 1, 0x8e]);
        assert_eq!(disconnect(0, Version::V5), [0xe0, 0]);
        assert_eq!(disconnect(0x8e, Version::V311), [0xe0, 0]);
    }

    #[test]
    fn connack_of_3_1_has_no_session_present_flag() {
        let connack = Packet::Connack(Connack {
            session_present: true,
            code: 0,
            properties: Properties::NONE,
        });
        assert_eq!(encoded(&connack, Version::V31), [0x20, 2, 0, 0]);
        assert_eq!(encoded(&connack, Version::V311), [0x20, 2, 1, 0]);
        assert_eq!(encoded(&connack, Version::V5), [0x20, 3, 1, 0, 0]);
    }

    #[test]
    fn a_reason_string_is_left_out_where_there_is_no_room_for_it() {
        let mut words = PropertiesBuilder::default();
        words.push(Property::ReasonString("why"));
        let within = |packet: &Packet<'_>, bytes_max| {
            let mut out = b"before".to_vec();
            let fits = encode_within(packet, Version::V5, bytes_max, &mut out);
            (fits, out.split_off(6))
        };
        let properties = words.as_properties();
        let puback = Packet::Puback(Ack {
            properties,
            ..ack(0x97)
        });
        assert_eq!(
            within(&puback, 12),
            (true, b"\x40\x0a\x01\x02\x97\x06\x1f\0\x03why".to_vec())
        );
        assert_eq!(within(&puback, 11), (true, vec![0x40, 3, 1, 2, 0x97]));
        assert_eq!(within(&puback, 4), (false, vec![]));
        // What a client must know is not left out.
        let connack = |code| {
            Packet::Connack(Connack {
                session_present: false,
                code,
                properties,
            })
        };
        assert_eq!(within(&connack(0), 5), (false, vec![]));
        assert_eq!(within(&connack(0x97), 5), (true, vec![0x20, 3, 0, 0x97, 0]));
        assert_eq!(within(&Packet::Pingresp, 1), (false, vec![]));
    }

    #[test]
    fn a_head_of_its_own_has_the_alias_behind_the_other_properties() {
        let mut properties = PropertiesBuilder::default();
        properties.push(Property::UserProperty("name", "value"));
        for first in [0x30, 0x33, 0x3d] {
            for (topic, payload_len) in [("a/b", 0), ("", 100), ("", 120), ("a", 20_000)] {
                let head = OwnHead {
                    first,
                    topic,
                    packet_id: 0x0102,
                    properties: Some(properties.as_properties().raw()),
                    alias: Some(7),
                    payload_len,
                };
                let payload = vec![7; payload_len];
                let mut bytes = Vec::new();
                head.put(&mut bytes);
                bytes.extend(&payload);
                assert_eq!(head.packet_len(), bytes.len());
                let Ok(Packet::Publish(publish)) =
                    crate::mqtt::decode::tests::read(&bytes, Version::V5)
                else {
                    panic!("not a PUBLISH");
                };
                assert_eq!(publish.topic, Topic::new(topic));
                assert_eq!(publish.packet_id.is_some(), first != 0x30);
                let expected = [
                    Property::UserProperty("name", "value"),
                    Property::TopicAlias(7),
                ];
                assert!(publish.properties.iter().eq(expected));
                assert_eq!(publish.payload, payload);
            }
        }
        let three = OwnHead {
            first: 0x30,
            topic: "t",
            packet_id: 0,
            properties: None,
            alias: None,
            payload_len: 1,
        };
        let mut bytes = Vec::new();
        three.put(&mut bytes);
        assert_eq!(bytes, b"\x30\x04\0\x01t");
    }

    #[test]
    fn long_body_gets_a_long_length() {
        let codes = [0; 300];
        let suback = Packet::Suback(Suback {
            packet_id: PacketId::MIN,
            properties: Properties::NONE,
            codes: &codes,
        });
        let bytes = encoded(&suback, Version::V311);
        assert_eq!(bytes[..5], [0x90, 0xae, 0x02, 0, 1]);
        assert_eq!(bytes.len(), 305);
    }

    #[test]
    fn head_and_payload_are_what_encode_makes_of_the_whole() {
        let mut properties = PropertiesBuilder::default();
        properties.push(Property::ContentType("text"));
        for version in [Version::V311, Version::V5] {
            for qos in [Qos::AtMostOnce, Qos::ExactlyOnce] {
                for payload_len in [0, 100, 130, 20_000] {
                    let payload = vec![7; payload_len];
                    let form = PublishForm {
                        version,
                        qos,
                        retain: true,
                        topic: Topic::new("a/b").unwrap(),
                        properties: properties.as_properties(),
                        payload: &payload,
                    };
                    let mut out = b"before".to_vec();
                    let packet_id_at = encode_publish_head(&form, &mut out);
                    let mut head = out.split_off(6);
                    head.extend(&payload);
                    assert_eq!(publish_len(&form), Some(head.len()));
                    if let Some(at) = packet_id_at {
                        head[at..at + 2].copy_from_slice(&[1, 2]);
                    }
                    let whole = encoded(
                        &Packet::Publish(Publish {
                            dup: false,
                            qos,
                            retain: true,
                            topic: Some(form.topic),
                            packet_id: (qos != Qos::AtMostOnce)
                                .then(|| PacketId::new(0x0102).unwrap()),
                            properties: form.properties,
                            payload: &payload,
                        }),
                        version,
                    );
                    assert_eq!(head, whole);
                }
            }
        }
    }
}
