//! Pressing keys by name.

use std::time::Duration;

use serde::Deserialize;

use crate::keyboard::Chord;
use crate::vm::VmName;

use super::keyboard::Keyboard;
use super::{Error, Host, monitor};

/// Presses chords such as `ctrl-alt-f2`, one after the other; how many.
///
/// With `hold`, each is kept down that long.
///
/// # Errors
/// [`Error::Keys`] for a key that there is not, before any is pressed;
/// [`Error::KeysNotTaken`] if the guest stops reading its keyboard.
pub fn keys(
    host: &Host,
    name: &VmName,
    chords: &[String],
    hold: Option<Duration>,
    limit: Duration,
) -> Result<usize, Error> {
    let known = names(host, name, limit)?;
    let chords = chords
        .iter()
        .map(|chord| Chord::parse(chord, &known))
        .collect::<Result<Vec<_>, _>>()?;
    let mut keyboard = Keyboard::open(host, name, chords.len(), limit)?;
    for chord in &chords {
        match hold {
            Some(time) => keyboard.hold(chord, time)?,
            None => keyboard.press(chord)?,
        }
    }
    keyboard.wait_until_taken()?;
    Ok(chords.len())
}

/// QEMU's names of all keys: the enumeration `QKeyCode`, which this QEMU's schema
/// tells without its name.
pub fn names(host: &Host, name: &VmName, limit: Duration) -> Result<Vec<String>, Error> {
    let mut monitor = monitor::open(host, name, limit)?;
    let schema: Vec<Type> = monitor.query("query-qmp-schema")?;
    let keys = schema
        .into_iter()
        .find(|kind| kind.values.iter().any(|value| value == "grave_accent"));
    let mut names = keys.map(|kind| kind.values).unwrap_or_default();
    names.retain(|name| name != "unmapped");
    Ok(names)
}

/// What `query-qmp-schema` says of an enumeration, and of all others not.
#[derive(Deserialize)]
struct Type {
    #[serde(default)]
    values: Vec<String>,
}
