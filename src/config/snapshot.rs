//! A configuration as canonical text, which the supervisor seals and hands to its children, and what differs
//! between two of them. Both follow from the table.

use super::Config;
use super::options::{self, Reload, Show, State};

impl Config {
    /// Every option that works, in the order of the table; [`Config::from_snapshot`] reads it back.
    pub fn to_snapshot(&self) -> String {
        let mut text = format!("local_only {}\n", self.local_only);
        for (name, show) in shown() {
            if let Show::Global(show) = show {
                for value in show(self) {
                    text.push_str(&format!("{name} {value}\n"));
                }
            }
        }
        for listener in &self.listeners {
            text.push_str(&format!("listener {}", listener.port));
            if let Some(address) = &listener.address {
                text.push_str(&format!(" {address}"));
            }
            text.push('\n');
            for (name, show) in shown() {
                if let Show::Listener(show) = show
                    && let Some(value) = show(listener)
                {
                    text.push_str(&format!("{name} {value}\n"));
                }
            }
        }
        text
    }

    /// The options that differ between two configurations but keep their old value until a restart.
    pub fn reload_differences(old: &Self, new: &Self) -> Vec<&'static str> {
        let places = |config: &Self| -> Vec<_> {
            let of_one = |l: &super::Listener| (l.port, l.address.clone());
            config.listeners.iter().map(of_one).collect()
        };
        let mut differing = Vec::new();
        let same_places = places(old) == places(new);
        if !same_places {
            differing.push("listener");
        }
        for row in options::rows().filter(|row| row.reload == Reload::Restart) {
            let State::Built(built) = &row.state else {
                continue;
            };
            let differs = match built.show {
                Show::Global(show) => show(old) != show(new),
                Show::Listener(show) => {
                    same_places
                        && std::iter::zip(&old.listeners, &new.listeners)
                            .any(|(old, new)| show(old) != show(new))
                }
                Show::Never => false,
            };
            if differs {
                differing.push(row.name);
            }
        }
        differing
    }
}

/// The rows that say how their value is written.
fn shown() -> impl Iterator<Item = (&'static str, &'static Show)> {
    options::rows().filter_map(|row| match &row.state {
        State::Built(built) => Some((row.name, &built.show)),
        State::NotBuilt(_) | State::Ignored(_) => None,
    })
}
