//! Internal snapshots of qcow2 images that no QEMU has open.
//!
//! qemu-img takes what it is given for an id first and for a name then when it goes back
//! to a snapshot, and only for a name when it deletes one. So ids are given to the one and
//! names to the other, and neither is ever taken for what it is not.

use std::path::Path;

use super::tool::{Tool, absolute};
use super::{Access, Chain, Error, Info, Snapshot};

/// The snapshots within a qcow2 image; also of one that a QEMU has open, as far as that
/// has written them down.
///
/// # Errors
/// For what is no qcow2 image, for a broken one, and for one whose backing files are not
/// all there: nothing could be done with it.
pub fn list(path: &Path) -> Result<Vec<Snapshot>, Error> {
    Chain::of(path, "qcow2").sound()?;
    Ok(Info::of(path, "qcow2", Access::Shared)?.snapshots)
}

/// Makes a snapshot within an image.
pub fn create(path: &Path, name: &str) -> Result<(), Error> {
    run(path, "make a snapshot of", ["-c", name])
}

/// Has an image read as it was at the snapshot with this id.
pub fn apply(path: &Path, id: &str) -> Result<(), Error> {
    run(path, "restore the snapshot of", ["-a", id])
}

/// Deletes the snapshot with this name.
pub fn delete(path: &Path, name: &str) -> Result<(), Error> {
    run(path, "delete the snapshot of", ["-d", name])
}

fn run(path: &Path, doing: &'static str, args: [&str; 2]) -> Result<(), Error> {
    // It has no option for the format.
    let file = absolute(path)?.display().to_string().replace(',', ",,");
    Tool::new("snapshot", doing, path)
        .args(["-q", "--image-opts"])
        .args(args)
        .arg(format!(
            "driver=qcow2,file.driver=file,file.filename={file}"
        ))
        .run()
        .map(drop)
}
