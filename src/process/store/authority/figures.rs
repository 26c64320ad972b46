//! What the store counts, for $SYS and for limits on memory.

use super::Store;
use crate::base::figures::Figures;
use crate::base::log::LogType;
use crate::ring::{Cx, Mesh};

impl Store {
    /// What waits in queues elsewhere, and what all members together hold on their heaps.
    pub fn note_others<M: Mesh>(&mut self, queued_bytes: u64, heap_bytes: u64, cx: &mut Cx<'_, M>) {
        self.queued_elsewhere = queued_bytes;
        // The workers act on it; one process is enough to say so.
        if !self.memory.note(heap_bytes, self.settings.memory_limit) {
            return;
        }
        if self.memory.is_over() {
            cx.log.line(
                LogType::Warning,
                format_args!(
                    "Warning: memory_limit exceeded, new connections and messages are refused."
                ),
            );
        } else {
            cx.log.line(
                LogType::Notice,
                format_args!("Memory is below memory_limit again."),
            );
        }
    }

    /// Payload bytes in the queues of sessions and groups.
    pub(super) fn queued_bytes(&self) -> u64 {
        self.bytes_waiting + self.groups.bytes_waiting()
    }

    /// What was counted, and what there is now.
    pub fn figures(&self) -> Figures {
        let connected = self.directory.connected();
        let (clients, clients_maximum) = self.directory.present();
        let (stored_messages, stored_bytes) = self.stock.count();
        Figures {
            clients_connected: connected as u64,
            clients_disconnected: clients.saturating_sub(connected) as u64,
            clients_maximum: clients_maximum as u64,
            retained: self.retained.len() as u64,
            stored_messages,
            stored_bytes,
            queued_bytes: self.queued_bytes(),
            shared_subscriptions: self.groups.memberships() as u64,
            ..self.counted.clone()
        }
    }
}
