//! What the server says.

use std::borrow::Cow;
use std::collections::hash_map::Entry;

use super::outgoing::Acked;
use super::send::Brief;
use super::settings::assigned_client_id;
use super::{Cause, Client, Event, Message, Phase};
use crate::base::clock::Instant;
use crate::base::limits::{CLIENT_ANSWER_BYTES_MAX, QOS2_RECEIVED_MAX};
use crate::base::log::LogType;
use crate::mqtt::decode::decode;
use crate::mqtt::frame::{Frame, frame};
use crate::mqtt::{
    Ack, Connack, DecodeError, Packet, PacketId, Properties, Publish, Qos, Reason, Version,
};

impl Client {
    /// Reads packets from the start of `input` up to the first that makes an event. Returns how many bytes are read,
    /// and the event; without one, all whole packets are read, and the rest of `input` is to be shown again
    /// together with what comes after it. To be called when bytes have come: it counts as a sign of life.
    pub fn read<'a>(&mut self, input: &'a [u8], now: Instant) -> (usize, Option<Event<'a>>) {
        if let Some(event) = self.next_event() {
            return (0, Some(event));
        }
        let mut used = 0;
        while matches!(self.phase, Phase::Connecting | Phase::Online) {
            self.clock.last_in = now;
            let rest = input.get(used..).unwrap_or_default();
            let event = match frame(rest, self.settings.packet_bytes_max) {
                Ok(None) => break,
                Ok(Some(_)) if self.output.answer_bytes() > CLIENT_ANSWER_BYTES_MAX => {
                    Err(DecodeError {
                        reason: Reason::ReceiveMaximumExceeded,
                        what: "answers are not read",
                    })
                }
                Ok(Some(frame)) => {
                    used += frame.len;
                    self.take(frame)
                }
                Err(error) => Err(error),
            };
            match event {
                Ok(None) => {}
                Ok(event) => return (used, event),
                Err(error) => self.close(Cause::Protocol(error)),
            }
        }
        (used, self.next_event())
    }

    fn take<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Event<'a>>, DecodeError> {
        if self.phase == Phase::Connecting {
            return self.take_first(frame);
        }
        match decode(frame, self.settings.version)? {
            Packet::Publish(publish) => self.take_publish(publish),
            Packet::Puback(ack) => self.take_puback(&ack),
            Packet::Pubrec(ack) => self.take_pubrec(&ack),
            Packet::Pubrel(ack) => Ok(self.take_pubrel(&ack)),
            Packet::Pubcomp(ack) => self.take_pubcomp(&ack),
            Packet::Suback(suback) => {
                self.debug(format_args!("received SUBACK"));
                let packet_id = suback.packet_id;
                Ok(self.answered(packet_id).then_some(Event::Subscribed {
                    packet_id,
                    codes: Cow::Borrowed(suback.codes),
                }))
            }
            Packet::Unsuback(unsuback) => {
                self.debug(format_args!("received UNSUBACK"));
                let packet_id = unsuback.packet_id;
                Ok(self.answered(packet_id).then_some(Event::Unsubscribed {
                    packet_id,
                    codes: Cow::Borrowed(unsuback.codes),
                }))
            }
            Packet::Pingresp => {
                self.debug(format_args!("received PINGRESP"));
                self.clock.ping_sent = None;
                Ok(None)
            }
            Packet::Disconnect(disconnect) if self.settings.version == Version::V5 => {
                let code = disconnect.code;
                if self.log.wants(LogType::Debug) {
                    // original: the one line without the client's name.
                    self.log
                        .line(LogType::Debug, format_args!("Received DISCONNECT ({code})"));
                }
                self.phase = Phase::Closing;
                Ok(Some(Event::Disconnected { code }))
            }
            Packet::Connect(_)
            | Packet::Connack(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::Pingreq
            | Packet::Disconnect(_)
            | Packet::Auth(_) => Err(protocol("not for a client")),
        }
    }

    /// The first packet of a connection is a CONNACK [MQTT-3.2.0-1].
    fn take_first<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Event<'a>>, DecodeError> {
        let mut version = self.settings.version;
        // A server that does not know 5.0 says so in its own words.
        if version == Version::V5 && frame.body.len() == 2 {
            version = Version::V311;
        }
        let Packet::Connack(connack) = decode(frame, version)? else {
            return Err(protocol("not a CONNACK"));
        };
        let code = match (connack.code, version) {
            (1, Version::V311) if self.settings.version == Version::V5 => {
                Reason::UnsupportedProtocolVersion.code()
            }
            (code, _) => code,
        };
        if code != 0 {
            self.debug(format_args!("received CONNACK ({code})"));
            self.phase = Phase::Closing;
            return Ok(Some(Event::Refused { code }));
        }
        if version != self.settings.version {
            return Err(DecodeError {
                reason: Reason::MalformedPacket,
                what: "CONNACK without properties",
            });
        }
        Ok(Some(self.accepted(&connack)))
    }

    fn accepted(&mut self, connack: &Connack<'_>) -> Event<'static> {
        self.server.learn(connack.properties);
        if let Some(id) = assigned_client_id(connack.properties) {
            id.clone_into(&mut self.settings.client_id);
        }
        self.debug(format_args!("received CONNACK (0)"));
        self.phase = Phase::Online;
        // 3.1 has no word for it, and keeps a session unless told to clean it.
        let session_present = !self.settings.clean_start
            && (connack.session_present || self.settings.version == Version::V31);
        if session_present {
            self.outgoing.resume();
        } else {
            self.unreleased.clear();
            for packet_id in self.outgoing.restart() {
                self.events.push_back(published(packet_id, 0));
            }
        }
        self.pump();
        Event::Connected { session_present }
    }

    fn take_publish<'a>(&mut self, publish: Publish<'a>) -> Result<Option<Event<'a>>, DecodeError> {
        // We never allow topic aliases, so there is none that could stand for a topic.
        let topic = publish.topic.ok_or(DecodeError {
            reason: Reason::TopicAliasInvalid,
            what: "topic alias was not allowed",
        })?;
        let message = Message::received(&publish, topic.as_str());
        if self.log.wants(LogType::Debug) {
            let packet_id = publish.packet_id.map_or(0, PacketId::get);
            self.debug(format_args!(
                "received PUBLISH {}",
                Brief(publish.dup, packet_id, &message)
            ));
        }
        match (publish.qos, publish.packet_id) {
            (Qos::AtLeastOnce, Some(packet_id)) => {
                let packet = Packet::Puback(ack(packet_id, 0));
                self.send(&packet, format_args!("PUBACK (m{packet_id}, rc0)"));
            }
            (Qos::ExactlyOnce, Some(packet_id)) => {
                self.keep_unreleased(packet_id, message)?;
                let packet = Packet::Pubrec(ack(packet_id, 0));
                self.send(&packet, format_args!("PUBREC (m{packet_id}, rc0)"));
                return Ok(None);
            }
            _ => {}
        }
        Ok(Some(Event::Message(message)))
    }

    fn keep_unreleased(
        &mut self,
        packet_id: PacketId,
        message: Message<'_>,
    ) -> Result<(), DecodeError> {
        let bound = match self.settings.version {
            Version::V5 => usize::from(self.settings.receive_maximum.max(1)),
            Version::V31 | Version::V311 => QOS2_RECEIVED_MAX,
        };
        let count = self.unreleased.len();
        match self.unreleased.entry(packet_id) {
            // Sent again: the same message, however it looks [MQTT-4.3.3-2].
            Entry::Occupied(_) => Ok(()),
            Entry::Vacant(_) if count >= bound => Err(DecodeError {
                reason: Reason::ReceiveMaximumExceeded,
                what: "receive maximum exceeded",
            }),
            Entry::Vacant(place) => {
                place.insert(message.into_owned());
                Ok(())
            }
        }
    }

    fn take_pubrel(&mut self, pubrel: &Ack<'_>) -> Option<Event<'static>> {
        let packet_id = pubrel.packet_id;
        self.debug(format_args!("received PUBREL (Mid: {packet_id})"));
        let message = self.unreleased.remove(&packet_id);
        // An unknown one was released before, and the PUBCOMP got lost: it is sent again.
        let code = match (&message, self.settings.version) {
            (None, Version::V5) => Reason::PacketIdNotFound.code(),
            _ => 0,
        };
        let packet = Packet::Pubcomp(ack(packet_id, code));
        self.send(&packet, format_args!("PUBCOMP (m{packet_id})"));
        message.map(Event::Message)
    }

    fn take_puback(&mut self, puback: &Ack<'_>) -> Result<Option<Event<'static>>, DecodeError> {
        let (packet_id, code) = (puback.packet_id, puback.code);
        self.debug(format_args!(
            "received PUBACK (Mid: {packet_id}, RC:{code})"
        ));
        match self.outgoing.puback(packet_id) {
            Acked::Done => {
                self.pump();
                Ok(Some(published(packet_id, code)))
            }
            Acked::Unknown => Ok(None),
            Acked::Release | Acked::Wrong => Err(protocol("PUBACK for a message of QoS 2")),
        }
    }

    fn take_pubrec(&mut self, pubrec: &Ack<'_>) -> Result<Option<Event<'static>>, DecodeError> {
        let (packet_id, code) = (pubrec.packet_id, pubrec.code);
        self.debug(format_args!("received PUBREC (Mid: {packet_id})"));
        match self.outgoing.pubrec(packet_id, code >= REFUSED) {
            Acked::Done => {
                self.pump();
                Ok(Some(published(packet_id, code)))
            }
            Acked::Release => {
                self.send_pubrel(packet_id, 0);
                Ok(None)
            }
            Acked::Unknown => {
                if code < REFUSED {
                    let code = match self.settings.version {
                        Version::V5 => Reason::PacketIdNotFound.code(),
                        Version::V31 | Version::V311 => 0,
                    };
                    self.send_pubrel(packet_id, code);
                }
                Ok(None)
            }
            Acked::Wrong => Err(protocol("PUBREC for a message of QoS 1")),
        }
    }

    fn take_pubcomp(&mut self, pubcomp: &Ack<'_>) -> Result<Option<Event<'static>>, DecodeError> {
        let (packet_id, code) = (pubcomp.packet_id, pubcomp.code);
        self.debug(format_args!(
            "received PUBCOMP (Mid: {packet_id}, RC:{code})"
        ));
        match self.outgoing.pubcomp(packet_id) {
            Acked::Done => {
                self.pump();
                // "Not found" means that it was complete before; the message is delivered either way.
                Ok(Some(published(packet_id, 0)))
            }
            Acked::Unknown => Ok(None),
            Acked::Release | Acked::Wrong => Err(protocol("PUBCOMP before PUBREC")),
        }
    }

    /// Whether a request with this id was waiting; it is not any more.
    fn answered(&mut self, packet_id: PacketId) -> bool {
        let at = self.requests.iter().position(|id| *id == packet_id);
        if let Some(at) = at {
            self.requests.swap_remove(at);
        }
        at.is_some()
    }
}

const fn published(packet_id: PacketId, code: u8) -> Event<'static> {
    Event::Published { packet_id, code }
}

const fn ack(packet_id: PacketId, code: u8) -> Ack<'static> {
    Ack {
        packet_id,
        code,
        properties: Properties::NONE,
    }
}

const fn protocol(what: &'static str) -> DecodeError {
    DecodeError {
        reason: Reason::ProtocolError,
        what,
    }
}

/// Reason codes from here on are refusals.
const REFUSED: u8 = 0x80;
