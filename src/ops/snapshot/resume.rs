//! A start that goes on in a snapshot, with the memory that is in it.

use crate::ops::block_job::set_running;
use crate::ops::in_force::Definition;
use crate::ops::operation::Id;
use crate::ops::{Error, Host};
use crate::qmp::Client;
use crate::store::{self, Row};
use crate::vm::VmName;

use super::disks::Disks;
use super::{Error as Why, Facts, Memory, fit, live};

/// The memory that the next start of a VM goes on with, if it goes on in a snapshot.
///
/// # Errors
/// [`Why::Misfit`] if the definition has changed since, and the guest could not go on.
pub(in crate::ops) fn awaited(host: &Host, row: &Row) -> Result<Option<Memory>, Error> {
    let Some((snapshot, facts)) = find(host, &row.name)? else {
        return Ok(None);
    };
    let now = Definition::read(host, &row.name, &row.definition)?;
    let differences = fit::misfits(host, &row.name, &facts, &now)?;
    match differences.is_empty() {
        true => Ok(facts.memory),
        false => Err(Why::Misfit {
            vm: row.name.clone(),
            name: snapshot.name,
            differences,
        }
        .into()),
    }
}

/// Has the next start of a VM boot, from the disks as they are.
pub(in crate::ops) fn discard(host: &Host, vm: &VmName) -> Result<(), Error> {
    match find(host, vm)? {
        Some(_) => Ok(host.store()?.end_resume(vm)?),
        None => Ok(()),
    }
}

/// The snapshot that the next start of a VM goes on in.
fn find(host: &Host, vm: &VmName) -> Result<Option<(store::Snapshot, Facts)>, Error> {
    let Some(store) = host.existing_store()? else {
        return Ok(None);
    };
    let Some(position) = store.position(vm)?.filter(|position| position.resumes) else {
        return Ok(None);
    };
    let mut all = store.snapshots(vm)?.into_iter();
    let Some(snapshot) = all.find(|snapshot| snapshot.id == position.snapshot) else {
        return Ok(None);
    };
    let facts = Facts::of(&snapshot)?;
    Ok(Some((snapshot, facts)))
}

/// Has a QEMU that has not run an instruction go on in the snapshot that its start is to
/// go on in; what is to be known of it, if there is one.
///
/// Before the guest runs, it is noted that it has: another start is not to go back again.
pub(crate) fn load(
    host: &Host,
    vm: &VmName,
    monitor: &mut Client,
) -> Result<Option<Memory>, Error> {
    let Some((snapshot, facts)) = find(host, vm)? else {
        return Ok(None);
    };
    let Some(memory) = facts.memory else {
        return Ok(None);
    };
    let name = &snapshot.name;
    let disks = Disks::of_qemu(monitor)?;
    super::require_whole(vm, name, &facts.disks, &disks)?;
    // The number of no operation: those begin with 1.
    let id = Id(0);
    live::perform(monitor, id, live::LOAD, name, &memory.image, &disks)?;
    live::dismiss(monitor, id);
    host.store()?.end_resume(vm)?;
    set_running(monitor, memory.was_running)?;
    Ok(Some(memory))
}
