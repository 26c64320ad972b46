//! 3.12: PINGREQ.

use crate::wire::{PINGREQ, PINGRESP, V5};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[test!(a_ping_is_answered).checks(&["MQTT-3.12.4-1"])];

fn a_ping_is_answered(bench: &Bench<'_>) {
    let mut client = bench.clean(V5, "c");
    for _ in 0..3 {
        client.send(PINGREQ);
        client.expect_bytes(PINGRESP);
    }
}
