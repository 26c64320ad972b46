//! Properties of 5.0: validated as a block, kept as the raw bytes they came as, read by iteration.

use super::Topic;
use super::decode::DecodeError;
use super::input::Input;
use super::output::{put_binary, put_text, put_u16, put_u32, put_varint};
use super::reason::Reason;

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

/// The byte in front of a property that says which one it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum PropertyId {
    PayloadFormatIndicator = 0x01,
    MessageExpiryInterval = 0x02,
    ContentType = 0x03,
    ResponseTopic = 0x08,
    CorrelationData = 0x09,
    SubscriptionIdentifier = 0x0B,
    SessionExpiryInterval = 0x11,
    AssignedClientIdentifier = 0x12,
    ServerKeepAlive = 0x13,
    AuthenticationMethod = 0x15,
    AuthenticationData = 0x16,
    RequestProblemInformation = 0x17,
    WillDelayInterval = 0x18,
    RequestResponseInformation = 0x19,
    ResponseInformation = 0x1A,
    ServerReference = 0x1C,
    ReasonString = 0x1F,
    ReceiveMaximum = 0x21,
    TopicAliasMaximum = 0x22,
    TopicAlias = 0x23,
    MaximumQos = 0x24,
    RetainAvailable = 0x25,
    UserProperty = 0x26,
    MaximumPacketSize = 0x27,
    WildcardSubscriptionAvailable = 0x28,
    SubscriptionIdentifierAvailable = 0x29,
    SharedSubscriptionAvailable = 0x2A,
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
    /// Malformed or not allowed in `place`: [`DecodeError`] with reason 0x81 or 0x82 (0x94 for topic alias 0).
    pub fn check(raw: &'a [u8], place: Place) -> Result<Self, DecodeError> {
        let mut input = Input::new(raw);
        let mut seen = 0u64;
        while !input.is_empty() {
            let property = Property::take(&mut input)?;
            let id = property.id();
            if !place.allows(id) {
                return Err(DecodeError::malformed(
                    "property not allowed in this packet",
                ));
            }
            if seen & id.bit() != 0 && !place.allows_many(id) {
                return Err(DecodeError::protocol("property given twice"));
            }
            seen |= id.bit();
            property.check_value()?;
        }
        let data_alone = PropertyId::AuthenticationData.bit();
        if seen & (data_alone | PropertyId::AuthenticationMethod.bit()) == data_alone {
            return Err(DecodeError::protocol(
                "authentication data without a method",
            ));
        }
        Ok(Self { raw })
    }

    /// A block that was checked when it came in and has only been kept since, as in a record of our own ring.
    /// Whatever is in it: iteration stops at the first byte that makes no sense.
    pub const fn trusted(raw: &'a [u8]) -> Self {
        Self { raw }
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
    pub fn iter(self) -> Iter<'a> {
        Iter {
            input: Input::new(self.raw),
        }
    }

    /// The first property with this id.
    pub fn find(self, id: PropertyId) -> Option<Property<'a>> {
        // Most blocks are empty, and those that are not are short: no index is worth its price.
        self.iter().find(|property| property.id() == id)
    }
}

impl<'a> IntoIterator for Properties<'a> {
    type Item = Property<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The properties of a block, one by one.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    input: Input<'a>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        match Property::take(&mut self.input) {
            Ok(property) => Some(property),
            Err(_) => {
                self.input = Input::new(&[]);
                None
            }
        }
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
        property.put(&mut self.raw);
        self
    }

    /// Appends a whole block.
    pub fn push_all(&mut self, properties: Properties<'_>) -> &mut Self {
        self.raw.extend_from_slice(properties.raw);
        self
    }

    /// Appends a block without the properties of one id, the others as they are and in their order.
    pub fn push_all_but(&mut self, properties: Properties<'_>, dropped: PropertyId) -> &mut Self {
        for (id, bytes) in spans(properties) {
            if id != dropped {
                self.raw.extend_from_slice(bytes);
            }
        }
        self
    }

    /// Appends a block whose message expiry interval, if it has one, becomes `remaining` seconds [MQTT-3.3.2-6]; all
    /// else as it is and in its order.
    pub fn push_all_with_expiry(
        &mut self,
        properties: Properties<'_>,
        remaining: u32,
    ) -> &mut Self {
        for property in spans(properties) {
            match property {
                (PropertyId::MessageExpiryInterval, bytes) => {
                    let received = bytes
                        .last_chunk()
                        .map_or(remaining, |b| u32::from_be_bytes(*b));
                    // Never more than was received, however it was rounded.
                    self.push(Property::MessageExpiryInterval(remaining.min(received)));
                }
                (_, bytes) => self.raw.extend_from_slice(bytes),
            }
        }
        self
    }

    /// What was pushed so far. Not checked again: the caller pushes only what its packet may hold.
    pub fn as_properties(&self) -> Properties<'_> {
        Properties { raw: &self.raw }
    }
}

