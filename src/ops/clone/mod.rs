//! Another VM like one that there is, with disks of its own.
//!
//! The disks of a linked clone are overlays: what a disk of the source has is frozen, as a
//! base that nobody writes any more, and source and clone both go on in an overlay on top of
//! it. Of a disk that has nothing of its own yet, the base that it stands on will do. What a
//! guest can only read is shared.

mod copy;
mod definition;
mod error;
mod live;
mod plan;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{Assignment, DeviceName, Document, Format, VmConfig};
use crate::image::{self, Header, Link, Watch};
use crate::qmp;
use crate::store::{MadeDisk, Row};
use crate::vm::VmName;

use super::change::Proposal;
use super::claims::Claims;
use super::disk::{Defined, Nodes, defined, guard};
use super::operation::{Id, Plan as AnyPlan, Work};
use super::reach::Reach;
use super::snapshot::{self, beside};
use super::{Error, Host, check};

pub use error::Error as Why;
pub(super) use plan::Plan;

use plan::Layer;

/// What a clone is to be like.
pub struct Options<'a> {
    /// Whether its disks are copies.
    pub full: bool,
    /// The snapshot that its disks are of, instead of what they are now.
    pub snapshot: Option<&'a str>,
    /// Whether the guest's file systems are frozen at the moment that it is of, if it runs.
    pub quiesce: bool,
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
    /// It is a copy.
    Copied,
}

/// Makes a VM like another, which may run. All of its disks are as those of the other were
/// at one moment.
///
/// It has a UUID of its own, and with it addresses and a CID; it does not start at boot.
/// Saved states and snapshots are not copied. Whatever fails, there is no part of it.
///
/// # Errors
/// [`Error::AlreadyExists`], [`Why`], [`Error::HasSavedState`] where a disk would not be as
/// that left it; [`Error::Interrupted`], [`Error::JobFailed`] of disks that are copied.
pub fn clone(
    host: &Host,
    from: &VmName,
    new: &VmName,
    options: &Options<'_>,
    watch: Watch<'_>,
) -> Result<Cloned, Error> {
    match attempt(host, from, new, options, watch) {
        // One that has just ended is cloned as it is then.
        Err(Error::Qmp(qmp::Error::Closed { .. })) => attempt(host, from, new, options, watch),
        done => done,
    }
}

