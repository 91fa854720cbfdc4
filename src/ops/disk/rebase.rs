//! A disk on another base, or on none.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{DeviceName, Format};
use crate::image::{self, Chain, Header, Kind, Link, Watch};
use crate::ops::operation::{Plan as AnyPlan, Work};
use crate::ops::{Error, Host};
use crate::vm::VmName;

use super::plan::Plan;
use super::users::Inode;
use super::{Defined, Error as Why, find, guard};

/// What a disk is to stand on.
#[derive(Clone, Debug)]
pub enum Onto {
    /// This image: what differs is copied into the disk's own.
    Image(PathBuf),
    /// This file, which is what was at another place before; nothing is copied.
    Moved(PathBuf),
    /// Nothing: all that is below it is copied into the disk's own.
    Nothing,
}

/// A disk that stands on something else.
#[derive(Clone, Debug, Serialize)]
pub struct Rebased {
    /// The VM.
    pub vm: VmName,
    /// The disk.
    pub disk: DeviceName,
    /// The images below it, the next one first.
    pub bases: Vec<PathBuf>,
}

/// Puts a disk onto another base: it reads as before.
///
/// # Errors
/// [`Error::Running`]; [`Why::HasSnapshots`], as those stand on the old base, too;
/// [`Why::Needed`] by those who write the new base, or stand on the disk.
pub fn rebase(
    host: &Host,
    name: &VmName,
    disk: &DeviceName,
    onto: &Onto,
    watch: Watch<'_>,
) -> Result<Rebased, Error> {
    let work = Work::take(host, name)?;
    let config = host.config(&host.vm(name)?)?;
    let it = find(host, &config, disk)?;
    if it.disk.format != Format::Qcow2 {
        return Err(Why::NoChain(it.disk.format.as_str()).into());
    }
    guard::file(&it, "rewrite")?;
    let reach = guard::stopped(&work, host, name)?;
    let image = it.link();
    let mut format = None;
    if !matches!(onto, Onto::Moved(_)) {
        guard::writable(name, &it)?;
        let below = guard::sound(name, &it)?.into_iter().nth(1);
        format = below.map(|link| link.format);
        guard::alone(host, name, &it)?;
        guard::no_snapshots(name, &it)?;
        let measured = image::measure(&it.path, "qcow2", "qcow2")?;
        let own = it
            .path
            .metadata()
            .map(|file| file.len())
            .unwrap_or_default();
        if matches!(onto, Onto::Nothing) {
            image::require(&it.path, measured.required.saturating_sub(own))?;
        }
    }
    let header = Header::read(&it.path)
        .map_err(Error::io(format_args!("cannot read {}", it.path.display())))?;
    let base = match onto {
        Onto::Nothing => None,
        Onto::Image(base) => Some(new_base(host, &it.path, base, None)?),
        Onto::Moved(_) if header.backing.is_none() => {
            return Err(Why::NoBase(disk.clone()).into());
        }
        Onto::Moved(base) => {
            let base = new_base(host, &it.path, base, header.backing_format.clone())?;
            image::rename_backing(&image, &base)?;
            return rebased(name, &it);
        }
    };
    let plan = AnyPlan::Disk(Plan::Rebase {
        disk: disk.clone(),
        file: it.path.clone(),
        below: header.backing.zip(format),
    });
    work.perform(&plan, reach, |id, _| {
        let onto = base
            .as_ref()
            .map_or(image::Onto::Nothing, image::Onto::Image);
        image::rebase(&image, onto, watch)?;
        Ok(host.store()?.end_operation(id.0)?)
    })?;
    rebased(name, &it)
}

/// What stands where now.
fn rebased(name: &VmName, it: &Defined) -> Result<Rebased, Error> {
    let below = guard::sound(name, it)?.into_iter().skip(1);
    Ok(Rebased {
        vm: name.clone(),
        disk: it.name.clone(),
        bases: below.map(|link| link.path).collect(),
    })
}

/// The image that another one is to stand on, which may not stand on that.
fn new_base(host: &Host, image: &Path, base: &Path, format: Option<String>) -> Result<Link, Error> {
    let failed = |path: &Path| Error::io(format!("cannot look at {}", path.display()));
    let path = std::path::absolute(base).map_err(failed(base))?;
    let format = match format {
        Some(format) => format,
        None => {
            let kind = Kind::of(&path).map_err(failed(&path))?;
            kind.driver().unwrap_or("raw").to_owned()
        }
    };
    let own = Inode::of(image).map_err(failed(image))?;
    for link in Chain::of(&path, &format)
        .sound()
        .map_err(image::Error::from)?
    {
        if Inode::of(&link.path).map_err(failed(&link.path))? == own {
            return Err(Why::Circle {
                base: path,
                image: image.to_owned(),
            }
            .into());
        }
        guard::not_written(host, &link.path)?;
    }
    Ok(Link { path, format })
}
