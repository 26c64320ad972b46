//! The bytes of one message: encoded once per wire form and shared, with what is a connection's own put around them.

use std::rc::Rc;

use super::connection::Client;
use super::fan_out::Target;
use crate::base::clock::Instant;
use crate::base::limits::OUTPUT_SHARED_BYTES_MIN;
use crate::ipc::mesh::Message;
use crate::mqtt::encode::{DUP, OwnHead, PublishForm, encode_publish_head};
use crate::mqtt::{PacketId, Properties, PropertiesBuilder, Property, Topic, Version};
use crate::session::Alias;

/// Encoded forms of one message: by protocol generation, QoS and retain flag. Messages with subscription
/// identifiers are encoded for each receiver.
#[derive(Default)]
pub(super) struct Forms {
    bytes: Vec<u8>,
    known: [Option<Form>; FORMS],
    /// A large payload, shared by all forms.
    pub shared: Option<Rc<[u8]>>,
    builder: PropertiesBuilder,
}

const FORMS: usize = 12;

/// Where in `Forms::bytes` a form is.
#[derive(Clone, Copy)]
pub(super) struct Form {
    start: usize,
    end: usize,
    packet_id_at: Option<usize>,
    /// Where its properties begin and its payload, unless that is shared; in 3.x both are the same.
    properties: usize,
    payload: usize,
    is_five: bool,
    /// Bytes on the wire, a shared payload included.
    len: usize,
}

impl Forms {
    /// Forgets the last message.
    pub fn begin(&mut self) {
        self.bytes.clear();
        self.known = [None; FORMS];
        self.shared = None;
    }

    /// The form that this target gets, encoded if it is the first.
    pub fn form(
        &mut self,
        version: Version,
        target: &Target,
        message: &Message<'_>,
        now: Instant,
    ) -> Form {
        if !target.subscription_ids.is_empty() && version == Version::V5 {
            return self.encode(version, target, message, now);
        }
        let five = usize::from(version == Version::V5);
        let at = (target.qos as usize * 2 + usize::from(target.retain)) * 2 + five;
        if let Some(Some(form)) = self.known.get(at) {
            return *form;
        }
        let form = self.encode(version, target, message, now);
        if let Some(slot) = self.known.get_mut(at) {
            *slot = Some(form);
        }
        form
    }

    fn encode(
        &mut self,
        version: Version,
        target: &Target,
        message: &Message<'_>,
        now: Instant,
    ) -> Form {
        let mut properties = Properties::trusted(message.properties);
        if version == Version::V5
            && (message.expires_at.is_some() || !target.subscription_ids.is_empty())
        {
            self.builder.clear();
            match message.expires_at {
                Some(at) => {
                    // What is left of its life [MQTT-3.3.2-6]; less than a second counts as one.
                    let left = u32::try_from(at.since(now).as_nanos().div_ceil(1_000_000_000))
                        .unwrap_or(u32::MAX);
                    self.builder.push_all_with_expiry(properties, left)
                }
                None => self.builder.push_all(properties),
            };
            for id in &target.subscription_ids {
                self.builder.push(Property::SubscriptionIdentifier(*id));
            }
            properties = self.builder.as_properties();
        }
        let form = PublishForm {
            version,
            qos: target.qos,
            retain: target.retain,
            topic: Topic::trusted(message.topic),
            properties,
            payload: message.payload,
        };
        let start = self.bytes.len();
        let packet_id_at = encode_publish_head(&form, &mut self.bytes);
        let payload = self.bytes.len();
        let is_five = version == Version::V5;
        let properties_len = if is_five { properties.raw().len() } else { 0 };
        if message.payload.len() < OUTPUT_SHARED_BYTES_MIN {
            self.bytes.extend_from_slice(message.payload);
        } else if self.shared.is_none() {
            self.shared = Some(Rc::from(message.payload));
        }
        Form {
            start,
            end: self.bytes.len(),
            packet_id_at,
            properties: payload - properties_len,
            payload,
            is_five,
            len: payload - start + message.payload.len(),
        }
    }

