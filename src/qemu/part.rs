//! One thing that QEMU is told to have: an object, a node, a netdev, a device.
//!
//! Said once, and then rendered as an option of the command line or as the QMP
//! command that plugs it into a running VM. What disks and networks consist of is
//! in [`disk`](super::disk) and [`net`](super::net); here are further devices, whose
//! ids are their names, and the controllers that some devices need.

use std::ffi::{OsStr, OsString};

use serde_json::{Value, json};

use super::optarg::OptArg;
use crate::config::{Board, Device, DeviceName, Interface, Property, VmConfig};

/// One thing that QEMU is told to have: `driver=virtio-blk-pci,id=disk-root,…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    kind: Kind,
    pairs: Vec<(String, Setting)>,
}

/// What kind of thing it is: an option, and a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something that nodes and devices name: a thread, a group of limits.
    Object,
    /// A node of the block layer.
    Blockdev,
    /// What a NIC is connected to.
    Netdev,
    /// A device that the guest sees.
    Device,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    Text(OsString),
    Bool(bool),
    Int(i64),
    /// Of a key that can be given several times.
    Each(Vec<String>),
}

/// The id of the USB controller that maqet adds where one is needed.
pub const USB: &str = "usb";
/// The id of the SCSI controller that maqet adds where one is needed.
pub const SCSI: &str = "scsi";

impl Kind {
    /// The QMP command that adds such a thing.
    pub fn command(self) -> &'static str {
        match self {
            Self::Object => "object-add",
            Self::Blockdev => "blockdev-add",
            Self::Netdev => "netdev_add",
            Self::Device => "device_add",
        }
    }

    /// The QMP command that takes such a thing away, and the argument that names it.
    pub fn removal(self) -> (&'static str, &'static str) {
        match self {
            Self::Object => ("object-del", "id"),
            Self::Blockdev => ("blockdev-del", "node-name"),
            Self::Netdev => ("netdev_del", "id"),
            Self::Device => ("device_del", "id"),
        }
    }
}

impl Part {
    pub(super) fn new(kind: Kind, key: &str, value: impl AsRef<OsStr>) -> Self {
        Self {
            kind,
            pairs: Vec::new(),
        }
        .with(key, value)
    }

    pub(super) fn device(driver: impl AsRef<OsStr>, id: impl AsRef<OsStr>) -> Self {
        Self::new(Kind::Device, "driver", driver).with("id", id)
    }

    pub(super) fn with(self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.set(key, Setting::Text(value.as_ref().to_owned()))
    }

    pub(super) fn set(mut self, key: &str, setting: Setting) -> Self {
        self.pairs.push((key.to_owned(), setting));
        self
    }

    /// The same device on a bus.
    #[must_use]
    pub fn on(self, bus: &str) -> Self {
        self.with("bus", bus)
    }

    /// The same device as the one that is tried in this place when the guest boots.
    #[must_use]
    pub fn booted(self, index: Option<usize>) -> Self {
        match index.map(i64::try_from) {
            Some(Ok(index)) => self.set("bootindex", Setting::Int(index)),
            _ => self,
        }
    }

    /// What kind of thing it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The name by which QEMU knows it.
    pub fn id(&self) -> &str {
        self.text("id")
            .or_else(|| self.text("node-name"))
            .expect("every part has a name")
    }

    /// The driver of a device or a node; empty for a netdev.
    pub fn driver(&self) -> &str {
        self.text("driver").unwrap_or_default()
    }

    fn text(&self, wanted: &str) -> Option<&str> {
        self.pairs.iter().find_map(|(key, setting)| match setting {
            Setting::Text(text) if key == wanted => text.to_str(),
            _ => None,
        })
    }

