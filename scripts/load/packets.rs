//! What this program says to a broker, and the stamp inside every payload.

use mosquitto::mqtt::encode::encode;
use mosquitto::mqtt::{
    Ack, Connect, Disconnect, Filter, Packet, PacketId, Properties, Qos, Subscribe,
    SubscriptionOptions, Version,
};

use crate::Failure;

/// Appends a CONNECT with clean session.
pub fn connect(version: Version, client_id: &str, keep_alive: u16, out: &mut Vec<u8>) {
    let packet = Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive,
        properties: Properties::NONE,
        client_id,
        will: None,
        username: None,
        password: None,
    };
    encode(&Packet::Connect(packet), version, out);
}

/// Appends a SUBSCRIBE to one filter.
pub fn subscribe(
    version: Version,
    filter: &str,
    qos: Qos,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let filter =
        Filter::new(filter).ok_or_else(|| Failure::Usage(format!("\"{filter}\" is no filter")))?;
    let options = SubscriptionOptions {
        qos,
        ..SubscriptionOptions::default()
    };
    let packet = Subscribe {
        packet_id: PacketId::MIN,
        properties: Properties::NONE,
        filters: vec![(filter, options)],
    };
    encode(&Packet::Subscribe(packet), version, out);
    Ok(())
}

/// Appends a DISCONNECT.
pub fn disconnect(version: Version, out: &mut Vec<u8>) {
    encode(
        &Packet::Disconnect(Disconnect {
            code: 0,
            properties: Properties::NONE,
        }),
        version,
        out,
    );
}

/// An acknowledgement without news.
pub const fn ack(packet_id: PacketId) -> Ack<'static> {
    Ack {
        packet_id,
        code: 0,
        properties: Properties::NONE,
    }
}

/// QoS from the command line.
pub fn qos(bits: u8) -> Result<Qos, Failure> {
    Qos::from_bits(bits).ok_or_else(|| Failure::Usage(format!("--qos: {bits} is none")))
}

/// The first bytes of every payload; the rest repeats one byte that depends on the sequence number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Tells this run from messages that others left behind.
    pub nonce: u32,
    pub publisher: u32,
    pub seq: u64,
    /// Nanoseconds of the monotonic clock since the run began.
    pub nanos: u64,
}

impl Stamp {
    pub const BYTES: usize = 24;

    /// Appends a payload of `len` bytes (at least [`Self::BYTES`]).
    pub fn write(self, len: usize, out: &mut Vec<u8>) {
        let end = out.len() + len;
        out.extend_from_slice(&self.nonce.to_be_bytes());
        out.extend_from_slice(&self.publisher.to_be_bytes());
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&self.nanos.to_be_bytes());
        out.resize(end, self.filler());
    }

    /// `None` if the payload is not as `write` made it.
    pub fn read(payload: &[u8], len: usize) -> Option<Self> {
        let (nonce, rest) = payload.split_first_chunk()?;
        let (publisher, rest) = rest.split_first_chunk()?;
        let (seq, rest) = rest.split_first_chunk()?;
        let (nanos, rest) = rest.split_first_chunk()?;
        let stamp = Self {
            nonce: u32::from_be_bytes(*nonce),
            publisher: u32::from_be_bytes(*publisher),
            seq: u64::from_be_bytes(*seq),
            nanos: u64::from_be_bytes(*nanos),
        };
        let filler = stamp.filler();
        (payload.len() == len && rest.iter().all(|b| *b == filler)).then_some(stamp)
    }

    const fn filler(self) -> u8 {
        let [.., low] = self.seq.to_be_bytes();
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_and_a_changed_payload_is_not() {
        let stamp = Stamp {
            nonce: 7,
            publisher: 3,
            seq: 0x0102,
            nanos: 99,
        };
        for len in [Stamp::BYTES, 64] {
            let mut payload = Vec::new();
            stamp.write(len, &mut payload);
            assert_eq!(Stamp::read(&payload, len), Some(stamp));
            assert_eq!(Stamp::read(&payload, len + 1), None);
            if len > Stamp::BYTES {
                payload[40] ^= 1;
                assert_eq!(Stamp::read(&payload, len), None);
            }
        }
    }
}
