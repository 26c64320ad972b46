//! Malformed, truncated, oversized and out-of-order packets: each closes its own connection and nothing else.

use crate::broker::Setup;
use crate::client::Client;
use crate::wire::{
    Got, V5, V311, connect, packet, property, publish, subscribe, text, unsubscribe,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(bad_packets_close_only_their_connection),
    test!(the_reason_is_told_to_5).original_breaks("closes without one, or with another"),
    test!(a_packet_over_the_limit_closes).setup(Setup::Strict),
    test!(a_long_length_in_3_is_read).original_breaks("counts only what it needs"),
];

/// An innocent client, checked after every attack.
struct Innocent {
    client: Client,
    topic: String,
}

impl Innocent {
    fn new(bench: &Bench<'_>) -> Self {
        let topic = bench.topic("innocent");
        let mut client = bench.clean(V311, "innocent");
        client.subscribe(&topic, 1);
        Self { client, topic }
    }

    fn check(&mut self) {
        self.client.publish(&publish(&self.topic, "x", 1, 1));
        self.client.expect_message(&self.topic, "x", 1, false);
    }
}

fn expect_end_of(client: &mut Client, bytes: &[u8]) {
    client.try_send(bytes);
    match client.try_next() {
        None => {}
        Some(Got::Disconnect(code)) if client.version == V5 => {
            assert!(code >= 0x80, "{code:#x} to {bytes:02x?}");
            client.expect_end();
        }
        Some(other) => panic!("{other:?} to {bytes:02x?}"),
    }
}

fn bad_packets() -> Vec<Vec<u8>> {
    let topic = text("t");
    vec![
        vec![0x00, 0],
        // Five bytes of length.
        vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x01],
        // QoS 3.
        packet(0x36, &[topic.clone(), vec![0, 1]].concat()),
        // Packet id 0.
        packet(0x32, &[topic.clone(), vec![0, 0]].concat()),
        packet(0x34, &[topic.clone(), vec![0, 0]].concat()),
        // No topic, or one that is cut short.
        packet(0x30, &[]),
        packet(0x30, &[0]),
        packet(0x30, &[0, 9, b'a']),
        // No packet id.
        packet(0x32, &[topic.clone(), vec![0]].concat()),
        packet(0x32, &topic),
        // Acknowledgements without an id, or with half of one.
        packet(0x40, &[]),
        packet(0x50, &[1]),
        packet(0x62, &[]),
        packet(0x70, &[1]),
        // Flags that are not what they must be.
        packet(0x60, &[0, 1]),
        packet(0x80, &subscribe(V311, 1, &[("a", 0)])[2..]),
        packet(0xa0, &unsubscribe(V311, 1, &["a"])[2..]),
        // SUBSCRIBE and UNSUBSCRIBE of nothing, without id, with a bad QoS, cut short.
        packet(0x82, &[]),
        packet(0x82, &[0, 1]),
        packet(0x82, &[0, 0, 0, 1, b'a', 0]),
        packet(0x82, &[0, 1, 0, 1, b'a', 3]),
        packet(0x82, &[0, 1, 0, 1, b'a']),
        packet(0x82, &[0, 1, 0, 9, b'a', 0]),
        packet(0xa2, &[]),
        packet(0xa2, &[0, 1]),
        packet(0xa2, &[0, 0, 0, 1, b'a']),
        packet(0xa2, &[0, 1, 0, 9, b'a']),
        // AUTH and beyond is not of 3.
        packet(0xf0, &[]),
    ]
}

fn bad_packets_close_only_their_connection(bench: &Bench<'_>) {
    let mut innocent = Innocent::new(bench);
    for bad in bad_packets() {
        let mut client = bench.clean(V311, "bad");
        expect_end_of(&mut client, &bad);
        innocent.check();
    }
}

fn the_reason_is_told_to_5(bench: &Bench<'_>) {
    for (bad, code) in [
        (packet(0x36, &[0, 1, b't', 0, 1, 0]), 0x81),
        (packet(0x30, &[0, 9, b't']), 0x81),
        (packet(0x32, &[0, 1, b't', 0, 0, 0]), 0x82),
        (packet(0x30, &[0, 0, 0]), 0x82),
        (
            packet(
                0x30,
                &[&[0, 1, b't', 3][..], &property::topic_alias(0)].concat(),
            ),
            0x94,
        ),
        (
            packet(
                0x30,
                &[&[0, 1, b't', 3][..], &property::topic_alias(11)].concat(),
            ),
            0x94,
        ),
        (packet(0x60, &[0, 1]), 0x81),
        (packet(0xf0, &[]), 0x82),
    ] {
        let mut client = bench.clean(V5, "bad");
        client.send(&bad);
        match client.try_next() {
            Some(Got::Disconnect(got)) => assert_eq!(got, code, "to {bad:02x?}"),
            other => panic!("{other:?} to {bad:02x?}"),
        }
        client.expect_end();
    }
}

fn a_packet_over_the_limit_closes(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    for version in [V311, V5] {
        let id = bench.id(&version.to_string());
        let mut client = bench.client(&connect(version, &id).keep_alive(10));
        client.subscribe(&topic, 1);
        let room = 2000 - 3 - 2 - topic.len() - usize::from(version == V5);
        client.publish(&publish(&topic, &"x".repeat(room), 0, 0));
        assert_eq!(client.receive().payload.len(), room);
        // The original does not count the first bytes.
        client.try_send(&publish(&topic, &"x".repeat(room + 4), 0, 0).bytes(version));
        client.expect_disconnect(0x95);
    }
}

fn a_long_length_in_3_is_read(bench: &Bench<'_>) {
    let mut client = bench.clean(V311, "c");
    client.send(&[0xc0, 0x80, 0]);
    client.expect(Got::Pingresp);
    client.send(&[0x40, 0x82, 0x80, 0, 0, 9]);
    client.ping();
    // 5.0 forbids it [MQTT-1.5.5-1].
    let mut client = bench.clean(V5, "c");
    client.send(&[0xc0, 0x80, 0]);
    client.expect_disconnect(0x81);
}
