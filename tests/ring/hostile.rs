//! A member that an attacker has taken over can write anything into its own regions, and nothing elsewhere.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use memmap2::MmapOptions;
use mosquitto::base::ids::{Incarnation, MemberId, MemberMask};
use mosquitto::ring::layout::{CURSORS_BYTES, HEAD_AT, RING_AT, cell_at, outbox_bytes, start_at};
use mosquitto::ring::record::{BatchHeader, FragmentHeader, RecordHeader};
use mosquitto::ring::{Mesh, RingError, SharedMesh, create_cursors};
use proptest::prelude::*;

use crate::members::{Ports, copy, read_all, to};

const RING: u32 = 4096;
const LIAR: Incarnation = Incarnation(1);
const VICTIM: u32 = 2;

/// A victim that reads an outbox with these bytes in its ring, and this head.
fn victim_of(start: u64, head: u32, ring: &[u8]) -> SharedMesh {
    let liar = Ports::new(0, LIAR.0, RING);
    let victim = Ports::new(1, VICTIM, RING);
    // Writes what the owner of an outbox writes first.
    let mesh = SharedMesh::new(
        liar.member,
        LIAR,
        copy(&liar.outbox),
        copy(&liar.cursors),
        copy(&liar.doorbell),
        RING,
    );
    drop(mesh);
    let outbox = File::from(copy(&liar.outbox));
    write_word(&outbox, HEAD_AT, head);
    write_word(&outbox, start_at(1) + 4, start as u32);
    write_word(&outbox, start_at(1) + 8, (start >> 32) as u32);
    write_word(&outbox, start_at(1), VICTIM);
    outbox.write_all_at(ring, RING_AT as u64).unwrap();
    liar.seal();
    let mut mesh = victim.own();
    liar.introduce_to(&mut mesh);
    mesh
}

fn write_word(file: &File, at: usize, word: u32) {
    file.write_all_at(&word.to_ne_bytes(), at as u64).unwrap();
}

fn batch(bytes: u32) -> [u8; 16] {
    BatchHeader {
        bytes,
        to: MemberMask::ALL,
    }
    .encode()
}

fn record(bytes: u32, fragment: bool) -> [u8; 16] {
    RecordHeader {
        bytes,
        kind: 1,
        fragment,
        to: MemberMask::ALL,
    }
    .encode()
}

fn fragment(stream: u32, total: u32, offset: u32) -> [u8; 16] {
    FragmentHeader {
        stream,
        total,
        offset,
    }
    .encode()
}

/// The victim reads no further, goes on living, and says who it was, once.
fn is_reported(mut victim: SharedMesh) -> bool {
    read_all(&mut victim);
    victim.flush();
    let reported = victim.lying() == Some((MemberId::STORE, LIAR));
    assert_eq!(victim.lying(), None);
    if reported {
        assert_eq!(victim.next(&mut Vec::new()), None);
        assert!(victim.prepare_sleep(), "a liar keeps nobody awake");
        victim.awake();
        victim.peer_gone(MemberId::STORE, LIAR);
        assert!(victim.drained(MemberId::STORE));
    }
    reported
}

#[test]
fn an_honest_outbox_is_not_reported() {
    let ring = [batch(48), record(1, false), [7; 16]].concat();
    let mut victim = victim_of(0, 48, &ring);
    assert_eq!(read_all(&mut victim)[0].1, [7]);
    assert!(!is_reported(victim));
}

#[test]
fn a_start_that_is_no_position_is_reported() {
    assert!(is_reported(victim_of(8, 64, &[])));
    assert!(is_reported(victim_of(!15, 64, &[])));
}

#[test]
fn an_impossible_head_is_reported() {
    assert!(is_reported(victim_of(0, RING + 16, &[])));
    assert!(is_reported(victim_of(0, !15, &[])));
    assert!(is_reported(victim_of(0, 40, &[])));
    assert!(is_reported(victim_of(64, 48, &[])));
}

