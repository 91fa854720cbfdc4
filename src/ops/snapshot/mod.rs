//! Snapshots of a VM: of all its disks at once and, if it runs, of memory and devices.
//!
//! They are within its qcow2 images, each under the snapshot's name, so that they are there
//! for every other tool as well. Images say which snapshots there are; the database only
//! has what they cannot say: which came from which, what the user says of it, and what
//! machine it was ([`Facts`]).

pub mod beside;
pub mod create;
mod disks;
mod error;
mod fit;
mod follow;
mod live;
pub mod ls;
pub mod prune;
pub mod quiesce;
pub mod restore;
pub(crate) mod resume;
pub mod rm;
mod settle;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::address::Addresses;
use crate::config::VmConfig;
use crate::image;
use crate::nearest::nearest;
use crate::store;
use crate::vm::VmName;

use super::{Doing, Host, Obstacle, disk};
use disks::Disks;

pub use beside::Overlay;
pub use error::Error;
pub(super) use follow::{follow, stood_on};

/// What must be known of a snapshot to restore it, and images do not say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The definition that the VM went by.
    pub definition: String,
    /// The images that it is of.
    pub disks: Vec<PathBuf>,
    /// Memory and devices, if they are in it.
    pub memory: Option<Memory>,
    /// What is above each image, of a snapshot that is beside and not within them.
    #[serde(default)]
    pub overlays: Vec<Overlay>,
    /// Whether the images have got some of what was written since: it can be merged, and
    /// not be restored.
    #[serde(default)]
    pub is_merging: bool,
}

/// What must be known of memory and devices that are in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The image that they are in.
    pub image: PathBuf,
    /// Whether the VM ran under KVM.
    pub kvm: bool,
    /// Whether the guest ran, and goes on when it is restored.
    pub was_running: bool,
    /// Whether it was up, as its definition wants it to be.
    pub ready: bool,
    /// Whether its systemd had said so.
    pub notified: bool,
    /// Where the devices were. Snapshots of old do not tell.
    #[serde(default)]
    pub addresses: Addresses,
}

/// Sees to it that there is nothing in the way.
pub(in crate::ops) fn nothing_in_the_way(
    doing: Doing,
    vm: &VmName,
    obstacles: impl IntoIterator<Item = impl Into<Obstacle>>,
) -> Result<(), Error> {
    let obstacles: Vec<Obstacle> = obstacles.into_iter().map(Into::into).collect();
    match obstacles.is_empty() {
        true => Ok(()),
        false => Err(Error::Obstacles {
            doing,
            vm: vm.clone(),
            obstacles,
        }),
    }
}

impl Facts {
    /// What is kept of a snapshot.
    pub(super) fn of(snapshot: &store::Snapshot) -> Result<Self, super::Error> {
        serde_json::from_str(&snapshot.facts).map_err(|source| {
            let what = format!("cannot read what is kept of snapshot `{}`", snapshot.name);
            super::Error::Io(what, source.into())
        })
    }

    /// The text by which they are kept.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("facts are texts")
    }

    /// The same where definitions say other things and files have other names.
    pub(super) fn renamed(
        mut self,
        definition: impl Fn(&str) -> Result<String, super::Error>,
        path: impl Fn(&Path) -> Option<PathBuf>,
    ) -> Result<Self, super::Error> {
        self.definition = definition(&self.definition)?;
        let memory = self.memory.iter_mut().map(|memory| &mut memory.image);
        let overlays = self.overlays.iter_mut();
        let overlays = overlays.flat_map(|it| [&mut it.base, &mut it.file]);
        for file in self.disks.iter_mut().chain(memory).chain(overlays) {
            if let Some(new) = path(file) {
                *file = new;
            }
        }
        Ok(self)
    }
}

/// What an operation on a snapshot is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub what: What,
    /// The snapshot.
    pub name: String,
    /// Its number, if it is kept.
    pub id: Option<i64>,
    /// The images that it is in, or is to be in.
    pub disks: Vec<PathBuf>,
    /// Whether the guest ran that is halted for it.
    #[serde(default)]
    pub was_running: bool,
}

impl Plan {
    /// What this is, if the guest is halted until it has ended, in words.
    pub fn halts(&self) -> Option<&'static str> {
        matches!(self.what, What::Halt | What::Load).then_some("a restore")
    }
}

/// What is to be done with a snapshot.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum What {
    /// It is to be made, in images none of which has one of its name.
    Create,
    /// Images are to read as they were at it.
    Restore {
        /// Whether the next start is to go on with the memory that is in it.
        resumes: bool,
    },
    /// A running VM is to go on at it, and nothing but to halt its guest may have been done.
    Halt,
    /// The same, when its guest is halted: it does nothing until this has ended, whatever becomes
    /// of the command.
    Load,
    /// It is to be deleted.
    Rm,
}

