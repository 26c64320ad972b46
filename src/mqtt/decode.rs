//! Bytes of a peer to packets.

use std::fmt;

pub use super::connect::connect_version;
use super::connect::decode_connect;
use super::frame::{DUP, Frame, kind};
use super::input::Input;
use super::output::varint_len;
use super::property::Place;
use super::reason::is_allowed;
use super::{
    Ack, Auth, Connack, Disconnect, Filter, Packet, PacketId, Properties, Publish, Qos, Reason,
    RetainHandling, Suback, Subscribe, SubscriptionOptions, Topic, Unsuback, Unsubscribe, Version,
};
use crate::base::limits::FILTERS_PER_PACKET_MAX;

/// What is wrong with a packet: the reason code for DISCONNECT or CONNACK, and words for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeError {
    pub reason: Reason,
    /// Lower case, no full stop: "truncated", "string is not UTF-8".
    pub what: &'static str,
}

impl DecodeError {
    pub(super) const fn malformed(what: &'static str) -> Self {
        Self {
            reason: Reason::MalformedPacket,
            what,
        }
    }

    pub(super) const fn protocol(what: &'static str) -> Self {
        Self {
            reason: Reason::ProtocolError,
            what,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for DecodeError {}

/// Decodes one packet. `version` is that of the connection; CONNECT brings its own and ignores it.
/// Both directions: what only a server may send is decoded too, `session` and `client` refuse what is not theirs.
///
/// # Errors
/// Malformed (0x81), protocol error (0x82), CONNECT of an unknown level (0x84), topic alias 0 (0x94).
#[inline]
pub fn decode<'a>(frame: Frame<'a>, version: Version) -> Result<Packet<'a>, DecodeError> {
    match frame.first >> 4 {
        kind::PUBLISH => decode_publish(frame, version).map(Packet::Publish),
        kind::PUBACK => decode_ack(frame, version).map(Packet::Puback),
        kind::PUBREC => decode_ack(frame, version).map(Packet::Pubrec),
        kind::PUBREL => decode_ack(frame, version).map(Packet::Pubrel),
        kind::PUBCOMP => decode_ack(frame, version).map(Packet::Pubcomp),
        kind::CONNECT => decode_connect(frame).map(Packet::Connect),
        _ => decode_other(frame, version),
    }
}

/// Decodes a PUBLISH: what `decode` does for it, for loops that have looked at the first byte already.
///
/// # Errors
/// As [`decode`]; the first byte must be that of a PUBLISH.
#[inline]
pub fn decode_publish(frame: Frame<'_>, version: Version) -> Result<Publish<'_>, DecodeError> {
    check_length(frame, version)?;
    let qos = Qos::from_bits(frame.first >> 1 & 3).ok_or(DecodeError::malformed("QoS 3"))?;
    let dup = frame.first & DUP != 0;
    // [MQTT-3.3.1-2]; 3.1 does not say so.
    if dup && qos == Qos::AtMostOnce && version != Version::V31 {
        return Err(DecodeError::malformed("DUP with QoS 0"));
    }
    let mut input = Input::new(frame.body);
    let name = input.take_text()?;
    let topic = if name.is_empty() && version == Version::V5 {
        None
    } else {
        Some(Topic::new(name).ok_or(DecodeError::protocol("invalid topic name"))?)
    };
    let packet_id = match qos {
        Qos::AtMostOnce => None,
        Qos::AtLeastOnce | Qos::ExactlyOnce => Some(
            PacketId::new(input.take_u16()?).ok_or(DecodeError::protocol("packet identifier 0"))?,
        ),
    };
    let properties = take_properties(&mut input, version, Place::Publish)?;
    Ok(Publish {
        dup: dup && qos != Qos::AtMostOnce,
        qos,
        retain: frame.first & 1 != 0,
        topic,
        packet_id,
        properties,
        payload: input.rest(),
    })
}

/// The rare ones, away from the code that runs for every message.
fn decode_other(frame: Frame<'_>, version: Version) -> Result<Packet<'_>, DecodeError> {
    check_length(frame, version)?;
    check_flags(frame, version)?;
    let input = Input::new(frame.body);
    Ok(match frame.first >> 4 {
        kind::CONNACK => Packet::Connack(decode_connack(input, version)?),
        kind::SUBSCRIBE => Packet::Subscribe(decode_subscribe(input, version)?),
        kind::SUBACK => Packet::Suback(decode_suback(frame, version)?),
        kind::UNSUBSCRIBE => Packet::Unsubscribe(decode_unsubscribe(input, version)?),
        kind::UNSUBACK => Packet::Unsuback(decode_unsuback(frame, version)?),
        kind::PINGREQ => input.end().map(|()| Packet::Pingreq)?,
        kind::PINGRESP => input.end().map(|()| Packet::Pingresp)?,
        kind::DISCONNECT => Packet::Disconnect(decode_disconnect(frame, version)?),
        kind::AUTH if version == Version::V5 => Packet::Auth(decode_auth(frame)?),
        _ => return Err(DecodeError::malformed("reserved packet type")),
    })
}

/// 5.0 forbids more length bytes than the remaining length needs [MQTT-1.5.5-1]; 3.x does not.
#[inline]
pub(super) const fn check_length(frame: Frame<'_>, version: Version) -> Result<(), DecodeError> {
    let needed = 1 + varint_len(frame.body.len()) + frame.body.len();
    if frame.len > needed && matches!(version, Version::V5) {
        return Err(DecodeError::malformed(
            "remaining length longer than needed",
        ));
    }
    Ok(())
}

/// The reserved flags [MQTT-2.1.3-1]. 3.1 does not use them, and its clients may set DUP in what they send again.
pub(super) const fn check_flags(frame: Frame<'_>, version: Version) -> Result<(), DecodeError> {
    let expected = match frame.first >> 4 {
        kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE => 2,
        _ => 0,
    };
    if frame.first & 0x0f != expected && !matches!(version, Version::V31) {
        return Err(DecodeError::malformed("reserved flags"));
    }
    Ok(())
}

#[inline]
pub(super) fn take_properties<'a>(
    input: &mut Input<'a>,
    version: Version,
    place: Place,
) -> Result<Properties<'a>, DecodeError> {
    if version != Version::V5 {
        return Ok(Properties::NONE);
    }
    let raw = input.take_block()?;
    if raw.is_empty() {
        return Ok(Properties::NONE);
    }
    Properties::check(raw, place)
}

fn take_packet_id(input: &mut Input<'_>) -> Result<PacketId, DecodeError> {
    PacketId::new(input.take_u16()?).ok_or(DecodeError::malformed("packet identifier 0"))
}

fn decode_connack(mut input: Input<'_>, version: Version) -> Result<Connack<'_>, DecodeError> {
    let flags = input.take_u8()?;
    // [MQTT-3.2.2-1]; 3.1 does not use the byte.
    if flags > 1 && version != Version::V31 {
        return Err(DecodeError::malformed("reserved flags in CONNACK"));
    }
    let code = input.take_u8()?;
    if version == Version::V5 {
        check_code(kind::CONNACK << 4, code)?;
    }
    let properties = take_properties(&mut input, version, Place::Connack)?;
    input.end()?;
    Ok(Connack {
        session_present: flags == 1 && version != Version::V31,
        code,
        properties,
    })
}

fn check_code(first: u8, code: u8) -> Result<(), DecodeError> {
    if is_allowed(first, code) {
        Ok(())
    } else {
        Err(DecodeError::protocol(
            "reason code not allowed in this packet",
        ))
    }
}

/// Code and properties where a 5.0 packet ends with them, and may end before them.
fn take_code<'a>(
    input: &mut Input<'a>,
    first: u8,
    place: Place,
) -> Result<(u8, Properties<'a>), DecodeError> {
    if input.is_empty() {
        return Ok((0, Properties::NONE));
    }
    let code = input.take_u8()?;
    check_code(first, code)?;
    if input.is_empty() {
        return Ok((code, Properties::NONE));
    }
    let properties = take_properties(input, Version::V5, place)?;
    input.end()?;
    Ok((code, properties))
}

fn decode_ack(frame: Frame<'_>, version: Version) -> Result<Ack<'_>, DecodeError> {
    check_length(frame, version)?;
    check_flags(frame, version)?;
    let mut input = Input::new(frame.body);
    let packet_id = take_packet_id(&mut input)?;
    let (code, properties) = if version == Version::V5 {
        take_code(&mut input, frame.first, Place::Ack)?
    } else {
        input.end()?;
        (0, Properties::NONE)
    };
    Ok(Ack {
        packet_id,
        code,
        properties,
    })
}

fn decode_subscribe(mut input: Input<'_>, version: Version) -> Result<Subscribe<'_>, DecodeError> {
    let packet_id = take_packet_id(&mut input)?;
    let properties = take_properties(&mut input, version, Place::Subscribe)?;
    let mut filters = Vec::new();
    while !input.is_empty() {
        let filter = take_filter(&mut input, filters.len())?;
        let options = if version == Version::V5 {
            subscription_options(input.take_u8()?)?
        } else {
            SubscriptionOptions {
                // All eight bits: the six above the QoS are reserved [MQTT-3.8.3-4].
                qos: Qos::from_bits(input.take_u8()?)
                    .ok_or(DecodeError::malformed("subscription options"))?,
                ..SubscriptionOptions::default()
            }
        };
        if options.no_local && filter.shared().is_some() {
            return Err(DecodeError::protocol("no local on a shared subscription"));
        }
        filters.push((filter, options));
    }
    if filters.is_empty() {
        return Err(DecodeError::protocol("SUBSCRIBE without a filter"));
    }
    Ok(Subscribe {
        packet_id,
        properties,
        filters,
    })
}

fn take_filter<'a>(input: &mut Input<'a>, count: usize) -> Result<Filter<'a>, DecodeError> {
    if count >= FILTERS_PER_PACKET_MAX {
        return Err(DecodeError {
            reason: Reason::QuotaExceeded,
            what: "too many filters",
        });
    }
    Filter::new(input.take_text()?).ok_or(DecodeError::malformed("invalid topic filter"))
}

fn subscription_options(byte: u8) -> Result<SubscriptionOptions, DecodeError> {
    // [MQTT-3.8.3-5]
    if byte & 0xc0 != 0 {
        return Err(DecodeError::malformed("reserved subscription options"));
    }
    Ok(SubscriptionOptions {
        qos: Qos::from_bits(byte & 3).ok_or(DecodeError::protocol("subscription with QoS 3"))?,
        no_local: byte & 4 != 0,
        retain_as_published: byte & 8 != 0,
        retain_handling: match byte >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::protocol("retain handling 3")),
        },
    })
}

