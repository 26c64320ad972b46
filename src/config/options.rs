//! The table of options: one row for every directive. Parsing, refusal of what is not built yet, the snapshot, the
//! reload rules and the manual page's list follow from the row.

mod bridge;
mod general;
mod listener;
mod logging;
mod security;

use super::parse::{Draft, Problem, Words};
use super::value::{Kind, Value};
use super::{Config, Listener};

/// One directive.
pub struct Row {
    /// As it stands in a file. A name that ends in `_` and has [`Row::is_prefix`] stands for all that start so.
    pub name: &'static str,
    /// Other names of the same directive.
    pub aliases: &'static [&'static str],
    /// What its value looks like.
    pub kind: Kind,
    /// What holds without it, as the manual says it.
    pub default: &'static str,
    /// What it applies to.
    pub scope: Scope,
    /// What SIGHUP does with it.
    pub reload: Reload,
    /// Whether it works, and how its value gets into the configuration.
    pub state: State,
    /// What to write instead, if the directive is only kept for old files.
    pub deprecated: Option<&'static str>,
    /// Its paragraph in mosquitto.conf(5).
    pub manual: &'static str,
}

/// What a directive applies to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// The whole broker.
    Global,
    /// The `listener` above it, or the default listener.
    Listener,
    /// The `connection` above it.
    Bridge,
}

/// What SIGHUP does with a directive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reload {
    /// The new value holds.
    Applied,
    /// The new value holds for connections made afterwards.
    NewConnections,
    /// The old value stays until a restart, and a log line says so.
    Restart,
}

/// Whether a directive works.
pub enum State {
    /// It works.
    Built(Built),
    /// It is refused, unless it asks for what is done anyway.
    NotBuilt(Accepted),
    /// It is accepted and has no effect; the text says why.
    Ignored(&'static str),
}

/// How a directive that works gets into the configuration and out of it.
pub struct Built {
    /// Into the configuration.
    pub put: Put,
    /// Out of it, for the snapshot.
    pub show: Show,
}

/// How a directive's value gets into the configuration.
pub enum Put {
    /// As a value of the row's [`Kind`].
    Value(fn(&mut Draft, Value)),
    /// From the rest of the line, in a way of its own.
    Line(fn(&mut Draft, &mut Words<'_>) -> Result<(), Problem>),
}

/// What the snapshot says for a row: one entry a line, without the name.
pub enum Show {
    /// From the configuration.
    Global(fn(&Config) -> Vec<String>),
    /// From each listener.
    Listener(fn(&Listener) -> Option<String>),
    /// The snapshot has another row for it.
    Never,
}

/// Which values of a directive that is not built ask for what is done anyway.
pub enum Accepted {
    /// None.
    Nothing,
    /// These, as they stand in a file.
    Values(&'static [&'static str]),
    /// Every valid one: without the features it belongs to, it changes nothing.
    Any,
}

impl Row {
    /// A global option that is applied on reload and not built yet; the steps below say otherwise.
    const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        manual: &'static str,
    ) -> Self {
        Self {
            name,
            aliases: &[],
            kind,
            default,
            scope: Scope::Global,
            reload: Reload::Applied,
            state: State::NotBuilt(Accepted::Nothing),
            deprecated: None,
            manual,
        }
    }

    const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn of(mut self, scope: Scope, reload: Reload) -> Self {
        self.scope = scope;
        self.reload = reload;
        self
    }

    const fn restart(mut self) -> Self {
        self.reload = Reload::Restart;
        self
    }

    const fn is(mut self, state: State) -> Self {
        self.state = state;
        self
    }

    const fn accepts(mut self, values: &'static [&'static str]) -> Self {
        self.state = State::NotBuilt(Accepted::Values(values));
        self
    }

    const fn accepts_any(mut self) -> Self {
        self.state = State::NotBuilt(Accepted::Any);
        self
    }

    const fn deprecated(mut self, instead: &'static str) -> Self {
        self.deprecated = Some(instead);
        self
    }

    /// The row of `name`, which may be an alias.
    pub fn find(name: &str) -> Option<&'static Self> {
        rows().find(|row| row.answers_to(name))
    }

    /// Whether the name is only the beginning of a directive (`plugin_opt_KEY`).
    pub fn is_prefix(&self) -> bool {
        self.name.ends_with('_')
    }

    /// Whether a line that starts with `name` is about this row.
    fn answers_to(&self, name: &str) -> bool {
        std::iter::once(&self.name)
            .chain(self.aliases)
            .any(|own| match own.ends_with('_') {
                true => name.len() > own.len() && name.starts_with(own),
                false => name == *own,
            })
    }
}

/// Every row, in the order of the manual page.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    sections().into_iter().flat_map(|(_, rows)| rows)
}

/// The rows under the manual page's headings.
pub fn sections() -> [(&'static str, &'static [Row]); 8] {
    [
        ("General options", general::ROWS),
        ("Listeners", listener::ROWS),
        ("TLS, PSK and the PROXY protocol", security::TRANSPORT_ROWS),
        ("WebSockets and HTTP", security::HTTP_ROWS),
        ("Persistence", logging::PERSISTENCE_ROWS),
        ("Logging", logging::ROWS),
        ("Plugins and access files", security::PLUGIN_ROWS),
        ("Bridges", bridge::ROWS),
    ]
}

/// A global option held in the field of the same name.
macro_rules! global {
    ($field:ident) => {
        State::Built(Built {
            put: Put::Value(|draft, value| draft.config.$field.set(value)),
            show: Show::Global(|config| config.$field.show().into_iter().collect()),
        })
    };
}

/// A global limit held in the field of the same name, whose largest value is "no limit".
macro_rules! global_limit {
    ($field:ident) => {
        State::Built(Built {
            put: Put::Value(|draft, value| draft.config.$field.set_limit(value)),
            show: Show::Global(|config| vec![config.$field.show_limit()]),
        })
    };
}

/// An option of a listener held in the field of the same name.
macro_rules! of_listener {
    ($field:ident) => {
        State::Built(Built {
            put: Put::Value(|draft, value| draft.listener().$field.set(value)),
            show: Show::Listener(|listener| listener.$field.show()),
        })
    };
}

use {global, global_limit, of_listener};
