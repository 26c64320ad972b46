//! `--NAME VALUE` pairs.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

use crate::Failure;

/// Options that were given and not taken yet.
pub struct Args(BTreeMap<String, String>);

impl Args {
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = BTreeMap::new();
        let mut words = words;
        while let Some(word) = words.next() {
            let name = word
                .strip_prefix("--")
                .ok_or_else(|| Failure::Usage(format!("\"{word}\" is no option")))?;
            let value = words
                .next()
                .ok_or_else(|| Failure::Usage(format!("--{name} needs a value")))?;
            options.insert(name.to_owned(), value);
        }
        Ok(Self(options))
    }

    /// The value of `--name`, or `default`.
    pub fn take<T: FromStr>(&mut self, name: &str, default: T) -> Result<T, Failure> {
        Ok(self.take_option(name)?.unwrap_or(default))
    }

    pub fn take_option<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(Failure::Usage(format!(
                    "--{name}: \"{text}\" is no value for it"
                ))),
            },
        }
    }

    /// The broker's address. There is no default port, so that nobody floods a broker by accident.
    pub fn target(&mut self) -> Result<SocketAddrV4, Failure> {
        let port = self
            .take_option("port")?
            .ok_or_else(|| Failure::Usage("--port is missing".into()))?;
        Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
    }

    /// Refuses what nobody took.
    pub fn finish(&self) -> Result<(), Failure> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(Failure::Usage(format!("unknown option --{name}"))),
        }
    }
}
