//! `mosquitto_pub` and `mosquitto_sub` beside the original's, where that is installed: the same command lines
//! against the same broker, or against a server that follows a script, must print the same, send the same and end
//! with the same status. What is meant to differ says why. Without the original, what is expected of ours alone is
//! still checked.
//!
//! `BROKER_UNDER_TEST` names the broker; else it is the original, or ours where that is not installed.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

mod broker;
mod live;
mod manual;
mod programs;
mod script;
mod scripted;
mod usage;
