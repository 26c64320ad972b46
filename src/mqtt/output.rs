//! What encoding writes with: fields appended to a buffer.
//!
//! Lengths that do not fit their field are a mistake of ours (what comes from outside was refused there): debug builds
//! stop, release builds cut the field, so that the packet's other fields stay where they belong.

use crate::base::limits::{REMAINING_LENGTH_MAX, STRING_BYTES_MAX};

pub(super) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// A variable byte integer of at most four bytes.
pub(super) fn put_varint(out: &mut Vec<u8>, value: usize) {
    debug_assert!(value <= REMAINING_LENGTH_MAX, "{value} needs a fifth byte");
    let mut rest = value.min(REMAINING_LENGTH_MAX);
    loop {
        let low = low_bits(rest);
        rest >>= 7;
        if rest == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// Bytes that `put_varint` appends.
pub(super) const fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

/// Binary data, its two bytes of length in front.
pub(super) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(
        bytes.len() <= STRING_BYTES_MAX,
        "{} bytes in a field",
        bytes.len()
    );
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    put_u16(out, len);
    out.extend_from_slice(bytes.get(..usize::from(len)).unwrap_or(bytes));
}

/// A UTF-8 encoded string.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_binary(out, text.as_bytes());
}

/// The low seven bits.
const fn low_bits(value: usize) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low & 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::input::Input;

    #[test]
    fn variable_byte_integer_is_read_as_it_was_written() {
        for value in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            2_097_151,
            2_097_152,
            REMAINING_LENGTH_MAX,
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
            let mut input = Input::new(&out);
            assert_eq!(input.take_varint().map(|v| v as usize), Ok(value));
            assert!(input.is_empty());
        }
    }
}
