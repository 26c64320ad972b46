//! The rings over real shared memory, against a model, against loom's schedules, and against SIGKILL.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

mod hostile;
mod kill;
mod members;
mod mesh;
mod model;
mod schedules;
