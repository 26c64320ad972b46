//! What stands in a ring. PURE: headers to bytes, and bytes to headers that have been checked.
//!
//! A flush is one *batch*: a header of 16 bytes with the length of the whole and the union of its masks, so that a
//! reader who has no part in it touches one cache line, then *records*: a header of 16 bytes with length, kind,
//! flags and mask, then the payload. Everything starts on a multiple of 16 bytes, therefore no header is ever cut
//! in two by the end of the ring; a payload may be, and goes on at the ring's start. A batch for nobody is how a
//! writer skips to the next lap.
//!
//! A record that is too large for its ring comes in *fragments*: records with another 16 bytes in front of their
//! part of the payload: stream, length of the whole, offset of the part. A reader knows up to
//! `FRAGMENT_STREAMS_MAX` streams of one writer side by side.

use crate::base::ids::MemberMask;
use crate::base::limits::RECORD_BYTES_MAX;

/// Bytes of each header; positions are multiples of it.
pub const HEADER_BYTES: usize = 16;
/// The same, for lengths as the ring has them.
pub const HEADER_LEN: u32 = 16;

const BATCH_MARK: u32 = 0xba7c_4ed0;
const RECORD_MARK: u32 = 0x5ec0_0000;
const MARK_BITS: u32 = 0xffff_0000;
const FRAGMENT_BIT: u32 = 1 << 8;
const KIND_BITS: u32 = 0xff;

/// A header that its writer cannot have meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// The header in front of what one flush published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    /// With this header; a multiple of 16.
    pub bytes: u32,
    /// Everybody for whom there is a record in it.
    pub to: MemberMask,
}

/// The header in front of one record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// Of payload; with the fragment header if there is one.
    pub bytes: u32,
    pub kind: u8,
    /// The payload is a part, behind a [`FragmentHeader`].
    pub fragment: bool,
    pub to: MemberMask,
}

/// The second header of a fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentHeader {
    /// Which of the writer's large records this is a part of.
    pub stream: u32,
    /// Bytes of the whole record.
    pub total: u32,
    /// Bytes of it that came before.
    pub offset: u32,
}

impl BatchHeader {
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        encode(self.bytes, BATCH_MARK, self.to)
    }

    /// Checked: its length is at least its own and not beyond `published`, the bytes from its start to the head.
    pub fn decode(bytes: [u8; HEADER_BYTES], published: u64) -> Result<Self, Malformed> {
        let (bytes, mark, to) = decode(bytes);
        let aligned = usize::try_from(bytes).is_ok_and(|n| n.is_multiple_of(HEADER_BYTES));
        if mark != BATCH_MARK || !aligned || bytes == 0 || u64::from(bytes) > published {
            return Err(Malformed);
        }
        Ok(Self { bytes, to })
    }
}

impl RecordHeader {
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let fragment = if self.fragment { FRAGMENT_BIT } else { 0 };
        encode(
            self.bytes,
            RECORD_MARK | fragment | u32::from(self.kind),
            self.to,
        )
    }

    /// Checked: the whole record is within `rest`, the bytes from its start to the end of its batch.
    pub fn decode(bytes: [u8; HEADER_BYTES], rest: u64) -> Result<Self, Malformed> {
        let (bytes, mark, to) = decode(bytes);
        if mark & MARK_BITS != RECORD_MARK
            || mark & !(MARK_BITS | FRAGMENT_BIT | KIND_BITS) != 0
            || stride(u64::from(bytes)) > rest
        {
            return Err(Malformed);
        }
        Ok(Self {
            bytes,
            kind: mark.to_le_bytes()[0],
            fragment: mark & FRAGMENT_BIT != 0,
            to,
        })
    }

    /// From the start of this record to the start of the next.
    pub fn stride(self) -> u64 {
        stride(u64::from(self.bytes))
    }
}

impl FragmentHeader {
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        join(self.stream, self.total, self.offset, 0)
    }

    /// Checked: a part of `part` bytes, not empty, ends within the whole, and the whole is not too large.
    pub fn decode(bytes: [u8; HEADER_BYTES], part: u32) -> Result<Self, Malformed> {
        let [stream, total, offset, zero] = split(bytes);
        let end = offset.checked_add(part).ok_or(Malformed)?;
        let too_large = usize::try_from(total).is_ok_and(|n| n > RECORD_BYTES_MAX);
        if zero != 0 || part == 0 || end > total || too_large {
            return Err(Malformed);
        }
        Ok(Self {
            stream,
            total,
            offset,
        })
    }
}

