//! The files of a clone: made, named, and undone if there is no clone.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{DeviceName, Document, VmConfig};
use crate::image::{self, Conversion, Link, Watch};
use crate::ops::add::{made_disk, row};
use crate::ops::device::definition::{keep, note};
use crate::ops::disk::plan::{is_made, remove};
use crate::ops::operation::{Id, Left};
use crate::ops::reach::Reach;
use crate::ops::{Error, Host};
use crate::paths::create_private_dir;
use crate::store::{MadeDisk, Store};
use crate::vm::VmName;

use super::{copy, definition, live};

/// The making of a clone, as it is recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::ops) struct Plan {
    /// The clone.
    pub new: VmName,
    /// Its disks.
    pub layers: Vec<Layer>,
    /// The definition of the source before.
    pub before: String,
    /// The definition of the clone.
    pub definition: String,
    /// The UUID of the clone.
    pub uuid: String,
}

/// What becomes of one disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::ops) struct Layer {
    /// The disk.
    pub disk: DeviceName,
    /// What the clone stands on, or is a copy of.
    pub base: Link,
    /// Size of the disk in bytes, where an image says it.
    pub size: Option<u64>,
    /// The image of the clone, which is not there before.
    pub file: PathBuf,
    /// The overlay of the source, if the base is frozen for this; it is not there before either.
    pub own: Option<PathBuf>,
    /// How it is copied, if the clone is to stand on nothing.
    pub copy: Option<Copy>,
}

/// How a disk is copied.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::ops) struct Copy {
    /// The format of the copy.
    pub format: String,
    /// The id of the snapshot that is copied.
    pub snapshot: Option<String>,
}

impl Layer {
    /// The files that are made.
    fn files(&self) -> impl Iterator<Item = &Path> {
        self.own.iter().chain([&self.file]).map(PathBuf::as_path)
    }

    fn make(
        &self,
        file: &Path,
        path: &Path,
        is_live: bool,
        watch: Watch<'_>,
    ) -> Result<(), image::Error> {
        let Some(copy) = &self.copy else {
            return image::create_overlay(file, path, &self.base, self.size, is_live);
        };
        if let (true, Some(size), None) = (is_live, self.size, &copy.snapshot) {
            // QEMU is to copy into it.
            return image::create_at(file, path, &copy.format, size);
        }
        let conversion = Conversion {
            from: &self.base,
            format: &copy.format,
            backing: None,
            snapshot: copy.snapshot.as_deref(),
        };
        image::convert(conversion, file, path, watch)
    }
}

/// Makes all files under their unfinished names, and notes under which names they are going
/// to be this operation's. With `is_live`, a running QEMU is to have them.
pub(super) fn make(
    host: &Host,
    from: &VmName,
    id: Id,
    layers: &[Layer],
    is_live: bool,
    watch: Watch<'_>,
) -> Result<(), Error> {
    for layer in layers {
        for path in layer.files() {
            let dir = path.parent().unwrap_or(Path::new("/"));
            create_private_dir(dir)
                .map_err(Error::io(format_args!("cannot make {}", dir.display())))?;
            let unfinished = image::unfinished(path, id.0);
            layer.make(&unfinished, path, is_live, watch)?;
            let mut made = made_disk(&unfinished)?;
            made.path = path.to_owned();
            host.store()?.record_disk(from, &made)?;
        }
    }
    Ok(())
}

/// Gives files their names; whose they are.
pub(super) fn name<'a>(
    vm: &VmName,
    id: Id,
    paths: impl Iterator<Item = &'a PathBuf>,
) -> Result<Vec<(VmName, MadeDisk)>, Error> {
    paths
        .map(|path| {
            image::place(path, id.0, |_| Ok::<_, Error>(()))?;
            Ok((vm.clone(), made_disk(path)?))
        })
        .collect()
}

