//! The disks of a VM that a snapshot is of, and the snapshots that are in them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;

use crate::config::{Format, VmConfig};
use crate::image::{Chain, Snapshot, snapshot};
use crate::ops::disk::Nodes;
use crate::ops::reach::Reach;
use crate::ops::{Error, Host};
use crate::qmp::Client;

/// What the guest of a VM can write to.
pub(super) struct Disks {
    /// The qcow2 images.
    pub disks: Vec<Disk>,
    /// Why what else there is can have no snapshot within it, in words.
    pub others: Vec<String>,
}

/// One qcow2 image.
pub(super) struct Disk {
    /// Where it is.
    pub path: PathBuf,
    /// The node that its device has in QEMU, while that runs: of the image, or of limits.
    pub node: Option<String>,
    /// The snapshots in it.
    pub snapshots: Vec<Snapshot>,
}

impl Disk {
    /// An image that no QEMU has open.
    pub fn of_image(path: PathBuf) -> Result<Self, Error> {
        Ok(Self {
            snapshots: snapshot::list(&path)?,
            node: None,
            path,
        })
    }

    /// The snapshot of this name in it.
    pub fn snapshot(&self, name: &str) -> Option<&Snapshot> {
        self.snapshots.iter().find(|it| it.name == name)
    }
}

impl Disks {
    /// Looks at the disks of a VM: where QEMU has them, or as the definition names them.
    ///
    /// # Errors
    /// Of a VM that does not run: what makes an image unfit for work on it, such as a
    /// backing file that is not there.
    pub fn look(host: &Host, config: &VmConfig, reach: &mut Reach) -> Result<Self, Error> {
        match reach {
            Reach::Running(monitor) => Self::of_qemu(monitor),
            Reach::Stopped(_) => Self::of_images(host, config),
        }
    }

    /// The same of a VM that does not run. It is only looked at.
    pub fn of_images(host: &Host, config: &VmConfig) -> Result<Self, Error> {
        let dir = host.paths.vm(&config.name);
        let mut found = Self {
            disks: Vec::new(),
            others: Vec::new(),
        };
        for (name, disk) in config.disks.iter().filter(|(_, disk)| !disk.read_only) {
            let Some(path) = disk.path(name, dir.path()) else {
                continue;
            };
            if disk.format != Format::Qcow2 {
                found.others.push(not_within(&format!("disk `{name}`")));
            } else if !path.exists() {
                let disk = name.to_string();
                return Err(Error::NoDisk { disk, path });
            } else {
                found.disks.push(Disk::of_image(path)?);
            }
        }
        Ok(found)
    }

    /// The same of a running one.
    pub fn of_qemu(monitor: &mut Client) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Image {
            #[serde(default)]
            snapshots: Vec<Snapshot>,
        }

        let mut found = Self {
            disks: Vec::new(),
            others: Vec::new(),
        };
        for nodes in Nodes::all(monitor)? {
            if nodes.is_read_only() {
                continue;
            }
            let file = nodes.file().unwrap_or_default();
            if nodes.said["drv"] == "qcow2" {
                let image = Image::deserialize(&nodes.said["image"]);
                let image = image.map_err(|error| {
                    Error::Io(format!("cannot tell the snapshots in {file}"), error.into())
                })?;
                found.disks.push(Disk {
                    path: file.into(),
                    snapshots: image.snapshots,
                    // QEMU takes no other for a snapshot, and goes down to the image.
                    node: Some(nodes.root),
                });
            } else {
                let what = match nodes.device.strip_prefix("disk-") {
                    Some(name) => format!("disk `{name}`"),
                    None => format!("`{}` ({file})", nodes.device),
                };
                found.others.push(not_within(&what));
            }
        }
        Ok(found)
    }

    /// QEMU's nodes of them, while it runs.
    pub fn nodes(&self) -> Vec<&str> {
        let nodes = self.disks.iter().map(|disk| disk.node.as_deref());
        nodes.flatten().collect()
    }

    /// Where they are.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.disks.iter().map(|disk| disk.path.clone()).collect()
    }

    /// The disk at `path`.
    pub fn at(&self, path: &Path) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.path == path)
    }

    /// Where those are that have the snapshot of this name.
    pub fn with(&self, name: &str) -> Vec<PathBuf> {
        let mut paths = self.paths();
        paths.retain(|path| self.has(path, name));
        paths
    }

    /// Whether the disk at `path` has the snapshot of this name.
    pub fn has(&self, path: &Path, name: &str) -> bool {
        self.at(path)
            .is_some_and(|disk| disk.snapshot(name).is_some())
    }

    /// Whether one of the disks stands on the image at `path`, which cannot be written then.
    pub fn stands_on(&self, path: &Path) -> bool {
        self.disks.iter().any(|disk| {
            let below = Chain::of(&disk.path, "qcow2").links.into_iter().skip(1);
            below.into_iter().any(|link| link.path == path)
        })
    }

    /// The names of all snapshots in them, each once.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for snapshot in self.disks.iter().flat_map(|disk| &disk.snapshots) {
            if !names.contains(&snapshot.name) {
                names.push(snapshot.name.clone());
            }
        }
        names
    }
}

fn not_within(what: &str) -> String {
    format!("{what} is not a qcow2 image and can have no snapshot within it")
}

/// Deletes a snapshot from an image, if it has it.
pub(super) fn delete(reach: &mut Reach, disk: &Disk, name: &str) -> Result<(), Error> {
    if disk.snapshot(name).is_none() {
        return Ok(());
    }
    match (reach, &disk.node) {
        (Reach::Running(monitor), Some(node)) => {
            let arguments = json!({ "device": node, "name": name });
            monitor.execute("blockdev-snapshot-delete-internal-sync", arguments)?;
        }
        (_, _) => snapshot::delete(&disk.path, name)?,
    }
    Ok(())
}
