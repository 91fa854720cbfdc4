//! Devices that come and go while the VM runs.
//!
//! Every operation holds the VM's monitor for a few short commands only, and
//! chooses ids and ports while it does: of several at once, each gets its own.

pub mod add;
pub(in crate::ops) mod definition;
mod error;
pub mod ls;
mod qemu;
pub mod rm;

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

pub use error::Error;

use crate::config::DeviceName;
use crate::qemu::{disk, net, passthrough};

/// A device of a VM: one that the definition can name, or any other by QEMU's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `disk.NAME`.
    Disk(DeviceName),
    /// `net.NAME`.
    Net(DeviceName),
    /// `usb.NAME`.
    Usb(DeviceName),
    /// `pci.NAME`.
    Pci(DeviceName),
    /// `device.NAME`, or whatever has this id.
    Device(String),
}

impl Target {
    /// The id that QEMU knows its device by.
    pub fn id(&self) -> String {
        match self {
            Self::Disk(name) => disk::id(name),
            Self::Net(name) => net::nic_id(name),
            Self::Usb(name) => passthrough::usb_id(name),
            Self::Pci(name) => passthrough::pci_id(name),
            Self::Device(id) => id.clone(),
        }
    }

    /// Its table in a definition, if it can have one.
    pub fn table(&self) -> Option<String> {
        match self {
            Self::Disk(name) => Some(format!("disk.{name}")),
            Self::Net(name) => Some(format!("net.{name}")),
            Self::Usb(name) => Some(format!("usb.{name}")),
            Self::Pci(name) => Some(format!("pci.{name}")),
            Self::Device(id) => id
                .parse::<DeviceName>()
                .ok()
                .map(|name| format!("device.{name}")),
        }
    }
}

impl FromStr for Target {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let name = |prefixes: [&str; 2]| {
            let name = prefixes.into_iter().find_map(|p| text.strip_prefix(p))?;
            name.parse::<DeviceName>().ok()
        };
        Ok(if let Some(name) = name(["disk.", "disk-"]) {
            Self::Disk(name)
        } else if let Some(name) = name(["net.", "nic-"]) {
            Self::Net(name)
        } else if let Some(name) = name(["usb.", "hostusb-"]) {
            Self::Usb(name)
        } else if let Some(name) = name(["pci.", "hostpci-"]) {
            Self::Pci(name)
        } else {
            Self::Device(text.strip_prefix("device.").unwrap_or(text).to_owned())
        })
    }
}

/// As a definition writes it, where it can.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(name) => write!(f, "disk.{name}"),
            Self::Net(name) => write!(f, "net.{name}"),
            Self::Usb(name) => write!(f, "usb.{name}"),
            Self::Pci(name) => write!(f, "pci.{name}"),
            Self::Device(id) => f.write_str(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_by_its_table_or_its_id() {
        for (text, id, table) in [
            ("disk.data", "disk-data", Some("disk.data")),
            ("disk-data", "disk-data", Some("disk.data")),
            ("net.lan", "nic-lan", Some("net.lan")),
            ("nic-lan", "nic-lan", Some("net.lan")),
            ("device.tab", "tab", Some("device.tab")),
            ("tab", "tab", Some("device.tab")),
            ("/machine/x", "/machine/x", None),
        ] {
            let Ok(target) = text.parse::<Target>();
            assert_eq!(target.id(), id);
            assert_eq!(target.table().as_deref(), table);
        }
    }
}
