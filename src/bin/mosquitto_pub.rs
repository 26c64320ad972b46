//! Publishes messages to a broker.

use std::process::ExitCode;

fn main() -> ExitCode {
    mosquitto::cli::publish_main()
}
