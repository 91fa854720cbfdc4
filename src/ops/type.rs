//! Typing text.

use std::time::Duration;

use crate::keyboard::Layout;
use crate::vm::VmName;

use super::keyboard::Keyboard;
use super::{Error, Host, monitor};

/// Types `text`, as on a keyboard of that layout; how many characters.
///
/// # Errors
/// [`Error::Keys`] for a character that the layout has not, before anything is
/// typed; [`Error::KeysNotTaken`] if the guest stops reading its keyboard.
pub fn type_text(
    host: &Host,
    name: &VmName,
    text: &str,
    layout: &Layout,
    limit: Duration,
) -> Result<usize, Error> {
    let chords = layout.chords(text)?;
    let monitor = monitor::open(host, name, limit)?;
    let mut keyboard = Keyboard::new(name, monitor, chords.len(), limit)?;
    for chord in &chords {
        keyboard.press(chord)?;
    }
    keyboard.wait_until_taken()?;
    Ok(chords.len())
}
