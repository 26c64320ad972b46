//! A worker is killed: how soon its successor knows a million filters again, and how the others answer meanwhile.

use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::Args;
use crate::filters::filters;
use crate::probe::{Probe, report};
use crate::server::{Server, Which};
use crate::wire::Client;

const WORKERS: usize = 4;
const HOLDERS: usize = 100;
const VICTIM: usize = 2;
const WITHIN: Duration = Duration::from_secs(5);

pub fn run(args: &Args) -> bool {
    println!(
        "restart: worker {VICTIM} of {WORKERS} is killed, {} filters\n",
        args.count
    );
    println!(
        "  filters are held            knows all after, s   answers of the others meanwhile: median / p99 / worst, ms"
    );
    let fine = [HeldBy::Others, HeldBy::Victim, HeldBy::Store].map(|held| one(held, args));
    println!();
    !args.check || fine.iter().all(|took| *took <= WITHIN)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum HeldBy {
    Others,
    Victim,
    Store,
}

impl HeldBy {
    fn name(self) -> &'static str {
        match self {
            Self::Others => "by clients of the others",
            Self::Victim => "by clients of the victim",
            Self::Store => "by the store (persistent)",
        }
    }
}

fn one(held: HeldBy, args: &Args) -> Duration {
    let server = Server::start(Which::Ours { workers: WORKERS }, &args.ours, &["debug"]);
    let (mut its, mut others) = connect(&server, held);
    server.log(&["error"]);
    let pingers: Vec<Client> = (0..WORKERS)
        .filter(|n| *n != VICTIM)
        .map(|n| {
            let is_its = |(worker, _): &(usize, Client)| *worker == n;
            others
                .swap_remove(others.iter().position(is_its).unwrap())
                .1
        })
        .collect();
    let filters = filters(args.count);
    let holders = if held == HeldBy::Victim {
        &mut its
    } else {
        &mut others
    };
    let each = holders.len();
    for (n, (_, client)) in holders.iter_mut().enumerate() {
        let qos = u8::from(held == HeldBy::Store);
        client.subscribe(
            filters.iter().skip(n).step_by(each).map(String::as_str),
            qos,
        );
    }
    server.log(&["debug"]);
    let asker = store_client(&server);
    let start = |pingers: &[Client]| {
        let mut probes: Vec<_> = pingers.iter().map(|c| Probe::ping(c.again())).collect();
        probes.push(Probe::store(asker.again()));
        probes
    };
    let before = start(&pingers);
    sleep(Duration::from_secs(2));
    let before = report(before);
    let probes = start(&pingers);
    let took = kill_one(&server, held, args);
    sleep(Duration::from_secs(1));
    println!(
        "  {:<26}  {:>18.2}   {}",
        held.name(),
        took.as_secs_f64(),
        report(probes)
    );
    println!("  {:<26}  {:>18}   {before}", "  before that", "");
    took
}

/// Kills the victim; returns how long it took until its successor knew everything.
fn kill_one(server: &Server, held: HeldBy, args: &Args) -> Duration {
    let knows = format!("worker {VICTIM} knows what every other member wants");
    let lines = || server.said().matches(&knows).count();
    let before = lines();
    let began = Instant::now();
    kill(server.process(&title(VICTIM)).unwrap(), Signal::SIGKILL).unwrap();
    server.until("the new worker", || lines() > before);
    let took = began.elapsed();
    let said = server.said();
    let (_, number) = said.rsplit_once(&knows).unwrap();
    let number = number.trim_start_matches(": ").split(' ').next().unwrap();
    let number: usize = number.parse().unwrap();
    assert!(
        held == HeldBy::Victim || number >= args.count,
        "only {number} filters"
    );
    took
}

type Clients = Vec<(usize, Client)>;

/// Clients with their workers: the victim's, and the others'.
fn connect(server: &Server, held: HeldBy) -> (Clients, Clients) {
    server.until("all workers", || {
        (0..WORKERS).all(|n| server.process(&title(n)).is_some())
    });
    let connect = |n| Client::connect(server.port, &format!("client-{n}"), held != HeldBy::Store);
    let clients: Vec<Client> = (0..HOLDERS * 2).map(connect).collect();
    let lines = || server.said().matches("is served by").count();
    server.until("the log", || lines() >= HOLDERS * 2);
    // Who is served where is in the log.
    let log = server.said();
    let worker = |client: &Client| -> usize {
        let from = client.stream.local_addr().unwrap();
        let line = format!("Connection from {from} is served by worker ");
        let (_, rest) = log.split_once(&line).unwrap();
        rest.split(['.', '\n']).next().unwrap().parse().unwrap()
    };
    let clients = clients.into_iter().map(|c| (worker(&c), c));
    clients.partition(|(worker, _)| *worker == VICTIM)
}

/// A persistent session where the victim is not.
fn store_client(server: &Server) -> Client {
    loop {
        let client = Client::connect(server.port, "asks-the-store", false);
        let from = client.stream.local_addr().unwrap();
        let line = format!("Connection from {from} is served by worker {VICTIM}.");
        sleep(Duration::from_millis(50));
        if !server.said().contains(&line) {
            return client;
        }
    }
}

fn title(worker: usize) -> String {
    format!("mosquitto: worker {worker}")
}