#[test]
fn a_batch_that_is_none_is_reported() {
    assert!(is_reported(victim_of(0, 64, &[0; 64])));
    assert!(is_reported(victim_of(0, 64, &[0xff; 64])));
    assert!(is_reported(victim_of(0, 64, &batch(80))));
    assert!(is_reported(victim_of(0, 64, &record(1, false))));
}

#[test]
fn a_record_that_is_none_is_reported() {
    for lie in [
        batch(16),
        record(33, false),
        record(u32::MAX, false),
        [0; 16],
    ] {
        assert!(is_reported(victim_of(0, 64, &[batch(64), lie].concat())));
    }
}

#[test]
fn fragments_that_make_no_record_are_reported() {
    let first = [record(32, true), fragment(5, 40, 0), [1; 16]].concat();
    let after_first = [
        // Beyond the end; a gap; another total; none at all; a record of 4 GiB.
        [record(48, true), fragment(5, 40, 16), [1; 16], [1; 16]].concat(),
        [record(32, true), fragment(5, 40, 17), [1; 16]].concat(),
        [record(32, true), fragment(5, 41, 16), [1; 16]].concat(),
        [record(16, true), fragment(5, 40, 16)].concat(),
        [record(32, true), fragment(6, u32::MAX, 0), [1; 16]].concat(),
        [record(32, true), fragment(6, 40, 16), [1; 16]].concat(),
        record(8, true).to_vec(),
    ];
    for lie in after_first {
        let bytes = (16 + first.len() + lie.len()) as u32;
        let ring = [&batch(bytes)[..], &first, &lie].concat();
        assert!(is_reported(victim_of(0, bytes, &ring)));
    }
}

#[test]
fn too_many_unfinished_records_are_reported() {
    let mut ring = Vec::new();
    for stream in 0..5 {
        ring.extend([record(32, true), fragment(stream, 40, 0), [1; 16]].concat());
    }
    let bytes = ring.len() as u32 + 16;
    let ring = [&batch(bytes)[..], &ring].concat();
    assert!(is_reported(victim_of(0, bytes, &ring)));
}

#[test]
fn an_outbox_of_somebody_else_is_reported() {
    let liar = Ports::new(0, 1, RING);
    let other = Ports::new(0, 9, RING);
    drop(other.own());
    liar.seal();
    let victim = Ports::new(1, VICTIM, RING);
    for ports in [liar, other] {
        let mut mesh = victim_mesh(&victim);
        mesh.add_peer(
            ports.member,
            LIAR,
            ports.outbox,
            ports.cursors,
            ports.doorbell,
            RING,
        )
        .unwrap();
        assert!(is_reported(mesh));
    }
}

fn victim_mesh(ports: &Ports) -> SharedMesh {
    Ports::new(ports.member.slot(), ports.incarnation.0, RING).own()
}

#[test]
fn an_impossible_cursor_is_reported() {
    for lie in [16, u32::MAX] {
        let liar = Ports::new(0, LIAR.0, RING);
        let victim = Ports::new(1, VICTIM, RING);
        drop(SharedMesh::new(
            liar.member,
            LIAR,
            copy(&liar.outbox),
            copy(&liar.cursors),
            copy(&liar.doorbell),
            RING,
        ));
        let cursors = File::from(copy(&liar.cursors));
        write_word(&cursors, cell_at(1), VICTIM);
        write_word(&cursors, cell_at(1) + 4, lie);
        liar.seal();
        let mut mesh = victim.own();
        liar.introduce_to(&mut mesh);
        while mesh.overflow_bytes() == 0 {
            // Nothing is published, so that no cursor beyond 0 is possible.
            mesh.append(to(&[0]), 1, &[&[0; 64]]);
        }
        let now = mosquitto::base::clock::Instant(1);
        assert_eq!(mesh.stuck(now), None);
        assert_eq!(mesh.lying(), Some((MemberId::STORE, LIAR)), "{lie}");
        assert_eq!(mesh.lying(), None);
    }
}

