//! Scripts: what random histories reach seldom or cannot judge, step by step.
//!
//! `rules` holds a script for each rule of "Interleavings" in ARCHITECTURE.md that can be seen here, named after its
//! number; `shared` those of groups; `connecting` those about client ids and the end of connections; `limits` those
//! about who may be in; `promises` and `wills` are the table of promises and what the standard says of sessions. A
//! script decides who takes a turn and whom it listens to.

mod connecting;
mod limits;
mod promises;
mod rules;
mod shared;
mod stage;
mod subscribing;
mod wills;
