//! The fixed header: where a packet begins and ends in a stream of bytes.

use super::Reason;
use super::decode::DecodeError;
use crate::base::limits::{CONTROL_PACKET_BYTES_MAX, SMALL_PACKET_BYTES_MAX};

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

/// The DUP flag in the first byte of a PUBLISH, for a message that is sent again.
pub const DUP: u8 = 0x08;

/// The high half of the first byte.
pub(super) mod kind {
    pub(crate) const CONNECT: u8 = 1;
    pub(crate) const CONNACK: u8 = 2;
    pub(crate) const PUBLISH: u8 = 3;
    pub(crate) const PUBACK: u8 = 4;
    pub(crate) const PUBREC: u8 = 5;
    pub(crate) const PUBREL: u8 = 6;
    pub(crate) const PUBCOMP: u8 = 7;
    pub(crate) const SUBSCRIBE: u8 = 8;
    pub(crate) const SUBACK: u8 = 9;
    pub(crate) const UNSUBSCRIBE: u8 = 10;
    pub(crate) const UNSUBACK: u8 = 11;
    pub(crate) const PINGREQ: u8 = 12;
    pub(crate) const PINGRESP: u8 = 13;
    pub(crate) const DISCONNECT: u8 = 14;
    pub(crate) const AUTH: u8 = 15;
}

/// Finds the packet at the start of `input`.
///
/// `Ok(None)`: not all here yet (a broken header or a size over the bound is found as soon as the header is here,
/// without waiting for the rest). `packet_bytes_max` counts the whole packet; what is not a PUBLISH has a smaller
/// bound besides. Flags are checked by `decode`, which knows the version: 3.1 has clients that set them freely.
///
/// # Errors
/// A fifth length byte or the reserved type 0: 0x81; too large: 0x95.
#[inline]
pub fn frame(input: &[u8], packet_bytes_max: usize) -> Result<Option<Frame<'_>>, DecodeError> {
    let Some(&first) = input.first() else {
        return Ok(None);
    };
    let bytes_max = packet_bytes_max.min(kind_bytes_max(first)?);
    let Some((header_len, body_len)) = header(input)? else {
        return Ok(None);
    };
    let len = header_len + body_len;
    if len > bytes_max {
        return Err(DecodeError {
            reason: Reason::PacketTooLarge,
            what: "packet too large",
        });
    }
    Ok(input
        .get(header_len..len)
        .map(|body| Frame { first, body, len }))
}

/// Bytes of the whole packet at the start of `input`, those that are here included, once its header is whole (for
/// sizing a buffer). `None` too when the header is broken: `frame` says why.
pub fn frame_len(input: &[u8]) -> Option<usize> {
    let (header_len, body_len) = header(input).ok()??;
    Some(header_len + body_len)
}

/// The name of the packet that `first` begins, as logs write it.
pub const fn packet_name(first: u8) -> &'static str {
    match first >> 4 {
        kind::CONNECT => "CONNECT",
        kind::CONNACK => "CONNACK",
        kind::PUBLISH => "PUBLISH",
        kind::PUBACK => "PUBACK",
        kind::PUBREC => "PUBREC",
        kind::PUBREL => "PUBREL",
        kind::PUBCOMP => "PUBCOMP",
        kind::SUBSCRIBE => "SUBSCRIBE",
        kind::SUBACK => "SUBACK",
        kind::UNSUBSCRIBE => "UNSUBSCRIBE",
        kind::UNSUBACK => "UNSUBACK",
        kind::PINGREQ => "PINGREQ",
        kind::PINGRESP => "PINGRESP",
        kind::DISCONNECT => "DISCONNECT",
        kind::AUTH => "AUTH",
        _ => "reserved packet type",
    }
}

