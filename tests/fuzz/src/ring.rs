//! An outbox whose owner writes what it likes: its reader ends, hands out no more than was published, and stops at the
//! first thing that cannot be meant.

#![no_main]

use std::cell::Cell;
use std::sync::atomic::Ordering;

use libfuzzer_sys::fuzz_target;
use mosquitto::base::ids::{Incarnation, MemberId};
use mosquitto::ring::layout::{
    HEAD_AT, INCARNATION_AT, MAGIC_AT, OUTBOX_MAGIC, RING_AT, RING_BYTES_AT, start_at,
};
use mosquitto::ring::memory::View;
use mosquitto::ring::record::HEADER_BYTES;
use mosquitto::ring::{Inbox, Step};

const RING: u32 = 4096;
const WRITER: Incarnation = Incarnation(7);
const READER: Incarnation = Incarnation(9);

/// The owner's memory: what a real one says of itself, and a ring of the fuzzer's bytes.
struct Outbox {
    slot: usize,
    start: u64,
    head: Cell<u32>,
    ring: Vec<u8>,
}

impl View for Outbox {
    fn load(&self, at: usize, _: Ordering) -> u32 {
        let start = start_at(self.slot);
        let (low, high) = (self.start as u32, (self.start >> 32) as u32);
        match at {
            MAGIC_AT => OUTBOX_MAGIC,
            INCARNATION_AT => WRITER.0,
            RING_BYTES_AT => RING,
            HEAD_AT => self.head.get(),
            _ if at == start => READER.0,
            _ if at == start + 4 => low,
            _ if at == start + 8 => high,
            _ => 0,
        }
    }

    fn header(&self, at: usize) -> [u8; HEADER_BYTES] {
        let at = at - RING_AT;
        self.ring[at..at + HEADER_BYTES].try_into().unwrap()
    }

    fn copy_out(&self, at: usize, len: usize, out: &mut Vec<u8>) {
        let at = at - RING_AT;
        out.extend_from_slice(&self.ring[at..at + len]);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&[start, first, then], bytes)) = data.split_first_chunk::<3>() else {
        return;
    };
    let me = MemberId::new(1).unwrap();
    // Anywhere in a lap, the end of the ring and of 32 bits included.
    let start = u64::from(start) * 16 + (u64::from(u32::MAX) + 1 - 2048);
    let offset = start as usize % RING as usize;
    let mut ring = vec![0; RING as usize];
    for (at, byte) in bytes.iter().take(RING as usize).enumerate() {
        ring[(offset + at) % RING as usize] = *byte;
    }
    let head = |steps: u8| (start as u32).wrapping_add(u32::from(steps) * 16);
    let outbox = Outbox {
        slot: me.slot(),
        start,
        head: Cell::new(head(first)),
        ring,
    };
    let mut inbox = Inbox::new(outbox, me, WRITER, RING);
    inbox.join(READER);
    let published = u64::from(first) * 16;
    let read = read(&mut inbox, start);
    assert!(read - start <= published);
    assert!(inbox.is_broken() || read - start == published);
    // The head moves, forward as it should or back as it may not.
    inbox.view().head.set(head(then));
    let again = self::read(&mut inbox, read);
    assert!(again == read || again - start <= u64::from(then) * 16);
    assert!(first <= then || inbox.is_broken());
});

/// Reads until nothing comes; returns how far.
fn read(inbox: &mut Inbox<Outbox>, start: u64) -> u64 {
    let (mut at, mut out) = (start, Vec::new());
    loop {
        let mut budget = RING as usize;
        match inbox.next(&mut out, &mut budget) {
            Step::Record { end, .. } => {
                assert!(end > at && out.len() <= (end - start) as usize + RING as usize);
                at = end;
            }
            Step::Spent => assert!(!inbox.is_broken()),
            Step::Empty => return inbox.read(),
        }
    }
}
