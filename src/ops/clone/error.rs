use std::path::PathBuf;

use crate::config::DeviceName;
use crate::vm::VmName;

/// Why a VM was not cloned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is frozen as a base cannot go back to a snapshot in it any more.
    #[error("disk `{disk}` of VM `{vm}` has {count} snapshot{} in its image, and cannot become a base", if *.count == 1 { "" } else { "s" })]
    HasSnapshots {
        /// The VM.
        vm: VmName,
        /// Its disk.
        disk: DeviceName,
        /// How many there are.
        count: u32,
    },
    /// No image is at a snapshot of that name.
    #[error("disk `{disk}` of VM `{vm}` has no snapshot `{name}`")]
    NoSnapshot {
        /// The VM.
        vm: VmName,
        /// Its disk.
        disk: DeviceName,
        /// The snapshot.
        name: String,
    },
    /// What is within an image can be copied, and nothing else.
    #[error("snapshot `{name}` of VM `{vm}` is within its images, and no disk can stand on it")]
    Within {
        /// The VM.
        vm: VmName,
        /// The snapshot.
        name: String,
    },
    /// It ended while its disks were being copied.
    #[error("VM `{0}` ended before its disks were copied")]
    Ended(VmName),
    /// A VM that had the name has left a file where a disk is to be.
    #[error("{} is there already", .0.display())]
    InTheWay(PathBuf),
}
