//! CONNECT in both directions: the one packet with its own version, and flags that must agree with each other.

use super::decode::{DecodeError, check_flags, check_length, take_properties};
use super::encode::{put_packet, put_properties};
use super::frame::{Frame, kind};
use super::input::Input;
use super::output::{put_binary, put_text, put_u16};
use super::property::Place;
use super::{Connect, Qos, Reason, Topic, Version, Will};

// The flags byte of CONNECT.
const RESERVED: u8 = 0x01;
const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;

/// The version that a CONNECT names, if it gets as far: how to answer one that is wrong later on. `None` when
/// `frame` is no CONNECT, or of no version of ours.
pub fn connect_version(frame: Frame<'_>) -> Option<Version> {
    if frame.first >> 4 != kind::CONNECT {
        return None;
    }
    take_version(&mut Input::new(frame.body))
        .ok()
        .map(|(version, _)| version)
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

/// Decodes a CONNECT.
pub(super) fn decode_connect(frame: Frame<'_>) -> Result<Connect<'_>, DecodeError> {
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

fn check_connect_flags(flags: u8, version: Version) -> Result<(), DecodeError> {
    // [MQTT-3.1.2-3]; 3.1 does not use the bit.
    if flags & RESERVED != 0 && version != Version::V31 {
        return Err(DecodeError::malformed("reserved flag in CONNECT"));
    }
    // [MQTT-3.1.2-11], [MQTT-3.1.2-13]; without a will, 3.1 gives these no meaning and no value.
    let is_without_will = flags & WILL == 0 && version != Version::V31;
    if is_without_will && flags & (WILL_QOS | WILL_RETAIN) != 0 {
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

/// Appends a CONNECT.
pub(super) fn put_connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    put_packet(out, kind::CONNECT << 4, |out| {
        let version = connect.version;
        put_text(
            out,
            match version {
                Version::V31 => "MQIsdp",
                Version::V311 | Version::V5 => "MQTT",
            },
        );
        // 5.0 has no bridge bit.
        let bridge = connect.bridge && version != Version::V5;
        out.push(version as u8 | u8::from(bridge) << 7);
        out.push(connect_flags(connect));
        put_u16(out, connect.keep_alive);
        put_properties(out, connect.properties, version);
        put_text(out, connect.client_id);
        if let Some(will) = &connect.will {
            put_properties(out, will.properties, version);
            put_text(out, will.topic.as_str());
            put_binary(out, will.payload);
        }
        if let Some(username) = connect.username {
            put_text(out, username);
        }
        if let Some(password) = connect.password {
            put_binary(out, password);
        }
    });
}

fn connect_flags(connect: &Connect<'_>) -> u8 {
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let will = connect.will.as_ref().map_or(0, |will| {
        WILL | (will.qos as u8) << 3 | flag(will.retain, WILL_RETAIN)
    });
    will | flag(connect.clean_start, CLEAN_START)
        | flag(connect.password.is_some(), PASSWORD)
        | flag(connect.username.is_some(), USERNAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::decode::tests::{V5, V31, V311, packet, read, refusal};
    use crate::mqtt::{Packet, frame::frame};

    /// A CONNECT that is fine but for what the test does to it.
    fn connect(name: &[u8], level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
        let name_len = u8::try_from(name.len()).unwrap();
        packet(0x10, &[&[0, name_len], name, &[level, flags, 0, 60], rest])
    }

    #[test]
    fn connect_levels_are_told_apart() {
        let level = |name: &[u8], level| {
            let properties: &[u8] = if level == 5 { b"\0" } else { b"" };
            let bytes = connect(name, level, 2, &[properties, b"\0\x01c"].concat());
            match read(&bytes, V311) {
                Ok(Packet::Connect(connect)) => Ok((connect.version, connect.bridge)),
                Ok(_) => panic!("not a CONNECT"),
                Err(error) => Err(error.reason.code()),
            }
        };
        assert_eq!(level(b"MQIsdp", 3), Ok((V31, false)));
        assert_eq!(level(b"MQIsdp", 0x83), Ok((V31, true)));
        assert_eq!(level(b"MQTT", 4), Ok((V311, false)));
        assert_eq!(level(b"MQTT", 0x84), Ok((V311, true)));
        assert_eq!(level(b"MQTT", 5), Ok((V5, false)));
        for (name, unknown) in [
            (&b"MQTT"[..], 3),
            (b"MQTT", 6),
            (b"MQTT", 0x85),
            (b"MQIsdp", 4),
        ] {
            assert_eq!(level(name, unknown), Err(0x84));
        }
        assert_eq!(level(b"MQTX", 4), Err(0x82));
    }

    #[test]
    fn unknown_level_is_told_before_what_follows_it() {
        assert_eq!(refusal(&packet(0x10, &[b"\0\x04MQTT\x07"]), V311), 0x84);
        let broken = packet(0x10, &[b"\0\x04MQTT\x05\x02"]);
        assert_eq!(refusal(&broken, V311), 0x81);
        let frame = frame(&broken, 100).unwrap().unwrap();
        assert_eq!(connect_version(frame), Some(V5));
    }

    #[test]
    fn connect_flags_must_agree_with_each_other() {
        let flags = |level, flags| {
            let name: &[u8] = if level == 3 { b"MQIsdp" } else { b"MQTT" };
            let properties: &[u8] = if level == 5 { b"\0" } else { b"" };
            let rest = [properties, b"\0\x01c\0\x01p"].concat();
            refusal(&connect(name, level, flags, &rest), V311)
        };
        assert_eq!((flags(4, 0x80), flags(5, 0x80)), (0, 0));
        // Reserved.
        assert_eq!(
            (flags(3, 0x81), flags(4, 0x81), flags(5, 0x81)),
            (0, 0x81, 0x81)
        );
        // Will QoS and will retain without a will.
        assert_eq!((flags(4, 0x88), flags(5, 0xa0)), (0x81, 0x81));
        assert_eq!((flags(3, 0x98), flags(3, 0xa0)), (0, 0));
        // A password alone.
        assert_eq!(
            (flags(3, 0x40), flags(4, 0x40), flags(5, 0x40)),
            (0x81, 0x81, 0)
        );
        // A will of QoS 3.
        assert_eq!(flags(4, 0x1c), 0x81);
    }

    #[test]
    fn username_may_be_missing_in_3_1() {
        assert_eq!(refusal(&connect(b"MQIsdp", 3, 0xc2, b"\0\x01c"), V311), 0);
        assert_eq!(refusal(&connect(b"MQTT", 4, 0xc2, b"\0\x01c"), V311), 0x81);
    }

    #[test]
    fn bytes_after_the_last_field_are_malformed() {
        assert_eq!(refusal(&connect(b"MQTT", 4, 2, b"\0\x01czz"), V311), 0x81);
        assert_eq!(refusal(&connect(b"MQIsdp", 3, 2, b"\0\x01cz"), V31), 0x81);
    }

    #[test]
    fn will_topic_is_a_topic_name() {
        let will = |topic: &[u8]| {
            connect(
                b"MQTT",
                4,
                0x06,
                &[b"\0\x01c\0\x01", topic, b"\0\x01x"].concat(),
            )
        };
        assert_eq!(refusal(&will(b"w"), V311), 0);
        assert_eq!(refusal(&will(b"#"), V311), 0x82);
    }
}
