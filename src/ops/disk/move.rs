//! A disk whose image is to be elsewhere.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::DeviceName;
use crate::image::{self, Header, Link, Watch};
use crate::ops::operation::{Plan as AnyPlan, Work};
use crate::ops::reach::Reach;
use crate::ops::{Error, Host};
use crate::vm::VmName;

use super::add::record;
use super::plan::{Plan, finish_move, is_made};
use super::{Defined, definition, find, guard, live};

/// A disk that was moved.
#[derive(Clone, Debug, Serialize)]
pub struct Moved {
    /// The VM.
    pub vm: VmName,
    /// The disk.
    pub disk: DeviceName,
    /// Where its image was.
    pub from: PathBuf,
    /// Where it is.
    pub to: PathBuf,
    /// What a symbolic link at the old place led to, and is there still.
    pub kept: Option<PathBuf>,
}

/// Moves the image of a disk to another file or into another directory, to another file
/// system too. The old one is deleted when the new one was verified and the definition names it.
///
/// While the VM runs, QEMU copies the image and goes on in the copy. Of a symbolic link, only
/// the link is deleted.
///
/// # Errors
/// [`Error::InTheWay`], [`Why::Needed`](super::Error::Needed) by those who name the old
/// place; of a running VM [`Why::HasSnapshots`](super::Error::HasSnapshots), and
/// [`Error::Running`] if the disk is read-only. The disk is where it was then.
pub fn r#move(
    host: &Host,
    name: &VmName,
    disk: &DeviceName,
    to: &Path,
    watch: Watch<'_>,
) -> Result<Moved, Error> {
    let work = Work::take(host, name)?;
    let config = host.config(&host.vm(name)?)?;
    let it = find(host, &config, disk)?;
    guard::file(&it, "move")?;
    let links = guard::sound(name, &it)?;
    guard::alone(host, name, &it)?;
    let reach = guard::reach(&work, host, name)?;
    let failed = |path: &Path| Error::io(format!("cannot look at {}", path.display()));
    let mut target = it.clone();
    target.path = std::path::absolute(to).map_err(failed(to))?;
    if target.path.is_dir() {
        target.path.push(it.path.file_name().unwrap_or_default());
    }
    let (from, to) = (&it.path, &target.path);
    if to.symlink_metadata().is_ok() {
        return Err(Error::InTheWay(to.clone()));
    }
    let kept = match from.is_symlink() {
        true => Some(from.canonicalize().map_err(failed(from))?),
        false => None,
    };
    image::require_writable(from)?;
    image::require_place(to)?;
    match reach {
        Reach::Stopped(_) => {
            // What follows from the name of a file may not follow from another.
            let values = [
                ("file", definition::text(to)?.into()),
                ("format", it.disk.format.as_str().into()),
            ];
            let identity = image::identity(from).map_err(failed(from))?;
            let made = is_made(host, name, from)?;
            let plan = AnyPlan::Disk(Plan::Move {
                disk: disk.clone(),
                from: from.clone(),
                to: to.clone(),
                made,
                identity: identity.clone(),
                was_running: None,
            });
            work.perform(&plan, reach, |id, _| {
                image::place(to, id.0, |unfinished| {
                    link_or_copy(from, unfinished, watch)?;
                    keep_base(&it, &links, unfinished)?;
                    record(host, name, &target, unfinished)
                })?;
                definition::change(host, name, disk, &values)?;
                finish_move(host, name, (from, to), &identity, made)?;
                Ok(host.store()?.end_operation(id.0)?)
            })?;
        }
        Reach::Running(monitor) => {
            live::relocate(host, &work, monitor, (&config, &it), (to, false), watch)?;
        }
    }
    Ok(Moved {
        vm: name.clone(),
        disk: disk.clone(),
        from: from.clone(),
        to: to.clone(),
        kept,
    })
}

/// Gives a file a second name, or copies it where it can have none.
fn link_or_copy(from: &Path, to: &Path, watch: Watch<'_>) -> Result<(), Error> {
    // link(2) gives a symbolic link a second name, and not what it leads to.
    let is_link = from.is_symlink();
    match fs::hard_link(from, to) {
        Ok(()) if !is_link => return Ok(()),
        Ok(()) => fs::remove_file(to)
            .map_err(Error::io(format_args!("cannot delete {}", to.display())))?,
        // Another file system, one without such links, or a file of someone else.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::CrossesDevices
                    | io::ErrorKind::Unsupported
                    | io::ErrorKind::PermissionDenied
            ) => {}
        Err(error) => {
            return Err(Error::io(format_args!("cannot make {}", to.display()))(
                error,
            ));
        }
    }
    let taken = fs::metadata(from).map(|file| file.blocks() * 512);
    image::require(to, taken.unwrap_or_default())?;
    Ok(image::copy(from, to, watch)?)
}

/// A base that is named from where the image was is named in full.
fn keep_base(it: &Defined, links: &[Link], unfinished: &Path) -> Result<(), Error> {
    let Some(base) = links.get(1) else {
        return Ok(());
    };
    let header = Header::read(&it.path)
        .map_err(Error::io(format_args!("cannot read {}", it.path.display())))?;
    let is_relative = header.backing.is_some_and(|name| !name.starts_with('/'));
    if is_relative {
        let image = Link {
            path: unfinished.to_owned(),
            format: links[0].format.clone(),
        };
        image::rename_backing(&image, base)?;
    }
    Ok(())
}
