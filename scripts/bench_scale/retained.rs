//! A million retained messages for a new subscriber of `#`, while others go on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::Args;
use crate::probe::{Probe, report};
use crate::server::{Server, Which};
use crate::wire::{Client, publish};

const PAYLOAD: usize = 64;
/// Retained messages that change meanwhile: between two of them.
const UPDATE_EVERY: Duration = Duration::from_millis(1);

pub fn run(args: &Args) -> bool {
    println!(
        "retained: {} messages of {PAYLOAD} bytes to a new subscriber of #, one of them changing each millisecond",
        args.count
    );
    println!(
        "latencies of others are median / p99 / worst, in ms; stale is older than what came before on its topic\n"
    );
    let mut fine = true;
    for which in [
        Which::Original,
        Which::Ours { workers: 1 },
        Which::Ours { workers: 2 },
    ] {
        let server = Server::start(which, &args.ours, &["error"]);
        fill(&server, args.count);
        let others = probes(&server);
        sleep(Duration::from_secs(3));
        println!(
            "  {:<16} nobody subscribes:    {}",
            which.name(),
            report(others)
        );
        for (nth, (kind, clean, qos)) in [
            ("transient, QoS 0", true, 0),
            ("persistent, QoS 0", false, 0),
            ("transient, QoS 1", true, 1),
            ("persistent, QoS 1", false, 1),
        ]
        .into_iter()
        .enumerate()
        {
            let others = probes(&server);
            let found = subscriber(&server, args.count, (nth, clean, qos));
            fine &= found.stale == 0 && found.missing == 0;
            println!(
                "  {:<16} {kind:<20}  {:.2} s, {:.0} k msg/s, {} missing, {} stale, {} live; {}",
                which.name(),
                found.seconds,
                args.count as f64 / found.seconds / 1e3,
                found.missing,
                found.stale,
                found.live,
                report(others)
            );
        }
    }
    println!();
    fine || !args.check
}

fn topic(n: usize) -> String {
    format!(
        "site/{}/floor/{}/dev/{n}/temperature",
        n / 1000,
        n / 100 % 10
    )
}

/// The version of a topic's value stands in front.
fn payload(n: usize, version: u32) -> [u8; PAYLOAD] {
    let mut payload = [b'.'; PAYLOAD];
    payload[..4].copy_from_slice(&u32::try_from(n).unwrap().to_be_bytes());
    payload[4..8].copy_from_slice(&version.to_be_bytes());
    payload
}

fn fill(server: &Server, count: usize) {
    let mut client = Client::connect(server.port, "fills", true);
    let mut bytes = Vec::new();
    for n in 0..count {
        let qos = u8::from(n % 500 == 499 || n + 1 == count);
        bytes.extend(publish(&topic(n), &payload(n, 0), qos, true));
        if qos > 0 {
            client.send(&bytes);
            bytes.clear();
            client.wait_for(4);
        }
    }
    let last = topic(count - 1);
    let mut reader = Client::connect(server.port, "reads", true);
    reader.subscribe([last.as_str()], 0);
    reader.wait_for(3);
}

fn probes(server: &Server) -> Vec<Probe> {
    let connect = |n: usize| Client::connect(server.port, &format!("probe-{n}"), true);
    // So many that each worker has some, most likely.
    let mut probes: Vec<_> = (0..4).map(|n| Probe::ping(connect(n))).collect();
    probes.extend((0..4).map(|n| Probe::live(connect(10 + n), connect(20 + n), n)));
    let store = Client::connect(server.port, "asks-the-store", false);
    probes.push(Probe::store(store));
    probes
}

struct Found {
    seconds: f64,
    missing: usize,
    stale: usize,
    live: usize,
}

fn subscriber(server: &Server, count: usize, (nth, clean, qos): (usize, bool, u8)) -> Found {
    let stop = Arc::new(AtomicBool::new(false));
    let updates = update(server, count, nth, Arc::clone(&stop));
    let mut client = Client::connect(server.port, &format!("subscriber-{nth}"), clean);
    let mut newest: HashMap<u32, u32> = HashMap::with_capacity(count);
    let (mut stale, mut live, mut retained) = (0, 0, 0);
    let mut acks = Vec::new();
    let began = Instant::now();
    client.ask_for("#", qos);
    let mut seconds = None;
    // Until every topic has come, and for a moment after that: what comes late may be stale.
    while seconds.is_none_or(|s| began.elapsed().as_secs_f64() < s + 0.5) {
        let packet = client.next();
        if packet.kind() != 3 {
            continue;
        }
        let is_retained = packet.is_retained();
        let (_, id, payload) = packet.publish();
        if payload.len() != PAYLOAD {
            continue;
        }
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        let (n, version) = (word(0), word(4));
        if id > 0 {
            acks.extend_from_slice(&[0x40, 2]);
            acks.extend_from_slice(&id.to_be_bytes());
        }
        let known = newest.entry(n).or_insert(version);
        stale += usize::from(version < *known);
        *known = version.max(*known);
        live += usize::from(!is_retained);
        retained += usize::from(is_retained);
        if !client.has_more() && !acks.is_empty() {
            client.send(&acks);
            acks.clear();
        }
        if seconds.is_none() && newest.len() == count {
            seconds = Some(began.elapsed().as_secs_f64());
        }
    }
    assert!(retained <= count, "{retained} of {count} retained messages");
    stop.store(true, Ordering::Relaxed);
    updates.join().unwrap();
    let missing = count - newest.len();
    Found {
        seconds: seconds.unwrap_or(0.0),
        missing,
        stale,
        live,
    }
}

/// Goes on changing retained messages, each in its turn, all over.
fn update(
    server: &Server,
    count: usize,
    nth: usize,
    stop: Arc<AtomicBool>,
) -> thread::JoinHandle<()> {
    let mut client = Client::connect(server.port, &format!("updates-{nth}"), true);
    thread::spawn(move || {
        let mut turn = nth * 100_000_000;
        while !stop.load(Ordering::Relaxed) {
            turn += 1;
            let n = turn.wrapping_mul(7919) % count;
            let version = u32::try_from(turn).unwrap();
            client.send(&publish(&topic(n), &payload(n, version), 0, true));
            sleep(UPDATE_EVERY);
        }
    })
}
