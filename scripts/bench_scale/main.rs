//! Large numbers in the whole broker; scripts/bench-scale says what for.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a measurement that panics has measured nothing"
)]

#[allow(dead_code, reason = "it has more figures than are needed here")]
#[path = "../load/broker.rs"]
mod broker;
#[allow(dead_code, reason = "filters only, no topics")]
#[path = "../bench_index/filters.rs"]
mod filters;
mod memory;
mod probe;
mod restart;
mod retained;
mod server;
mod wire;

use std::process::ExitCode;

const USAGE: &str = "usage: bench-scale OURS [memory|restart|retained]... [--count N] [--check]";

/// What the command line says.
pub struct Args {
    /// Our broker.
    pub ours: String,
    /// Filters and messages at most.
    pub count: usize,
    /// Fail beyond the stated bounds.
    pub check: bool,
}

fn main() -> ExitCode {
    let mut args = Args {
        ours: String::new(),
        count: 1_000_000,
        check: false,
    };
    let mut cases = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--check" => args.check = true,
            "--count" => args.count = words.next().and_then(|n| n.parse().ok()).expect(USAGE),
            "memory" | "restart" | "retained" => cases.push(word),
            _ if args.ours.is_empty() => args.ours = word,
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    if cases.is_empty() {
        cases = ["memory", "restart", "retained"]
            .map(str::to_owned)
            .to_vec();
    }
    let mut fine = true;
    for case in cases {
        fine &= match case.as_str() {
            "memory" => memory::run(&args),
            "restart" => restart::run(&args),
            _ => retained::run(&args),
        };
    }
    if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
