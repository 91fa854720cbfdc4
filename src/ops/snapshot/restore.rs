//! Going back to a snapshot.

use std::path::PathBuf;
use std::slice;

use serde::Serialize;
use serde_json::json;

use crate::image;
use crate::ops::block_job::{is_going_on, set_running};
use crate::ops::disk::guard;
use crate::ops::in_force::{self, Definition};
use crate::ops::operation::{Plan as AnyPlan, Work};
use crate::ops::reach::Reach;
use crate::ops::start::start;
use crate::ops::stop::{Force, stop};
use crate::ops::{Doing, Error, Host, save};
use crate::qmp::{Client, RunState};
use crate::saved;
use crate::store::{self, Position, Row};
use crate::vm::VmName;

use super::disks::{Disks, absent};
use super::settle::restore_all;
use super::{
    Error as Why, Facts, Memory, Plan, What, beside, elsewhere, find, fit, live, no_such,
    nothing_in_the_way, require_whole, stands_on,
};

/// How to go back.
pub struct Options<'a> {
    /// The disks alone; the next start boots.
    pub disk_only: bool,
    /// Though a saved state is lost by it.
    pub discard_saved: bool,
    /// The power of a VM that runs is cut, and it is started again where it is then.
    pub reset: bool,
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
    /// It boots there, now.
    Booted,
}

/// Has a VM be as it was at a snapshot.
///
/// One that runs goes on there at once. One that does not goes on there with its next
/// start, if there is memory in the snapshot, and boots from its disks otherwise.
///
/// # Errors
/// [`Why::NoSuch`], [`Why::NotWhole`], [`Why::Below`], [`Why::Misfit`]; [`Why::Obstacles`], such
/// as a disk that the VM does not have now; [`Why::Moved`] and
/// [`Why::DisksAlone`] of a running VM that is not to be reset; [`Error::HasSavedState`].
/// Those of its start, if it was reset: it is at the snapshot then.
pub fn restore(
    host: &Host,
    vm: &VmName,
    name: &str,
    options: &Options<'_>,
) -> Result<Restored, Error> {
    let work = Work::take(host, vm)?;
    let reach = work.reach()?;
    let is_reset = options.reset && matches!(reach, Reach::Running(_));
    let mut restored = restore_with(host, &work, reach, (vm, name), options)?;
    // A start is a piece of work, too.
    drop(work);
    if is_reset {
        start_again(host, &restored)?;
        restored.goes_on = match restored.goes_on {
            GoesOn::Boots => GoesOn::Booted,
            _ => GoesOn::Now,
        };
    }
    Ok(restored)
}

/// Cuts the power of a VM; its disks are the caller's then.
///
/// All that could be in the way of what comes next was looked for before. Whatever ends this
/// process now leaves a VM that is off, with its disks as they were or as they are to be.
fn cut_power(host: &Host, work: &Work<'_>, vm: &VmName) -> Result<Reach, Error> {
    match stop(host, vm, None, Force::Now) {
        // It has ended meanwhile.
        Ok(_) | Err(Error::Stopped(_)) => {}
        Err(error) => return Err(error),
    }
    match work.reach()? {
        Reach::Running(_) => Err(Error::Running(vm.clone())),
        reach => Ok(reach),
    }
}

/// Starts a VM whose power was cut.
fn start_again(host: &Host, restored: &Restored) -> Result<(), Error> {
    let vm = &restored.vm;
    let mut started = Ok(());
    start(host, slice::from_ref(vm), false, |of, outcome| {
        if of == vm {
            started = outcome.map(drop);
        }
    })?;
    started.inspect_err(|_| {
        let name = &restored.name;
        (host.tell)(&format!("VM `{vm}` is at snapshot `{name}`, and is off"));
    })
}

