//! rumqttc against a broker on 127.0.0.1: `rumqttc-claims PORT`. A line for each claim that holds, with the version of
//! MQTT; the others on standard error. It speaks 3.1.1 and 5.0, which are two clients that share a name: `three` and
//! `five` give them one face, so that the claims are written once.

mod claims;
mod connection;
mod five;
mod three;

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(port) = std::env::args()
        .nth(1)
        .and_then(|port| port.parse::<u16>().ok())
    else {
        eprintln!("usage: rumqttc-claims PORT");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime of one thread");
    if runtime.block_on(claims::hold(port)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
