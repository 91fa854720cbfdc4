//! QEMU's own description of its commands, and words turned into arguments by it.
//!
//! The answer to `query-qmp-schema` names types by numbers and holds all of them
//! (qapi/introspect.json in QEMU). A command needs a handful of its thousand
//! entries, so they stay text, one a line, until they are looked at.

mod complete;
mod describe;
mod types;
mod words;

use std::hash::Hasher;

use serde_json::Value;

pub use describe::{Argument, Description};
use types::Entity;
pub use words::{Further, FurtherType};

use crate::nearest::nearest;

/// What one QEMU understands.
///
/// Lines of a name, a space, and the rest of the entry as JSON; sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema(String);

/// Why words are not arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The schema lacks something that it refers to.
    #[error("QEMU's schema is not what was expected: {0}")]
    Schema(String),
    /// There is no such command.
    #[error("QEMU has no command `{command}`{}", or(.nearest))]
    NoCommand {
        /// The command.
        command: String,
        /// The nearest ones there are.
        nearest: Vec<String>,
    },
    /// There is no such event.
    #[error("QEMU has no event `{event}`{}", or(.nearest))]
    NoEvent {
        /// The event, or the pattern that matches none.
        event: String,
        /// The nearest ones there are.
        nearest: Vec<String>,
    },
    /// There is no such device driver.
    #[error("QEMU has no device `{driver}`{}", or(.nearest))]
    NoDriver {
        /// The driver.
        driver: String,
        /// The nearest ones there are.
        nearest: Vec<String>,
    },
    /// The command has no such argument.
    #[error("there is no argument `{key}`{}", or(.nearest))]
    NoArgument {
        /// The argument, with the path that leads to it.
        key: String,
        /// The nearest ones there are.
        nearest: Vec<String>,
    },
    /// The command cannot do without this argument.
    #[error("the argument `{0}` is missing")]
    Missing(String),
    /// Two words are about the same argument, and it is no list.
    #[error("the argument `{0}` is given twice")]
    Twice(String),
    /// A value is not of its argument's type.
    #[error("`{key}={value}`: expected {expected}")]
    Value {
        /// The argument.
        key: String,
        /// The value as written.
        value: String,
        /// What it should have been.
        expected: String,
    },
    /// A word is neither `key=value` nor `key:=JSON`.
    #[error("`{0}` is not an argument: write key=value, or key:=JSON")]
    Word(String),
}

impl Error {
    /// [`NoDriver`](Self::NoDriver), with the nearest of those that are `known`.
    pub fn no_driver<'a>(driver: &str, known: impl Iterator<Item = &'a str>) -> Self {
        Self::NoDriver {
            driver: driver.to_owned(),
            nearest: nearest(driver, known)
                .into_iter()
                .map(str::to_owned)
                .collect(),
        }
    }
}

/// The end of a message that can say what was probably meant.
fn or(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        [one] => format!(", did you mean `{one}`?"),
        [first @ .., last] => format!(", did you mean `{}` or `{last}`?", first.join("`, `")),
    }
}

impl Schema {
    /// Takes the answer to `query-qmp-schema`.
    ///
    /// # Errors
    ///
    /// [`Error::Schema`] if it is not one.
    pub fn parse(answer: Value) -> Result<Self, Error> {
        let Value::Array(entities) = answer else {
            return Err(Error::Schema("it is no list".to_owned()));
        };
        let mut lines: Vec<(String, Value)> = entities
            .into_iter()
            .map(|mut entity| {
                match entity
                    .as_object_mut()
                    .and_then(|entity| entity.remove("name"))
                {
                    Some(Value::String(name)) if !name.contains([' ', '\n']) => Ok((name, entity)),
                    _ => Err(Error::Schema("an entry has no name".to_owned())),
                }
            })
            .collect::<Result<_, _>>()?;
        lines.sort_by(|a, b| a.0.cmp(&b.0));
        let lines = lines
            .iter()
            .map(|(name, entity)| format!("{name} {entity}\n"));
        Ok(Self(lines.collect()))
    }

    /// The schema as a text to keep, which is quick to read again.
    pub fn to_kept(&self) -> String {
        format!("{:016x}\n{}", checksum(&self.0), self.0)
    }

    /// Reads what [`to_kept`](Self::to_kept) made; `None` if it was made by another maqet, or is damaged.
    pub fn from_kept(text: String) -> Option<Self> {
        let (sum, lines) = text.split_once('\n')?;
        (u64::from_str_radix(sum, 16).ok()? == checksum(lines)).then(|| Self(lines.to_owned()))
    }

