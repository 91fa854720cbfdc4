//! Deleting a snapshot beside images that no disk goes on from.

use std::path::PathBuf;
use std::slice;

use crate::image;
use crate::ops::operation::{Plan as AnyPlan, Work};
use crate::ops::reach::Reach;
use crate::ops::{Error, Host, disk};
use crate::store;
use crate::vm::VmName;

use super::super::{Error as Why, Facts};
use super::{Plan, What, delete};

/// Deletes a snapshot, with those of its images that maqet made; what disks or other
/// snapshots stand on stays.
///
/// # Errors
/// [`Why::Beside`] if something stands on it.
pub(in crate::ops::snapshot) fn rm(
    host: &Host,
    work: &Work<'_>,
    vm: &VmName,
    snapshot: &store::Snapshot,
    facts: &Facts,
    reach: Reach,
) -> Result<Vec<PathBuf>, Error> {
    let all = disk::Users::find(host)?;
    let mut users = Vec::new();
    let mut files = Vec::new();
    for overlay in &facts.overlays {
        users.extend(all.of(&overlay.base)?);
        if disk::plan::is_made(host, vm, &overlay.base)? {
            image::require_writable(&overlay.base)?;
            files.push(overlay.base.clone());
        }
    }
    users.retain(|it| it.vm != *vm || it.snapshot.as_ref() != Some(&snapshot.name));
    if !users.is_empty() {
        return Err(Why::Beside {
            vm: vm.clone(),
            name: snapshot.name.clone(),
            users,
        }
        .into());
    }
    for file in &files {
        disk::orphans::spare(host, slice::from_ref(file))?;
    }
    let id = snapshot.id;
    let plan = AnyPlan::Beside(Plan {
        what: What::Rm {
            id,
            files: files.clone(),
        },
        name: snapshot.name.clone(),
        overlays: Vec::new(),
        was_running: false,
    });
    work.perform(&plan, reach, |operation, _| {
        delete(host, &files)?;
        Ok(host.store()?.remove_snapshot(Some(id), operation.0)?)
    })?;
    Ok(facts.disks.clone())
}
