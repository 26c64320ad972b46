//! Other members: their records, their coming and going, and the exchange of indexes.

use super::live::Spot;
use super::{ConnId, Worker};
use crate::base::ids::{ClientNumber, Incarnation, MemberId};
use crate::base::limits::{INDEX_SLICE_BYTES, INDEX_SLICES_PER_TURN, ORPHANED_WILLS_MAX};
use crate::base::log::LogType;
use crate::ipc::mesh::{Message, ToWorker, announce, announcements, kind};
use crate::mqtt::{Ack, Properties, Topic};
use crate::ring::{Cx, Mesh};
use crate::router::interest::Announced;

/// A member that is being told this worker's index, slice by slice.
pub(super) struct IndexJob {
    member: MemberId,
    /// Where in the index to go on.
    next: u32,
}

impl Worker {
    /// A record of another member.
    pub fn record<M: Mesh>(
        &mut self,
        from: MemberId,
        _incarnation: Incarnation,
        record_kind: u8,
        bytes: &[u8],
        cx: &mut Cx<'_, M>,
    ) {
        match record_kind {
            kind::PUBLISH => match Message::decode(bytes) {
                Ok(message) if Topic::new(message.topic).is_some() => {
                    // What the store publishes is no newer than its answers, which come the same way.
                    let spot = cx.mesh.applied(from).filter(|_| from != MemberId::STORE);
                    let spot = spot.map(|(incarnation, at)| Spot {
                        member: from,
                        incarnation,
                        at: at.0,
                    });
                    self.fan_out_local(&message, spot, cx);
                }
                _ => self.bad_record(from, "publish", cx),
            },
            kind::ANNOUNCE => {
                for change in announcements(bytes) {
                    match change {
                        Ok(change) if self.foreign.apply(from, &change) => {}
                        _ => self.bad_record(from, "announcement", cx),
                    }
                }
            }
            kind::INDEX_END => self.index_ended(from, cx),
            kind::RETAINED_SLICE if from == MemberId::STORE => self.on_retained_slice(bytes, cx),
            _ if from == MemberId::STORE => match ToWorker::decode(record_kind, bytes) {
                Ok(record) => self.store_says(record, cx),
                Err(e) => self.bad_record(from, e.what, cx),
            },
            _ => self.bad_record(from, "only the store may say this", cx),
        }
    }

    fn store_says<M: Mesh>(&mut self, record: ToWorker<'_>, cx: &mut Cx<'_, M>) {
        match record {
            ToWorker::Grant {
                claim,
                client,
                session_present,
                stored,
                received,
            } => {
                self.on_grant(claim, client, (session_present, stored), &received, cx);
            }
            ToWorker::Refuse { claim, why } => self.on_refuse(claim, why, cx),
            ToWorker::Evict { claim, reason } => self.evict(ConnId::of(claim), reason),
            ToWorker::Subscribed { claim, request, .. } => self.on_subscribed(claim, request, cx),
            ToWorker::Unsubscribed {
                claim,
                request,
                existed,
            } => self.on_unsubscribed(claim, request, &existed, cx),
            ToWorker::Deliver(deliver) => self.on_deliver(deliver, cx),
            ToWorker::Pubrel { claim, packet_id } => {
                if let Some(id) = self.connected(claim) {
                    self.send_pubrel(
                        id,
                        Ack {
                            packet_id,
                            code: 0,
                            properties: Properties::NONE,
                        },
                        cx,
                    );
                }
            }
            ToWorker::SessionFilters { claim, filters } => {
                self.on_session_filters(claim, &filters, cx)
            }
            // Taken before it is decoded: it may have to wait as it is.
            ToWorker::RetainedSlice { .. } => {}
        }
    }

