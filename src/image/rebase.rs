//! Another backing file, or none.

use std::path::Path;

use super::tool::{Tool, Watch, backing_name};
use super::{Error, Link};

/// What is to be below an image.
#[derive(Clone, Copy, Debug)]
pub enum Onto<'a> {
    /// This one.
    Image(&'a Link),
    /// Nothing: all that is below it is copied into it.
    Nothing,
}

/// Puts an image onto another backing file: the disk reads as before, as what differs is
/// copied into it.
pub fn rebase(image: &Link, onto: Onto<'_>, watch: Watch<'_>) -> Result<(), Error> {
    let tool = Tool::new("rebase", "rebase", &image.path).args(["-f", &image.format]);
    let tool = match onto {
        Onto::Image(backing) => tool
            .args(["-F", &backing.format, "-b"])
            .arg(backing_name(&image.path, &backing.path)?),
        Onto::Nothing => tool.args(["-b", ""]),
    };
    tool.file(&image.path)?.run_watched(watch)
}

/// Has an image stand on what it stood on before it was put onto something else, which may have
/// been cut short: on nothing, or on a file by its name and format.
///
/// It reads as it did then: what was copied into it is what is there, too.
pub fn put_back(image: &Path, below: Option<(&str, &str)>) -> Result<(), Error> {
    let tool = Tool::new("rebase", "rebase", image).args(["-u", "-f", "qcow2"]);
    let tool = match below {
        Some((name, format)) => tool.args(["-F", format, "-b", name]),
        None => tool.args(["-b", ""]),
    };
    tool.file(image)?.run().map(drop)
}

/// Gives the backing file another name, and copies nothing: right only if what is there
/// is what was at the old one.
pub fn rename_backing(image: &Link, backing: &Link) -> Result<(), Error> {
    rename_backing_at(&image.path, image, backing)
}

/// The same of an image that will be opened as `path`.
pub(super) fn rename_backing_at(path: &Path, image: &Link, backing: &Link) -> Result<(), Error> {
    Tool::new("rebase", "rebase", &image.path)
        .args(["-u", "-f", &image.format, "-F", &backing.format, "-b"])
        .arg(backing_name(path, &backing.path)?)
        .file(&image.path)?
        .run()
        .map(drop)
}
