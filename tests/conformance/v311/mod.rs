//! MQTT 3.1.1: a file for each chapter of the standard, and for each group of packets of the third.

mod chapter_1_strings;
mod chapter_2_packets;
mod chapter_3_connect;
mod chapter_3_connect_flags;
mod chapter_3_disconnect;
mod chapter_3_publish;
mod chapter_3_retain;
mod chapter_3_subscribe;
mod chapter_3_unsubscribe;
mod chapter_4_delivery;
mod chapter_4_order;
mod chapter_4_topics;

use crate::Test;
use crate::harness::client::Client;

pub const TABLES: &[&[Test]] = &[
    chapter_1_strings::TESTS,
    chapter_2_packets::TESTS,
    chapter_3_connect::TESTS,
    chapter_3_connect_flags::TESTS,
    chapter_3_disconnect::TESTS,
    chapter_3_publish::TESTS,
    chapter_3_retain::TESTS,
    chapter_3_subscribe::TESTS,
    chapter_3_unsubscribe::TESTS,
    chapter_4_delivery::TESTS,
    chapter_4_order::TESTS,
    chapter_4_topics::TESTS,
];

/// The broker ends the connection at these bytes, and says nothing before: in 3.1.1 it has no packet for that.
fn expect_end_at(client: &mut Client, bytes: &[u8]) {
    client.try_send(bytes);
    if let Some(got) = client.try_next() {
        panic!("{got:?} instead of the end, at {bytes:02x?}");
    }
}
