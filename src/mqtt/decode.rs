//! Bytes of a peer to packets.

use std::fmt;

use super::frame::{DUP, Frame, kind};
use super::input::Input;
use super::output::varint_len;
use super::property::Place;
use super::reason::is_allowed;
use super::{
    Ack, Auth, Connack, Connect, Disconnect, Filter, Packet, PacketId, Properties, Publish, Qos,
    Reason, RetainHandling, Suback, Subscribe, SubscriptionOptions, Topic, Unsuback, Unsubscribe,
    Version, Will,
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

/// The version that a CONNECT names, if it gets as far: how to answer one that is wrong later on. `None` when `frame` is no
/// CONNECT or of no version of ours.
pub fn connect_version(frame: Frame<'_>) -> Option<Version> {
    if frame.first >> 4 != kind::CONNECT {
        return None;
    }
    take_version(&mut Input::new(frame.body))
        .ok()
        .map(|(version, _)| version)
}

/// All but CONNECT and PUBLISH.
fn decode_other(frame: Frame<'_>, version: Version) -> Result<Packet<'_>, DecodeError> {
    check_length(frame, version)?;
    check_flags(frame, version)?;
    let input = Input::new(frame.body);
    Ok(match frame.first >> 4 {
        kind::CONNACK => Packet::Connack(decode_connack(input, version)?),
        kind::PUBACK => Packet::Puback(decode_ack(frame, version)?),
        kind::PUBREC => Packet::Pubrec(decode_ack(frame, version)?),
        kind::PUBREL => Packet::Pubrel(decode_ack(frame, version)?),
        kind::PUBCOMP => Packet::Pubcomp(decode_ack(frame, version)?),
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
const fn check_length(frame: Frame<'_>, version: Version) -> Result<(), DecodeError> {
    let needed = 1 + varint_len(frame.body.len()) + frame.body.len();
    if frame.len > needed && matches!(version, Version::V5) {
        return Err(DecodeError::malformed(
            "remaining length longer than needed",
        ));
    }
    Ok(())
}

/// The reserved flags [MQTT-2.1.3-1]. 3.1 does not use them, and its clients may set DUP in what they send again.
const fn check_flags(frame: Frame<'_>, version: Version) -> Result<(), DecodeError> {
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
fn take_properties<'a>(
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

/// The version, and whether the bridge bit is set.
fn take_version(input: &mut Input<'_>) -> Result<(Version, bool), DecodeError> {
    let name = input.take_binary()?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err(DecodeError::protocol("unknown protocol name"));
    }
    // Bridges of the original say so with the high bit of the level in 3.x; 5.0 has other means.
    match (name, input.take_u8()?) {
        (b"MQIsdp", level @ (0x03 | 0x83)) => Ok((Version::V31, level & 0x80 != 0)),
        (b"MQTT", level @ (0x04 | 0x84)) => Ok((Version::V311, level & 0x80 != 0)),
        (b"MQTT", 0x05) => Ok((Version::V5, false)),
        _ => Err(DecodeError {
            reason: Reason::UnsupportedProtocolVersion,
            what: "unsupported protocol version",
        }),
    }
}

fn decode_connect(frame: Frame<'_>) -> Result<Connect<'_>, DecodeError> {
    let mut input = Input::new(frame.body);
    let (version, bridge) = take_version(&mut input)?;
    check_length(frame, version)?;
    check_flags(frame, version)?;
    let flags = input.take_u8()?;
    check_connect_flags(flags, version)?;
    let keep_alive = input.take_u16()?;
    let properties = take_properties(&mut input, version, Place::Connect)?;
    let client_id = input.take_text()?;
    let will = take_will(&mut input, flags, version)?;
    // In 3.1 the remaining length takes precedence over these two flags: what they promise may be missing.
    let is_here = |input: &Input<'_>| version != Version::V31 || !input.is_empty();
    let username = if flags & USERNAME != 0 && is_here(&input) {
        Some(input.take_text()?)
    } else {
        None
    };
    let password = if flags & PASSWORD != 0 && is_here(&input) {
        Some(input.take_binary()?)
    } else {
        None
    };
    input.end()?;
    Ok(Connect {
        version,
        bridge,
        clean_start: flags & CLEAN_START != 0,
        keep_alive,
        properties,
        client_id,
        will,
        username,
        password,
    })
}

const RESERVED: u8 = 0x01;
const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;

fn check_connect_flags(flags: u8, version: Version) -> Result<(), DecodeError> {
    // [MQTT-3.1.2-3]; 3.1 does not use the bit.
    if flags & RESERVED != 0 && version != Version::V31 {
        return Err(DecodeError::malformed("reserved flag in CONNECT"));
    }
    // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
    if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
        return Err(DecodeError::malformed("will flags without a will"));
    }
    // [MQTT-3.1.2-22] of 3.1.1, lifted in 5.0.
    if flags & (USERNAME | PASSWORD) == PASSWORD && version != Version::V5 {
        return Err(DecodeError::malformed("password without username"));
    }
    Ok(())
}

fn take_will<'a>(
    input: &mut Input<'a>,
    flags: u8,
    version: Version,
) -> Result<Option<Will<'a>>, DecodeError> {
    if flags & WILL == 0 {
        return Ok(None);
    }
    let qos =
        Qos::from_bits((flags & WILL_QOS) >> 3).ok_or(DecodeError::malformed("will with QoS 3"))?;
    let properties = take_properties(input, version, Place::Will)?;
    let topic =
        Topic::new(input.take_text()?).ok_or(DecodeError::protocol("invalid will topic"))?;
    Ok(Some(Will {
        qos,
        retain: flags & WILL_RETAIN != 0,
        topic,
        payload: input.take_binary()?,
        properties,
    }))
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
mod tests {
    use super::*;
    use crate::mqtt::frame::frame;

    /// The packet in `bytes`, which must be all of them.
    fn read(bytes: &[u8], version: Version) -> Result<Packet<'_>, DecodeError> {
        let frame = frame(bytes, usize::MAX)?.expect("a whole packet");
        assert_eq!(frame.len, bytes.len());
        decode(frame, version)
    }

    /// A packet from its first byte and the parts of its body.
    fn packet(first: u8, body: &[&[u8]]) -> Vec<u8> {
        let body = body.concat();
        let mut bytes = vec![first];
        crate::mqtt::output::put_varint(&mut bytes, body.len());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn publish_is_read() {
        let bytes = packet(0x3b, &[b"\0\x03a/b\0\x07hello"]);
        let Ok(Packet::Publish(publish)) = read(&bytes, Version::V311) else {
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
}
