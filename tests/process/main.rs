//! The broker as processes: started from its binary, looked at from outside, killed.

mod harness;
mod supervision;
