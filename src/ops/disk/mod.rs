//! Disks of VMs: their images, what those stand on, and who else does.
//!
//! While a VM runs, QEMU is asked and told; while it does not, the files are looked at and
//! worked on by qemu-img, with the VM's lock held. What another VM's disk stands on is
//! never written.

mod error;
pub mod info;
pub mod ls;
mod users;

use std::path::PathBuf;

pub use error::Error;
pub use users::User;

use crate::config::{DeviceName, Disk, VmConfig};
use crate::nearest::nearest;
use crate::vm::VmName;

use super::Host;

/// A disk of a definition that has an image.
#[derive(Clone, Debug)]
struct Defined {
    name: DeviceName,
    disk: Disk,
    path: PathBuf,
}

/// The disks of a definition that have images.
fn defined(host: &Host, config: &VmConfig) -> Vec<Defined> {
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

fn no_such<'a>(vm: &VmName, disk: &DeviceName, known: impl Iterator<Item = &'a str>) -> Error {
    Error::NoSuch {
        vm: vm.clone(),
        disk: disk.clone(),
        nearest: nearest(disk.as_str(), known)
            .first()
            .map(|name| (*name).to_owned()),
    }
}