fn restore_with(
    host: &Host,
    work: &Work<'_>,
    mut reach: Reach,
    (vm, name): (&VmName, &str),
    options: &Options<'_>,
) -> Result<Restored, Error> {
    let row = host.vm(vm)?;
    let kept = find(host, vm, name)?;
    if let Some(snapshot) = &kept {
        let facts = Facts::of(snapshot)?;
        if !facts.overlays.is_empty() {
            return restore_beside(host, work, &row, snapshot, facts, reach, options);
        }
    }
    let is_reset = options.reset && matches!(reach, Reach::Running(_));
    let config = host.config(&row)?;
    let found = match is_reset {
        // It will be started by that.
        true => Disks::of_images(host, &config)?,
        false => Disks::look(host, &config, &mut reach)?,
    };
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
    let elsewhere = elsewhere(name, Some(&facts), &found)?;
    if let Some(file) = elsewhere.iter().find(|file| found.stands_on(file)) {
        return Err(stands_on(host, vm, name, file.clone())?.into());
    }
    let mut disks = facts.disks.clone();
    if options.disk_only && disks.iter().any(|path| found.at(path).is_some()) {
        // One that the VM does not have any more is nobody's to restore.
        disks.retain(|path| found.at(path).is_some());
    }
    let (others, here): (Vec<_>, Vec<_>) =
        disks.iter().cloned().partition(|it| elsewhere.contains(it));
    require_whole(vm, name, &here, &found)?;
    let absent = absent(host, &config, &facts, others, here.is_empty());
    nothing_in_the_way(Doing::Restore, vm, absent)?;
    let memory = facts.memory.as_ref().filter(|_| !options.disk_only);
    let mut was_running = false;
    let what = match (&mut reach, memory) {
        (Reach::Running(_), None) if !is_reset => {
            let (vm, name) = (vm.clone(), name.to_owned());
            return Err(Why::DisksAlone { vm, name }.into());
        }
        (Reach::Running(monitor), Some(memory)) if !is_reset => {
            let used = in_force::read(host, vm)?;
            let used = used.ok_or_else(|| Error::NotRunning(vm.clone()))?;
            require_fit(host, vm, name, &facts, &used, &found)?;
            check_running(vm, monitor, memory)?;
            require_in_place(vm, name, monitor, memory)?;
            was_running = is_going_on(monitor)?;
            What::Halt
        }
        (_, memory) => {
            check_saved(host, &row, options)?;
            if memory.is_some() {
                let now = Definition::read(host, vm, &row.definition)?;
                require_fit(host, vm, name, &facts, &now, &found)?;
            }
            let resumes = memory.is_some();
            What::Restore { resumes }
        }
    };
    guard::no_bases(host, &disks)?;
    if (options.interrupted)() {
        return Err(Error::Interrupted);
    }
    if is_reset {
        for path in &disks {
            image::require_file_writable(path)?;
        }
        drop(reach);
        reach = cut_power(host, work, vm)?;
    }
    Disks::require_sound(host, &config, &reach, &disks)?;
    let plan = |what| {
        AnyPlan::Snapshot(Plan {
            what,
            name: name.to_owned(),
            id,
            disks: disks.clone(),
            was_running,
        })
    };
    work.perform(&plan(what), reach, |operation, reach| {
        let resumes = match (&mut *reach, memory) {
            (Reach::Running(monitor), Some(memory)) => {
                // If this is killed, nothing that the guest writes then may be lost by what
                // comes next, be it hours later: it does not run.
                monitor.execute("stop", ())?;
                work.go_further(operation, &plan(What::Load))?;
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
            What::Halt => GoesOn::Now,
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
    let is_running = matches!(reach, Reach::Running(_));
    if is_running && !options.reset {
        return Err(Why::DisksAlone { vm, name }.into());
    }
    check_saved(host, row, options)?;
    let way = beside::restore::find_way(host, &vm, snapshot, facts)?;
    if (options.interrupted)() {
        return Err(Error::Interrupted);
    }
    let reach = match is_running {
        true => {
            drop(reach);
            cut_power(host, work, &vm)?
        }
        false => reach,
    };
    Ok(Restored {
        disks: way.go(host, work, &vm, reach)?,
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

/// Sees to it that the devices of a running QEMU are where they were.
fn require_in_place(
    vm: &VmName,
    name: &str,
    monitor: &mut Client,
    memory: &Memory,
) -> Result<(), Error> {
    let now = save::addresses::of_machine(monitor)?;
    let differences = memory.addresses.differences(&now);
    match differences.is_empty() {
        true => Ok(()),
        false => Err(Why::Moved {
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
        state => obstacles.push(format!("its state is {state}").into()),
    }
    if (monitor.execute("query-kvm", ())?["enabled"] == json!(true)) != memory.kvm {
        let then = if memory.kvm { "with" } else { "without" };
        obstacles.push(format!("it ran {then} KVM then").into());
    }
    Ok(nothing_in_the_way(Doing::Restore, vm, obstacles)?)
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
