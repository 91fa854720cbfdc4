//! Forgetting a VM.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::slice::from_ref;

use serde::Serialize;

use crate::image;
use crate::lock::VmLock;
use crate::store::{MadeDisk, Store};
use crate::systemd::{self, boot, unit_name};
use crate::vm::VmName;

use super::operation::Work;
use super::{Error, Host};

/// What became of a VM's files.
#[derive(Debug, Serialize)]
pub struct Removed {
    /// The VM.
    pub name: VmName,
    /// Whether it would have been started at boot.
    pub was_enabled: bool,
    /// Disks that maqet had made and has deleted.
    pub deleted: Vec<PathBuf>,
    /// Disks that maqet had made and has left where they are.
    pub kept: Vec<PathBuf>,
}

/// The disks that the definitions of other VMs name.
fn other_disks(host: &Host, store: &Store, name: &VmName) -> Result<Vec<PathBuf>, Error> {
    let mut disks = Vec::new();
    for other in store.list()?.into_iter().filter(|vm| vm.name != *name) {
        let config = host.config(&host.vm(&other.name)?)?;
        let dir = host.paths.vm(&other.name);
        disks.extend(
            config
                .disks
                .iter()
                .filter_map(|(name, disk)| disk.path(name, dir.path())),
        );
    }
    Ok(disks)
}

/// Forgets a VM that does not run.
///
/// Deletes only disks that maqet itself made, and those only with `disks`; and a saved
/// state only with `discard_saved`.
///
/// # Errors
/// [`Error::Protected`], [`Error::Running`], [`Error::HasSavedState`], and what went wrong with files.
pub fn rm(host: &Host, name: &VmName, disks: bool, discard_saved: bool) -> Result<Removed, Error> {
    let row = host.vm(name)?;
    if row.protected {
        return Err(Error::Protected(row.name));
    }
    if host.unit(name)?.active_state.is_up() {
        return Err(Error::Running(row.name));
    }
    let dir = host.paths.vm(name);
    let _work = Work::take(host, name)?;
    // Held by a QEMU that systemd does not know of, too.
    let lock = VmLock::try_take(&dir.lock())?;
    let saved = host.paths.saved(name);
    if saved.state().exists() && !discard_saved {
        return Err(Error::HasSavedState(row.name));
    }
    let mut store = host.store()?;
    let mut removed = Removed {
        name: row.name,
        was_enabled: false,
        deleted: Vec::new(),
        kept: Vec::new(),
    };
    let others = if disks {
        other_disks(host, &store, name)?
    } else {
        Vec::new()
    };
    let made = store.made_disks(name)?;
    // First what can fail for reasons of its own: a disk that outlives its
    // definition is no loss, a definition whose disk is gone is.
    if !store.remove(name)? {
        // Someone was quicker, with the same or with `protect`.
        return Err(match store.get(name)? {
            Some(row) => Error::Protected(row.name),
            None => Error::NoSuchVm {
                name: name.clone(),
                nearest: None,
            },
        });
    }
    // A unit that failed would lend its state to the next VM of that name.
    systemd::reset_failed(&host.scope, &unit_name(name))?;
    // Nor is there anything left to start at boot.
    removed.was_enabled = !boot::disable(&host.scope, from_ref(name))?.is_empty();
    for MadeDisk { path, identity } in made {
        // What another VM uses is not this one's to take along, nor is what has
        // taken the place of the disk that was made.
        let is_ours = image::identity(&path).map(|now| now == identity);
        match is_ours {
            Ok(true) if disks && !others.contains(&path) => {
                fs::remove_file(&path)
                    .map_err(Error::io(format_args!("cannot delete {}", path.display())))?;
                removed.deleted.push(path);
            }
            Ok(_) => removed.kept.push(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Error::io(format_args!("cannot look at {}", path.display()))(error));
            }
        }
    }
    for file in [
        dir.console_log(),
        dir.previous_console_log(),
        dir.console_shipped(),
        dir.output_log(),
        dir.definition(),
        dir.operation_lock(),
        saved.state(),
        saved.facts(),
        saved.unfinished(),
        // Last: until then no one else may take the name.
        dir.lock(),
    ] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(format_args!("cannot delete {}", file.display()))(
                    error,
                ));
            }
            _ => {}
        }
    }
    drop(lock);
    // Stays while kept disks are in it.
    let _ = fs::remove_dir(dir.path());
    Ok(removed)
}