    /// A sibling that speaks nonsense is not believed, and does no harm; said a few times, not for ever.
    pub(super) fn bad_record<M: Mesh>(&mut self, from: MemberId, what: &str, cx: &mut Cx<'_, M>) {
        self.bad_records += 1;
        if self.bad_records <= BAD_RECORDS_LOGGED {
            cx.log.line(
                LogType::Error,
                format_args!("Error: {from} sent a bad record: {what}."),
            );
        }
    }

    /// `member` reads this worker's outbox from now on, and this worker reads its.
    pub fn member_joined<M: Mesh>(
        &mut self,
        member: MemberId,
        _incarnation: Incarnation,
        cx: &mut Cx<'_, M>,
    ) {
        self.joining = self.joining.with(member);
        if member != MemberId::STORE {
            self.index_jobs.push_back(IndexJob { member, next: 0 });
            return;
        }
        self.store_up = true;
        for will in std::mem::take(&mut self.orphaned_wills) {
            self.publish_will(&will, ClientNumber(0), None, cx);
        }
        // Those that sent their CONNECT while there was no store.
        let ids: Vec<ConnId> = self.conns.keys().collect();
        for id in ids {
            self.consume_partial(id, cx);
        }
    }

    /// `member` is dead; its outbox is still to be drained.
    pub fn member_gone<M: Mesh>(
        &mut self,
        member: MemberId,
        _incarnation: Incarnation,
        cx: &mut Cx<'_, M>,
    ) {
        self.index_jobs.retain(|job| job.member != member);
        if member == MemberId::STORE {
            self.start_over(cx);
            self.orphaned_wills.truncate(ORPHANED_WILLS_MAX);
        }
    }

    /// All that a dead member ever said has been applied.
    pub fn member_drained<M: Mesh>(
        &mut self,
        member: MemberId,
        _incarnation: Incarnation,
        _cx: &mut Cx<'_, M>,
    ) {
        self.foreign.forget(member);
        self.joining = self.joining.without(member);
    }

    /// Every member has drained it. For a worker that changes nothing.
    pub fn member_removed<M: Mesh>(&mut self, _: MemberId, _: Incarnation, _: &mut Cx<'_, M>) {}

    /// A member has said all that it wants.
    fn index_ended<M: Mesh>(&mut self, from: MemberId, cx: &mut Cx<'_, M>) {
        let was_joining = !self.joining.is_empty();
        self.joining = self.joining.without(from);
        if was_joining && self.joining.is_empty() {
            let (me, filters) = (self.me, self.foreign.len());
            cx.log.line(
                LogType::Debug,
                format_args!("Now {me} knows what every other member wants: {filters} filters."),
            );
        }
    }

    /// Tells members that joined what this worker wants, as much as one turn allows and the outbox has room for.
    pub(super) fn send_index<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        let mut text = String::new();
        for _ in 0..INDEX_SLICES_PER_TURN {
            let Some(job) = self
                .index_jobs
                .front_mut()
                .filter(|_| cx.mesh.overflow_bytes() == 0)
            else {
                return;
            };
            let to = job.member.mask();
            let mut bytes = 0;
            let mut slice: Vec<Announced> = Vec::new();
            let mut is_last = true;
            for id in self.local.numbers(job.next) {
                if bytes >= INDEX_SLICE_BYTES {
                    is_last = false;
                    break;
                }
                job.next = id.after();
                let entry = self.interest.announced(id, &self.local, &mut text);
                // A number that nobody has costs a look, too.
                bytes += entry.as_ref().map_or(1, Announced::bytes);
                slice.extend(entry);
            }
            let changes: Vec<_> = slice.iter().map(Announced::announcement).collect();
            if !changes.is_empty() {
                self.last = announce(cx.mesh, to, &changes, &mut self.scratch);
                self.last_announcement = self.last;
            }
            if is_last {
                self.last = cx.mesh.append(to, kind::INDEX_END, &[]);
                self.index_jobs.pop_front();
            }
        }
    }
}

/// Bad records that are logged in one life of a worker.
const BAD_RECORDS_LOGGED: u64 = 10;
