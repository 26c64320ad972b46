//! MQTT 3.1.1: a file for each chapter.

mod ping;

use crate::Test;

pub const TABLES: &[&[Test]] = &[ping::TESTS];