impl Plan {
    /// Undoes it, if the source has not gone on in its overlays; finishes it, if it has.
    ///
    /// What came to its end is recorded no more. A disk that has gone on stays in its overlay
    /// in any case.
    pub fn settle(&self, left: &Left<'_>, reach: &mut Reach) -> Result<String, Error> {
        let Left { host, name, id } = *left;
        let has_switched = self.has_switched(left, reach)?;
        if !has_switched {
            self.take_back(left, reach)?;
        } else if self.finish(left)? {
            return Ok(format!(
                "VM `{}` is a clone of `{name}`, as was begun",
                self.new
            ));
        }
        for layer in &self.layers {
            for path in layer.files() {
                remove(&image::unfinished(path, id.0))?;
                let stays = has_switched && layer.own.as_deref() == Some(path);
                if !stays && is_made(host, name, path)? {
                    remove(path)?;
                    host.store()?.forget_disk(path)?;
                }
            }
        }
        // Stays if it is another VM's.
        let _ = fs::remove_dir(host.paths.vm(&self.new).path());
        Ok(format!(
            "VM `{}` was not made as a clone of `{name}`: what was begun is undone",
            self.new
        ))
    }

    /// Has the clone be there, whose disks are made; `false` if it cannot.
    fn finish(&self, left: &Left<'_>) -> Result<bool, Error> {
        let Left { host, name, id } = *left;
        let file = host.paths.vm(&self.new).definition();
        let row = VmConfig::parse_with(&self.definition, &file, &host.defaults()?)
            .map_err(Error::from)
            .and_then(|config| row(&config, self.definition.clone(), self.uuid.clone(), &file));
        // It could be read when it was begun, and defaults have changed since.
        let Ok(row) = row else {
            return Ok(false);
        };
        let files = || self.layers.iter().map(|layer| &layer.file);
        let has_name = files()
            .map(|path| is_made(host, name, path))
            .collect::<Result<Vec<bool>, _>>()?;
        let make = |_: &Store| {
            let mut made = Vec::new();
            for (path, has_name) in files().zip(has_name) {
                match has_name {
                    true => {
                        remove(&image::unfinished(path, id.0))?;
                        made.push((self.new.clone(), made_disk(path)?));
                    }
                    false => made.extend(self::name(&self.new, id, [path].into_iter())?),
                }
            }
            Ok::<_, Error>(Some(made))
        };
        host.store()?.put(&[(None, row)], Some(id.0), make)
    }

    /// Whether something may be in the overlays of the source that is nowhere else.
    fn has_switched(&self, left: &Left<'_>, reach: &mut Reach) -> Result<bool, Error> {
        let mut own = self.layers.iter().filter_map(|layer| layer.own.as_ref());
        match reach {
            Reach::Running(monitor) => {
                let has_switched = live::is_switched(monitor, &self.layers)?;
                if has_switched {
                    goes_by(left.host, left.name, &self.layers);
                }
                Ok(has_switched)
            }
            Reach::Stopped(_) => {
                Ok(own.any(|path| path.exists() && !image::is_untouched(path).unwrap_or(false)))
            }
        }
    }

    /// Has the source go on in the bases again.
    fn take_back(&self, left: &Left<'_>, reach: &mut Reach) -> Result<(), Error> {
        let Left { host, name, id } = *left;
        let file = host.paths.vm(name).definition();
        let row = host.vm(name)?;
        if row.definition != self.before {
            let now = host.config(&row)?;
            let dir = host.paths.vm(name);
            let is_in = |layer: &Layer| {
                let disk = now.disks.get(&layer.disk);
                layer.own.is_some()
                    && disk.and_then(|disk| disk.path(&layer.disk, dir.path())) == layer.own
            };
            let layers: Vec<Layer> = self.layers.iter().filter(|it| is_in(it)).cloned().collect();
            if !layers.is_empty() {
                let before = Document::parse(&self.before, &file)?;
                keep(host, name, &|document| {
                    definition::take_back(document, &before, &layers)
                })?;
            }
        }
        if let Reach::Running(monitor) = reach {
            live::close(monitor, id, &self.layers)?;
            copy::close(monitor, id, &self.layers)?;
            copy::go_on(monitor)?;
        }
        Ok(())
    }
}

/// Notes that a running VM goes by its overlays.
pub(super) fn goes_by(host: &Host, name: &VmName, layers: &[Layer]) {
    note(host, name, &|document| {
        definition::in_overlays(document, layers)
    });
}
