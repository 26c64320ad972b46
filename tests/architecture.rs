//! The map as a test: which room may name which, where `unsafe` may stand, which rooms do no I/O, how long files and
//! lines of a kind may get. A new room needs a row here.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A room, the rooms that it may name, and whether it is pure.
struct Room {
    /// Path below `src`; the longest match counts.
    path: &'static str,
    may_name: &'static [&'static str],
    pure: bool,
}

const fn pure(path: &'static str, may_name: &'static [&'static str]) -> Room {
    Room {
        path,
        may_name,
        pure: true,
    }
}

const fn doing(path: &'static str, may_name: &'static [&'static str]) -> Room {
    Room {
        path,
        may_name,
        pure: false,
    }
}

const ROOMS: &[Room] = &[
    pure("base", &[]),
    pure("mqtt", &["base"]),
    pure("session", &["base", "mqtt", "config", "queue"]),
    pure("router", &["base", "mqtt", "ipc"]),
    pure("directory", &["base", "mqtt", "ipc"]),
    pure("queue", &["base", "mqtt", "ipc"]),
    pure("group", &["base", "mqtt", "queue", "router"]),
    pure("retained", &["base", "mqtt", "ipc"]),
    pure("client", &["base", "mqtt"]),
    pure("config", &["base"]),
    doing("config/load.rs", &["base"]),
    pure("ipc", &["base", "mqtt", "ring"]),
    doing("ipc/channel.rs", &["base", "sys"]),
    doing("ipc/control.rs", &["base", "sys"]),
    doing("ipc/control", &["base", "sys"]),
    doing("ring", &["base"]),
    pure("ring/record.rs", &["base"]),
    doing("net", &["base", "sys"]),
    pure("net/output.rs", &[]),
    doing("sys", &["base"]),
    doing("cli", &["base", "client", "config", "mqtt", "sys"]),
    doing("bin", &["cli", "process", "sys"]),
    doing(
        "process",
        &["base", "config", "ipc", "mqtt", "net", "ring", "sys"],
    ),
    doing(
        "process/supervisor",
        &[
            "base",
            "cli",
            "config",
            "ipc",
            "process::child",
            "ring",
            "sys",
        ],
    ),
    doing(
        "process/worker",
        &[
            "base",
            "config",
            "ipc",
            "net",
            "process::child",
            "process::member",
            "ring",
            "sys",
        ],
    ),
    doing(
        "process/store",
        &[
            "base",
            "config",
            "ipc",
            "net",
            "process::child",
            "process::member",
            "ring",
            "sys",
        ],
    ),
    doing(
        "process/control",
        &[
            "base",
            "client",
            "config",
            "ipc",
            "mqtt",
            "process::child",
            "process::member",
            "ring",
            "sys",
        ],
    ),
    pure("process/control/system_topics.rs", &["base"]),
    pure("process/supervisor/attendant.rs", &["base", "ipc"]),
    pure("process/supervisor/membership.rs", &["base", "ipc"]),
    pure(
        "process/worker/dispatch",
        &[
            "base",
            "config",
            "ipc",
            "mqtt",
            "net::output",
            "ring",
            "router",
            "session",
        ],
    ),
    pure(
        "process/store/authority",
        &[
            "base",
            "config",
            "directory",
            "group",
            "ipc",
            "mqtt",
            "queue",
            "retained",
            "ring",
            "router",
        ],
    ),
];

/// What only a room that does I/O may say.
const IO: &[&str] = &[
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os::fd",
    "nix::",
    "libc::",
    "socket2::",
    "crate::sys",
    "println!",
    "eprintln!",
];

/// The only files where `unsafe` may stand.
const UNSAFE: &[&str] = &["ring/shm.rs", "sys/"];

const FILE_LINES_MAX: usize = 700;

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// Every source file, by its path below `src`, with its text up to the tests, comments and strings' lines removed.
fn sources() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    all.sort();
    all.iter()
        .map(|path| {
            let name = path
                .strip_prefix(&src)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let text = fs::read_to_string(path).unwrap();
            let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
            let code = code.lines().map(|l| l.split("//").next().unwrap());
            (name, code.collect::<Vec<_>>().join("\n"))
        })
        .collect()
}

fn room_of(file: &str) -> Option<&'static Room> {
    ROOMS
        .iter()
        .filter(|room| file == room.path || file.starts_with(&format!("{}/", room.path)))
        .max_by_key(|room| room.path.len())
}

/// The top rooms (with one more segment) that a text names through `crate::`.
fn named(code: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            for item in list.split('}').next().unwrap().split(',') {
                all.insert(item.trim().to_owned());
            }
            continue;
        }
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
            .unwrap_or(rest.len());
        all.insert(rest[..end].trim_end_matches(':').to_owned());
    }
    all
}

#[test]
fn rooms_name_only_the_rooms_that_they_may() {
    let mut wrong = Vec::new();
    for (file, code) in sources().iter().filter(|(file, _)| file != "lib.rs") {
        let Some(room) = room_of(file) else {
            wrong.push(format!("{file}: no row in the table of rooms"));
            continue;
        };
        let own = room.path.trim_end_matches(".rs").replace('/', "::");
        let parent = own
            .rsplit_once("::")
            .map_or(own.clone(), |(p, _)| p.to_owned());
        for name in named(code) {
            let within = |prefix: &str| name == prefix || name.starts_with(&format!("{prefix}::"));
            let a_file = room.path.ends_with(".rs");
            if within(&own)
                || (a_file && within(&parent))
                || room.may_name.iter().any(|r| within(r))
            {
                continue;
            }
            wrong.push(format!("{file}: names crate::{name}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_process_names_another() {
    for (file, code) in sources() {
        let Some(of) = ["supervisor", "worker", "store", "control"]
            .iter()
            .find(|p| file.starts_with(&format!("process/{p}/")))
        else {
            continue;
        };
        for other in ["supervisor", "worker", "store", "control"]
            .iter()
            .filter(|p| *p != of)
        {
            assert!(
                !code.contains(&format!("process::{other}")),
                "{file} names process::{other}"
            );
        }
    }
}

#[test]
fn pure_rooms_do_no_io() {
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        if room_of(&file).is_some_and(|room| room.pure) {
            wrong.extend(
                IO.iter()
                    .filter(|io| code.contains(**io))
                    .map(|io| format!("{file}: {io}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stands_only_where_it_is_audited() {
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let allowed = UNSAFE
            .iter()
            .any(|place| file == *place || (place.ends_with('/') && file.starts_with(place)));
        let says = code
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .any(|word| word == "unsafe");
        if says && !allowed {
            wrong.push(file);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_readable() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let long = all
        .iter()
        .filter(|p| fs::read_to_string(p).unwrap().lines().count() > FILE_LINES_MAX);
    let long: Vec<_> = long.collect();
    assert!(long.is_empty(), "over {FILE_LINES_MAX} lines: {long:?}");
}
