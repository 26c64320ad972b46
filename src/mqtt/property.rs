//! Properties of 5.0: validated as a block, kept as the raw bytes they came as, read by iteration.

use super::decode::DecodeError;

/// A property block that was checked (each property allowed in this packet, at most once unless it may repeat, value
/// in range). Kept as raw bytes without the length in front, so that forwarding keeps order and costs one copy.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Properties<'a> {
    raw: &'a [u8],
}

/// One property, decoded.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Property<'a> {
    PayloadFormatIndicator(u8),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQos(u8),
    RetainAvailable(bool),
    UserProperty(&'a str, &'a str),
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifierAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

/// Where a property block stands; decides which properties it may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Connect,
    Will,
    Connack,
    Publish,
    /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK
    Ack,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Auth,
}

impl<'a> Properties<'a> {
    /// No property.
    pub const NONE: Self = Self { raw: &[] };

    /// Checks `raw` (the block without its length).
    ///
    /// # Errors
    /// Malformed or not allowed in `place`: [`DecodeError`] with reason 0x81 or 0x82.
    pub fn check(raw: &'a [u8], place: Place) -> Result<Self, DecodeError> {
        let _ = (raw, place);
        unimplemented!("codec")
    }

    /// The checked bytes.
    pub const fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.raw.is_empty()
    }

    /// Each property in the order it came.
    pub fn iter(self) -> impl Iterator<Item = Property<'a>> {
        unimplemented!("codec");
        #[allow(unreachable_code)]
        std::iter::empty()
    }
}

/// Builds a property block in a buffer that can be used again.
#[derive(Default, Debug, Clone)]
pub struct PropertiesBuilder {
    raw: Vec<u8>,
}

impl PropertiesBuilder {
    /// Empties it.
    pub fn clear(&mut self) {
        self.raw.clear();
    }

    /// Appends one property.
    pub fn push(&mut self, property: Property<'_>) -> &mut Self {
        let _ = property;
        unimplemented!("codec")
    }

    /// What was pushed so far. Not checked again: the caller pushes only what its packet may hold.
    pub fn as_properties(&self) -> Properties<'_> {
        Properties { raw: &self.raw }
    }
}
