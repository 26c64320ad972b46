//! `--help` and `--version`, from the table of options.

use std::fmt::Write as _;

use super::options::{Program, Stop};
use super::screen::complain;
use super::status;
use super::table::{Effect, ROWS};

/// Prints what `stop` is about and returns the exit status, which is never 0: the original means by 0 that something
/// was published or received.
pub(super) fn stop(program: Program, stop: &Stop) -> u8 {
    use std::io::Write as _;
    let name = program.name();
    let mut out = String::new();
    match stop {
        Stop::Help => out = help(program),
        Stop::Version => out = version(program),
        Stop::Usage(text) => {
            complain(&format!("{text}\n\nUse '{name} --help' to see usage."));
        }
        Stop::Error(text) => complain(text),
        Stop::Incomplete(text) => {
            complain(text);
            out = help(program);
        }
    }
    let _ = std::io::stdout().write_all(out.as_bytes());
    status::FAILURE
}

fn version(program: Program) -> String {
    format!("{} version {}\n", program.name(), env!("CARGO_PKG_VERSION"))
}

/// One line for each option that works, and the names of the others.
fn help(program: Program) -> String {
    let name = program.name();
    let mut text = match program {
        Program::Pub => format!(
            "{name} publishes a message to an MQTT broker.\n\n\
             Usage: {name} -t TOPIC {{-m MESSAGE | -f FILE | -l | -s | -n}} [OPTION...]\n"
        ),
        Program::Sub => format!(
            "{name} subscribes to topics of an MQTT broker and prints the messages that come.\n\n\
             Usage: {name} -t TOPIC [-t TOPIC...] [OPTION...]\n"
        ),
    };
    text.push('\n');
    let mut missing: Vec<&str> = Vec::new();
    for row in ROWS.iter().filter(|row| row.programs.contains(program)) {
        if matches!(row.effect, Effect::NotBuilt) {
            missing.extend(row.names.first().copied());
            continue;
        }
        let names = row.names.join(", ");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {names} {}", row.value);
        let _ = writeln!(text, "        {}", row.help);
    }
    let _ = writeln!(text, "\nNot available yet: {}", missing.join(" "));
    let _ = writeln!(text, "\nSee {name}(1).\n\n{}", version(program).trim_end());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_option() {
        for program in [Program::Pub, Program::Sub] {
            let text = help(program);
            for row in ROWS.iter().filter(|row| row.programs.contains(program)) {
                assert!(text.contains(row.names[0]), "{}", row.names[0]);
            }
        }
    }
}
