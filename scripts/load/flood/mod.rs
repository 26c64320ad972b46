//! Hostile load: random and mutated packets on many connections, while decent clients go on talking.
//!
//! Each connection sends a script that depends on the seed and its number alone. Half of them begin with a valid
//! CONNECT and valid packets; then, and in the other half at once, come packets that are mutated, random or not
//! allowed, and an end of one kind or another; whole or in pieces, [`PACKETS_PER_CONNECTION`] packets at most. The
//! broker may close a connection at any point of it. What it may not do is die, hang on one of them, or disturb the
//! three pairs of decent clients (QoS 0, 1 and 2), whose messages are checked one by one; those connections are never
//! closed by a broker that works.

mod random;
mod script;

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mosquitto::mqtt::{Qos, Version};

use crate::Failure;
use crate::args::Args;
use crate::broker::Broker;
use crate::idle::raise_descriptor_limit;
use crate::json::Object;
use crate::poll::{Poll, Ready};
use crate::traffic::{self, Plan, Report, Shape, nonce, seconds};
use crate::wire::{Got, READ_BYTES, Wire, source_address};

use random::Random;
use script::{End, Script};

/// Packets of one connection at most.
pub const PACKETS_PER_CONNECTION: usize = 60;
/// Messages per second of each decent pair.
const DECENT_RATE: f64 = 200.0;
/// Longer than any run; it ends when the flood does.
const DECENT_TIME: Duration = Duration::from_secs(24 * 3600);

pub fn main(args: &mut Args) -> Result<(), Failure> {
    let target = args.target()?;
    let packets: u64 = args.take("packets", 100_000)?;
    let seed: u64 = args.take("seed", u64::from(nonce()))?;
    let skip: u64 = args.take("skip", 0)?;
    let concurrency: usize = args.take("concurrency", 128)?;
    let stall = seconds(args, "stall", 10.0)?;
    let broker = args.take_option("broker-pid")?.map(Broker::new);
    args.finish()?;
    raise_descriptor_limit(concurrency as u64 + 64)?;

    eprintln!("flood: {packets} packets to {target}, --seed {seed} --skip {skip}");
    let pids = broker.map(Broker::living);
    let decent = Decent::start(target, stall);
    let mut flood = Flood::new(target, seed, skip, packets, concurrency, stall)?;
    let began = Instant::now();
    let flooded = flood.run(&decent);
    let took = began.elapsed();
    let reports = decent.finish();
    let dead = deaths(broker, pids);
    flood.print(took, &reports, &dead);
    // Every one of them is told; the last becomes the outcome.
    let mut outcome = flooded;
    for report in reports {
        if let Err(worse) = report.and_then(|r| r.verdict()) {
            if let Err(Failure::Broker(what)) = outcome {
                eprintln!("flood: {what}");
            }
            outcome = Err(worse);
        }
    }
    outcome?;
    if !dead.is_empty() {
        return Err(Failure::Broker(format!(
            "processes of the broker died: {dead:?}"
        )));
    }
    Ok(())
}

/// Processes of the broker that lived before and do not now.
fn deaths(broker: Option<Broker>, before: Option<Vec<u32>>) -> Vec<u32> {
    let after = broker.map(Broker::living).unwrap_or_default();
    before
        .unwrap_or_default()
        .into_iter()
        .filter(|pid| !after.contains(pid))
        .collect()
}

/// The pairs that must not notice anything.
struct Decent {
    stop: Arc<AtomicBool>,
    pairs: Vec<JoinHandle<Result<Report, Failure>>>,
}

impl Decent {
    fn start(target: SocketAddrV4, stall: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let pair = |(salt, qos)| {
            let plan = Plan {
                target,
                shape: Shape::Pairs,
                publishers: 1,
                subscribers: 1,
                qos,
                version: Version::V311,
                window: 1000,
                payload_bytes: 64,
                rate: DECENT_RATE,
                warmup: Duration::ZERO,
                measure: DECENT_TIME,
                nap_max: Duration::ZERO,
                stall,
                broker: None,
                nonce: nonce().wrapping_add(salt),
            };
            let stop = stop.clone();
            std::thread::spawn(move || traffic::run(&plan, &stop))
        };
        let pairs = (0..)
            .zip([Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce])
            .map(pair)
            .collect();
        Self { stop, pairs }
    }

    /// A pair ends by itself only when something is wrong.
    fn has_failed(&self) -> bool {
        self.pairs.iter().any(JoinHandle::is_finished)
    }

    fn finish(self) -> Vec<Result<Report, Failure>> {
        self.stop.store(true, Ordering::Relaxed);
        let join = |pair: JoinHandle<_>| {
            pair.join()
                .unwrap_or_else(|_| Err(Failure::Local("a decent pair has panicked".into())))
        };
        self.pairs.into_iter().map(join).collect()
    }
}

struct Flood {
    target: SocketAddrV4,
    seed: u64,
    /// Number of the next connection, and of the first.
    next: u64,
    first: u64,
    packets: u64,
    sent: u64,
    bytes: u64,
    stall: Duration,
    poll: Poll,
    attackers: Vec<Option<Attacker>>,
    buffer: Vec<u8>,
}

