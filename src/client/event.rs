//! What a client tells its caller.

use std::borrow::Cow;
use std::fmt;

use crate::mqtt::{DecodeError, PacketId, Properties, Publish, Qos, Version};

/// Something that happened to a client.
#[derive(Clone, PartialEq, Debug)]
pub enum Event<'a> {
    /// The server accepted the connection. Without a session the caller subscribes again.
    Connected { session_present: bool },
    /// The server refused the connection with this code of CONNACK. The transport is to be closed.
    Refused { code: u8 },
    /// A message for us; acknowledged already. One of QoS 2 comes when it is released, so exactly once.
    Message(Message<'a>),
    /// SUBACK: a code for each filter.
    Subscribed {
        packet_id: PacketId,
        codes: Cow<'a, [u8]>,
    },
    /// UNSUBACK: a code for each filter in 5.0, none in 3.x.
    Unsubscribed {
        packet_id: PacketId,
        codes: Cow<'a, [u8]>,
    },
    /// The server took over a message of QoS 1 or 2, or refused it for good (`code` from 0x80).
    Published { packet_id: PacketId, code: u8 },
    /// The server ended the connection and said why (5.0).
    Disconnected { code: u8 },
    /// The client ended the connection. The transport is to be closed once the output is written.
    Closed(Cause),
}

/// A message, coming or going.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Message<'a> {
    /// Sent before, perhaps. Ignored when publishing.
    pub dup: bool,
    pub qos: Qos,
    pub retain: bool,
    /// As it came. Ignored when publishing: the client counts them itself.
    pub packet_id: Option<PacketId>,
    pub topic: Cow<'a, str>,
    /// A block that was checked for PUBLISH; see [`Message::properties`].
    pub properties: Cow<'a, [u8]>,
    pub payload: Cow<'a, [u8]>,
}

impl<'a> Message<'a> {
    /// A message without properties.
    pub fn new(topic: &'a str, payload: &'a [u8], qos: Qos, retain: bool) -> Self {
        Self {
            dup: false,
            qos,
            retain,
            packet_id: None,
            topic: Cow::Borrowed(topic),
            properties: Cow::Borrowed(&[]),
            payload: Cow::Borrowed(payload),
        }
    }

    /// Its properties (5.0).
    pub fn properties(&self) -> Properties<'_> {
        Properties::trusted(&self.properties)
    }

    /// The same, with bytes of its own.
    pub fn into_owned(self) -> Message<'static> {
        Message {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            packet_id: self.packet_id,
            topic: Cow::Owned(self.topic.into_owned()),
            properties: Cow::Owned(self.properties.into_owned()),
            payload: Cow::Owned(self.payload.into_owned()),
        }
    }

    pub(super) fn received(publish: &Publish<'a>, topic: &'a str) -> Self {
        Self {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            packet_id: publish.packet_id,
            topic: Cow::Borrowed(topic),
            properties: Cow::Borrowed(publish.properties.raw()),
            payload: Cow::Borrowed(publish.payload),
        }
    }
}

/// Why the client itself ended a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Its caller wanted it.
    Disconnect,
    /// No CONNACK came in time.
    NoConnack,
    /// The server did not answer a ping.
    NoPingresp,
    /// The server sent something that is not MQTT, or not now.
    Protocol(DecodeError),
}

impl Cause {
    /// What DISCONNECT says about it. 3.x has no words for it: there, the connection just ends.
    pub(super) fn disconnect_code(self, version: Version) -> Option<u8> {
        match self {
            Self::Disconnect | Self::NoConnack | Self::NoPingresp => None,
            Self::Protocol(error) => (version == Version::V5).then_some(error.reason.code()),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnect => f.write_str("disconnected"),
            Self::NoConnack => f.write_str("no CONNACK in time"),
            Self::NoPingresp => f.write_str("no PINGRESP in time"),
            Self::Protocol(error) => write!(f, "protocol error: {error}"),
        }
    }
}

/// Why a request was not taken. Nothing has changed then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Only messages of QoS 1 and 2 wait for a connection.
    NotConnected,
    /// Too much is waiting; write the output and read answers first.
    Full,
    /// The topic is no topic name.
    InvalidTopic,
    /// Larger than MQTT allows, or than this server takes.
    TooLarge,
    /// The server takes no messages of this QoS.
    QosNotSupported,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotConnected => "not connected",
            Self::Full => "too much is waiting to be sent",
            Self::InvalidTopic => "invalid topic name",
            Self::TooLarge => "message too large",
            Self::QosNotSupported => "QoS not supported by the server",
        })
    }
}

impl std::error::Error for Refusal {}
