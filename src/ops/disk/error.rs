use std::path::{Path, PathBuf};

use crate::config::{DeviceName, Size};
use crate::image::Fault;
use crate::ops::By;
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
    /// A running VM has it, and its definition has not.
    #[error("disk `{disk}` is in the running VM `{vm}`, and not in its definition")]
    NotDefined {
        /// The VM.
        vm: VmName,
        /// The disk.
        disk: DeviceName,
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
    /// A running VM cannot be without the disk that is to be deleted.
    #[error("VM `{vm}` is running, and has disk `{disk}` until it stops: its bus has no hot-plug")]
    Stays {
        /// The VM.
        vm: VmName,
        /// The disk.
        disk: DeviceName,
    },
    /// A process has the image of a VM that does not run.
    #[error("{} is in use: {by}", .file.display())]
    Busy {
        /// The image.
        file: PathBuf,
        /// Who has it.
        by: By,
    },
    /// Images that no VM has stand on the image.
    #[error(
        "{} is needed: {} stands on it, and is no VM's",
        .file.display(),
        .by.iter().map(|it| it.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    Stood {
        /// The image.
        file: PathBuf,
        /// Those that stand on it.
        by: Vec<PathBuf>,
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
    /// A file that is no disk yet cannot be one, for what is wrong with it or below it.
    #[error("{} cannot be a disk", .file.display())]
    Unfit {
        /// The file.
        file: PathBuf,
        /// What.
        #[source]
        fault: Fault,
    },
    /// What QEMU has of an image in memory is not in its file.
    #[error("an image of VM `{vm}` cannot be {done} while it runs: QEMU has part of it in memory")]
    InUse {
        /// The VM.
        vm: VmName,
        /// What was to be done with it.
        done: &'static str,
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
        /// Whether they would go along if the VM did not run.
        runs: bool,
    },
    /// Its device in QEMU cannot have another size while the guest runs.
    #[error(
        "disk `{disk}` cannot grow while VM `{vm}` runs: a device of its `interface` keeps its size"
    )]
    Rigid {
        /// The VM.
        vm: VmName,
        /// The disk.
        disk: DeviceName,
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
    /// An image can be cut between its clusters only.
    #[error("disk `{disk}` cannot be cut to {}: its image has clusters of {}, and what was in the rest of the last one would be there again when it grows", Size::from_bytes(*.to), Size::from_bytes(*.cluster))]
    Unaligned {
        /// The disk.
        disk: DeviceName,
        /// What was asked for, in bytes.
        to: u64,
        /// The size of a cluster, in bytes.
        cluster: u64,
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
    #[error("disk `{disk}` is in the definition, and not in the running VM")]
    NotPlugged {
        /// The VM.
        vm: VmName,
        /// The disk.
        disk: DeviceName,
    },
    /// A file is no orphan.
    #[error("{} is not among the files that `maqet disk orphans` lists", .0.display())]
    NoOrphan(PathBuf),
    /// The database does not know all VMs that there are, nor what is theirs.
    #[error("{}: nobody knows which files are theirs", lost(.dir, .vms))]
    Lost {
        /// Where their directories are.
        dir: PathBuf,
        /// Those that were started once; none if there is no database.
        vms: Vec<VmName>,
    },
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

fn lost(dir: &Path, vms: &[VmName]) -> String {
    let dir = dir.display();
    match vms {
        [] => format!("there is no database, and files of VMs that it had are in {dir}"),
        vms => {
            let vms: Vec<String> = vms.iter().map(|vm| format!("`{vm}`")).collect();
            format!(
                "VMs that the database does not have are in {dir}: {}",
                vms.join(", ")
            )
        }
    }
}

fn is_words(is: Option<&str>) -> String {
    match is {
        Some(is) => format!("and looks like `{is}`"),
        None => "and does not look like one".to_owned(),
    }
}
