//! What a client sends: QoS 2 messages that it has not released, and its topic aliases.

use std::collections::HashSet;

use foldhash::fast::RandomState;

use crate::base::limits::QOS2_RECEIVED_MAX;
use crate::mqtt::{PacketId, Reason};

/// The receiving side of one client. An idle one owns no memory.
#[derive(Debug, Default)]
pub struct Inbound {
    /// Packet ids of QoS 2 messages that were received and not released [MQTT-4.3.3-2].
    received: HashSet<u16, RandomState>,
    /// Topics by alias; alias 1 is first.
    aliases: Vec<Option<Box<str>>>,
}

/// What a client may not do: the reason code, and words for the log.
pub type Violation = (Reason, &'static str);

const BAD_ALIAS: Violation = (Reason::TopicAliasInvalid, "topic alias out of range");

/// Whether a QoS 2 message is seen for the first time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// Route it.
    New,
    /// It was routed already: answer with PUBREC and nothing else.
    Repeat,
}

impl Inbound {
    /// The receiving side of a session that continues with these unreleased packet ids.
    pub fn resume(&mut self, received: &[u16]) {
        self.received = received.iter().copied().collect();
    }

    /// A QoS 2 PUBLISH came. `maximum` is the Receive Maximum that the client was told.
    ///
    /// # Errors
    /// More unreleased messages than the client may have: 0x93 [MQTT-3.3.4-9].
    pub fn publish(&mut self, id: PacketId, maximum: usize) -> Result<Received, Violation> {
        if self.received.contains(&id.get()) {
            return Ok(Received::Repeat);
        }
        if self.received.len() >= maximum.min(QOS2_RECEIVED_MAX) {
            return Err((Reason::ReceiveMaximumExceeded, "receive maximum exceeded"));
        }
        self.received.insert(id.get());
        Ok(Received::New)
    }

    /// A PUBREL came: the packet id is free. False if it was not in use.
    pub fn release(&mut self, id: PacketId) -> bool {
        let known = self.received.remove(&id.get());
        if self.received.is_empty() {
            self.received.shrink_to_fit();
        }
        known
    }

    /// The topic of a PUBLISH with an alias: remembers `topic`, or looks the alias up when there is none. `maximum` is
    /// the Topic Alias Maximum that the client was told.
    ///
    /// # Errors
    /// An alias of 0 or beyond the maximum: 0x94 [MQTT-3.3.2-8], [MQTT-3.3.2-9]; an alias that stands for nothing: 0x82.
    pub fn alias(
        &mut self,
        alias: u16,
        topic: Option<&str>,
        maximum: u16,
    ) -> Result<&str, Violation> {
        if alias == 0 || alias > maximum {
            return Err(BAD_ALIAS);
        }
        let at = usize::from(alias) - 1;
        if self.aliases.len() <= at {
            self.aliases.resize(at + 1, None);
        }
        let Some(known) = self.aliases.get_mut(at) else {
            return Err(BAD_ALIAS);
        };
        if let Some(topic) = topic {
            *known = Some(topic.into());
        }
        let unknown = (
            Reason::ProtocolError,
            "a topic alias that stands for nothing",
        );
        known.as_deref().ok_or(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_qos2_publish_is_routed_once_until_it_is_released() {
        let mut inbound = Inbound::default();
        let id = PacketId::MIN;
        assert_eq!(inbound.publish(id, 20), Ok(Received::New));
        assert_eq!(inbound.publish(id, 20), Ok(Received::Repeat));
        assert!(inbound.release(id));
        assert!(!inbound.release(id));
        assert_eq!(inbound.publish(id, 20), Ok(Received::New));
    }

    #[test]
    fn the_receive_maximum_holds() {
        let mut inbound = Inbound::default();
        for id in 1..=20 {
            assert!(inbound.publish(PacketId::new(id).unwrap(), 20).is_ok());
        }
        let more = PacketId::new(21).unwrap();
        assert_eq!(
            inbound.publish(more, 20),
            Err((Reason::ReceiveMaximumExceeded, "receive maximum exceeded"))
        );
    }

    #[test]
    fn an_alias_stands_for_the_last_topic_it_came_with() {
        let mut inbound = Inbound::default();
        assert!(matches!(
            inbound.alias(3, None, 10),
            Err((Reason::ProtocolError, _))
        ));
        assert_eq!(inbound.alias(3, Some("a"), 10), Ok("a"));
        assert_eq!(inbound.alias(3, Some("b"), 10), Ok("b"));
        assert_eq!(inbound.alias(3, None, 10), Ok("b"));
        assert_eq!(inbound.alias(0, Some("a"), 10), Err(BAD_ALIAS));
        assert_eq!(inbound.alias(11, Some("a"), 10), Err(BAD_ALIAS));
    }
}
