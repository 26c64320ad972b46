//! The broker as processes: started from its binary, looked at from outside, killed.

mod client;
mod connections;
mod harness;
mod supervision;
