//! New images, empty ones and such that are on top of others.

use std::path::Path;

use super::tool::{Tool, absolute, backing_name};
use super::{Error, Link, place};

/// Makes an empty image of `size` bytes, `format` as qemu-img names it.
///
/// The image appears at `path` whole or not at all, and never takes the place
/// of a file that is there.
pub fn create(path: &Path, format: &str, size: u64) -> Result<(), Error> {
    place(path, std::process::id(), |unfinished| {
        create_at(unfinished, path, format, size)
    })
}

/// Makes an empty image in a file that is not there and will be called `path`.
pub fn create_at(file: &Path, path: &Path, format: &str, size: u64) -> Result<(), Error> {
    Tool::new("create", "make", path)
        .args(["-q", "-f", format])
        .file(file)?
        .arg(size.to_string())
        .run()
        .map_err(|error| rename(error, path, file))
        .map(drop)
}

/// Makes an empty qcow2 image on top of another one, which is not opened for writing, in a
/// file that is not there and will be called `path`, in the same directory. `size` in bytes,
/// that of the other one if it is not given.
///
/// `in_full` names a backing file in the same directory in full, too. A running QEMU that
/// puts the one on top of the other takes any other name for another file's.
pub fn create_overlay(
    file: &Path,
    path: &Path,
    backing: &Link,
    size: Option<u64>,
    in_full: bool,
) -> Result<(), Error> {
    let name = match in_full {
        true => absolute(&backing.path)?,
        false => backing_name(file, &backing.path)?,
    };
    Tool::new("create", "make", path)
        .args(["-q", "-f", "qcow2", "-F", &backing.format, "-b"])
        .arg(name)
        .file(file)?
        .args(size.map(|size| size.to_string()))
        .run()
        .map_err(|error| rename(error, path, file))
        .map(drop)
}

/// The same on top of an image that a QEMU may have open: it is not looked at. `size` in
/// bytes is that of the disk, and until it is whole it is called by `tag`.
pub fn create_overlay_unopened(
    path: &Path,
    tag: i64,
    backing: &Link,
    size: u64,
) -> Result<(), Error> {
    place(path, tag, |unfinished| {
        Tool::new("create", "make", path)
            .args(["-q", "-u", "-f", "qcow2", "-F", &backing.format, "-b"])
            // By its whole name: QEMU takes another one for another file.
            .arg(&backing.path)
            .file(unfinished)?
            .arg(size.to_string())
            .run()
            .map_err(|error| rename(error, path, unfinished))
            .map(drop)
    })
}

/// Writes what is in an overlay into the image below it; the overlay stays as it is.
pub fn commit(overlay: &Path) -> Result<(), Error> {
    Tool::new("commit", "merge", overlay)
        .args(["-q", "-d", "-f", "qcow2"])
        .file(overlay)?
        .run()
        .map(drop)
}

/// Words about an unfinished file, as words about the one that it was to be.
pub(super) fn rename(error: Error, path: &Path, unfinished: &Path) -> Error {
    match error {
        Error::Failed { doing, words, .. } => {
            let (from, to) = (unfinished.display().to_string(), path.display().to_string());
            let words = words.replace(&from, &to);
            let own = format!("{to}: ");
            Error::Failed {
                doing,
                path: path.to_owned(),
                words: words.strip_prefix(&own).unwrap_or(&words).to_owned(),
            }
        }
        other => other,
    }
}
