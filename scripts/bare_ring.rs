//! Measures the rings alone; scripts/bench-ring says what for.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a measurement that panics has measured nothing"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use mosquitto::base::ids::{Incarnation, MemberId, MemberMask};
use mosquitto::ring::{Mesh, SharedMesh, create_cursors, create_doorbell, create_outbox, seal};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const RING: u32 = 1024 * 1024;
const RECORD: &[u8] = &[0x5a; 100];
const MEASURE: Duration = Duration::from_millis(400);

fn main() {
    println!("one thread plays all members in turn; records of 100 bytes, ring of 1 MiB\n");
    println!("readers  batch   append   flush/batch   read/reader   all, a record and reader");
    for readers in [1, 8, 32] {
        for batch in [1, 16, 256] {
            turns(readers, batch);
        }
    }
    println!("\na batch of 16 that is for one other reader: skipping it");
    for readers in [1, 8, 32] {
        skips(readers);
    }
    println!("\nlarge payloads, one reader");
    for bytes in [4096, 64 * 1024, 1024 * 1024, 64 * 1024 * 1024] {
        large(bytes);
    }
    println!("\ntwo threads");
    stream();
    ping_pong(false);
    ping_pong(true);
}

/// So many members that have joined each other.
fn members(count: usize) -> Vec<SharedMesh> {
    let ports: Vec<[OwnedFd; 3]> = (0..count)
        .map(|_| {
            let outbox = create_outbox(RING).unwrap();
            [
                outbox,
                create_cursors().unwrap(),
                create_doorbell().unwrap(),
            ]
        })
        .collect();
    let id = |slot: usize| {
        let incarnation = Incarnation(u32::try_from(slot).unwrap() + 1);
        (MemberId::new(slot).unwrap(), incarnation)
    };
    let copies = |slot: usize| ports[slot].each_ref().map(|fd| fd.try_clone().unwrap());
    let mut meshes: Vec<_> = (0..count)
        .map(|slot| {
            let [outbox, cursors, doorbell] = copies(slot);
            let (member, incarnation) = id(slot);
            SharedMesh::new(member, incarnation, outbox, cursors, doorbell, RING).unwrap()
        })
        .collect();
    for [outbox, cursors, _] in &ports {
        seal(outbox.as_fd()).unwrap();
        seal(cursors.as_fd()).unwrap();
    }
    for (slot, mesh) in meshes.iter_mut().enumerate() {
        for other in (0..count).filter(|other| *other != slot) {
            let [outbox, cursors, doorbell] = copies(other);
            let (member, incarnation) = id(other);
            mesh.add_peer(member, incarnation, outbox, cursors, doorbell, RING)
                .unwrap();
        }
    }
    for mesh in &mut meshes {
        assert!(mesh.joined());
        mesh.flush();
    }
    meshes
}

fn read_all(mesh: &mut SharedMesh, buffer: &mut Vec<u8>) -> u64 {
    let mut records = 0;
    while mesh.next(buffer).is_some() {
        records += 1;
    }
    mesh.flush();
    records
}

fn nanos(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e9 / count as f64
}

/// A time that other processes have not disturbed much: the median of many.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Nanoseconds for each of `count` that one time covers.
    fn nanos(&mut self, count: u64) -> f64 {
        self.0.sort_unstable();
        nanos(self.0[self.0.len() / 2], count)
    }
}

/// A turn of the writer, then a turn of each reader.
fn turns(readers: usize, batch: u64) {
    let mut meshes = members(readers + 1);
    let (writer, others) = meshes.split_first_mut().unwrap();
    let mut buffer = Vec::new();
    let (mut append, mut write, mut read) = (Times::default(), Times::default(), Times::default());
    // Many batches a look at the clock, so that the clock does not count.
    let at_once = (1024 / batch).min(64);
    let start = Instant::now();
    while start.elapsed() < MEASURE {
        // All batches in one flush, to tell one cost from the other.
        for all_in_one in [true, false] {
            let a = Instant::now();
            for _ in 0..at_once {
                for _ in 0..batch {
                    writer.append(MemberMask::ALL, 1, &[&RECORD[..20], &RECORD[20..]]);
                }
                if !all_in_one {
                    writer.flush();
                }
            }
            let spent = a.elapsed();
            writer.flush();
            let a = Instant::now();
            let mut records = 0;
            for reader in &mut *others {
                records += read_all(reader, &mut buffer);
            }
            assert_eq!(records, at_once * batch * readers as u64);
            if all_in_one {
                append.add(spent);
            } else {
                write.add(spent);
                read.add(a.elapsed());
            }
        }
    }
    let append = append.nanos(at_once * batch);
    let write = write.nanos(at_once * batch);
    let read = read.nanos(at_once * batch * readers as u64);
    println!(
        "{readers:7} {batch:6} {append:6.1} ns {:10.1} ns {read:10.1} ns {:12.1} ns",
        (write - append) * batch as f64,
        write / readers as f64 + read,
    );
}