/// Each property's id and bytes (the id's included), up to the first that makes no sense.
fn spans(properties: Properties<'_>) -> impl Iterator<Item = (PropertyId, &[u8])> {
    let mut rest = properties.raw;
    std::iter::from_fn(move || {
        let mut input = Input::new(rest);
        let id = take_id(&mut input).ok()?;
        id.skip_value(&mut input).ok()?;
        let (span, after) = rest.split_at_checked(rest.len() - input.len())?;
        rest = after;
        Some((id, span))
    })
}

impl<'a> Property<'a> {
    /// Which one it is.
    pub const fn id(&self) -> PropertyId {
        match self {
            Self::PayloadFormatIndicator(_) => PropertyId::PayloadFormatIndicator,
            Self::MessageExpiryInterval(_) => PropertyId::MessageExpiryInterval,
            Self::ContentType(_) => PropertyId::ContentType,
            Self::ResponseTopic(_) => PropertyId::ResponseTopic,
            Self::CorrelationData(_) => PropertyId::CorrelationData,
            Self::SubscriptionIdentifier(_) => PropertyId::SubscriptionIdentifier,
            Self::SessionExpiryInterval(_) => PropertyId::SessionExpiryInterval,
            Self::AssignedClientIdentifier(_) => PropertyId::AssignedClientIdentifier,
            Self::ServerKeepAlive(_) => PropertyId::ServerKeepAlive,
            Self::AuthenticationMethod(_) => PropertyId::AuthenticationMethod,
            Self::AuthenticationData(_) => PropertyId::AuthenticationData,
            Self::RequestProblemInformation(_) => PropertyId::RequestProblemInformation,
            Self::WillDelayInterval(_) => PropertyId::WillDelayInterval,
            Self::RequestResponseInformation(_) => PropertyId::RequestResponseInformation,
            Self::ResponseInformation(_) => PropertyId::ResponseInformation,
            Self::ServerReference(_) => PropertyId::ServerReference,
            Self::ReasonString(_) => PropertyId::ReasonString,
            Self::ReceiveMaximum(_) => PropertyId::ReceiveMaximum,
            Self::TopicAliasMaximum(_) => PropertyId::TopicAliasMaximum,
            Self::TopicAlias(_) => PropertyId::TopicAlias,
            Self::MaximumQos(_) => PropertyId::MaximumQos,
            Self::RetainAvailable(_) => PropertyId::RetainAvailable,
            Self::UserProperty(..) => PropertyId::UserProperty,
            Self::MaximumPacketSize(_) => PropertyId::MaximumPacketSize,
            Self::WildcardSubscriptionAvailable(_) => PropertyId::WildcardSubscriptionAvailable,
            Self::SubscriptionIdentifierAvailable(_) => PropertyId::SubscriptionIdentifierAvailable,
            Self::SharedSubscriptionAvailable(_) => PropertyId::SharedSubscriptionAvailable,
        }
    }

