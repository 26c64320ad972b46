//! Claims about a broker, tried with raw packets over a socket: first against the original, then against ours with one
//! worker and with four, where the connections of a test are spread over the workers.
//!
//! A test that the original does not pass must say so and why; one that says so and passes there fails. The
//! environment's BROKER_UNDER_TEST names another program to try instead of all these. Arguments are parts of names;
//! all parts must be in the name.

#![allow(dead_code, reason = "each program of tests uses its part")]

pub mod broker;
pub mod client;
pub mod runner;
pub mod wire;

use std::cell::Cell;
use std::time::Duration;

use broker::{Broker, Setup, Target};
use client::Client;
pub use runner::run;
use wire::Connect;

/// One claim about a broker.
pub struct Test {
    pub name: &'static str,
    run: fn(&Bench<'_>),
    setup: Setup,
    /// How the original does not pass.
    pub original: Option<Difference>,
    /// The normative statements that it checks.
    pub statements: &'static [&'static str],
}

/// Why a test fails on the original.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Difference {
    /// The original does otherwise, and this is why ours is right.
    Breaks(&'static str),
    /// The original does so too, but only from 2.1 on; Debian's is older.
    Since21,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Breaks(why) => f.write_str(why),
            Self::Since21 => f.write_str("since 2.1"),
        }
    }
}

impl Test {
    pub const fn new(name: &'static str, run: fn(&Bench<'_>)) -> Self {
        Self {
            name,
            run,
            setup: Setup::Plain,
            original: None,
            statements: &[],
        }
    }

    pub const fn setup(mut self, setup: Setup) -> Self {
        self.setup = setup;
        self
    }

    pub const fn checks(mut self, statements: &'static [&'static str]) -> Self {
        self.statements = statements;
        self
    }

    pub const fn original_breaks(mut self, why: &'static str) -> Self {
        self.original = Some(Difference::Breaks(why));
        self
    }

    pub const fn since_2_1(mut self) -> Self {
        self.original = Some(Difference::Since21);
        self
    }

    /// Its path below the program of tests.
    pub fn path(&self) -> &'static str {
        self.name
            .split_once("::")
            .map_or(self.name, |(_, path)| path)
    }
}

/// A row of a table of tests.
macro_rules! test {
    ($name:ident) => {
        $crate::harness::Test::new(
            concat!(module_path!(), "::", stringify!($name)),
            self::$name,
        )
    };
}
pub(crate) use test;

/// What one run of a test has: a broker, and names that no other test uses.
pub struct Bench<'a> {
    pub broker: &'a Broker,
    pub target: &'a Target,
    unique: String,
    next_worker: Cell<usize>,
    patience: Duration,
}

impl Bench<'_> {
    /// A connection, each on another worker than the one before.
    pub fn socket(&self) -> Client {
        let next = self.next_worker.get();
        self.next_worker.set(next + 1);
        self.socket_on(next)
    }

    /// A connection on this worker (counted modulo their number).
    pub fn socket_on(&self, worker: usize) -> Client {
        let worker = worker % self.broker.workers.max(1);
        Client::new(self.broker.connect(worker), worker, self.patience)
    }

    /// A connection to the second listener of the setup.
    pub fn second_socket(&self) -> Client {
        Client::new(self.broker.connect_second(), 0, self.patience)
    }

    /// A client that is connected.
    pub fn client(&self, connect: &Connect) -> Client {
        let mut client = self.socket();
        client.connect(connect);
        client
    }

    /// A client with a clean session.
    pub fn clean(&self, version: u8, name: &str) -> Client {
        self.client(&wire::connect(version, &self.id(name)))
    }

    /// A client id of this run.
    pub fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.unique)
    }

    /// A topic of this run.
    pub fn topic(&self, name: &str) -> String {
        format!("{}/{name}", self.unique)
    }
}
