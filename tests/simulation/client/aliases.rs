//! The topic aliases that one connection of a client was told.

use std::collections::BTreeMap;

use mosquitto::mqtt::{Property, PropertyId, Publish, Topic};

#[derive(Default)]
pub struct Aliases {
    topics: BTreeMap<u16, String>,
}

impl Aliases {
    /// The topic of a message for a client that takes `most` aliases.
    pub fn topic(&mut self, publish: &Publish<'_>, most: u16) -> Result<String, String> {
        let named = publish.topic.map(Topic::as_str);
        let alias = match publish.properties.find(PropertyId::TopicAlias) {
            Some(Property::TopicAlias(alias)) => alias,
            _ => return named.map(str::to_owned).ok_or("no topic".into()),
        };
        if alias > most {
            return Err(format!("alias {alias}, but {most} at most"));
        }
        match named {
            Some(name) => {
                if self.topics.insert(alias, name.to_owned()).is_some() {
                    return Err(format!("alias {alias} given twice"));
                }
                Ok(name.to_owned())
            }
            None => {
                let known = self.topics.get(&alias).cloned();
                known.ok_or(format!("alias {alias} stands for nothing"))
            }
        }
    }
}
