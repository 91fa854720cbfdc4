//! Disks: the image on the host, the device in the guest.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::path::is_device_node;
use super::{DeviceName, Size};

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Disk {
    /// The image or device node; without one, an image in the VM's own directory.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub file: Option<PathBuf>,
    /// Format of the image.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub format: Format,
    /// The size to create it with if it is missing.
    #[serde(default)]
    pub size: Option<Size>,
    /// Whether the guest may only read.
    #[serde(default)]
    pub read_only: bool,
    /// The device that the guest sees.
    #[serde(default)]
    pub interface: Interface,
}

/// The format of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// QEMU's own: grows as it is written, holds snapshots.
    #[default]
    Qcow2,
    /// The bytes of the disk, nothing else.
    Raw,
}

/// What kind of disk the guest sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Interface {
    /// virtio-blk.
    #[default]
    Virtio,
    /// A SCSI disk on a virtio-scsi controller.
    Scsi,
    /// A SATA disk.
    Sata,
    /// An NVMe drive.
    Nvme,
    /// A USB mass storage device.
    Usb,
    /// A SATA CD-ROM drive with the image in it.
    Cdrom,
}

impl Disk {
    /// The image or device node of the disk called `name`.
    ///
    /// One without a `file` lies in the VM's own directory.
    pub fn path(&self, name: &DeviceName, vm_dir: &Path) -> PathBuf {
        let suffix = self.format.as_str();
        self.file
            .clone()
            .unwrap_or_else(|| vm_dir.join(format!("{name}.{suffix}")))
    }

    /// The format when the definition says none.
    pub(super) fn usual_format(&self) -> Format {
        let Some(file) = &self.file else {
            return Format::Qcow2;
        };
        let has_suffix = |wanted| {
            file.extension()
                .is_some_and(|s| s.eq_ignore_ascii_case(wanted))
        };
        let raw = self.interface == Interface::Cdrom
            || is_device_node(file)
            || ["raw", "img", "iso"].into_iter().any(has_suffix);
        if raw { Format::Raw } else { Format::Qcow2 }
    }
}

impl Format {
    /// Its name, for QEMU and as a file's suffix.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}
