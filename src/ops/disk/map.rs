//! Where the data of a disk is.

use serde::Serialize;

use crate::config::DeviceName;
use crate::image::{self, Extent, Link};
use crate::ops::operation::Work;
use crate::ops::{Error, Host};
use crate::vm::VmName;

use super::{find, guard};

/// The parts of a disk.
#[derive(Clone, Debug, Serialize)]
pub struct Map {
    /// The disk's own image, and those below it.
    pub images: Vec<Link>,
    /// All parts, from the beginning of the disk.
    pub extents: Vec<Extent>,
    /// What a copy in one image of the same format would take, in bytes.
    pub required: u64,
    /// What that could come to take, in bytes.
    pub fully_allocated: u64,
}

/// Maps a disk of a VM that does not run.
///
/// # Errors
/// [`Why::InUse`](super::Error::InUse) while it runs.
pub fn map(host: &Host, name: &VmName, disk: &DeviceName) -> Result<Map, Error> {
    let work = Work::take(host, name)?;
    let config = host.config(&host.vm(name)?)?;
    let it = find(host, &config, disk)?;
    let _lock = guard::at_rest(&work, host, name, "mapped")?;
    let images = guard::sound(name, &it)?;
    let format = it.disk.format.as_str();
    let measured = image::measure(&it.path, format, format)?;
    Ok(Map {
        images,
        extents: image::map(&it.path, format)?,
        required: measured.required,
        fully_allocated: measured.fully_allocated,
    })
}
