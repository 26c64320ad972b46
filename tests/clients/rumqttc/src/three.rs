//! rumqttc for 3.1.1.

use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::PublishProperties;
use rumqttc::{
    AsyncClient, EventLoop, LastWill, MqttOptions, Outgoing, Packet, SubscribeFilter,
    SubscribeReasonCode,
};

use crate::connection::{Error, Event, Message, Options};

const PACKET_BYTES_MAX: usize = 4 << 20;

pub struct Client {
    client: AsyncClient,
    events: EventLoop,
}

impl Client {
    pub fn new(options: &Options) -> Self {
        let mut mqtt = MqttOptions::new(&options.client_id, "127.0.0.1", options.port);
        mqtt.set_keep_alive(Duration::from_secs(60));
        mqtt.set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        mqtt.set_clean_session(options.session_secs.is_none());
        if let Some((topic, payload, qos)) = &options.will {
            mqtt.set_last_will(LastWill::new(topic, payload.as_str(), quality(*qos), false));
        }
        let (client, events) = AsyncClient::new(mqtt, 10);
        Self { client, events }
    }

    pub fn subscribe(
        &mut self,
        filters: &[(String, u8)],
        _identifier: Option<usize>,
    ) -> Result<(), Error> {
        let filters = filters
            .iter()
            .map(|(filter, qos)| SubscribeFilter::new(filter.clone(), quality(*qos)));
        told(self.client.try_subscribe_many(filters))
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
        told(
            self.client
                .try_publish(topic, quality(qos), retain, payload),
        )
    }

    pub fn disconnect(&mut self) -> Result<(), Error> {
        told(self.client.try_disconnect())
    }

    pub async fn step(&mut self) -> Result<Event, Error> {
        let event = self.events.poll().await;
        Ok(match event.map_err(|error| format!("{error:?}"))? {
            rumqttc::Event::Incoming(packet) => match packet {
                Packet::ConnAck(connack) => Event::Connack {
                    session_present: connack.session_present,
                },
                Packet::Publish(publish) => Event::Message(Message {
                    topic: publish.topic,
                    payload: publish.payload.to_vec(),
                    qos: publish.qos as u8,
                    retain: publish.retain,
                    properties: PublishProperties::default(),
                }),
                Packet::PubAck(_) | Packet::PubComp(_) => Event::Acknowledged(String::new()),
                Packet::SubAck(suback) => {
                    Event::Suback(suback.return_codes.iter().map(granted).collect())
                }
                Packet::UnsubAck(_) => Event::Unsuback(Vec::new()),
                _ => Event::Other,
            },
            rumqttc::Event::Outgoing(Outgoing::Publish(_)) => Event::PublishWritten,
            rumqttc::Event::Outgoing(Outgoing::Disconnect) => Event::DisconnectWritten,
            rumqttc::Event::Outgoing(_) => Event::Other,
        })
    }
}

fn granted(code: &SubscribeReasonCode) -> u8 {
    match code {
        SubscribeReasonCode::Success(qos) => *qos as u8,
        SubscribeReasonCode::Failure => 0x80,
    }
}

fn quality(qos: u8) -> QoS {
    rumqttc::mqttbytes::qos(qos).expect("the claims use 0, 1 and 2")
}

fn told<T, E: std::fmt::Debug>(asked: Result<T, E>) -> Result<(), Error> {
    asked
        .map(|_| ())
        .map_err(|error| format!("the client refuses: {error:?}"))
}
