//! A disk that is one with the image that it stands on again, now that nobody else needs
//! that: the way back from a clone that is gone.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::DeviceName;
use crate::image::{Header, Link};
use crate::ops::operation::Work;
use crate::ops::snapshot::beside::merge::{into_images, resized};
use crate::ops::snapshot::beside::{Overlay, others_above, within};
use crate::ops::snapshot::nothing_in_the_way;
use crate::ops::{Doing, Error, Host};
use crate::qmp::Job;
use crate::vm::VmName;

use super::plan::is_made;
use super::users::Inode;
use super::{Defined, defined, find, guard};

/// Disks that are in the images that they stood on.
#[derive(Clone, Debug, Serialize)]
pub struct Merged {
    /// The VM.
    pub vm: VmName,
    /// The disks.
    pub disks: Vec<Disk>,
    /// What is in the way of merging more, in words.
    pub obstacles: Vec<String>,
}

/// A disk that was merged.
#[derive(Clone, Debug, Serialize)]
pub struct Disk {
    /// Its name.
    pub disk: DeviceName,
    /// Its image from now on.
    pub file: PathBuf,
    /// The overlays that are gone.
    pub overlays: Vec<PathBuf>,
}

/// Writes what disks have of their own into the images that they stand on, as far down as
/// nobody else needs those, while the VM runs or not, and has them go on there: one disk,
/// or all where that can be done.
///
/// Only images that maqet made are written, and that which `into` names, and none below that;
/// only overlays that maqet made are deleted. `watch` is shown QEMU's jobs, and says whether
/// to go on; the disk reads the same in any case.
///
/// # Errors
/// [`Obstacles`](crate::ops::snapshot::Error::Obstacles) with all that is in the way;
/// [`Error::HasSavedState`].
pub fn merge(
    host: &Host,
    name: &VmName,
    disk: Option<&DeviceName>,
    into: Option<&Path>,
    watch: &mut dyn FnMut(&Job) -> bool,
) -> Result<Merged, Error> {
    let work = Work::take(host, name)?;
    let mut merged: Vec<Disk> = Vec::new();
    loop {
        let Layer {
            overlays,
            ends,
            obstacles,
        } = layer(host, name, disk, into)?;
        if overlays.is_empty() && merged.is_empty() {
            // What stands on nothing is in nobody's way.
            let why = match obstacles.is_empty() {
                true => &ends,
                false => &obstacles,
            };
            nothing_in_the_way(Doing::Merge, name, why.clone())?;
        }
        if overlays.is_empty() {
            return Ok(Merged {
                vm: name.clone(),
                disks: merged,
                obstacles,
            });
        }
        into_images(host, name, (&work, work.reach()?), None, &overlays, watch)?;
        for overlay in overlays {
            match merged.iter_mut().find(|it| it.disk == overlay.disk) {
                Some(it) => {
                    it.file = overlay.base;
                    it.overlays.push(overlay.file);
                }
                None => merged.push(Disk {
                    disk: overlay.disk,
                    file: overlay.base,
                    overlays: vec![overlay.file],
                }),
            }
        }
    }
}

/// What is to be done by one layer.
#[derive(Default)]
struct Layer {
    overlays: Vec<Overlay>,
    /// What is as far down as it is to be, in words.
    ends: Vec<String>,
    /// Why all else cannot be merged, in words.
    obstacles: Vec<String>,
}

fn layer(
    host: &Host,
    name: &VmName,
    disk: Option<&DeviceName>,
    into: Option<&Path>,
) -> Result<Layer, Error> {
    let config = host.config(&host.vm(name)?)?;
    let disks = match disk {
        Some(disk) => vec![find(host, &config, disk)?],
        None => defined(host, &config),
    };
    let mut layer = Layer::default();
    if disks.iter().all(|it| it.disk.read_only) {
        let words = "it has no disk that it can write to";
        layer.ends.push(words.to_owned());
    }
    for it in disks.iter().filter(|it| !it.disk.read_only) {
        let links = guard::sound(name, it)?;
        let Some(base) = links.get(1) else {
            let disk = &it.name;
            layer.ends.push(format!("disk `{disk}` stands on nothing"));
            continue;
        };
        if let Some(into) = into
            && !is_one_of(&links[1..], into)?
        {
            let (file, base, into) = (it.path.display(), base.path.display(), into.display());
            let words = format!("{file} stands on {base}, and not on {into}");
            layer.ends.push(words);
            continue;
        }
        let overlay = Overlay {
            disk: it.name.clone(),
            base: base.path.clone(),
            format: base.format.clone(),
            file: it.path.clone(),
        };
        let found = in_the_way(host, name, it, base, &overlay, into)?;
        if found.is_empty() {
            layer.overlays.push(overlay);
        }
        layer.obstacles.extend(found);
    }
    Ok(layer)
}

/// Whether a file is one of these images.
fn is_one_of(links: &[Link], file: &Path) -> Result<bool, Error> {
    let inode =
        |path: &Path| Inode::of(path).map_err(Error::io(format!("cannot read {}", path.display())));
    let file = inode(file)?;
    for link in links {
        if inode(&link.path)? == file {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Why a disk cannot be merged into what is below it, in words.
fn in_the_way(
    host: &Host,
    vm: &VmName,
    it: &Defined,
    base: &Link,
    overlay: &Overlay,
    into: Option<&Path>,
) -> Result<Vec<String>, Error> {
    let failed = |path: &Path| Error::io(format!("cannot read {}", path.display()));
    let mut found = others_above(host, vm, None, std::slice::from_ref(overlay))?;
    found.extend(within(&it.path)?.iter().map(ToString::to_string));
    found.extend(resized(overlay)?);
    let file = it.path.display();
    if !is_made(host, vm, &it.path)? {
        found.push(format!("{file} was not made by maqet for this VM"));
    }
    let is_into = match into {
        Some(into) => is_one_of(std::slice::from_ref(base), into)?,
        None => false,
    };
    if !is_into && !is_made(host, vm, &base.path)? {
        let base = base.path.display();
        found.push(format!(
            "{base} was not made by maqet for this VM, and is written only if `--into` names it"
        ));
    }
    if base.format == "qcow2" {
        let size = |path: &Path| Header::read(path).map_err(failed(path));
        if size(&it.path)?.virtual_size < size(&base.path)?.virtual_size {
            let base = base.path.display();
            found.push(format!("{base} is larger than disk `{}`", it.name));
        }
    }
    Ok(found)
}