fn decode_suback(frame: Frame<'_>, version: Version) -> Result<Suback<'_>, DecodeError> {
    let mut input = Input::new(frame.body);
    let packet_id = take_packet_id(&mut input)?;
    let properties = take_properties(&mut input, version, Place::Ack)?;
    let codes = input.rest();
    for &code in codes {
        match version {
            // [MQTT-3.9.3-2]; 3.1 has no failure code, and a failure is what it would mean.
            Version::V31 | Version::V311 if !matches!(code, 0..=2 | 0x80) => {
                return Err(DecodeError::malformed("return code in SUBACK"));
            }
            Version::V31 | Version::V311 => {}
            Version::V5 => check_code(frame.first, code)?,
        }
    }
    Ok(Suback {
        packet_id,
        properties,
        codes,
    })
}

fn decode_unsubscribe(
    mut input: Input<'_>,
    version: Version,
) -> Result<Unsubscribe<'_>, DecodeError> {
    let packet_id = take_packet_id(&mut input)?;
    let properties = take_properties(&mut input, version, Place::Unsubscribe)?;
    let mut filters = Vec::new();
    while !input.is_empty() {
        filters.push(take_filter(&mut input, filters.len())?);
    }
    if filters.is_empty() {
        return Err(DecodeError::protocol("UNSUBSCRIBE without a filter"));
    }
    Ok(Unsubscribe {
        packet_id,
        properties,
        filters,
    })
}