/// What QEMU keeps of a name at most, in bytes (`QEMUSnapshotInfo`, block/snapshot.h).
const MAX_NAME: usize = 255;

/// Refuses what cannot name a snapshot; nearly every text can.
fn check_name(name: &str) -> Result<(), Error> {
    let why = match name {
        name if name.trim().is_empty() => "it is empty",
        name if name.len() > MAX_NAME => "it is longer than 255 bytes",
        name if name.contains(char::is_control) => "it has control characters",
        _ => return Ok(()),
    };
    Err(Error::Name {
        name: name.to_owned(),
        why,
    })
}

/// The snapshot of this name, as it is kept.
fn find(host: &Host, vm: &VmName, name: &str) -> Result<Option<store::Snapshot>, super::Error> {
    let all = host.store()?.snapshots(vm)?;
    Ok(all.into_iter().find(|snapshot| snapshot.name == name))
}

/// The images that a snapshot is within; none of one that is not kept, or beside its images.
pub(in crate::ops) fn within(
    host: &Host,
    vm: &VmName,
    name: &str,
) -> Result<Vec<PathBuf>, super::Error> {
    let kept = find(host, vm, name)?;
    let facts = kept.as_ref().map(Facts::of).transpose()?;
    let facts = facts.filter(|facts| facts.overlays.is_empty());
    Ok(facts.map_or_else(Vec::new, |facts| facts.disks))
}

/// Those of a snapshot's images that have it and are no disks of the VM now.
fn elsewhere(name: &str, facts: Option<&Facts>, now: &Disks) -> Result<Vec<PathBuf>, image::Error> {
    let mut found = Vec::new();
    let wanted = facts.iter().flat_map(|facts| &facts.disks);
    for file in wanted.filter(|file| now.at(file).is_none() && file.exists()) {
        if image::snapshot::list(file)?
            .iter()
            .any(|it| it.name == name)
        {
            found.push(file.clone());
        }
    }
    Ok(found)
}

/// That the image of a snapshot must be as it is, and for whose sake.
fn stands_on(host: &Host, vm: &VmName, name: &str, file: PathBuf) -> Result<Error, super::Error> {
    let mut users = disk::Users::find(host)?.of(&file)?;
    // When a snapshot is merged, nothing stands on the image any more.
    if users.iter().any(|user| user.snapshot.is_some()) {
        users.retain(|user| user.vm != *vm || user.snapshot.is_some());
    }
    Ok(Error::Below {
        vm: vm.clone(),
        name: name.to_owned(),
        file,
        users,
    })
}

/// The snapshot at which the next start goes on with the memory that is in it.
pub(super) fn awaited(host: &Host, vm: &VmName) -> Result<Option<String>, super::Error> {
    let Some(store) = host.existing_store()? else {
        return Ok(None);
    };
    let Some(position) = store.position(vm)?.filter(|it| it.resumes) else {
        return Ok(None);
    };
    let mut all = store.snapshots(vm)?.into_iter();
    let snapshot = all.find(|snapshot| snapshot.id == position.snapshot);
    Ok(snapshot.map(|snapshot| snapshot.name))
}

/// The disks that a snapshot is of, and the definition has no more, in words.
pub(super) fn disks_gone(
    host: &Host,
    config: &VmConfig,
    name: &str,
) -> Result<Vec<String>, super::Error> {
    let Some(snapshot) = find(host, &config.name, name)? else {
        return Ok(Vec::new());
    };
    let facts = Facts::of(&snapshot)?;
    if !facts.overlays.is_empty() {
        let mut gone = facts.overlays;
        gone.retain(|it| !config.disks.contains_key(&it.disk));
        return Ok(gone
            .iter()
            .map(|it| format!("disk `{}`", it.disk))
            .collect());
    }
    let now = disk::defined(host, config);
    let gone = facts.disks.iter();
    let gone = gone.filter(|path| now.iter().all(|it| it.path != **path));
    Ok(gone.map(|path| path.display().to_string()).collect())
}

/// Sees to it that all images have a snapshot that should have it.
fn require_whole(vm: &VmName, name: &str, wanted: &[PathBuf], disks: &Disks) -> Result<(), Error> {
    let missing: Vec<PathBuf> = wanted
        .iter()
        .filter(|path| !disks.has(path, name))
        .cloned()
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::NotWhole {
            vm: vm.clone(),
            name: name.to_owned(),
            missing,
        }),
    }
}

fn no_such(vm: &VmName, name: &str, all: Vec<String>) -> Error {
    Error::NoSuch {
        vm: vm.clone(),
        name: name.to_owned(),
        nearest: nearest(name, all).into_iter().next(),
    }
}
