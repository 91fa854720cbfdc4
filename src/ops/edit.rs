//! Changing the definition of a stored VM.

use crate::config::{Document, VmConfig};
use crate::store::Row;
use crate::vm::VmName;

use super::add::row;
use super::{Error, Host, policy};

/// A definition before and after.
#[derive(Clone, Debug)]
pub(super) struct Edited {
    pub old: Row,
    pub new: Row,
}

impl Edited {
    /// Puts the old definition back, unless someone else has changed the new one.
    pub(super) fn undo(self, host: &Host) -> Result<(), Error> {
        host.store()?.replace(&self.new.definition, &self.old)?;
        Ok(())
    }
}

/// Changes the definition of `name` by `change`, and checks what comes of it.
///
/// When someone else changes it at the same time, `change` is done again on theirs.
pub(super) fn edit(
    host: &Host,
    name: &VmName,
    mut change: impl FnMut(&mut Document) -> Result<(), Error>,
) -> Result<Edited, Error> {
    let file = host.paths.vm(name).definition();
    let mut store = host.store()?;
    loop {
        let old = host.vm(name)?;
        let mut document = Document::parse(&old.definition, &file)?;
        change(&mut document)?;
        let text = document.to_string();
        let config = VmConfig::parse_checked(&text, &file, &host.defaults()?, policy::faults)?;
        let new = row(&config, text, old.uuid.clone(), &file)?;
        if store.replace(&old.definition, &new)? {
            return Ok(Edited { old, new });
        }
    }
}
