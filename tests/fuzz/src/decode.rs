//! Any bytes, as a stream and as the body of a packet: nothing panics, and what decodes comes out the same after
//! encoding and decoding it again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mosquitto::mqtt::decode::decode;
use mosquitto::mqtt::encode::encode;
use mosquitto::mqtt::frame::{Frame, frame, frame_len};
use mosquitto::mqtt::{Properties, PropertiesBuilder, PropertyId, Version};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

fuzz_target!(|data: &[u8]| {
    stream(data);
    if let Some((&first, body)) = data.split_first() {
        // As if the header had been right: this way every input reaches a decoder.
        let len = body.len();
        check(Frame { first, body, len });
        properties(body);
    }
});

/// Packet after packet, as a connection reads them.
fn stream(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some(found)) = frame(rest, 1 << 20) {
        assert_eq!(frame_len(rest), Some(found.len));
        assert!(found.len >= 2);
        check(found);
        rest = &rest[found.len..];
    }
}

/// Every version reads the frame, or refuses it.
fn check(found: Frame<'_>) {
    for version in VERSIONS {
        let Ok(packet) = decode(found, version) else {
            continue;
        };
        let mut bytes = Vec::new();
        encode(&packet, version, &mut bytes);
        let again = frame(&bytes, usize::MAX)
            .expect("our own packet has a sound header")
            .expect("our own packet is whole");
        assert_eq!(again.len, bytes.len());
        assert_eq!(decode(again, version), Ok(packet));
    }
}

/// A block that another process spoilt: what can be read of it is copied, and no more.
fn properties(raw: &[u8]) {
    let block = Properties::trusted(raw);
    let readable = block.iter().count();
    let mut copy = PropertiesBuilder::default();
    copy.push_all_but(block, PropertyId::UserProperty);
    assert!(copy.as_properties().raw().len() <= raw.len());
    copy.clear();
    copy.push_all_with_expiry(block, 1);
    assert!(copy.as_properties().iter().count() >= readable);
}
