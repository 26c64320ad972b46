//! What stands before each log line: the time, as configured.

use std::time::Duration;

use crate::base::log::Log;
use crate::config::Config;
use crate::sys::strftime::format_local;

/// Keeps a log's stamp at the present second.
#[derive(Debug)]
pub struct Stamp {
    format: Format,
    second: Option<u64>,
}

#[derive(Debug)]
enum Format {
    None,
    Epoch,
    Local(String),
}

impl Stamp {
    /// As `log_timestamp` and `log_timestamp_format` say.
    pub fn new(config: &Config) -> Self {
        let format = match (&config.log_timestamp_format, config.log_timestamp) {
            (_, false) => Format::None,
            (None, true) => Format::Epoch,
            (Some(format), true) => Format::Local(format.clone()),
        };
        Self {
            format,
            second: None,
        }
    }

    /// Lines that are added from now on bear `wall`, the time since 1970. Once a turn is enough.
    pub fn refresh(&mut self, log: &mut Log, wall: Duration) {
        let second = wall.as_secs();
        if self.second.replace(second) == Some(second) {
            return;
        }
        match &self.format {
            Format::None => log.set_stamp(""),
            Format::Epoch => log.set_stamp(&format!("{second}: ")),
            Format::Local(format) => log.set_stamp(&format!("{}: ", format_local(format, wall))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::log::{LogMask, LogType};

    fn line(config: &Config) -> String {
        let mut log = Log::new(LogMask::ALL);
        Stamp::new(config).refresh(&mut log, Duration::from_millis(1_700_000_000_900));
        log.line(LogType::Info, format_args!("x"));
        log.pending().to_owned()
    }

    #[test]
    fn the_stamp_is_as_configured() {
        let mut config = Config::default_local();
        assert_eq!(line(&config), "1700000000: x\n");
        config.log_timestamp_format = Some("%Y".to_owned());
        assert_eq!(line(&config), "2023: x\n");
        config.log_timestamp = false;
        assert_eq!(line(&config), "x\n");
    }
}
