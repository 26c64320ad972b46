//! Thin wrappers of system calls: with ring/shm.rs the only places with unsafe.
//!
//! Nothing here decides anything. What can fail because of the machine is an `io::Error`; the caller knows what it
//! means.

pub mod clock;
pub mod daemon;
pub mod heap;
pub mod machine;
pub mod memfd;
pub mod poll;
pub mod privileges;
pub mod process;
pub mod random;
pub mod seqpacket;
pub mod signals;
pub mod strftime;
pub mod users;
