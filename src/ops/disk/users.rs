//! Which VMs use a file, by their definitions and by what their disks stand on.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::VmConfig;
use crate::image::Chain;
use crate::ops::{Error, Host, in_force, snapshot};
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
    /// The snapshot beside the disk's images that needs the file as it is; `None` if it is the
    /// disk itself.
    pub snapshot: Option<String>,
    /// Whether the disk is for reading only.
    pub read_only: bool,
}

/// A file, whatever name it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::ops) struct Inode {
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

/// All files that VMs use, and who does.
#[derive(Default)]
pub(in crate::ops) struct Users {
    paths: BTreeMap<PathBuf, Inode>,
    by_inode: BTreeMap<Inode, Vec<User>>,
    /// Of those that are not there.
    by_path: BTreeMap<PathBuf, Vec<User>>,
}

impl Users {
    /// Looks at all definitions, stored and in force, and at the chains of their disks.
    ///
    /// # Errors
    /// When a definition cannot be read: nobody knows then what it uses.
    pub fn find(host: &Host) -> Result<Self, Error> {
        Self::find_by(host, Err)
    }

    /// The same, as far as definitions can be read.
    pub fn known(host: &Host) -> Result<Self, Error> {
        Self::find_by(host, |_| Ok(()))
    }

    fn find_by(host: &Host, judge: fn(Error) -> Result<(), Error>) -> Result<Self, Error> {
        let mut users = Self::default();
        for row in host.rows()? {
            match host.config(&row) {
                Ok(config) => users.take(host, &config),
                Err(error) => judge(error)?,
            }
            // What a running VM goes by may have other disks.
            if let Some(used) = in_force::read(host, &row.name).ok().flatten() {
                users.take(host, &used.config);
            }
        }
        for it in snapshot::stood_on(host)? {
            for link in it.chain.links {
                users.note(
                    link.path,
                    User {
                        vm: it.vm.clone(),
                        disk: it.overlay.disk.to_string(),
                        as_base: true,
                        snapshot: Some(it.snapshot.clone()),
                        read_only: false,
                    },
                );
            }
        }
        Ok(users)
    }

    /// The users of the file at `path`, by VM.
    pub fn of(&self, path: &Path) -> Result<Vec<User>, Error> {
        let inode = Inode::of(path)
            .map_err(Error::io(format_args!("cannot look at {}", path.display())))?;
        let users = match inode {
            Some(inode) => self.by_inode.get(&inode),
            None => self.by_path.get(path),
        };
        Ok(users.cloned().unwrap_or_default())
    }

    /// Fails if a VM would write what disks of others stand on.
    pub fn spare_bases(&self, host: &Host, config: &VmConfig) -> Result<(), Error> {
        for it in defined(host, config) {
            if it.disk.read_only {
                continue;
            }
            let mut users = self.of(&it.path)?;
            users.retain(|user| user.as_base && user.vm != config.name);
            if !users.is_empty() {
                let file = it.path;
                return Err(super::Error::Needed { file, users }.into());
            }
        }
        Ok(())
    }

    /// The files of that directory, and of those within it, with their users.
    pub fn within(&self, dir: &Path) -> Vec<(PathBuf, Vec<User>)> {
        let there = self.paths.iter().filter(|(path, _)| path.starts_with(dir));
        let found = there.filter_map(|(path, inode)| {
            let users = self.by_inode.get(inode)?;
            Some((path.clone(), users.clone()))
        });
        found.collect()
    }

    /// The VMs that alone stand on an image when `name` does so no more.
    pub fn left_alone_by(&self, name: &VmName) -> Vec<VmName> {
        let mut left: Vec<VmName> = Vec::new();
        for users in self.by_inode.values() {
            let (theirs, others): (Vec<_>, Vec<_>) = users.iter().partition(|it| it.vm == *name);
            if let ([_, ..], [only]) = (&theirs[..], &others[..])
                && users
                    .iter()
                    .all(|user| user.as_base && user.snapshot.is_none())
                && !left.contains(&only.vm)
            {
                left.push(only.vm.clone());
            }
        }
        left
    }

    fn take(&mut self, host: &Host, config: &VmConfig) {
        for it in defined(host, config) {
            let chain = Chain::of(&it.path, it.disk.format.as_str());
            let below = chain.links.into_iter().skip(1).map(|link| link.path);
            for (depth, file) in [it.path].into_iter().chain(below).enumerate() {
                let user = User {
                    vm: config.name.clone(),
                    disk: it.name.to_string(),
                    as_base: depth > 0,
                    snapshot: None,
                    read_only: it.disk.read_only,
                };
                self.note(file, user);
            }
        }
    }

    fn note(&mut self, file: PathBuf, user: User) {
        let users = match Inode::of(&file) {
            Ok(Some(inode)) => {
                self.paths.insert(file, inode);
                self.by_inode.entry(inode).or_default()
            }
            _ => self.by_path.entry(file).or_default(),
        };
        if !users.contains(&user) {
            users.push(user);
        }
    }
}

/// The users of one file; see [`Users::find`].
pub(super) fn of(host: &Host, path: &Path) -> Result<Vec<User>, Error> {
    Users::find(host)?.of(path)
}
