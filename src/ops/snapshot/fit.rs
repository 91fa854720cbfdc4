//! Whether a machine is the one that the memory in a snapshot is of.

use std::path::PathBuf;

use crate::config::{Disk, differences};
use crate::ops::in_force::Definition;
use crate::ops::{Error, Host};
use crate::vm::VmName;

use super::Facts;

/// Tables and keys that the guest does not see, or that QEMU takes another value of at
/// any time.
const UNSEEN: [&str; 14] = [
    "accel",
    "after",
    "description",
    "display",
    "group",
    "labels",
    "name",
    "protect",
    "ready",
    "requires",
    "start-delay",
    "stop",
    "unit",
    "qemu.binary",
];

/// Of a disk, what only the host sees, and what is compared as what it means.
const UNSEEN_OF_DISKS: [&str; 8] = [
    "aio",
    "cache",
    "detect-zeroes",
    "discard",
    "file",
    "format",
    "limits",
    "size",
];

/// Of a network, what the guest sees.
const SEEN_OF_NETS: [&str; 4] = ["boot-index", "mac", "model", "mtu"];

/// How the machine of a definition differs from that of a snapshot with memory, in words.
pub(super) fn misfits(
    host: &Host,
    vm: &VmName,
    facts: &Facts,
    now: &Definition,
) -> Result<Vec<String>, Error> {
    let then = Definition::whole(host, vm, &facts.definition)?;
    let found = differences((&then.document, &then.config), (&now.document, &now.config));
    let seen = found.into_iter().filter(|it| is_seen(&it.key));
    let mut words: Vec<String> = seen
        .map(|it| format!("`{}` was {} and is {}", it.key, it.old_text, it.new_text))
        .collect();
    let dir = host.paths.vm(vm);
    for (name, disk) in &then.config.disks {
        let Some(now) = now.config.disks.get(name) else {
            continue;
        };
        // Whether it is written down or follows from the disk's name.
        let image = |disk: &Disk| {
            let path = disk.path(name, dir.path()).unwrap_or_default();
            format!("{} ({})", path.display(), disk.format.as_str())
        };
        let (then, now) = (image(disk), image(now));
        if then != now {
            words.push(format!("disk `{name}` was {then} and is {now}"));
        }
    }
    Ok(words)
}

/// How the images differ that a guest writes to, in words.
pub(super) fn other_images(facts: &Facts, now: &[PathBuf]) -> Vec<String> {
    let gone = facts.disks.iter().filter(|path| !now.contains(path));
    let new = now.iter().filter(|path| !facts.disks.contains(path));
    gone.map(|path| format!("it had the disk {}", path.display()))
        .chain(new.map(|path| format!("it had not the disk {}", path.display())))
        .collect()
}

/// Whether a guest sees what a key says.
fn is_seen(key: &str) -> bool {
    let is_below = |table: &&str| {
        let rest = key.strip_prefix(*table);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    if UNSEEN.iter().any(is_below) {
        return false;
    }
    let mut parts = key.splitn(3, '.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("disk"), _, Some(rest)) => {
            !UNSEEN_OF_DISKS.contains(&rest.split('.').next().unwrap_or(rest))
        }
        (Some("net"), _, Some(rest)) => SEEN_OF_NETS.contains(&rest),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::is_seen;

    #[test]
    fn a_key_is_seen_by_the_guest_or_it_is_not() {
        for key in [
            "memory",
            "cpu.model",
            "disk.root",
            "disk.root.interface",
            "net.lan",
            "net.lan.mac",
        ] {
            assert!(is_seen(key), "{key}");
        }
        for key in [
            "unit.Nice",
            "labels",
            "disk.root.file",
            "disk.root.limits.read",
            "net.lan.forward",
            "stop.timeout",
        ] {
            assert!(!is_seen(key), "{key}");
        }
    }
}
