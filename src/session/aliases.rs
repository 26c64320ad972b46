//! Topic aliases towards a client: short names for the topics of the messages that go to it.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::base::limits::ALIASED_TOPIC_BYTES_MAX;

/// The aliases that one connection was told, first come, first served. Without any it owns no memory.
#[derive(Debug, Default)]
pub struct Aliases {
    most: u16,
    given: Option<Box<Given>>,
}

#[derive(Debug, Default)]
struct Given {
    by_topic: HashMap<Box<str>, u16, RandomState>,
    topic_bytes: usize,
}

/// The alias of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alias {
    /// The client knows it: the topic may be left out.
    Known(u16),
    /// The client learns it with the topic, once [`Aliases::give`] was called.
    New(u16),
}

impl Aliases {
    /// For a client that takes `most` aliases [MQTT-3.3.2-11]; 0 is none.
    pub const fn new(most: u16) -> Self {
        Self { most, given: None }
    }

    /// The alias of `topic`; `None` if there is none left.
    pub fn of(&self, topic: &str) -> Option<Alias> {
        if self.most == 0 {
            return None;
        }
        let Some(given) = &self.given else {
            return (topic.len() <= ALIASED_TOPIC_BYTES_MAX).then_some(Alias::New(1));
        };
        if let Some(alias) = given.by_topic.get(topic) {
            return Some(Alias::Known(*alias));
        }
        let has_room = given.topic_bytes + topic.len() <= ALIASED_TOPIC_BYTES_MAX;
        // Aliases begin with 1 [MQTT-3.3.2-8].
        u16::try_from(given.by_topic.len() + 1)
            .ok()
            .filter(|next| has_room && *next <= self.most)
            .map(Alias::New)
    }

    /// The client is told this new alias, which [`Aliases::of`] named.
    pub fn give(&mut self, topic: &str, alias: u16) {
        let given = self.given.get_or_insert_default();
        given.topic_bytes += topic.len();
        given.by_topic.insert(topic.into(), alias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_topics_get_an_alias_and_keep_it() {
        let mut aliases = Aliases::new(2);
        assert_eq!(aliases.of("a"), Some(Alias::New(1)));
        // Not until it is told.
        assert_eq!(aliases.of("b"), Some(Alias::New(1)));
        aliases.give("a", 1);
        assert_eq!(aliases.of("a"), Some(Alias::Known(1)));
        assert_eq!(aliases.of("b"), Some(Alias::New(2)));
        aliases.give("b", 2);
        assert_eq!(aliases.of("c"), None);
        assert_eq!(aliases.of("b"), Some(Alias::Known(2)));
    }

    #[test]
    fn a_client_that_takes_none_gets_none() {
        assert_eq!(Aliases::default().of("a"), None);
    }

    #[test]
    fn long_topics_do_not_fill_the_memory() {
        let mut aliases = Aliases::new(u16::MAX);
        let long = |n: usize| format!("{n:0>60000}");
        let mut given = 0;
        for n in 0..100 {
            if let Some(Alias::New(alias)) = aliases.of(&long(n)) {
                aliases.give(&long(n), alias);
                given += long(n).len();
            }
        }
        assert!((60_000..=ALIASED_TOPIC_BYTES_MAX).contains(&given));
        // What is short still finds room.
        assert!(aliases.of("a").is_some());
    }
}
