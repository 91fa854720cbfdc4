//! Disks: the image on the host, the device in the guest.

use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::path::is_device_node;
use super::{DeviceName, Limits, Size};

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
    /// Whether the definition says that, so that it is not by the file's name.
    #[serde(skip)]
    pub is_format_said: bool,
    /// The size to create it with if it is missing.
    #[serde(default)]
    pub size: Option<Size>,
    /// Whether the guest may only read.
    #[serde(default)]
    pub read_only: bool,
    /// The device that the guest sees.
    #[serde(default)]
    pub interface: Interface,
    /// What is kept where on the way from the guest to the image.
    #[serde(default)]
    pub cache: Cache,
    /// How QEMU asks the host to read and write.
    #[serde(default)]
    pub aio: Aio,
    /// What becomes of blocks that the guest discards.
    #[serde(default)]
    pub discard: Discard,
    /// What becomes of zeroes that the guest writes.
    #[serde(default)]
    pub detect_zeroes: DetectZeroes,
    /// The serial number that the guest reads; by default its name.
    #[serde(default)]
    pub serial: Option<String>,
    /// Its place in the order in which firmware tries to boot, the lowest first.
    #[serde(default)]
    pub boot_index: Option<u16>,
    /// The thread that serves it; by default QEMU's main thread.
    #[serde(default)]
    pub iothread: Option<IoThread>,
    /// How fast it may be at most.
    #[serde(default)]
    pub limits: Limits,
    /// Turns a minute; 1 for what does not turn.
    #[serde(default)]
    pub rotation_rate: Option<u16>,
    /// Whether the guest is to take it for a medium that can be taken out.
    #[serde(default)]
    pub removable: bool,
    /// The smallest unit that the guest can read and write, in bytes.
    #[serde(default)]
    #[schemars(range(min = 512, max = 2_097_152))]
    pub logical_block_size: Option<u32>,
    /// The unit that the guest had better read and write, in bytes.
    #[serde(default)]
    #[schemars(range(min = 512, max = 2_097_152))]
    pub physical_block_size: Option<u32>,
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
    /// A SATA CD-ROM drive, with the image in it or empty.
    Cdrom,
}

impl Interface {
    /// Its name in a definition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::Scsi => "scsi",
            Self::Sata => "sata",
            Self::Nvme => "nvme",
            Self::Usb => "usb",
            Self::Cdrom => "cdrom",
        }
    }

    /// Whether a running VM cannot get such a disk: its bus takes none while the guest runs.
    pub fn waits_for_start(self) -> bool {
        matches!(self, Self::Sata | Self::Cdrom)
    }
}

/// What is kept where on the way from the guest to the image; names as in qemu(1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// In the host's page cache until the guest flushes.
    #[default]
    Writeback,
    /// Not in the host's page cache; in the disk's own until the guest flushes.
    None,
    /// In the host's page cache, and on the disk before a write is done.
    Writethrough,
    /// Nowhere: on the disk before a write is done.
    Directsync,
    /// In the host's page cache, and flushed when the host sees fit.
    Unsafe,
}

/// How QEMU asks the host to read and write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aio {
    /// By a pool of threads.
    #[default]
    Threads,
    /// By Linux AIO, which needs a cache that bypasses the host's page cache.
    Native,
    /// By io_uring.
    IoUring,
}

/// What becomes of blocks that the guest discards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Discard {
    /// They are given back to the host.
    #[default]
    Unmap,
    /// Nothing.
    Ignore,
}

/// What becomes of zeroes that the guest writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DetectZeroes {
    /// They are written.
    #[default]
    Off,
    /// They are written as such, where the format can.
    On,
    /// They are given back to the host.
    Unmap,
}

/// Which thread serves a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum IoThread {
    /// One called as the disk, or QEMU's main thread.
    Own(bool),
    /// The one of this name, with the other disks that name it.
    Named(DeviceName),
}

