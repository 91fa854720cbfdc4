//! Snapshots beside images: an image stays as it was, and an overlay above it takes what is
//! written from then on.
//!
//! For disks that can have none within them, and where that is asked for. An empty overlay
//! reads as its image does: so first the overlays are made, then the definition names them,
//! and then a running QEMU is told. A start in between opens what is right. Back it goes
//! the same way ([`merge`]): the definition names the images again only when they have
//! all that was written.

pub mod create;
pub mod merge;
pub(super) mod restore;
pub(super) mod rm;
mod settle;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::{self, DeviceName, Document, VmConfig, path_text};
use crate::image::{self, Link};
use crate::ops::device::definition::{keep, note};
use crate::ops::disk::plan::remove;
use crate::ops::operation::Id;
use crate::ops::{Doing, Error, Host, Obstacle, add, disk};
use crate::qmp::Client;
use crate::store;
use crate::vm::VmName;

use super::{Facts, nothing_in_the_way};

/// An overlay, and the image that it is above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// The disk, by its name in the definition.
    pub disk: DeviceName,
    /// The image, which is as it was at the snapshot.
    pub base: PathBuf,
    /// The format of that.
    pub format: String,
    /// The overlay.
    pub file: PathBuf,
}

/// What an operation with overlays is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::ops) struct Plan {
    what: What,
    /// The snapshot.
    name: String,
    overlays: Vec<Overlay>,
    /// Whether the guest ran.
    was_running: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    /// The disks are to go on in these overlays.
    Create {
        facts: String,
        description: Option<String>,
    },
    /// They are to go on in these, and no more in those.
    Restore {
        id: i64,
        facts: String,
        old: Vec<PathBuf>,
    },
    /// They are to go on in the images, which get what is in the overlays; the snapshot
    /// that these are, if they are one, is no more then.
    Merge { id: Option<i64> },
    /// It is to be deleted, and so are these, which nothing else needs.
    Rm { id: i64, files: Vec<PathBuf> },
}

/// A name for an overlay of a disk that no file has.
///
/// The caller works on the VM, and so nobody else makes one.
fn free_name(host: &Host, vm: &VmName, disk: &DeviceName) -> PathBuf {
    let dir = host.paths.vm(vm);
    let names = (1..).map(|n| dir.path().join(format!("{disk}.{n}.qcow2")));
    let mut free = names.filter(|path| fs::symlink_metadata(path).is_err());
    free.next().expect("there are more numbers than files")
}

/// Makes overlays, empty ones. QEMU may have their images open.
fn make(host: &Host, vm: &VmName, id: Id, overlays: &[Overlay]) -> Result<(), Error> {
    for Overlay {
        base, format, file, ..
    } in overlays
    {
        let link = Link {
            path: base.clone(),
            format: format.clone(),
        };
        image::place(file, id.0, |unfinished| {
            image::create_overlay(unfinished, file, &link, None, true)
        })?;
        host.store()?.record_disk(vm, &add::made_disk(file)?)?;
    }
    Ok(())
}

/// Which of the two the definition names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Overlays,
    Images,
}

/// Has the definition, and that which a running VM goes by, name overlays or their images.
fn point(host: &Host, vm: &VmName, overlays: &[Overlay], to: Side) -> Result<(), Error> {
    let edit = |document: &mut Document| -> Result<(), config::Error> {
        for overlay in overlays {
            let (path, format) = match to {
                Side::Overlays => (&overlay.file, "qcow2"),
                Side::Images => (&overlay.base, overlay.format.as_str()),
            };
            let table = format!("disk.{}", overlay.disk);
            // One that was taken out since is nobody's.
            if document.says(&table) {
                // They are paths of definitions, and of the VM's own directory.
                let text = path_text(path).unwrap_or_default();
                document.set(&format!("{table}.file"), text)?;
                document.set(&format!("{table}.format"), format)?;
            }
        }
        Ok(())
    };
    keep(host, vm, &edit)?;
    note(host, vm, &edit);
    Ok(())
}

/// Has both definitions name the images again as the stored one, `before`, did.
fn take_back(host: &Host, vm: &VmName, overlays: &[Overlay], before: &str) -> Result<(), Error> {
    let before = Document::parse(before, &host.paths.vm(vm).definition())?;
    let edit = |document: &mut Document| -> Result<(), config::Error> {
        for overlay in overlays {
            for word in ["file", "format"] {
                document.restore(&before, &format!("disk.{}.{word}", overlay.disk))?;
            }
        }
        Ok(())
    };
    keep(host, vm, &edit)?;
    note(host, vm, &edit);
    Ok(())
}

/// Whether the definition names all of these overlays.
fn is_named(host: &Host, vm: &VmName, overlays: &[Overlay]) -> Result<bool, Error> {
    let config = host.config(&host.vm(vm)?)?;
    Ok(overlays
        .iter()
        .all(|overlay| path_of(host, &config, &overlay.disk).as_ref() == Some(&overlay.file)))
}

/// The image of a disk, as the definition names it.
fn path_of(host: &Host, config: &VmConfig, disk: &DeviceName) -> Option<PathBuf> {
    let dir = host.paths.vm(&config.name);
    config.disks.get(disk)?.path(disk, dir.path())
}

