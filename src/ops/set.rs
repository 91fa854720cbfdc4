//! Giving keys of a VM's definition, and limits of its unit, other values.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::config::{Assignment, Document, InvalidAssignment, UnitValue};
use crate::store::Row;
use crate::systemd::property::{self, Given};
use crate::systemd::{self, unit_name};
use crate::vm::VmName;

use super::change::{self, Changed, Proposal, Reach, Request};
use super::claims::Claims;
use super::{Error, Host, policy};

/// A property and the value that it is to have, as in a unit file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name in unit files.
    pub property: String,
    /// Its value; empty for none.
    pub value: String,
}

/// A word that is not `PROPERTY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not PROPERTY=VALUE, as in MemoryHigh=3G")]
pub struct InvalidChange(String);

impl FromStr for Change {
    type Err = InvalidChange;

    fn from_str(word: &str) -> Result<Self, InvalidChange> {
        word.split_once('=')
            // Words that begin otherwise are not properties of a unit.
            .filter(|(name, _)| name.starts_with(|c: char| c.is_ascii_uppercase()))
            .filter(|(_, value)| !value.contains(char::is_control))
            .map(|(property, value)| Self {
                property: property.to_owned(),
                value: value.to_owned(),
            })
            .ok_or_else(|| InvalidChange(word.to_owned()))
    }
}

/// A word of `set`: a property of the unit, which has a capital, or a key of the definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// `MemoryHigh=3G`.
    Property(Change),
    /// `memory=4G`.
    Key(Assignment),
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Property(Change { property, value }) => write!(f, "{property}={value}"),
            Self::Key(assignment) => assignment.fmt(f),
        }
    }
}

impl FromStr for Word {
    type Err = InvalidAssignment;

    fn from_str(word: &str) -> Result<Self, InvalidAssignment> {
        match word.starts_with(|c: char| c.is_ascii_uppercase()) {
            true => word
                .parse()
                .map(Self::Property)
                .map_err(|_| InvalidAssignment(word.to_owned())),
            false => word.parse().map(Self::Key),
        }
    }
}

/// How to set.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// What relative paths are relative to.
    pub dir: &'a Path,
    /// Whether the definition is to have the properties of the unit, too.
    pub persist: bool,
    /// Whether a running VM is changed, where it can be.
    pub live: bool,
}

/// Gives keys and properties other values; all of them or none.
///
/// Keys are of the definition, and a running VM has them at once where that can be.
/// Properties are those of the running VM's unit, until it stops; with `persist`
/// they are keys in `[unit]` of the definition.
pub fn set(
    host: &Host,
    name: &VmName,
    words: &[Word],
    options: Options<'_>,
) -> Result<Changed, Error> {
    let mut keys = Vec::new();
    let mut typed = Vec::new();
    let mut limits: Vec<(String, String)> = Vec::new();
    for word in words {
        let key = match word {
            Word::Key(assignment) => assignment.key.clone(),
            Word::Property(change) if options.persist => format!("unit.{}", change.property),
            Word::Property(Change { property, value }) => {
                limits.push((property.clone(), value.clone()));
                continue;
            }
        };
        keys.push(key.clone());
        typed.push((key, word.to_string()));
    }
    if !limits.is_empty() && !host.unit(name)?.active_state.is_up() {
        host.vm(name)?;
        return Err(Error::NothingToChange(name.clone()));
    }
    let file = options.dir.join(format!("{name}.toml"));
    let label = Path::new(name.as_str());
    let claims = Claims::for_vms(host, 1);
    let defaults = host.defaults()?;
    let mut text = String::new();
    let mut edit = |row: &Row| {
        let mut document = Document::parse(&row.definition, &file)?;
        for word in words {
            match word {
                Word::Key(assignment) => document.assign(assignment, &defaults)?,
                Word::Property(Change { property, value }) if options.persist => {
                    change::set_property(&mut document, property, value)?;
                }
                Word::Property(_) => {}
            }
        }
        text = document.to_string();
        Ok(text.clone())
    };
    let mut wrong = wrong_limits(host, name, &limits)?;
    if !wrong.is_empty() && !keys.is_empty() {
        // What is wrong with those is told with it.
        let row = host.vm(name)?;
        let read = edit(&row).and_then(|text| {
            let read = Proposal::read(&claims, &text, Some(&row), &file, label);
            read.map_err(|error| error.typed(&text, &typed))
        });
        wrong.extend(read.err());
    }
    Error::all(wrong)?;
    let edited = change::change(
        host,
        name,
        Request {
            edit: &mut edit,
            file: &file,
            label,
            reach: match options.live {
                true => Reach::Keys(&keys),
                false => Reach::Nothing,
            },
            limits: &limits,
            claims: &claims,
        },
    );
    match edited {
        // It runs without a definition, and has limits all the same.
        Err(Error::NoSuchVm { .. }) if keys.is_empty() => {
            let settings = limits
                .iter()
                .map(|(name, value)| property::parse(name, Given::Text(value)))
                .collect::<Result<Vec<_>, _>>()?;
            systemd::set_properties(&host.scope, &unit_name(name), &settings)?;
            Ok(Changed {
                name: name.clone(),
                persisted: false,
                kept: Vec::new(),
                changes: Vec::new(),
                made: Vec::new(),
                warnings: Vec::new(),
            })
        }
        edited => edited.map_err(|error| error.typed(&text, &typed)),
    }
}

/// The limits that would have the guest killed, and what is no limit.
fn wrong_limits(
    host: &Host,
    name: &VmName,
    limits: &[(String, String)],
) -> Result<Vec<Error>, Error> {
    let config = match host.vm(name) {
        // Nothing tells what it needs.
        Err(Error::NoSuchVm { .. }) => None,
        row => Some(host.config(&row?)?),
    };
    let wrong = |(property, value): &(String, String)| {
        if let Err(error) = property::parse(property, Given::Text(value)) {
            return Some(error.into());
        }
        let value = UnitValue::Text(value.clone());
        let message = policy::too_little_memory(config.as_ref()?, property, &value)?;
        Some(Error::TooLittleMemory(message))
    };
    Ok(limits.iter().filter_map(wrong).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_property_and_a_value() {
        let change: Change = "Environment=A=b c".parse().unwrap();
        assert_eq!(
            (change.property.as_str(), change.value.as_str()),
            ("Environment", "A=b c")
        );
        assert_eq!("MemoryHigh=".parse::<Change>().unwrap().value, "");
        for wrong in ["MemoryHigh", "=3G", "memory=4G", "", "Nice=1\n"] {
            assert!(wrong.parse::<Change>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_capital_tells_a_property_from_a_key() {
        assert!(matches!("Nice=1".parse(), Ok(Word::Property(_))));
        for key in ["nice=1", "unit.Nice=1", "after+=db"] {
            assert!(matches!(key.parse(), Ok(Word::Key(_))), "{key}");
        }
        for wrong in ["Nice", "memory", "=1", "Nice=\n"] {
            assert!(wrong.parse::<Word>().is_err(), "{wrong:?}");
        }
    }
}
