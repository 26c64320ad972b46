//! The fixed header: where a packet begins and ends in a stream of bytes.

use super::decode::DecodeError;

/// One whole packet, not decoded yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// The first byte: type and flags.
    pub first: u8,
    /// What follows the remaining length.
    pub body: &'a [u8],
    /// Bytes of the whole packet.
    pub len: usize,
}

/// Finds the packet at the start of `input`.
///
/// `Ok(None)`: not all here yet (a broken header or a size over `packet_bytes_max` is found as soon as the header
/// is here, without waiting for the rest). `packet_bytes_max` counts the whole packet.
///
/// # Errors
/// A fifth length byte, a reserved type or wrong flags [MQTT-2.1.3-1]: 0x81; too large: 0x95.
pub fn frame(input: &[u8], packet_bytes_max: usize) -> Result<Option<Frame<'_>>, DecodeError> {
    let _ = (input, packet_bytes_max);
    unimplemented!("codec")
}

/// How many more bytes the packet at the start of `input` needs, once its header is whole (for sizing a buffer).
pub fn frame_len(input: &[u8]) -> Option<usize> {
    let _ = input;
    unimplemented!("codec")
}
