//! Deleting the older snapshots.

use crate::ops::{Error, Host};
use crate::vm::VmName;

use super::ls::{Listed, ls};
use super::rm::{Removed, rm};

/// The snapshots of a VM that go when `keep` are to stay: the oldest.
///
/// Those stay, and count for none, that a user has described, that the VM is at, that are
/// beside their images, or within images below overlays, and that were made without maqet:
/// someone may count on them.
pub fn too_old(host: &Host, vm: &VmName, keep: usize) -> Result<Vec<Listed>, Error> {
    let mut all = ls(host, vm)?;
    all.retain(|it| {
        let is_fixed = it.is_current || it.is_foreign || it.is_external || it.is_below;
        it.description.is_none() && !is_fixed
    });
    all.sort_by_key(|it| it.id);
    all.truncate(all.len().saturating_sub(keep));
    Ok(all)
}

/// Deletes all but the newest `keep` of a VM's snapshots, the oldest first; see [`too_old`].
///
/// # Errors
/// Of the first one that cannot be deleted; those that are newer are left.
pub fn prune(host: &Host, vm: &VmName, keep: usize) -> Result<Vec<Removed>, Error> {
    let old = too_old(host, vm, keep)?;
    old.iter().map(|it| rm(host, vm, &it.name)).collect()
}
