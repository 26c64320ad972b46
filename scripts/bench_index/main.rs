//! Measures the subscription index alone; scripts/bench-index says what for.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a measurement that panics has measured nothing"
)]

mod filters;

use std::collections::HashMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use mosquitto::base::ids::MemberId;
use mosquitto::base::limits::FILTERS_CLEARED_PER_TURN;
use mosquitto::ipc::mesh::{AnnouncedFilter, Announcement, Class, FilterHash};
use mosquitto::mqtt::{Filter, Topic};
use mosquitto::router::{Foreign, Index, Interest};
use mosquitto::sys::heap::{self, CountingHeap};

use filters::{Random, filters, hit, miss};

#[global_allocator]
static HEAP: CountingHeap = CountingHeap;

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// Topics that are made, then matched against one clock reading.
const BATCH: usize = 256;
const BATCHES: usize = 400;
/// Topics of the hot figures: their part of the index stays in the caches, however large the rest is.
const HOT: usize = 64;

/// What `--check` allows the time to grow from the smallest to the largest index, beyond the ratio of their logarithms:
/// a generous bound, for busy machines. The hot figures are held to it, and the others after what memory itself costs
/// was taken out, which is what a table of the same filters takes.
const GROWTH_BEYOND_LOGARITHM: f64 = 3.0;

/// As wide as a connection and what it asked for.
type Local = Index<u64, (u32, u32)>;

fn main() -> ExitCode {
    let check = std::env::args().any(|argument| argument == "--check");
    println!(
        "70 % exact, 20 % with +, 10 % with #; nanoseconds, medians of {BATCHES} batches of {BATCH}"
    );
    println!("random: topics drawn from all devices; hot: the same {HOT} topics again and again");
    println!(
        "table: the same random topics looked up in a plain hash map of the filters, for what the caches do\n"
    );
    println!(
        "  filters   ns/match random / hot   ns/miss random / hot   ns table   matches   insert   remove   bytes/filter"
    );
    let rows: Vec<Row> = SIZES.iter().map(|n| local(*n)).collect();
    println!(
        "\nwhat a member keeps of the others' filters, and of its own (the announced interest)\n"
    );
    println!(
        "  filters   ns/match random / hot   apply   forget all / longest step, ms   bytes/filter   interest, bytes/filter"
    );
    let foreign: Vec<Row> = SIZES.iter().map(|n| foreign(*n)).collect();
    let may = logarithms() * GROWTH_BEYOND_LOGARITHM;
    println!(
        "\nfrom {} to {} filters; the logarithm grows {:.1} times",
        SIZES[0],
        SIZES[3],
        logarithms()
    );
    let mut fine = true;
    for (what, rows) in [("index", &rows), ("foreign", &foreign)] {
        let [first, last] = [&rows[0], &rows[SIZES.len() - 1]];
        let memory = last.table / first.table;
        let hot = last.hot / first.hot;
        let random = last.random / first.random;
        println!(
            "{what}: hot {hot:.2} times, random {random:.2} times, a plain hash map {memory:.2} times, random : plain {:.2}",
            random / memory
        );
        fine &= hot <= may && random / memory <= may;
    }
    if check && !fine {
        eprintln!("bench-index: the time to match grows more than {may:.1} times");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn logarithms() -> f64 {
    let log = |n: usize| f64::from(u32::try_from(n).unwrap()).ln();
    log(SIZES[SIZES.len() - 1]) / log(SIZES[0])
}

struct Row {
    random: f64,
    hot: f64,
    table: f64,
}

fn local(count: usize) -> Row {
    let filters = filters(count);
    let before = heap::bytes().current;
    let mut index = Local::new();
    let began = Instant::now();
    for (n, filter) in filters.iter().enumerate() {
        // 100 clients, as in a bench of the whole broker.
        index.insert(Filter::new(filter).unwrap(), n as u64 % 100, (1, 0));
    }
    let insert = each(began, count);
    let bytes = (heap::bytes().current - before) / count;

    let mut matches = 0_usize;
    let found = |topic: &str| {
        let mut found = 0_usize;
        index.for_each_match(Topic::new(topic).unwrap(), |_, _| found += 1);
        found
    };
    let mut random = Random(1);
    for _ in 0..BATCH {
        matches += found(&hit(count, &mut random));
    }
    assert_eq!(found(&miss(count, &mut random)), 0);
    let [random_hit, hot_hit] = medians(count, hit, |topic| {
        black_box(found(topic));
    });
    let [random_miss, hot_miss] = medians(count, miss, |topic| {
        black_box(found(topic));
    });
    let table = table(count, &filters);

    let began = Instant::now();
    for (n, filter) in filters.iter().enumerate() {
        index
            .remove(Filter::new(filter).unwrap(), n as u64 % 100)
            .unwrap();
    }
    let remove = each(began, count);
    assert!(index.is_empty());
    println!(
        "{count:>9}   {random_hit:>14.0} / {hot_hit:<4.0}   {random_miss:>13.0} / {hot_miss:<4.0}   {table:>8.0}   {:>7.2}   {insert:>6.0}   {remove:>6.0}   {bytes:>12}",
        matches as f64 / BATCH as f64
    );
    Row {
        random: random_hit,
        hot: hot_hit,
        table,
    }
}

fn foreign(count: usize) -> Row {
    let filters = filters(count);
    let hash = FilterHash::new([1, 2]);
    let members: Vec<MemberId> = (1..4).map(|slot| MemberId::new(slot).unwrap()).collect();
    let before = heap::bytes().current;
    let mut foreign = Foreign::new(hash.clone());
    let began = Instant::now();
    for (n, filter) in filters.iter().enumerate() {
        let change = announcement(filter, &hash);
        assert!(foreign.apply(members[n % members.len()], &change));
    }
    let apply = each(began, count);
    let bytes = (heap::bytes().current - before) / count;
    let members_of = |topic: &str| {
        black_box(foreign.members(Topic::new(topic).unwrap(), Class::QOS0));
    };
    let [random, hot] = medians(count, hit, members_of);
    let table = table(count, &filters);
    let began = Instant::now();
    for member in members {
        foreign.forget(member);
    }
    let mut clear: f64 = 0.0;
    while foreign.has_unwanted() {
        let began = Instant::now();
        foreign.clear(FILTERS_CLEARED_PER_TURN);
        clear = clear.max(began.elapsed().as_secs_f64() * 1e3);
    }
    let forget = began.elapsed().as_secs_f64() * 1e3;

    let mut index = Index::new();
    let insert = |filter| index.insert(filter, 0_u64, ()).filter;
    let filters: Vec<_> = filters.iter().map(|f| Filter::new(f).unwrap()).collect();
    let ids: Vec<_> = filters.iter().copied().map(insert).collect();
    let before = heap::bytes().current;
    let mut interest = Interest::new(hash);
    for (id, filter) in ids.iter().zip(&filters) {
        interest.add((*id, *filter), Class::BOTH);
    }
    let interest_bytes = (heap::bytes().current - before) / count;
    println!(
        "{count:>9}   {random:>14.0} / {hot:<4.0}   {apply:>5.0}   {forget:>17.1} / {clear:<9.2}   {bytes:>12}   {interest_bytes:>22}"
    );
    Row { random, hot, table }
}

fn announcement<'a>(filter: &'a str, hash: &FilterHash) -> Announcement<'a> {
    let class = Class::BOTH;
    let filter = if filter.contains(['+', '#']) {
        AnnouncedFilter::Wildcard(filter)
    } else {
        AnnouncedFilter::Exact(hash.of(filter))
    };
    Announcement { class, filter }
}

