//! Whether the images of a disk are sound in themselves.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::DeviceName;
use crate::image::{self, Checked};
use crate::ops::operation::Work;
use crate::ops::{Error, Host};
use crate::vm::VmName;

use super::{defined, find, guard};

/// What was found in one image.
#[derive(Clone, Debug, Serialize)]
pub struct Image {
    /// The disk that has it, or stands on it.
    pub disk: DeviceName,
    /// The image.
    pub file: PathBuf,
    /// Its format, as QEMU calls it.
    pub format: String,
    /// What was found.
    #[serde(flatten)]
    pub checked: Checked,
}

/// Checks the images of a disk, or of all, of a VM that does not run, and mends the disk's
/// own if asked to.
///
/// # Errors
/// [`Why::InUse`](super::Error::InUse) while it runs, what is wrong with a chain, and images
/// that cannot be opened.
pub fn check(
    host: &Host,
    name: &VmName,
    disk: Option<&DeviceName>,
    repair: bool,
) -> Result<Vec<Image>, Error> {
    let work = Work::take(host, name)?;
    let config = host.config(&host.vm(name)?)?;
    let disks = match disk {
        Some(disk) => vec![find(host, &config, disk)?],
        None => defined(host, &config),
    };
    let _lock = guard::at_rest(&work, host, name, "checked")?;
    let mut found = Vec::new();
    for it in disks {
        let links = guard::whole(name, &it)?;
        for (depth, link) in links.into_iter().enumerate() {
            let checked = match repair && depth == 0 && !it.disk.read_only {
                true => {
                    guard::alone(host, name, &it)?;
                    image::repair(&link.path, &link.format)?
                }
                false => image::check(&link.path, &link.format)?,
            };
            found.push(Image {
                disk: it.name.clone(),
                file: link.path,
                format: link.format,
                checked,
            });
        }
    }
    Ok(found)
}
