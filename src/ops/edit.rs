//! Putting a text that was edited in the place of a VM's definition.

use std::path::Path;

use crate::vm::VmName;

use super::change::{self, Changed, Reach, Request};
use super::claims::Claims;
use super::{Error, Host};

/// Has a VM be what an edited text says, if its definition is still the `original`.
///
/// What the text changes is changed at once where that can be and `live` says so.
/// Relative paths are relative to the directory of `file`, mistakes are told as of `label`.
///
/// # Errors
/// [`Error::ChangedMeanwhile`], so that nobody's change is lost.
pub fn edit(
    host: &Host,
    name: &VmName,
    original: &str,
    text: &str,
    (file, label): (&Path, &Path),
    live: bool,
) -> Result<Changed, Error> {
    change::change(
        host,
        name,
        Request {
            edit: &mut |row| match row.definition == original {
                true => Ok(text.to_owned()),
                false => Err(Error::ChangedMeanwhile(name.clone())),
            },
            file,
            label,
            reach: match live {
                true => Reach::Edited,
                false => Reach::Nothing,
            },
            limits: &[],
            claims: &Claims::for_vms(host, 1),
        },
    )
}
