//! Deleting a snapshot. What the VM is now stays as it is.

use std::path::PathBuf;

use serde::Serialize;

use crate::ops::disk::guard;
use crate::ops::operation::{Plan as AnyPlan, Work};
use crate::ops::reach::Reach;
use crate::ops::{Doing, Error, Host, Obstacle};
use crate::vm::VmName;

use super::disks::{Disks, absent};
use super::settle::delete_from;
use super::{Facts, Plan, What, beside, elsewhere, find, no_such, nothing_in_the_way, stands_on};

/// A snapshot that was deleted.
#[derive(Clone, Debug, Serialize)]
pub struct Removed {
    /// The VM.
    pub vm: VmName,
    /// The snapshot.
    pub name: String,
    /// The images that it was in.
    pub disks: Vec<PathBuf>,
    /// Images that have it still, as the VM has them no more.
    pub left: Vec<PathBuf>,
}

/// Deletes a snapshot from all images that have it, and one beside its images with those.
///
/// # Errors
/// [`NoSuch`](super::Error::NoSuch); [`Below`](super::Error::Below) and
/// [`Beside`](super::Error::Beside) if something stands on an image; [`Error::HasSavedState`]
/// of a VM that is to go on from one, or in this snapshot.
pub fn rm(host: &Host, vm: &VmName, name: &str) -> Result<Removed, Error> {
    let work = Work::take(host, vm)?;
    let config = host.config(&host.vm(vm)?)?;
    let mut reach = work.reach()?;
    let kept = find(host, vm, name)?;
    let facts = kept.as_ref().map(Facts::of).transpose()?;
    if let (Some(snapshot), Some(facts)) = (&kept, &facts)
        && !facts.overlays.is_empty()
    {
        return Ok(Removed {
            vm: vm.clone(),
            name: name.to_owned(),
            disks: beside::rm::rm(host, &work, vm, snapshot, facts, reach)?,
            left: Vec::new(),
        });
    }
    let found = Disks::look(host, &config, &mut reach)?;
    let disks = found.with(name);
    let mut left = Vec::new();
    for file in elsewhere(name, facts.as_ref(), &found)? {
        match found.stands_on(&file) {
            true => return Err(stands_on(host, vm, name, file)?.into()),
            false => left.push(file),
        }
    }
    if let (Reach::Running(_), Some(facts)) = (&reach, &facts) {
        let mut unplugged = absent(host, &config, facts, left.clone(), false);
        unplugged.retain(|it| matches!(it, Obstacle::Unplugged { .. }));
        nothing_in_the_way(Doing::Delete, vm, unplugged)?;
    }
    if kept.is_none() && disks.is_empty() {
        return Err(no_such(vm, name, found.names()).into());
    }
    let position = host.store()?.position(vm)?;
    let is_awaited = kept.as_ref().is_some_and(|kept| {
        position.is_some_and(|position| position.resumes && position.snapshot == kept.id)
    });
    if matches!(reach, Reach::Stopped(_)) && (is_awaited || host.paths.saved(vm).state().exists()) {
        return Err(Error::HasSavedState(vm.clone()));
    }
    let id = kept.map(|kept| kept.id);
    guard::no_bases(host, &disks)?;
    Disks::require_sound(host, &config, &reach, &disks)?;
    let plan = AnyPlan::Snapshot(Plan {
        what: What::Rm,
        name: name.to_owned(),
        id,
        disks: disks.clone(),
        was_running: false,
    });
    work.perform(&plan, reach, |operation, reach| {
        delete_from(reach, &disks, name)?;
        host.store()?.remove_snapshot(id, operation.0)?;
        Ok(())
    })?;
    Ok(Removed {
        vm: vm.clone(),
        name: name.to_owned(),
        disks,
        left,
    })
}
