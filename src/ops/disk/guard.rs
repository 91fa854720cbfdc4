//! What must be so before a disk is changed.

use std::io;
use std::path::{Path, PathBuf};
use std::slice;

use crate::config::{DeviceName, Disk, Format, is_device_node};
use crate::holder;
use crate::image::{self, Chain, Fault, Header, Kind, Link};
use crate::ops::operation::Work;
use crate::ops::reach::Reach;
use crate::ops::{By, Error, Host, save};
use crate::vm::VmName;

use super::{Defined, Error as Why, User, Users, orphans, users};

/// Takes the disks of a VM that does not run, and has no saved state that they would not fit.
pub(super) fn stopped(work: &Work<'_>, host: &Host, name: &VmName) -> Result<Reach, Error> {
    match reach(work, host, name)? {
        Reach::Running(_) => Err(Error::Running(name.clone())),
        reach => Ok(reach),
    }
}

/// Takes the disks of a VM to look at what is in their files, which is all only while it does
/// not run.
pub(super) fn at_rest(
    work: &Work<'_>,
    host: &Host,
    name: &VmName,
    done: &'static str,
) -> Result<Reach, Error> {
    stopped(work, host, name).map_err(|error| match error {
        Error::Running(vm) => Why::InUse { vm, done }.into(),
        error => error,
    })
}

/// Gets at the disks of a VM that has no saved state which they would not fit then.
pub(super) fn reach(work: &Work<'_>, host: &Host, name: &VmName) -> Result<Reach, Error> {
    let reach = work.reach()?;
    save::require_none(host, name)?;
    Ok(reach)
}

/// The users of a file other than one disk.
pub(in crate::ops) fn others(
    host: &Host,
    file: &Path,
    name: &VmName,
    disk: &DeviceName,
) -> Result<Vec<User>, Error> {
    let mut users = users::of(host, file)?;
    let is_itself =
        |user: &User| user.vm == *name && user.disk == disk.as_str() && user.snapshot.is_none();
    users.retain(|user| !is_itself(user));
    Ok(users)
}

/// Sees to it that nobody but the disk has its image, or stands on it.
pub(super) fn alone(host: &Host, name: &VmName, it: &Defined) -> Result<(), Error> {
    let users = others(host, &it.path, name, &it.name)?;
    match users.is_empty() {
        true => orphans::spare(host, slice::from_ref(&it.path)),
        false => Err(Why::Needed {
            file: it.path.clone(),
            users,
        }
        .into()),
    }
}

/// Sees to it that nothing stands on images that will be written: no disk or snapshot of any
/// VM, nor an image that is no VM's.
pub(in crate::ops) fn no_bases(host: &Host, files: &[PathBuf]) -> Result<(), Error> {
    let all = Users::find(host)?;
    for file in files {
        let mut users = all.of(file)?;
        users.retain(|user| user.as_base);
        if !users.is_empty() {
            let file = file.clone();
            return Err(Why::Needed { file, users }.into());
        }
    }
    orphans::spare(host, files)
}

/// Sees to it that no process has an image of a VM that does not run.
pub(in crate::ops) fn unused(file: &Path) -> Result<(), Error> {
    let is_locked = image::is_locked(file);
    match is_locked.map_err(Error::io(format_args!("cannot look at {}", file.display())))? {
        false => Ok(()),
        true => Err(Why::Busy {
            file: file.to_owned(),
            by: holder::of_file(file).map_or(By::Unknown, By::from),
        }
        .into()),
    }
}

/// Sees to it that a disk can be written by its VM.
pub(super) fn writable(name: &VmName, it: &Defined) -> Result<(), Error> {
    match it.disk.read_only {
        true => Err(Why::ReadOnly {
            vm: name.clone(),
            disk: it.name.clone(),
        }
        .into()),
        false => Ok(()),
    }
}

/// Sees to it that a disk is a file.
pub(super) fn file(it: &Defined, doing: &'static str) -> Result<(), Error> {
    match is_device_node(&it.path) {
        true => Err(Why::BlockDevice {
            doing,
            file: it.path.clone(),
        }
        .into()),
        false => Ok(()),
    }
}

/// The image and those below it, all of which must be there.
pub(in crate::ops) fn sound(name: &VmName, it: &Defined) -> Result<Vec<Link>, Error> {
    let chain = Chain::of(&it.path, it.disk.format.as_str());
    chain.sound().map_err(|fault| {
        Why::Broken {
            vm: name.clone(),
            disk: it.name.clone(),
            fault,
        }
        .into()
    })
}

/// The same where a damaged image will do, as it is to be looked at or mended.
pub(super) fn whole(name: &VmName, it: &Defined) -> Result<Vec<Link>, Error> {
    let chain = it.chain();
    match chain.fault {
        Some(Fault::Damaged { .. }) => Ok(chain.links),
        _ => sound(name, it),
    }
}

/// Sees to it that a file is what the definition takes it for.
pub(super) fn format(it: &Defined) -> Result<(), Error> {
    let failed = Error::io(format!("cannot read {}", it.path.display()));
    match other_format(&it.path, &it.disk).map_err(failed)? {
        Some(why) => Err(why.into()),
        None => Ok(()),
    }
}

/// What is to be told of a file that is not what the definition takes it for.
pub(in crate::ops) fn other_format(path: &Path, disk: &Disk) -> io::Result<Option<Why>> {
    if !path.exists() {
        return Ok(None);
    }
    let kind = Kind::of(path)?;
    let format = disk.format.as_str();
    // A raw disk may begin with whatever its guest likes.
    if kind.driver() == Some(format) || (format == "raw" && disk.is_format_said) {
        return Ok(None);
    }
    Ok(Some(Why::OtherFormat {
        file: path.to_owned(),
        taken_for: format,
        is: match kind {
            Kind::Image(name) | Kind::Compressed(name) => Some(name),
            Kind::Unknown => None,
        },
    }))
}

/// Sees to it that nobody writes a file that an image is to stand on.
pub(super) fn not_written(host: &Host, base: &Path) -> Result<(), Error> {
    let users = users::of(host, base)?;
    let writers: Vec<User> = users
        .into_iter()
        .filter(|user| !user.as_base && !user.read_only)
        .collect();
    match writers.is_empty() {
        true => Ok(()),
        false => Err(Why::Needed {
            file: base.to_owned(),
            users: writers,
        }
        .into()),
    }
}

/// Sees to it that there are no snapshots in an image.
pub(super) fn no_snapshots(name: &VmName, it: &Defined) -> Result<(), Error> {
    let header = match it.disk.format {
        Format::Raw => return Ok(()),
        Format::Qcow2 => Header::read(&it.path),
    };
    // What cannot be read has none that could be lost.
    match header.map_or(0, |header| header.snapshots) {
        0 => Ok(()),
        count => Err(Why::HasSnapshots {
            vm: name.clone(),
            file: it.path.clone(),
            count,
            runs: false,
        }
        .into()),
    }
}
