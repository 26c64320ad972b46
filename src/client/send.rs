//! What the caller asks for: publish, subscribe, unsubscribe, disconnect.

use super::{Cause, Client, Event, Message, Phase, Refusal};
use crate::base::limits::{CLIENT_OUTPUT_BYTES_MAX, CLIENT_REQUESTS_MAX};
use crate::base::log::LogType;
use crate::mqtt::encode::{PublishForm, encode_publish_head, publish_len};
use crate::mqtt::frame::DUP;
use crate::mqtt::{
    Ack, Disconnect, Filter, Packet, PacketId, Properties, Qos, Subscribe, SubscriptionOptions,
    Topic, Unsubscribe,
};

impl Client {
    /// Publishes. A message of QoS 1 or 2 is kept, over connections, until [`Event::Published`] names the packet id
    /// that is returned; it is sent when the window has room. A message of QoS 0 needs a connection; its packet id
    /// is a mere number.
    ///
    /// # Errors
    /// See [`Refusal`]; [`Refusal::Full`] passes once output is written and answers are read.
    pub fn publish(&mut self, message: Message<'_>) -> Result<PacketId, Refusal> {
        let mut message = message;
        if Topic::new(&message.topic).is_none() {
            return Err(Refusal::InvalidTopic);
        }
        if self.phase == Phase::Online {
            if message.qos > self.server.qos_max {
                return Err(Refusal::QosNotSupported);
            }
            // original: sends it without the flag.
            message.retain &= self.server.retain;
        }
        if publish_len(&self.form(&message)).is_none_or(|len| len > self.server.packet_bytes_max) {
            return Err(Refusal::TooLarge);
        }
        if !self.has_room(message.qos) {
            return Err(Refusal::Full);
        }
        if message.qos == Qos::AtMostOnce {
            if self.phase != Phase::Online {
                return Err(Refusal::NotConnected);
            }
            let packet_id = self.take_packet_id();
            self.write_publish(packet_id, &message, false);
            return Ok(packet_id);
        }
        let packet_id = self.take_packet_id();
        self.outgoing.push(packet_id, message.into_owned());
        self.pump();
        Ok(packet_id)
    }

    /// Whether a message of this QoS would be taken now, as far as room goes.
    pub fn has_room(&self, qos: Qos) -> bool {
        match qos {
            Qos::AtMostOnce => self.output.len() < CLIENT_OUTPUT_BYTES_MAX,
            Qos::AtLeastOnce | Qos::ExactlyOnce => !self.outgoing.is_full(),
        }
    }

