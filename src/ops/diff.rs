//! What differs: between what a VM runs with and its definition, or a definition and a file.

use serde::Serialize;

use crate::config::Difference;
use crate::qmp::Monitor;
use crate::vm::VmName;

use super::add::Source;
use super::change::{self, Proposal, between, is_at_once, is_live};
use super::claims::Claims;
use super::in_force::{self, Definition};
use super::{Error, Host, live, monitor};

/// A key that differs.
#[derive(Clone, Debug, Serialize)]
pub struct Differing {
    /// The key and its values.
    #[serde(flatten)]
    pub difference: Difference,
    /// Whether the VM can be given the new value while it runs.
    pub live: bool,
}

/// What a running VM would be given by its next start.
///
/// # Errors
/// [`Error::NotRunning`].
pub fn running(host: &Host, name: &VmName) -> Result<Vec<Differing>, Error> {
    let row = host.vm(name)?;
    let Some(used) = in_force::read(host, name)? else {
        return Err(Error::NotRunning(name.clone()));
    };
    let mut monitor = monitor::open(host, name, live::ANSWER)?;
    let new = Definition::read(host, name, &row.definition)?;
    Ok(pending(host, name, &used, &new, Some(&mut monitor)))
}

/// What a definition would be given by a file.
pub fn with_file(host: &Host, name: &VmName, source: &Source) -> Result<Vec<Differing>, Error> {
    let row = host.vm(name)?;
    let claims = Claims::for_vms(host, 1);
    let new = Proposal::read(
        &claims,
        &source.text,
        Some(&row),
        &source.file,
        &source.file,
    )?;
    let old = Definition::read(host, name, &row.definition)?;
    Ok(judged(&old, &new.definition))
}

/// What waits for the next start of a VM that runs with `used`, as far as that is known.
pub(super) fn pending(
    host: &Host,
    name: &VmName,
    used: &Definition,
    new: &Definition,
    monitor: Option<&mut Monitor>,
) -> Vec<Differing> {
    let corrected = monitor.and_then(|monitor| change::corrected(host, name, monitor, used).ok());
    let mut differing = judged(corrected.as_ref().unwrap_or(used), new);
    differing.retain(|it| !is_at_once(&it.difference.key));
    differing
}

fn judged(old: &Definition, new: &Definition) -> Vec<Differing> {
    between(old, new)
        .into_iter()
        .map(|difference| Differing {
            live: is_live(&difference.key, &old.config, &new.config),
            difference,
        })
        .collect()
}
