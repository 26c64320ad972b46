//! The mesh of the simulation: outboxes as lists, cursors as numbers, every visibility step taken on purpose.
//!
//! A position is a count of records. What a writer has appended is seen by nobody until its flush; what it had not
//! flushed is gone when it dies.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use mosquitto::base::ids::{Incarnation, MemberId, MemberMask, Position, Serial};
use mosquitto::ring::Mesh;

pub type Life = (MemberId, Incarnation);

/// One record.
#[derive(Clone, Debug)]
pub struct Record {
    pub to: MemberMask,
    pub kind: u8,
    pub bytes: Vec<u8>,
}

/// The outbox of one life of a member.
#[derive(Debug, Default)]
pub struct Outbox {
    /// All that was appended and not forgotten; the first `written` are in the ring, the rest in the overflow list.
    pub records: Vec<Record>,
    pub written: u64,
    /// Published.
    pub head: u64,
    /// Who reads it, from where on.
    pub readers: BTreeMap<MemberId, (Incarnation, u64)>,
}

/// All outboxes and all published cursors.
#[derive(Debug, Default)]
pub struct Net {
    pub outboxes: BTreeMap<Life, Outbox>,
    /// (reader, writer) -> applied, as published.
    pub cursors: BTreeMap<(Life, Life), u64>,
    /// Records that an outbox holds before it overflows.
    pub capacity: u64,
}

impl Net {
    /// The cursor of a reader as the writer sees it.
    fn cursor(&self, reader: Life, writer: Life) -> Option<u64> {
        let outbox = self.outboxes.get(&writer)?;
        let (incarnation, start) = outbox.readers.get(&reader.0)?;
        if *incarnation != reader.1 {
            return None;
        }
        Some(
            self.cursors
                .get(&(reader, writer))
                .copied()
                .unwrap_or(*start),
        )
    }

    fn slowest(&self, writer: Life, by: MemberMask) -> Option<u64> {
        let outbox = self.outboxes.get(&writer)?;
        let readers = outbox.readers.iter().filter(|(m, _)| by.contains(**m));
        readers
            .filter_map(|(m, (i, _))| self.cursor((*m, *i), writer))
            .min()
    }

    /// Moves what fits from the overflow list into the ring.
    fn fill(&mut self, writer: Life) {
        let oldest = self.slowest(writer, MemberMask::ALL);
        let capacity = self.capacity;
        let Some(outbox) = self.outboxes.get_mut(&writer) else {
            return;
        };
        let most = oldest.map_or(u64::MAX, |c| c + capacity);
        outbox.written = outbox.written.max(most.min(outbox.records.len() as u64));
    }

    pub fn flush(&mut self, writer: Life, applied: impl Iterator<Item = (Life, u64)>) {
        self.fill(writer);
        if let Some(outbox) = self.outboxes.get_mut(&writer) {
            outbox.head = outbox.written;
        }
        for (of, at) in applied {
            self.cursors.insert((writer, of), at);
        }
    }

    /// A reader died: what is not in the ring yet is not for the next one in its slot.
    pub fn forget_reader(&mut self, writer: Life, reader: Life) {
        if let Some(outbox) = self.outboxes.get_mut(&writer) {
            outbox.readers.remove(&reader.0);
            let written = outbox.written as usize;
            for record in &mut outbox.records[written..] {
                record.to = record.to.without(reader.0);
            }
        }
    }

    /// The owner died: what it had not published never was.
    pub fn cut(&mut self, life: Life) {
        if let Some(outbox) = self.outboxes.get_mut(&life) {
            outbox.written = outbox.head;
            outbox.records.truncate(outbox.head as usize);
        }
    }
}

/// The mesh as one member sees it.
pub struct SimMesh<'a> {
    pub net: &'a Rc<RefCell<Net>>,
    pub me: Life,
    /// How far this member has applied each outbox, published or not.
    pub applied: &'a BTreeMap<MemberId, (Incarnation, u64)>,
}

impl Mesh for SimMesh<'_> {
    fn me(&self) -> MemberId {
        self.me.0
    }

    fn live(&self) -> MemberMask {
        let net = self.net.borrow();
        net.outboxes[&self.me]
            .readers
            .keys()
            .fold(MemberMask::NONE, |all, m| all.with(*m))
    }

    fn append(&mut self, to: MemberMask, kind: u8, parts: &[&[u8]]) -> Serial {
        let to = to.intersection(self.live());
        let mut net = self.net.borrow_mut();
        let outbox = net.outboxes.get_mut(&self.me).unwrap();
        outbox.records.push(Record {
            to,
            kind,
            bytes: parts.concat(),
        });
        let serial = Serial(outbox.records.len() as u64);
        net.fill(self.me);
        serial
    }

    fn covered(&self) -> Serial {
        Serial(self.net.borrow().outboxes[&self.me].written)
    }

    fn overflow_bytes(&self) -> usize {
        let net = self.net.borrow();
        let outbox = &net.outboxes[&self.me];
        // Small, so that back-pressure is met often.
        (outbox.records.len() - outbox.written as usize) * 64 * 1024
    }

    fn head(&self) -> Position {
        Position(self.net.borrow().outboxes[&self.me].written)
    }

    fn passed(&self, by: MemberMask) -> Position {
        let head = self.head();
        self.net
            .borrow()
            .slowest(self.me, by)
            .map_or(head, Position)
    }

    fn wake_when_passed(&mut self, _: Position) {}

    fn applied(&self, of: MemberId) -> Option<(Incarnation, Position)> {
        self.applied.get(&of).map(|(i, at)| (*i, Position(*at)))
    }

    fn published(&self, of: MemberId) -> Option<(Incarnation, Position)> {
        let (incarnation, _) = self.applied.get(&of)?;
        let net = self.net.borrow();
        net.outboxes
            .get(&(of, *incarnation))
            .map(|o| (*incarnation, Position(o.head)))
    }

    fn everyone_applied(
        &mut self,
        of: MemberId,
        incarnation: Incarnation,
        position: Position,
    ) -> bool {
        let net = self.net.borrow();
        let Some(outbox) = net.outboxes.get(&(of, incarnation)) else {
            return true;
        };
        outbox.readers.iter().all(|(m, (i, start))| {
            let at = if *m == self.me.0 {
                self.applied
                    .get(&of)
                    .filter(|(i, _)| *i == incarnation)
                    .map_or(*start, |(_, at)| *at)
            } else {
                net.cursor((*m, *i), (of, incarnation)).unwrap_or(u64::MAX)
            };
            at >= position.0
        })
    }
}