struct Attacker {
    number: u64,
    wire: Wire,
    script: Script,
    began: Instant,
    half_closed: bool,
}

impl Flood {
    fn new(
        target: SocketAddrV4,
        seed: u64,
        skip: u64,
        packets: u64,
        concurrency: usize,
        stall: Duration,
    ) -> Result<Self, Failure> {
        Ok(Self {
            target,
            seed,
            next: skip,
            first: skip,
            packets,
            sent: 0,
            bytes: 0,
            stall,
            poll: Poll::new()?,
            attackers: (0..concurrency.max(1)).map(|_| None).collect(),
            buffer: vec![0; READ_BYTES],
        })
    }

    fn run(&mut self, decent: &Decent) -> Result<(), Failure> {
        let mut ready = Vec::new();
        loop {
            if decent.has_failed() {
                return Err(Failure::Broker(format!(
                    "a decent client was disturbed; {}",
                    self.whereabouts()
                )));
            }
            for slot in 0..self.attackers.len() {
                if self.sent < self.packets && matches!(self.attackers.get(slot), Some(None)) {
                    self.begin(slot)?;
                }
            }
            if self.attackers.iter().all(Option::is_none) {
                return Ok(());
            }
            self.poll.wait(1, &mut ready)?;
            for Ready {
                token,
                readable,
                ended,
                ..
            } in &ready
            {
                self.read(*token, *readable, *ended);
            }
            for slot in 0..self.attackers.len() {
                self.advance(slot)?;
            }
        }
    }

    fn begin(&mut self, slot: usize) -> Result<(), Failure> {
        let number = self.next;
        self.next += 1;
        let mut random = Random::new(self.seed, number);
        let script = Script::new(&mut random);
        self.sent += script.packets;
        self.bytes += script.len() as u64;
        let wire = Wire::connect(
            self.target,
            Some(source_address(random.next())),
            Version::V311,
        )?;
        self.poll.add(wire.fd(), slot)?;
        if let Some(place) = self.attackers.get_mut(slot) {
            *place = Some(Attacker {
                number,
                wire,
                script,
                began: Instant::now(),
                half_closed: false,
            });
        }
        Ok(())
    }

    /// Takes what the broker says; its end is ours too.
    fn read(&mut self, slot: usize, readable: bool, ended: bool) {
        let Some(place) = self.attackers.get_mut(slot) else {
            return;
        };
        let Some(attacker) = place else { return };
        if !readable || attacker.script.end == End::Deaf {
            return;
        }
        while let got @ (Got::More | Got::End) = attacker.wire.discard(&mut self.buffer, ended) {
            if got == Got::End {
                *place = None;
                return;
            }
        }
    }

    /// Sends the next piece once the last one is gone, and ends when none is left.
    fn advance(&mut self, slot: usize) -> Result<(), Failure> {
        let Some(place) = self.attackers.get_mut(slot) else {
            return Ok(());
        };
        let Some(attacker) = place else { return Ok(()) };
        if attacker.began.elapsed() > self.stall {
            let number = attacker.number;
            return Err(Failure::Broker(format!(
                "connection {number} is neither served nor closed (--skip {number} begins with it); {}",
                self.whereabouts()
            )));
        }
        if attacker.wire.is_flushed() {
            attacker.script.next_piece(&mut attacker.wire.out);
        }
        if attacker.wire.flush().is_err() {
            *place = None;
            return Ok(());
        }
        if attacker.wire.is_flushed() && attacker.script.is_over() && !attacker.half_closed {
            match attacker.script.end {
                End::HalfClose => {
                    attacker.wire.finish_writing();
                    attacker.half_closed = true;
                }
                End::Close => *place = None,
                End::Reset | End::Deaf => {
                    if let Some(attacker) = place.take() {
                        attacker.wire.reset();
                    }
                }
            }
        }
        Ok(())
    }

    fn whereabouts(&self) -> String {
        let open = self
            .attackers
            .iter()
            .flatten()
            .map(|a| a.number)
            .min()
            .unwrap_or(self.next);
        format!(
            "seed {}, connections {open} to {} were open",
            self.seed, self.next
        )
    }

    fn print(&self, took: Duration, reports: &[Result<Report, Failure>], dead: &[u32]) {
        let delivered = |r: &Result<Report, Failure>| r.as_ref().map_or(0, |r| r.delivered);
        let slowest = reports
            .iter()
            .flatten()
            .filter_map(|r| r.latency.micros(1.0))
            .fold(0.0, f64::max);
        Object::new()
            .number("seed", self.seed)
            .number("first", self.first)
            .number("connections", self.next - self.first)
            .number("packets", self.sent)
            .number("bytes", self.bytes)
            .number("seconds", format_args!("{:.1}", took.as_secs_f64()))
            .number(
                "decent_delivered",
                reports.iter().map(delivered).sum::<u64>(),
            )
            .number("decent_max_us", slowest)
            .number("deaths", dead.len())
            .print();
    }
}
