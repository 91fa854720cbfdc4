//! Going back to a snapshot.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use crate::ops::block_job::set_running;
use crate::ops::in_force::{self, Definition};
use crate::ops::operation::{Plan as AnyPlan, Work};
use crate::ops::reach::Reach;
use crate::ops::{Error, Host, save};
use crate::qmp::{Client, RunState};
use crate::saved;
use crate::store::{self, Position, Row};
use crate::vm::VmName;

use super::disks::Disks;
use super::settle::restore_all;
use super::{
    Error as Why, Facts, Memory, Plan, What, beside, elsewhere, find, fit, live, no_such,
    require_whole, stands_on,
};

/// How to go back.
pub struct Options<'a> {
    /// The disks alone; the next start boots.
    pub disk_only: bool,
    /// Though a saved state is lost by it.
    pub discard_saved: bool,
    /// Whether it was called off, which is heard until it begins.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// A VM that is at a snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// The VM.
    pub vm: VmName,
    /// The snapshot.
    pub name: String,
    /// The images that read as they did then.
    pub disks: Vec<PathBuf>,
    /// Disks that were not in it, and are as they were.
    pub untouched: Vec<PathBuf>,
    /// Where the guest goes on.
    pub goes_on: GoesOn,
}

/// Where a guest goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GoesOn {
    /// At the snapshot, now.
    Now,
    /// At the snapshot, with the next start.
    AtStart,
    /// It boots with the next start.
    Boots,
}

/// Has a VM be as it was at a snapshot.
///
/// One that runs goes on there at once. One that does not goes on there with its next
/// start, if there is memory in the snapshot, and boots from its disks otherwise.
///
/// # Errors
/// [`Why::NoSuch`], [`Why::NotWhole`], [`Why::Below`], [`Why::Misfit`]; [`Why::DisksAlone`] and
/// [`Error::Running`] of a running VM; [`Error::HasSavedState`].
pub fn restore(
    host: &Host,
    vm: &VmName,
    name: &str,
    options: &Options<'_>,
) -> Result<Restored, Error> {
    let work = Work::take(host, vm)?;
    let row = host.vm(vm)?;
    let mut reach = work.reach()?;
    let kept = find(host, vm, name)?;
    if let Some(snapshot) = &kept {
        let facts = Facts::of(snapshot)?;
        if !facts.overlays.is_empty() {
            return restore_beside(host, &work, &row, snapshot, facts, reach, options);
        }
    }
    let found = Disks::look(host, &host.config(&row)?, &mut reach)?;
    if kept.is_none() && !found.names().iter().any(|it| it == name) {
        return Err(no_such(vm, name, found.names()).into());
    }
    let id = kept.as_ref().map(|kept| kept.id);
    let facts = match &kept {
        Some(kept) => Facts::of(kept)?,
        // What another tool has made is of the disks that have it.
        None => Facts {
            definition: row.definition.clone(),
            disks: found.with(name),
            memory: None,
            overlays: Vec::new(),
            is_merging: false,
        },
    };
    for file in elsewhere(name, Some(&facts), &found)? {
        if found.stands_on(&file) {
            return Err(stands_on(host, vm, name, file)?.into());
        }
    }
    let mut disks = facts.disks.clone();
    if options.disk_only && disks.iter().any(|path| found.at(path).is_some()) {
        // One that the VM does not have any more is nobody's to restore.
        disks.retain(|path| found.at(path).is_some());
    }
    require_whole(vm, name, &disks, &found)?;
    let memory = facts.memory.as_ref().filter(|_| !options.disk_only);
    let what = match (&mut reach, memory) {
        (Reach::Running(_), _) if options.disk_only => return Err(Error::Running(vm.clone())),
        (Reach::Running(_), None) => {
            let (vm, name) = (vm.clone(), name.to_owned());
            return Err(Why::DisksAlone { vm, name }.into());
        }
        (Reach::Running(monitor), Some(memory)) => {
            let used = in_force::read(host, vm)?;
            let used = used.ok_or_else(|| Error::NotRunning(vm.clone()))?;
            require_fit(host, vm, name, &facts, &used, &found)?;
            check_running(vm, monitor, memory)?;
            What::Load
        }
        (Reach::Stopped(_), memory) => {
            check_saved(host, &row, options)?;
            if memory.is_some() {
                let now = Definition::read(host, vm, &row.definition)?;
                require_fit(host, vm, name, &facts, &now, &found)?;
            }
            let resumes = memory.is_some();
            What::Restore { resumes }
        }
    };
    if (options.interrupted)() {
        return Err(Error::Interrupted);
    }
    let plan = AnyPlan::Snapshot(Plan {
        what,
        name: name.to_owned(),
        id,
        disks: disks.clone(),
    });
    work.perform(&plan, reach, |operation, reach| {
        let resumes = match (&mut *reach, memory) {
            (Reach::Running(monitor), Some(memory)) => {
                live::perform(monitor, operation, live::LOAD, name, &memory.image, &found)?;
                false
            }
            _ => {
                discard_saved(host, vm)?;
                restore_all(&disks, name)?;
                memory.is_some()
            }
        };
        let position = id.map(|snapshot| Position { snapshot, resumes });
        host.store()?.restore_snapshot(vm, position, operation.0)?;
        if let (Reach::Running(monitor), Some(memory)) = (reach, memory) {
            live::dismiss(monitor, operation);
            set_running(monitor, memory.was_running)?;
        }
        Ok(())
    })?;
    Ok(Restored {
        vm: vm.clone(),
        name: name.to_owned(),
        untouched: found
            .paths()
            .into_iter()
            .filter(|path| !disks.contains(path))
            .collect(),
        disks,
        goes_on: match what {
            What::Load => GoesOn::Now,
            What::Restore { resumes: true } => GoesOn::AtStart,
            _ => GoesOn::Boots,
        },
    })
}

