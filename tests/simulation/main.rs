//! The mesh in one process: routing, takeover, wills and durability against the promises, from seeds.
//!
//! `SEEDS=N` runs N seeds, `SEED=X` starts at X (and with `SEEDS=1` replays one). Without SEED the start moves with
//! the time, and is printed.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

mod book;
mod client;
mod mesh;
mod scripted;
mod world;

use mosquitto::base::ids::MemberId;
use mosquitto::config::Config;
use mosquitto::mqtt::{Qos, Version};

use client::Client;
use world::{DieAt, World};

const QOS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
const FILTERS: [&str; 8] = ["a/0", "a/1", "a/2", "a/+", "a/#", "will/#", "+/1", "r/+"];

/// One history. `faults`: members are killed and connections cut.
fn history(seed: u64) -> Result<(), String> {
    let workers = 1 + (seed % 4) as usize;
    let faults = seed % 5;
    let mut config = Config::default_local();
    config.max_inflight_messages = [20, 2][(seed / 7 % 2) as usize];
    config.max_queued_messages = 100_000;
    let mut world = World::new(seed, workers, config);
    for at in 0..3 + world.random.below(6) {
        let version = [Version::V311, Version::V5, Version::V31][world.random.below(3)];
        world.client(version, at % 2 == 0);
    }
    world.settle()?;
    let steps = 400 + world.random.below(1200);
    for _ in 0..steps {
        world.step += 1;
        world.now.0 += world.random.next() % 500_000;
        match world.random.below(10) {
            0..=5 => {
                let slot = MemberId::new(world.random.below(workers + 1)).unwrap();
                let most = 1 + world.random.below(8);
                world.turn(slot, most, None);
            }
            6..=7 => {
                let client = world.random.below(world.clients.len());
                world.client_reads(client)?;
            }
            8 => act(&mut world),
            _ if faults > 0 && world.random.one_in(8) => fault(&mut world, faults),
            _ => {}
        }
    }
    finish(&mut world)
}

/// Everybody comes back, everything arrives, then the book is checked.
fn finish(world: &mut World) -> Result<(), String> {
    for _ in 0..3 {
        world.settle()?;
        for client in 0..world.clients.len() {
            if world.clients[client].persistent && world.clients[client].link == client::Link::Down
            {
                let slot = MemberId::new(1 + world.random.below(world.workers)).unwrap();
                world.connect(client, slot, None);
            }
        }
    }
    world.settle()?;
    world.book.check()
}

/// A client does something.
fn act(world: &mut World) {
    let client = world.random.below(world.clients.len());
    if !world.is_up(client) {
        if world.clients[client].link == client::Link::Down {
            let slot = MemberId::new(1 + world.random.below(world.workers)).unwrap();
            let will = world.random.one_in(2).then(|| {
                let topic = format!("will/{client}");
                (
                    Client::note(
                        &mut world.book,
                        client,
                        topic,
                        Qos::AtLeastOnce,
                        false,
                        world.step,
                        true,
                    ),
                    0,
                )
            });
            world.connect(client, slot, will);
        }
        return;
    }
    match world.random.below(12) {
        0..=2 => {
            let filter = FILTERS[world.random.below(FILTERS.len())];
            let qos = QOS[world.random.below(3)];
            world.subscribe(client, filter, qos);
        }
        3 => {
            let filter = FILTERS[world.random.below(FILTERS.len())];
            world.unsubscribe(client, filter);
        }
        4 if world.random.one_in(3) => {
            let bytes = world.clients[client].disconnect(&mut world.book);
            world.send(client, &bytes);
            world.close(client, true);
        }
        _ => {
            for _ in 0..1 + world.random.below(4) {
                let (topic, retain) = match world.random.below(5) {
                    0 => (format!("r/{client}"), true),
                    n => (format!("a/{}", n % 3), false),
                };
                let qos = QOS[world.random.below(3)];
                if world.clients[client].has_room() {
                    world.publish(client, &topic, qos, retain);
                }
            }
        }
    }
}

/// Something dies. 1: connections; 2: workers too; 3: takeovers too; 4: the store too.
fn fault(world: &mut World, faults: u64) {
    match world.random.below(4) {
        0 | 1 => {
            let client = world.random.below(world.clients.len());
            world.close(client, false);
        }
        2 if faults >= 2 => {
            let slot = MemberId::new(1 + world.random.below(world.workers)).unwrap();
            let at = [
                DieAt::AfterReading,
                DieAt::BeforeFlush,
                DieAt::AfterFlush,
                DieAt::AfterSockets,
            ];
            let at = at[world.random.below(4)];
            if world.is_alive(slot) {
                world.turn(slot, 4, Some(at));
            }
        }
        3 if faults >= 3 => {
            // The same client id again, while the old connection still stands.
            let client = world.random.below(world.clients.len());
            if world.is_up(client) {
                world.abandon(client);
                let slot = MemberId::new(1 + world.random.below(world.workers)).unwrap();
                world.connect(client, slot, None);
            }
        }
        _ if faults >= 4 && world.random.one_in(4) => world.kill(MemberId::STORE),
        _ => {}
    }
}

#[test]
fn seeds_keep_the_promises() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seeds = number("SEEDS").unwrap_or(300);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let start = number("SEED").unwrap_or_else(|| now.map_or(0, |d| d.as_secs()) * 1_000_000);
    println!("seeds {start} to {}", start + seeds - 1);
    for seed in start..start + seeds {
        let result = std::panic::catch_unwind(|| history(seed));
        let trouble = match result {
            Ok(Ok(())) => continue,
            Ok(Err(trouble)) => trouble,
            Err(_) => "panicked".to_owned(),
        };
        panic!(
            "seed {seed}: {trouble}\nreplay: SEED={seed} SEEDS=1 cargo test --test simulation seeds"
        );
    }
}
