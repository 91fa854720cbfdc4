//! The disks of a VM that a snapshot is of, and the snapshots that are in them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;

use crate::config::{DeviceName, Format, VmConfig};
use crate::image::{self, Chain, Snapshot, snapshot};
use crate::ops::disk::{self, Defined, Nodes, guard};
use crate::ops::reach::Reach;
use crate::ops::{Error, Host, Obstacle};
use crate::qemu;
use crate::qmp::Client;
use crate::vm::VmName;

use super::Facts;

/// What the guest of a VM can write to.
pub(super) struct Disks {
    /// The qcow2 images.
    pub disks: Vec<Disk>,
    /// Why what else there is can have no snapshot within it, in words.
    pub others: Vec<Obstacle>,
}

/// One qcow2 image.
pub(super) struct Disk {
    /// Where it is.
    pub path: PathBuf,
    /// The node that its device has in QEMU, while that runs: of the image, or of limits.
    pub node: Option<String>,
    /// That of the image.
    pub image: Option<String>,
    /// The snapshots in it.
    pub snapshots: Vec<Snapshot>,
}

impl Disk {
    /// An image that no QEMU has open.
    pub fn of_image(path: PathBuf) -> Result<Self, Error> {
        Ok(Self {
            snapshots: snapshot::list(&path)?,
            node: None,
            image: None,
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
                found
                    .others
                    .push(Obstacle::NotWithin(format!("disk `{name}`")));
            } else if !path.exists() {
                let disk = name.to_string();
                return Err(Error::NoDisk { disk, path });
            } else {
                let (name, disk) = (name.clone(), disk.clone());
                let it = Defined { name, disk, path };
                guard::sound(&config.name, &it)?;
                found.disks.push(Disk::of_image(it.path)?);
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
                    // QEMU takes no other for a snapshot of the disks alone, and goes down to
                    // the image.
                    node: Some(nodes.root),
                    image: Some(nodes.image),
                });
            } else {
                let what = match nodes.device.strip_prefix("disk-") {
                    Some(name) => format!("disk `{name}`"),
                    None => format!("`{}` ({file})", nodes.device),
                };
                found.others.push(Obstacle::NotWithin(what));
            }
        }
        Ok(found)
    }

    /// Sees to it that those at `paths`, which will be written, are sound: in themselves where
    /// no QEMU has them open, and can be written then; and else in being where they are named.
    /// The answer is those with leaks.
    ///
    /// What begins and then finds damage could not be undone any more, either; and what a
    /// QEMU writes to a file that has lost its name is gone when it ends.
    pub fn require_sound(
        host: &Host,
        config: &VmConfig,
        reach: &Reach,
        paths: &[PathBuf],
    ) -> Result<Vec<PathBuf>, Error> {
        let mut leaking = Vec::new();
        if let Reach::Stopped(_) = reach {
            for path in paths {
                image::require_file_writable(path)?;
                guard::unused(path)?;
                if image::require_sound(path)?.leaks > 0 {
                    leaking.push(path.clone());
                }
            }
            return Ok(leaking);
        }
        let defined = disk::defined(host, config);
        for path in paths {
            match defined.iter().find(|it| it.path == *path) {
                Some(it) => drop(guard::sound(&config.name, it)?),
                None => drop(
                    Chain::of(path, "qcow2")
                        .sound()
                        .map_err(image::Error::from)?,
                ),
            }
        }
        Ok(leaking)
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

/// The disks that a guest could write to by its definition, and that a running QEMU does not
/// have, though they could be plugged.
pub(super) fn unplugged(
    host: &Host,
    config: &VmConfig,
    monitor: &mut Client,
) -> Result<Vec<Obstacle>, Error> {
    let lacking = lacking(host, config, monitor)?.into_iter();
    let found = lacking.filter(|it| !it.disk.interface.waits_for_start());
    let obstacle = |it: Defined| Obstacle::Unplugged {
        vm: config.name.clone(),
        disk: it.name,
    };
    Ok(found.map(obstacle).collect())
}

/// The disks that only the next start can bring, and that a snapshot of a running VM is not of.
pub(super) fn waiting(
    host: &Host,
    config: &VmConfig,
    reach: &mut Reach,
) -> Result<Vec<DeviceName>, Error> {
    let Reach::Running(monitor) = reach else {
        return Ok(Vec::new());
    };
    let lacking = lacking(host, config, monitor)?.into_iter();
    let found = lacking.filter(|it| it.disk.interface.waits_for_start());
    Ok(found.map(|it| it.name).collect())
}

/// Tells of the disks that a snapshot is not of.
pub(super) fn tell_waiting(host: &Host, vm: &VmName, waiting: &[DeviceName]) {
    for disk in waiting {
        (host.tell)(&format!(
            "disk `{disk}` is not in the snapshot: VM `{vm}` has it from its next start on"
        ));
    }
}

fn lacking(host: &Host, config: &VmConfig, monitor: &mut Client) -> Result<Vec<Defined>, Error> {
    let all = Nodes::all(monitor)?;
    let mut defined = disk::defined(host, config);
    defined.retain(|it| {
        let id = qemu::disk::id(&it.name);
        !it.disk.read_only && all.iter().all(|nodes| nodes.device != id)
    });
    Ok(defined)
}

/// That these images, which have a snapshot, are no disks of the VM now, though they may be
/// when it starts.
pub(super) fn absent(
    host: &Host,
    config: &VmConfig,
    facts: &Facts,
    files: Vec<PathBuf>,
    is_all: bool,
) -> Vec<Obstacle> {
    let vm = &config.name;
    let now = disk::defined(host, config);
    let then = host.whole_config(vm, &facts.definition);
    let then = then.map_or_else(|_| Vec::new(), |then| disk::defined(host, &then));
    let of = |all: &[Defined], file: &Path| {
        let mut all = all.iter();
        all.find(|it| it.path == file && !it.disk.read_only)
            .cloned()
    };
    let obstacle = |file: PathBuf| match of(&now, &file) {
        Some(disk) => Obstacle::Unplugged {
            vm: vm.clone(),
            disk: disk.name,
        },
        None => {
            let was = of(&then, &file);
            Obstacle::Detached {
                vm: vm.clone(),
                interface: was.as_ref().map(|it| it.disk.interface).unwrap_or_default(),
                disk: was.map(|it| it.name),
                file,
                is_all,
            }
        }
    };
    files.into_iter().map(obstacle).collect()
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
