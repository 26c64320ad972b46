//! The MQTT codec: frames, packets, properties, reason codes, topics and filters of 3.1, 3.1.1 and 5.0.
//!
//! Pure: bytes in, values out, and back. Decoding borrows from the input and allocates nothing for PUBLISH and the
//! acknowledgements. What comes from a peer is checked here once; the checked types (`Topic`, `Filter`,
//! `Properties`) can only be made by a check. This room knows no session: what is allowed *when* is `session`'s.

mod connect;
pub mod decode;
pub mod encode;
pub mod frame;
mod input;
mod output;
pub mod packet;
pub mod property;
pub mod reason;
pub mod topic;

#[cfg(test)]
mod round_trip;

pub use decode::DecodeError;
pub use packet::*;
pub use property::{Properties, PropertiesBuilder, Property, PropertyId};
pub use reason::Reason;
pub use topic::{Filter, Topic};
