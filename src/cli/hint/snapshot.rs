//! Hints about snapshots.

use crate::config::{DeviceName, Interface};
use crate::ops::{Doing, Obstacle, disk, snapshot};

use super::disk::to_plug;
use super::quoted;

pub(super) fn hint(error: &snapshot::Error) -> Option<String> {
    use snapshot::Error;
    if let Error::Obstacles {
        doing, obstacles, ..
    } = error
        && let Some(hint) = obstacles.iter().find_map(|it| of_obstacle(*doing, it))
    {
        return Some(hint);
    }
    Some(match error {
        Error::NoSuch {
            nearest: Some(name),
            ..
        } => format!("did you mean `{name}`?"),
        Error::NoSuch { vm, .. } => format!("`maqet snapshot ls {vm}` lists those there are"),
        Error::Exists { vm, name } => {
            format!("`maqet snapshot rm {vm} {}` deletes it", quoted(name))
        }
        Error::DisksAlone { .. } => {
            "the same with `--reset` cuts its power, and has it boot there".to_owned()
        }
        Error::Misfit { vm, name, .. } => format!(
            "`maqet snapshot restore --disk-only {vm} {}` restores its disks alone, and so does \
             `maqet start --discard-saved {vm}`, once it is restored",
            quoted(name)
        ),
        Error::Moved { .. } => {
            "the same with `--reset` cuts its power, and has it go on there".to_owned()
        }
        Error::Within { vm, name } => {
            format!("`maqet snapshot rm {vm} {}` deletes it", quoted(name))
        }
        Error::Beside { vm, name, users } => {
            let mut of_others = users.iter().filter(|user| user.vm != *vm);
            let other = of_others.find_map(|user| Some((&user.vm, user.snapshot.as_ref()?)));
            if let Some((other, snapshot)) = other {
                return Some(format!(
                    "`maqet snapshot rm {other} {}` deletes that one first",
                    quoted(snapshot)
                ));
            }
            let newest = users.iter().rev().find_map(|user| user.snapshot.as_ref());
            format!(
                "`maqet snapshot merge {vm} {}` writes what was written since into its images, \
                 and ends it",
                quoted(newest.unwrap_or(name))
            )
        }
        Error::NoRoom { .. } => "make room there; `--disk-only` needs little of it".to_owned(),
        Error::NotMerged { vm, name } => format!(
            "the VM goes on as before; `maqet snapshot merge {vm} {}` goes on with that, and to \
             restore it is not possible any more",
            quoted(name)
        ),
        Error::Below { vm, users, .. } => {
            if let Some(other) = users.iter().find(|user| user.vm != *vm) {
                let disk::User { vm, disk, .. } = other;
                return Some(format!(
                    "`maqet disk rebase --flat {vm} {disk}` has that disk stand on nothing else"
                ));
            }
            let newest = users.iter().rev().find_map(|user| user.snapshot.as_ref());
            let newest = newest?;
            format!("`maqet snapshot merge {vm} {}` first", quoted(newest))
        }
        Error::NotWhole { .. } => "what is not there cannot be restored".to_owned(),
        Error::Obstacles { obstacles, .. }
            if (obstacles.iter()).any(|it| matches!(it, Obstacle::NotWithin(_))) =>
        {
            "`--external` makes one beside the images, of the disks alone".to_owned()
        }
        Error::Obstacles {
            doing: Doing::Snapshot,
            obstacles,
            ..
        } if (obstacles.iter()).any(|it| matches!(it, Obstacle::NotSaved { .. })) => {
            "`--disk-only` makes one of the disks alone".to_owned()
        }
        Error::Obstacles {
            doing: Doing::Snapshot,
            obstacles,
            ..
        } if (obstacles.iter()).any(|it| matches!(it, Obstacle::Plugged { .. })) => {
            "`--disk-only` makes one of the disks alone; after its next start, the VM has what \
             its definition names from the beginning"
                .to_owned()
        }
        Error::Obstacles { obstacles, .. }
            if (obstacles.iter()).any(|it| matches!(it, Obstacle::Gone(_))) =>
        {
            "put it back to where it was".to_owned()
        }
        Error::Obstacles { vm, obstacles, .. } => {
            return obstacles.iter().find_map(|it| match it {
                Obstacle::Within { name, .. } => Some(format!(
                    "`maqet snapshot rm {vm} {}` deletes it",
                    quoted(name)
                )),
                Obstacle::Undefined {
                    device: Some(device),
                    ..
                } => Some(format!("`maqet device rm {vm} {device}` unplugs it")),
                _ => None,
            });
        }
        Error::Name { .. } => return None,
    })
}

/// Of one thing in the way, whatever else there is.
fn of_obstacle(doing: Doing, obstacle: &Obstacle) -> Option<String> {
    Some(match obstacle {
        Obstacle::Unplugged { .. } | Obstacle::Plugged { .. } if doing == Doing::Restore => {
            "the same with `--reset` cuts its power, and starts it there".to_owned()
        }
        Obstacle::Unplugged { vm, disk } if doing == Doing::Snapshot => format!(
            "`maqet device add {vm} disk.{disk}` plugs it, for one of the disks alone; one with \
             memory can be made after the VM's next start"
        ),
        Obstacle::Unplugged { vm, disk } => to_plug(vm, disk),
        Obstacle::Detached {
            vm,
            disk,
            interface,
            file,
            is_all,
        } => {
            let disk = disk.as_ref().map_or("NAME", DeviceName::as_str);
            let interface = match interface {
                Interface::Virtio => String::new(),
                other => format!(" interface={}", other.as_str()),
            };
            let others = match is_all {
                true => "",
                false => "; `--disk-only` restores the others",
            };
            format!(
                "`maqet disk attach {vm} {disk} {}{interface}` has it be one again{others}",
                quoted(&file.to_string_lossy())
            )
        }
        Obstacle::NoDisk { vm, disk, file } if file.exists() => format!(
            "`maqet disk attach {vm} {disk} {}` has it be there again",
            quoted(&file.to_string_lossy())
        ),
        Obstacle::NoDisk { vm, disk, .. } => {
            format!("`maqet disk attach {vm} {disk} FILE` has it be there again")
        }
        Obstacle::NotRightAbove { vm, disk } => {
            format!("`maqet disk merge {vm} {disk}` writes what is between into it first")
        }
        Obstacle::NotFrom { vm, .. } => format!(
            "`maqet clone {vm} NEW --snapshot NAME` makes a VM whose disks are as they were then"
        ),
        _ => return None,
    })
}
