//! Packets to bytes. Every function appends one whole packet to `out` and cannot fail: what does not fit a field
//! was refused where it came in.

use super::{Packet, Properties, Qos, Topic, Version};

/// Appends `packet` as `version` writes it: properties only in 5.0, and the short forms of acknowledgements and
/// DISCONNECT where the code is 0 and there are no properties.
pub fn encode(packet: &Packet<'_>, version: Version, out: &mut Vec<u8>) {
    let _ = (packet, version, out);
    unimplemented!("codec")
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
/// shared as a chunk of its own.
pub fn encode_publish_head(form: &PublishForm<'_>, out: &mut Vec<u8>) -> Option<usize> {
    let _ = (form, out);
    unimplemented!("codec")
}
