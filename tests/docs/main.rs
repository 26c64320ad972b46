//! The manual says what the program does: the pages follow from the table of options and from the command line, and
//! their examples are accepted.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use mosquitto::cli::broker::{self, Command};
use mosquitto::config::options::{self, Accepted, Reload, Row, State};
use mosquitto::config::{Config, Overrides, Source};

const BEGIN: &str = ".\\\" BEGIN OPTIONS";
const END: &str = ".\\\" END OPTIONS";

fn man_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("man")
}

fn page(name: &str) -> String {
    let path = man_dir().join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every page by its file name.
fn pages() -> Vec<(String, String)> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(man_dir()).expect("man/ is there") {
        let name = entry.expect("man/ can be read").file_name();
        let name = name.into_string().expect("its names are UTF-8");
        let text = page(&name);
        pages.push((name, text));
    }
    pages.sort();
    pages
}

/// Text as a man page writes it. A hyphen in an option is to be copied and searched for as a minus sign.
fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// Words of the manual, one sentence a line; only options keep their minus signs.
fn prose(text: &str) -> String {
    let sentences = text.replace('\\', "\\e").replace(". ", ".\n");
    let lines = sentences
        .lines()
        .map(|line| match line.starts_with(['.', '\'']) {
            true => format!("\\&{line}\n"),
            false => format!("{line}\n"),
        });
    lines.collect()
}

/// One row as it stands in mosquitto.conf(5).
fn entry(row: &Row) -> String {
    let tail = if row.is_prefix() { "\\fIKEY\\fR" } else { "" };
    let name = format!("\\fB{}\\fR{tail}", escape(row.name));
    let mut text = format!(".TP\n{name} \\fI{}\\fR\n", escape(&row.kind.syntax()));
    text += &format!("Default: {}.\n", escape(row.default));
    text += match row.reload {
        Reload::Applied => "Reload: applied.\n",
        Reload::NewConnections => "Reload: applied to new connections.\n",
        Reload::Restart => "Reload: needs a restart.\n",
    };
    text += ".br\n";
    text += &prose(row.manual);
    for alias in row.aliases {
        let tail = if alias.ends_with('_') {
            "\\fIKEY\\fR"
        } else {
            ""
        };
        text += &format!("May also be written \\fB{}\\fR{tail}.\n", escape(alias));
    }
    if let Some(instead) = row.deprecated {
        text += &format!("Deprecated: {}.\n", escape(instead));
    }
    text += &match &row.state {
        State::Built(_) => String::new(),
        State::Ignored(why) => format!("Accepted and ignored: {why}.\n"),
        State::NotBuilt(Accepted::Nothing) => "\\fINot built yet.\\fR\n".to_owned(),
        State::NotBuilt(Accepted::Any) => {
            "\\fINot built yet\\fR; accepted, since it changes nothing until then.\n".to_owned()
        }
        State::NotBuilt(Accepted::Values(values)) => {
            let values = escape(&values.join(", "));
            format!("\\fINot built yet\\fR; accepted is \\fB{values}\\fR only.\n")
        }
    };
    text
}

/// The list of options of mosquitto.conf(5).
fn option_list() -> String {
    let mut text = String::new();
    for (heading, rows) in options::sections() {
        text += &format!(".SS {heading}\n");
        for row in rows {
            text += &entry(row);
        }
    }
    text
}

/// What stands before, between and after the marks of the option list.
fn parts(page: &str) -> (&str, &str, &str) {
    let mark = page.find(BEGIN).expect("the list begins");
    let (_, from_mark) = page.split_at(mark);
    let begin = mark + from_mark.find('\n').expect("the mark is a line") + 1;
    let (before, list) = page.split_at(begin);
    let (list, after) = list.split_at(list.find(END).expect("the list ends"));
    (before, list, after)
}

#[test]
fn the_configuration_page_lists_exactly_the_options_of_the_table() {
    let text = page("mosquitto.conf.5");
    let (before, list, after) = parts(&text);
    let expected = option_list();
    if std::env::var_os("UPDATE_MAN").is_some() {
        let path = man_dir().join("mosquitto.conf.5");
        fs::write(path, [before, &expected, after].concat()).unwrap();
        return;
    }
    for (line, (old, new)) in list.lines().zip(expected.lines()).enumerate() {
        assert_eq!(
            old, new,
            "line {line} of the list; UPDATE_MAN=1 writes it anew"
        );
    }
    assert_eq!(
        list.len(),
        expected.len(),
        "UPDATE_MAN=1 writes the list anew"
    );
}

#[test]
fn every_name_of_an_option_can_be_found_in_the_page() {
    let text = page("mosquitto.conf.5");
    for name in options::rows().flat_map(|row| std::iter::once(&row.name).chain(row.aliases)) {
        assert!(
            text.contains(&format!("\\fB{}\\fR", escape(name))),
            "{name}"
        );
    }
}

#[test]
fn the_broker_page_names_every_option_of_the_command_line() {
    let text = page("mosquitto.8");
    let help = broker::help();
    let words = help.split([' ', ',', '[', ']', '\n']);
    let named: HashSet<_> = words
        .filter(|w| w.starts_with('-') && w.len() > 1)
        .collect();
    assert!(named.len() >= 14, "{named:?}");
    for option in named {
        assert!(text.contains(&escape(option)), "{option}");
    }
}