/// Random topics in a plain hash map: what one look into memory of this size costs at least.
fn table(count: usize, filters: &[String]) -> f64 {
    let state = foldhash::fast::RandomState::default();
    let mut plain: HashMap<&str, u32, _> = HashMap::with_hasher(state);
    plain.extend(filters.iter().map(|filter| (filter.as_str(), 1)));
    let [random, _] = medians(count, hit, |topic| {
        black_box(plain.get(topic));
    });
    random
}

/// Median nanoseconds of one `look`: with random topics, and with few.
fn medians(count: usize, topic: fn(usize, &mut Random) -> String, look: impl Fn(&str)) -> [f64; 2] {
    let mut random = Random(7);
    let hot: Vec<String> = (0..HOT).map(|_| topic(count, &mut random)).collect();
    let timed = |topics: &mut dyn FnMut() -> Vec<String>| {
        let mut times: Vec<f64> = (0..BATCHES)
            .map(|_| {
                let topics = topics();
                let began = Instant::now();
                for topic in &topics {
                    look(topic);
                }
                each(began, topics.len())
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let of_all = timed(&mut || (0..BATCH).map(|_| topic(count, &mut random)).collect());
    let of_few = timed(&mut || (0..BATCH).map(|n| hot[n % HOT].clone()).collect());
    [of_all, of_few]
}

fn each(began: Instant, count: usize) -> f64 {
    began.elapsed().as_secs_f64() * 1e9 / count as f64
}
