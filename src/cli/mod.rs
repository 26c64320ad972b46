//! The command-line programs.

pub mod broker;
