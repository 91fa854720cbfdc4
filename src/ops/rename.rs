//! Giving a VM another name.
//!
//! The database is changed in one transaction, which also notes what is left to do:
//! files are moved, and what starts at boot is changed, after it. Whoever opens the
//! database finishes what a rename that was killed has left (`finish`). So a VM has
//! its old name or its new one at any moment, and never a part of it.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::slice::from_ref;

use serde::Serialize;

use crate::config::{self, Format};
use crate::image::{self, Chain, Fault, Header, Link};
use crate::lock::VmLock;
use crate::paths::VmDir;
use crate::saved::Saved;
use crate::store::{Renaming, Row, Store};
use crate::systemd::{self, boot, unit_name};
use crate::vm::VmName;

use super::disk::{self, Users};
use super::operation::Work;
use super::snapshot::Facts;
use super::{Error, Host};

/// A VM that has another name now.
#[derive(Debug, Serialize)]
pub struct Renamed {
    /// What it was called.
    pub old: VmName,
    /// What it is called.
    pub name: VmName,
    /// The VMs that name it in their definitions, and do so by its new name now.
    pub followed: Vec<VmName>,
    /// Whether it starts at boot, now by its new name.
    pub enabled: bool,
}

/// Gives a VM that does not run another name.
///
/// Its UUID, and with it its MAC addresses, stay. Its directory goes along, with the
/// disks in it, and so does a saved state.
///
/// # Errors
/// [`Error::Running`], [`Error::AlreadyExists`], [`Error::InTheWay`] when files of
/// another VM are in the way.
pub fn rename(host: &Host, old: &VmName, new: &VmName) -> Result<Renamed, Error> {
    let row = host.vm(old)?;
    if old == new || host.store()?.get(new)?.is_some() {
        return Err(Error::AlreadyExists(new.clone()));
    }
    for name in [old, new] {
        if host.unit(name)?.active_state.is_up() {
            return Err(Error::Running(name.clone()));
        }
    }
    let _work = Work::take(host, old)?;
    // Held until all is done: nobody starts it meanwhile.
    let _lock = VmLock::try_take(&host.paths.vm(old).lock())?;
    alone(host, old)?;
    free(&host.paths.vm(new))?;
    for Link { path, .. } in stray(host, &Change { host, old, new }, old)? {
        // Else the VM would be without a name until it can be written.
        let opened = OpenOptions::new().write(true).open(&path);
        opened.map_err(|source| image::Error::File {
            doing: "write",
            path,
            source,
        })?;
    }
    let saved = host.paths.saved(new).state();
    if saved.exists() {
        return Err(Error::InTheWay(saved));
    }
    image::require_writable(host.paths.vm(new).path())?;
    if host.paths.saved(old).state().exists() {
        image::require_writable(&saved)?;
    }
    let enabled = boot::enabled(&host.scope)?.contains(old);
    let mut row = row;
    let followed = loop {
        let change = Change { host, old, new };
        let definition = change.of(&row.definition)?;
        let mut others: Vec<(Row, String)> = Vec::new();
        let mut store = host.store()?;
        for other in store.rows_with(old.as_str())? {
            if other.name == *old {
                continue;
            }
            // One that cannot be read is left as it is.
            if let Ok(text) = change.of(&other.definition)
                && text != other.definition
            {
                others.push((other, text));
            }
        }
        let mut facts = Vec::new();
        for snapshot in store.snapshots(old)? {
            let kept = Facts::of(&snapshot)?;
            let renamed = kept.renamed(|text| change.of(text), |path| change.path(path))?;
            facts.push((snapshot.id, renamed.text()));
        }
        let renaming = Renaming {
            old: old.clone(),
            new: new.clone(),
            enabled,
        };
        let new_path = |path: &Path| change.path(path);
        if store.rename(&row, &definition, &others, &facts, &renaming, new_path)? {
            break others.into_iter().map(|(other, _)| other.name).collect();
        }
        // Someone has changed a definition meanwhile.
        drop(store);
        row = host.vm(old)?;
    };
    // What another command has finished meanwhile is done, too.
    let mut store = Store::open(&host.paths.database())?;
    finish(host, &mut store)?;
    Ok(Renamed {
        old: old.clone(),
        name: new.clone(),
        followed,
        enabled,
    })
}

