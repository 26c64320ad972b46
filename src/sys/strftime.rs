//! Local time in words, by the C library: it alone knows the machine's time zones.

use std::ffi::CString;

/// `epoch_secs` seconds since 1970 in the local time zone, as `format` says (`log_timestamp_format`). `None` when the
/// result is empty or longer than [`TEXT_BYTES_MAX`].
pub fn format_local(format: &str, epoch_secs: i64) -> Option<String> {
    let format = CString::new(format).ok()?;
    #[allow(
        clippy::useless_conversion,
        reason = "time_t has 32 bits on some machines"
    )]
    let seconds = libc::time_t::try_from(epoch_secs).ok()?;
    let mut parts = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: `seconds` is read and `parts` written during the call only; one thread uses the time zone's tables.
    if unsafe { libc::localtime_r(&raw const seconds, parts.as_mut_ptr()) }.is_null() {
        return None;
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
    (written > 0).then(|| String::from_utf8_lossy(&text).into_owned())
}

/// As in the original.
const TEXT_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_becomes_text_and_nonsense_becomes_nothing() {
        let time = 1_700_000_000;
        assert_eq!(format_local("%Y %%", time).as_deref(), Some("2023 %"));
        assert_eq!(format_local("", time), None);
        assert_eq!(format_local(&"%Y-".repeat(100), time), None);
        assert_eq!(format_local("a\0b", time), None);
    }
}