fn attempt(
    host: &Host,
    from: &VmName,
    new: &VmName,
    options: &Options<'_>,
    watch: Watch<'_>,
) -> Result<Cloned, Error> {
    let work = Work::take(host, from)?;
    let row = host.vm(from)?;
    let config = host.config(&row)?;
    if host.store()?.get(new)?.is_some() {
        return Err(Error::AlreadyExists(new.clone()));
    }
    let mut reach = work.reach()?;
    let layers = layers(host, &config, new, options, &mut reach)?;
    let not_copied = not_copied(host, &config, options)?;
    let is_frozen = layers.iter().any(|layer| layer.own.is_some());
    if is_frozen && matches!(reach, Reach::Stopped(_)) && host.paths.saved(from).state().exists() {
        return Err(Error::HasSavedState(from.clone()));
    }
    let claims = Claims::for_vms(host, 1);
    let text = definition::of_clone(host, &row, &config, new, &layers, options.set)?;
    let file = options.dir.join(format!("{new}.toml"));
    let label = Path::new(new.as_str());
    let typed = options.set.iter();
    let typed: Vec<_> = typed
        .map(|word| (word.key.clone(), format!("--set {word}")))
        .collect();
    let read = || {
        let read = Proposal::read(&claims, &text, None, &file, label);
        read.map_err(|error| error.typed(&text, &typed))
    };
    let clone = read()?;
    let source = match is_frozen {
        true => Some(source(host, &claims, &row, &layers)?),
        false => None,
    };
    let plan = AnyPlan::Clone(Plan {
        new: new.clone(),
        layers: layers.clone(),
        before: row.definition.clone(),
        definition: clone.row.definition.clone(),
        uuid: clone.row.uuid.clone(),
    });
    let uuid = clone.row.uuid.clone();
    let mut rows: Vec<_> = source
        .map(|source| (Some(row.definition.clone()), source))
        .into_iter()
        .collect();
    let done = work.perform_beside(&plan, |id| {
        let mut reach = reach;
        let is_live = matches!(reach, Reach::Running(_));
        plan::make(host, from, id, &layers, is_live, watch)?;
        let own = || layers.iter().filter_map(|layer| layer.own.as_ref());
        let files = || layers.iter().map(|layer| &layer.file);
        if let Reach::Running(monitor) = &mut reach
            && options.full
            && options.snapshot.is_none()
        {
            copy::begin(host, monitor, id, &config, &layers, options)?;
            drop(reach);
            copy::finish(&work, id, &config, &layers, watch)?;
        } else if let (Reach::Running(monitor), true) = (&mut reach, is_frozen) {
            // If QEMU ends before it has switched, an empty overlay reads as its base does.
            let is_put = host
                .store()?
                .put(&rows, None, |_| plan::name(from, id, own()).map(Some))?;
            if !is_put {
                return Err(Error::BeingChanged(from.clone()));
            }
            live::switch(host, monitor, id, &config, &layers, options.quiesce)?;
            plan::goes_by(host, from, &layers);
            rows = vec![(None, clone.row)];
            // Only now nobody writes what it stands on.
            return put(&claims, (from, new), &rows, id, || {
                plan::name(new, id, files())
            });
        }
        rows.push((None, clone.row));
        put(&claims, (from, new), &rows, id, || {
            let mut made = plan::name(from, id, own())?;
            made.extend(plan::name(new, id, files())?);
            Ok(made)
        })
    });
    if matches!(done, Err(Error::BeingChanged(_))) {
        // Somebody may have come to want what the clone wants.
        read()?;
    }
    done?;
    // It is kept already.
    let mut warnings = check::new_warnings(&claims, &clone.definition.config, None);
    if !is_frozen && host.paths.saved(from).state().exists() {
        warnings.push(format!(
            "the saved state of VM `{from}` is not copied: to the clone, it is as if its power \
             had been cut"
        ));
    }
    warnings.extend(not_copied);
    let shared = defined(host, &config).into_iter();
    let shared = shared.filter(|it| it.disk.read_only).map(|it| Disk {
        disk: it.name,
        from: it.path.clone(),
        file: it.path,
        how: How::Shared,
        source: None,
    });
    let made = layers.into_iter().map(|layer| Disk {
        disk: layer.disk,
        from: layer.base.path,
        file: layer.file,
        how: match layer.copy {
            Some(_) => How::Copied,
            None => How::Linked,
        },
        source: layer.own,
    });
    Ok(Cloned {
        name: new.clone(),
        from: from.clone(),
        uuid,
        disks: made.chain(shared).collect(),
        warnings,
    })
}

/// Has the database have the clone, with all that belongs to it.
fn put(
    claims: &Claims<'_>,
    (from, new): (&VmName, &VmName),
    rows: &[(Option<String>, Row)],
    id: Id,
    make: impl FnOnce() -> Result<Vec<(VmName, MadeDisk)>, Error>,
) -> Result<(), Error> {
    let host = claims.host;
    let is_put = host.store()?.put(rows, Some(id.0), |store| {
        match claims.still_hold(store)? {
            true => make().map(Some),
            false => Ok(None),
        }
    })?;
    match is_put {
        true => Ok(()),
        false if host.store()?.get(new)?.is_some() => Err(Error::AlreadyExists(new.clone())),
        false => Err(Error::BeingChanged(from.clone())),
    }
}

/// The disks of a snapshot that a clone of it does not get, in words.
fn not_copied(host: &Host, config: &VmConfig, options: &Options<'_>) -> Result<Vec<String>, Error> {
    let Some(name) = options.snapshot else {
        return Ok(Vec::new());
    };
    let vm = &config.name;
    let gone = snapshot::disks_gone(host, config, name)?.into_iter();
    Ok(gone
        .map(|disk| {
            format!(
                "{disk} of snapshot `{name}` is not copied: VM `{vm}` does not have it any more"
            )
        })
        .collect())
}

