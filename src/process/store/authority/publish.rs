//! Messages: retained, and put into the queues of the persistent sessions that they match.

use std::rc::Rc;

use crate::base::ids::ClientNumber;
use crate::base::limits::RETAINED_SWEEP_STEPS_WHEN_FULL;
use crate::base::log::LogType;
use crate::ipc::mesh::Message;
use crate::mqtt::{Qos, Topic};
use crate::queue::Entry;
use crate::ring::{Cx, Mesh};

use super::Store;
use super::message::{Kept, Stock, StoredMessage, Will};
use super::subscribe::Subscription;

/// A session's subscription that matches a message.
pub(super) type Hit = (ClientNumber, Subscription);

impl Store {
    /// A message that a client published.
    pub(super) fn publish<M: Mesh>(&mut self, message: &Message<'_>, cx: &mut Cx<'_, M>) {
        if let Some(packet_id) = message.packet_id {
            let kept = self.directory.get_mut(message.publisher);
            let session = kept.and_then(|c| c.session.as_mut());
            // The client sent it before, and has not heard that it came [MQTT-4.3.3-10].
            if session.is_some_and(|s| !s.received.insert(packet_id.get())) {
                return;
            }
        }
        self.apply(message, cx);
    }

    /// A will that is the store's to publish: to all workers, and to its own sessions.
    pub(super) fn publish_will<M: Mesh>(
        &mut self,
        client: ClientNumber,
        will: &Will,
        cx: &mut Cx<'_, M>,
    ) {
        let message = will.as_message(client, cx.now);
        let everybody = cx.mesh.live();
        if !everybody.is_empty() {
            message.append(cx.mesh, everybody, &mut self.scratch);
        }
        self.apply(&message, cx);
    }

    fn apply<M: Mesh>(&mut self, message: &Message<'_>, cx: &mut Cx<'_, M>) {
        let Some(topic) = Topic::new(message.topic) else {
            return;
        };
        // Made when the first one wants it: most messages of QoS 0 are wanted by nobody here.
        let mut stored = None;
        if message.retain && self.settings.retain_available {
            self.retain(message, &mut stored, cx);
        }
        let is_mine = message.qos != Qos::AtMostOnce || self.settings.outgoing().every_qos;
        if is_mine && !self.index.is_empty() {
            self.route(topic, message, &mut stored, cx);
        }
        // Shared subscriptions take every QoS through the store.
        if !self.groups.is_empty() {
            self.route_shared(topic, message, &mut stored, cx);
        }
    }

    fn retain<M: Mesh>(
        &mut self,
        message: &Message<'_>,
        stored: &mut Option<Rc<StoredMessage>>,
        cx: &mut Cx<'_, M>,
    ) {
        let is_system = is_system(message);
        if message.payload.is_empty() {
            let was_there = self.retained.clear(message.topic).is_some();
            self.retained_system -= usize::from(is_system && was_there);
            return;
        }
        if is_system {
            self.retained_system += usize::from(self.retained.get(message.topic).is_none());
        } else if !self.may_retain(message.topic, cx) {
            return;
        }
        // What the broker says of itself is not said again as long as it is true.
        let forgotten = self.settings.retain_expiry_secs.filter(|_| !is_system);
        let forgotten_at = forgotten.map(|secs| cx.now.after_secs(secs));
        let expiries = [message.expires_at, forgotten_at];
        self.retained_stamp += 1;
        self.retained.set(Kept {
            message: share(stored, message, &self.stock),
            stamp: self.retained_stamp,
            expires_at: expiries.into_iter().flatten().min(),
        });
    }

    /// Whether a message may be retained on this topic: there are not too many, or it has one.
    fn may_retain<M: Mesh>(&mut self, topic: &str, cx: &mut Cx<'_, M>) -> bool {
        let most = self.settings.global_max_retained_messages;
        // What the broker says of itself takes no room from clients.
        let most = most.saturating_add(self.retained_system);
        if self.retained.len() >= most && self.retained.get(topic).is_some() {
            return true;
        }
        if self.retained.len() >= most {
            // Some may only wait to be swept away.
            self.retained.sweep(cx.now, RETAINED_SWEEP_STEPS_WHEN_FULL);
        }
        let has_room = self.retained.len() < most;
        if has_room {
            self.refuses_to_retain = false;
            return true;
        }
        self.counted.retained_dropped += 1;
        if !std::mem::replace(&mut self.refuses_to_retain, true) {
            cx.log.line(
                LogType::Notice,
                format_args!(
                    "Messages on further topics are not being retained: global_max_retained_messages exceeded."
                ),
            );
        }
        false
    }

    /// One copy for each session that matches, with the highest QoS and the identifiers of all its subscriptions.
    fn route<M: Mesh>(
        &mut self,
        topic: Topic<'_>,
        message: &Message<'_>,
        stored: &mut Option<Rc<StoredMessage>>,
        cx: &mut Cx<'_, M>,
    ) {
        let mut hits = std::mem::take(&mut self.hits);
        let upgrade = self.settings.upgrade_outgoing_qos;
        self.index.for_each_match(topic, |client, subscription| {
            let is_own = client == message.publisher;
            if !(is_own && subscription.no_local()) {
                hits.push((client, *subscription));
            }
        });
        hits.sort_unstable_by_key(|(client, subscription)| (*client, subscription.id));
        for of_one in hits.chunk_by(|a, b| a.0 == b.0) {
            let Some((client, _)) = of_one.first() else {
                continue;
            };
            let most = of_one.iter().map(|(_, s)| s.qos()).max();
            let as_published = of_one.iter().any(|(_, s)| s.retain_as_published());
            let entry = Entry {
                message: share(stored, message, &self.stock),
                qos: message.qos.delivered(most.unwrap_or_default(), upgrade),
                retain: message.retain && (as_published || self.is_late(*client, topic, cx.mesh)),
                subscription_ids: subscription_ids(of_one),
                expires_at: message.expires_at,
                bytes: message.payload.len(),
            };
            self.enqueue(*client, entry, cx);
        }
        hits.clear();
        self.hits = hits;
    }
}

impl Store {
    /// Whether this retained message is older than the subscription that it matches: its reader has not been told
    /// of it as retained, so it is told now, with the flag of a retained message.
    fn is_late<M: Mesh>(&mut self, client: ClientNumber, topic: Topic<'_>, mesh: &M) -> bool {
        let (Some(of), Some(kept)) = (self.reading, self.directory.get_mut(client)) else {
            return false;
        };
        let session = kept.session.as_mut();
        // They become ready in order.
        session.is_some_and(|s| {
            let mut unready = s.queue.newest_gaps().take_while(|gap| !gap.is_ready);
            unready.any(|gap| gap.is_late(topic, of, mesh))
        })
    }
}

/// Whether the broker itself says this of itself. (Clients may publish the state of bridges there.)
fn is_system(message: &Message<'_>) -> bool {
    message.publisher == ClientNumber(0) && message.topic.starts_with("$SYS/")
}

pub(super) fn share(
    stored: &mut Option<Rc<StoredMessage>>,
    message: &Message<'_>,
    stock: &Stock,
) -> Rc<StoredMessage> {
    Rc::clone(stored.get_or_insert_with(|| Rc::new(StoredMessage::new(message, stock))))
}

/// The identifiers among these subscriptions; without one, nothing is allocated.
fn subscription_ids(of_one: &[Hit]) -> Option<Rc<[u32]>> {
    let ids = || of_one.iter().map(|(_, s)| s.id).filter(|id| *id > 0);
    ids().next().map(|_| ids().collect())
}