    /// The property at the front of `input`, of the right type but its value not judged otherwise.
    fn take(input: &mut Input<'a>) -> Result<Self, DecodeError> {
        let id = take_id(input)?;
        Ok(match id {
            PropertyId::PayloadFormatIndicator => Self::PayloadFormatIndicator(input.take_u8()?),
            PropertyId::MessageExpiryInterval => Self::MessageExpiryInterval(input.take_u32()?),
            PropertyId::ContentType => Self::ContentType(input.take_text()?),
            PropertyId::ResponseTopic => Self::ResponseTopic(input.take_text()?),
            PropertyId::CorrelationData => Self::CorrelationData(input.take_binary()?),
            PropertyId::SubscriptionIdentifier => {
                Self::SubscriptionIdentifier(input.take_varint()?)
            }
            PropertyId::SessionExpiryInterval => Self::SessionExpiryInterval(input.take_u32()?),
            PropertyId::AssignedClientIdentifier => {
                Self::AssignedClientIdentifier(input.take_text()?)
            }
            PropertyId::ServerKeepAlive => Self::ServerKeepAlive(input.take_u16()?),
            PropertyId::AuthenticationMethod => Self::AuthenticationMethod(input.take_text()?),
            PropertyId::AuthenticationData => Self::AuthenticationData(input.take_binary()?),
            PropertyId::RequestProblemInformation => {
                Self::RequestProblemInformation(take_bool(input)?)
            }
            PropertyId::WillDelayInterval => Self::WillDelayInterval(input.take_u32()?),
            PropertyId::RequestResponseInformation => {
                Self::RequestResponseInformation(take_bool(input)?)
            }
            PropertyId::ResponseInformation => Self::ResponseInformation(input.take_text()?),
            PropertyId::ServerReference => Self::ServerReference(input.take_text()?),
            PropertyId::ReasonString => Self::ReasonString(input.take_text()?),
            PropertyId::ReceiveMaximum => Self::ReceiveMaximum(input.take_u16()?),
            PropertyId::TopicAliasMaximum => Self::TopicAliasMaximum(input.take_u16()?),
            PropertyId::TopicAlias => Self::TopicAlias(input.take_u16()?),
            PropertyId::MaximumQos => Self::MaximumQos(input.take_u8()?),
            PropertyId::RetainAvailable => Self::RetainAvailable(take_bool(input)?),
            PropertyId::UserProperty => Self::UserProperty(input.take_text()?, input.take_text()?),
            PropertyId::MaximumPacketSize => Self::MaximumPacketSize(input.take_u32()?),
            PropertyId::WildcardSubscriptionAvailable => {
                Self::WildcardSubscriptionAvailable(take_bool(input)?)
            }
            PropertyId::SubscriptionIdentifierAvailable => {
                Self::SubscriptionIdentifierAvailable(take_bool(input)?)
            }
            PropertyId::SharedSubscriptionAvailable => {
                Self::SharedSubscriptionAvailable(take_bool(input)?)
            }
        })
    }

    /// Values that their type allows and the standard does not.
    fn check_value(&self) -> Result<(), DecodeError> {
        let what = match self {
            Self::PayloadFormatIndicator(2..) => "payload format indicator above 1",
            Self::MaximumQos(2..) => "maximum QoS above 1",
            Self::ReceiveMaximum(0) => "receive maximum 0",
            Self::MaximumPacketSize(0) => "maximum packet size 0",
            Self::SubscriptionIdentifier(0) => "subscription identifier 0",
            Self::ResponseTopic(topic) if Topic::new(topic).is_none() => {
                "response topic is no topic name"
            }
            Self::TopicAlias(0) => {
                return Err(DecodeError {
                    reason: Reason::TopicAliasInvalid,
                    what: "topic alias 0",
                });
            }
            _ => return Ok(()),
        };
        Err(DecodeError::protocol(what))
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.id() as u8);
        match *self {
            Self::PayloadFormatIndicator(value) | Self::MaximumQos(value) => out.push(value),
            Self::RequestProblemInformation(value)
            | Self::RequestResponseInformation(value)
            | Self::RetainAvailable(value)
            | Self::WildcardSubscriptionAvailable(value)
            | Self::SubscriptionIdentifierAvailable(value)
            | Self::SharedSubscriptionAvailable(value) => out.push(u8::from(value)),
            Self::ServerKeepAlive(value)
            | Self::ReceiveMaximum(value)
            | Self::TopicAliasMaximum(value)
            | Self::TopicAlias(value) => put_u16(out, value),
            Self::MessageExpiryInterval(value)
            | Self::SessionExpiryInterval(value)
            | Self::WillDelayInterval(value)
            | Self::MaximumPacketSize(value) => put_u32(out, value),
            Self::SubscriptionIdentifier(value) => {
                put_varint(out, usize::try_from(value).unwrap_or(usize::MAX));
            }
            Self::ContentType(text)
            | Self::ResponseTopic(text)
            | Self::AssignedClientIdentifier(text)
            | Self::AuthenticationMethod(text)
            | Self::ResponseInformation(text)
            | Self::ServerReference(text)
            | Self::ReasonString(text) => put_text(out, text),
            Self::CorrelationData(bytes) | Self::AuthenticationData(bytes) => {
                put_binary(out, bytes);
            }
            Self::UserProperty(name, value) => {
                put_text(out, name);
                put_text(out, value);
            }
        }
    }
}

