//! What a client is made with, and the CONNECT that says so.

use crate::base::limits::REMAINING_LENGTH_MAX;
use crate::mqtt::encode::encode;
use crate::mqtt::{
    Connect, Packet, Properties, PropertiesBuilder, Property, PropertyId, Qos, Topic, Version, Will,
};

use super::ServerLimits;

/// The same for all connections of a client.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    pub version: Version,
    /// Empty: the server finds one (not in 3.1, and in 3.1.1 only with `clean_start`).
    pub client_id: String,
    /// Clean session (3.x), clean start (5.0).
    pub clean_start: bool,
    /// 5.0: seconds that the server keeps the session after the connection; `u32::MAX` is for ever.
    pub session_expiry_secs: u32,
    /// 0 is none.
    pub keep_alive_secs: u16,
    pub username: Option<String>,
    pub password: Option<Vec<u8>>,
    pub will: Option<WillSettings>,
    /// 5.0: messages of QoS 1 and 2 that the server may have unacknowledged with us. Not 0.
    pub receive_maximum: u16,
    /// Our own messages of QoS 1 and 2 in flight at a time; 0 is as many as the server allows.
    pub in_flight_max: u16,
    /// Larger packets of the server end the connection.
    pub packet_bytes_max: usize,
    /// 3.x: the client is a bridge.
    pub bridge: bool,
    /// 5.0: further properties of CONNECT, a checked block.
    pub properties: Vec<u8>,
}

/// The will of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WillSettings {
    /// A topic name: it was checked where it came in.
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: Qos,
    pub retain: bool,
    /// 5.0: a checked block.
    pub properties: Vec<u8>,
}

impl Settings {
    /// A clean 3.1.1 client with the limits of the original.
    pub fn new(client_id: &str) -> Self {
        Self {
            version: Version::V311,
            client_id: client_id.to_owned(),
            clean_start: true,
            session_expiry_secs: 0,
            keep_alive_secs: 60,
            username: None,
            password: None,
            will: None,
            receive_maximum: IN_FLIGHT_DEFAULT,
            in_flight_max: IN_FLIGHT_DEFAULT,
            packet_bytes_max: PACKET_BYTES_MAX,
            bridge: false,
            properties: Vec::new(),
        }
    }

    /// What log lines call the client.
    pub fn name(&self) -> &str {
        match self.client_id.as_str() {
            "" => "null",
            id => id,
        }
    }

    pub(super) fn encode_connect(&self, out: &mut Vec<u8>) {
        let mut properties = PropertiesBuilder::default();
        if self.version == Version::V5 {
            properties.push_all(Properties::trusted(&self.properties));
            if self.session_expiry_secs > 0 {
                properties.push(Property::SessionExpiryInterval(self.session_expiry_secs));
            }
            properties.push(Property::ReceiveMaximum(self.receive_maximum.max(1)));
        }
        let connect = Connect {
            version: self.version,
            bridge: self.bridge,
            clean_start: self.clean_start,
            keep_alive: self.keep_alive_secs,
            properties: properties.as_properties(),
            client_id: &self.client_id,
            will: self.will.as_ref().map(|will| Will {
                qos: will.qos,
                retain: will.retain,
                topic: Topic::trusted(&will.topic),
                payload: &will.payload,
                properties: Properties::trusted(&will.properties),
            }),
            username: self.username.as_deref(),
            password: self.password.as_deref(),
        };
        encode(&Packet::Connect(connect), self.version, out);
    }
}

impl ServerLimits {
    /// What holds until the server says otherwise.
    pub(super) fn before_connack(settings: &Settings) -> Self {
        Self {
            receive_maximum: usize::from(u16::MAX),
            packet_bytes_max: PACKET_BYTES_MAX,
            qos_max: Qos::ExactlyOnce,
            retain: true,
            keep_alive_secs: u64::from(settings.keep_alive_secs),
        }
    }

    /// Takes over what the CONNACK says.
    pub(super) fn learn(&mut self, properties: Properties<'_>) {
        for property in properties.iter() {
            match property {
                Property::ReceiveMaximum(n) => self.receive_maximum = usize::from(n.max(1)),
                Property::MaximumPacketSize(n) => {
                    self.packet_bytes_max = usize::try_from(n).unwrap_or(usize::MAX);
                }
                Property::MaximumQos(n) => {
                    self.qos_max = Qos::from_bits(n).unwrap_or(Qos::ExactlyOnce);
                }
                Property::RetainAvailable(yes) => self.retain = yes,
                Property::ServerKeepAlive(secs) => self.keep_alive_secs = u64::from(secs),
                _ => {}
            }
        }
    }
}

/// The client id that the server chose, if it did.
pub(super) fn assigned_client_id(properties: Properties<'_>) -> Option<&str> {
    match properties.find(PropertyId::AssignedClientIdentifier) {
        Some(Property::AssignedClientIdentifier(id)) => Some(id),
        _ => None,
    }
}

/// As in the original.
const IN_FLIGHT_DEFAULT: u16 = 20;
/// The largest packet that there can be: type, four length bytes, the rest.
const PACKET_BYTES_MAX: usize = REMAINING_LENGTH_MAX + 5;
