//! Which tests check which statement, and whether nothing is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::Test;
use crate::harness::Difference;
use crate::harness::runner::Report;
use crate::statements::{STANDARDS, Standard, Statement};

pub struct Table {
    tests: Vec<&'static Test>,
    standards: Vec<(Standard, Vec<Statement>)>,
}

impl Table {
    pub fn new(tests: Vec<&'static Test>) -> Self {
        let standards = STANDARDS.map(|standard| (standard, standard.statements()));
        Self {
            tests,
            standards: standards.into(),
        }
    }

    /// What is wrong with the lists.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut names = BTreeSet::new();
        for test in &self.tests {
            if !names.insert(test.path()) {
                faults.push(format!("{} is there twice", test.path()));
            }
            if test.statements.is_empty() {
                faults.push(format!("{} names no statement", test.path()));
            }
        }
        for (standard, statements) in &self.standards {
            let mut checked = self.checked(*standard);
            for statement in statements {
                let has_test = checked.remove(statement.id).is_some();
                let id = format!("{} of {}", statement.id, standard.name);
                match (statement.of_server, has_test, statement.reason) {
                    (true, false, None) => {
                        faults.push(format!("{id} has neither a test nor a reason"));
                    }
                    (_, true, Some(_)) => faults.push(format!("{id} has a test and a reason")),
                    (false, false, Some(_)) => faults.push(format!("{id} needs no reason")),
                    _ => {}
                }
            }
            for (id, tests) in checked {
                let test = tests[0].path();
                faults.push(format!("{test}: {} has no statement {id}", standard.name));
            }
        }
        faults
    }

    /// The tests of each statement.
    fn checked(&self, standard: Standard) -> BTreeMap<&'static str, Vec<&'static Test>> {
        let mut checked: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for test in &self.tests {
            if Standard::of(test.path()) == Some(standard) {
                for id in test.statements {
                    checked.entry(*id).or_default().push(*test);
                }
            }
        }
        checked
    }

    fn text(&self) -> String {
        let mut text = String::from(
            "# Conformance\n\nWritten by `UPDATE_TABLE=1 cargo test --test conformance`. A statement's words are ours; its \
             number is the standard's.\nThe original is Debian's 2.0.11; every test passes on ours, with one worker and \
             with four.\n",
        );
        for (standard, statements) in &self.standards {
            let checked = self.checked(*standard);
            write!(
                text,
                "\n## MQTT {}\n\n{}\n\n",
                standard.name,
                self.summary(*standard, statements)
            )
            .unwrap();
            text.push_str("| statement | what | tests | original |\n|---|---|---|---|\n");
            for statement in statements.iter().filter(|s| s.of_server) {
                let tests = checked.get(statement.id).map_or(&[][..], |t| t);
                let names: Vec<&str> = tests.iter().map(|test| short(test)).collect();
                let how = match (names.is_empty(), statement.reason) {
                    (false, _) => names.join(", "),
                    (true, Some(reason)) => format!("none: {reason}"),
                    (true, None) => "none".into(),
                };
                let (id, what) = (statement.id, statement.what.replace('|', "\\|"));
                let original = original(tests);
                writeln!(text, "| {id} | {what} | {how} | {original} |").unwrap();
            }
        }
        text
    }

    /// How many there are, and how many the original meets.
    fn summary(&self, standard: Standard, statements: &[Statement]) -> String {
        let checked = self.checked(standard);
        let of_server = || statements.iter().filter(|s| s.of_server);
        let tested: Vec<_> = of_server().filter_map(|s| checked.get(s.id)).collect();
        let passes = |test: &&&Test| test.original.is_none();
        let met = tested
            .iter()
            .filter(|tests| tests.iter().all(|test| passes(&test)));
        let mine = |test: &&&Test| Standard::of(test.path()) == Some(standard);
        let tests: Vec<_> = self.tests.iter().filter(mine).collect();
        format!(
            "{} statements bind a server: {} have tests, {} a reason why not. Of these {} the original meets {}, and it \
             passes {} of {} tests.",
            of_server().count(),
            tested.len(),
            of_server().filter(|s| s.reason.is_some()).count(),
            tested.len(),
            met.count(),
            tests.iter().copied().filter(passes).count(),
            tests.len(),
        )
    }

    pub fn is_current(&self) -> bool {
        std::fs::read_to_string(path()).is_ok_and(|text| text == self.text())
    }

    pub fn write(&self) {
        std::fs::write(path(), self.text()).unwrap();
    }

    /// How each broker did.
    pub fn print_totals(&self, report: &Report) {
        for (standard, statements) in &self.standards {
            let checked = self.checked(*standard);
            let of_server = || statements.iter().filter(|s| s.of_server);
            let has_test = |s: &&Statement| checked.contains_key(s.id);
            println!(
                "MQTT {}: {} statements bind a server: {} have tests, {} a reason why not",
                standard.name,
                of_server().count(),
                of_server().filter(has_test).count(),
                of_server().filter(|s| s.reason.is_some()).count(),
            );
            for target in &report.targets {
                let runs = || {
                    report.runs.iter().filter(|run| {
                        run.target == target.name
                            && Standard::of(run.test.path()) == Some(*standard)
                    })
                };
                let marked = |which: fn(&Difference) -> bool| {
                    let marks = runs().filter_map(|run| run.test.original.as_ref());
                    marks
                        .filter(|mark| target.is_original && which(mark))
                        .count()
                };
                let breaks = marked(|mark| matches!(mark, Difference::Breaks(_)));
                let since = marked(|mark| *mark == Difference::Since21);
                let passed = runs().filter(|run| run.good).count() - breaks - since;
                let met = of_server().filter(has_test).filter(|statement| {
                    checked[statement.id].iter().all(|test| {
                        let unmarked = !target.is_original || test.original.is_none();
                        unmarked && runs().any(|run| run.good && run.test.name == test.name)
                    })
                });
                println!(
                    "    {}: {} of {} statements met; {passed} of {} tests passed, {breaks} marked as breaking, \
                     {since} as since 2.1",
                    target.name,
                    met.count(),
                    of_server().filter(has_test).count(),
                    runs().count(),
                );
            }
        }
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/TABLE.md")
}

/// A test's name below the folder of its standard.
fn short(test: &Test) -> &'static str {
    test.path()
        .split_once("::")
        .map_or(test.path(), |(_, name)| name)
}

/// Whether the original passes.
fn original(tests: &[&Test]) -> String {
    let marked: Vec<String> = tests
        .iter()
        .filter_map(|test| Some(format!("{}: {}", short(test), test.original?)))
        .collect();
    match (tests.len(), marked.len()) {
        (0, _) => String::new(),
        (_, 0) => "passes".into(),
        _ => marked.join("; "),
    }
}
