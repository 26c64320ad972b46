//! The filters of connections that are over. A client may have had a million: they leave the index a few at a time, and
//! meanwhile find nobody.

use std::collections::hash_set;

use super::connection::Connection;
use super::{ConnId, Worker};
use crate::base::limits::{FILTERS_CLEARED_PER_TURN, FILTERS_LEFT_PER_TURN};
use crate::ipc::mesh::Class;
use crate::mqtt::Filter;
use crate::ring::{Cx, Mesh};
use crate::router::index::FilterId;
use crate::router::interest::Announced;

/// A connection whose filters are still in the index.
pub(super) struct Leaving {
    conn: ConnId,
    class: Class,
    filters: hash_set::IntoIter<FilterId>,
}

impl Worker {
    /// The connection finds nothing any more.
    pub(super) fn unsubscribe_all(&mut self, id: ConnId, conn: &mut Connection) {
        let filters = std::mem::take(&mut conn.client.filters);
        if filters.is_empty() {
            return;
        }
        if !conn.client.stored {
            self.counted.subscriptions -= filters.len() as u64;
        }
        self.leaving.push_back(Leaving {
            conn: id,
            class: self.class_of(conn.client.stored),
            filters: filters.into_iter(),
        });
    }

    /// Takes out as many filters as one turn allows, while the outbox has room for saying so; and clears away filters
    /// of members that are gone.
    pub(super) fn take_leave<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        self.foreign.clear(FILTERS_CLEARED_PER_TURN);
        let mut steps = FILTERS_LEFT_PER_TURN;
        while steps > 0 && cx.mesh.overflow_bytes() == 0 {
            let Some(mut leaving) = self.leaving.pop_front() else {
                return;
            };
            steps = self.leave_some(&mut leaving, steps, cx);
            if leaving.filters.len() > 0 {
                self.leaving.push_front(leaving);
            }
        }
    }

    /// Whether [`Worker::take_leave`] has something to do at once.
    pub(super) fn is_leaving<M: Mesh>(&self, cx: &Cx<'_, M>) -> bool {
        self.foreign.has_unwanted() || (!self.leaving.is_empty() && cx.mesh.overflow_bytes() == 0)
    }

    /// The filters of one connection, up to one record full; returns the steps that are left.
    fn leave_some<M: Mesh>(
        &mut self,
        leaving: &mut Leaving,
        steps: usize,
        cx: &mut Cx<'_, M>,
    ) -> usize {
        let some = steps.min(FILTERS_AT_ONCE);
        let mut text = String::new();
        let mut unwanted: Vec<Announced> = Vec::new();
        for id in leaving.filters.by_ref().take(some) {
            let known = self.local.text(id, &mut text);
            if known && self.local.remove_from(id, leaving.conn).is_some() {
                let filter = (id, Filter::trusted(&text));
                let change = self.interest.remove(filter, leaving.class);
                unwanted.extend(change.map(|change| Announced::from(&change)));
            }
        }
        let changes: Vec<_> = unwanted.iter().map(Announced::announcement).collect();
        self.announce(&changes, cx);
        steps - some
    }
}

/// Filters in one record.
const FILTERS_AT_ONCE: usize = 500;