/// Bytes that a record with so much payload takes in the ring.
pub const fn stride(payload_bytes: u64) -> u64 {
    (HEADER_BYTES as u64 + payload_bytes).next_multiple_of(HEADER_BYTES as u64)
}

fn encode(bytes: u32, mark: u32, to: MemberMask) -> [u8; HEADER_BYTES] {
    join(
        bytes,
        mark,
        super::layout::low(to.0),
        super::layout::high(to.0),
    )
}

fn decode(bytes: [u8; HEADER_BYTES]) -> (u32, u32, MemberMask) {
    let [bytes, mark, low, high] = split(bytes);
    (
        bytes,
        mark,
        MemberMask(u64::from(high) << 32 | u64::from(low)),
    )
}

fn join(a: u32, b: u32, c: u32, d: u32) -> [u8; HEADER_BYTES] {
    (u128::from(a) | u128::from(b) << 32 | u128::from(c) << 64 | u128::from(d) << 96).to_le_bytes()
}

fn split(bytes: [u8; HEADER_BYTES]) -> [u32; 4] {
    let all = u128::from_le_bytes(bytes);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "each word is what the shift leaves in the low 32 bits"
    )]
    [0, 32, 64, 96].map(|shift| (all >> shift) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_encoding() {
        let batch = BatchHeader {
            bytes: 4096,
            to: MemberMask(0x8000_0000_0000_0001),
        };
        assert_eq!(BatchHeader::decode(batch.encode(), 4096), Ok(batch));
        let record = RecordHeader {
            bytes: 77,
            kind: 0xfe,
            fragment: true,
            to: MemberMask(0x1234_5678_9abc_def0),
        };
        assert_eq!(RecordHeader::decode(record.encode(), 96), Ok(record));
        let fragment = FragmentHeader {
            stream: 9,
            total: 1000,
            offset: 400,
        };
        assert_eq!(FragmentHeader::decode(fragment.encode(), 600), Ok(fragment));
    }

    #[test]
    fn a_batch_beyond_the_head_is_malformed() {
        let of = |bytes| BatchHeader {
            bytes,
            to: MemberMask::ALL,
        };
        assert_eq!(BatchHeader::decode(of(112).encode(), 96), Err(Malformed));
        assert_eq!(BatchHeader::decode(of(0).encode(), 96), Err(Malformed));
        assert_eq!(BatchHeader::decode(of(24).encode(), 96), Err(Malformed));
        assert_eq!(BatchHeader::decode([0; 16], 96), Err(Malformed));
    }

    #[test]
    fn a_record_beyond_its_batch_is_malformed() {
        let of = |bytes| RecordHeader {
            bytes,
            kind: 1,
            fragment: false,
            to: MemberMask::ALL,
        };
        assert!(RecordHeader::decode(of(16).encode(), 32).is_ok());
        assert_eq!(RecordHeader::decode(of(17).encode(), 32), Err(Malformed));
        assert_eq!(
            RecordHeader::decode(of(u32::MAX).encode(), 32),
            Err(Malformed)
        );
        let batch = BatchHeader {
            bytes: 32,
            to: MemberMask::ALL,
        };
        assert_eq!(RecordHeader::decode(batch.encode(), 32), Err(Malformed));
    }

    #[test]
    fn a_fragment_beyond_its_record_is_malformed() {
        let of = |total, offset| FragmentHeader {
            stream: 1,
            total,
            offset,
        };
        assert!(FragmentHeader::decode(of(100, 90).encode(), 10).is_ok());
        assert!(FragmentHeader::decode(of(100, 90).encode(), 11).is_err());
        assert!(FragmentHeader::decode(of(100, 90).encode(), 0).is_err());
        assert!(FragmentHeader::decode(of(100, u32::MAX).encode(), 11).is_err());
        assert!(FragmentHeader::decode(of(u32::MAX, 0).encode(), 11).is_err());
    }
}
