//! The store: state, and (later) disk.
