//! Rows of the log and of persistence.

use super::{Built, Put, Row, Show, State, global};
use crate::base::log::{LogMask, LogType};
use crate::config::fault::Problem;
use crate::config::parse::{Draft, Words};
use crate::config::value::{Kind, Setting as _};
use crate::config::{Config, LogDest};

/// The rows of persistence, in the order of the manual page.
pub static PERSISTENCE_ROWS: &[Row] = &[
    Row::new(
        "autosave_interval",
        Kind::Limit {
            max: i32::MAX as i64,
        },
        "1800",
        "Seconds, or changes with autosave_on_changes, after which the original wrote its database.",
    )
    .accepts_any(),
    Row::new(
        "autosave_on_changes",
        Kind::Bool,
        "false",
        "Whether autosave_interval counts changes instead of seconds.",
    )
    .accepts_any(),
    Row::new(
        "persistence",
        Kind::Bool,
        "false",
        "Whether sessions, their messages and retained messages outlive the broker. While it is off they live in \
         memory, and the other options about it change nothing.",
    )
    .aliases(&["retained_persistence"])
    .accepts(&["false"]),
    Row::new(
        "persistence_file",
        Kind::TEXT,
        "mosquitto.db",
        "The name of the database in persistence_location.",
    )
    .accepts_any(),
    Row::new(
        "persistence_location",
        Kind::TEXT,
        "the working directory",
        "The directory of the database.",
    )
    .accepts_any(),
    Row::new(
        "persistent_client_expiration",
        Kind::Span,
        "never",
        "The time after which an absent client with a persistent session is forgotten, with its queued messages. A \
         month has 30 days and a year 365.",
    )
    .is(State::Built(Built {
        put: Put::Line(persistent_client_expiration),
        show: Show::Global(|config| {
            let shown = config.persistent_client_expiration.show();
            shown.into_iter().collect()
        }),
    })),
];

/// The rows of the log, in the order of the manual page.
pub static ROWS: &[Row] = &[
    Row::new(
        "log_dest",
        Kind::Special("none | stdout | stderr | file PATH"),
        "stderr",
        "Where log lines go; may be given more than once, and none takes back those before it. The destinations \
         syslog, topic, dlt and android are not built yet.",
    )
    .is(State::Built(Built {
        put: Put::Line(log_dest),
        show: Show::Global(show_log_dests),
    })),
    Row::new(
        "log_facility",
        Kind::Int { min: 0, max: 7 },
        "daemon",
        "The number of the LOCAL facility for the destination syslog.",
    )
    .accepts_any(),
    Row::new(
        "log_timestamp",
        Kind::Bool,
        "true",
        "Whether lines start with the time.",
    )
    .is(global!(log_timestamp)),
    Row::new(
        "log_timestamp_format",
        Kind::TEXT,
        "seconds since 1970",
        "The format of that time, as for strftime(3), for example %Y-%m-%dT%H:%M:%S.",
    )
    .is(global!(log_timestamp_format)),
    Row::new(
        "log_type",
        Kind::Special(
            "none | error | warning | notice | information | subscribe | unsubscribe | debug | websockets | internal | all",
        ),
        "error, warning, notice, information",
        "The types of lines that are logged; may be given more than once, and none takes back those before it. The \
         option -v stands above it.",
    )
    .is(State::Built(Built {
        put: Put::Line(log_type),
        show: Show::Global(show_log_types),
    })),
];

/// The types by name. The original's `internal` has a bit of its own that no line of ours carries.
const LOG_TYPES: [(&str, u32); 9] = [
    ("error", LogType::Error as u32),
    ("warning", LogType::Warning as u32),
    ("notice", LogType::Notice as u32),
    ("information", LogType::Info as u32),
    ("subscribe", LogType::Subscribe as u32),
    ("unsubscribe", LogType::Unsubscribe as u32),
    ("debug", LogType::Debug as u32),
    ("websockets", LogType::Websockets as u32),
    ("internal", 0x8000_0000),
];