    /// Subscribes. [`Event::Subscribed`] will name the packet id, unless the connection ends before.
    ///
    /// # Errors
    /// [`Refusal::NotConnected`], [`Refusal::Full`].
    pub fn subscribe(
        &mut self,
        filters: &[(Filter<'_>, SubscriptionOptions)],
        properties: Properties<'_>,
    ) -> Result<PacketId, Refusal> {
        let packet_id = self.take_request()?;
        for (filter, options) in filters {
            let qos = options.qos as u8;
            // original: the bits as they stand in the packet, less the QoS.
            let bits = (u8::from(options.no_local) << 2)
                | (u8::from(options.retain_as_published) << 3)
                | ((options.retain_handling as u8) << 4);
            self.debug(format_args!(
                "sending SUBSCRIBE (Mid: {packet_id}, Topic: {}, QoS: {qos}, Options: 0x{bits:02x})",
                filter.as_str(),
            ));
        }
        let packet = Packet::Subscribe(Subscribe {
            packet_id,
            properties,
            filters: filters.to_vec(),
        });
        self.send_quietly(&packet);
        Ok(packet_id)
    }

    /// Unsubscribes. [`Event::Unsubscribed`] will name the packet id, unless the connection ends before.
    ///
    /// # Errors
    /// [`Refusal::NotConnected`], [`Refusal::Full`].
    pub fn unsubscribe(
        &mut self,
        filters: &[Filter<'_>],
        properties: Properties<'_>,
    ) -> Result<PacketId, Refusal> {
        let packet_id = self.take_request()?;
        for filter in filters {
            self.debug(format_args!(
                "sending UNSUBSCRIBE (Mid: {packet_id}, Topic: {})",
                filter.as_str(),
            ));
        }
        let packet = Packet::Unsubscribe(Unsubscribe {
            packet_id,
            properties,
            filters: filters.to_vec(),
        });
        self.send_quietly(&packet);
        Ok(packet_id)
    }

    /// Says goodbye with this code (0 in 3.x) and closes. Before CONNACK there is nobody to say it to.
    pub fn disconnect(&mut self, code: u8) {
        if self.phase == Phase::Online {
            self.send_disconnect(code);
        }
        self.close_quietly();
    }

    pub(super) fn send_disconnect(&mut self, code: u8) {
        let packet = Packet::Disconnect(Disconnect {
            code,
            properties: Properties::NONE,
        });
        self.send(&packet, format_args!("DISCONNECT"));
    }

    fn close_quietly(&mut self) {
        if !matches!(self.phase, Phase::Closing | Phase::Offline) {
            self.phase = Phase::Closing;
            self.events.push_back(Event::Closed(Cause::Disconnect));
        }
    }

    fn take_request(&mut self) -> Result<PacketId, Refusal> {
        if self.phase != Phase::Online {
            return Err(Refusal::NotConnected);
        }
        if self.requests.len() >= CLIENT_REQUESTS_MAX {
            return Err(Refusal::Full);
        }
        let packet_id = self.take_packet_id();
        self.requests.push(packet_id);
        Ok(packet_id)
    }

    /// Sends what waits, as far as the window allows.
    pub(super) fn pump(&mut self) {
        if self.phase != Phase::Online {
            return;
        }
        let own = match self.settings.in_flight_max {
            0 => usize::from(u16::MAX),
            n => usize::from(n),
        };
        let window = own.min(self.server.receive_maximum);
        // The borrow of the message and that of the output part here.
        let mut outgoing = std::mem::take(&mut self.outgoing);
        while let Some(kept) = outgoing.next_to_send(window) {
            if kept.released {
                self.send_pubrel(kept.packet_id, 0);
            } else {
                self.write_publish(kept.packet_id, &kept.message, kept.dup);
            }
        }
        self.outgoing = outgoing;
    }

    pub(super) fn send_pubrel(&mut self, packet_id: PacketId, code: u8) {
        let packet = Packet::Pubrel(Ack {
            packet_id,
            code,
            properties: Properties::NONE,
        });
        self.send(&packet, format_args!("PUBREL (m{packet_id})"));
    }

    fn write_publish(&mut self, packet_id: PacketId, message: &Message<'_>, dup: bool) {
        if self.log.wants(LogType::Debug) {
            self.debug(format_args!(
                "sending PUBLISH {}",
                Brief(dup, packet_id.get(), message)
            ));
        }
        let start = self.output.bytes.len();
        let form = self.form(message);
        let id_at = encode_publish_head(&form, &mut self.output.bytes);
        if let Some(id_at) = id_at
            && let Some(place) = self
                .output
                .bytes
                .get_mut(start + id_at..)
                .and_then(<[u8]>::first_chunk_mut::<2>)
        {
            *place = packet_id.get().to_be_bytes();
        }
        if dup && let Some(first) = self.output.bytes.get_mut(start) {
            *first |= DUP;
        }
        self.output.bytes.extend_from_slice(&message.payload);
        self.output.publish_end = self.output.bytes.len();
    }

    fn form<'m>(&self, message: &'m Message<'_>) -> PublishForm<'m> {
        PublishForm {
            version: self.settings.version,
            qos: message.qos,
            retain: message.retain,
            topic: Topic::trusted(&message.topic),
            properties: message.properties(),
            payload: &message.payload,
        }
    }

    fn send_quietly(&mut self, packet: &Packet<'_>) {
        crate::mqtt::encode::encode(packet, self.settings.version, &mut self.output.bytes);
    }
}

/// A PUBLISH in the words of the original's log: whether sent before, its packet id, the rest.
pub(super) struct Brief<'m>(pub bool, pub u16, pub &'m Message<'m>);

impl std::fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(dup, packet_id, message) = self;
        write!(
            f,
            "(d{}, q{}, r{}, m{packet_id}, '{}', ... ({} bytes))",
            u8::from(*dup),
            message.qos as u8,
            u8::from(message.retain),
            message.topic,
            message.payload.len(),
        )
    }
}