fn decode_unsuback(frame: Frame<'_>, version: Version) -> Result<Unsuback<'_>, DecodeError> {
    let mut input = Input::new(frame.body);
    let packet_id = take_packet_id(&mut input)?;
    let properties = take_properties(&mut input, version, Place::Ack)?;
    if version != Version::V5 {
        input.end()?;
    }
    let codes = input.rest();
    for &code in codes {
        check_code(frame.first, code)?;
    }
    Ok(Unsuback {
        packet_id,
        properties,
        codes,
    })
}

fn decode_disconnect(frame: Frame<'_>, version: Version) -> Result<Disconnect<'_>, DecodeError> {
    let mut input = Input::new(frame.body);
    let (code, properties) = if version == Version::V5 {
        take_code(&mut input, frame.first, Place::Disconnect)?
    } else {
        input.end()?;
        (0, Properties::NONE)
    };
    Ok(Disconnect { code, properties })
}

fn decode_auth(frame: Frame<'_>) -> Result<Auth<'_>, DecodeError> {
    let (code, properties) = take_code(&mut Input::new(frame.body), frame.first, Place::Auth)?;
    Ok(Auth { code, properties })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::mqtt::frame::frame;

    /// The packet in `bytes`, which must be all of them.
    pub(crate) fn read(bytes: &[u8], version: Version) -> Result<Packet<'_>, DecodeError> {
        let frame = frame(bytes, usize::MAX)?.expect("a whole packet");
        assert_eq!(frame.len, bytes.len());
        decode(frame, version)
    }

    /// A packet from its first byte and the parts of its body.
    pub(crate) fn packet(first: u8, body: &[&[u8]]) -> Vec<u8> {
        let body = body.concat();
        let mut bytes = vec![first];
        crate::mqtt::output::put_varint(&mut bytes, body.len());
        bytes.extend(body);
        bytes
    }

    /// The reason code of the refusal, 0 if there is none.
    pub(crate) fn refusal(bytes: &[u8], version: Version) -> u8 {
        read(bytes, version).map_or_else(|error| error.reason.code(), |_| 0)
    }

    pub(crate) const V31: Version = Version::V31;
    pub(crate) const V311: Version = Version::V311;
    pub(crate) const V5: Version = Version::V5;

    #[test]
    fn publish_is_read() {
        let bytes = packet(0x3b, &[b"\0\x03a/b\0\x07hello"]);
        let Ok(Packet::Publish(publish)) = read(&bytes, V311) else {
            panic!("not a PUBLISH");
        };
        assert_eq!(publish.topic, Topic::new("a/b"));
        assert_eq!(publish.packet_id, PacketId::new(7));
        assert_eq!(
            (publish.dup, publish.qos, publish.retain),
            (true, Qos::AtLeastOnce, true)
        );
        assert_eq!(publish.payload, b"hello");
    }

    #[test]
    fn publish_with_impossible_flags_is_malformed() {
        let qos_3 = packet(0x36, &[b"\0\x01a\0\x01"]);
        let dup_qos_0 = packet(0x38, &[b"\0\x01a"]);
        for version in [V31, V311, V5] {
            assert_eq!(refusal(&qos_3, version), 0x81);
        }
        assert_eq!(refusal(&dup_qos_0, V311), 0x81);
        // 3.1 lets it pass; it means nothing there.
        let Ok(Packet::Publish(publish)) = read(&dup_qos_0, V31) else {
            panic!("not a PUBLISH");
        };
        assert!(!publish.dup);
    }

    #[test]
    fn publish_needs_a_topic_except_in_5_0_where_an_alias_may_stand_for_it() {
        let empty = packet(0x30, &[b"\0\0", b"\x03\x23\0\x01"]);
        assert_eq!(refusal(&empty, V31), 0x82);
        assert_eq!(refusal(&empty, V311), 0x82);
        let Ok(Packet::Publish(publish)) = read(&empty, V5) else {
            panic!("not a PUBLISH");
        };
        assert_eq!(publish.topic, None);
    }

    #[test]
    fn publish_to_a_wildcard_or_with_packet_id_0_is_a_protocol_error() {
        assert_eq!(refusal(&packet(0x30, &[b"\0\x03a/#"]), V311), 0x82);
        assert_eq!(refusal(&packet(0x30, &[b"\0\x01+\0"]), V5), 0x82);
        assert_eq!(refusal(&packet(0x32, &[b"\0\x01a\0\0"]), V311), 0x82);
    }

    #[test]
    fn reserved_flags_are_refused_but_in_3_1() {
        let pubrel_again = packet(0x6a, &[b"\0\x01"]);
        assert_eq!(refusal(&pubrel_again, V31), 0);
        assert_eq!(refusal(&pubrel_again, V311), 0x81);
        assert_eq!(refusal(&packet(0x80, &[b"\0\x01\0\x01a\0"]), V311), 0x81);
        assert_eq!(refusal(&[0xc1, 0], V5), 0x81);
    }

    #[test]
    fn padded_remaining_length_is_refused_in_5_0_alone() {
        let padded = [0xc0, 0x80, 0];
        assert_eq!(refusal(&padded, V311), 0);
        assert_eq!(refusal(&padded, V5), 0x81);
    }

    #[test]
    fn bytes_after_the_last_field_are_malformed() {
        for bytes in [
            packet(0x40, &[b"\0\x01\0\0"]),
            packet(0xc0, &[b"x"]),
            packet(0xe0, &[b"\0"]),
            packet(0xb0, &[b"\0\x01\0"]),
            packet(0x82, &[b"\0\x01\0\x01a\0\0"]),
        ] {
            assert_eq!(refusal(&bytes, V311), 0x81, "{bytes:x?}");
        }
        assert_eq!(refusal(&packet(0x40, &[b"\0\x01\0\0x"]), V5), 0x81);
    }

    #[test]
    fn subscribe_is_refused_for_any_of_its_parts() {
        let subscribe = |options: u8| packet(0x82, &[b"\0\x01\0\0\x01a", &[options]]);
        assert_eq!(refusal(&subscribe(0x2e), V5), 0);
        // QoS 3, retain handling 3, reserved bits.
        assert_eq!(refusal(&subscribe(0x03), V5), 0x82);
        assert_eq!(refusal(&subscribe(0x30), V5), 0x82);
        assert_eq!(refusal(&subscribe(0x40), V5), 0x81);
        // In 3.x there is only the QoS.
        assert_eq!(refusal(&packet(0x82, &[b"\0\x01\0\x01a\x04"]), V311), 0x81);
        // No filter, packet identifier 0, a filter that is none, a truncated one.
        assert_eq!(refusal(&packet(0x82, &[b"\0\x01"]), V311), 0x82);
        assert_eq!(refusal(&packet(0xa2, &[b"\0\x01"]), V311), 0x82);
        assert_eq!(refusal(&packet(0x82, &[b"\0\0\0\x01a\0"]), V311), 0x81);
        assert_eq!(refusal(&packet(0x82, &[b"\0\x01\0\x02a#\0"]), V311), 0x81);
        assert_eq!(refusal(&packet(0x82, &[b"\0\x01\0\x05a"]), V311), 0x81);
        // No local on a shared subscription.
        let shared = |options: u8| packet(0x82, &[b"\0\x01\0\0\x0a$share/g/a", &[options]]);
        assert_eq!(refusal(&shared(0), V5), 0);
        assert_eq!(refusal(&shared(4), V5), 0x82);
    }

    #[test]
    fn acknowledgements_have_three_forms_in_5_0() {
        let ack = |body: &[u8]| match read(&packet(0x40, &[body]), V5) {
            Ok(Packet::Puback(ack)) => Ok((ack.code, ack.properties.iter().count())),
            Ok(_) => panic!("not a PUBACK"),
            Err(error) => Err(error.reason.code()),
        };
        assert_eq!(ack(b"\0\x01"), Ok((0, 0)));
        assert_eq!(ack(b"\0\x01\x10"), Ok((0x10, 0)));
        assert_eq!(ack(b"\0\x01\x10\0"), Ok((0x10, 0)));
        assert_eq!(ack(b"\0\x01\x10\x04\x1f\0\x01x"), Ok((0x10, 1)));
        // Codes of other packets, packet identifier 0, properties cut short.
        assert_eq!(ack(b"\0\x01\x07"), Err(0x82));
        assert_eq!(ack(b"\0\0"), Err(0x81));
        assert_eq!(ack(b"\0\x01\x10\x05"), Err(0x81));
    }

    #[test]
    fn answers_of_a_server_hold_what_their_version_knows() {
        // Reserved flags of CONNACK; 3.1 has no session present flag.
        assert_eq!(refusal(&[0x20, 2, 2, 0], V311), 0x81);
        let Ok(Packet::Connack(connack)) = read(&[0x20, 2, 1, 5], V31) else {
            panic!("not a CONNACK");
        };
        assert_eq!((connack.session_present, connack.code), (false, 5));
        assert_eq!(refusal(&[0x20, 3, 0, 0x05, 0], V5), 0x82);
        // Codes of SUBACK and UNSUBACK.
        assert_eq!(refusal(&[0x90, 3, 0, 1, 0x80], V311), 0);
        assert_eq!(refusal(&[0x90, 3, 0, 1, 0x87], V311), 0x81);
        assert_eq!(refusal(&[0x90, 4, 0, 1, 0, 0x87], V5), 0);
        assert_eq!(refusal(&[0x90, 4, 0, 1, 0, 0x03], V5), 0x82);
        assert_eq!(refusal(&[0xb0, 4, 0, 1, 0, 0x01], V5), 0x82);
    }

    #[test]
    fn auth_exists_in_5_0_alone() {
        assert_eq!(refusal(&[0xf0, 0], V5), 0);
        assert_eq!(refusal(&[0xf0, 0], V311), 0x81);
    }
}