impl<'de> Deserialize<'de> for IoThread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BoolOrName;

        impl Visitor<'_> for BoolOrName {
            type Value = IoThread;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false` or the name of a thread")
            }

            fn visit_bool<E: Error>(self, own: bool) -> Result<IoThread, E> {
                Ok(IoThread::Own(own))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<IoThread, E> {
                name.parse().map(IoThread::Named).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(BoolOrName)
    }
}

impl Disk {
    /// The serial number of the disk called `name`.
    pub fn serial<'a>(&'a self, name: &'a DeviceName) -> &'a str {
        self.serial.as_deref().unwrap_or(name.as_str())
    }

    /// The name of the thread that serves the disk called `name`; `None` for QEMU's main thread.
    pub fn iothread<'a>(&'a self, name: &'a DeviceName) -> Option<&'a DeviceName> {
        match &self.iothread {
            None | Some(IoThread::Own(false)) => None,
            Some(IoThread::Own(true)) => Some(name),
            Some(IoThread::Named(thread)) => Some(thread),
        }
    }

    /// Whether it is a drive with nothing in it.
    pub fn is_empty_drive(&self) -> bool {
        self.interface == Interface::Cdrom && self.file.is_none()
    }

    /// The image or device node of the disk called `name`.
    ///
    /// One without a `file` lies in the VM's own directory; an empty drive has none.
    pub fn path(&self, name: &DeviceName, vm_dir: &Path) -> Option<PathBuf> {
        if self.is_empty_drive() {
            return None;
        }
        let suffix = self.format.as_str();
        let own = || vm_dir.join(format!("{name}.{suffix}"));
        Some(self.file.clone().unwrap_or_else(own))
    }

    /// Settings that do not go together, with the key to blame.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut add_if = |fault: bool, key: &str, message: &str| {
            if fault {
                faults.push((key.to_owned(), message.to_owned()));
            }
        };
        let is_virtio = self.interface == Interface::Virtio;
        let is_scsi = self.interface == Interface::Scsi;
        let is_usb = self.interface == Interface::Usb;
        let is_sata = matches!(self.interface, Interface::Sata | Interface::Cdrom);
        add_if(
            self.aio == Aio::Native && !self.cache.is_direct(),
            "aio",
            "`native` goes past the host's page cache: add `cache = \"none\"`, or \"directsync\"",
        );
        // QEMU's usb-storage takes the property `write-cache`, and goes on as without it.
        add_if(
            is_usb && !self.cache.is_write_back(),
            "cache",
            "a `usb` disk cannot do without its write cache: \"writeback\", \"none\" or \"unsafe\"",
        );
        add_if(
            self.detect_zeroes == DetectZeroes::Unmap
                && (self.discard == Discard::Ignore || self.read_only),
            "detect-zeroes",
            "`unmap` gives blocks back to the host, which neither `discard = \"ignore\"` nor `read-only` lets it",
        );
        let serial = self.serial.as_deref().unwrap_or("-");
        let is_printable = serial.bytes().all(|b| matches!(b, b' '..=b'~'));
        add_if(
            serial.is_empty() || serial.len() > MAX_SERIAL || !is_printable,
            "serial",
            "a serial number is 1 to 20 printable characters of ASCII",
        );
        add_if(
            matches!(
                self.iothread,
                Some(IoThread::Own(true) | IoThread::Named(_))
            ) && !is_virtio,
            "iothread",
            "only a `virtio` disk can have a thread of its own",
        );
        add_if(
            self.rotation_rate.is_some() && !(is_scsi || self.interface == Interface::Sata),
            "rotation-rate",
            "only `scsi` and `sata` disks tell how fast they turn",
        );
        add_if(
            self.removable && !(is_scsi || is_usb),
            "removable",
            "only `scsi` and `usb` disks can be removable",
        );
        for (key, size) in [
            ("logical-block-size", self.logical_block_size),
            ("physical-block-size", self.physical_block_size),
        ] {
            let fits = |size: u32| size.is_power_of_two() && (512..=2 << 20).contains(&size);
            add_if(
                !size.is_none_or(fits),
                key,
                "a block size is a power of two from 512 to 2097152",
            );
        }
        let logical = self.logical_block_size.unwrap_or(512);
        add_if(
            is_sata && logical != 512,
            "logical-block-size",
            "a SATA disk has 512",
        );
        // As with its cache.
        add_if(
            is_usb && (logical != 512 || self.physical_block_size.is_some_and(|size| size != 512)),
            "interface",
            "a `usb` disk has blocks of 512 bytes",
        );
        add_if(
            self.physical_block_size.unwrap_or(512) < logical,
            "physical-block-size",
            "it cannot be smaller than `logical-block-size`",
        );
        faults.extend(self.limits.faults());
        faults
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

/// How long a serial number can be for every interface (`VIRTIO_BLK_ID_BYTES`, linux/virtio_blk.h).
const MAX_SERIAL: usize = 20;

impl Cache {
    /// Whether the host's page cache is bypassed.
    pub fn is_direct(self) -> bool {
        matches!(self, Self::None | Self::Directsync)
    }

    /// Whether a write of the guest may be done before it is on the disk.
    pub fn is_write_back(self) -> bool {
        !matches!(self, Self::Writethrough | Self::Directsync)
    }
}

impl Aio {
    /// QEMU's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Native => "native",
            Self::IoUring => "io_uring",
        }
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