/// Batches that only the first reader wants.
fn skips(readers: usize) {
    let mut meshes = members(readers + 2);
    let (writer, others) = meshes.split_first_mut().unwrap();
    let (first, others) = others.split_first_mut().unwrap();
    let mut buffer = Vec::new();
    let mut skip = Times::default();
    let start = Instant::now();
    while start.elapsed() < MEASURE {
        for _ in 0..64 {
            for _ in 0..16 {
                writer.append(first.me().mask(), 1, &[RECORD]);
            }
            writer.flush();
        }
        assert_eq!(read_all(first, &mut buffer), 64 * 16);
        let a = Instant::now();
        for reader in &mut *others {
            assert_eq!(read_all(reader, &mut buffer), 0);
        }
        skip.add(a.elapsed());
    }
    let nanos = skip.nanos(64 * others.len() as u64);
    println!("{readers:7} readers: {nanos:.1} ns a batch and reader");
}

fn large(bytes: usize) {
    let mut meshes = members(2);
    let (writer, others) = meshes.split_first_mut().unwrap();
    let payload = vec![7; bytes];
    let mut buffer = Vec::new();
    let (mut write, mut read) = (Duration::ZERO, Duration::ZERO);
    let mut records = 0;
    let start = Instant::now();
    while start.elapsed() < MEASURE {
        let a = Instant::now();
        writer.append(MemberMask::ALL, 1, &[&payload]);
        write += a.elapsed();
        let mut got = 0;
        while got == 0 {
            let a = Instant::now();
            writer.flush();
            let b = Instant::now();
            got = read_all(&mut others[0], &mut buffer);
            write += b - a;
            read += b.elapsed();
        }
        records += 1;
    }
    let rate = |time: Duration| bytes as f64 * f64::from(records) / time.as_secs_f64() / 1e9;
    println!(
        "{bytes:9} bytes: in {:5.1} GB/s, out {:5.1} GB/s",
        rate(write),
        rate(read)
    );
}

/// Sleeps until rung, or not at all when there is something to do.
fn sleep(mesh: &mut SharedMesh) -> bool {
    if !mesh.prepare_sleep() {
        return false;
    }
    let mut fds = [PollFd::new(mesh.doorbell(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(1000u16)).unwrap();
    mesh.awake();
    mesh.hush();
    true
}

/// One writes as fast as it can, in turns of 64 records; the other reads.
fn stream() {
    const RECORDS: u64 = 20_000_000;
    let mut meshes = members(2);
    let mut reader = meshes.pop().unwrap();
    let mut writer = meshes.pop().unwrap();
    let start = Instant::now();
    let reading = thread::spawn(move || {
        let mut buffer = Vec::new();
        let (mut records, mut sleeps) = (0, 0);
        while records < RECORDS {
            let now = read_all(&mut reader, &mut buffer);
            records += now;
            if now == 0 && records < RECORDS {
                sleeps += u64::from(sleep(&mut reader));
            }
        }
        sleeps
    });
    let mut sleeps = 0;
    let mut written = 0;
    while written < RECORDS {
        for _ in 0..64 {
            writer.append(MemberMask::ALL, 1, &[RECORD]);
        }
        written += 64;
        writer.flush();
        while writer.overflow_bytes() > 0 {
            sleeps += u64::from(sleep(&mut writer));
            writer.flush();
        }
    }
    let reader_sleeps = reading.join().unwrap();
    let time = start.elapsed();
    println!(
        "stream: {:.1} million records/s, {:.1} ns each; sleeps in {RECORDS} records: writer {sleeps}, reader {reader_sleeps}",
        RECORDS as f64 / time.as_secs_f64() / 1e6,
        nanos(time, RECORDS),
    );
}

/// A record there and a record back, busy or asleep in between.
fn ping_pong(asleep: bool) {
    let rounds = if asleep { 50_000 } else { 200_000 };
    let mut meshes = members(2);
    let echo = meshes.pop().unwrap();
    let mut caller = meshes.pop().unwrap();
    let turn = move |mesh: &mut SharedMesh, buffer: &mut Vec<u8>| {
        while mesh.next(buffer).is_none() {
            if asleep {
                sleep(mesh);
            } else {
                std::hint::spin_loop();
            }
        }
    };
    let echoing = thread::spawn(move || {
        let mut mesh = echo;
        let mut buffer = Vec::new();
        for _ in 0..rounds {
            turn(&mut mesh, &mut buffer);
            mesh.append(MemberMask::ALL, 1, &[&buffer]);
            mesh.flush();
        }
    });
    let mut buffer = Vec::new();
    let start = Instant::now();
    for _ in 0..rounds {
        caller.append(MemberMask::ALL, 1, &[RECORD]);
        caller.flush();
        turn(&mut caller, &mut buffer);
    }
    echoing.join().unwrap();
    println!(
        "round trip, {}: {:.2} us",
        if asleep { "asleep" } else { "busy" },
        nanos(start.elapsed(), rounds) / 1000.0
    );
}