/// Deletes files that maqet has made, and forgets them.
fn delete(host: &Host, files: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<(), Error> {
    for file in files {
        let file = file.as_ref();
        remove(file)?;
        host.store()?.forget_disk(file)?;
    }
    Ok(())
}

/// The disks that are to go on from these images, and that a running QEMU does not have there.
fn unplugged(
    monitor: &mut Client,
    vm: &VmName,
    all: &[(&DeviceName, &PathBuf)],
) -> Result<Vec<Obstacle>, Error> {
    let mut found = Vec::new();
    for &(disk, file) in all {
        if disk::Nodes::with(monitor, disk, file)?.is_none() {
            let (vm, disk) = (vm.clone(), disk.clone());
            found.push(Obstacle::Unplugged { vm, disk });
        }
    }
    Ok(found)
}

/// The node that a running QEMU has of the image at `path`.
fn node_of(monitor: &mut Client, path: &Path) -> Result<Option<String>, Error> {
    let nodes = nodes_of(monitor, path)?.into_iter();
    let mut formats = nodes.filter(|(_, driver)| matches!(driver.as_str(), "qcow2" | "raw"));
    Ok(formats.next().map(|(name, _)| name))
}

/// All nodes that are of the file at `path`, with their drivers; those of its format first.
fn nodes_of(monitor: &mut Client, path: &Path) -> Result<Vec<(String, String)>, Error> {
    let nodes = monitor.execute("query-named-block-nodes", json!({ "flat": true }))?;
    let path = path.to_string_lossy();
    let nodes = nodes.as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found: Vec<(String, String)> = nodes
        .filter(|node| node["file"].as_str() == Some(&*path))
        .map(|node| (text(&node["node-name"]), text(&node["drv"])))
        .collect();
    found.sort_by_key(|(_, driver)| driver == "file");
    Ok(found)
}

/// Who else stands on the images that these overlays are above, in words: what is written to
/// an image would be written to them. That is not the snapshot `of` of that VM, which ends.
pub(in crate::ops) fn others_above(
    host: &Host,
    vm: &VmName,
    of: Option<&str>,
    overlays: &[Overlay],
) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    // What a VM has left behind can be given to another one.
    let orphans = disk::orphans::overlays(host)?;
    let users = disk::Users::find(host)?;
    for overlay in overlays {
        for (orphan, below) in &orphans {
            if below.contains(&overlay.base) {
                found.push(format!(
                    "{} is no VM's, and stands on {}",
                    orphan.display(),
                    overlay.base.display()
                ));
            }
        }
        // What stands on the overlay stands on the image, too.
        for user in users.of(&overlay.base)? {
            let is_own = user.vm == *vm;
            let who = match &user.snapshot {
                None if is_own && user.disk == overlay.disk.to_string() => continue,
                Some(name) if is_own && Some(&**name) == of => continue,
                None => format!("disk `{}` of VM `{}`", user.disk, user.vm),
                Some(name) => format!("snapshot `{name}` of VM `{}`", user.vm),
            };
            let words = format!("{who} stands on {}", overlay.base.display());
            if !found.contains(&words) {
                found.push(words);
            }
        }
    }
    Ok(found)
}

/// The snapshots that are within an image: they would be gone with it.
pub(in crate::ops) fn within(file: &Path) -> Result<Vec<Obstacle>, Error> {
    let all = image::snapshot::list(file)?.into_iter();
    let within = |it: image::Snapshot| Obstacle::Within {
        name: it.name,
        file: file.to_owned(),
    };
    Ok(all.map(within).collect())
}

/// Sees to it that no snapshot is within these images, which are going to be deleted.
fn nothing_within(
    doing: Doing,
    vm: &VmName,
    files: impl IntoIterator<Item = impl AsRef<Path>>,
) -> Result<(), Error> {
    let mut obstacles = Vec::new();
    for file in files {
        obstacles.extend(within(file.as_ref())?);
    }
    Ok(nothing_in_the_way(doing, vm, obstacles)?)
}

/// The images that disks were at a snapshot beside them; `None` if none of that name is.
///
/// # Errors
/// [`Why::Obstacles`] if they are not as they were.
pub(in crate::ops) fn images(
    host: &Host,
    vm: &VmName,
    name: &str,
) -> Result<Option<Vec<(DeviceName, Link)>>, Error> {
    let Some((_, facts)) = find(host, vm, name)? else {
        return Ok(None);
    };
    if facts.is_merging {
        let partly = format!("snapshot `{name}` is partly merged");
        nothing_in_the_way(Doing::Clone, vm, [partly])?;
    }
    let images = facts.overlays.into_iter().map(|overlay| {
        let (path, format) = (overlay.base, overlay.format);
        (overlay.disk, Link { path, format })
    });
    Ok(Some(images.collect()))
}

/// The snapshot of this name that is beside its images, with its facts.
fn find(host: &Host, vm: &VmName, name: &str) -> Result<Option<(store::Snapshot, Facts)>, Error> {
    let Some(snapshot) = super::find(host, vm, name)? else {
        return Ok(None);
    };
    let facts = Facts::of(&snapshot)?;
    Ok(Some((snapshot, facts)).filter(|(_, facts)| !facts.overlays.is_empty()))
}