/// Bytes that a packet of this type may have, whatever the connection allows.
const fn kind_bytes_max(first: u8) -> Result<usize, DecodeError> {
    match first >> 4 {
        0 => Err(DecodeError::malformed("reserved packet type")),
        kind::PUBLISH => Ok(usize::MAX),
        // UNSUBSCRIBE is as long as the SUBSCRIBE that it takes back, and SUBACK and UNSUBACK follow from them.
        kind::CONNECT
        | kind::CONNACK
        | kind::SUBSCRIBE
        | kind::SUBACK
        | kind::UNSUBSCRIBE
        | kind::UNSUBACK
        | kind::AUTH => Ok(CONTROL_PACKET_BYTES_MAX),
        _ => Ok(SMALL_PACKET_BYTES_MAX),
    }
}

/// Length of the fixed header, and the remaining length that it says.
///
/// More length bytes than needed are accepted here: only 5.0 forbids them [MQTT-1.5.5-1], and there are 3.x clients
/// that always write four.
#[inline]
fn header(input: &[u8]) -> Result<Option<(usize, usize)>, DecodeError> {
    let mut body_len = 0;
    let mut shift = 0;
    for (at, &byte) in input.iter().enumerate().skip(1).take(4) {
        body_len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(Some((at + 1, body_len)));
        }
        shift += 7;
    }
    if shift == 28 {
        return Err(DecodeError::malformed(
            "remaining length of more than four bytes",
        ));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::REMAINING_LENGTH_MAX;

    #[test]
    fn packet_is_found_only_when_all_of_it_is_here() {
        let bytes = [0x30, 3, 1, 2, 3, 0xc0, 0];
        for cut in 0..5 {
            assert_eq!(frame(&bytes[..cut], 100).unwrap(), None);
        }
        let first = frame(&bytes, 100).unwrap().unwrap();
        assert_eq!(
            (first.first, first.body, first.len),
            (0x30, &bytes[2..5], 5)
        );
        let second = frame(&bytes[first.len..], 100).unwrap().unwrap();
        assert_eq!((second.first, second.body, second.len), (0xc0, &[][..], 2));
    }

    #[test]
    fn largest_remaining_length_is_read_and_a_fifth_byte_is_malformed() {
        assert_eq!(
            frame_len(&[0x30, 0xff, 0xff, 0xff, 0x7f]),
            Some(REMAINING_LENGTH_MAX + 5)
        );
        let error = frame(&[0x30, 0xff, 0xff, 0xff, 0xff], usize::MAX).unwrap_err();
        assert_eq!(error.reason, Reason::MalformedPacket);
        assert_eq!(frame(&[0x30, 0xff, 0xff, 0xff], usize::MAX).unwrap(), None);
    }

    #[test]
    fn size_is_refused_before_the_body_is_here() {
        assert_eq!(frame(&[0x30, 10], 12).unwrap(), None);
        let error = frame(&[0x30, 10], 11).unwrap_err();
        assert_eq!(error.reason, Reason::PacketTooLarge);
    }

    #[test]
    fn small_packets_have_a_small_bound() {
        // 16,384 bytes: three length bytes.
        let long = [0x80, 0x80, 1];
        for (first, fits) in [
            (0x30, true),
            (0x10, true),
            (0x82, true),
            (0x40, false),
            (0xe0, false),
        ] {
            let mut packet = vec![first];
            packet.extend(long);
            assert_eq!(frame(&packet, usize::MAX).is_ok(), fits, "{first:x}");
        }
        // 2,097,152 bytes: four.
        for (first, fits) in [(0x30, true), (0x10, false), (0x82, false), (0xa2, false)] {
            let packet = [first, 0x80, 0x80, 0x80, 1];
            assert_eq!(frame(&packet, usize::MAX).is_ok(), fits, "{first:x}");
        }
    }

    #[test]
    fn reserved_type_is_refused_at_its_first_byte() {
        assert!(frame(&[0x00], 100).is_err());
        assert!(frame(&[0x0f], 100).is_err());
    }

    #[test]
    fn padded_remaining_length_is_read() {
        let padded = frame(&[0xc0, 0x80, 0x80, 0], 100).unwrap().unwrap();
        assert_eq!((padded.len, padded.body), (4, &[][..]));
    }
}
