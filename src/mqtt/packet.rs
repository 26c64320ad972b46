//! The fifteen packets as values. Borrowed from the bytes they were decoded from.

use std::num::NonZeroU16;

use super::{Filter, Properties, Topic};

/// The protocol of a connection: the level byte of CONNECT without the bridge bit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Version {
    /// MQTT 3.1, `MQIsdp`
    V31 = 3,
    /// MQTT 3.1.1
    V311 = 4,
    /// MQTT 5.0
    V5 = 5,
}

/// Quality of service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum Qos {
    /// At most once.
    #[default]
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

impl Qos {
    /// The QoS at which a message that was published at this one goes to a subscription of `granted`
    /// [MQTT-3.8.4-8]. `upgrade` is the original's option to go by the subscription alone.
    #[must_use]
    pub fn delivered(self, granted: Self, upgrade: bool) -> Self {
        if upgrade { granted } else { self.min(granted) }
    }

    /// From its two bits; 3 is none [MQTT-3.3.1-4].
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// A packet identifier; zero is none [MQTT-2.2.1-3].
pub type PacketId = NonZeroU16;

/// What a client or server says in one packet.
#[derive(Clone, PartialEq, Debug)]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    Puback(Ack<'a>),
    Pubrec(Ack<'a>),
    Pubrel(Ack<'a>),
    Pubcomp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Unsuback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// CONNECT.
#[derive(Clone, PartialEq, Debug)]
pub struct Connect<'a> {
    pub version: Version,
    /// The high bit of the level (3.x): the client is a bridge.
    pub bridge: bool,
    /// Clean session (3.x) or clean start (5.0).
    pub clean_start: bool,
    /// Seconds; 0 is none.
    pub keep_alive: u16,
    pub properties: Properties<'a>,
    pub client_id: &'a str,
    pub will: Option<Will<'a>>,
    pub username: Option<&'a str>,
    pub password: Option<&'a [u8]>,
}

/// The will inside a CONNECT.
#[derive(Clone, PartialEq, Debug)]
pub struct Will<'a> {
    pub qos: Qos,
    pub retain: bool,
    pub topic: Topic<'a>,
    pub payload: &'a [u8],
    /// All will properties as sent, the will delay interval among them.
    pub properties: Properties<'a>,
}

/// CONNACK. `code` is the byte on the wire: a return code in 3.x, a reason code in 5.0.
#[derive(Clone, PartialEq, Debug)]
pub struct Connack<'a> {
    pub session_present: bool,
    pub code: u8,
    pub properties: Properties<'a>,
}

/// PUBLISH.
#[derive(Clone, PartialEq, Debug)]
pub struct Publish<'a> {
    pub dup: bool,
    pub qos: Qos,
    pub retain: bool,
    /// Empty in 5.0 when a topic alias stands for it; the decoder has checked everything else.
    pub topic: Option<Topic<'a>>,
    /// Present exactly when `qos` is above 0.
    pub packet_id: Option<PacketId>,
    pub properties: Properties<'a>,
    pub payload: &'a [u8],
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP.
#[derive(Clone, PartialEq, Debug)]
pub struct Ack<'a> {
    pub packet_id: PacketId,
    /// 0 in 3.x and in the short forms of 5.0.
    pub code: u8,
    pub properties: Properties<'a>,
}

/// SUBSCRIBE.
#[derive(Clone, PartialEq, Debug)]
pub struct Subscribe<'a> {
    pub packet_id: PacketId,
    pub properties: Properties<'a>,
    /// At least one [MQTT-3.8.3-2]. An invalid filter makes the whole packet malformed, as in the original.
    pub filters: Vec<(Filter<'a>, SubscriptionOptions)>,
}

/// The options byte of one subscription; in 3.x only the QoS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SubscriptionOptions {
    pub qos: Qos,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

/// Which retained messages a SUBSCRIBE asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum RetainHandling {
    #[default]
    Send = 0,
    SendIfNew = 1,
    DoNotSend = 2,
}

/// SUBACK: one code per filter, in order.
#[derive(Clone, PartialEq, Debug)]
pub struct Suback<'a> {
    pub packet_id: PacketId,
    pub properties: Properties<'a>,
    pub codes: &'a [u8],
}

/// UNSUBSCRIBE.
#[derive(Clone, PartialEq, Debug)]
pub struct Unsubscribe<'a> {
    pub packet_id: PacketId,
    pub properties: Properties<'a>,
    pub filters: Vec<Filter<'a>>,
}

/// UNSUBACK; `codes` is empty in 3.x.
#[derive(Clone, PartialEq, Debug)]
pub struct Unsuback<'a> {
    pub packet_id: PacketId,
    pub properties: Properties<'a>,
    pub codes: &'a [u8],
}

/// DISCONNECT.
#[derive(Clone, PartialEq, Debug)]
pub struct Disconnect<'a> {
    pub code: u8,
    pub properties: Properties<'a>,
}

/// AUTH (5.0).
#[derive(Clone, PartialEq, Debug)]
pub struct Auth<'a> {
    pub code: u8,
    pub properties: Properties<'a>,
}
