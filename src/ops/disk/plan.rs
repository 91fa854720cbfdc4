//! What is left of an operation on a disk whose process has died, and how that ends.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::DeviceName;
use crate::image::{self, Access, Header, Info};
use crate::ops::add::made_disk;
use crate::ops::block_job::set_running;
use crate::ops::operation::{Id, Left};
use crate::ops::reach::Reach;
use crate::ops::{Error, Host, in_force, snapshot};
use crate::qemu::disk;
use crate::vm::VmName;

use super::{Defined, defined, definition, live, resize};

/// An operation on a disk, as it is recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub(in crate::ops) enum Plan {
    /// An image is made, then the definition gets the disk.
    Add {
        /// The disk.
        disk: DeviceName,
        /// Its image, which is not there before.
        file: PathBuf,
    },
    /// An image gets another size, then the definition says that.
    Resize {
        /// The disk.
        disk: DeviceName,
        /// Its size in bytes, when it is done.
        to: u64,
    },
    /// Another file takes the place of an image.
    Rewrite {
        /// The disk.
        disk: DeviceName,
        /// Its image.
        file: PathBuf,
        /// Whether maqet made the image.
        made: bool,
    },
    /// What an image lacks of another base is copied into it, then it stands on that.
    Rebase {
        /// The disk.
        disk: DeviceName,
        /// Its image.
        file: PathBuf,
        /// What that stood on, as it names it, and the format of that.
        below: Option<(String, String)>,
    },
    /// An image gets another name, then the definition has that, then the old one goes.
    Move {
        /// The disk.
        disk: DeviceName,
        /// Where it is.
        from: PathBuf,
        /// Where it will be, and nothing is before.
        to: PathBuf,
        /// Whether maqet made the image.
        made: bool,
        /// Tells the file that is moved from another.
        identity: String,
        /// Whether the guest ran; `None` if no QEMU had the disk.
        #[serde(default)]
        was_running: Option<bool>,
    },
    /// The definition loses a disk, then its image is deleted.
    Delete {
        /// The disk.
        disk: DeviceName,
        /// Its image.
        file: PathBuf,
        /// Tells it from another file of that name.
        identity: String,
    },
}

/// The name under which what is in a compressed file is kept until it is converted.
pub(super) fn unpacked(file: &Path, id: Id) -> PathBuf {
    image::unfinished(file, format_args!("{}.unpacked", id.0))
}