/// The same of one that is beside its images.
fn restore_beside(
    host: &Host,
    work: &Work<'_>,
    row: &Row,
    snapshot: &store::Snapshot,
    facts: Facts,
    reach: Reach,
    options: &Options<'_>,
) -> Result<Restored, Error> {
    let (vm, name) = (row.name.clone(), snapshot.name.clone());
    if matches!(reach, Reach::Running(_)) {
        return Err(Why::DisksAlone { vm, name }.into());
    }
    if (options.interrupted)() {
        return Err(Error::Interrupted);
    }
    check_saved(host, row, options)?;
    Ok(Restored {
        disks: beside::restore::restore(host, work, &vm, snapshot, facts, reach)?,
        untouched: Vec::new(),
        goes_on: GoesOn::Boots,
        vm,
        name,
    })
}

/// Sees to it that a machine can go on with the memory in a snapshot.
fn require_fit(
    host: &Host,
    vm: &VmName,
    name: &str,
    facts: &Facts,
    now: &Definition,
    disks: &Disks,
) -> Result<(), Error> {
    let mut differences = fit::misfits(host, vm, facts, now)?;
    differences.extend(fit::other_images(facts, &disks.paths()));
    match differences.is_empty() {
        true => Ok(()),
        false => Err(Why::Misfit {
            vm: vm.clone(),
            name: name.to_owned(),
            differences,
        }
        .into()),
    }
}

/// Sees to it that a running QEMU can load memory.
fn check_running(vm: &VmName, monitor: &mut Client, memory: &Memory) -> Result<(), Error> {
    let mut obstacles = save::blockers(monitor)?;
    match monitor.status()?.run_state {
        RunState::Running | RunState::Paused | RunState::Prelaunch | RunState::RestoreVm => {}
        state => obstacles.push(format!("its state is {state}")),
    }
    if (monitor.execute("query-kvm", ())?["enabled"] == json!(true)) != memory.kvm {
        let then = if memory.kvm { "with" } else { "without" };
        obstacles.push(format!("it ran {then} KVM then"));
    }
    match obstacles.is_empty() {
        true => Ok(()),
        false => Err(Why::Obstacles {
            doing: "going back with",
            vm: vm.clone(),
            obstacles,
        }
        .into()),
    }
}

/// Sees to it that a saved state may be given up, if there is one.
fn check_saved(host: &Host, row: &Row, options: &Options<'_>) -> Result<(), Error> {
    match host.paths.saved(&row.name).state().exists() && !options.discard_saved {
        true => Err(Error::HasSavedState(row.name.clone())),
        false => Ok(()),
    }
}

/// Gives a saved state up, if there is one: when nothing can be found wrong any more.
pub(super) fn discard_saved(host: &Host, vm: &VmName) -> Result<(), Error> {
    let files = host.paths.saved(vm);
    if files.state().exists() {
        saved::discard(&files).map_err(Error::io(format_args!(
            "cannot delete {}",
            files.state().display()
        )))?;
    }
    Ok(())
}
