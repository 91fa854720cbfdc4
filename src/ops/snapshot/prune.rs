//! Deleting the older snapshots.

use crate::ops::{Error, Host};
use crate::vm::VmName;

use super::ls::{Listed, ls};
use super::rm::{Removed, rm};

/// The snapshots of a VM, as a deletion of the older ones sees them.
pub struct Selection {
    /// Those that go, the oldest first.
    pub old: Vec<Listed>,
    /// Those that stay however old they are, and why, in words that follow "kept `NAME`: ".
    pub fixed: Vec<(String, &'static str)>,
}

/// What goes when `keep` snapshots of a VM are to stay: the oldest.
///
/// Those that someone may count on stay, and count for none.
///
/// # Errors
/// [`Error::HasSavedState`] of a VM that is to go on from one, if any would go.
pub fn select(host: &Host, vm: &VmName, keep: usize) -> Result<Selection, Error> {
    let (mut old, mut fixed) = (Vec::new(), Vec::new());
    for it in ls(host, vm)? {
        match why_fixed(&it) {
            Some(why) => fixed.push((it.name, why)),
            None => old.push(it),
        }
    }
    old.sort_by_key(|it| it.id);
    old.truncate(old.len().saturating_sub(keep));
    let is_saved = host.paths.saved(vm).state().exists();
    if !old.is_empty() && is_saved && !host.unit(vm)?.active_state.is_up() {
        return Err(Error::HasSavedState(vm.clone()));
    }
    Ok(Selection { old, fixed })
}

/// Why a snapshot stays however old it is.
fn why_fixed(it: &Listed) -> Option<&'static str> {
    if it.is_foreign {
        Some("it was made without maqet")
    } else if it.is_external {
        Some("it is external")
    } else if it.is_below {
        Some("it is in images below those of an external one")
    } else if it.is_current {
        Some("the VM is at it")
    } else if it.description.is_some() {
        Some("it has a description")
    } else {
        None
    }
}

/// Deletes the snapshots that [`select`] has found old.
///
/// # Errors
/// Of the first one that cannot be deleted; those that are newer are left.
pub fn prune(host: &Host, vm: &VmName, old: &[Listed]) -> Result<Vec<Removed>, Error> {
    old.iter().map(|it| rm(host, vm, &it.name)).collect()
}
