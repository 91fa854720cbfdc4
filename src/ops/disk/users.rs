//! Which VMs use a file, by their definitions and by what their disks stand on.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

use crate::config::VmConfig;
use crate::image::Chain;
use crate::ops::{Error, Host, in_force};
use crate::vm::VmName;

use super::defined;

/// A disk of a VM that has, or stands on, a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// The VM.
    pub vm: VmName,
    /// Its disk.
    pub disk: String,
    /// Whether the file is below the disk's image.
    pub as_base: bool,
    /// Whether the disk is for reading only.
    pub read_only: bool,
}

/// A file, whatever name it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    /// Of the file at `path`; `None` if none is there.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self {
                device: metadata.dev(),
                number: metadata.ino(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// All users of the file at `path`, by VM.
///
/// # Errors
/// When a definition cannot be read: nobody knows then who uses the file.
pub(super) fn of(host: &Host, path: &Path) -> Result<Vec<User>, Error> {
    let failed = |path: &Path| Error::io(format!("cannot look at {}", path.display()));
    let wanted = Inode::of(path).map_err(failed(path))?;
    let mut users = Vec::new();
    let is_it = |other: &Path| match wanted {
        Some(_) => Inode::of(other).is_ok_and(|inode| inode == wanted),
        // What is not there may be meant all the same.
        None => other == path,
    };
    for row in host.rows()? {
        let config = host.config(&row)?;
        // What a running VM goes by may have other disks.
        let used = in_force::read(host, &row.name).ok().flatten();
        let configs = [Some(config), used.map(|used| used.config)];
        for config in configs.iter().flatten() {
            for user in uses(host, config, &is_it) {
                if !users.contains(&user) {
                    users.push(user);
                }
            }
        }
    }
    Ok(users)
}

fn uses(host: &Host, config: &VmConfig, is_it: &dyn Fn(&Path) -> bool) -> Vec<User> {
    let mut users = Vec::new();
    for it in defined(host, config) {
        let chain = Chain::of(&it.path, it.disk.format.as_str());
        let below = chain.links.iter().skip(1);
        let as_base = match is_it(&it.path) {
            true => false,
            false if below.clone().any(|link| is_it(&link.path)) => true,
            false => continue,
        };
        users.push(User {
            vm: config.name.clone(),
            disk: it.name.to_string(),
            as_base,
            read_only: it.disk.read_only,
        });
    }
    users
}