#[test]
fn the_kernel_refuses_to_map_a_sealed_region_writable() {
    let ports = Ports::new(0, 1, RING);
    let bytes = outbox_bytes(RING);
    let before = MmapOptions::new().len(bytes).map_raw(&ports.outbox);
    assert!(before.is_ok(), "it can be mapped before it is sealed");
    ports.seal();
    for (fd, bytes) in [(&ports.outbox, bytes), (&ports.cursors, CURSORS_BYTES)] {
        let after = MmapOptions::new().len(bytes).map_raw(fd);
        assert_eq!(after.unwrap_err().raw_os_error(), Some(1), "EPERM");
        // Nor by opening it again.
        let path = format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&fd.as_fd())
        );
        if let Ok(again) = File::options().read(true).write(true).open(path) {
            let after = MmapOptions::new().len(bytes).map_raw(&again);
            assert_eq!(after.unwrap_err().raw_os_error(), Some(1), "EPERM");
        }
        let file = File::from(copy(fd));
        assert!(file.write_all_at(b"x", HEAD_AT as u64).is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(1 << 30).is_err());
        use nix::fcntl::{FallocateFlags, fallocate};
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        assert!(fallocate(&file, punch, 0, 4096).is_err());
    }
}

#[test]
fn an_unsealed_or_shorter_region_is_not_mapped() {
    let peer = Ports::new(0, 1, RING);
    let mut mesh = Ports::new(1, 2, RING).own();
    let mut add = |outbox: OwnedFd, cursors: OwnedFd| {
        mesh.add_peer(
            peer.member,
            peer.incarnation,
            outbox,
            cursors,
            copy(&peer.doorbell),
            RING,
        )
    };
    let unsealed = add(copy(&peer.outbox), copy(&peer.cursors));
    assert!(matches!(unsealed, Err(RingError::Region(..))));
    peer.seal();
    let shorter = Ports::new(0, 1, 2048 * 4);
    shorter.seal();
    let wrong_size = add(copy(&shorter.outbox), copy(&peer.cursors));
    assert!(matches!(wrong_size, Err(RingError::Region(..))));
    let unsealed = add(copy(&peer.outbox), create_cursors().unwrap());
    assert!(matches!(unsealed, Err(RingError::Region(..))));
    assert!(add(copy(&peer.outbox), copy(&peer.cursors)).is_ok());
}

/// A ring with a few honest batches, whole records and fragments, for mutation.
fn honest_ring(sizes: &[u16]) -> Vec<u8> {
    let mut ring = Vec::new();
    for (i, size) in sizes.iter().enumerate() {
        let size = u32::from(*size);
        let parts = if i % 3 == 2 {
            vec![
                (fragment(i as u32, size * 2 + 2, 0), size + 1),
                (fragment(i as u32, size * 2 + 2, size + 1), size + 1),
            ]
        } else {
            vec![([0; 16], size)]
        };
        let mut records = Vec::new();
        for (header, size) in parts {
            if i % 3 == 2 {
                records.extend(record(16 + size, true));
                records.extend(header);
            } else {
                records.extend(record(size, false));
            }
            records.resize((records.len() + size as usize).next_multiple_of(16), 0x55);
        }
        ring.extend(batch(16 + records.len() as u32));
        ring.extend(records);
    }
    ring.truncate(RING as usize);
    ring
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn a_mutated_ring_neither_crashes_nor_traps_its_reader(
        sizes in prop::collection::vec(0u16..200, 1..12),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        words in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 0..3),
        start in 0u64..3,
        head_lie in prop::option::weighted(0.1, any::<u32>()),
    ) {
        let mut ring = honest_ring(&sizes);
        for (at, byte) in mutations {
            let at = at.index(ring.len());
            ring[at] ^= byte;
        }
        for (at, word) in words {
            let at = at.index(ring.len() / 16) * 16;
            ring[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        let start = start * u64::from(RING);
        let head = head_lie.unwrap_or((start + ring.len() as u64) as u32);
        let mut victim = victim_of(start, head, &ring);
        let mut records = 0;
        for _ in 0..100 {
            records += read_all(&mut victim).len();
            victim.flush();
        }
        prop_assert!(records <= RING as usize / 16);
        prop_assert!(victim.lying().is_some() || victim.prepare_sleep());
    }
}
