//! What becomes of an operation on a snapshot that did not come to its end.

use std::path::PathBuf;

use crate::image::{self, snapshot};
use crate::ops::Error;
use crate::ops::block_job::set_running;
use crate::ops::operation::Left;
use crate::ops::reach::Reach;
use crate::qmp::JobEnd;
use crate::store::Position;

use super::disks::{Disk, Disks, delete};
use super::{Facts, Plan, What, live};

impl Plan {
    /// Undoes a snapshot that was to be made; finishes all else.
    pub fn settle(&self, left: &Left<'_>, reach: &mut Reach) -> Result<String, Error> {
        let (vm, name) = (left.name, &self.name);
        let mut store = left.host.store()?;
        let ended = match reach {
            Reach::Running(monitor) => live::join(monitor, left.id)?,
            Reach::Stopped(_) => None,
        };
        let not_restored =
            || format!("VM `{vm}` was not restored to snapshot `{name}`, as was begun");
        let is_load = matches!(self.what, What::Load);
        match (self.what, &mut *reach) {
            (What::Create, _) => {
                delete_from(reach, &self.disks, name)?;
                Ok(format!(
                    "snapshot `{name}` of VM `{vm}` was not finished, and is undone"
                ))
            }
            (What::Rm, _) => {
                delete_from(reach, &self.disks, name)?;
                store.remove_snapshot(self.id, left.id.0)?;
                Ok(format!(
                    "snapshot `{name}` of VM `{vm}` is deleted, as was begun"
                ))
            }
            (What::Halt, reach) => {
                if let Reach::Running(monitor) = reach {
                    set_running(monitor, self.was_running)?;
                }
                Ok(not_restored())
            }
            // The job is kept until the database has it.
            (What::Load, Reach::Running(monitor)) if ended != Some(JobEnd::Completed) => {
                // One that has failed may have left disks and memory that do not fit.
                if ended.is_none() {
                    set_running(monitor, self.was_running)?;
                }
                Ok(not_restored())
            }
            // It had been stopped for this, and was started since by nobody's leave.
            (What::Restore { .. }, Reach::Running(_)) => Ok(not_restored() + ": it runs"),
            (What::Load | What::Restore { .. }, reach) => {
                let is_stopped = matches!(reach, Reach::Stopped(_));
                match reach {
                    Reach::Stopped(_) => restore_all(&self.disks, name)?,
                    Reach::Running(monitor) => {
                        live::follow_sizes(monitor)?;
                        let mut all = store.snapshots(vm)?.into_iter();
                        let snapshot = all.find(|snapshot| Some(snapshot.id) == self.id);
                        let facts = snapshot.as_ref().map(Facts::of).transpose()?;
                        if let Some(memory) = facts.and_then(|facts| facts.memory) {
                            set_running(monitor, memory.was_running)?;
                        }
                    }
                }
                let resumes = match self.what {
                    What::Restore { resumes } => resumes,
                    _ => is_load && is_stopped,
                };
                let position = self.id.map(|snapshot| Position { snapshot, resumes });
                store.restore_snapshot(vm, position, left.id.0)?;
                Ok(format!("VM `{vm}` is at snapshot `{name}`, as was begun"))
            }
        }
    }
}

/// Deletes a snapshot from the images that have it.
pub(super) fn delete_from(reach: &mut Reach, disks: &[PathBuf], name: &str) -> Result<(), Error> {
    let found = match reach {
        Reach::Running(monitor) => Disks::of_qemu(monitor)?.disks,
        Reach::Stopped(_) => disks
            .iter()
            .map(|path| {
                image::repair_leaks(path, "qcow2")?;
                Disk::of_image(path.clone())
            })
            .collect::<Result<_, Error>>()?,
    };
    for disk in found.iter().filter(|disk| disks.contains(&disk.path)) {
        delete(reach, disk, name)?;
    }
    Ok(())
}

/// Has images read as they were at the snapshot of this name.
pub(super) fn restore_all(disks: &[PathBuf], name: &str) -> Result<(), Error> {
    for path in disks {
        image::repair_leaks(path, "qcow2")?;
        let disk = Disk::of_image(path.clone())?;
        // It was there when it was decided on. What is not there any more is told by `ls`.
        if let Some(found) = disk.snapshot(name) {
            snapshot::apply(path, &found.id)?;
        }
    }
    Ok(())
}
