//! Leaf types that every room may name: ids, limits, the clock as a value, the log.
//!
//! Nothing here does I/O, and nothing here knows MQTT.

pub mod clock;
pub mod figures;
pub mod ids;
pub mod limits;
pub mod log;
pub mod memory;
