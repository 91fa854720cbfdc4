//! Deleting a snapshot. What the VM is now stays as it is.

use std::path::PathBuf;

use serde::Serialize;

use crate::ops::operation::{Plan as AnyPlan, Work};
use crate::ops::reach::Reach;
use crate::ops::{Error, Host};
use crate::vm::VmName;

use super::disks::Disks;
use super::settle::delete_from;
use super::{Facts, Plan, What, find, no_such};

/// A snapshot that was deleted.
#[derive(Clone, Debug, Serialize)]
pub struct Removed {
    /// The VM.
    pub vm: VmName,
    /// The snapshot.
    pub name: String,
    /// The images that it was in.
    pub disks: Vec<PathBuf>,
}

/// Deletes a snapshot from all images that have it.
///
/// # Errors
/// [`NoSuch`](super::Error::NoSuch); [`Error::HasSavedState`] of a VM that is to go on
/// from one, or in this snapshot; [`Obstacles`](super::Error::Obstacles) of one in an image
/// that an overlay stands on.
pub fn rm(host: &Host, vm: &VmName, name: &str) -> Result<Removed, Error> {
    let work = Work::take(host, vm)?;
    let config = host.config(&host.vm(vm)?)?;
    let mut reach = work.reach()?;
    let kept = find(host, vm, name)?;
    if let Some(snapshot) = &kept
        && !Facts::of(snapshot)?.overlays.is_empty()
    {
        let (vm, name) = (vm.clone(), name.to_owned());
        return Err(super::Error::Beside { vm, name }.into());
    }
    let found = Disks::look(host, &config, &mut reach)?;
    let disks = found.with(name);
    if kept.is_none() && disks.is_empty() {
        return Err(no_such(vm, name, found.names()).into());
    }
    if let Some(kept) = &kept
        && let Some(image) = found.below_with(&Facts::of(kept)?.disks, name)
    {
        let image = image.display();
        return Err(super::Error::Obstacles {
            doing: "deleting a snapshot of",
            vm: vm.clone(),
            obstacles: vec![format!("it is within {image}, which an overlay stands on")],
        }
        .into());
    }
    let position = host.store()?.position(vm)?;
    let is_awaited = kept.as_ref().is_some_and(|kept| {
        position.is_some_and(|position| position.resumes && position.snapshot == kept.id)
    });
    if matches!(reach, Reach::Stopped(_)) && (is_awaited || host.paths.saved(vm).state().exists()) {
        return Err(Error::HasSavedState(vm.clone()));
    }
    let id = kept.map(|kept| kept.id);
    let plan = AnyPlan::Snapshot(Plan {
        what: What::Rm,
        name: name.to_owned(),
        id,
        disks: disks.clone(),
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
    })
}
