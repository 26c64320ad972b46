//! Local time in words, by the C library: it alone knows the machine's time zones.

use std::ffi::CString;
use std::time::Duration;

/// `time` since 1970 in the local time zone, as `format` says (`log_timestamp_format`). Empty when the format is too
/// long or means nothing.
pub fn format_local(format: &str, time: Duration) -> String {
    let Ok(format) = CString::new(format) else {
        return String::new();
    };
    let Ok(seconds) = libc::time_t::try_from(time.as_secs()) else {
        return String::new();
    };
    let mut parts = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: `seconds` is read and `parts` written during the call only; one thread uses the time zone's tables.
    if unsafe { libc::localtime_r(&raw const seconds, parts.as_mut_ptr()) }.is_null() {
        return String::new();
    }
    let mut text = vec![0u8; TEXT_BYTES_MAX];
    // SAFETY: `text` has the length that is told, the format ends with a zero, and `localtime_r` has filled `parts`
    // (all zero bits are a valid `tm` too).
    let written = unsafe {
        libc::strftime(
            text.as_mut_ptr().cast(),
            text.len(),
            format.as_ptr(),
            parts.as_ptr(),
        )
    };
    text.truncate(written);
    String::from_utf8_lossy(&text).into_owned()
}

/// As in the original.
const TEXT_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_becomes_text_and_nonsense_becomes_nothing() {
        let time = Duration::from_secs(1_700_000_000);
        assert_eq!(format_local("%Y %%", time), "2023 %");
        assert_eq!(format_local("", time), "");
        assert_eq!(format_local(&"%Y-".repeat(100), time), "");
        assert_eq!(format_local("a\0b", time), "");
    }
}
