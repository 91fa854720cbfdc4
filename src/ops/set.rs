//! Changing the limits of a VM: of its unit at once, and of its definition.

use std::str::FromStr;

use serde::Serialize;

use crate::config::UnitValue;
use crate::systemd::property::{self, Given, Setting};
use crate::systemd::{self, unit_name};
use crate::vm::VmName;

use super::{Error, Host, edit, policy};

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

/// What was changed.
#[derive(Clone, Debug, Serialize)]
pub struct Changed {
    /// The VM.
    pub name: VmName,
    /// The properties that the running VM has now.
    pub now: Vec<String>,
    /// Those that it will have when it is started the next time.
    pub next_start: Vec<String>,
    /// Whether the definition was changed.
    pub persisted: bool,
}

/// Gives properties of a VM's unit other values; all of them or none.
///
/// A running VM has them at once, until it stops; with `persist` the definition
/// says so too, and what cannot be changed while it runs waits for the next start.
pub fn set(
    host: &Host,
    name: &VmName,
    changes: &[Change],
    persist: bool,
) -> Result<Changed, Error> {
    let is_up = host.unit(name)?.active_state.is_up();
    if !persist && !is_up {
        host.vm(name)?;
        return Err(Error::NothingToChange(name.clone()));
    }
    let mut live: Vec<Setting> = Vec::new();
    let (mut now, mut next_start) = (Vec::new(), Vec::new());
    for Change { property, value } in changes {
        let is_live = property::is_live(property);
        // A key that is taken out of the definition has no value that could be wrong.
        if !(persist && !is_live && value.is_empty()) {
            let setting = property::parse(property, Given::Text(value))?;
            if is_up && (is_live || !persist) {
                live.push(setting);
            }
        }
        let list = if is_up && is_live {
            &mut now
        } else {
            &mut next_start
        };
        list.push(property.clone());
    }
    check_memory(host, name, changes)?;

    let edited = match persist {
        true => Some(edit::edit(host, name, |document| {
            for Change { property, value } in changes {
                let key = format!("unit.{property}");
                match value.as_str() {
                    "" => {
                        document.remove(&key);
                    }
                    value => document.set(&key, value)?,
                }
            }
            Ok(())
        })?),
        false => None,
    };
    if !live.is_empty()
        && let Err(error) = systemd::set_properties(&host.scope, &unit_name(name), &live)
    {
        if let Some(edited) = edited {
            edited.undo(host)?;
        }
        return Err(error.into());
    }
    Ok(Changed {
        name: name.clone(),
        now,
        next_start,
        persisted: persist,
    })
}

/// Refuses a limit that would have the guest killed.
fn check_memory(host: &Host, name: &VmName, changes: &[Change]) -> Result<(), Error> {
    let row = match host.vm(name) {
        // It runs without a definition: nothing tells what it needs.
        Err(Error::NoSuchVm { .. }) => return Ok(()),
        row => row?,
    };
    let config = host.config(&row)?;
    for Change { property, value } in changes {
        let value = UnitValue::Text(value.clone());
        if let Some(message) = policy::too_little_memory(&config, property, &value) {
            return Err(Error::TooLittleMemory(message));
        }
    }
    Ok(())
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
}
