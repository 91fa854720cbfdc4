//! What is in the way of a thing that is asked for.

use std::fmt;
use std::path::PathBuf;

use crate::config::{DeviceName, Interface};
use crate::vm::VmName;

/// What is asked for, as far as something can be in its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// A snapshot is to be made.
    Snapshot,
    /// A snapshot is to be gone back to.
    Restore,
    /// A snapshot is to be deleted.
    Delete,
    /// Overlays are to be merged into what they stand on.
    Merge,
    /// Another VM is to be made of a snapshot.
    Clone,
}

impl fmt::Display for Doing {
    /// What comes before "VM `web` is not possible".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Snapshot => "a snapshot of",
            Self::Restore => "going back with",
            Self::Delete => "deleting a snapshot of",
            Self::Merge => "merging into the images of",
            Self::Clone => "a clone of",
        })
    }
}

/// One thing that is in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// A disk whose image can have no snapshot within it.
    #[error("{0} is not a qcow2 image and can have no snapshot within it")]
    NotWithin(String),
    /// A device that the next start does not know of.
    #[error(
        "device `{device}` was plugged while the VM ran: remove it first, with `maqet device rm \
         {vm} {device}`"
    )]
    Plugged {
        /// The VM.
        vm: String,
        /// The device's id.
        device: String,
    },
    /// A disk of the definition that the running VM does not have.
    #[error("disk `{disk}` is in the definition, and not in the running VM")]
    Unplugged {
        /// The VM.
        vm: VmName,
        /// The disk.
        disk: DeviceName,
    },
    /// An image with a snapshot in it that is no disk of the VM any more.
    #[error("{} has it, and is no disk any more that the VM writes to", .file.display())]
    Detached {
        /// The VM.
        vm: VmName,
        /// The disk that it was.
        disk: Option<DeviceName>,
        /// What the guest saw it as.
        interface: Interface,
        /// The image.
        file: PathBuf,
        /// Whether the VM has no other disk with it.
        is_all: bool,
    },
    /// A disk that a snapshot beside images is of.
    #[error("it has no disk `{disk}` any more")]
    NoDisk {
        /// The VM.
        vm: VmName,
        /// The disk.
        disk: DeviceName,
        /// What took what was written to it after the snapshot.
        file: PathBuf,
    },
    /// A disk that goes on from a snapshot beside images with more than one overlay.
    #[error("disk `{disk}` goes on from it with another overlay between")]
    NotRightAbove {
        /// The VM.
        vm: VmName,
        /// The disk.
        disk: DeviceName,
    },
    /// A disk that has nothing to do with a snapshot beside images any more.
    #[error("{words}")]
    NotFrom {
        /// The VM.
        vm: VmName,
        /// What it is instead.
        words: String,
    },
    /// A file that is needed and is not there.
    #[error("{} is gone", .0.display())]
    Gone(PathBuf),
    /// A snapshot within an image that is to be written or deleted.
    #[error("snapshot `{name}` is within {}", .file.display())]
    Within {
        /// The snapshot.
        name: String,
        /// The image.
        file: PathBuf,
    },
    /// An image that a running VM has, and its definition has not.
    #[error("{} is not in its definition", .file.display())]
    Undefined {
        /// The device that has it, if the definition has none of that name.
        device: Option<String>,
        /// The image.
        file: PathBuf,
    },
    /// A device whose state QEMU cannot write down.
    #[error("{}", not_saved(.device.as_deref(), .words))]
    NotSaved {
        /// What the device is to the user, if that can be told.
        device: Option<String>,
        /// What QEMU says of it.
        words: String,
    },
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

impl From<String> for Obstacle {
    fn from(words: String) -> Self {
        Self::Other(words)
    }
}

impl From<&str> for Obstacle {
    fn from(words: &str) -> Self {
        Self::Other(words.to_owned())
    }
}

fn not_saved(device: Option<&str>, words: &str) -> String {
    match device {
        Some(device) => format!("QEMU cannot save {device} ({words})"),
        None => words.to_owned(),
    }
}

/// All of them, in one line.
pub(super) fn text(obstacles: &[Obstacle]) -> String {
    let words: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
    words.join("; ")
}
