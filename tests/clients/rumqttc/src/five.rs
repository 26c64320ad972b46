//! rumqttc for 5.0.

use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Filter, LastWill, Packet, PublishProperties, SubscribeProperties, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, EventLoop, MqttOptions};

use crate::connection::{Error, Event, Message, Options};

const PACKET_BYTES_MAX: u32 = 4 << 20;

pub struct Client {
    client: AsyncClient,
    events: EventLoop,
}

impl Client {
    pub fn new(options: &Options) -> Self {
        let mut mqtt = MqttOptions::new(&options.client_id, "127.0.0.1", options.port);
        mqtt.set_keep_alive(Duration::from_secs(60));
        mqtt.set_max_packet_size(Some(PACKET_BYTES_MAX));
        mqtt.set_clean_start(options.session_secs.is_none());
        mqtt.set_session_expiry_interval(options.session_secs);
        mqtt.set_authentication_method(options.authentication_method.clone());
        if let Some((topic, payload, qos)) = &options.will {
            let will = LastWill::new(topic, payload.as_str(), quality(*qos), false, None);
            mqtt.set_last_will(will);
        }
        let (client, events) = AsyncClient::new(mqtt, 10);
        Self { client, events }
    }

    pub fn subscribe(
        &mut self,
        filters: &[(String, u8)],
        identifier: Option<usize>,
    ) -> Result<(), Error> {
        let filters = filters
            .iter()
            .map(|(filter, qos)| Filter::new(filter.clone(), quality(*qos)));
        let properties = SubscribeProperties {
            id: identifier,
            user_properties: Vec::new(),
        };
        told(
            self.client
                .try_subscribe_many_with_properties(filters, properties),
        )
    }

    pub fn unsubscribe(&mut self, filter: &str) -> Result<(), Error> {
        told(self.client.try_unsubscribe(filter))
    }

    pub fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: u8,
        retain: bool,
    ) -> Result<(), Error> {
        let payload = payload.to_vec();
        told(
            self.client
                .try_publish(topic, quality(qos), retain, payload),
        )
    }

    pub fn publish_with(
        &mut self,
        topic: &str,
        payload: &[u8],
        retain: bool,
        properties: PublishProperties,
    ) -> Result<(), Error> {
        told(self.client.try_publish_with_properties(
            topic,
            QoS::AtLeastOnce,
            retain,
            payload.to_vec(),
            properties,
        ))
    }

    pub fn disconnect(&mut self) -> Result<(), Error> {
        told(self.client.try_disconnect())
    }

    pub async fn step(&mut self) -> Result<Event, Error> {
        let event = self.events.poll().await;
        Ok(match event.map_err(|error| format!("{error:?}"))? {
            rumqttc::v5::Event::Incoming(packet) => match packet {
                Packet::ConnAck(connack) => Event::Connack {
                    session_present: connack.session_present,
                },
                Packet::Publish(publish) => Event::Message(Message {
                    topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                    payload: publish.payload.to_vec(),
                    qos: publish.qos as u8,
                    retain: publish.retain,
                    properties: publish.properties.unwrap_or_default(),
                }),
                Packet::PubAck(puback) => Event::Acknowledged(format!("{:?}", puback.reason)),
                Packet::PubComp(pubcomp) => Event::Acknowledged(format!("{:?}", pubcomp.reason)),
                Packet::SubAck(suback) => {
                    Event::Suback(suback.return_codes.iter().map(granted).collect())
                }
                Packet::UnsubAck(unsuback) => {
                    let reasons = unsuback.reasons.iter();
                    Event::Unsuback(reasons.map(|reason| format!("{reason:?}")).collect())
                }
                _ => Event::Other,
            },
            rumqttc::v5::Event::Outgoing(Outgoing::Publish(_)) => Event::PublishWritten,
            rumqttc::v5::Event::Outgoing(Outgoing::Disconnect) => Event::DisconnectWritten,
            rumqttc::v5::Event::Outgoing(_) => Event::Other,
        })
    }
}

fn granted(code: &SubscribeReasonCode) -> u8 {
    match code {
        SubscribeReasonCode::Success(qos) => *qos as u8,
        _ => 0x80,
    }
}

fn quality(qos: u8) -> QoS {
    rumqttc::v5::mqttbytes::qos(qos).expect("the claims use 0, 1 and 2")
}

fn told<T, E: std::fmt::Debug>(asked: Result<T, E>) -> Result<(), Error> {
    asked
        .map(|_| ())
        .map_err(|error| format!("the client refuses: {error:?}"))
}
