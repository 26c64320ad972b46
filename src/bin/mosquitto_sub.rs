//! Subscribes to topics of a broker and prints the messages.

use std::process::ExitCode;

fn main() -> ExitCode {
    mosquitto::cli::subscribe_main()
}
