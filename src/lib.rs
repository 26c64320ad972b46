//! Mosquitto: an MQTT broker as a multi-process Unix service, and its command-line clients.
//!
//! This page is the table of contents; ARCHITECTURE.md is the map. Pure rooms decide and do no I/O; `process` holds
//! one room per process of the broker; `ring`, `net`, `sys` and `ipc` are how bytes move.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::too_many_lines,
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test that panics has failed, which is what it is for"
    )
)]

pub mod base;
pub mod cli;
pub mod client;
pub mod config;
pub mod directory;
pub mod group;
pub mod ipc;
pub mod mqtt;
pub mod net;
pub mod process;
pub mod queue;
pub mod retained;
pub mod ring;
pub mod router;
pub mod session;
pub mod sys;
