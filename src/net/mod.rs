//! Bytes in, bytes out: TCP sockets and their buffers. Knows no MQTT.
//!
//! Everything is non-blocking and edge-triggered: a socket is registered once, and this room remembers what may still
//! be read or written. It never decides when a connection ends; it only makes sure that the last packet arrives.

pub mod accept;
pub mod connections;
pub mod linger;
pub mod output;

use slotmap::{Key, KeyData};

/// Whom an event of the poller concerns, packed into its token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Token<K> {
    /// The channel to the supervisor.
    Control,
    /// Another member rang.
    Doorbell,
    /// The listening socket in this place of [`accept::Listeners`].
    Listener(u32),
    /// A closed connection that [`linger::Lingering`] keeps a little.
    Lingering(u32),
    /// An open connection.
    Connection(K),
}

impl<K: Key> Token<K> {
    /// The number to register with.
    pub fn pack(self) -> u64 {
        match self {
            Self::Control => CONTROL,
            Self::Doorbell => DOORBELL,
            Self::Listener(place) => LISTENERS + u64::from(place & PLACE_MASK),
            Self::Lingering(place) => LINGERING + u64::from(place & PLACE_MASK),
            Self::Connection(key) => key.data().as_ffi(),
        }
    }

    /// What was packed.
    pub fn unpack(token: u64) -> Self {
        // A key's upper half is its generation, which is never 0; so the small numbers are free for the others.
        let Ok(small) = u32::try_from(token) else {
            return Self::Connection(KeyData::from_ffi(token).into());
        };
        match u64::from(small) {
            CONTROL => Self::Control,
            DOORBELL => Self::Doorbell,
            n if n < LINGERING => Self::Listener(small & PLACE_MASK),
            _ => Self::Lingering(small & PLACE_MASK),
        }
    }
}

const CONTROL: u64 = 0;
const DOORBELL: u64 = 1;
const LISTENERS: u64 = 0x4000_0000;
const LINGERING: u64 = 0x8000_0000;
const PLACE_MASK: u32 = 0x3fff_ffff;

#[cfg(test)]
mod tests {
    use slotmap::{DefaultKey, SlotMap};

    use super::*;

    #[test]
    fn tokens_come_back_as_they_were_packed() {
        let mut map: SlotMap<DefaultKey, ()> = SlotMap::new();
        let first = map.insert(());
        map.remove(first);
        let again = map.insert(());
        let other = map.insert(());
        for token in [
            Token::Control,
            Token::Doorbell,
            Token::Listener(0),
            Token::Listener(PLACE_MASK),
            Token::Lingering(0),
            Token::Lingering(PLACE_MASK),
            Token::Connection(first),
            Token::Connection(again),
            Token::Connection(other),
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
