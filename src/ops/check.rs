//! What is wrong with a definition, as far as this host can tell before it is kept.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{Access, access};

use crate::config::{DeviceName, Fault, Mac, VmConfig};
use crate::store::Row;

use super::{Error, Host, knowledge, policy};

/// What is to be told where it is written; for [`VmConfig::parse_checked`].
///
/// Of a VM that is changed, `old` is what is kept of it: what was wrong before, and is
/// none of the change's, is left to its start.
pub(super) fn faults<'a>(
    host: &'a Host,
    old: Option<&'a Row>,
) -> impl FnOnce(&VmConfig) -> Vec<Fault> + 'a {
    move |config| {
        let mut faults = all(host, config, old);
        if let Some(before) = old.and_then(|old| host.config(old).ok()) {
            let before = all(host, &before, old);
            faults.retain(|fault| !before.contains(fault));
        }
        // These say what cannot be at all.
        policy::faults(config).into_iter().chain(faults).collect()
    }
}

fn all(host: &Host, config: &VmConfig, old: Option<&Row>) -> Vec<Fault> {
    let mut faults = disks(host, config);
    // Without the other definitions, there is nothing to be told of them.
    faults.extend(macs(host, config, old).unwrap_or_default());
    faults.extend(knowledge::check(host, config).0);
    faults
}

fn fault(key: String, message: String) -> Fault {
    Fault {
        key,
        in_name: false,
        message,
    }
}

/// Disks that are there and cannot be disks.
fn disks(host: &Host, config: &VmConfig) -> Vec<Fault> {
    let dir = host.paths.vm(&config.name);
    let disks = config.disks.iter();
    disks
        .filter_map(|(name, disk)| {
            let path = disk.path(name, dir.path())?;
            let why = unusable(&path, disk.read_only)?;
            let message = format!("{}: {why}", path.display());
            Some(fault(format!("disk.{name}.file"), message))
        })
        .collect()
}

/// Why what is at `path` cannot be a disk; `None` if it can, or is not there.
pub(super) fn unusable(path: &Path, read_only: bool) -> Option<String> {
    let kind = match fs::metadata(path) {
        Ok(file) => file.file_type(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => return Some(error.to_string()),
    };
    let is = |what: &str| Some(format!("is {what}, and no disk"));
    if kind.is_dir() {
        return is("a directory");
    }
    // Opening one would wait for its other end.
    if kind.is_fifo() {
        return is("a FIFO");
    }
    if kind.is_socket() {
        return is("a socket");
    }
    // Asked for and not tried: whoever closes a block device that was open for writing has
    // udev look at it anew.
    if let Err(error) = access(path, Access::READ_OK) {
        return Some(format!("cannot be read: {error}"));
    }
    match access(path, Access::WRITE_OK) {
        Err(error) if !read_only => Some(format!(
            "cannot be written: {error}; a disk can be `read-only = true`"
        )),
        _ => None,
    }
}

/// Addresses that another VM has.
fn macs(host: &Host, config: &VmConfig, old: Option<&Row>) -> Result<Vec<Fault>, Error> {
    let wanted: Vec<(&DeviceName, Mac)> = config
        .nets
        .iter()
        .filter_map(|(name, net)| Some((name, net.mac?)))
        .collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let own = old.map_or(&config.name, |old| &old.name);
    let mut faults = Vec::new();
    for (row, other) in others(host, "")?.filter(|(row, _)| row.name != *own) {
        for (net, defined) in &other.nets {
            let has = defined
                .mac
                .unwrap_or_else(|| Mac::derive(&row.uuid, net.as_str()));
            for (name, _) in wanted.iter().filter(|(_, mac)| *mac == has) {
                let message = format!(
                    "VM `{}` has the same address, for its network `{net}`",
                    row.name
                );
                faults.push(fault(format!("net.{name}.mac"), message));
            }
        }
    }
    Ok(faults)
}

/// The VMs whose definitions have `word` in them, and can be read.
fn others(host: &Host, word: &str) -> Result<impl Iterator<Item = (Row, VmConfig)>, Error> {
    let rows = match host.existing_store()? {
        Some(store) => store.rows_with(word)?,
        None => Vec::new(),
    };
    Ok(rows.into_iter().filter_map(|row| {
        let config = host.config(&row).ok()?;
        Some((row, config))
    }))
}

/// What may be in the way of a VM one day, a sentence each: others, or a newer QEMU.
pub(super) fn warnings(host: &Host, config: &VmConfig) -> Result<Vec<String>, Error> {
    let (_, mut found) = knowledge::check(host, config);
    let forwards = |config: &VmConfig| -> Vec<_> {
        let nets = config.nets.values();
        nets.flat_map(|net| net.forward.clone()).collect()
    };
    let wanted = forwards(config);
    if !wanted.is_empty() {
        for (row, other) in others(host, "forward")?.filter(|(row, _)| row.name != config.name) {
            let theirs = forwards(&other);
            for forward in &wanted {
                if theirs.iter().any(|other| other.collides_with(forward)) {
                    found.push(format!(
                        "VM `{}` forwards port {} of the host, too: only one of them can run at a time",
                        row.name, forward.host_port
                    ));
                }
            }
        }
    }
    let dir = host.paths.vm(&config.name);
    for (name, disk) in &config.disks {
        let Some(path) = disk.path(name, dir.path()) else {
            continue;
        };
        let Some(file_name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        for (row, other) in others(host, file_name)?.filter(|(row, _)| row.name != config.name) {
            let their_dir = host.paths.vm(&row.name);
            let is_rival = other.disks.iter().any(|(name, other)| {
                other.path(name, their_dir.path()).as_ref() == Some(&path)
                    && !(disk.read_only && other.read_only)
            });
            if is_rival {
                found.push(format!(
                    "VM `{}` has the disk {}, too: only one of them can run at a time",
                    row.name,
                    path.display()
                ));
            }
        }
    }
    Ok(found)
}
