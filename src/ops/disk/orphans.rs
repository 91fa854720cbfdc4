//! Files in maqet's own directories that nobody names, and names of files that are not there.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::DeviceName;
use crate::image::{Chain, Fault};
use crate::lock::{self, VmLock};
use crate::ops::doctor::kept_definitions;
use crate::ops::operation::settle;
use crate::ops::{Error, Host, in_force, snapshot};
use crate::paths::VmDir;
use crate::vm::VmName;

use super::plan::remove;
use super::users::Inode;
use super::{Error as Why, defined};

/// What belongs together, and is not together.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Orphans {
    /// Files that no definition and no snapshot names, and no image that one names stands on.
    pub files: Vec<File>,
    /// Disks whose files are not there.
    pub missing: Vec<Missing>,
    /// Images that maqet has made elsewhere, and that nobody names now.
    #[serde(skip)]
    outside: Vec<PathBuf>,
}

/// A file that nobody names.
#[derive(Clone, Debug, Serialize)]
pub struct File {
    /// The file.
    pub file: PathBuf,
    /// What it takes up, in bytes.
    pub actual_size: u64,
    /// The VM in whose directory it is, if there is one.
    pub vm: Option<VmName>,
    /// Whether a command that was killed has left it unfinished.
    pub unfinished: bool,
}

/// A disk whose file, or what that stands on, is not there.
#[derive(Clone, Debug, Serialize)]
pub struct Missing {
    /// The VM.
    pub vm: VmName,
    /// The disk.
    pub disk: DeviceName,
    /// What is missing, in words.
    pub fault: String,
}

/// Looks for orphans; changes nothing.
///
/// # Errors
/// When a definition cannot be read, or the database has lost some: nobody knows then what
/// they name.
pub fn orphans(host: &Host) -> Result<Orphans, Error> {
    let found = find(host)?;
    let known = host.list()?;
    let lost = kept_definitions(host).into_iter().map(|(name, _)| name);
    let lost: Vec<VmName> = lost
        .filter(|name| known.iter().all(|vm| vm.name != *name))
        .collect();
    // Files are made where a database is.
    let has_none = host.existing_store()?.is_none() && !found.files.is_empty();
    match lost.is_empty() && !has_none {
        true => Ok(found),
        false => Err(Why::Lost {
            dir: host.paths.vms(),
            vms: lost,
        }
        .into()),
    }
}

/// The same, with those for orphans whose VMs the database has lost.
fn find(host: &Host) -> Result<Orphans, Error> {
    let mut found = Orphans::default();
    let mut named = BTreeSet::new();
    let mut names: Vec<VmName> = Vec::new();
    let mut busy = Vec::new();
    let (vms, made) = (host.paths.vms(), host.existing_store()?);
    for row in host.rows()? {
        let config = host.config(&row)?;
        let used = in_force::read(host, &row.name)?;
        for it in defined(host, &config) {
            let chain = Chain::of(&it.path, it.disk.format.as_str());
            if let Some(fault) = &chain.fault
                && !matches!(fault, Fault::Damaged { .. })
            {
                found.missing.push(Missing {
                    vm: row.name.clone(),
                    disk: it.name.clone(),
                    fault: crate::ops::error::with_causes(fault),
                });
            }
            name_all(&chain, &mut named);
        }
        for it in used.iter().flat_map(|used| defined(host, &used.config)) {
            name_all(&Chain::of(&it.path, it.disk.format.as_str()), &mut named);
        }
        for made in made.iter().flat_map(|store| store.made_disks(&row.name)) {
            let made = made.into_iter().map(|it| it.path);
            found
                .outside
                .extend(made.filter(|it| !it.starts_with(&vms)));
        }
        busy.extend(at_work(host, &row.name)?);
        names.push(row.name);
    }
    for it in snapshot::stood_on(host)? {
        name_all(&it.chain, &mut named);
    }
    let is_named = |file: &PathBuf| {
        let inode = Inode::of(file).ok().flatten();
        inode.is_none_or(|inode| named.contains(&inode))
    };
    found.outside.retain(|file| !is_named(file));
    // What was moved elsewhere and detached can be given to a VM again, too.
    for file in &found.outside {
        name_all(&Chain::of(file, "qcow2"), &mut named);
    }
    for dir in entries(&host.paths.vms())? {
        let vm = dir.file_name().and_then(|name| name.to_str());
        let vm = vm.and_then(|vm| names.iter().find(|name| name.as_str() == vm));
        for file in files(&dir)? {
            if is_own(&file, vm.is_some()) {
                continue;
            }
            let Some(inode) = Inode::of(&file).ok().flatten() else {
                continue;
            };
            if named.contains(&inode) || busy.iter().any(|id| is_of(&file, *id)) {
                continue;
            }
            let metadata = fs::symlink_metadata(&file);
            found.files.push(File {
                actual_size: metadata.map_or(0, |file| {
                    use std::os::unix::fs::MetadataExt;
                    file.blocks() * 512
                }),
                unfinished: file
                    .extension()
                    .is_some_and(|suffix| suffix == "unfinished"),
                vm: vm.cloned(),
                file,
            });
        }
    }
    found.files.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(found)
}

