//! Packets by hand. Written apart from the crate's codec, so that a mistake there cannot hide itself; what a broker
//! sends is read by both, and both must agree.

use mosquitto::mqtt::frame::frame;
use mosquitto::mqtt::{Version, decode};

pub const V31: u8 = 3;
pub const V311: u8 = 4;
pub const V5: u8 = 5;

pub const PINGREQ: &[u8] = &[0xc0, 0];
pub const PINGRESP: &[u8] = &[0xd0, 0];
pub const DISCONNECT: &[u8] = &[0xe0, 0];

/// A fixed header and its body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(varint(body.len()));
    bytes.extend_from_slice(body);
    bytes
}

pub fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value % 128).unwrap();
        value /= 128;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 128);
    }
}

/// Two bytes of length, then the bytes.
pub fn field(bytes: &[u8]) -> Vec<u8> {
    let mut field = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    field.extend_from_slice(bytes);
    field
}

pub fn text(text: &str) -> Vec<u8> {
    field(text.as_bytes())
}

/// Properties of 5.0, each with its identifier.
pub mod property {
    use super::{field, text, varint};

    fn of(identifier: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![identifier];
        bytes.extend_from_slice(value);
        bytes
    }

    pub fn payload_format(value: u8) -> Vec<u8> {
        of(0x01, &[value])
    }
    pub fn message_expiry(seconds: u32) -> Vec<u8> {
        of(0x02, &seconds.to_be_bytes())
    }
    pub fn content_type(value: &str) -> Vec<u8> {
        of(0x03, &text(value))
    }
    pub fn response_topic(value: &str) -> Vec<u8> {
        of(0x08, &text(value))
    }
    pub fn correlation_data(value: &[u8]) -> Vec<u8> {
        of(0x09, &field(value))
    }
    pub fn subscription_identifier(value: usize) -> Vec<u8> {
        of(0x0b, &varint(value))
    }
    pub fn session_expiry(seconds: u32) -> Vec<u8> {
        of(0x11, &seconds.to_be_bytes())
    }
    pub fn assigned_client_id(value: &str) -> Vec<u8> {
        of(0x12, &text(value))
    }
    pub fn server_keep_alive(seconds: u16) -> Vec<u8> {
        of(0x13, &seconds.to_be_bytes())
    }
    pub fn authentication_method(value: &str) -> Vec<u8> {
        of(0x15, &text(value))
    }
    pub fn will_delay(seconds: u32) -> Vec<u8> {
        of(0x18, &seconds.to_be_bytes())
    }
    pub fn receive_maximum(messages: u16) -> Vec<u8> {
        of(0x21, &messages.to_be_bytes())
    }
    pub fn topic_alias_maximum(aliases: u16) -> Vec<u8> {
        of(0x22, &aliases.to_be_bytes())
    }
    pub fn topic_alias(alias: u16) -> Vec<u8> {
        of(0x23, &alias.to_be_bytes())
    }
    pub fn user(name: &str, value: &str) -> Vec<u8> {
        let mut pair = text(name);
        pair.extend(text(value));
        of(0x26, &pair)
    }
    pub fn maximum_packet_size(bytes: u32) -> Vec<u8> {
        of(0x27, &bytes.to_be_bytes())
    }
}

/// CONNECT, field by field; `bytes` does not care whether it is valid.
#[derive(Clone)]
pub struct Connect {
    pub version: u8,
    pub id: String,
    pub clean: bool,
    pub keep_alive: u16,
    pub properties: Vec<Vec<u8>>,
    pub will: Option<Will>,
    pub username: Option<String>,
    pub password: Option<String>,
}

#[derive(Clone)]
pub struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: Vec<Vec<u8>>,
}

/// A clean session of this version.
pub fn connect(version: u8, id: &str) -> Connect {
    Connect {
        version,
        id: id.into(),
        clean: true,
        keep_alive: 60,
        properties: Vec::new(),
        will: None,
        username: None,
        password: None,
    }
}

impl Connect {
    /// A session that outlives its connection.
    pub fn persistent(mut self) -> Self {
        self.clean = false;
        if self.version == V5 {
            self.properties.push(property::session_expiry(u32::MAX));
        }
        self
    }

    pub fn clean(mut self, clean: bool) -> Self {
        self.clean = clean;
        self
    }

    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    pub fn property(mut self, property: Vec<u8>) -> Self {
        self.properties.push(property);
        self
    }

    pub fn will(mut self, topic: &str, payload: &str, qos: u8, retain: bool) -> Self {
        self.will = Some(Will {
            topic: topic.into(),
            payload: payload.into(),
            qos,
            retain,
            properties: Vec::new(),
        });
        self
    }

    pub fn will_property(mut self, property: Vec<u8>) -> Self {
        self.will.as_mut().unwrap().properties.push(property);
        self
    }

