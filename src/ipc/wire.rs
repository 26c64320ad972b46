//! Little-endian fields in a byte string, each length checked: siblings are not trusted to be well.

/// A record or message that is not what its kind says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WireError {
    /// Lower case, no full stop.
    pub what: &'static str,
}

const TRUNCATED: WireError = WireError { what: "truncated" };

/// Takes fields from the front.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A byte string with its length as a `u32` in front.
    pub fn long(&mut self) -> Result<&'a [u8], WireError> {
        let n = self.u32()?;
        self.bytes(usize::try_from(n).map_err(|_| TRUNCATED)?)
    }

    /// A string with its length as a `u16` in front.
    pub fn str(&mut self) -> Result<&'a str, WireError> {
        let n = self.u16()?;
        std::str::from_utf8(self.bytes(usize::from(n))?).map_err(|_| WireError {
            what: "string is not UTF-8",
        })
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Appends fields.
pub trait Put {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, v: u8) {
        self.put(&[v]);
    }
    fn put_u16(&mut self, v: u16) {
        self.put(&v.to_le_bytes());
    }
    fn put_u32(&mut self, v: u32) {
        self.put(&v.to_le_bytes());
    }
    fn put_u64(&mut self, v: u64) {
        self.put(&v.to_le_bytes());
    }
    /// Longer than 4 GiB cannot be: every caller's bytes came through a smaller limit.
    fn put_long(&mut self, bytes: &[u8]) {
        self.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.put(bytes);
    }
    /// Longer than 65,535 bytes cannot be: MQTT strings are not.
    fn put_str(&mut self, s: &str) {
        self.put_u16(u16::try_from(s.len()).unwrap_or(u16::MAX));
        self.put(s.as_bytes());
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
