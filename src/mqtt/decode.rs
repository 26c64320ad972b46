//! Bytes of a peer to packets.

use std::fmt;

use super::frame::Frame;
use super::{Packet, Reason, Version};

/// What is wrong with a packet: the reason code for DISCONNECT or CONNACK, and words for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeError {
    pub reason: Reason,
    /// Lower case, no full stop: "truncated", "string is not UTF-8".
    pub what: &'static str,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for DecodeError {}

/// Decodes one packet. `version` is that of the connection; CONNECT brings its own and ignores it.
/// Both directions: what only a server may send is decoded too, `session` and `client` refuse what is not theirs.
///
/// # Errors
/// Malformed (0x81), protocol error (0x82), CONNECT of an unknown level (0x84).
pub fn decode<'a>(frame: Frame<'a>, version: Version) -> Result<Packet<'a>, DecodeError> {
    let _ = (frame, version);
    unimplemented!("codec")
}
