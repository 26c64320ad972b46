//! The manual pages list exactly the options that work, and exactly those that do not yet.

use std::collections::BTreeSet;
use std::path::Path;

use mosquitto::cli::options::{Options, Program, Stop};
use mosquitto::cli::table::{Effect, ROWS};

fn page(program: Program) -> String {
    let name = format!("man/{}.1", program.name());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(path).unwrap()
}

fn section<'p>(page: &'p str, name: &str) -> &'p str {
    let begin = page.split_once(&format!(".SH {name}\n")).unwrap().1;
    begin.split(".SH ").next().unwrap()
}

fn names_in(line: &str) -> impl Iterator<Item = String> {
    line.split([' ', '"', ','])
        .filter(|word| word.starts_with("\\-"))
        .map(|word| word.replace('\\', ""))
}

fn names(program: Program, built: bool) -> BTreeSet<String> {
    ROWS.iter()
        .filter(|row| row.programs.contains(program))
        .filter(|row| matches!(row.effect, Effect::NotBuilt) != built)
        .flat_map(|row| row.names)
        .map(|name| (*name).to_owned())
        .collect()
}

#[test]
fn the_pages_list_exactly_the_options_that_work() {
    for program in [Program::Pub, Program::Sub] {
        let page = page(program);
        let options = section(&page, "OPTIONS").split(".TP\n").skip(1);
        let listed: BTreeSet<String> = options
            .flat_map(|entry| names_in(entry.lines().next().unwrap()))
            .collect();
        assert_eq!(listed, names(program, true), "{}", program.name());
    }
}

#[test]
fn the_pages_list_exactly_the_options_that_are_missing() {
    for program in [Program::Pub, Program::Sub] {
        let page = page(program);
        let listed: BTreeSet<String> = section(&page, "NOT AVAILABLE YET")
            .lines()
            .filter(|line| line.starts_with(".B"))
            .flat_map(names_in)
            .collect();
        assert_eq!(listed, names(program, false), "{}", program.name());
    }
}

#[test]
fn the_examples_are_accepted() {
    for program in [Program::Pub, Program::Sub] {
        let page = page(program);
        let mut seen = 0;
        for block in page.split(".EX\n").skip(1) {
            let line = block.lines().next().unwrap().replace("\\-", "-");
            let (_, arguments) = line.split_once(program.name()).unwrap();
            let arguments = arguments.replace("\\(aq", "");
            let arguments = arguments.split_whitespace().map(Into::into);
            let parsed = Options::parse(program, None, arguments);
            assert!(!matches!(
                parsed,
                Err(Stop::Usage(_) | Stop::Error(_) | Stop::Incomplete(_))
            ));
            seen += 1;
        }
        assert!(seen >= 3);
    }
}