impl Plan {
    /// Finishes it if the definition is as it was to be, undoes it if not.
    pub(in crate::ops) fn settle(
        &self,
        left: &Left<'_>,
        reach: &mut Reach,
    ) -> Result<String, Error> {
        let Left { host, name, id } = *left;
        let told = |disk: &DeviceName, what: &str, how: &str| {
            format!("disk `{disk}` of VM `{name}`: {what}, which was cut short, is {how}")
        };
        match self {
            Self::Add { disk, file } => {
                remove(&unpacked(file, id))?;
                remove(&image::unfinished(file, id.0))?;
                if names(host, name, file)? {
                    return Ok(told(disk, "its making", "finished"));
                }
                if is_made(host, name, file)? {
                    remove(file)?;
                }
                host.store()?.forget_disk(file)?;
                Ok(told(disk, "its making", "undone"))
            }
            Self::Resize { disk, to } => {
                let config = host.config(&host.vm(name)?)?;
                // A running QEMU has written it down, too. What cannot be read is not mended here.
                let mut all = defined(host, &config).into_iter();
                let info = all.find(|it| it.name == *disk).and_then(|it| {
                    Info::of(&it.path, it.disk.format.as_str(), Access::Shared).ok()
                });
                if info.is_some_and(|info| info.virtual_size == *to) {
                    resize::follow(host, &config, disk, *to)?;
                    return Ok(told(disk, "its resizing", "finished"));
                }
                Ok(told(disk, "its resizing", "undone"))
            }
            Self::Rewrite { disk, file, made } => {
                remove(&image::unfinished(file, id.0))?;
                if *made && !is_made(host, name, file)? {
                    host.store()?.record_disk(name, &made_disk(file)?)?;
                    return Ok(told(disk, "its rewriting", "finished"));
                }
                Ok(told(disk, "its rewriting", "undone"))
            }
            Self::Rebase { disk, file, below } => {
                let below = below
                    .as_ref()
                    .map(|(it, format)| (it.as_str(), format.as_str()));
                // qemu-img names the new one before it has written where all that it copied is.
                let then = below.map(|(it, _)| it);
                if Header::read(file).is_ok_and(|now| now.backing.as_deref() != then) {
                    image::put_back(file, below)?;
                }
                // Clusters that were taken and not used: they lose nothing, if they stay.
                let _ = image::repair_leaks(file, "qcow2");
                Ok(told(disk, "its rebasing", "undone"))
            }
            Self::Move {
                disk,
                from,
                to,
                made,
                identity,
                was_running,
            } => {
                remove(&image::unfinished(to, id.0))?;
                let mut is_there = names(host, name, to)?;
                if let (Reach::Running(monitor), Some(was_running)) = (reach, was_running) {
                    let files = (from.as_path(), to.as_path());
                    let is_in = live::settle(monitor, id, &disk::id(disk), files, is_there)?;
                    if is_in != is_there {
                        let file = if is_in { to } else { from };
                        let file = definition::text(file)?.into();
                        definition::point(host, name, disk, &[("file", file)])?;
                        is_there = is_in;
                    }
                    set_running(monitor, *was_running)?;
                }
                if is_there {
                    finish_move(host, name, (from, to), identity, *made)?;
                    return Ok(told(disk, "its move", "finished"));
                }
                // Its new name is noted as that of a made disk before it has that.
                if is_made(host, name, to)? {
                    remove(to)?;
                }
                host.store()?.forget_disk(to)?;
                Ok(told(disk, "its move", "undone"))
            }
            Self::Delete {
                disk,
                file,
                identity,
            } => {
                if names(host, name, file)? {
                    return Ok(told(disk, "its removal", "undone"));
                }
                delete(host, file, identity)?;
                Ok(told(disk, "its removal", "finished"))
            }
        }
    }
}

/// Whether the VM has a disk with that file: by its definition, or while it runs.
fn names(host: &Host, name: &VmName, file: &Path) -> Result<bool, Error> {
    let has = |all: Vec<Defined>| all.iter().any(|it| it.path == file);
    let row = host.vm(name)?;
    let used = in_force::read(host, name)?;
    Ok(has(defined(host, &host.config(&row)?))
        || used.is_some_and(|used| has(defined(host, &used.config))))
}

/// Whether the file is the one that maqet made for the VM.
pub(in crate::ops) fn is_made(host: &Host, name: &VmName, file: &Path) -> Result<bool, Error> {
    let made = host.store()?.made_disks(name)?;
    let made = made.iter().find(|made| made.path == file);
    Ok(made.is_some_and(|made| has_identity(file, &made.identity)))
}

pub(super) fn has_identity(file: &Path, identity: &str) -> bool {
    image::identity(file).is_ok_and(|now| now == identity)
}

/// What is left to do of a move when the definition names the new place.
pub(super) fn finish_move(
    host: &Host,
    name: &VmName,
    (from, to): (&Path, &Path),
    identity: &str,
    made: bool,
) -> Result<(), Error> {
    snapshot::follow(host, name, from, to)?;
    if has_identity(from, identity) {
        remove(from)?;
    }
    let mut store = host.store()?;
    match made {
        true => store.record_disk(name, &made_disk(to)?)?,
        false => store.forget_disk(to)?,
    }
    Ok(store.forget_disk(from)?)
}

/// Deletes an image that nobody names any more.
pub(super) fn delete(host: &Host, file: &Path, identity: &str) -> Result<(), Error> {
    if has_identity(file, identity) {
        remove(file)?;
    }
    Ok(host.store()?.forget_disk(file)?)
}

/// Deletes a file, if it is there.
pub(in crate::ops) fn remove(file: &Path) -> Result<(), Error> {
    match fs::remove_file(file) {
        Err(source) if !image::is_absent(&source) => Err(image::Error::File {
            doing: "delete",
            path: file.to_owned(),
            source,
        }
        .into()),
        _ => Ok(()),
    }
}