/// The images that nobody names and that stand on others, such as that of a disk which was
/// detached: each with those.
pub(in crate::ops) fn overlays(host: &Host) -> Result<Vec<(PathBuf, Vec<PathBuf>)>, Error> {
    let found = find(host)?;
    let files = found.files.into_iter();
    let files = files.filter(|it| !it.unfinished).map(|it| it.file);
    let chains = files.chain(found.outside).map(|file| {
        let below = Chain::of(&file, "qcow2").links.into_iter().skip(1);
        (file, below.map(|link| link.path).collect::<Vec<_>>())
    });
    Ok(chains.filter(|(_, below)| !below.is_empty()).collect())
}

/// Sees to it that none of the orphans stands on one of these files: it can be given to a VM
/// again. Orphans among the files themselves do not count.
///
/// # Errors
/// [`Why::Stood`].
pub(in crate::ops) fn spare(host: &Host, files: &[PathBuf]) -> Result<(), Error> {
    let overlays = overlays(host)?;
    for file in files {
        let inode = Inode::of(file).ok().flatten();
        // By whatever name.
        let is_it = |it: &PathBuf| {
            it == file || inode.is_some() && Inode::of(it).is_ok_and(|other| other == inode)
        };
        let above = overlays.iter().filter(|(_, below)| below.iter().any(is_it));
        let by = above.map(|(overlay, _)| overlay);
        let by: Vec<PathBuf> = by.filter(|it| !files.contains(it)).cloned().collect();
        if !by.is_empty() {
            let file = file.clone();
            return Err(Why::Stood { file, by }.into());
        }
    }
    Ok(())
}

/// Deletes files that are among the orphans; all of them must be.
///
/// # Errors
/// Those of [`orphans`]; [`Why::NoOrphan`]; [`Why::Stood`] of one that another orphan stands
/// on which stays.
pub fn delete(host: &Host, files: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let before = orphans(host)?;
    // What is at work now may be about to name one; what was killed has some of them undone.
    for row in host.rows()? {
        settle(host, &row.name)?;
    }
    let known = orphans(host)?;
    let mut deleted = Vec::new();
    for file in files {
        let path =
            std::path::absolute(file).map_err(Error::io("cannot tell the current directory"))?;
        let is_among = |all: &Orphans| all.files.iter().any(|orphan| orphan.file == path);
        let is_undone = is_among(&before) && path.symlink_metadata().is_err();
        if !is_among(&known) && !is_undone {
            return Err(Why::NoOrphan(path).into());
        }
        // It may be named twice.
        if !deleted.contains(&path) {
            deleted.push(path);
        }
    }
    spare(host, &deleted)?;
    for file in &deleted {
        remove(file)?;
        host.store()?.forget_disk(file)?;
        // Stays while something is in it.
        if let Some(dir) = file.parent() {
            let _ = fs::remove_dir(dir);
        }
    }
    Ok(deleted)
}

/// The numbers of the operations that a process is doing to a VM at this moment.
fn at_work(host: &Host, name: &VmName) -> Result<Vec<i64>, Error> {
    let store = host.existing_store()?;
    let left = store.map(|store| store.operations(name)).transpose()?;
    let ids: Vec<i64> = left.into_iter().flatten().map(|it| it.id).collect();
    if ids.is_empty() {
        return Ok(ids);
    }
    match VmLock::try_take(&host.paths.vm(name).operation_lock()) {
        Err(lock::Error::Held { .. }) => Ok(ids),
        _ => Ok(Vec::new()),
    }
}

/// Whether a file is what an operation has not finished.
fn is_of(file: &Path, id: i64) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| {
        [
            format!(".{id}.unfinished"),
            format!(".{id}.unpacked.unfinished"),
        ]
        .iter()
        .any(|end| name.ends_with(end))
    })
}

fn name_all(chain: &Chain, named: &mut BTreeSet<Inode>) {
    let inodes = chain.links.iter().map(|link| Inode::of(&link.path));
    named.extend(inodes.filter_map(|inode| inode.ok().flatten()));
}

/// Whether a file in a VM's directory is maqet's own and no disk.
fn is_own(file: &Path, has_vm: bool) -> bool {
    // A command that came too late may have made one.
    const LOCKS: [&str; 2] = ["lock", "operation.lock"];
    const OWN: [&str; 5] = [
        "definition.toml",
        "console.log",
        "console.log.1",
        "console.shipped",
        "qemu.log",
    ];
    let name = file.file_name().and_then(|name| name.to_str());
    // Of a VM that is not known any more, the definition is what `doctor --rebuild` reads.
    let is_kept = |name: &str| {
        LOCKS.contains(&name) || OWN.contains(&name) && (has_vm || name == "definition.toml")
    };
    name.is_some_and(is_kept) || (has_vm && VmDir::is_port_log(file))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = || Error::io(format!("cannot look into {}", dir.display()));
    let read = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(failed())?,
    };
    let paths = read.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<Result<_, _>>().map_err(failed())
}

/// The files in a directory and in those within it.
pub(in crate::ops) fn files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    if !dir.is_dir() {
        return Ok(vec![dir.to_owned()]);
    }
    for path in entries(dir)? {
        match path.is_dir() && !path.is_symlink() {
            true => files.extend(self::files(&path)?),
            false => files.push(path),
        }
    }
    Ok(files)
}
