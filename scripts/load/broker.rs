//! What the broker costs: CPU and memory of a process and all its descendants, read from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// Linux reports the times in `/proc/PID/stat` in hundredths of a second on every architecture that we build for.
const TICK_NANOS: u64 = 10_000_000;

/// The tree of processes under one.
#[derive(Clone, Copy, Debug)]
pub struct Broker {
    pid: u32,
}

impl Broker {
    pub const fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// The process and its descendants that are there now.
    pub fn pids(self) -> Vec<u32> {
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut alive = false;
        for pid in numbers("/proc") {
            if let Some(stat) = Stat::read(pid) {
                alive |= pid == self.pid;
                children.entry(stat.parent).or_default().push(pid);
            }
        }
        let mut tree = Vec::new();
        let mut todo = if alive { vec![self.pid] } else { Vec::new() };
        while let Some(pid) = todo.pop() {
            tree.push(pid);
            todo.extend(children.remove(&pid).unwrap_or_default());
        }
        tree.sort_unstable();
        tree
    }

    /// Processes of the tree that live now; one that was not reaped yet is dead.
    pub fn living(self) -> Vec<u32> {
        let lives = |pid: &u32| Stat::read(*pid).is_some_and(|s| !s.zombie);
        self.pids().into_iter().filter(lives).collect()
    }

    /// CPU time that the tree has used so far, dead and reaped members included.
    ///
    /// `stat` counts in hundredths of a second, which is coarse for a broker that is nearly idle; so the run time of
    /// the live threads is taken from `schedstat` (nanoseconds) where it says more.
    pub fn cpu(self) -> Duration {
        let nanos = self.pids().into_iter().map(|pid| {
            let Some(stat) = Stat::read(pid) else {
                return 0;
            };
            let threads = numbers(&format!("/proc/{pid}/task"))
                .map(|tid| run_nanos(pid, tid))
                .sum();
            (stat.own_ticks * TICK_NANOS).max(threads) + stat.reaped_ticks * TICK_NANOS
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Proportional set size of the tree in KiB: shared pages are counted once. `None` where it may not be read.
    pub fn pss_kib(self) -> Option<u64> {
        let pids = self.pids();
        if pids.is_empty() {
            return None;
        }
        pids.into_iter().map(pss_kib).sum()
    }
}

/// CPU time that this program has used so far.
pub fn own_cpu() -> Duration {
    let nanos =
        |t: nix::sys::time::TimeVal| u64::try_from(t.num_microseconds()).unwrap_or(0) * 1000;
    getrusage(UsageWho::RUSAGE_SELF).map_or(Duration::ZERO, |u| {
        Duration::from_nanos(nanos(u.user_time()) + nanos(u.system_time()))
    })
}

/// Both at one moment.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cpu {
    pub broker: Duration,
    pub own: Duration,
}

impl Cpu {
    pub fn now(broker: Option<Broker>) -> Self {
        Self {
            broker: broker.map_or(Duration::ZERO, Broker::cpu),
            own: own_cpu(),
        }
    }

    /// Used since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            broker: self.broker.saturating_sub(before.broker),
            own: self.own.saturating_sub(before.own),
        }
    }
}

struct Stat {
    zombie: bool,
    parent: u32,
    own_ticks: u64,
    reaped_ticks: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name in the second field may hold spaces and brackets, so fields are counted from its last bracket.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
        let zombie = fields.next()? == "Z";
        let parent = fields.next()?.parse().ok()?;
        // Fields 14 to 17 of proc(5): utime, stime, cutime, cstime; `nth(9)` is the 14th, as the 5th comes next.
        let mut tick = |skip| fields.nth(skip)?.parse::<u64>().ok();
        let (user, system, reaped_user, reaped_system) = (tick(9)?, tick(0)?, tick(0)?, tick(0)?);
        Some(Self {
            zombie,
            parent,
            own_ticks: user + system,
            reaped_ticks: reaped_user + reaped_system,
        })
    }
}

fn run_nanos(pid: u32, tid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).unwrap_or_default();
    text.split_ascii_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

fn pss_kib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The names in a directory that are numbers.
fn numbers(path: &str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_a_name_with_brackets() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 11 22 33 44 20 0 1 0 99 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(
            (stat.parent, stat.own_ticks, stat.reaped_ticks),
            (7, 33, 77)
        );
    }

    #[test]
    fn the_tree_of_this_process_has_this_process_and_memory() {
        let me = Broker::new(std::process::id());
        assert!(me.pids().contains(&std::process::id()));
        assert!(me.pss_kib().is_some_and(|kib| kib > 0));
    }
}
