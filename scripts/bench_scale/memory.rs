//! What filters weigh: growth of the proportional set size of the whole process tree.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Args;
use crate::filters::filters;
use crate::server::{Server, Which};
use crate::wire::Client;

const CLIENTS: usize = 100;
/// With `--check`, for 200,000 filters and two workers.
const BYTES_MAX: u64 = 400;

pub fn run(args: &Args) -> bool {
    println!("memory: {CLIENTS} clients with filters; bytes of PSS of the whole tree for each\n");
    println!("  filters   broker              bytes/filter   subscribed in, s   all gone in, s");
    let mut fine = true;
    for count in [args.count / 5, args.count] {
        let filters = filters(count);
        for which in [
            Which::Original,
            Which::Ours { workers: 1 },
            Which::Ours { workers: 2 },
        ] {
            let bytes = measure(&filters, which, args);
            fine &= !args.check || which == Which::Original || bytes <= BYTES_MAX;
        }
    }
    println!();
    fine
}

fn measure(filters: &[String], which: Which, args: &Args) -> u64 {
    let server = Server::start(which, &args.ours, &["error"]);
    let connect = |n| Client::connect(server.port, &format!("client-{n}"), true);
    let mut clients: Vec<_> = (0..CLIENTS).map(connect).collect();
    sleep(Duration::from_millis(300));
    let before = server.tree().pss_kib().unwrap();
    let began = Instant::now();
    for (n, client) in clients.iter_mut().enumerate() {
        client.subscribe(
            filters.iter().skip(n).step_by(CLIENTS).map(String::as_str),
            0,
        );
    }
    let subscribed = began.elapsed().as_secs_f64();
    sleep(Duration::from_millis(300));
    let bytes = (server.tree().pss_kib().unwrap() - before) * 1024 / filters.len() as u64;
    let began = Instant::now();
    drop(clients);
    // Whoever comes after them waits for them.
    Client::connect(server.port, "last", true).ping();
    println!(
        "{:>9}   {:<17} {bytes:>14}   {subscribed:>16.2}   {:>14.2}",
        filters.len(),
        which.name(),
        began.elapsed().as_secs_f64()
    );
    bytes
}
