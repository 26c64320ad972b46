//! A record of another member, of any kind and with any bytes: nothing panics, and what is understood is the same after
//! it was said again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mosquitto::base::ids::{Incarnation, MemberId, MemberMask, Position, Serial};
use mosquitto::ipc::mesh::{Message, ToStore, ToWorker, announce, announcements, kind};
use mosquitto::ring::Mesh;

fuzz_target!(|data: &[u8]| {
    let Some((&record_kind, bytes)) = data.split_first() else {
        return;
    };
    let (mut last, mut scratch) = (Last::default(), Vec::new());
    if let Ok(message) = Message::decode(bytes) {
        message.append(&mut last, MemberMask::ALL, &mut scratch);
        assert_eq!(last.kind, kind::PUBLISH);
        assert_eq!(Message::decode(&last.bytes), Ok(message));
    }
    if let Ok(said) = ToStore::decode(record_kind, bytes) {
        said.append(&mut last, &mut scratch);
        assert_eq!(ToStore::decode(last.kind, &last.bytes), Ok(said));
    }
    if let Ok(said) = ToWorker::decode(record_kind, bytes) {
        said.append(&mut last, MemberId::STORE, &mut scratch);
        assert_eq!(ToWorker::decode(last.kind, &last.bytes), Ok(said));
    }
    let changes: Vec<_> = announcements(bytes).map_while(Result::ok).collect();
    announce(&mut last, MemberMask::ALL, &changes, &mut scratch);
    let again: Vec<_> = announcements(&last.bytes).collect();
    assert!(again.into_iter().eq(changes.into_iter().map(Ok)));
});

/// A mesh that keeps the last record.
#[derive(Default)]
struct Last {
    kind: u8,
    bytes: Vec<u8>,
}

impl Mesh for Last {
    fn me(&self) -> MemberId {
        MemberId::STORE
    }
    fn live(&self) -> MemberMask {
        MemberMask::NONE
    }
    fn append(&mut self, _: MemberMask, kind: u8, parts: &[&[u8]]) -> Serial {
        self.kind = kind;
        self.bytes = parts.concat();
        Serial(1)
    }
    fn covered(&self) -> Serial {
        Serial(1)
    }
    fn overflow_bytes(&self) -> usize {
        0
    }
    fn head(&self) -> Position {
        Position(0)
    }
    fn passed(&self, _: MemberMask) -> Position {
        Position(0)
    }
    fn wake_when_passed(&mut self, _: Position) {}
    fn applied(&self, _: MemberId) -> Option<(Incarnation, Position)> {
        None
    }
    fn published(&self, _: MemberId) -> Option<(Incarnation, Position)> {
        None
    }
    fn everyone_applied(&mut self, _: MemberId, _: Incarnation, _: Position) -> bool {
        true
    }
}
