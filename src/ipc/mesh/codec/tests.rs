//! Every record is read as it was written, and no cut one is believed.

use super::*;

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

fn message() -> Message<'static> {
    Message {
        qos: Qos::ExactlyOnce,
        retain: true,
        publisher: ClientNumber(7),
        packet_id: PacketId::new(9),
        releases: Some(Release {
            claim: ClaimSerial(1 << 40),
            will: WillFate::Delayed,
            expiry: Some(u32::MAX),
        }),
        expires_at: Some(Instant(u64::MAX)),
        topic: "a/b",
        properties: &[1, 1],
        payload: b"payload",
    }
}

fn to_store() -> Vec<ToStore<'static>> {
    let claim = ClaimSerial(3);
    let heads = vec![(MemberId::STORE, Incarnation(2), Position(1 << 50))];
    let will = WillRecord {
        qos: Qos::AtLeastOnce,
        retain: true,
        delay_secs: 5,
        topic: "will",
        properties: &[1, 0],
        payload: b"gone",
    };
    vec![
        ToStore::Claim(Claim {
            claim,
            listener: 2,
            client_id: "id",
            clean_start: true,
            is_pointless: true,
            expiry: 9,
            receive_maximum: 20,
            will: Some(will),
        }),
        ToStore::Armed { claim },
        ToStore::Release(Release {
            claim,
            will: WillFate::Done,
            expiry: None,
        }),
        ToStore::Subscribe {
            claim,
            request: 1,
            subscription_id: 2,
            heads: heads.clone(),
            filters: vec![(1, "a/#"), (2, "+")],
        },
        ToStore::Unsubscribe {
            claim,
            request: 4,
            filters: vec!["x", "y"],
        },
        ToStore::RetainedRequest {
            claim,
            request: 5,
            heads,
            filter: "#",
            after: "a/b",
        },
        ToStore::Ack {
            claim,
            packet_id: PacketId::MIN,
            what: AckKind::Pubrec,
            code: 0x80,
        },
        ToStore::Settled {
            claim,
            tokens: vec![ShareToken(1), ShareToken(u64::MAX)],
        },
        ToStore::Unsent {
            claim,
            seen: ShareToken(9),
            tokens: vec![ShareToken(8)],
        },
    ]
}

fn to_worker() -> Vec<ToWorker<'static>> {
    let claim = ClaimSerial(3);
    vec![
        ToWorker::Grant {
            claim,
            client: ClientNumber(8),
            session_present: true,
            stored: false,
            received: vec![1, 65535],
        },
        ToWorker::Refuse {
            claim,
            why: Refusal::GlobalMaxClients,
        },
        ToWorker::Evict {
            claim,
            reason: 0x8e,
        },
        ToWorker::Subscribed {
            claim,
            request: 1,
            existed: vec![true, false],
        },
        ToWorker::Unsubscribed {
            claim,
            request: 1,
            existed: vec![],
        },
        ToWorker::RetainedSlice {
            claim,
            request: 1,
            last: true,
            positions: vec![],
            messages: vec![message(), message()],
        },
        ToWorker::Deliver(Deliver {
            claim,
            packet_id: PacketId::new(4),
            token: Some(ShareToken(1 << 40)),
            dup: true,
            subscription_ids: vec![1, 2],
            message: message(),
        }),
        ToWorker::Pubrel {
            claim,
            packet_id: PacketId::MAX,
        },
        ToWorker::SessionFilters {
            claim,
            filters: vec![(1, 7, "a"), (2, 0, "b/#")],
        },
    ]
}

#[test]
fn every_record_is_read_as_it_was_written() {
    let (mut mesh, mut scratch) = (Last::default(), Vec::new());
    for record in to_store() {
        record.append(&mut mesh, &mut scratch);
        assert_eq!(ToStore::decode(mesh.kind, &mesh.bytes), Ok(record));
    }
    for record in to_worker() {
        record.append(&mut mesh, MemberId::STORE, &mut scratch);
        assert_eq!(ToWorker::decode(mesh.kind, &mesh.bytes), Ok(record));
    }
    message().append(&mut mesh, MemberMask::ALL, &mut scratch);
    assert_eq!(Message::decode(&mesh.bytes), Ok(message()));
    let changes = [
        Announcement {
            class: Class::BOTH,
            filter: AnnouncedFilter::Exact(99),
        },
        Announcement {
            class: Class(0),
            filter: AnnouncedFilter::Wildcard("a/+"),
        },
    ];
    announce(&mut mesh, MemberMask::ALL, &changes, &mut scratch);
    let read: Result<Vec<_>, _> = announcements(&mesh.bytes).collect();
    assert_eq!(read.as_deref(), Ok(&changes[..]));
}

#[test]
fn a_cut_record_is_an_error_and_never_a_panic() {
    let (mut mesh, mut scratch) = (Last::default(), Vec::new());
    for record in to_worker() {
        record.append(&mut mesh, MemberId::STORE, &mut scratch);
        for n in 0..mesh.bytes.len() {
            let _ = ToWorker::decode(mesh.kind, &mesh.bytes[..n]);
        }
    }
    for record in to_store() {
        record.append(&mut mesh, &mut scratch);
        for n in 0..mesh.bytes.len() {
            let _ = ToStore::decode(mesh.kind, &mesh.bytes[..n]);
        }
    }
}
