use std::path::PathBuf;

use crate::ops::disk::{User, words};
use crate::ops::obstacle::{self, Doing, Obstacle};
use crate::vm::VmName;

/// Why a snapshot was not made, restored or deleted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This cannot be its name.
    #[error("`{}` cannot name a snapshot: {why}", .name.escape_debug())]
    Name {
        /// The text.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The VM has one of that name.
    #[error("VM `{vm}` has a snapshot `{name}` already")]
    Exists {
        /// The VM.
        vm: VmName,
        /// The snapshot.
        name: String,
    },
    /// The VM has none of that name.
    #[error("VM `{vm}` has no snapshot `{name}`")]
    NoSuch {
        /// The VM.
        vm: VmName,
        /// The name.
        name: String,
        /// The nearest there is.
        nearest: Option<String>,
    },
    /// There is something that rules it out.
    #[error("{doing} VM `{vm}` is not possible: {}", obstacle::text(.obstacles))]
    Obstacles {
        /// What was to be done.
        doing: Doing,
        /// The VM.
        vm: VmName,
        /// What is in the way.
        obstacles: Vec<Obstacle>,
    },
    /// The VM runs, and cannot go on where its disks alone go back.
    #[error("VM `{vm}` is running, and cannot go on with the disks alone of snapshot `{name}`")]
    DisksAlone {
        /// The VM.
        vm: VmName,
        /// The snapshot.
        name: String,
    },
    /// The machine is another one than the memory in it is of.
    #[error(
        "the memory in snapshot `{name}` does not fit VM `{vm}` any more: {}",
        .differences.join("; ")
    )]
    Misfit {
        /// The VM.
        vm: VmName,
        /// The snapshot.
        name: String,
        /// How it differs, in words.
        differences: Vec<String>,
    },
    /// The machine that runs has its devices elsewhere; one that is started for the memory
    /// has them where they were.
    #[error(
        "the memory in snapshot `{name}` does not fit VM `{vm}` as it runs: {}",
        .differences.join("; ")
    )]
    Moved {
        /// The VM.
        vm: VmName,
        /// The snapshot.
        name: String,
        /// What is elsewhere, in words.
        differences: Vec<String>,
    },
    /// It is within its images.
    #[error("snapshot `{name}` of VM `{vm}` is within its images: there is nothing to merge")]
    Within {
        /// The VM.
        vm: VmName,
        /// The snapshot.
        name: String,
    },
    /// It is beside its images, and what was written since is above it.
    #[error("snapshot `{name}` of VM `{vm}` cannot be deleted: {}", words(.users))]
    Beside {
        /// The VM.
        vm: VmName,
        /// The snapshot.
        name: String,
        /// Who stands on it.
        users: Vec<User>,
    },
    /// It is within an image that something stands on, and that must be as it is.
    #[error(
        "snapshot `{name}` of VM `{vm}` is within {}: {}",
        .file.display(),
        words(.users)
    )]
    Below {
        /// The VM.
        vm: VmName,
        /// The snapshot.
        name: String,
        /// The image.
        file: PathBuf,
        /// Who stands on that.
        users: Vec<User>,
    },
    /// There was too little room for its memory.
    #[error(
        "{}{} has no room left for the memory of VM `{vm}`: {why}",
        if *.by_quota { "your quota in " } else { "" }, .dir.display()
    )]
    NoRoom {
        /// The VM.
        vm: VmName,
        /// The directory of the image that it was to be in.
        dir: PathBuf,
        /// Whether it is the user's quota that leaves none.
        by_quota: bool,
        /// What QEMU says of it.
        why: String,
    },
    /// Its merging was called off.
    #[error("interrupted: snapshot `{name}` of VM `{vm}` is merged in part")]
    NotMerged {
        /// The VM.
        vm: VmName,
        /// The snapshot.
        name: String,
    },
    /// Images lack it.
    #[error(
        "snapshot `{name}` of VM `{vm}` is not whole: it is not in {}",
        .missing.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NotWhole {
        /// The VM.
        vm: VmName,
        /// The snapshot.
        name: String,
        /// The images that it should be in.
        missing: Vec<PathBuf>,
    },
}
