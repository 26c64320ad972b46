//! What stands before each log line: the time as configured. The clock and the calendar are the caller's.

use super::Config;

/// Writes the stamps of one process. A stamp holds for a whole second, so that most lines share one.
#[derive(Debug)]
pub struct Stamps {
    format: Format,
    second: Option<i64>,
    text: String,
}

#[derive(Debug)]
enum Format {
    Nothing,
    Epoch,
    Calendar(String),
}

impl Stamps {
    /// Stamps as `log_timestamp` and `log_timestamp_format` ask for them.
    pub fn new(config: &Config) -> Self {
        let format = match (&config.log_timestamp_format, config.log_timestamp) {
            (_, false) => Format::Nothing,
            (None, true) => Format::Epoch,
            (Some(format), true) => Format::Calendar(format.clone()),
        };
        Self {
            format,
            second: None,
            text: String::new(),
        }
    }

    /// The stamp for `epoch_secs` seconds since 1970, with `: ` after it; empty if lines have none.
    ///
    /// `strftime` formats local time; if it cannot (`None`), the seconds stand there instead, so that no line is lost.
    pub fn at(
        &mut self,
        epoch_secs: i64,
        strftime: impl FnOnce(&str, i64) -> Option<String>,
    ) -> &str {
        if self.second == Some(epoch_secs) {
            return &self.text;
        }
        self.second = Some(epoch_secs);
        self.text = match &self.format {
            Format::Nothing => String::new(),
            Format::Epoch => format!("{epoch_secs}: "),
            Format::Calendar(format) => match strftime(format, epoch_secs) {
                Some(time) => format!("{time}: "),
                None => format!("{epoch_secs}: "),
            },
        };
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(on: bool, format: Option<&str>) -> Stamps {
        let mut config = Config::default_local();
        config.log_timestamp = on;
        config.log_timestamp_format = format.map(str::to_owned);
        Stamps::new(&config)
    }

    #[test]
    fn lines_start_with_seconds_unless_told_otherwise() {
        let never = |_: &str, _| -> Option<String> { panic!("no calendar is needed") };
        assert_eq!(stamps(true, None).at(1_700_000_000, never), "1700000000: ");
        assert_eq!(stamps(false, Some("%H")).at(1_700_000_000, never), "");
    }

    #[test]
    fn a_format_is_applied_once_a_second() {
        let mut calls = 0;
        let mut stamps = stamps(true, Some("[%H]"));
        for second in [7, 7, 8] {
            let text = stamps.at(second, |format, at| {
                calls += 1;
                Some(format!("{format}{at}"))
            });
            assert_eq!(text, format!("[%H]{second}: "));
        }
        assert_eq!(calls, 2);
    }

    #[test]
    fn a_format_that_fails_falls_back_to_seconds() {
        assert_eq!(stamps(true, Some("%H")).at(9, |_, _| None), "9: ");
    }
}
