//! Forgetting a VM.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

use crate::lock::{self, VmLock};
use crate::vm::VmName;

use super::{Error, Host};

/// What became of a VM's files.
#[derive(Debug, Serialize)]
pub struct Removed {
    /// The VM.
    pub name: VmName,
    /// Disks that maqet had made and has deleted.
    pub deleted: Vec<PathBuf>,
    /// Disks that maqet had made and has left where they are.
    pub kept: Vec<PathBuf>,
}

/// Forgets a VM that does not run.
///
/// Deletes only disks that maqet itself made, and those only with `disks`.
pub fn rm(host: &Host, name: &VmName, disks: bool) -> Result<Removed, Error> {
    let row = host.vm(name)?;
    if host.unit(name)?.active_state.is_up() {
        return Err(Error::Running(row.name));
    }
    let dir = host.paths.vm(name);
    // Held by a QEMU that systemd does not know of, too.
    let lock = VmLock::try_take(&dir.lock()).map_err(|error| match error {
        lock::Error::Held { .. } => Error::Running(row.name.clone()),
        other => other.into(),
    })?;
    let mut store = host.store()?;
    let mut removed = Removed {
        name: row.name,
        deleted: Vec::new(),
        kept: Vec::new(),
    };
    for disk in store.made_disks(name)? {
        if !disks {
            removed.kept.push(disk);
            continue;
        }
        match fs::remove_file(&disk) {
            Ok(()) => removed.deleted.push(disk),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Error::io(format_args!("cannot delete {}", disk.display()))(
                    error,
                ));
            }
        }
    }
    store.remove(name)?;
    for file in [
        dir.console_log(),
        dir.previous_console_log(),
        dir.output_log(),
        dir.definition(),
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
