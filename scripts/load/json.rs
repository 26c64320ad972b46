//! One flat JSON object on one line.

use std::fmt::{Display, Write};

/// An object under construction. Names and text come from this program; text is escaped all the same.
pub struct Object(String);

impl Object {
    pub fn new() -> Self {
        Self(String::from("{"))
    }

    pub fn number(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.member(name, &value.to_string())
    }

    /// `null` when there is no value.
    pub fn maybe(&mut self, name: &str, value: Option<impl Display>) -> &mut Self {
        let text = value.map_or_else(|| "null".to_owned(), |v| v.to_string());
        self.member(name, &text)
    }

    pub fn text(&mut self, name: &str, value: &str) -> &mut Self {
        let mut quoted = String::from("\"");
        for c in value.chars() {
            match c {
                '"' | '\\' => quoted.extend(['\\', c]),
                c if c.is_control() => {
                    let _ = write!(quoted, "\\u{:04x}", u32::from(c));
                }
                c => quoted.push(c),
            }
        }
        quoted.push('"');
        self.member(name, &quoted)
    }

    pub fn print(&self) {
        println!("{}}}", self.0);
    }

    fn member(&mut self, name: &str, value: &str) -> &mut Self {
        if self.0.len() > 1 {
            self.0.push_str(", ");
        }
        let _ = write!(self.0, "\"{name}\": {value}");
        self
    }
}
