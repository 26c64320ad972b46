//! Threads that ask again and again and note how long the answer took.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use crate::wire::{Client, publish};

const BETWEEN: Duration = Duration::from_millis(2);

pub struct Probe {
    what: &'static str,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Probe {
    /// `ask` returns when it has its answer.
    pub fn start(what: &'static str, mut ask: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut times = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                ask();
                times.push(began.elapsed());
                sleep(BETWEEN);
            }
            times
        });
        Self { what, stop, thread }
    }

    pub fn ping(mut client: Client) -> Self {
        Self::start("PING", move || client.ping())
    }

    /// A persistent session's question to the store.
    pub fn store(mut client: Client) -> Self {
        Self::start("store", move || client.ask_store())
    }

    /// A message of another client at QoS 0.
    pub fn live(mut from: Client, mut to: Client, nth: usize) -> Self {
        let topic = format!("live/{nth}");
        to.subscribe([topic.as_str()], 0);
        let message = publish(&topic, b"now", 0, false);
        Self::start("live message", move || {
            from.send(&message);
            to.wait_for(3);
        })
    }

    pub fn end(self) -> (&'static str, Vec<Duration>) {
        self.stop.store(true, Ordering::Relaxed);
        (self.what, self.thread.join().unwrap())
    }
}

/// Ends probes: for each kind, its median and its worst answer in milliseconds.
pub fn report(probes: Vec<Probe>) -> String {
    let mut kinds: Vec<(&str, Vec<Duration>)> = Vec::new();
    for (what, times) in probes.into_iter().map(Probe::end) {
        match kinds.iter_mut().find(|(known, _)| *known == what) {
            Some((_, all)) => all.extend(times),
            None => kinds.push((what, times)),
        }
    }
    let ms = |time: &Duration| time.as_secs_f64() * 1e3;
    let each = kinds.iter_mut().map(|(what, times)| {
        times.sort_unstable();
        let p99 = ms(&times[times.len() * 99 / 100]);
        format!(
            "{what} {:.2} / {p99:.1} / {:.1}",
            ms(&times[times.len() / 2]),
            ms(times.last().unwrap())
        )
    });
    each.collect::<Vec<_>>().join(", ")
}