/// The standard makes the identifier a variable byte integer; all that there are fit one byte.
fn take_id(input: &mut Input<'_>) -> Result<PropertyId, DecodeError> {
    PropertyId::from_u8(input.take_u8()?).ok_or(DecodeError::malformed("unknown property"))
}

fn take_bool(input: &mut Input<'_>) -> Result<bool, DecodeError> {
    match input.take_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::protocol("property is neither 0 nor 1")),
    }
}

impl PropertyId {
    /// `None` for a byte that is no property.
    pub const fn from_u8(id: u8) -> Option<Self> {
        Some(match id {
            0x01 => Self::PayloadFormatIndicator,
            0x02 => Self::MessageExpiryInterval,
            0x03 => Self::ContentType,
            0x08 => Self::ResponseTopic,
            0x09 => Self::CorrelationData,
            0x0B => Self::SubscriptionIdentifier,
            0x11 => Self::SessionExpiryInterval,
            0x12 => Self::AssignedClientIdentifier,
            0x13 => Self::ServerKeepAlive,
            0x15 => Self::AuthenticationMethod,
            0x16 => Self::AuthenticationData,
            0x17 => Self::RequestProblemInformation,
            0x18 => Self::WillDelayInterval,
            0x19 => Self::RequestResponseInformation,
            0x1A => Self::ResponseInformation,
            0x1C => Self::ServerReference,
            0x1F => Self::ReasonString,
            0x21 => Self::ReceiveMaximum,
            0x22 => Self::TopicAliasMaximum,
            0x23 => Self::TopicAlias,
            0x24 => Self::MaximumQos,
            0x25 => Self::RetainAvailable,
            0x26 => Self::UserProperty,
            0x27 => Self::MaximumPacketSize,
            0x28 => Self::WildcardSubscriptionAvailable,
            0x29 => Self::SubscriptionIdentifierAvailable,
            0x2A => Self::SharedSubscriptionAvailable,
            _ => return None,
        })
    }

    /// Steps over the value behind the id without a look at it: how blocks that were checked are cut into pieces.
    fn skip_value(self, input: &mut Input<'_>) -> Result<(), DecodeError> {
        match self {
            Self::PayloadFormatIndicator
            | Self::RequestProblemInformation
            | Self::RequestResponseInformation
            | Self::MaximumQos
            | Self::RetainAvailable
            | Self::WildcardSubscriptionAvailable
            | Self::SubscriptionIdentifierAvailable
            | Self::SharedSubscriptionAvailable => input.take(1).map(drop),
            Self::ServerKeepAlive
            | Self::ReceiveMaximum
            | Self::TopicAliasMaximum
            | Self::TopicAlias => input.take(2).map(drop),
            Self::MessageExpiryInterval
            | Self::SessionExpiryInterval
            | Self::WillDelayInterval
            | Self::MaximumPacketSize => input.take(4).map(drop),
            Self::SubscriptionIdentifier => input.take_varint().map(drop),
            Self::ContentType
            | Self::ResponseTopic
            | Self::CorrelationData
            | Self::AssignedClientIdentifier
            | Self::AuthenticationMethod
            | Self::AuthenticationData
            | Self::ResponseInformation
            | Self::ServerReference
            | Self::ReasonString => input.take_binary().map(drop),
            Self::UserProperty => {
                input.take_binary()?;
                input.take_binary().map(drop)
            }
        }
    }