    /// How a client hears of this form. `None` if it cannot: the packet is larger than it takes, or the topic is not
    /// behind its mount point. `may_give`: what is written now is the next thing that it reads, so that a new alias
    /// can be used.
    pub fn wire(&self, form: Form, client: &Client, topic: &str, may_give: bool) -> Option<Wire> {
        let cut = match &client.mount {
            Some(mount) => mount.cut(topic)?,
            None => 0,
        };
        let alias = if form.is_five {
            topic.get(cut..).and_then(|topic| client.aliases.of(topic))
        } else {
            None
        };
        let fits = |wire: &Wire| {
            let len = match wire.is_plain() {
                true => form.len,
                false => self.own_head(wire, topic, None, false).packet_len(),
            };
            u32::try_from(len).is_ok_and(|len| len <= client.packet_bytes_max)
        };
        let plain = Wire {
            form,
            cut,
            alias: None,
        };
        let aliased = Wire { alias, ..plain };
        match alias {
            Some(Alias::Known(_)) => Some(aliased).filter(fits),
            // A new alias makes the packet a little longer: better none than no message.
            Some(Alias::New(_)) if may_give && fits(&aliased) => Some(aliased),
            _ => Some(plain).filter(fits),
        }
    }

    fn own_head<'a>(
        &'a self,
        wire: &Wire,
        topic: &'a str,
        packet_id: Option<PacketId>,
        dup: bool,
    ) -> OwnHead<'a> {
        let form = wire.form;
        let first = self.bytes.get(form.start).copied().unwrap_or_default();
        let properties = self.bytes.get(form.properties..form.payload);
        let (alias, is_named) = match wire.alias {
            Some(Alias::Known(alias)) => (Some(alias), false),
            Some(Alias::New(alias)) => (Some(alias), true),
            None => (None, true),
        };
        let topic = topic.get(wire.cut..).filter(|_| is_named);
        OwnHead {
            first: first | if dup { DUP } else { 0 },
            topic: topic.unwrap_or_default(),
            packet_id: packet_id.map_or(0, PacketId::get),
            properties: properties.filter(|_| form.is_five),
            alias,
            // A payload that is shared is not in this form.
            payload_len: form.len - (form.payload - form.start),
        }
    }

    /// Appends a packet, but not a payload that is shared, with its packet id and DUP flag.
    pub fn write(
        &self,
        wire: &Wire,
        topic: &str,
        (packet_id, dup): (Option<PacketId>, bool),
        out: &mut Vec<u8>,
    ) {
        let form = wire.form;
        if !wire.is_plain() {
            self.own_head(wire, topic, packet_id, dup).put(out);
            let payload = self.bytes.get(form.payload..form.end);
            return out.extend_from_slice(payload.unwrap_or_default());
        }
        let at = out.len();
        out.extend_from_slice(self.bytes.get(form.start..form.end).unwrap_or_default());
        if let (Some(offset), Some(id)) = (form.packet_id_at, packet_id)
            && let Some(field) = out.get_mut(at + offset..at + offset + 2)
        {
            field.copy_from_slice(&id.get().to_be_bytes());
        }
        if let (true, Some(first)) = (dup, out.get_mut(at)) {
            *first |= DUP;
        }
    }
}

/// A form as one connection gets it.
#[derive(Clone, Copy)]
pub(super) struct Wire {
    pub form: Form,
    /// Bytes of the topic that its client does not see.
    cut: usize,
    alias: Option<Alias>,
}

impl Wire {
    /// The shared bytes are what the client gets.
    const fn is_plain(&self) -> bool {
        self.cut == 0 && self.alias.is_none()
    }

    /// Bytes of the packet, about: to reserve room.
    pub const fn len_about(&self) -> usize {
        self.form.len + 3
    }

    /// The client is about to hear of a new alias.
    pub fn give_alias(&self, client: &mut Client, topic: &str) {
        if let (Some(Alias::New(alias)), Some(topic)) = (self.alias, topic.get(self.cut..)) {
            client.aliases.give(topic, alias);
        }
    }
}
