//! The mesh in one process: routing, takeover, wills and durability against the promises, from seeds and by script.
//!
//! `SEEDS=N` runs N seeds, `SEED=X` starts at X (and with `SEEDS=1` replays one; `TRACE=1` tells all that happens).
//! Without SEED the start moves with the time, and is printed. `THREADS=N` shares the seeds out; each seed is its own
//! world, so that is no part of its history.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

mod book;
mod client;
mod expiry;
mod groups;
mod history;
mod limits;
mod mesh;
mod oracle;
mod quiet;
mod scripted;
mod trace;
mod turn;
mod world;

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Seeds in a run that says nothing else: about half a minute, not optimised.
const SEEDS: u64 = 1200;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value}: not a number")),
    )
}

#[test]
fn seeds_keep_the_promises() {
    let seeds = number("SEEDS").unwrap_or(SEEDS);
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let start = number("SEED").unwrap_or_else(|| since.map_or(0, |d| d.as_secs()) * 1_000_000);
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let threads = number("THREADS").unwrap_or(cores).clamp(1, seeds.max(1));
    // Past the test harness, which would keep it to itself unless the test fails.
    let last = start + seeds.saturating_sub(1);
    writeln!(std::io::stdout(), "seeds {start} to {last}").unwrap();
    let next = AtomicU64::new(start);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.lock().unwrap().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= start + seeds {
                        return;
                    }
                    if let Err(trouble) = try_seed(seed) {
                        failed.lock().unwrap().get_or_insert((seed, trouble));
                    }
                }
            });
        }
    });
    if let Some((seed, trouble)) = failed.into_inner().unwrap() {
        panic!(
            "seed {seed}: {trouble}\n\
             replay: TRACE=1 SEED={seed} SEEDS=1 cargo test --test simulation seeds -- --nocapture"
        );
    }
}

fn try_seed(seed: u64) -> Result<(), String> {
    let result = std::panic::catch_unwind(|| history::history(seed));
    result.unwrap_or_else(|_| Err("panicked".to_owned()))
}
