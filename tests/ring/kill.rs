//! Two processes over one pair of rings, of which one is killed at any point, many times. Both write and read as
//! fast as they can. The survivor never sees a torn record, gets all that the dead one had covered, and goes on with
//! the next incarnation.
//!
//! `RING_KILLS` is the number of deaths.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use mosquitto::base::ids::{Incarnation, MemberId, MemberMask};
use mosquitto::base::limits::OVERFLOW_BYTES_PAUSE;
use mosquitto::ring::{MemberPage, Mesh, Received, SharedMesh};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::members::{Ports, copy};

const RING: u32 = 16 * 1024;
const SURVIVOR: (usize, u32) = (0, 1);
const MORTAL_SLOT: usize = 1;
const CHILD: &str = "RING_TEST_CHILD";
/// Nobody sleeps for so long, unless a wake-up was lost.
const LOST: Duration = Duration::from_secs(60);

/// Numbers that look random, from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x14057b7ef767814f);
        (self.0 >> 33) % n
    }
}

/// Appends records that can be told from torn ones.
struct Writer {
    dice: Dice,
    sequence: u64,
    buffer: Vec<u8>,
}

impl Writer {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            sequence: 0,
            buffer: Vec::new(),
        }
    }

    /// Up to 20 records, as long as the ring does not overflow too much.
    fn write(&mut self, mesh: &mut SharedMesh) {
        for _ in 0..self.dice.below(20) {
            if mesh.overflow_bytes() > OVERFLOW_BYTES_PAUSE {
                return;
            }
            let len = match self.dice.below(50) {
                0 => 2000 + self.dice.below(30_000),
                n if n < 5 => self.dice.below(3000),
                _ => self.dice.below(200),
            };
            let filler = self.dice.below(256) as u8;
            self.buffer.clear();
            self.buffer.extend(self.sequence.to_le_bytes());
            for i in 0..len {
                self.buffer.push(filler.wrapping_add(i as u8));
            }
            let sum = checksum(&self.buffer);
            mesh.append(MemberMask::ALL, 1, &[&self.buffer, &sum.to_le_bytes()]);
            self.sequence += 1;
        }
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Reads all that there is; `read` counts the records.
fn read(mesh: &mut SharedMesh, buffer: &mut Vec<u8>, read: &mut u64) -> Option<Received> {
    let mut last = None;
    while let Some(received) = mesh.next(buffer) {
        let (bytes, sum) = buffer.split_last_chunk::<8>().expect("a checksum");
        assert_eq!(checksum(bytes), u64::from_le_bytes(*sum), "a torn record");
        let sequence = bytes.first_chunk::<8>().expect("a sequence number");
        assert_eq!(u64::from_le_bytes(*sequence), *read, "one lost or doubled");
        *read += 1;
        last = Some(received);
    }
    last
}

/// Waits for the doorbell. False when it is too late.
fn wait(mesh: &mut SharedMesh, at_most: Duration) -> bool {
    if !mesh.prepare_sleep() {
        return true;
    }
    let rung = {
        let mut fds = [PollFd::new(mesh.doorbell(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(at_most).unwrap();
        poll(&mut fds, timeout).unwrap() > 0
    };
    mesh.awake();
    mesh.hush();
    rung
}

/// The life of the mortal process.
#[test]
fn child_of_the_kill_test() {
    let Ok(arguments) = std::env::var(CHILD) else {
        return;
    };
    let arguments: Vec<u64> = arguments.split(' ').map(|n| n.parse().unwrap()).collect();
    let [
        parent,
        seed,
        incarnation,
        own_outbox,
        own_cursors,
        outbox,
        cursors,
    ] = arguments[..]
    else {
        panic!("arguments");
    };
    let open = |fd: u64, write: bool| -> OwnedFd {
        let path = format!("/proc/{parent}/fd/{fd}");
        let file = File::options().read(true).write(write).open(path);
        file.unwrap().into()
    };
    // Standard input and standard error are the doorbells.
    let mut mesh = SharedMesh::new(
        MemberId::new(MORTAL_SLOT).unwrap(),
        Incarnation(u32::try_from(incarnation).unwrap()),
        open(own_outbox, true),
        open(own_cursors, true),
        std::io::stdin().as_fd().try_clone_to_owned().unwrap(),
        RING,
    )
    .unwrap();
    mesh.add_peer(
        MemberId::new(SURVIVOR.0).unwrap(),
        Incarnation(SURVIVOR.1),
        open(outbox, false),
        open(cursors, false),
        std::io::stderr().as_fd().try_clone_to_owned().unwrap(),
        RING,
    )
    .unwrap();
    println!("\nmapped");
    std::io::stdout().flush().unwrap();

    let mut writer = Writer::new(seed);
    let (mut buffer, mut records, mut covered) = (Vec::new(), 0, 0);
    loop {
        read(&mut mesh, &mut buffer, &mut records);
        writer.write(&mut mesh);
        mesh.flush();
        while covered < mesh.covered().0 {
            mesh.beat();
            covered += 1;
        }
        assert_eq!(mesh.lying(), None);
        if mesh.overflow_bytes() > OVERFLOW_BYTES_PAUSE {
            assert!(wait(&mut mesh, LOST), "a lost wake-up");
        }
    }
}

struct Mortal {
    process: Child,
    output: BufReader<ChildStdout>,
    ports: Ports,
}

fn start_mortal(survivor: &Ports, incarnation: u32, seed: u64) -> Mortal {
    let ports = Ports::new(MORTAL_SLOT, incarnation, RING);
    let arguments = [
        u64::from(std::process::id()),
        seed,
        u64::from(incarnation),
        ports.outbox.as_raw_fd() as u64,
        ports.cursors.as_raw_fd() as u64,
        survivor.outbox.as_raw_fd() as u64,
        survivor.cursors.as_raw_fd() as u64,
    ]
    .map(|n| n.to_string())
    .join(" ");
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child_of_the_kill_test", "--nocapture"])
        .env(CHILD, arguments)
        .stdin(copy(&ports.doorbell))
        .stdout(Stdio::piped())
        .stderr(copy(&survivor.doorbell))
        .spawn()
        .unwrap();
    let mut output = BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    while line != "mapped\n" {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "it did not start");
    }
    ports.seal();
    Mortal {
        process,
        output,
        ports,
    }
}

impl Mortal {
    /// Kills it, unless it has found something wrong before.
    fn kill(&mut self) {
        self.process.kill().unwrap();
        let status = self.process.wait().unwrap();
        if status.code().is_some() {
            let mut said = String::new();
            self.output.read_to_string(&mut said).unwrap();
            panic!("{status}: {said}");
        }
    }
}

#[test]
fn a_death_at_any_point_costs_the_survivor_nothing() {
    let deaths = std::env::var("RING_KILLS").map_or(60, |n| n.parse().unwrap());
    let seed = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .subsec_nanos();
    println!("seed {seed}");
    let mut dice = Dice(u64::from(seed));
    let survivor = Ports::new(SURVIVOR.0, SURVIVOR.1, RING);
    let mut mesh = survivor.own();
    let mut buffer = Vec::new();
    let mut total = 0;
    for death in 0..deaths {
        let incarnation = SURVIVOR.1 + 1 + death;
        let mut mortal = start_mortal(&survivor, incarnation, dice.below(u64::MAX));
        mortal.ports.introduce_to(&mut mesh);
        let mut writer = Writer::new(dice.below(1 << 40));
        let dies_at = Instant::now() + Duration::from_micros(dice.below(8000));
        let mut records = 0;
        while Instant::now() < dies_at {
            read(&mut mesh, &mut buffer, &mut records);
            writer.write(&mut mesh);
            mesh.flush();
            assert_eq!(mesh.lying(), None);
            if mesh.overflow_bytes() > OVERFLOW_BYTES_PAUSE {
                wait(&mut mesh, dies_at.saturating_duration_since(Instant::now()));
            }
        }
        mortal.kill();
        let member = mortal.ports.member;
        mesh.peer_gone(member, mortal.ports.incarnation);
        assert!(mesh.live().is_empty());
        mesh.flush();
        assert_eq!(mesh.overflow_bytes(), 0, "nobody is left to wait for");
        while !mesh.drained(member) {
            read(&mut mesh, &mut buffer, &mut records);
            mesh.flush();
        }
        let covered = MemberPage::map(mortal.ports.cursors.as_fd())
            .unwrap()
            .beats();
        // Nothing is owed before the survivor was told of it: it starts where the mortal counted it.
        assert!(records >= u64::from(covered), "{records} of {covered}");
        mesh.remove_peer(member, mortal.ports.incarnation);
        total += records;
    }
    println!("{deaths} deaths, {total} records of the dead");
    assert!(total > u64::from(deaths), "they hardly lived");
}
