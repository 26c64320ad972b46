//! A stream cut anywhere: what a frame is does not depend on how its bytes arrive, and a fault is found as soon as the
//! bytes that show it are here, and stays one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mosquitto::mqtt::frame::{frame, frame_len};

fuzz_target!(|data: &[u8]| {
    let Some((&[low, high], stream)) = data.split_first_chunk::<2>() else {
        return;
    };
    let bytes_max = usize::from(u16::from_le_bytes([low, high]));
    let mut rest = stream;
    loop {
        let whole = frame(rest, bytes_max);
        for end in 0..rest.len().min(LOOKED_AT) {
            match (frame(&rest[..end], bytes_max), &whole) {
                (Ok(None), _) => {}
                (early, whole) => assert_eq!(&early, whole),
            }
        }
        let Ok(Some(found)) = whole else { break };
        assert!(found.len >= 2 && found.len <= bytes_max);
        assert_eq!(frame_len(rest), Some(found.len));
        assert_eq!(found.first, rest[0]);
        assert!(frame(&rest[..found.len - 1], bytes_max).is_ok_and(|f| f.is_none()));
        assert_eq!(found.body, &rest[found.len - found.body.len()..found.len]);
        rest = &rest[found.len..];
    }
});

/// Prefixes that are tried: more than a header has bytes.
const LOOKED_AT: usize = 16;
