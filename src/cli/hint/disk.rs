//! Hints about disks and the images that they stand on.

use std::io;
use std::path::Path;

use crate::config::{DeviceName, Size};
use crate::image::Fault;
use crate::ops::{By, Host, disk};
use crate::vm::VmName;

use super::quoted;

pub(super) fn hint(error: &disk::Error) -> Option<String> {
    use disk::Error;
    Some(match error {
        Error::NoSuch {
            nearest: Some(nearest),
            ..
        } => format!("did you mean `{nearest}`?"),
        Error::NotDefined { vm, disk } => {
            format!("`maqet device rm {vm} disk.{disk}` unplugs it; so does the next start")
        }
        Error::NoSuch { vm, .. } | Error::Exists { vm, .. } => {
            format!("`maqet disk ls {vm}` lists its disks")
        }
        Error::NotPlugged { vm, disk } => to_plug(vm, disk),
        Error::Broken { vm, disk, fault } => of_fault(vm.as_str(), disk.as_str(), fault),
        Error::Unfit { fault, .. } => return of_unfit(fault),
        Error::ReadOnly { vm, disk } => {
            format!("`maqet unset {vm} disk.{disk}.read-only` lets it be written")
        }
        Error::OtherFormat { is: Some(is), .. } if matches!(*is, "qcow2" | "raw") => {
            format!("`format={is}` says what it is")
        }
        Error::OtherFormat { is: Some(_), .. } => {
            "`maqet disk add … --from FILE` makes a disk of it".to_owned()
        }
        Error::OtherFormat { is: None, .. } => "`format=raw` has it taken as it is".to_owned(),
        Error::Busy {
            by: By::Vm(other), ..
        } => format!("stop that one first with `maqet stop {other}`"),
        Error::Busy { .. } => "try again once that one is done with it".to_owned(),
        Error::Stays { vm, .. } => format!("`maqet stop {vm}` first"),
        Error::InUse { vm, .. } => format!(
            "`maqet stop {vm}` first; of an image that contradicts itself, QEMU tells by the event \
             BLOCK_IMAGE_CORRUPTED (`maqet events {vm}`)"
        ),
        Error::HasSnapshots { vm, runs: true, .. } => {
            format!("`maqet stop {vm}` first: while it does not run, they go along")
        }
        Error::HasSnapshots { vm, .. } => format!(
            "`maqet snapshot ls {vm}` lists them, `maqet snapshot rm {vm} NAME` deletes one"
        ),
        Error::Rigid { vm, .. } => format!("`maqet stop {vm}` first"),
        Error::Shrinks { .. } => "`--shrink` has that be lost".to_owned(),
        Error::Unaligned { to, cluster, .. } => format!(
            "{} would do",
            Size::from_bytes(to.next_multiple_of(*cluster))
        ),
        Error::Foreign { .. } => {
            "if you know where the image is from, `--trust-names` has them read".to_owned()
        }
        Error::Unpack { .. } => "unpack it first".to_owned(),
        Error::NotMade(file) => format!("if it is to go, `rm {}` deletes it", file.display()),
        Error::Stood { by, .. } => {
            let first = by.first()?;
            let is_orphan = first.starts_with(Host::from_env().ok()?.paths.vms());
            let delete = if is_orphan {
                "maqet disk orphans --delete"
            } else {
                "rm"
            };
            format!(
                "`{delete} {}` deletes that; `maqet disk attach` makes it a disk again",
                quoted(&first.to_string_lossy())
            )
        }
        Error::Lost { vms, .. } if vms.is_empty() => format!(
            "put back {}, or another copy of it",
            Host::from_env().ok()?.paths.database().display()
        ),
        Error::Lost { .. } => "put back the database that had them; or `maqet doctor --rebuild` \
             has them known again, as they last started"
            .to_owned(),
        Error::Needed { users, .. } if users.iter().all(|user| user.snapshot.is_some()) => {
            "what a snapshot stands on is never written: `maqet snapshot merge` ends one".to_owned()
        }
        Error::Needed { users, .. } => match users.iter().all(|user| user.as_base) {
            true => {
                let disk::User { vm, disk, .. } = users.first()?;
                format!(
                    "what a disk stands on is never written, and stays where it is: make another \
                     one on top of it, or put those onto another base with `maqet disk rebase`, \
                     such as `maqet disk rebase --flat {vm} {disk}`"
                )
            }
            false => {
                "others can have a disk, or stand on it, only if all have it `read-only`".to_owned()
            }
        },
        _ => return None,
    })
}

/// Of a disk that is defined, and that the running VM does not have.
pub(super) fn to_plug(vm: &VmName, disk: &DeviceName) -> String {
    format!(
        "`maqet stop {vm}` first; or `maqet device add {vm} disk.{disk}`, which plugs it where its \
         bus takes it"
    )
}

pub(super) fn of_fault(vm: &str, disk: &str, fault: &Fault) -> String {
    match fault {
        Fault::Missing { backing, .. } => format!(
            "put it back to {}; or, if it is elsewhere, `maqet disk rebase {vm} {disk} --moved \
             FILE` says where",
            backing.display()
        ),
        Fault::Circle { .. } | Fault::NoFile { .. } => {
            format!("`maqet disk rebase {vm} {disk} --moved FILE` names what it should stand on")
        }
        Fault::Damaged { image } | Fault::Unsound { image, .. } => format!(
            "`qemu-img check -r all {}` mends what can be mended",
            quoted(&image.to_string_lossy())
        ),
        Fault::Unreadable { image, source } => {
            let image = quoted(&image.to_string_lossy());
            match source.kind() {
                io::ErrorKind::NotFound => format!(
                    "put it back; or, if it is elsewhere, `maqet set {vm} disk.{disk}.file=FILE` \
                     says where"
                ),
                io::ErrorKind::PermissionDenied => {
                    format!("`chmod u+rw {image}`, by whose it is, lets it be used")
                }
                _ => {
                    format!("put back what was there: `qemu-img info {image}` shows what it is now")
                }
            }
        }
    }
}

/// Of a file that no VM has.
fn of_unfit(fault: &Fault) -> Option<String> {
    match fault {
        Fault::Missing { image, backing } => Some(format!(
            "put it back to {}; or, if it is elsewhere, {}",
            backing.display(),
            to_stand_on(image)
        )),
        Fault::Circle { image, .. } | Fault::NoFile { image, .. } => Some(to_stand_on(image)),
        Fault::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => None,
        fault => Some(of_fault("VM", "DISK", fault)),
    }
}

fn to_stand_on(image: &Path) -> String {
    format!(
        "`qemu-img rebase -u -b FILE -F FORMAT {}` says what it stands on",
        quoted(&image.to_string_lossy())
    )
}
