//! The load generator: drives a broker, measures it, and checks every message that comes back.
//!
//! ```text
//! cargo run --release --example load -- traffic --port 1999 --shape pairs --pairs 10 --qos 1
//! cargo run --release --example load -- connect --port 1999
//! cargo run --release --example load -- idle    --port 1999 --connections 10000
//! cargo run --release --example load -- flood   --port 1999 --packets 100000
//! ```
//! `traffic` moves messages between publishers and subscribers in a closed loop (as fast as the broker can, never
//! more than a window in flight) or at a fixed rate; `connect` counts whole connections; `idle` holds connections
//! and weighs the broker; `flood` sends packets that no decent client sends. `scripts/bench` runs the first three
//! against two brokers and compares them; `scripts/flood` runs the last.
//!
//! The result is one JSON object on one line of the standard output. The exit status is 0 when all is as it must be,
//! 1 when the broker lost, repeated, reordered or invented something or stopped answering, 2 for a usage error.
//!
//! One thread and one epoll set, edge-triggered. Per turn at most one write per connection, however many packets
//! wait for it, and reads of 64 KiB, so that the generator costs much less than any broker; its own CPU is reported
//! so that this can be checked. All loops are bounded in time and count.

mod args;
mod broker;
mod connect;
mod flood;
mod histogram;
mod idle;
mod json;
mod packets;
mod poll;
mod publisher;
mod subscriber;
mod traffic;
mod wire;

use std::process::ExitCode;

use args::Args;

const USAGE: &str = "usage: load MODE --port PORT [--OPTION VALUE]...

traffic  --shape pairs|fan-out|fan-in (pairs)   --publishers N (10)   --subscribers N (10)   --qos 0|1|2 (0)
         --window N (100 at QoS 0, 20 otherwise)   --payload BYTES (64)   --version 4|5 (4)
         --rate DELIVERIES-PER-SECOND (0: as fast as it goes)   --nap MICROSECONDS (500)
         --warmup S (0.5)   --seconds S (3)   --stall S (10)
connect  --concurrency N (64)   --warmup S (0.5)   --seconds S (3)   --stall S (10)
idle     --connections N (10000)   --concurrency N (256)   --seconds S (2)   --stall S (10)
flood    --packets N (100000)   --seed N (from the clock)   --skip CONNECTIONS (0)   --concurrency N (128)   --stall S (10)

all      --broker-pid PID   measures the CPU and memory of PID and all its descendants (flood: watches their deaths)
The address is 127.0.0.1.";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let mode = words.next().unwrap_or_default();
    let outcome = Args::parse(words).and_then(|mut args| match mode.as_str() {
        "traffic" => traffic::main(&mut args),
        "connect" => connect::main(&mut args),
        "idle" => idle::main(&mut args),
        "flood" => flood::main(&mut args),
        _ => Err(Failure::Usage(format!("unknown mode \"{mode}\""))),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(what)) => {
            eprintln!("load: {what}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Err(Failure::Broker(what)) => {
            eprintln!("load: FAILED: {what}");
            ExitCode::from(1)
        }
        Err(Failure::Local(what)) => {
            eprintln!("load: {what}");
            ExitCode::from(2)
        }
    }
}

/// Why a run ends badly: who is to blame.
#[derive(Debug)]
pub enum Failure {
    /// The command line.
    Usage(String),
    /// The broker: it closed, stalled, lost or repeated.
    Broker(String),
    /// This machine: descriptors, epoll, `/proc`.
    Local(String),
}

impl From<nix::Error> for Failure {
    fn from(e: nix::Error) -> Self {
        Self::Local(e.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Self::Local(e.to_string())
    }
}
