//! Topic aliases of one connection, both ways.

use std::collections::BTreeMap;

/// An alias stands for the topic that it came with last, on this connection alone [MQTT-3.3.2-7].
#[derive(Debug, Default)]
pub struct Aliases {
    /// How many the client takes; 0 is none.
    pub takes: u16,
    /// How many the broker takes, as its CONNACK said, and whether the client makes use of it.
    pub may_send: u16,
    pub sends: bool,
    came: BTreeMap<u16, String>,
    sent: BTreeMap<u16, String>,
}

impl Aliases {
    /// A new connection.
    pub fn open(&mut self) {
        self.may_send = 0;
        self.came.clear();
        self.sent.clear();
    }

    /// The topic of a PUBLISH that came.
    pub fn resolve(&mut self, topic: &str, alias: Option<u16>) -> Result<String, String> {
        let Some(alias) = alias else {
            return match topic {
                "" => Err("neither topic nor alias".to_owned()),
                topic => Ok(topic.to_owned()),
            };
        };
        if alias == 0 || alias > self.takes {
            return Err(format!("alias {alias} of {}", self.takes));
        }
        if topic.is_empty() {
            let known = self.came.get(&alias).cloned();
            return known.ok_or(format!("alias {alias} stands for nothing"));
        }
        // It might, but this broker never gives an alias away again.
        match self.came.insert(alias, topic.to_owned()) {
            Some(_) => Err(format!("alias {alias} given twice")),
            None => Ok(topic.to_owned()),
        }
    }

    /// The alias that a PUBLISH is sent with, and whether it needs its topic too.
    pub fn choose(&mut self, topic: &str, number: u64) -> Option<(u16, bool)> {
        // A few of them, so that they change hands.
        let most = self.may_send.min(2);
        if !self.sends || most == 0 || number.is_multiple_of(3) {
            return None;
        }
        let sum: u32 = topic.bytes().map(u32::from).sum();
        let alias = 1 + (sum % u32::from(most)) as u16;
        let before = self.sent.insert(alias, topic.to_owned());
        Some((alias, before.as_deref() != Some(topic)))
    }
}
