//! Going back to a snapshot beside images: above each, there is another overlay then.

use std::path::PathBuf;

use crate::ops::operation::{Id, Plan as AnyPlan, Work};
use crate::ops::reach::Reach;
use crate::ops::{Error, Host, disk};
use crate::store::{self, Position, Store};
use crate::vm::VmName;

use super::super::{Error as Why, Facts};
use super::{Overlay, Plan, Side, What, delete, free_name, make, nothing_within, path_of, point};

/// Has the disks of a VM that does not run read as they did at a snapshot. What was written
/// since is gone, unless a later snapshot has it.
pub(in crate::ops::snapshot) fn restore(
    host: &Host,
    work: &Work<'_>,
    vm: &VmName,
    snapshot: &store::Snapshot,
    facts: Facts,
    reach: Reach,
) -> Result<Vec<PathBuf>, Error> {
    let config = host.config(&host.vm(vm)?)?;
    let mut overlays: Vec<Overlay> = Vec::new();
    for overlay in &facts.overlays {
        overlays.push(Overlay {
            file: free_name(host, vm, &overlay.disk),
            ..overlay.clone()
        });
    }
    let mut obstacles = Vec::new();
    if facts.is_merging {
        obstacles.push("it is partly merged: `maqet snapshot merge` goes on with that".to_owned());
    }
    for overlay in overlays.iter().filter(|it| !it.base.exists()) {
        obstacles.push(format!("{} is gone", overlay.base.display()));
    }
    for overlay in &overlays {
        if !config.disks.contains_key(&overlay.disk) {
            obstacles.push(format!("it has no disk `{}` any more", overlay.disk));
        }
    }
    if !obstacles.is_empty() {
        return Err(Why::Obstacles {
            doing: "going back with",
            vm: vm.clone(),
            obstacles,
        }
        .into());
    }
    let mut old = Vec::new();
    for overlay in &overlays {
        let now = path_of(host, &config, &overlay.disk);
        if let Some(file) = now.filter(|file| *file != overlay.base)
            && is_only_current(host, vm, &file)?
        {
            old.push(file);
        }
    }
    nothing_within("going back with", vm, &old)?;
    let facts = Facts {
        overlays: overlays.clone(),
        ..facts
    };
    let (id, facts) = (snapshot.id, facts.text());
    let plan = AnyPlan::Beside(Plan {
        what: What::Restore {
            id,
            facts: facts.clone(),
            old: old.clone(),
        },
        name: snapshot.name.clone(),
        overlays: overlays.clone(),
        was_running: false,
    });
    work.perform(&plan, reach, |operation, _| {
        make(host, vm, operation, &overlays)?;
        point(host, vm, &overlays, Side::Overlays)?;
        end(host, &mut *host.store()?, vm, (id, &facts), &old, operation)
    })?;
    Ok(overlays.into_iter().map(|it| it.base).collect())
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

/// Whether a file is an overlay that maqet made, and no snapshot stands on it.
fn is_only_current(host: &Host, vm: &VmName, file: &PathBuf) -> Result<bool, Error> {
    let store = host.store()?;
    let is_made = store.made_disks(vm)?.iter().any(|made| made.path == *file);
    let mut is_overlay = false;
    for snapshot in store.snapshots(vm)? {
        let facts = Facts::of(&snapshot)?;
        if !facts.overlays.is_empty() && facts.disks.contains(file) {
            return Ok(false);
        }
        is_overlay |= facts.overlays.iter().any(|overlay| overlay.file == *file);
    }
    let users = disk::Users::find(host)?.of(file)?;
    Ok(is_made && is_overlay && users.iter().all(|user| user.vm == *vm))
}
