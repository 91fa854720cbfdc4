//! Going back to a snapshot beside images: above each, there is another overlay then.

use std::path::{Path, PathBuf};
use std::slice;

use crate::config::DeviceName;
use crate::image::{self, Chain, Link};
use crate::ops::disk::plan::is_made;
use crate::ops::operation::{Id, Plan as AnyPlan, Work};
use crate::ops::reach::Reach;
use crate::ops::{Doing, Error, Host, Obstacle, disk};
use crate::store::{self, Position, Store};
use crate::vm::VmName;

use super::super::restore::discard_saved;
use super::super::{Facts, nothing_in_the_way};
use super::{Overlay, Plan, Side, What, delete, free_name, make, nothing_within, path_of, point};

/// How disks come to read as they did at a snapshot.
pub(in crate::ops::snapshot) struct Way {
    snapshot: i64,
    name: String,
    facts: Facts,
    /// Images that nothing needs then.
    old: Vec<PathBuf>,
}

/// Looks for all that could be in the way; the VM may run.
pub(in crate::ops::snapshot) fn find_way(
    host: &Host,
    vm: &VmName,
    snapshot: &store::Snapshot,
    facts: Facts,
) -> Result<Way, Error> {
    let config = host.config(&host.vm(vm)?)?;
    let mut overlays: Vec<Overlay> = Vec::new();
    for overlay in &facts.overlays {
        overlays.push(Overlay {
            file: free_name(host, vm, &overlay.disk),
            ..overlay.clone()
        });
    }
    let mut obstacles: Vec<Obstacle> = Vec::new();
    if facts.is_merging {
        obstacles.push("it is partly merged: `maqet snapshot merge` goes on with that".into());
    }
    // What the disks are now may be as broken as it likes.
    for overlay in &overlays {
        let fault = Chain::of(&overlay.base, &overlay.format).sound().err();
        if let (Some(fault), true) = (fault, overlay.base.exists()) {
            return Err(disk::Error::Broken {
                vm: vm.clone(),
                disk: overlay.disk.clone(),
                fault,
            }
            .into());
        }
        if !overlay.base.exists() {
            obstacles.push(Obstacle::Gone(overlay.base.clone()));
        }
    }
    let users = disk::Users::find(host)?;
    let mut old = Vec::new();
    for (overlay, then) in overlays.iter().zip(&facts.overlays) {
        let disk = &overlay.disk;
        let Some(now) = path_of(host, &config, disk) else {
            obstacles.push(Obstacle::NoDisk {
                vm: vm.clone(),
                disk: disk.clone(),
                file: then.file.clone(),
            });
            continue;
        };
        match written_since(host, vm, overlay, &now)? {
            Some(files) => old.extend(only_current(host, vm, &users, disk, files)?),
            None => obstacles.push(Obstacle::NotFrom {
                vm: vm.clone(),
                words: format!("disk `{disk}` is {} now", now.display()),
            }),
        }
    }
    nothing_in_the_way(Doing::Restore, vm, obstacles)?;
    nothing_within(Doing::Restore, vm, &old)?;
    for file in &old {
        disk::orphans::spare(host, slice::from_ref(file))?;
    }
    for file in overlays.iter().map(|it| &it.file).chain(&old) {
        image::require_writable(file)?;
    }
    Ok(Way {
        snapshot: snapshot.id,
        name: snapshot.name.clone(),
        facts: Facts { overlays, ..facts },
        old,
    })
}

impl Way {
    /// Has the disks of a VM that does not run read as they did then. What was written since
    /// is gone, unless a later snapshot has it.
    pub fn go(
        self,
        host: &Host,
        work: &Work<'_>,
        vm: &VmName,
        reach: Reach,
    ) -> Result<Vec<PathBuf>, Error> {
        let (id, old, facts) = (self.snapshot, self.old, self.facts.text());
        let overlays = self.facts.overlays;
        let plan = AnyPlan::Beside(Plan {
            what: What::Restore {
                id,
                facts: facts.clone(),
                old: old.clone(),
            },
            name: self.name,
            overlays: overlays.clone(),
            was_running: false,
        });
        work.perform(&plan, reach, |operation, _| {
            discard_saved(host, vm)?;
            make(host, vm, operation, &overlays)?;
            point(host, vm, &overlays, Side::Overlays)?;
            end(host, &mut *host.store()?, vm, (id, &facts), &old, operation)
        })?;
        Ok(overlays.into_iter().map(|it| it.base).collect())
    }
}

/// What is left to do when the definition names the new overlays.
pub(super) fn end(
    host: &Host,
    store: &mut Store,
    vm: &VmName,
    (id, facts): (i64, &str),
    old: &[PathBuf],
    operation: Id,
) -> Result<(), Error> {
    store.set_facts(id, facts)?;
    delete(host, old)?;
    let position = Position {
        snapshot: id,
        resumes: false,
    };
    store.restore_snapshot(vm, Some(position), operation.0)?;
    Ok(())
}

/// The images of a disk that are not those of a snapshot, the uppermost first; `None` if both
/// have nothing in common.
fn written_since(
    host: &Host,
    vm: &VmName,
    overlay: &Overlay,
    now: &Path,
) -> Result<Option<Vec<PathBuf>>, Error> {
    let then = Chain::of(&overlay.base, &overlay.format).links;
    let links = Chain::of(now, "qcow2").links;
    let is_then = |link: &Link| then.iter().any(|it| it.path == link.path);
    let mut above = links.iter().position(is_then);
    if above.is_none() {
        // An overlay that stands on nothing any more: `disk rebase` has made that of it.
        let mut overlays = Vec::new();
        for snapshot in host.store()?.snapshots(vm)? {
            overlays.extend(Facts::of(&snapshot)?.overlays);
        }
        let is_overlay = |link: &Link| overlays.iter().any(|it| it.file == link.path);
        above = links.iter().position(is_overlay).map(|depth| depth + 1);
    }
    let files = links.into_iter().map(|link| link.path);
    Ok(above.map(|count| files.take(count).collect()))
}

/// The first of these images of a disk, as far as maqet made them and nothing else needs them.
fn only_current(
    host: &Host,
    vm: &VmName,
    users: &disk::Users,
    disk: &DeviceName,
    files: Vec<PathBuf>,
) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for file in files {
        let mut users = users.of(&file)?.into_iter();
        let is_own = users
            .all(|user| user.vm == *vm && user.disk == disk.as_str() && user.snapshot.is_none());
        if !is_own || !is_made(host, vm, &file)? {
            break;
        }
        found.push(file);
    }
    Ok(found)
}
