//! The filters of a SUBSCRIBE: what each asks for, how many a client may have, and how deep they may be.

use super::connection::{LocalSubscription, options_byte};
use super::ending::Ending;
use super::{ConnId, Worker};
use crate::base::limits::TOPIC_LEVELS_MAX;
use crate::base::log::LogType;
use crate::config::Config;
use crate::ipc::mesh::Announcement;
use crate::mqtt::property::PropertyId;
use crate::mqtt::{
    Filter, Property, Reason, RetainHandling, Subscribe, SubscriptionOptions, Version,
};
use crate::ring::{Cx, Mesh};

/// What became of the filters of a SUBSCRIBE.
#[derive(Default)]
pub(super) struct Taken<'a> {
    /// The subscription identifier; 0 is none.
    pub identifier: u32,
    pub codes: Vec<u8>,
    /// Whose retained messages are to be asked for.
    pub retained: Vec<(Box<str>, LocalSubscription)>,
    /// What is to be announced.
    pub changes: Vec<Announcement<'a>>,
    /// What the store has to hear, with their options.
    pub for_store: Vec<(u8, &'a str)>,
    pub is_sharing: bool,
}

impl Worker {
    /// Enters the subscriptions that a client may have.
    pub(super) fn take_filters<'a, M: Mesh>(
        &mut self,
        id: ConnId,
        packet: &Subscribe<'a>,
        cx: &mut Cx<'_, M>,
    ) -> Taken<'a> {
        let identifier = match packet.properties.find(PropertyId::SubscriptionIdentifier) {
            Some(Property::SubscriptionIdentifier(identifier)) => identifier,
            _ => 0,
        };
        let Some(conn) = self.conns.get(id) else {
            return Taken::default();
        };
        let (stored, bridge) = (conn.client.stored, conn.client.bridge);
        let qos_max = conn.client.terms.qos_max;
        let mut taken = Taken {
            identifier,
            ..Taken::default()
        };
        for (filter, options) in &packet.filters {
            let options = SubscriptionOptions {
                qos: options.qos.min(qos_max),
                ..asked(*filter, *options, bridge)
            };
            self.log_subscribe(id, filter.as_str(), options, cx);
            if let Some(code) = self.refuse_filter(id, *filter) {
                taken.codes.push(code);
                continue;
            }
            taken.codes.push(options.qos as u8);
            if filter.shared().is_some() {
                // The store runs the groups.
                taken.is_sharing = true;
                taken
                    .for_store
                    .push((options_byte(options), filter.as_str()));
                continue;
            }
            let subscription = LocalSubscription {
                options,
                identifier,
            };
            let is_new = self.subscribe_local(id, *filter, subscription, &mut taken.changes);
            let wants_retained = match options.retain_handling {
                RetainHandling::Send => true,
                RetainHandling::SendIfNew => is_new,
                RetainHandling::DoNotSend => false,
            };
            if stored {
                taken
                    .for_store
                    .push((options_byte(options), filter.as_str()));
            } else if wants_retained && self.config.retain_available {
                taken.retained.push((filter.as_str().into(), subscription));
            }
        }
        taken
    }

    fn log_subscribe<M: Mesh>(
        &self,
        id: ConnId,
        filter: &str,
        options: SubscriptionOptions,
        cx: &mut Cx<'_, M>,
    ) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let (client, qos) = (&conn.client.id, options.qos as u8);
        cx.log
            .line(LogType::Debug, format_args!("\t{filter} (QoS {qos})"));
        cx.log
            .line(LogType::Subscribe, format_args!("{client} {qos} {filter}"));
    }

    /// Whether the store alone keeps this subscription.
    pub(super) fn is_at_store(&self, id: ConnId, filter: Filter<'_>) -> bool {
        let stored = self.conns.get(id).is_some_and(|conn| conn.client.stored);
        filter.shared().is_some() || (stored && self.config.stores_every_qos())
    }

    /// The code for a subscription that the client cannot have: one that is none behind its mount point, or one too
    /// many. One that it has is replaced, whatever the limit.
    fn refuse_filter(&mut self, id: ConnId, filter: Filter<'_>) -> Option<u8> {
        let client = &self.conns.get(id)?.client;
        let (version, name) = (client.version, filter.as_str());
        let most = usize::try_from(client.terms.subscriptions_max).unwrap_or(usize::MAX);
        let is_here = self.local.get(filter, id).is_some();
        let exists = is_here || client.filters_at_store.contains(name);
        let reason = if client.mount.is_some() && Filter::new(name).is_none() {
            Reason::TopicFilterInvalid
        } else if !exists && client.filters.len() + client.filters_at_store.len() >= most {
            Reason::QuotaExceeded
        } else {
            if self.is_at_store(id, filter) {
                self.count_at_store(id, filter);
            }
            return None;
        };
        Some(match version {
            Version::V5 => reason as u8,
            // They have one word for all that cannot be [MQTT-3.9.3-2].
            Version::V31 | Version::V311 => 0x80,
        })
    }

    /// Closes a connection that subscribes to deeper topics than it may. True if it did.
    pub(super) fn ended_for_depth<M: Mesh>(
        &mut self,
        id: ConnId,
        packet: &Subscribe<'_>,
        cx: &mut Cx<'_, M>,
    ) -> bool {
        let is_too_deep = |f: Filter<'_>| {
            let inner = f.shared().map_or(f, |(_, inner)| inner);
            is_too_deep(inner.as_str(), &self.config)
        };
        let is_any = packet.filters.iter().any(|(f, _)| is_too_deep(*f));
        if is_any {
            let (reason, what) = (Reason::TopicFilterInvalid, "too many levels in a filter");
            self.close(id, Ending::Protocol(reason, what), cx);
        }
        is_any
    }

    pub(super) fn count_at_store(&mut self, id: ConnId, filter: Filter<'_>) {
        if let Some(conn) = self.conns.get_mut(id)
            && conn.client.terms.subscriptions_max < u32::MAX
        {
            conn.client.filters_at_store.insert(filter.as_str().into());
        }
    }
}

/// What a subscription asks for. As in the original, a bridge of 3.x says with one bit what 5.0 has options for: nothing
/// of its own comes back, and RETAIN stays as it was published.
fn asked(filter: Filter<'_>, options: SubscriptionOptions, bridge: bool) -> SubscriptionOptions {
    SubscriptionOptions {
        // In a group, what is its own may be for another member.
        no_local: options.no_local || (bridge && filter.shared().is_none()),
        retain_as_published: options.retain_as_published || bridge,
        ..options
    }
}

/// Whether a topic or filter has more levels than are configured.
pub(super) fn is_too_deep(name: &str, config: &Config) -> bool {
    let most = usize::from(config.max_topic_levels);
    // What every topic was checked for already needs no counting.
    most < TOPIC_LEVELS_MAX && name.bytes().filter(|byte| *byte == b'/').count() >= most
}