/// What is to become of the disks that a guest can write to.
fn layers(
    host: &Host,
    config: &VmConfig,
    new: &VmName,
    options: &Options<'_>,
    reach: &mut Reach,
) -> Result<Vec<Layer>, Error> {
    let mut layers = Vec::new();
    let mut room = 0;
    let vm = &config.name;
    let beside = match options.snapshot {
        Some(name) => beside::images(host, vm, name)?,
        None => None,
    };
    for it in defined(host, config) {
        if it.disk.read_only {
            continue;
        }
        let links = guard::sound(vm, &it)?;
        let layer = match (options.snapshot, &beside) {
            (Some(name), Some(images)) => {
                let image = images.iter().find(|(disk, _)| *disk == it.name);
                let (_, base) = image.ok_or_else(|| no_snapshot(vm, &it, name))?;
                let format = if options.full { &base.format } else { "qcow2" };
                Layer {
                    base: base.clone(),
                    copy: options.full.then(|| plan::Copy {
                        format: format.to_owned(),
                        snapshot: None,
                    }),
                    ..layer(host, &it, new, format)
                }
            }
            (Some(name), None) => {
                let copied = snapshot_copy(host, vm, (&it, &links), new, name)?;
                if !options.full {
                    return Err(Why::Within {
                        vm: vm.clone(),
                        name: name.to_owned(),
                    }
                    .into());
                }
                copied
            }
            (None, _) if options.full => {
                let format = it.disk.format.as_str();
                room += image::measure(&it.path, format, format)?.required;
                Layer {
                    size: match reach {
                        Reach::Running(monitor) => Nodes::of(monitor, vm, &it)?.size(),
                        Reach::Stopped(_) => None,
                    },
                    copy: Some(plan::Copy {
                        format: format.to_owned(),
                        snapshot: None,
                    }),
                    ..layer(host, &it, new, format)
                }
            }
            (None, _) => overlay(host, vm, &it, new, &links, reach)?,
        };
        if layer.file.symlink_metadata().is_ok() {
            return Err(Why::InTheWay(layer.file).into());
        }
        layers.push(layer);
    }
    let lock = host.paths.vm(new).operation_lock();
    let own = layers.iter().filter_map(|layer| layer.own.as_ref());
    for file in own.chain([&lock]) {
        image::require_writable(file)?;
    }
    image::require(&lock, room)?;
    Ok(layers)
}

/// What a disk is to be if it is an overlay on its image.
fn layer(host: &Host, it: &Defined, new: &VmName, format: &str) -> Layer {
    let file = format!("{}.{format}", it.name);
    Layer {
        disk: it.name.clone(),
        base: it.link(),
        size: None,
        file: host.paths.vm(new).path().join(file),
        own: None,
        copy: None,
    }
}

/// A copy of a disk as it was at a snapshot within its image, in the same format.
fn snapshot_copy(
    host: &Host,
    vm: &VmName,
    (it, links): (&Defined, &[Link]),
    new: &VmName,
    name: &str,
) -> Result<Layer, Error> {
    // In an image that an overlay stands on now, one of its name may be another VM's.
    let own = snapshot::within(host, vm, name)?;
    let format = it.disk.format.as_str();
    for (depth, link) in links.iter().enumerate() {
        if link.format != Format::Qcow2.as_str() || depth > 0 && !own.contains(&link.path) {
            continue;
        }
        let all = image::snapshot::list(&link.path)?;
        if let Some(found) = all.into_iter().find(|snapshot| snapshot.name == name) {
            return Ok(Layer {
                base: link.clone(),
                copy: Some(plan::Copy {
                    format: format.to_owned(),
                    snapshot: Some(found.id),
                }),
                ..layer(host, it, new, format)
            });
        }
    }
    Err(no_snapshot(vm, it, name))
}

fn no_snapshot(vm: &VmName, it: &Defined, name: &str) -> Error {
    Why::NoSnapshot {
        vm: vm.clone(),
        disk: it.name.clone(),
        name: name.to_owned(),
    }
    .into()
}

/// An overlay on what a disk has, which is frozen for that if need be.
fn overlay(
    host: &Host,
    vm: &VmName,
    it: &Defined,
    new: &VmName,
    links: &[Link],
    reach: &mut Reach,
) -> Result<Layer, Error> {
    let failed = || Error::io(format!("cannot read {}", it.path.display()));
    let header = match it.disk.format {
        Format::Qcow2 => Some(Header::read(&it.path).map_err(failed())?),
        Format::Raw => None,
    };
    let mut layer = Layer {
        size: header.as_ref().map(|header| header.virtual_size),
        ..layer(host, it, new, "qcow2")
    };
    match (links.get(1), reach) {
        (Some(below), Reach::Stopped(_)) if image::is_untouched(&it.path).map_err(failed())? => {
            layer.base = below.clone();
            return Ok(layer);
        }
        (_, Reach::Running(monitor)) => layer.size = Nodes::of(monitor, vm, it)?.size(),
        _ => {}
    }
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

/// The definition of the source that names its overlays.
fn source(host: &Host, claims: &Claims<'_>, row: &Row, layers: &[Layer]) -> Result<Row, Error> {
    let file = host.paths.vm(&row.name).definition();
    let mut document = Document::parse(&row.definition, &file)?;
    definition::in_overlays(&mut document, layers)?;
    let label = Path::new(row.name.as_str());
    Ok(Proposal::read(claims, &document.to_string(), Some(row), &file, label)?.row)
}
