//! Another VM like one that there is, with disks of its own.
//!
//! The disks of a linked clone are overlays: what a disk of the source has is frozen, as a
//! base that nobody writes any more, and source and clone both go on in an overlay on top of
//! it. Of a disk that has nothing of its own yet, the base that it stands on will do. What a
//! guest can only read is shared.

mod definition;
mod error;
mod plan;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{Assignment, DeviceName, Format, VmConfig};
use crate::image::{self, Header};
use crate::store::Row;
use crate::vm::VmName;

use super::change::Proposal;
use super::claims::Claims;
use super::disk::{Defined, defined, guard};
use super::operation::{Plan as AnyPlan, Work};
use super::reach::Reach;
use super::{Error, Host, check};

pub use error::Error as Why;
pub(super) use plan::Plan;

use plan::Layer;

/// What a clone is to be like.
pub struct Options<'a> {
    /// What its definition is to say otherwise.
    pub set: &'a [Assignment],
    /// What relative paths in that are relative to.
    pub dir: &'a Path,
}

/// A VM that was made like another.
#[derive(Debug, Serialize)]
pub struct Cloned {
    /// Its name.
    pub name: VmName,
    /// The VM that it is like.
    pub from: VmName,
    /// Its UUID.
    pub uuid: String,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// What may be in its way one day.
    pub warnings: Vec<String>,
}

/// A disk of a clone.
#[derive(Debug, Serialize)]
pub struct Disk {
    /// Its name.
    pub disk: DeviceName,
    /// Its image.
    pub file: PathBuf,
    /// Where what it has is from.
    pub from: PathBuf,
    /// How.
    pub how: How,
    /// The overlay that the disk of the source goes on in from now on.
    pub source: Option<PathBuf>,
}

/// What a disk of a clone has to do with that of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It is the same one, for reading.
    Shared,
    /// It stands on it.
    Linked,
}

/// Makes a VM like another, which does not run.
///
/// It has a UUID of its own, and with it addresses and a CID; it does not start at boot.
/// Saved states and snapshots are not copied. Whatever fails, there is no part of it.
///
/// # Errors
/// [`Error::AlreadyExists`], [`Why`], [`Error::Running`], [`Error::HasSavedState`] where a
/// disk would not be as that left it.
pub fn clone(
    host: &Host,
    from: &VmName,
    new: &VmName,
    options: &Options<'_>,
) -> Result<Cloned, Error> {
    let work = Work::take(host, from)?;
    let row = host.vm(from)?;
    let config = host.config(&row)?;
    if host.store()?.get(new)?.is_some() {
        return Err(Error::AlreadyExists(new.clone()));
    }
    let reach = work.reach()?;
    if matches!(reach, Reach::Running(_)) {
        return Err(Error::Running(from.clone()));
    }
    let layers = layers(host, &config, new)?;
    let freezes = layers.iter().any(|layer| layer.own.is_some());
    if freezes && host.paths.saved(from).state().exists() {
        return Err(Error::HasSavedState(from.clone()));
    }
    let claims = Claims::for_vms(host, 1);
    let text = definition::of_clone(host, &row, &config, new, &layers, options.set)?;
    let file = options.dir.join(format!("{new}.toml"));
    let label = Path::new(new.as_str());
    let clone = Proposal::read(&claims, &text, None, &file, label)?;
    let source = source(host, &claims, &row, &layers)?;
    let plan = AnyPlan::Clone(Plan {
        new: new.clone(),
        layers: layers.clone(),
    });
    let warnings = check::new_warnings(&claims, &clone.definition.config, None);
    let uuid = clone.row.uuid.clone();
    work.perform(&plan, reach, |id, _| {
        plan::make(host, from, id, &layers)?;
        let mut rows: Vec<_> = source
            .map(|source| (Some(row.definition.clone()), source))
            .into_iter()
            .collect();
        rows.push((None, clone.row));
        let is_put = host
            .store()?
            .put(&rows, Some(id.0), || plan::name(from, new, id, &layers))?;
        match is_put {
            true => Ok(()),
            false if host.store()?.get(new)?.is_some() => Err(Error::AlreadyExists(new.clone())),
            false => Err(Error::BeingChanged(from.clone())),
        }
    })?;
    let shared = defined(host, &config).into_iter();
    let shared = shared.filter(|it| it.disk.read_only).map(|it| Disk {
        disk: it.name,
        from: it.path.clone(),
        file: it.path,
        how: How::Shared,
        source: None,
    });
    let linked = layers.into_iter().map(|layer| Disk {
        disk: layer.disk,
        from: layer.base.path,
        file: layer.file,
        how: How::Linked,
        source: layer.own,
    });
    Ok(Cloned {
        name: new.clone(),
        from: from.clone(),
        uuid,
        disks: linked.chain(shared).collect(),
        warnings,
    })
}

