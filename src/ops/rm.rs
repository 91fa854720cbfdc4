//! Forgetting a VM.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::slice::from_ref;

use serde::Serialize;

use crate::image::{self, Chain, Link};
use crate::lock::VmLock;
use crate::paths::VmDir;
use crate::store::{self, MadeDisk, Row};
use crate::systemd::{self, boot, unit_name};
use crate::vm::VmName;

use super::disk::{Defined, User, Users, defined, orphans};
use super::operation::Work;
use super::{Error, Host, snapshot};

/// What became of a VM's files.
#[derive(Debug, Serialize)]
pub struct Removed {
    /// The VM.
    pub name: VmName,
    /// Whether it would have been started at boot.
    pub was_enabled: bool,
    /// Disks that maqet had made and has deleted.
    pub deleted: Vec<PathBuf>,
    /// Its disks that were left where they are.
    pub kept: Vec<PathBuf>,
    /// The VMs whose definitions say that they require it.
    pub required_by: Vec<VmName>,
    /// The VMs that alone stand on an image now that this one stood on, too.
    pub left_alone: Vec<VmName>,
}

/// Forgets a VM that does not run.
///
/// Deletes only disks that maqet itself made, that the definition or an external snapshot
/// names, and those only with `disks`; and a saved state only with `discard_saved`.
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
        name: name.clone(),
        was_enabled: false,
        deleted: Vec::new(),
        kept: Vec::new(),
        required_by: Vec::new(),
        left_alone: Vec::new(),
    };
    let users = disks.then(|| Users::find(host)).transpose()?;
    if let Some(users) = &users {
        removed.left_alone = users.left_alone_by(name);
    }
    let made = store.made_disks(name)?;
    // One whose definition cannot be read can be removed all the same.
    let named = host
        .config(&row)
        .map_or_else(|_| Vec::new(), |config| defined(host, &config));
    // What it does not need any more, such as a disk that was detached, is not its own.
    let chains = named.iter().map(Defined::chain);
    let snapshots = snapshot::stood_on(host)?.into_iter();
    let snapshots = snapshots.filter(|it| it.vm == *name).map(|it| it.chain);
    let chains: Vec<Chain> = chains.chain(snapshots).collect();
    let links = chains.iter().flat_map(|chain| &chain.links);
    let needed: BTreeSet<PathBuf> = links.map(|link| link.path.clone()).collect();
    let overlays = match disks {
        true => orphans::overlays(host)?,
        false => Vec::new(),
    };
    let other = |path: &Path| -> Result<Option<User>, Error> {
        let users = users.as_ref().map(|users| users.of(path)).transpose()?;
        let mut users = users.into_iter().flatten();
        Ok(users.find(|user| user.vm != *name))
    };
    // Of an image that is kept, such as one of a disk that was detached, all that is below it
    // is kept.
    let mut is_stood_on: BTreeSet<&PathBuf> =
        overlays.iter().flat_map(|(_, below)| below).collect();
    let is_ours = |it: &MadeDisk| image::identity(&it.path).is_ok_and(|now| now == it.identity);
    for chain in chains.iter().filter(|_| disks) {
        let mut is_kept = false;
        for Link { path, .. } in &chain.links {
            if is_kept {
                is_stood_on.insert(path);
            }
            is_kept |= is_stood_on.contains(path)
                || other(path)?.is_some()
                || !made.iter().any(|it| it.path == *path && is_ours(it));
        }
    }
    // What is left of a VM that nobody knows any more is in the way of `disk orphans`.
    image::require_writable(&dir.lock())?;
    for it in made.iter().filter(|it| disks && needed.contains(&it.path)) {
        image::require_writable(&it.path)?;
    }
    // First what can fail for reasons of its own: a disk that outlives its
    // definition is no loss, a definition whose disk is gone is.
    let is_removed = match store.remove(name) {
        // Where there is no room to write that down, the disks make some.
        Err(store::Error::Full) if disks && image::is_used_up(&host.paths.database()) => {
            for it in &made {
                let path = &it.path;
                let is_needed = is_stood_on.contains(path) || other(path)?.is_some();
                if is_ours(it) && needed.contains(path) && !is_needed {
                    delete(path)?;
                    removed.deleted.push(path.clone());
                }
            }
            drop(store);
            store = host.store()?;
            store.remove(name)?
        }
        removed => removed?,
    };
    if !is_removed {
        // Someone was quicker, with the same or with `protect`.
        return Err(match store.get(name)? {
            Some(row) => Error::Protected(row.name),
            None => Error::NoSuchVm {
                name: name.clone(),
                nearest: None,
            },
        });
    }
    // What cannot be read requires nothing that is known.
    let rows = store.rows_with("requires")?.into_iter();
    let requires = |row: &Row| {
        let config = host.config(row);
        config.is_ok_and(|config| config.requires.contains(name))
    };
    removed.required_by = rows.filter(requires).map(|row| row.name).collect();
    // A unit that failed would lend its state to the next VM of that name.
    systemd::reset_failed(&host.scope, &unit_name(name))?;
    // Nor is there anything left to start at boot.
    removed.was_enabled = !boot::disable(&host.scope, from_ref(name))?.is_empty();
    for disk in made {
        let MadeDisk { path, identity } = &disk;
        // What another VM uses is not this one's to take along, nor is what has
        // taken the place of the disk that was made.
        let is_ours = image::identity(path).map(|now| now == *identity);
        match is_ours {
            Ok(true)
                if disks
                    && needed.contains(path)
                    && !is_stood_on.contains(path)
                    && other(path)?.is_none() =>
            {
                delete(path)?;
                removed.deleted.push(disk.path);
            }
            Ok(is_ours) => {
                // So that it goes with the last that needs it.
                if let (true, Some(other)) = (is_ours, other(path)?)
                    && (other.as_base || needed.contains(path))
                {
                    store.record_disk(&other.vm, &disk)?;
                }
                removed.kept.push(disk.path);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Error::io(format_args!("cannot look at {}", path.display()))(error));
            }
        }
    }
    // What the VM had, and maqet has not made, stays in any case.
    for Defined { path, .. } in named {
        if path.exists() && !removed.deleted.contains(&path) && !removed.kept.contains(&path) {
            removed.kept.push(path);
        }
    }
    let entries = fs::read_dir(dir.path()).into_iter().flatten().flatten();
    let ports = entries
        .map(|entry| entry.path())
        .filter(|it| VmDir::is_port_log(it));
    let ports: Vec<_> = ports.collect();
    for file in ports.into_iter().chain([
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
    ]) {
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

fn delete(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(Error::io(format_args!("cannot delete {}", path.display())))
}
