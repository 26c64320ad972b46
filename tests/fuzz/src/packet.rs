//! The body of a packet behind any first byte: nothing panics, and what decodes comes out the same after encoding and
//! decoding it again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mosquitto::mqtt::Version;
use mosquitto::mqtt::decode::decode;
use mosquitto::mqtt::encode::encode;
use mosquitto::mqtt::frame::{Frame, frame};

fuzz_target!(|data: &[u8]| {
    // As if the header had been right: this way every input reaches a decoder.
    let Some((&first, body)) = data.split_first() else {
        return;
    };
    let len = body.len();
    for version in [Version::V31, Version::V311, Version::V5] {
        let Ok(packet) = decode(Frame { first, body, len }, version) else {
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
});