    /// Its bit in a set of properties: all ids are below 64.
    const fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

impl Place {
    pub(super) const fn allows(self, id: PropertyId) -> bool {
        self.allowed() & id.bit() != 0
    }

    /// User properties repeat everywhere; a PUBLISH to a client has one identifier for each of its subscriptions
    /// that match.
    pub(super) const fn allows_many(self, id: PropertyId) -> bool {
        match id {
            PropertyId::UserProperty => true,
            PropertyId::SubscriptionIdentifier => matches!(self, Self::Publish),
            _ => false,
        }
    }

    /// The table of properties of the standard (2.2.2.2), by column.
    const fn allowed(self) -> u64 {
        use PropertyId as Id;
        const MESSAGE: u64 = Id::PayloadFormatIndicator.bit()
            | Id::MessageExpiryInterval.bit()
            | Id::ContentType.bit()
            | Id::ResponseTopic.bit()
            | Id::CorrelationData.bit();
        const AUTHENTICATION: u64 = Id::AuthenticationMethod.bit() | Id::AuthenticationData.bit();
        const CONNECTION: u64 = Id::SessionExpiryInterval.bit()
            | Id::ReceiveMaximum.bit()
            | Id::TopicAliasMaximum.bit()
            | Id::MaximumPacketSize.bit()
            | AUTHENTICATION;
        const REASON: u64 = Id::ReasonString.bit();

        let own = match self {
            Self::Connect => {
                CONNECTION
                    | Id::RequestProblemInformation.bit()
                    | Id::RequestResponseInformation.bit()
            }
            Self::Will => MESSAGE | Id::WillDelayInterval.bit(),
            Self::Connack => {
                CONNECTION
                    | REASON
                    | Id::AssignedClientIdentifier.bit()
                    | Id::ServerKeepAlive.bit()
                    | Id::ResponseInformation.bit()
                    | Id::ServerReference.bit()
                    | Id::MaximumQos.bit()
                    | Id::RetainAvailable.bit()
                    | Id::WildcardSubscriptionAvailable.bit()
                    | Id::SubscriptionIdentifierAvailable.bit()
                    | Id::SharedSubscriptionAvailable.bit()
            }
            Self::Publish => MESSAGE | Id::SubscriptionIdentifier.bit() | Id::TopicAlias.bit(),
            Self::Ack => REASON,
            Self::Subscribe => Id::SubscriptionIdentifier.bit(),
            Self::Unsubscribe => 0,
            Self::Disconnect => {
                REASON | Id::SessionExpiryInterval.bit() | Id::ServerReference.bit()
            }
            Self::Auth => REASON | AUTHENTICATION,
        };
        own | Id::UserProperty.bit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(raw: &[u8], place: Place) -> u8 {
        Properties::check(raw, place).map_or_else(|error| error.reason.code(), |_| 0)
    }

    #[test]
    fn property_that_the_packet_may_not_hold_is_malformed() {
        assert_eq!(refusal(b"\x01\x01", Place::Publish), 0);
        assert_eq!(refusal(b"\x01\x01", Place::Connect), 0x81);
        assert_eq!(refusal(b"\x18\0\0\0\x05", Place::Will), 0);
        assert_eq!(refusal(b"\x18\0\0\0\x05", Place::Connect), 0x81);
        assert_eq!(refusal(b"\x04\0", Place::Publish), 0x81);
        assert_eq!(refusal(b"\x80\x01", Place::Publish), 0x81);
    }

    #[test]
    fn property_given_twice_is_a_protocol_error_unless_it_may_repeat() {
        assert_eq!(refusal(b"\x01\x01\x01\x01", Place::Publish), 0x82);
        assert_eq!(refusal(b"\x0b\x01\x0b\x02", Place::Subscribe), 0x82);
        assert_eq!(refusal(b"\x0b\x01\x0b\x02", Place::Publish), 0);
        assert_eq!(
            refusal(b"\x26\0\x01a\0\0\x26\0\x01a\0\0", Place::Unsubscribe),
            0
        );
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (raw, place, code) in [
            (&b"\x21\0\0"[..], Place::Connect, 0x82),
            (b"\x27\0\0\0\0", Place::Connect, 0x82),
            (b"\x17\x02", Place::Connect, 0x82),
            (b"\x01\x02", Place::Publish, 0x82),
            (b"\x0b\0", Place::Subscribe, 0x82),
            (b"\x08\0\x01#", Place::Publish, 0x82),
            (b"\x08\0\0", Place::Will, 0x82),
            (b"\x24\x02", Place::Connack, 0x82),
            (b"\x16\0\x01a", Place::Connect, 0x82),
            (b"\x23\0\0", Place::Publish, 0x94),
            (b"\x0b\x81\0", Place::Subscribe, 0x81),
            (b"\x03\0\x01\xff", Place::Publish, 0x81),
        ] {
            assert_eq!(refusal(raw, place), code, "{raw:x?}");
        }
    }

    #[test]
    fn truncated_property_is_malformed_at_every_byte() {
        let mut builder = PropertiesBuilder::default();
        builder
            .push(Property::MessageExpiryInterval(7))
            .push(Property::UserProperty("name", "value"))
            .push(Property::SubscriptionIdentifier(300));
        let raw = builder.as_properties().raw();
        let whole = [0, 5, 5 + 14, raw.len()];
        for cut in 0..=raw.len() {
            let expected = if whole.contains(&cut) { 0 } else { 0x81 };
            assert_eq!(refusal(&raw[..cut], Place::Publish), expected, "{cut}");
        }
    }

    /// Three properties, the message expiry interval in the middle.
    const FORWARDED: [Property<'static>; 3] = [
        Property::ContentType("text"),
        Property::MessageExpiryInterval(60),
        Property::UserProperty("a", "b"),
    ];

    fn block(properties: &[Property<'_>]) -> PropertiesBuilder {
        let mut builder = PropertiesBuilder::default();
        for property in properties {
            builder.push(*property);
        }
        builder
    }

    #[test]
    fn expiry_is_replaced_in_its_place() {
        let mut forwarded = PropertiesBuilder::default();
        forwarded.push_all_with_expiry(block(&FORWARDED).as_properties(), 9);
        let mut expected = FORWARDED;
        expected[1] = Property::MessageExpiryInterval(9);
        assert!(forwarded.as_properties().iter().eq(expected));
        forwarded.clear();
        forwarded.push_all_with_expiry(block(&FORWARDED).as_properties(), 61);
        assert!(forwarded.as_properties().iter().eq(FORWARDED));
        // Where there was none, none is added.
        forwarded.clear();
        forwarded.push_all_with_expiry(block(&FORWARDED[2..]).as_properties(), 9);
        assert!(forwarded.as_properties().iter().eq([FORWARDED[2]]));
    }

    #[test]
    fn one_property_is_left_out_and_the_others_keep_their_order() {
        let mut forwarded = PropertiesBuilder::default();
        let original = block(&FORWARDED);
        forwarded.push_all_but(original.as_properties(), PropertyId::ContentType);
        assert!(
            forwarded
                .as_properties()
                .iter()
                .eq(FORWARDED[1..].iter().copied())
        );
        forwarded.clear();
        forwarded.push_all_but(original.as_properties(), PropertyId::TopicAlias);
        assert_eq!(forwarded.as_properties(), original.as_properties());
    }

    #[test]
    fn iteration_of_garbage_stops_where_it_makes_no_sense() {
        let garbage = Properties::trusted(b"\x01\x01\x02\0");
        assert!(garbage.iter().eq([Property::PayloadFormatIndicator(1)]));
        assert_eq!(garbage.find(PropertyId::MessageExpiryInterval), None);
        let mut copy = PropertiesBuilder::default();
        copy.push_all_with_expiry(garbage, 1);
        assert_eq!(copy.as_properties().raw(), b"\x01\x01");
    }

    #[test]
    fn every_id_comes_back_from_its_byte() {
        let known = (0..=255u8).filter_map(|byte| Some((byte, PropertyId::from_u8(byte)?)));
        assert_eq!(known.clone().count(), 27);
        for (byte, id) in known {
            assert_eq!(id as u8, byte);
            assert!(byte < 64);
        }
    }
}
