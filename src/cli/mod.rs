//! The command-line programs.
//!
//! `mosquitto_pub` and `mosquitto_sub` are a table of options, a loop around the client state machine, and what each
//! of them does with its events. Their words and exit statuses are those of the original, which scripts match.

pub mod broker;
mod defaults;
mod link;
mod number;
pub mod options;
mod publish;
mod screen;
mod subscribe;
pub mod table;
mod transport;
mod url;
mod usage;

pub use publish::main as publish_main;
pub use subscribe::main as subscribe_main;

/// Exit statuses of the client programs that are no code of a CONNACK: the numbers of the original's library.
pub mod status {
    /// Wrong usage, or no connection could be made.
    pub const FAILURE: u8 = 1;
    /// The broker broke the protocol.
    pub const PROTOCOL: u8 = 2;
    /// The connection ended before everything was done.
    pub const CONNECTION_LOST: u8 = 7;
    /// The broker did not answer within the keep-alive.
    pub const KEEP_ALIVE: u8 = 19;
    /// The broker takes no messages of this QoS.
    pub const QOS_NOT_SUPPORTED: u8 = 24;
    /// The message is larger than the broker takes.
    pub const TOO_LARGE: u8 = 25;
    /// `-W` has passed.
    pub const TIMED_OUT: u8 = 27;
    /// What a shell reports when SIGPIPE ended a program.
    pub const BROKEN_PIPE: u8 = 128 + 13;
    /// A signal came before the connection was accepted, or a second one while it was being closed.
    pub const INTERRUPTED: u8 = 255;
}