    pub fn username(mut self, name: &str) -> Self {
        self.username = Some(name.into());
        self
    }

    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    pub fn flags(&self) -> u8 {
        let mut flags = u8::from(self.clean) << 1;
        if let Some(will) = &self.will {
            flags |= 4 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        flags | u8::from(self.password.is_some()) << 6 | u8::from(self.username.is_some()) << 7
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_with_flags(self.flags())
    }

    /// With these flags, whatever follows them.
    pub fn bytes_with_flags(&self, flags: u8) -> Vec<u8> {
        let name = if self.version == V31 {
            "MQIsdp"
        } else {
            "MQTT"
        };
        let mut body = text(name);
        body.extend([self.version, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        put_properties(&mut body, self.version, &self.properties);
        body.extend(text(&self.id));
        if let Some(will) = &self.will {
            put_properties(&mut body, self.version, &will.properties);
            body.extend(text(&will.topic));
            body.extend(field(&will.payload));
        }
        if let Some(username) = &self.username {
            body.extend(text(username));
        }
        if let Some(password) = &self.password {
            body.extend(text(password));
        }
        packet(0x10, &body)
    }
}

fn put_properties(body: &mut Vec<u8>, version: u8, properties: &[Vec<u8>]) {
    if version == V5 {
        let properties = properties.concat();
        body.extend(varint(properties.len()));
        body.extend(properties);
    }
}

/// A PUBLISH to be sent, or one that was received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publish {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub id: u16,
    pub retain: bool,
    pub dup: bool,
    /// One entry each when it is built, one for all when it was received.
    pub properties: Vec<Vec<u8>>,
}

/// `id` is left out at QoS 0.
pub fn publish(topic: &str, payload: &str, qos: u8, id: u16) -> Publish {
    Publish {
        topic: topic.into(),
        payload: payload.into(),
        qos,
        id,
        retain: false,
        dup: false,
        properties: Vec::new(),
    }
}

impl Publish {
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    pub fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    pub fn property(mut self, property: Vec<u8>) -> Self {
        self.properties.push(property);
        self
    }

    pub fn bytes(&self, version: u8) -> Vec<u8> {
        let mut body = text(&self.topic);
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        put_properties(&mut body, version, &self.properties);
        body.extend_from_slice(&self.payload);
        let flags = u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        packet(0x30 | flags, &body)
    }
}

/// SUBSCRIBE with an options byte for each filter.
pub fn subscribe(version: u8, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    subscribe_with(version, id, &[], filters)
}

pub fn subscribe_with(
    version: u8,
    id: u16,
    properties: &[Vec<u8>],
    filters: &[(&str, u8)],
) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    put_properties(&mut body, version, properties);
    for (filter, options) in filters {
        body.extend(text(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

pub fn unsubscribe(version: u8, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    put_properties(&mut body, version, &[]);
    for filter in filters {
        body.extend(text(filter));
    }
    packet(0xa2, &body)
}

/// The short form of an acknowledgement.
pub fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

pub const PUBACK: u8 = 0x40;
pub const PUBREC: u8 = 0x50;
pub const PUBREL: u8 = 0x62;
pub const PUBCOMP: u8 = 0x70;

/// DISCONNECT of 5.0 with a reason code.
pub fn disconnect(code: u8) -> Vec<u8> {
    packet(0xe0, &[code])
}

/// What a broker sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Got {
    Connack {
        present: bool,
        code: u8,
        properties: Vec<u8>,
    },
    Publish(Publish),
    /// PUBACK, PUBREC, PUBREL, PUBCOMP: first byte, packet id, reason code.
    Ack(u8, u16, u8),
    Suback(u16, Vec<u8>),
    Unsuback(u16, Vec<u8>),
    Pingresp,
    Disconnect(u8),
}

/// One whole packet at the start of `bytes`: its length, if it is all there.
pub fn whole_packet(bytes: &[u8]) -> Option<usize> {
    let (mut length, mut shift, mut at) = (0usize, 0, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 127) << shift;
        at += 1;
        if byte & 128 == 0 {
            break;
        }
        shift += 7;
        assert!(shift < 28, "remaining length of more than four bytes");
    }
    (bytes.len() >= at + length).then_some(at + length)
}

/// Reads one packet by hand, and lets the crate's decoder agree that it is one.
pub fn read(version: u8, bytes: &[u8]) -> Got {
    let known = match version {
        V31 => Version::V31,
        V311 => Version::V311,
        _ => Version::V5,
    };
    let frame = frame(bytes, usize::MAX).unwrap().unwrap();
    if let Err(error) = decode::decode(frame, known) {
        panic!("the codec refuses what the broker sent: {error}: {bytes:02x?}");
    }
    let mut rest = Rest(frame.body);
    let first = bytes[0];
    match first >> 4 {
        2 => Got::Connack {
            present: rest.u8() == 1,
            code: rest.u8(),
            properties: rest.properties(version),
        },
        3 => {
            let qos = first >> 1 & 3;
            let topic = String::from_utf8(rest.field()).unwrap();
            let id = if qos > 0 { rest.u16() } else { 0 };
            let properties = rest.properties(version);
            let properties = if properties.is_empty() {
                Vec::new()
            } else {
                vec![properties]
            };
            Got::Publish(Publish {
                topic,
                payload: rest.0.to_vec(),
                qos,
                id,
                retain: first & 1 != 0,
                dup: first & 8 != 0,
                properties,
            })
        }
        4..=7 => Got::Ack(first, rest.u16(), rest.0.first().copied().unwrap_or(0)),
        9 => {
            let id = rest.u16();
            rest.properties(version);
            Got::Suback(id, rest.0.to_vec())
        }
        11 => {
            let id = rest.u16();
            rest.properties(version);
            Got::Unsuback(id, rest.0.to_vec())
        }
        13 => Got::Pingresp,
        14 => Got::Disconnect(rest.0.first().copied().unwrap_or(0)),
        _ => panic!("a broker does not send {bytes:02x?}"),
    }
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(bytes);
        self.0 = rest;
        taken.to_vec()
    }

    fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from(self.u8()) << 8 | u16::from(self.u8())
    }

    fn field(&mut self) -> Vec<u8> {
        let length = usize::from(self.u16());
        self.take(length)
    }

    fn properties(&mut self, version: u8) -> Vec<u8> {
        // A refusal of a version that the broker does not know has the form of 3.x.
        if version != V5 || self.0.is_empty() {
            return Vec::new();
        }
        let (mut length, mut shift) = (0usize, 0);
        loop {
            let byte = self.u8();
            length |= usize::from(byte & 127) << shift;
            shift += 7;
            if byte & 128 == 0 {
                return self.take(length);
            }
        }
    }
}
