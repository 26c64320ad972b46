//! The standards, statement by statement: each test names those that it checks, speaks raw packets over a socket
//! and runs against the original, then against ours with one worker and with four.
//!
//! The statements are in statements-*.txt, a file for each standard; one that binds a server and has no test has a
//! reason there. TABLE.md lists them with their tests; `UPDATE_TABLE=1 cargo test --test conformance` writes it anew.
//! Other arguments are parts of names (`cargo test --test conformance -- v5::connect four`).

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod statements;
mod table;
mod v31;
mod v311;
mod v5;

use std::process::ExitCode;

use harness::{Bench, Test, test, wire};
use table::Table;

fn main() -> ExitCode {
    let tables = [v5::TABLES, v311::TABLES, v31::TABLES].concat();
    let table = Table::new(tables.iter().copied().flatten().collect());
    let mut wrong = table.faults();
    if std::env::var_os("UPDATE_TABLE").is_some() {
        table.write();
    } else if !table.is_current() {
        wrong.push("TABLE.md is out of date: write it with UPDATE_TABLE=1".into());
    }
    let report = harness::run("conformance", &tables);
    let code = report.exit_code();
    if report.whole {
        table.print_totals(&report);
    }
    for fault in &wrong {
        println!("WRONG {fault}");
    }
    if wrong.is_empty() {
        code
    } else {
        ExitCode::FAILURE
    }
}
