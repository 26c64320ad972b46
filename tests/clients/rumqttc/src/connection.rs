//! A connection as the claims see it, whatever version it speaks: what is asked for, what comes, and one step at a time
//! with an end to each wait.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::PublishProperties;
use tokio::time::timeout;

use crate::{five, three};

pub const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V311,
    V5,
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Version::V311 => "3.1.1",
            Version::V5 => "5.0",
        })
    }
}

/// How to connect. What 3.1.1 does not have is ignored there.
#[derive(Debug, Clone)]
pub struct Options {
    pub port: u16,
    pub client_id: String,
    /// Does not start anew, and, in 5.0, ends so many seconds after the connection.
    pub session_secs: Option<u32>,
    /// Topic, payload, QoS.
    pub will: Option<(String, String, u8)>,
    pub authentication_method: Option<String>,
}

#[derive(Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: PublishProperties,
}

/// What the claims look at among the packets of the broker, and the moments that a client tells of itself.
#[derive(Debug)]
pub enum Event {
    Connack {
        session_present: bool,
    },
    Message(Message),
    PublishWritten,
    /// By PUBACK or PUBCOMP, with the reason's name.
    Acknowledged(String),
    Suback(Vec<u8>),
    Unsuback(Vec<String>),
    DisconnectWritten,
    Other,
}

/// Why a connection ended, as words. `Debug` of the client's errors has the reason code's name.
pub type Error = String;

enum Inner {
    Three(Box<three::Client>),
    Five(Box<five::Client>),
}

pub struct Connection {
    inner: Inner,
    messages: VecDeque<Message>,
    pub session_present: bool,
}

macro_rules! inner {
    ($connection:expr, $client:ident => $what:expr) => {
        match &mut $connection.inner {
            Inner::Three($client) => $what,
            Inner::Five($client) => $what,
        }
    };
}

impl Connection {
    pub async fn open(version: Version, options: &Options) -> Result<Self, Error> {
        let inner = match version {
            Version::V311 => Inner::Three(Box::new(three::Client::new(options))),
            Version::V5 => Inner::Five(Box::new(five::Client::new(options))),
        };
        let mut connection = Self {
            inner,
            messages: VecDeque::new(),
            session_present: false,
        };
        connection.session_present = connection
            .until("CONNACK", |event| match event {
                Event::Connack { session_present } => Some(session_present),
                _ => None,
            })
            .await?;
        Ok(connection)
    }

    /// The SUBACK's codes.
    pub async fn subscribe(&mut self, filters: &[(String, u8)]) -> Result<Vec<u8>, Error> {
        self.subscribe_as(filters, None).await
    }

    pub async fn subscribe_as(
        &mut self,
        filters: &[(String, u8)],
        identifier: Option<usize>,
    ) -> Result<Vec<u8>, Error> {
        inner!(self, client => client.subscribe(filters, identifier))?;
        self.until("SUBACK", |event| match event {
            Event::Suback(codes) => Some(codes),
            _ => None,
        })
        .await
    }

    /// The UNSUBACK's reasons, which 3.1.1 does not have.
    pub async fn unsubscribe(&mut self, filter: &str) -> Result<Vec<String>, Error> {
        inner!(self, client => client.unsubscribe(filter))?;
        self.until("UNSUBACK", |event| match event {
            Event::Unsuback(reasons) => Some(reasons),
            _ => None,
        })
        .await
    }

    /// Until it is written at QoS 0, else until it is acknowledged. Gives the reason of the acknowledgement.
    pub async fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: u8,
        retain: bool,
    ) -> Result<String, Error> {
        inner!(self, client => client.publish(topic, payload, qos, retain))?;
        self.until("what ends a PUBLISH", |event| match event {
            Event::PublishWritten if qos == 0 => Some(String::new()),
            Event::Acknowledged(reason) => Some(reason),
            _ => None,
        })
        .await
    }

    /// At QoS 1. 3.1.1 has no properties: asking for them there is a mistake of the claim.
    pub async fn publish_with(
        &mut self,
        topic: &str,
        payload: &[u8],
        retain: bool,
        properties: PublishProperties,
    ) -> Result<String, Error> {
        match &mut self.inner {
            Inner::Three(_) => return Err("3.1.1 has no properties".into()),
            Inner::Five(client) => client.publish_with(topic, payload, retain, properties)?,
        }
        self.until("PUBACK", |event| match event {
            Event::Acknowledged(reason) => Some(reason),
            _ => None,
        })
        .await
    }

    pub async fn message(&mut self) -> Result<Message, Error> {
        within("a message", async {
            while self.messages.is_empty() {
                self.step().await?;
            }
            self.messages.pop_front().ok_or_else(|| "none".into())
        })
        .await
    }

    /// The error with which the broker ends the connection.
    pub async fn closed(&mut self) -> Result<Error, Error> {
        within("the end of the connection", async {
            loop {
                if let Err(error) = self.step().await {
                    return Ok(error);
                }
            }
        })
        .await
    }

    pub async fn disconnect(mut self) -> Result<(), Error> {
        inner!(self, client => client.disconnect())?;
        self.until("the writing of DISCONNECT", |event| {
            matches!(event, Event::DisconnectWritten).then_some(())
        })
        .await
    }

    async fn until<T>(
        &mut self,
        what: &str,
        found: impl Fn(Event) -> Option<T>,
    ) -> Result<T, Error> {
        within(what, async {
            loop {
                if let Some(value) = found(self.step().await?) {
                    return Ok(value);
                }
            }
        })
        .await
    }

    /// What happens next. A message is kept for `message`, whatever the claim waits for now.
    async fn step(&mut self) -> Result<Event, Error> {
        match inner!(self, client => client.step().await)? {
            Event::Message(message) => {
                self.messages.push_back(message);
                Ok(Event::Other)
            }
            event => Ok(event),
        }
    }
}

async fn within<T>(what: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err(format!("waited in vain for {what}")))
}
