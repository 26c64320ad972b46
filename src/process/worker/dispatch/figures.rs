//! What a worker counts, for $SYS and for limits on memory.

use super::{ConnId, Connection, Worker};
use crate::base::figures::Figures;

impl Worker {
    /// What was counted.
    pub fn figures(&self) -> Figures {
        Figures {
            queued_bytes: self.backlog.bytes(),
            ..self.counted.clone()
        }
    }

    /// What all members together hold on their heaps, and what waits in queues elsewhere.
    pub fn note_others(&mut self, heap_bytes: u64, queued_bytes: u64) {
        self.memory.note(heap_bytes, self.config.memory_limit);
        self.backlog.elsewhere = queued_bytes;
    }

    /// A connection whose output had `before` bytes was written to.
    pub fn note_written(&mut self, id: ConnId, before: usize) {
        let conn = self.conns.get_mut(id);
        if let Some(conn) = conn.filter(|conn| !conn.from.is_internal()) {
            let left = conn.output.len();
            self.counted.bytes_sent += before.saturating_sub(left) as u64;
            // Where packets end is not remembered: those that are left are taken to be of average size.
            conn.packets_waiting = match left {
                0 => 0,
                left => share(conn.packets_waiting, left, before).max(1),
            };
            note_waiting(&mut self.counted, conn, (conn.packets_waiting, left as u64));
        }
    }

    /// A connection is over: nothing waits for it any more.
    pub(super) fn note_over(&mut self, conn: &mut Connection) {
        self.counted.sockets -= 1;
        self.counted.bytes_sent += conn.output.len() as u64;
        note_waiting(&mut self.counted, conn, (0, 0));
    }
}

fn note_waiting(counted: &mut Figures, conn: &mut Connection, now: (u64, u64)) {
    let (packets, bytes) = std::mem::replace(&mut conn.noted_waiting, now);
    counted.packets_waiting = counted.packets_waiting + now.0 - packets;
    counted.packet_bytes_waiting = counted.packet_bytes_waiting + now.1 - bytes;
}

/// `left` parts in `of` of `packets`.
fn share(packets: u64, left: usize, of: usize) -> u64 {
    let left = u128::from(packets) * left as u128;
    u64::try_from(left.div_ceil(of.max(1) as u128)).unwrap_or(packets)
}
