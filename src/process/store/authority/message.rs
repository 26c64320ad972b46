//! Messages and wills as the store keeps them.

use std::cell::Cell;
use std::rc::Rc;

use crate::base::clock::Instant;
use crate::base::ids::ClientNumber;
use crate::ipc::mesh::{Message, WillRecord};
use crate::mqtt::property::{Property, PropertyId};
use crate::mqtt::{Properties, Qos};
use crate::retained::Retainable;

/// How many messages there are, each once however many queues hold it, and the bytes of their payloads. Whoever drops
/// the last reference to a message knows nothing of the store, so the messages count themselves.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Stock(Rc<Cell<(u64, u64)>>);

impl Stock {
    /// Messages, and bytes.
    pub fn count(&self) -> (u64, u64) {
        self.0.get()
    }
}

/// A message that waits: shared between the queues that hold it, and the retained set.
#[derive(Debug, PartialEq)]
pub(super) struct StoredMessage {
    pub qos: Qos,
    pub publisher: ClientNumber,
    pub expires_at: Option<Instant>,
    topic: Box<str>,
    /// Properties, then payload.
    body: Box<[u8]>,
    properties_len: u32,
    stock: Stock,
}

impl Drop for StoredMessage {
    fn drop(&mut self) {
        let (messages, bytes) = self.stock.count();
        self.stock
            .0
            .set((messages - 1, bytes - self.payload().len() as u64));
    }
}

impl StoredMessage {
    pub fn new(message: &Message<'_>, stock: &Stock) -> Self {
        let (messages, bytes) = stock.count();
        stock
            .0
            .set((messages + 1, bytes + message.payload.len() as u64));
        Self {
            stock: stock.clone(),
            qos: message.qos,
            publisher: message.publisher,
            expires_at: message.expires_at,
            topic: message.topic.into(),
            body: [message.properties, message.payload].concat().into(),
            // What a packet brings is far less than this.
            properties_len: u32::try_from(message.properties.len()).unwrap_or(u32::MAX),
        }
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    pub fn properties(&self) -> &[u8] {
        self.body.get(..self.properties_len()).unwrap_or(&[])
    }

    pub fn payload(&self) -> &[u8] {
        self.body.get(self.properties_len()..).unwrap_or(&[])
    }

    fn properties_len(&self) -> usize {
        usize::try_from(self.properties_len).unwrap_or(usize::MAX)
    }

    /// What it costs in a record, about.
    pub fn bytes(&self) -> usize {
        self.body.len() + self.topic.len()
    }

    /// As it goes to a worker, with the QoS and the retain flag for the wire.
    pub fn as_message(&self, qos: Qos, retain: bool) -> Message<'_> {
        Message {
            qos,
            retain,
            publisher: self.publisher,
            packet_id: None,
            releases: None,
            expires_at: self.expires_at,
            topic: self.topic(),
            properties: self.properties(),
            payload: self.payload(),
        }
    }
}

/// A retained message, and when it came among all that were retained.
#[derive(Debug)]
pub(super) struct Kept {
    pub message: Rc<StoredMessage>,
    pub stamp: u64,
    /// The message expires, or is forgotten here.
    pub expires_at: Option<Instant>,
}

impl Retainable for Kept {
    fn topic(&self) -> &str {
        self.message.topic()
    }

    fn expires_at(&self) -> Option<Instant> {
        self.expires_at
    }
}

/// A will that came with a claim.
#[derive(Debug)]
pub(super) struct Will {
    qos: Qos,
    retain: bool,
    pub delay_secs: u32,
    topic: Box<str>,
    properties: Box<[u8]>,
    payload: Box<[u8]>,
}

impl Will {
    pub fn new(will: &WillRecord<'_>) -> Self {
        Self {
            qos: will.qos,
            retain: will.retain,
            delay_secs: will.delay_secs,
            topic: will.topic.into(),
            properties: will.properties.into(),
            payload: will.payload.into(),
        }
    }

    /// The message that `publisher` leaves behind. Its expiry interval counts from now [MQTT-3.1.3.2.4].
    pub fn as_message(&self, publisher: ClientNumber, now: Instant) -> Message<'_> {
        let interval =
            Properties::trusted(&self.properties).find(PropertyId::MessageExpiryInterval);
        let expires_at = match interval {
            Some(Property::MessageExpiryInterval(secs)) => {
                Some(now.after_secs(u64::from(secs.max(1))))
            }
            _ => None,
        };
        Message {
            qos: self.qos,
            retain: self.retain,
            publisher,
            packet_id: None,
            releases: None,
            expires_at,
            topic: &self.topic,
            properties: &self.properties,
            payload: &self.payload,
        }
    }
}