    /// The names of all commands, sorted.
    pub fn commands(&self) -> Vec<&str> {
        self.names(r#""meta-type":"command""#)
    }

    /// The names of all events, sorted.
    pub fn events(&self) -> Vec<&str> {
        self.names(r#""meta-type":"event""#)
    }

    fn names(&self, kind: &str) -> Vec<&str> {
        self.0
            .lines()
            .filter(|line| line.contains(kind))
            .filter_map(|line| Some(line.split_once(' ')?.0))
            .collect()
    }

    /// Checks that an event matches a pattern.
    ///
    /// # Errors
    ///
    /// [`Error::NoEvent`] if there is none.
    pub fn check_event(&self, pattern: &glob::Pattern) -> Result<(), Error> {
        let events = self.events();
        if events.iter().any(|event| pattern.matches(event)) {
            return Ok(());
        }
        let nearest = nearest(pattern.as_str(), events);
        Err(Error::NoEvent {
            event: pattern.to_string(),
            nearest: nearest.into_iter().map(str::to_owned).collect(),
        })
    }

    /// The commands that `command` was probably meant to be; it itself, if there is one.
    pub fn nearest_commands(&self, command: &str) -> Vec<String> {
        nearest(command, self.commands())
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// The types of a command's arguments and of its answer.
    fn command(&self, command: &str) -> Result<(String, String), Error> {
        match self.entity(command) {
            Ok(Entity::Command { arg_type, ret_type }) => Ok((arg_type, ret_type)),
            _ => Err(Error::NoCommand {
                command: command.to_owned(),
                nearest: self.nearest_commands(command),
            }),
        }
    }

    fn entity(&self, name: &str) -> Result<Entity, Error> {
        let json = self
            .find(name)
            .ok_or_else(|| Error::Schema(format!("it has no type {name}")))?;
        serde_json::from_str(json).map_err(|error| Error::Schema(format!("type {name}: {error}")))
    }

    /// The rest of the line that begins with `name`, by halves.
    fn find(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.as_str();
        loop {
            // By bytes: the middle may be within a character.
            let before = &lines.as_bytes()[..lines.len() / 2];
            let begin = before.iter().rposition(|byte| *byte == b'\n');
            let begin = begin.map_or(0, |at| at + 1);
            let end = begin + lines[begin..].find('\n')?;
            let (found, rest) = lines[begin..end].split_once(' ')?;
            lines = match found.cmp(name) {
                std::cmp::Ordering::Equal => return Some(rest),
                std::cmp::Ordering::Less => &lines[end + 1..],
                std::cmp::Ordering::Greater => &lines[..begin],
            };
        }
    }
}

/// The standard library's, which is quick and may change with it: then the text is made anew.
fn checksum(text: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qmp::prelaunch::Prelaunch;

    /// What the QEMU that is installed understands.
    pub(super) fn schema() -> Schema {
        let qemu = Prelaunch::start();
        Schema::parse(qemu.connect().execute("query-qmp-schema", ()).unwrap()).unwrap()
    }

    #[test]
    fn every_entry_is_found_and_nothing_else() {
        let schema = schema();
        for line in schema.0.lines() {
            let (name, json) = line.split_once(' ').unwrap();
            assert_eq!(schema.find(name), Some(json));
            schema.entity(name).unwrap();
        }
        for none in ["", " ", "00", "~", "query", "query-status ", "zz"] {
            assert_eq!(schema.find(none), None, "{none:?}");
        }
        assert!(schema.commands().len() > 200);
    }

    #[test]
    fn what_is_kept_is_the_same_or_nothing() {
        let schema = schema();
        let kept = schema.to_kept();
        assert_eq!(Schema::from_kept(kept.clone()), Some(schema));
        let middle = kept.len() / 2;
        let changed = kept.replacen("query-status", "query-statsu", 1);
        for damaged in ["", "\n", &kept[1..], &kept[..middle], &kept[17..], &changed] {
            assert_eq!(Schema::from_kept(damaged.to_owned()), None);
        }
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for answer in ["{}", "[1]", r#"[{"name": 1}]"#, r#"[{"name": "a b"}]"#] {
            let answer = serde_json::from_str(answer).unwrap();
            assert!(matches!(Schema::parse(answer), Err(Error::Schema(_))));
        }
    }
}