    /// The option of the command line, and its value.
    pub fn option(&self) -> (&'static str, OptArg) {
        let option = match self.kind {
            Kind::Object => "-object",
            Kind::Blockdev => "-blockdev",
            Kind::Netdev => "-netdev",
            Kind::Device => "-device",
        };
        let mut arg = OptArg::default();
        for (key, setting) in &self.pairs {
            arg = match setting {
                Setting::Text(text) => arg.with(key, text),
                Setting::Bool(value) => arg.with(key, if *value { "on" } else { "off" }),
                Setting::Int(number) => arg.with(key, number.to_string()),
                Setting::Each(texts) => texts.iter().fold(arg, |arg, text| arg.with(key, text)),
            };
        }
        (option, arg)
    }

    /// The arguments of the QMP command that adds it to a running VM.
    pub fn arguments(&self) -> Value {
        let mut arguments = json!({});
        for (key, setting) in &self.pairs {
            let value = match setting {
                // A definition is UTF-8, and so are the directories of maqet's own.
                Setting::Text(text) => json!(text.to_string_lossy()),
                Setting::Bool(value) => json!(value),
                Setting::Int(number) => json!(number),
                Setting::Each(texts) => texts.iter().map(|text| json!({ "str": text })).collect(),
            };
            // A dot leads into a structure; properties of devices have none.
            match key.split_once('.') {
                Some((outer, inner)) => arguments[outer][inner] = value,
                None => arguments[key] = value,
            }
        }
        arguments
    }

    /// As `key=value` words, for a device whose properties QEMU is yet to give their types.
    pub fn words(&self) -> Vec<String> {
        let word = |key: &str, value: &str| format!("{key}={value}");
        let mut words = Vec::new();
        for (key, setting) in &self.pairs {
            match setting {
                Setting::Text(text) => words.push(word(key, &text.to_string_lossy())),
                Setting::Bool(value) => words.push(word(key, if *value { "on" } else { "off" })),
                Setting::Int(number) => words.push(word(key, &number.to_string())),
                Setting::Each(texts) => words.extend(texts.iter().map(|text| word(key, text))),
            }
        }
        words
    }
}

/// A further device.
pub fn device(name: &DeviceName, device: &Device) -> Part {
    let part = Part::device(device.driver(), name.as_str());
    device.properties().fold(part, |part, (key, value)| {
        part.set(
            key,
            match value {
                Property::Bool(value) => Setting::Bool(*value),
                Property::Int(number) => Setting::Int(*number),
                Property::Text(text) => Setting::Text(text.into()),
            },
        )
    })
}

/// The USB controller that maqet adds.
pub fn usb_controller() -> Part {
    Part::device("qemu-xhci", USB)
}

/// The SCSI controller that maqet adds; `None` on a board that can have none.
pub fn scsi_controller(board: Board) -> Option<Part> {
    Some(Part::device(virtio(board, "virtio-scsi")?, SCSI))
}

/// Whether maqet is to add a USB controller: for its disks, and for devices that
/// have none of their own.
pub fn needs_usb_controller(config: &VmConfig) -> bool {
    let mut devices = config.devices.values();
    let wants = |device: &Device| is_usb_device(device.driver()) && !device.says("bus");
    !config.usbs.is_empty()
        || config.input.iter().any(|input| input.is_usb())
        || config
            .disks
            .values()
            .any(|disk| disk.interface == Interface::Usb)
        || config.devices.values().any(wants)
            && !devices.any(|device| is_usb_controller(device.driver()))
}

/// Whether a driver is of a device that is plugged into a USB controller.
pub fn is_usb_device(driver: &str) -> bool {
    (driver.starts_with("usb-") || driver.starts_with("u2f-")) && !is_usb_controller(driver)
}

/// Whether a driver is of a USB controller.
pub fn is_usb_controller(driver: &str) -> bool {
    ["-xhci", "-ehci", "-uhci", "-ohci"]
        .into_iter()
        .any(|kind| driver.contains(kind))
}

/// The name of a virtio device on a board, if it can have one.
pub(super) fn virtio(board: Board, device: &str) -> Option<String> {
    match board {
        Board::None => None,
        Board::Microvm => Some(format!("{device}-device")),
        Board::Q35 | Board::Pc | Board::Pci => Some(format!("{device}-pci")),
    }
}
