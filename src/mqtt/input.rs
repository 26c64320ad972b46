//! What decoding reads from: takes fields off the front of borrowed bytes, and never looks past their end.

use super::decode::DecodeError;

/// The bytes that are not read yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    rest: &'a [u8],
}

const TRUNCATED: DecodeError = DecodeError::malformed("truncated");

impl<'a> Input<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_empty(self) -> bool {
        self.rest.is_empty()
    }

    pub(super) const fn len(self) -> usize {
        self.rest.len()
    }

    /// Everything that is left.
    pub(super) const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// The end of a packet: bytes that no field accounts for make it malformed.
    pub(super) const fn end(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::malformed("bytes after the last field"))
        }
    }

    #[inline]
    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(*array)
    }

    #[inline]
    pub(super) fn take_u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.take_array()?))
    }

    #[inline]
    pub(super) fn take_u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.take_array()?))
    }

    #[inline]
    pub(super) fn take_u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.take_array()?))
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A variable byte integer of 5.0: four bytes at most, and no more of them than it needs [MQTT-1.5.5-1].
    #[inline]
    pub(super) fn take_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.take_u8()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(DecodeError::malformed(
                        "variable byte integer longer than needed",
                    ));
                }
                return Ok(value);
            }
        }
        Err(DecodeError::malformed(
            "variable byte integer of more than four bytes",
        ))
    }

    /// Bytes with a variable byte integer in front that says how many.
    #[inline]
    pub(super) fn take_block(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.take_varint()?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// Binary data: two bytes of length in front.
    #[inline]
    pub(super) fn take_binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.take_u16()?;
        self.take(usize::from(len))
    }

    /// A UTF-8 encoded string [MQTT-1.5.4].
    #[inline]
    pub(super) fn take_text(&mut self) -> Result<&'a str, DecodeError> {
        text(self.take_binary()?)
    }
}

/// `bytes` as text that may stand in a packet.
///
/// The standard forbids NUL, and leaves control and non-characters to the receiver; original: refuses them all.
#[inline]
fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    // One pass without branches settles nearly every string: all printable ASCII.
    let mut unusual = false;
    for &byte in bytes {
        unusual |= !(0x20..0x7f).contains(&byte);
    }
    let text =
        std::str::from_utf8(bytes).map_err(|_| DecodeError::malformed("string is not UTF-8"))?;
    if unusual && text.chars().any(is_refused) {
        return Err(DecodeError::malformed("control character in a string"));
    }
    Ok(text)
}

/// Control characters and the code points that Unicode reserves as non-characters.
fn is_refused(c: char) -> bool {
    c.is_control() || matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integer_must_be_as_short_as_it_can() {
        let take = |bytes: &[u8]| Input::new(bytes).take_varint().ok();
        assert_eq!(take(&[0]), Some(0));
        assert_eq!(take(&[0x7f]), Some(127));
        assert_eq!(take(&[0x80, 1]), Some(128));
        assert_eq!(take(&[0xff, 0xff, 0xff, 0x7f]), Some(268_435_455));
        assert_eq!(take(&[0x80, 0]), None);
        assert_eq!(take(&[0x85, 0x80, 0]), None);
        assert_eq!(take(&[0xff, 0xff, 0xff, 0xff, 1]), None);
        assert_eq!(take(&[0x80]), None);
        assert_eq!(take(&[]), None);
    }

    #[test]
    fn text_refuses_what_the_original_refuses() {
        for bad in [
            "\0",
            "\u{1}",
            "\u{1f}",
            "\t",
            "\u{7f}",
            "\u{80}",
            "\u{9f}",
            "\u{fdd0}",
            "\u{fdef}",
            "\u{fffe}",
            "\u{ffff}",
            "\u{1ffff}",
            "\u{10fffe}",
        ] {
            assert!(text(format!("a{bad}b").as_bytes()).is_err(), "{bad:?}");
        }
        for good in [
            "",
            " ",
            "~",
            "é",
            "\u{a0}",
            "\u{fdcf}",
            "\u{fdf0}",
            "\u{feff}",
            "\u{1f99f}",
        ] {
            assert_eq!(text(good.as_bytes()).unwrap(), good);
        }
    }

    #[test]
    fn text_refuses_surrogates_and_overlong_forms() {
        for bad in [
            &b"\xed\xa0\x80"[..],
            b"\xc0\x80",
            b"\xf4\x90\x80\x80",
            b"\xe2\x82",
            b"\xff",
        ] {
            assert!(text(bad).is_err(), "{bad:x?}");
        }
    }
}
