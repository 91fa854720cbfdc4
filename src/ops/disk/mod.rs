//! Disks of VMs: their images, what those stand on, and who else does.
//!
//! While a VM runs, QEMU is asked and told; while it does not, the files are looked at and
//! worked on by qemu-img, with the VM's lock held. What another VM's disk stands on is
//! never written.

pub mod add;
pub mod attach;
pub mod check;
pub mod compact;
mod definition;
mod error;
pub(super) mod guard;
pub mod info;
mod live;
pub mod ls;
pub mod map;
pub mod merge;
pub mod r#move;
mod nodes;
pub mod orphans;
pub(super) mod plan;
mod plug;
pub mod rebase;
pub mod resize;
pub mod rm;
mod source;
mod users;

use std::path::PathBuf;

pub use definition::Settings;
pub(super) use definition::text;
pub use error::Error;
pub(super) use error::words;
pub(super) use nodes::{Nodes, other_image};
pub(super) use plan::Plan;
pub use plug::When;
pub use source::Source;
pub use users::User;
pub(super) use users::{Inode, Users};

use crate::config::{DeviceName, Disk, VmConfig};
use crate::image::{Chain, Link};
use crate::nearest::nearest;
use crate::vm::VmName;

use super::Host;

/// A disk of a definition that has an image.
#[derive(Clone, Debug)]
pub(super) struct Defined {
    pub name: DeviceName,
    pub disk: Disk,
    pub path: PathBuf,
}

impl Defined {
    /// The image and those below it.
    pub fn chain(&self) -> Chain {
        Chain::of(&self.path, self.disk.format.as_str())
    }

    pub fn link(&self) -> Link {
        Link {
            path: self.path.clone(),
            format: self.disk.format.as_str().to_owned(),
        }
    }
}

/// The disks of a definition that have images.
pub(super) fn defined(host: &Host, config: &VmConfig) -> Vec<Defined> {
    let dir = host.paths.vm(&config.name);
    let disks = config.disks.iter();
    let disks = disks.filter_map(|(name, disk)| {
        Some(Defined {
            path: disk.path(name, dir.path())?,
            name: name.clone(),
            disk: disk.clone(),
        })
    });
    disks.collect()
}

/// The disk of that name.
fn find(host: &Host, config: &VmConfig, disk: &DeviceName) -> Result<Defined, Error> {
    let all = defined(host, config);
    if let Some(found) = all.iter().find(|it| it.name == *disk) {
        return Ok(found.clone());
    }
    let (vm, disk) = (config.name.clone(), disk.clone());
    // Words of an error are not worth a second one.
    let plugged = ls::ls(host, &vm).unwrap_or_default();
    if plugged
        .iter()
        .any(|it| it.disk == disk.as_str() && !it.defined)
    {
        return Err(Error::NotDefined { vm, disk });
    }
    Err(no_such(&vm, &disk, all.iter().map(|it| it.name.as_str())))
}

fn no_such<'a>(vm: &VmName, disk: &DeviceName, known: impl Iterator<Item = &'a str>) -> Error {
    Error::NoSuch {
        vm: vm.clone(),
        disk: disk.clone(),
        nearest: nearest(disk.as_str(), known)
            .first()
            .map(|name| (*name).to_owned()),
    }
}
