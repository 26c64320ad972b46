//! Tries every test on every broker, many at a time.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::broker::{Broker, ORIGINAL, Setup, Target};
use super::{Bench, Test};

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

/// What came of all runs.
pub struct Report {
    program: &'static str,
    pub targets: Vec<Target>,
    /// No argument left anything out.
    pub whole: bool,
    pub runs: Vec<Run>,
    took: Duration,
}

/// One test on one broker.
pub struct Run {
    /// The broker's name.
    pub target: &'static str,
    pub test: &'static Test,
    /// It went as the test's marks say.
    pub good: bool,
    took: Duration,
}

/// Tries the tests whose names have all parts that the arguments ask for.
pub fn run(program: &'static str, tables: &[&'static [Test]]) -> Report {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    std::panic::set_hook(Box::new(|panic| {
        PANIC.with(|text| *text.borrow_mut() = panic.to_string());
    }));
    let targets = targets();
    let tests = || tables.iter().copied().flatten();
    let jobs: Mutex<VecDeque<(&Target, &'static Test)>> = Mutex::new(
        targets
            .iter()
            .flat_map(|target| tests().map(move |test| (target, test)))
            .filter(|(target, test)| {
                let name = full_name(target, test);
                wanted.iter().all(|part| name.contains(part))
            })
            .collect(),
    );
    let brokers = Brokers::default();
    let runs = Mutex::new(Vec::new());
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
                    if let Err(text) = &result {
                        println!("FAILED {}: {text}", full_name(target, test));
                    }
                    runs.lock().unwrap().push(Run {
                        target: target.name,
                        test,
                        good: result.is_ok(),
                        took: begin.elapsed(),
                    });
                }
            });
        }
    });
    drop(brokers);
    let mut runs = runs.into_inner().unwrap();
    runs.sort_by_key(|run| (run.took, run.test.name));
    Report {
        program,
        targets,
        whole: wanted.is_empty(),
        runs,
        took: start.elapsed(),
    }
}

impl Report {
    /// Prints what took long, what failed and how many there were.
    pub fn exit_code(&self) -> ExitCode {
        let name = |run: &Run| format!("{}::{}", run.target, run.test.path());
        for run in self.runs.iter().rev().take(5) {
            println!("    {:.1} s {}", run.took.as_secs_f32(), name(run));
        }
        let mut failures: Vec<String> = self.runs.iter().filter(|r| !r.good).map(name).collect();
        failures.sort();
        println!(
            "{}: {} runs, {} failed, {:.1} s",
            self.program,
            self.runs.len(),
            failures.len(),
            self.took.as_secs_f32()
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
    format!("{}::{}", target.name, test.path())
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
        (test.run)(&Bench {
            broker: broker.get_or_init(|| Broker::start(target, test.setup)),
            target,
            unique: test.path().replace("::", "."),
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
