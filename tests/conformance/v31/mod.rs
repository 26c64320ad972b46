//! MQTT 3.1: what it does otherwise than 3.1.1, and that it is served at all.

mod delivery;
mod packets;

use crate::Test;

pub const TABLES: &[&[Test]] = &[delivery::TESTS, packets::TESTS];