/// Sees to it that no disk of another VM is in the VM's directory, or stands on one that is:
/// it would not find it any more.
fn alone(host: &Host, old: &VmName) -> Result<(), Error> {
    let dir = host.paths.vm(old);
    for (file, mut users) in Users::find(host)?.within(dir.path()) {
        users.retain(|user| user.vm != *old);
        if !users.is_empty() {
            return Err(disk::Error::Needed { file, users }.into());
        }
    }
    // What is there and is nobody's goes along, and what is elsewhere does not.
    for (overlay, below) in disk::orphans::overlays(host)? {
        let mut below = below.into_iter();
        if !overlay.starts_with(dir.path())
            && let Some(file) = below.find(|it| it.starts_with(dir.path()))
        {
            let by = vec![overlay];
            return Err(disk::Error::Stood { file, by }.into());
        }
    }
    Ok(())
}

/// Sees to it that nothing is in the way of a VM's directory.
fn free(vm: &VmDir) -> Result<(), Error> {
    // Of commands that came too late to find a VM of that name.
    for lock in [vm.lock(), vm.operation_lock()] {
        let _ = fs::remove_file(lock);
    }
    let dir = vm.path();
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // Disks that a VM of that name has left.
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
            Err(Error::InTheWay(dir.to_owned()))
        }
        other => other.map_err(Error::io(format_args!("cannot remove {}", dir.display()))),
    }
}

/// What a rename changes in definitions.
struct Change<'a> {
    host: &'a Host,
    old: &'a VmName,
    new: &'a VmName,
}

impl Change<'_> {
    fn of(&self, definition: &str) -> Result<String, Error> {
        let file = self.host.paths.vm(self.old).definition();
        Ok(config::rename(
            definition,
            &file,
            (self.old, self.new),
            |path| self.path(path),
        )?)
    }

    /// Where a file is then, if it is elsewhere.
    fn path(&self, path: &Path) -> Option<PathBuf> {
        let inner = path
            .strip_prefix(self.host.paths.vm(self.old).path())
            .ok()?;
        Some(self.host.paths.vm(self.new).path().join(inner))
    }
}

/// Finishes renames that were killed halfway.
///
/// One process does so at a time, and what it has done is not done again.
///
/// # Errors
/// When files cannot be moved. A service manager that cannot be reached now is asked
/// the next time.
pub(super) fn finish(host: &Host, store: &mut Store) -> Result<(), Error> {
    if store.renamings()?.is_empty() {
        return Ok(());
    }
    store.finish_renamings(|Renaming { old, new, enabled }| {
        let change = Change { host, old, new };
        move_dir(host.paths.vm(old).path(), host.paths.vm(new).path())
            .and_then(|()| move_bases(host, &change))
            .and_then(|()| move_saved(&change))
            .and_then(|()| change_kept(&change))
            .map_err(Error::io(format_args!(
                "cannot finish the renaming of VM `{old}` to `{new}`"
            )))?;
        // A unit that failed would lend its state to the next VM of that name.
        let _ = systemd::reset_failed(&host.scope, &unit_name(old));
        let is_done = !enabled
            || boot::enable(&host.scope, from_ref(new)).is_ok()
                && boot::disable(&host.scope, from_ref(old)).is_ok();
        Ok(is_done)
    })
}

/// Moves a directory; one that is there already takes what it lacks.
fn move_dir(old: &Path, new: &Path) -> io::Result<()> {
    match fs::rename(old, new) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        // It was moved before, and a start that came too late has looked for it since.
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
        other => return other,
    }
    for entry in fs::read_dir(old)? {
        let entry = entry?;
        let target = new.join(entry.file_name());
        match target.try_exists()? {
            true => fs::remove_file(entry.path())?,
            false => fs::rename(entry.path(), target)?,
        }
    }
    fs::remove_dir(old)
}

