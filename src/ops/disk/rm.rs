//! A disk that a VM is to have no more.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::config::DeviceName;
use crate::image;
use crate::ops::device::Target;
use crate::ops::device::rm::may_go;
use crate::ops::operation::{Plan as AnyPlan, Work};
use crate::ops::reach::Reach;
use crate::ops::{Error, Host, save};
use crate::vm::VmName;

use super::plan::{Plan, delete, is_made};
use super::plug::{When, unplug};
use super::{Defined, Error as Why, definition, find, guard};

/// How to remove a disk.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether its image is deleted, too.
    pub delete: bool,
    /// How long the guest of a running VM may take to let go of it.
    pub timeout: Duration,
}

/// A disk that was removed.
#[derive(Clone, Debug, Serialize)]
pub struct Removed {
    /// The VM.
    pub vm: VmName,
    /// The disk.
    pub disk: DeviceName,
    /// Its image; none of an empty drive.
    pub file: Option<PathBuf>,
    /// Whether the image was deleted.
    pub deleted: bool,
    /// Since when the VM has it no more.
    pub when: When,
}

/// Takes a disk from a VM and out of its definition, and deletes its image if asked to.
///
/// # Errors
/// With `delete`: [`Why::Stays`] of a running VM; [`Why::NotMade`], [`Why::BlockDevice`],
/// [`Why::Needed`] and [`Why::HasSnapshots`]; nothing has changed then.
pub fn rm(
    host: &Host,
    name: &VmName,
    disk: &DeviceName,
    options: Options,
) -> Result<Removed, Error> {
    let work = Work::take(host, name)?;
    let row = host.vm(name)?;
    let config = host.config(&row)?;
    let mut removed = Removed {
        vm: name.clone(),
        disk: disk.clone(),
        file: None,
        deleted: false,
        when: When::Stopped,
    };
    let is_empty = |disk: &crate::config::Disk| disk.is_empty_drive();
    if config.disks.get(disk).is_some_and(is_empty) && !options.delete {
        removed.when = take(host, &work, &config, disk, options.timeout)?;
        return Ok(removed);
    }
    let it = find(host, &config, disk)?;
    removed.file = Some(it.path.clone());
    if !options.delete {
        removed.when = take(host, &work, &config, disk, options.timeout)?;
        return Ok(removed);
    }
    may_be_deleted(host, name, &it)?;
    if let Reach::Running(monitor) = work.reach()? {
        drop(monitor);
        if !may_go(host, name, &Target::Disk(disk.clone()))? {
            let (vm, disk) = (name.clone(), disk.clone());
            return Err(Why::Stays { vm, disk }.into());
        }
    }
    let identity = image::identity(&it.path).map_err(Error::io(format_args!(
        "cannot look at {}",
        it.path.display()
    )))?;
    let plan = AnyPlan::Disk(Plan::Delete {
        disk: disk.clone(),
        file: it.path.clone(),
        identity: identity.clone(),
    });
    removed.when = work.perform_beside(&plan, |id| {
        let when = take(host, &work, &config, disk, options.timeout)?;
        if !matches!(when, When::NextStart(_)) {
            delete(host, &it.path, &identity)?;
        }
        host.store()?.end_operation(id.0)?;
        Ok(when)
    })?;
    removed.deleted = !matches!(removed.when, When::NextStart(_));
    Ok(removed)
}

/// Takes it from the VM, if that runs, and out of the definition.
fn take(
    host: &Host,
    work: &Work<'_>,
    config: &crate::config::VmConfig,
    disk: &DeviceName,
    timeout: Duration,
) -> Result<When, Error> {
    match work.reach()? {
        Reach::Running(monitor) => {
            drop(monitor);
            unplug(host, &config.name, disk, timeout)
        }
        Reach::Stopped(_lock) => {
            save::require_none(host, &config.name)?;
            definition::forget(host, config, disk)?;
            Ok(When::Stopped)
        }
    }
}

fn may_be_deleted(host: &Host, name: &VmName, it: &Defined) -> Result<(), Error> {
    guard::file(it, "delete")?;
    if !is_made(host, name, &it.path)? {
        return Err(Why::NotMade(it.path.clone()).into());
    }
    guard::alone(host, name, it)?;
    guard::no_snapshots(name, it)?;
    Ok(image::require_writable(&it.path)?)
}