/// The original reports an empty value but goes on without it, so that files have it.
fn value_or_complaint<'a>(
    draft: &mut Draft,
    option: &str,
    words: &mut Words<'a>,
) -> Result<Option<&'a str>, Problem> {
    let word = words.word()?;
    if word.is_none() {
        draft.notice(
            LogType::Error,
            option,
            format_args!("Empty {option} value in configuration"),
        );
    }
    Ok(word)
}

fn persistent_client_expiration(draft: &mut Draft, words: &mut Words<'_>) -> Result<(), Problem> {
    let option = "persistent_client_expiration";
    if let Some(word) = value_or_complaint(draft, option, words)? {
        let span = Kind::Span.parse(option, &mut Words::new(word.as_bytes()))?;
        draft.config.persistent_client_expiration.set(span);
    }
    Ok(())
}

fn log_type(draft: &mut Draft, words: &mut Words<'_>) -> Result<(), Problem> {
    let Some(word) = value_or_complaint(draft, "log_type", words)? else {
        return Ok(());
    };
    let named = LOG_TYPES.iter().find(|(name, _)| *name == word);
    let before = match draft.log_type_given {
        true => draft.config.log_mask,
        false => LogMask::NONE,
    };
    draft.config.log_mask = match (word, named) {
        ("none", _) => LogMask::NONE,
        ("all", _) => LogMask::ALL,
        (_, Some((_, bit))) => LogMask(before.0 | bit),
        (_, None) => {
            let names: Vec<_> = LOG_TYPES.iter().map(|(name, _)| *name).collect();
            return Err(Problem::Invalid {
                option: "log_type".to_owned(),
                value: word.to_owned(),
                allowed: format!("none, {}, all", names.join(", ")),
            });
        }
    };
    draft.log_type_given = true;
    Ok(())
}

fn show_log_types(config: &Config) -> Vec<String> {
    if config.log_mask == LogMask::ALL {
        return vec!["all".to_owned()];
    }
    let wanted = LOG_TYPES
        .iter()
        .filter(|(_, bit)| config.log_mask.0 & bit != 0);
    let names = wanted.map(|(name, _)| (*name).to_owned());
    std::iter::once("none".to_owned()).chain(names).collect()
}

fn log_dest(draft: &mut Draft, words: &mut Words<'_>) -> Result<(), Problem> {
    let word = words.word()?.ok_or_else(|| Problem::Empty {
        option: "log_dest".to_owned(),
    })?;
    let dest = match word {
        "none" => None,
        "stdout" => Some(LogDest::Stdout),
        "stderr" => Some(LogDest::Stderr),
        "file" => {
            let path = words.rest()?.ok_or_else(|| Problem::Empty {
                option: "\"log_dest file\"".to_owned(),
            })?;
            let dests = &draft.config.log_dests;
            if dests.iter().any(|dest| matches!(dest, LogDest::File(_))) {
                return Err(Problem::Duplicate {
                    option: "\"log_dest file\"".to_owned(),
                });
            }
            Some(LogDest::File(path.to_owned()))
        }
        "syslog" | "topic" | "dlt" | "android" => {
            return Err(Problem::NotBuilt {
                unless: "none, stdout, stderr, file PATH".to_owned(),
            });
        }
        _ => {
            return Err(Problem::Invalid {
                option: "log_dest".to_owned(),
                value: word.to_owned(),
                allowed: "none, stdout, stderr, file PATH".to_owned(),
            });
        }
    };
    let dests = &mut draft.config.log_dests;
    if !draft.log_dest_given || dest.is_none() {
        dests.clear();
    }
    draft.log_dest_given = true;
    match dest {
        Some(dest) if !dests.contains(&dest) => dests.push(dest),
        _ => {}
    }
    Ok(())
}

fn show_log_dests(config: &Config) -> Vec<String> {
    let shown = config.log_dests.iter().map(|dest| match dest {
        LogDest::Stdout => "stdout".to_owned(),
        LogDest::Stderr => "stderr".to_owned(),
        LogDest::File(path) => format!("file {path}"),
    });
    std::iter::once("none".to_owned()).chain(shown).collect()
}
