//! The store: state, and (later) disk.

pub mod authority;
