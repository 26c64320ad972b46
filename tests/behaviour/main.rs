//! What a client sees: raw packets over a socket, first against the original, then against ours with one worker and
//! with four, where the connections of a test are spread over the workers.
//!
//! A test that the original does not pass must say so and why; one that says so and passes there fails. The
//! environment's BROKER_UNDER_TEST names another program to try instead of all these. Arguments are parts of names
//! (`cargo test --test behaviour -- retained four`); all parts must be in the name.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

mod broker;
mod client;
mod wire;

mod bad_input;
mod connect;
mod delivery;
mod keep_alive;
mod properties;
mod retained;
mod sessions;
mod subscribe;
mod wills;
mod workers;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use broker::{Broker, ORIGINAL, Setup, Target};
use client::Client;
use wire::Connect;

/// One claim about a broker.
pub struct Test {
    name: &'static str,
    run: fn(&Bench<'_>),
    setup: Setup,
    /// Why the original does not pass.
    original: Option<&'static str>,
}

impl Test {
    const fn new(name: &'static str, run: fn(&Bench<'_>)) -> Self {
        Self {
            name,
            run,
            setup: Setup::Plain,
            original: None,
        }
    }

    const fn setup(mut self, setup: Setup) -> Self {
        self.setup = setup;
        self
    }

    /// The original does otherwise, and this is why ours is right.
    const fn original_breaks(mut self, why: &'static str) -> Self {
        self.original = Some(why);
        self
    }

    /// The original does so too, but only from 2.1 on; Debian's is older.
    const fn since_2_1(mut self) -> Self {
        self.original = Some("since 2.1");
        self
    }
}

/// A row of a table of tests.
macro_rules! test {
    ($name:ident) => {
        $crate::Test::new(
            concat!(module_path!(), "::", stringify!($name)),
            self::$name,
        )
    };
}
pub(crate) use test;

const TABLES: &[&[Test]] = &[
    bad_input::TESTS,
    connect::TESTS,
    delivery::TESTS,
    keep_alive::TESTS,
    properties::TESTS,
    retained::TESTS,
    sessions::TESTS,
    subscribe::TESTS,
    wills::TESTS,
    workers::TESTS,
];

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

type Brokers = Mutex<HashMap<(&'static str, Setup, &'static str), Arc<OnceLock<Broker>>>>;

/// Tests at a time: they wait more than they work.
const THREADS: usize = 16;

/// How long a client waits for a packet.
const PATIENCE: Duration = Duration::from_secs(15);

/// The same, where the test is to fail anyway.
const SHORT_PATIENCE: Duration = Duration::from_secs(3);

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    std::panic::set_hook(Box::new(|panic| {
        PANIC.with(|text| *text.borrow_mut() = panic.to_string());
    }));
    let targets = targets();
    let jobs: Mutex<VecDeque<(&Target, &Test)>> = Mutex::new(
        targets
            .iter()
            .flat_map(|target| TABLES.iter().copied().flatten().map(move |t| (target, t)))
            .filter(|(target, test)| {
                let name = full_name(target, test);
                wanted.iter().all(|part| name.contains(part))
            })
            .collect(),
    );
    let total = jobs.lock().unwrap().len();
    let brokers = Brokers::default();
    let (failures, times) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let Some((target, test)) = jobs.lock().unwrap().pop_front() else {
                        return;
                    };
                    let begin = Instant::now();
                    let result = try_one(target, test, &brokers);
                    times
                        .lock()
                        .unwrap()
                        .push((begin.elapsed(), full_name(target, test)));
                    if let Err(text) = result {
                        println!("FAILED {}: {text}", full_name(target, test));
                        failures.lock().unwrap().push(full_name(target, test));
                    }
                }
            });
        }
    });
    drop(brokers);
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    let mut times = times.into_inner().unwrap();
    times.sort();
    for (time, name) in times.iter().rev().take(5) {
        println!("    {:.1} s {name}", time.as_secs_f32());
    }
    let secs = start.elapsed().as_secs_f32();
    println!(
        "behaviour: {total} runs, {} failed, {secs:.1} s",
        failures.len()
    );
    for name in &failures {
        println!("    {name}");
    }
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn targets() -> Vec<Target> {
    let target = |name, program: &str, is_original, workers| Target {
        name,
        program: program.into(),
        is_original,
        workers,
    };
    if let Ok(program) = std::env::var("BROKER_UNDER_TEST") {
        return vec![target("other", &program, false, 0)];
    }
    assert!(
        std::path::Path::new(ORIGINAL).exists(),
        "{ORIGINAL} is not installed: these tests compare with it"
    );
    let ours = env!("CARGO_BIN_EXE_mosquitto");
    vec![
        target("original", ORIGINAL, true, 0),
        target("one_worker", ours, false, 1),
        target("four_workers", ours, false, 4),
    ]
}

fn full_name(target: &Target, test: &Test) -> String {
    let name = test
        .name
        .split_once("::")
        .map_or(test.name, |(_, name)| name);
    format!("{}::{name}", target.name)
}

fn try_one(target: &Target, test: &Test, brokers: &Brokers) -> Result<(), String> {
    let marked = test.original.filter(|_| target.is_original);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let alone = if test.setup == Setup::Alone {
            test.name
        } else {
            ""
        };
        let broker = {
            let mut brokers = brokers.lock().unwrap();
            Arc::clone(brokers.entry((target.name, test.setup, alone)).or_default())
        };
        let (_, name) = test.name.rsplit_once("::").unwrap();
        (test.run)(&Bench {
            broker: broker.get_or_init(|| Broker::start(target, test.setup)),
            target,
            unique: name.into(),
            next_worker: Cell::new(0),
            patience: if marked.is_some() {
                SHORT_PATIENCE
            } else {
                PATIENCE
            },
        });
    }));
    match (result, marked) {
        (Ok(()), None) | (Err(_), Some(_)) => Ok(()),
        (Err(_), None) => Err(PANIC.with(|text| text.take())),
        (Ok(()), Some(why)) => Err(format!("passes, although it is marked: {why}")),
    }
}
