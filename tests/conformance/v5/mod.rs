//! MQTT 5.0: a file for each chapter.

mod ping;

use crate::Test;

pub const TABLES: &[&[Test]] = &[ping::TESTS];
