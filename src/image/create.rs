//! New images, and what becomes of overlays.

use std::path::Path;

use super::tool::Tool;
use super::{Error, place};

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
