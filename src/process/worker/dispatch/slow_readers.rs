//! What waits for clients that do not read, all together. One of them alone is bounded by `max_output_bytes`; this is
//! for thousands.

use super::ending::Ending;
use super::{ConnId, Worker};
use crate::base::limits::{OUTPUT_FREED_SHARE, OUTPUT_MEMORY_SHARE};
use crate::ring::{Cx, Mesh};

/// What the worker shares with others.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// How many workers there are, this one included.
    pub workers: u64,
    /// Memory in bytes; `None` if the system does not say.
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// All that there is, for one worker.
    pub const UNKNOWN: Self = Self {
        workers: 1,
        memory_bytes: None,
    };

    /// This worker's part of what is allowed for all of them.
    pub fn part_of(self, all: u64) -> u64 {
        all.div_ceil(self.workers.max(1))
    }
}

impl Worker {
    /// Shares this machine from now on.
    pub fn set_machine(&mut self, machine: Machine) {
        self.machine = machine;
    }

    /// Bytes that may wait for this worker's clients; `None` is no limit.
    fn output_bytes_max(&self) -> Option<u64> {
        let all = match self.config.global_max_output_bytes {
            Some(0) => return None,
            Some(bytes) => bytes,
            None => self.machine.memory_bytes? / OUTPUT_MEMORY_SHARE,
        };
        Some(self.machine.part_of(all))
    }

    /// Disconnects those for whom most waits, if too much waits for all.
    pub(super) fn end_slow_readers<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        let Some(most) = self.output_bytes_max() else {
            return;
        };
        let waiting = self.counted.packet_bytes_waiting;
        if waiting <= most {
            return;
        }
        let conns = self.conns.iter();
        let mut slow: Vec<(u64, ConnId)> = conns
            .map(|(id, conn)| (conn.noted_waiting.1, id))
            .filter(|(bytes, _)| *bytes > 0)
            .collect();
        slow.sort_unstable();
        let enough = most - most / OUTPUT_FREED_SHARE;
        while self.counted.packet_bytes_waiting > enough
            && let Some((bytes, id)) = slow.pop()
        {
            self.close(id, Ending::TooSlow(bytes), cx);
        }
    }
}
