//! What the store counts, for $SYS and for limits on memory.

use super::Store;
use crate::base::figures::Figures;
use crate::base::ids::ClientNumber;

impl Store {
    /// What was counted, and what there is now.
    pub fn figures(&self) -> Figures {
        let (stored_messages, stored_bytes) = self.stock.count();
        Figures {
            clients_connected: self.directory.holders() as u64,
            retained: self.retained.len() as u64,
            stored_messages,
            stored_bytes,
            ..self.counted.clone()
        }
    }

    /// This client has got or lost a connection, or a session.
    pub(super) fn recount(&mut self, client: ClientNumber) {
        let Some((holder, kept)) = self.directory.held_mut(client) else {
            return;
        };
        let counts = holder.is_none() && kept.session.is_some();
        let counted = std::mem::replace(&mut kept.is_counted, counts);
        let disconnected = &mut self.counted.clients_disconnected;
        *disconnected = *disconnected + u64::from(counts) - u64::from(counted);
        let clients = *disconnected + self.directory.holders() as u64;
        let maximum = &mut self.counted.clients_maximum;
        *maximum = clients.max(*maximum);
    }
}
