//! What a client sees beyond the statements of the standards (those are in tests/conformance): raw packets over a
//! socket, first against the original, then against ours with one worker and with four. Arguments are parts of names
//! (`cargo test --test behaviour -- retained four`).

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod aliases;
mod bad_input;
mod connect;
mod delivery;
mod keep_alive;
mod limits;
mod mounts;
mod patience;
mod properties;
mod queues;
mod reasons;
mod retained;
mod sessions;
mod shared;
mod subscribe;
mod system_topics;
mod terms;
mod upgrade;
mod wills;
mod workers;

use std::process::ExitCode;

use harness::{Bench, Test, broker, client, test, wire};

const TABLES: &[&[Test]] = &[
    aliases::TESTS,
    bad_input::TESTS,
    connect::TESTS,
    delivery::TESTS,
    keep_alive::TESTS,
    limits::TESTS,
    mounts::TESTS,
    patience::TESTS,
    properties::TESTS,
    queues::TESTS,
    reasons::TESTS,
    retained::TESTS,
    sessions::TESTS,
    shared::TESTS,
    subscribe::TESTS,
    system_topics::TESTS,
    upgrade::TESTS,
    terms::TESTS,
    wills::TESTS,
    workers::TESTS,
];

fn main() -> ExitCode {
    harness::run("behaviour", TABLES).exit_code()
}
