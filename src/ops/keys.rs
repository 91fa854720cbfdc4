//! Pressing keys by name.

use std::time::Duration;

use crate::keyboard::Chord;
use crate::qmp::schema::Schema;
use crate::vm::VmName;

use super::keyboard::Keyboard;
use super::qmp::schema_of;
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
    let mut monitor = monitor::open(host, name, limit)?;
    let known = key_names(&schema_of(host, &mut monitor)?);
    let chords = chords
        .iter()
        .map(|chord| Chord::parse(chord, &known))
        .collect::<Result<Vec<_>, _>>()?;
    let mut keyboard = Keyboard::new(name, monitor, chords.len(), limit)?;
    for chord in &chords {
        match hold {
            Some(time) => keyboard.hold(chord, time)?,
            None => keyboard.press(chord)?,
        }
    }
    keyboard.wait_until_taken()?;
    Ok(chords.len())
}

/// QEMU's names of all keys.
pub fn names(host: &Host, name: &VmName, limit: Duration) -> Result<Vec<String>, Error> {
    let mut monitor = monitor::open(host, name, limit)?;
    Ok(key_names(&schema_of(host, &mut monitor)?))
}

/// The enumeration `QKeyCode`: the schema tells it without its name.
fn key_names(schema: &Schema) -> Vec<String> {
    let mut names = schema.enumeration_with("grave_accent").unwrap_or_default();
    names.retain(|name| name != "unmapped");
    names
}
