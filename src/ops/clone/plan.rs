//! The files of a clone: made, named, and undone if there is no clone.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::DeviceName;
use crate::image::{self, Link};
use crate::ops::add::made_disk;
use crate::ops::disk::plan::{is_made, remove};
use crate::ops::operation::{Id, Left};
use crate::ops::{Error, Host};
use crate::paths::create_private_dir;
use crate::store::MadeDisk;
use crate::vm::VmName;

/// The making of a clone, as it is recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::ops) struct Plan {
    /// The clone.
    pub new: VmName,
    /// Its disks.
    pub layers: Vec<Layer>,
}

/// What becomes of one disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::ops) struct Layer {
    /// The disk.
    pub disk: DeviceName,
    /// What the clone stands on.
    pub base: Link,
    /// Size of the disk in bytes, where an image says it.
    pub size: Option<u64>,
    /// The overlay of the clone, which is not there before.
    pub file: PathBuf,
    /// That of the source, if the base is frozen for this; it is not there before either.
    pub own: Option<PathBuf>,
}

impl Layer {
    /// The files that are made.
    fn files(&self) -> impl Iterator<Item = &Path> {
        self.own.iter().chain([&self.file]).map(PathBuf::as_path)
    }
}

/// Makes all files under their unfinished names, and notes under which names they are going
/// to be this operation's.
pub(super) fn make(host: &Host, from: &VmName, id: Id, layers: &[Layer]) -> Result<(), Error> {
    for layer in layers {
        for path in layer.files() {
            let dir = path.parent().unwrap_or(Path::new("/"));
            create_private_dir(dir)
                .map_err(Error::io(format_args!("cannot make {}", dir.display())))?;
            let unfinished = image::unfinished(path, id.0);
            image::create_overlay(&unfinished, path, &layer.base, layer.size)?;
            let mut made = made_disk(&unfinished)?;
            made.path = path.to_owned();
            host.store()?.record_disk(from, &made)?;
        }
    }
    Ok(())
}

/// Gives the files their names; whose they are.
pub(super) fn name(
    from: &VmName,
    new: &VmName,
    id: Id,
    layers: &[Layer],
) -> Result<Vec<(VmName, MadeDisk)>, Error> {
    let mut made = Vec::new();
    for layer in layers {
        for path in layer.files() {
            image::place(path, id.0, |_| Ok::<_, Error>(()))?;
            let owner = if layer.file == path { new } else { from };
            made.push((owner.clone(), made_disk(path)?));
        }
    }
    Ok(made)
}

impl Plan {
    /// Undoes it: what came to its end is recorded no more.
    pub fn settle(&self, left: &Left<'_>) -> Result<String, Error> {
        let Left { host, name, id } = *left;
        for path in self.layers.iter().flat_map(Layer::files) {
            remove(&image::unfinished(path, id.0))?;
            if is_made(host, name, path)? {
                remove(path)?;
                host.store()?.forget_disk(path)?;
            }
        }
        // Stays if it is another VM's.
        let _ = fs::remove_dir(host.paths.vm(&self.new).path());
        Ok(format!(
            "VM `{}` was not made as a clone of `{name}`: what was begun is undone",
            self.new
        ))
    }
}
