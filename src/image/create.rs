//! New images, and what becomes of overlays.

use std::path::Path;

use super::tool::Tool;
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

/// An image with nothing in it.
#[derive(Clone, Copy, Debug)]
pub struct Empty<'a> {
    /// As qemu-img names it.
    pub format: &'a str,
    /// Of the disk, in bytes.
    pub size: u64,
    /// In bytes, if it is to have clusters of another size than usual.
    pub cluster_size: Option<u64>,
    /// What it stands on, which a QEMU may have open: it is not looked at.
    pub backing: Option<&'a Link>,
}

/// Makes an empty image in a file that is not there and will be called `path`.
pub fn create_unopened(file: &Path, path: &Path, empty: Empty<'_>) -> Result<(), Error> {
    let tool = Tool::new("create", "make", path).args(["-q", "-u", "-f", empty.format]);
    let tool = match empty.cluster_size.filter(|_| empty.format == "qcow2") {
        Some(size) => tool.args(["-o", &format!("cluster_size={size}")]),
        None => tool,
    };
    let tool = match empty.backing {
        // By its whole name: QEMU takes another one for another file.
        Some(backing) => tool.args(["-F", &backing.format, "-b"]).arg(&backing.path),
        None => tool,
    };
    tool.file(file)?
        .arg(empty.size.to_string())
        .run()
        .map_err(|error| rename(error, path, file))
        .map(drop)
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