#[test]
fn a_page_names_only_options_that_the_command_line_has() {
    let text = page("mosquitto.8");
    let (_, options) = text.split_once(".SH OPTIONS").unwrap();
    let (options, _) = options.split_once(".SH PROCESSES").unwrap();
    let mut seen = 0;
    for line in options.lines().filter(|line| line.starts_with(".B")) {
        for option in line
            .split([' ', '"', ','])
            .filter(|word| word.starts_with("\\-"))
        {
            let option = option.replace('\\', "");
            let arguments = [
                option.clone(),
                "1".to_owned(),
                "-c".to_owned(),
                "x".to_owned(),
            ];
            let unknown = format!("Unknown option '{option}'");
            if let Command::Bad(bad) = broker::parse(arguments.map(OsString::from)) {
                assert!(!bad.to_string().contains(&unknown), "{option}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 14, "{seen} options");
}

/// The lines of a page's examples, as they are typed.
fn examples(text: &str) -> Vec<Vec<String>> {
    let blocks = text.split("\n.EX\n").skip(1);
    let blocks = blocks.map(|block| block.split_once(".EE").expect("an example ends").0);
    let plain = |line: &str| {
        line.replace("\\-", "-")
            .replace("\\&", "")
            .replace("\\e", "\\")
    };
    blocks
        .map(|block| block.lines().map(plain).collect())
        .collect()
}

#[test]
fn commands_of_the_broker_in_examples_are_accepted() {
    let mut seen = 0;
    for (name, text) in pages() {
        for line in examples(&text).into_iter().flatten() {
            let Some(arguments) = line.strip_prefix("mosquitto ") else {
                continue;
            };
            let arguments = arguments.trim_end_matches('&').split_whitespace();
            match broker::parse(arguments.map(OsString::from)) {
                Command::Bad(bad) => panic!("{name}: {line}: {bad}"),
                Command::Run(_) | Command::Help | Command::Version => seen += 1,
            }
        }
    }
    assert!(seen >= 4, "{seen} commands");
}

#[test]
fn configurations_in_examples_are_accepted() {
    let blocks = examples(&page("mosquitto.conf.5"));
    assert!(blocks.len() >= 2);
    for block in blocks {
        let source = Source {
            path: "example".to_owned(),
            text: block.join("\n").into_bytes(),
            includes: Vec::new(),
        };
        let parsed = Config::parse(&source, &Overrides::default());
        assert!(parsed.config.is_ok(), "{block:?}: {:?}", parsed.config);
        assert_eq!(parsed.notices, [], "{block:?}");
    }
}

#[test]
fn pages_are_well_formed() {
    let known: HashSet<_> = [
        "TH", "SH", "SS", "P", "PP", "TP", "IP", "B", "I", "BR", "RB", "BI", "IB", "IR", "RI",
        "EX", "EE", "br", "nf", "fi", "RS", "RE", "TQ", "\\\"",
    ]
    .into();
    for (name, text) in pages() {
        let (title, section) = name.rsplit_once('.').unwrap();
        let head = format!(".TH {} {section} ", escape(&title.to_uppercase()));
        assert!(text.starts_with(&head), "{name} starts with {head}");
        let named = format!(".SH NAME\n{} \\- ", escape(title));
        assert!(text.contains(&named), "{name}: its name");
        for (index, line) in text.lines().enumerate() {
            let at = format!("{name}:{}: {line}", index + 1);
            assert!(line.is_ascii() && !line.contains('\t'), "{at}");
            assert_eq!(line.trim_end(), line, "{at}: space at the end");
            if let Some(request) = line.strip_prefix('.') {
                let request = request.split(' ').next().unwrap_or_default();
                assert!(known.contains(request), "{at}: unknown macro");
            }
            assert!(!line.starts_with('\''), "{at}: a request by accident");
        }
        for (open, close) in [(".EX", ".EE"), (".RS", ".RE"), (".nf", ".fi")] {
            let count = |mark| text.lines().filter(|line| *line == mark).count();
            assert_eq!(count(open), count(close), "{name}: {open} and {close}");
        }
    }
}

/// Where the formatter of man pages is installed, it must have no complaint.
#[test]
fn the_formatter_has_no_complaint() {
    for (name, _) in pages() {
        let formatted = Process::new("groff")
            .args(["-man", "-ww", "-Tutf8", "-z"])
            .arg(man_dir().join(&name))
            .stdin(Stdio::null())
            .output();
        match formatted {
            Ok(output) => {
                let complaint = String::from_utf8_lossy(&output.stderr);
                assert!(
                    output.status.success() && complaint.is_empty(),
                    "{name}: {complaint}"
                );
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("groff is not installed; {name} was only checked for its form");
            }
            Err(error) => panic!("groff: {error}"),
        }
    }
}

#[test]
fn pages_refer_to_pages_that_exist() {
    let exist: HashSet<_> = pages().into_iter().map(|(name, _)| name).collect();
    for (name, text) in pages() {
        for line in text
            .lines()
            .filter_map(|line| line.strip_prefix(".BR mosquitto"))
        {
            let Some((rest, section)) = line.split_once(" (") else {
                continue;
            };
            let section = section.split(')').next().unwrap_or_default();
            let other = format!("mosquitto{}.{section}", rest.replace('\\', ""));
            // The pages of the clients come with the clients.
            if section == "1" && !exist.contains(&other) {
                continue;
            }
            assert!(exist.contains(&other), "{name} refers to {other}");
        }
    }
}
