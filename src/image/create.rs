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
