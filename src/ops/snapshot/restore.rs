//! Going back to a snapshot.

use std::path::PathBuf;

use serde::Serialize;

use crate::ops::operation::{Plan as AnyPlan, Work};
use crate::ops::reach::Reach;
use crate::ops::{Error, Host};
use crate::store::Position;
use crate::vm::VmName;

use super::disks::Disks;
use super::settle::restore_all;
use super::{Error as Why, Facts, Plan, What, find, no_such};

/// A VM that is at a snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// The VM.
    pub vm: VmName,
    /// The snapshot.
    pub name: String,
    /// The images that read as they did then.
    pub disks: Vec<PathBuf>,
}

/// Has the disks of a VM that does not run read as they did at a snapshot.
///
/// # Errors
/// [`Why::NoSuch`], [`Why::NotWhole`], [`Error::Running`], [`Error::HasSavedState`].
pub fn restore(host: &Host, vm: &VmName, name: &str) -> Result<Restored, Error> {
    let work = Work::take(host, vm)?;
    let row = host.vm(vm)?;
    let mut reach = work.reach()?;
    let found = Disks::look(host, &host.config(&row)?, &mut reach)?;
    let kept = find(host, vm, name)?;
    if kept.is_none() && !found.names().iter().any(|it| it == name) {
        return Err(no_such(vm, name, found.names()).into());
    }
    let disks = match &kept {
        Some(kept) => Facts::of(kept)?.disks,
        None => found.paths(),
    };
    let is_in = |path: &&PathBuf| {
        found
            .at(path)
            .is_some_and(|disk| disk.snapshot(name).is_some())
    };
    let missing: Vec<PathBuf> = disks.iter().filter(|path| !is_in(path)).cloned().collect();
    if !missing.is_empty() {
        return Err(Why::NotWhole {
            vm: vm.clone(),
            name: name.to_owned(),
            missing,
        }
        .into());
    }
    if matches!(reach, Reach::Running(_)) {
        return Err(Error::Running(vm.clone()));
    }
    if host.paths.saved(vm).state().exists() {
        return Err(Error::HasSavedState(vm.clone()));
    }
    let id = kept.map(|kept| kept.id);
    let plan = AnyPlan::Snapshot(Plan {
        what: What::Restore { resumes: false },
        name: name.to_owned(),
        id,
        disks: disks.clone(),
    });
    work.perform(&plan, reach, |operation, _| {
        restore_all(&disks, name)?;
        let position = id.map(|snapshot| Position {
            snapshot,
            resumes: false,
        });
        host.store()?.restore_snapshot(vm, position, operation.0)?;
        Ok(())
    })?;
    Ok(Restored {
        vm: vm.clone(),
        name: name.to_owned(),
        disks,
    })
}
