use std::path::PathBuf;

use crate::config::{DeviceName, Size};
use crate::image::Fault;
use crate::vm::VmName;

use super::User;

/// Why something was not done with a disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The VM has no such disk.
    #[error("VM `{vm}` has no disk `{disk}`")]
    NoSuch {
        /// The VM.
        vm: VmName,
        /// What was asked for.
        disk: DeviceName,
        /// The nearest one that it has.
        nearest: Option<String>,
    },
    /// The VM has such a disk already.
    #[error("VM `{vm}` has a disk `{disk}` already")]
    Exists {
        /// The VM.
        vm: VmName,
        /// The disk.
        disk: DeviceName,
    },
    /// Its settings make no sense.
    #[error("`disk.{disk}`: {message}")]
    Settings {
        /// The disk.
        disk: DeviceName,
        /// What is wrong.
        message: String,
    },
    /// Others have the image, or stand on it.
    #[error("{} is needed: {}", .file.display(), words(.users))]
    Needed {
        /// The image.
        file: PathBuf,
        /// Those who need it.
        users: Vec<User>,
    },
    /// There is something wrong below the image.
    #[error("disk `{disk}` of VM `{vm}` is broken")]
    Broken {
        /// The VM.
        vm: VmName,
        /// The disk.
        disk: DeviceName,
        /// What.
        #[source]
        fault: Fault,
    },
    /// The guest may only read it.
    #[error("disk `{disk}` of VM `{vm}` is read-only")]
    ReadOnly {
        /// The VM.
        vm: VmName,
        /// The disk.
        disk: DeviceName,
    },
    /// It is none of maqet's business.
    #[error("{} is a block device of the host: maqet does not {doing} it", .file.display())]
    BlockDevice {
        /// What was asked for.
        doing: &'static str,
        /// The device.
        file: PathBuf,
    },
    /// A file is not of the format that a definition says.
    #[error("{} would be taken for a disk of format `{taken_for}`, {}", .file.display(), is_words(*.is))]
    OtherFormat {
        /// The file.
        file: PathBuf,
        /// What the definition says, or what follows from the file's name.
        taken_for: &'static str,
        /// What it looks like.
        is: Option<&'static str>,
    },
    /// It would lose what snapshots are of.
    #[error("{} has {count} snapshot{}", .file.display(), if *.count == 1 { "" } else { "s" })]
    HasSnapshots {
        /// The VM.
        vm: VmName,
        /// The image.
        file: PathBuf,
        /// How many there are in it.
        count: u32,
    },
    /// A smaller disk has less on it.
    #[error("disk `{disk}` has {}: cut to {}, it would lose what is beyond that", Size::from_bytes(*.from), Size::from_bytes(*.to))]
    Shrinks {
        /// The disk.
        disk: DeviceName,
        /// Its size in bytes.
        from: u64,
        /// What was asked for.
        to: u64,
    },
    /// What an image is to be made from names other files.
    #[error("{} is not taken: it would have {} read, too", .file.display(), .names)]
    Foreign {
        /// The image.
        file: PathBuf,
        /// The other files, as it says.
        names: String,
    },
    /// What it is to be made from is not what was said.
    #[error("the SHA-256 of {} is {is}, and not {expected}", .file.display())]
    OtherSum {
        /// The file.
        file: PathBuf,
        /// What it is.
        is: String,
        /// What it was said to be.
        expected: String,
    },
    /// It is not there to be unpacked or converted.
    #[error("{}: maqet cannot unpack `{suffix}` files", .file.display())]
    Unpack {
        /// The file.
        file: PathBuf,
        /// What it is.
        suffix: &'static str,
    },
    /// It is larger than the disk is to be.
    #[error("{} has {}, and the disk was to have {}", .file.display(), Size::from_bytes(*.has), Size::from_bytes(*.wanted))]
    TooLarge {
        /// What it is made from.
        file: PathBuf,
        /// In bytes.
        has: u64,
        /// In bytes.
        wanted: u64,
    },
    /// Only what maqet made is deleted.
    #[error("{} was not made by maqet", .0.display())]
    NotMade(PathBuf),
    /// An image would be its own base.
    #[error("{} stands on {}", .base.display(), .image.display())]
    Circle {
        /// What was to be below.
        base: PathBuf,
        /// The image.
        image: PathBuf,
    },
    /// The image can have nothing below it.
    #[error("a disk of format `{0}` stands on no other image")]
    NoChain(&'static str),
    /// It stands on nothing.
    #[error("disk `{0}` stands on no other image")]
    NoBase(DeviceName),
    /// The VM runs, and does not have it.
    #[error("disk `{0}` is in the definition, and not in the running VM")]
    NotPlugged(DeviceName),
    /// A file is no orphan.
    #[error("{} is not among the files that `maqet disk orphans` lists", .0.display())]
    NoOrphan(PathBuf),
}

/// Who uses a file, and how.
pub(in crate::ops) fn words(users: &[User]) -> String {
    let words = users.iter().map(|user| {
        let User { vm, disk, .. } = user;
        match (&user.snapshot, user.as_base) {
            (Some(snapshot), _) => format!("snapshot `{snapshot}` of VM `{vm}` stands on it"),
            (None, true) => format!("disk `{disk}` of VM `{vm}` stands on it"),
            (None, false) => format!("disk `{disk}` of VM `{vm}` has it"),
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

fn is_words(is: Option<&str>) -> String {
    match is {
        Some(is) => format!("and looks like `{is}`"),
        None => "and does not look like one".to_owned(),
    }
}
