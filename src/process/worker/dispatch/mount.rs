//! Mount points: what stands before the topics of a listener's clients, who do not see it.

use std::rc::Rc;

use super::ending::Ending;
use super::{ConnId, Worker};
use crate::mqtt::{Filter, Publish, Reason, Subscribe, Topic, Unsubscribe};
use crate::ring::{Cx, Mesh};

/// The prefix of one connection's topics.
#[derive(Clone, Debug)]
pub(super) struct Mount(Rc<str>);

impl Mount {
    /// `None` for a listener without one.
    pub fn new(prefix: Option<&String>) -> Option<Self> {
        prefix.map(|prefix| Self(prefix.as_str().into()))
    }

    /// The topic as everybody else knows it; `None` if that is longer or deeper than a topic may be.
    pub fn topic(&self, topic: Topic<'_>) -> Option<String> {
        let whole = [&self.0, topic.as_str()].concat();
        Topic::new(&whole).is_some().then_some(whole)
    }

    /// The filter as everybody else knows it; of a shared subscription the one behind the group. It may be none:
    /// behind a prefix that does not end with a separator, a wildcard does not fill its level.
    fn filter(&self, filter: Filter<'_>) -> String {
        match filter.shared() {
            Some((group, filter)) => ["$share/", group, "/", &self.0, filter.as_str()].concat(),
            None => [&self.0, filter.as_str()].concat(),
        }
    }

    /// How many bytes of a topic the client does not see. `None` if it is not behind the prefix, or nothing else: its
    /// session may have subscribed to more at another listener.
    pub fn cut(&self, topic: &str) -> Option<usize> {
        let rest = topic.strip_prefix(&*self.0)?;
        (!rest.is_empty()).then_some(self.0.len())
    }
}

impl Worker {
    fn mount_of(&self, id: ConnId) -> Option<Mount> {
        self.conns
            .get(id)
            .and_then(|conn| conn.client.mount.clone())
    }

    /// A PUBLISH whose topic is there, as the client wrote it.
    pub(super) fn on_named_publish<M: Mesh>(
        &mut self,
        id: ConnId,
        publish: &Publish<'_>,
        topic: Topic<'_>,
        cx: &mut Cx<'_, M>,
    ) {
        let Some(mount) = self.mount_of(id) else {
            return self.publish_to(id, publish, topic, cx);
        };
        match mount.topic(topic) {
            Some(whole) => self.publish_to(id, publish, Topic::trusted(&whole), cx),
            None => {
                let ending = Ending::Protocol(Reason::TopicNameInvalid, "topic too long");
                self.close(id, ending, cx);
            }
        }
    }

    pub(super) fn on_subscribe<M: Mesh>(
        &mut self,
        id: ConnId,
        packet: &Subscribe<'_>,
        cx: &mut Cx<'_, M>,
    ) {
        if self.ended_for_depth(id, packet, cx) {
            return;
        }
        let Some(mount) = self.mount_of(id) else {
            return self.subscribe(id, packet, cx);
        };
        let names: Vec<_> = packet
            .filters
            .iter()
            .map(|(f, _)| mount.filter(*f))
            .collect();
        let filters = names.iter().map(|name| Filter::trusted(name));
        let options = packet.filters.iter().map(|(_, options)| *options);
        let mounted = Subscribe {
            filters: filters.zip(options).collect(),
            ..*packet
        };
        self.subscribe(id, &mounted, cx);
    }

    pub(super) fn on_unsubscribe<M: Mesh>(
        &mut self,
        id: ConnId,
        packet: &Unsubscribe<'_>,
        cx: &mut Cx<'_, M>,
    ) {
        let Some(mount) = self.mount_of(id) else {
            return self.unsubscribe(id, packet, cx);
        };
        let names: Vec<_> = packet.filters.iter().map(|f| mount.filter(*f)).collect();
        let mounted = Unsubscribe {
            filters: names.iter().map(|name| Filter::trusted(name)).collect(),
            ..*packet
        };
        self.unsubscribe(id, &mounted, cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(prefix: &str) -> Mount {
        Mount::new(Some(&prefix.to_owned())).unwrap()
    }

    #[test]
    fn the_prefix_goes_before_topics_and_into_shared_filters() {
        let mount = mount("m/");
        let topic = |name: &str| mount.topic(Topic::new(name).unwrap());
        assert_eq!(topic("a/b").as_deref(), Some("m/a/b"));
        assert_eq!(topic(&"x".repeat(65_533)).map(|t| t.len()), Some(65_535));
        assert_eq!(topic(&"x".repeat(65_534)), None);
        for (filter, expected) in [
            ("a/#", "m/a/#"),
            ("#", "m/#"),
            ("$SYS/#", "m/$SYS/#"),
            ("$share/g/a", "$share/g/m/a"),
            ("$share/g/#", "$share/g/m/#"),
        ] {
            assert_eq!(mount.filter(Filter::new(filter).unwrap()), expected);
        }
    }

    #[test]
    fn only_what_is_behind_the_prefix_is_seen() {
        assert_eq!(mount("m/").cut("m/a"), Some(2));
        assert_eq!(mount("m").cut("m/a"), Some(1));
        for elsewhere in ["m", "n/a", "m/", "/m/a"] {
            assert_eq!(mount("m/").cut(elsewhere), None, "{elsewhere}");
        }
    }
}