/// The images in the directory of a VM, be its name the old or the new one, that no disk is in
/// and whose backing file moves with them: of disks that were detached.
///
/// Nobody says of what format such a file is. It is an image if it begins as one, and names
/// a file there in full; as what it is known to be raw is left out, no guest can have it
/// taken for one while it has it.
fn stray(host: &Host, change: &Change<'_>, name: &VmName) -> Result<Vec<Link>, Error> {
    // Not `Host::vm`, which would finish renames first.
    let store = Store::open(&host.paths.database())?;
    let config = store.get(name)?.and_then(|row| host.config(&row).ok());
    let disks = config.map_or_else(Vec::new, |config| disk::defined(host, &config));
    let dir = host.paths.vm(name);
    let files = match dir.path().is_dir() {
        true => disk::orphans::files(dir.path())?,
        false => Vec::new(),
    };
    let moves = |path: &PathBuf| {
        let is_raw = |it: &disk::Defined| it.path == *path && it.disk.format == Format::Raw;
        // What is in one that maqet has made raw, a guest has written.
        let is_raw = disks.iter().any(is_raw) || path.extension().is_some_and(|it| it == "raw");
        let header = Header::read(path).ok().filter(|_| !is_raw);
        let backing = header.and_then(|header| header.backing);
        backing.is_some_and(|backing| change.path(Path::new(&backing)).is_some())
    };
    let images = files.into_iter().filter(moves).map(|path| Link {
        path,
        format: Format::Qcow2.as_str().to_owned(),
    });
    Ok(images.collect())
}

/// Names the backing files of the VM's images that have moved with its directory.
///
/// Those that are named from beside an image are found as they are.
fn move_bases(host: &Host, change: &Change<'_>) -> io::Result<()> {
    // Not `Host::vm`, which would finish renames first.
    let store = Store::open(&host.paths.database()).map_err(io::Error::other)?;
    let row = store.get(change.new).map_err(io::Error::other)?;
    let Some(config) = row.and_then(|row| host.config(&row).ok()) else {
        return Ok(());
    };
    let disks = disk::defined(host, &config);
    let mut images: Vec<Link> = disks.iter().map(disk::Defined::link).collect();
    // Those that no disk is in now, and snapshots are of, may stand on others.
    for snapshot in store.snapshots(change.new).map_err(io::Error::other)? {
        let overlays = Facts::of(&snapshot).map_or(Vec::new(), |facts| facts.overlays);
        images.extend(overlays.into_iter().map(|overlay| Link {
            path: overlay.base,
            format: overlay.format,
        }));
    }
    images.extend(stray(host, change, change.new).map_err(io::Error::other)?);
    for Link { path, format } in images {
        // Each turn finds one more of the chain, or the end of it.
        while let Chain {
            links,
            fault: Some(Fault::Missing { backing, .. }),
        } = Chain::of(&path, &format)
        {
            let (Some(image), Some(backing)) = (links.last(), change.path(&backing)) else {
                break;
            };
            let format = Header::read(&image.path)?.backing_format;
            let (Some(format), true) = (format, backing.exists()) else {
                break;
            };
            let backing = Link {
                path: backing,
                format,
            };
            // It reads as it did, and a saved state knows it by the time of its last change.
            let file = OpenOptions::new().write(true).open(&image.path)?;
            let then = file.metadata()?.modified()?;
            image::rename_backing(image, &backing).map_err(io::Error::other)?;
            file.set_modified(then)?;
        }
    }
    Ok(())
}

/// Moves a saved state, with the definition that it goes on with.
fn move_saved(change: &Change<'_>) -> io::Result<()> {
    let old = change.host.paths.saved(change.old);
    let new = change.host.paths.saved(change.new);
    if let Some(mut saved) = Saved::read(&old)? {
        saved.definition = change.of(&saved.definition).map_err(io::Error::other)?;
        for disk in &mut saved.disks {
            if let Some(path) = change.path(&disk.path) {
                disk.path = path;
            }
        }
        saved.write_facts(&new)?;
        // The state is there only when all that belongs to it is.
        fs::rename(old.state(), new.state())?;
    }
    for file in [old.facts(), old.unfinished()] {
        match fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Changes the definition that the last start has kept beside the disks.
fn change_kept(change: &Change<'_>) -> io::Result<()> {
    let file = change.host.paths.vm(change.new).definition();
    let text = match fs::read_to_string(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        text => text?,
    };
    // The next start keeps it anew.
    let Ok(text) = change.of(&text) else {
        return fs::remove_file(file);
    };
    let unfinished = file.with_extension("toml.unfinished");
    fs::write(&unfinished, text)?;
    fs::rename(unfinished, file)
}