/// What is to become of the disks that a guest can write to.
fn layers(host: &Host, config: &VmConfig, new: &VmName) -> Result<Vec<Layer>, Error> {
    let disks = defined(host, config).into_iter();
    disks
        .filter(|it| !it.disk.read_only)
        .map(|it| layer(host, &config.name, &it, new))
        .collect()
}

fn layer(host: &Host, vm: &VmName, it: &Defined, new: &VmName) -> Result<Layer, Error> {
    let links = guard::sound(vm, it)?;
    let failed = || Error::io(format!("cannot read {}", it.path.display()));
    let header = match it.disk.format {
        Format::Qcow2 => Some(Header::read(&it.path).map_err(failed())?),
        Format::Raw => None,
    };
    if header.as_ref().is_some_and(|header| header.is_corrupt) {
        return Err(Why::Damaged {
            vm: vm.clone(),
            disk: it.name.clone(),
            file: it.path.clone(),
        }
        .into());
    }
    let file = host.paths.vm(new).path().join(format!("{}.qcow2", it.name));
    if file.symlink_metadata().is_ok() {
        return Err(Why::InTheWay(file).into());
    }
    let mut layer = Layer {
        disk: it.name.clone(),
        base: it.link(),
        size: header.as_ref().map(|header| header.virtual_size),
        file,
        own: None,
    };
    match links.get(1) {
        Some(below) if image::is_untouched(&it.path).map_err(failed())? => {
            layer.base = below.clone();
        }
        _ => {
            if let Some(count) = header.map(|header| header.snapshots).filter(|it| *it > 0) {
                return Err(Why::HasSnapshots {
                    vm: vm.clone(),
                    disk: it.name.clone(),
                    count,
                }
                .into());
            }
            let others = guard::others(host, &it.path, vm, &it.name)?;
            if others.iter().any(|user| !user.as_base && !user.read_only) {
                return Err(super::disk::Error::Needed {
                    file: it.path.clone(),
                    users: others,
                }
                .into());
            }
            layer.own = Some(own(host, vm, it));
        }
    }
    Ok(layer)
}

/// The overlay that a disk goes on in: the first of them that is not there.
fn own(host: &Host, vm: &VmName, it: &Defined) -> PathBuf {
    let dir = host.paths.vm(vm);
    let names = (1u32..).map(|number| format!("{}.{number}.qcow2", it.name));
    names
        .map(|name| dir.path().join(name))
        .find(|path| path.symlink_metadata().is_err())
        .expect("some number is free")
}

/// The definition of the source that names its overlays, if it gets any.
fn source(
    host: &Host,
    claims: &Claims<'_>,
    row: &Row,
    layers: &[Layer],
) -> Result<Option<Row>, Error> {
    if layers.iter().all(|layer| layer.own.is_none()) {
        return Ok(None);
    }
    let file = host.paths.vm(&row.name).definition();
    let text = definition::of_source(&row.definition, &file, layers)?;
    let label = Path::new(row.name.as_str());
    Ok(Some(
        Proposal::read(claims, &text, Some(row), &file, label)?.row,
    ))
}
