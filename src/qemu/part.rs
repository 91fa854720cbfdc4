//! What a disk, a NIC or a further device of a definition becomes in QEMU.
//!
//! Said once, and then rendered as an option of the command line or as the QMP
//! command that plugs it into a running VM. Ids are `disk-NAME`, `net-NAME` (the
//! netdev), `nic-NAME` (its device), and the name alone of a further device; the
//! block nodes of a disk are `disk-NAME` and below it `disk-NAME-file`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::optarg::OptArg;
use crate::config::{
    Board, Device, DeviceName, Disk, Interface, Mac, Net, NetKind, Property, VmConfig,
    is_device_node,
};

/// One thing that QEMU is told to have: `driver=virtio-blk-pci,id=disk-root,…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    kind: Kind,
    pairs: Vec<(String, Setting)>,
}

/// What kind of thing it is: an option, and a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A node of the block layer.
    Blockdev,
    /// What a NIC is connected to.
    Netdev,
    /// A device that the guest sees.
    Device,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Setting {
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
            Self::Blockdev => "blockdev-add",
            Self::Netdev => "netdev_add",
            Self::Device => "device_add",
        }
    }
}

impl Part {
    fn new(kind: Kind, key: &str, value: impl AsRef<OsStr>) -> Self {
        Self {
            kind,
            pairs: Vec::new(),
        }
        .with(key, value)
    }

    fn device(driver: impl AsRef<OsStr>, id: impl AsRef<OsStr>) -> Self {
        Self::new(Kind::Device, "driver", driver).with("id", id)
    }

    fn with(self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.set(key, Setting::Text(value.as_ref().to_owned()))
    }

    fn set(mut self, key: &str, setting: Setting) -> Self {
        self.pairs.push((key.to_owned(), setting));
        self
    }

    /// The same device on a bus.
    #[must_use]
    pub fn on(self, bus: &str) -> Self {
        self.with("bus", bus)
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
        let mut arguments = Map::new();
        for (key, setting) in &self.pairs {
            let value = match setting {
                // A definition is UTF-8, and so are the directories of maqet's own.
                Setting::Text(text) => json!(text.to_string_lossy()),
                Setting::Bool(value) => json!(value),
                Setting::Int(number) => json!(number),
                Setting::Each(texts) => texts.iter().map(|text| json!({ "str": text })).collect(),
            };
            arguments.insert(key.clone(), value);
        }
        Value::Object(arguments)
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

/// A disk: the node of its file, the node of its format, the device.
///
/// A SATA disk is on the port `sata`; every other one where its interface says.
pub fn disk(
    name: &DeviceName,
    disk: &Disk,
    board: Board,
    vm_dir: &Path,
    sata: Option<String>,
) -> [Part; 3] {
    let path = disk.path(name, vm_dir);
    let file_driver = if is_device_node(&path) {
        "host_device"
    } else {
        "file"
    };
    let id = disk_id(name);
    let file_node = format!("{id}-file");
    // Blocks that the guest discards are given back to the host.
    let access = |node: Part| {
        if disk.read_only {
            node.set("read-only", Setting::Bool(true))
        } else {
            node.with("discard", "unmap")
        }
    };
    let file = Part::new(Kind::Blockdev, "driver", file_driver)
        .with("node-name", &file_node)
        .with("filename", path);
    let format = Part::new(Kind::Blockdev, "driver", disk.format.as_str())
        .with("node-name", &id)
        .with("file", file_node);
    let (driver, bus) = match disk.interface {
        Interface::Virtio => (virtio(board, "virtio-blk").unwrap_or_default(), None),
        Interface::Scsi => ("scsi-hd".to_owned(), Some(format!("{SCSI}.0"))),
        Interface::Sata => ("ide-hd".to_owned(), sata),
        Interface::Cdrom => ("ide-cd".to_owned(), sata),
        Interface::Nvme => ("nvme".to_owned(), None),
        Interface::Usb => ("usb-storage".to_owned(), Some(format!("{USB}.0"))),
    };
    let device = Part::device(driver, &id);
    let device = match bus {
        Some(bus) => device.on(&bus),
        None => device,
    };
    let device = device.with("drive", id).with("serial", name.as_str());
    [access(file), access(format), device]
}

/// The id of a disk's device, and the name of its upper node.
pub fn disk_id(name: &DeviceName) -> String {
    format!("disk-{name}")
}

/// A network and the NIC on it: netdev and device.
pub fn net(name: &DeviceName, net: &Net, uuid: &str) -> [Part; 2] {
    let id = netdev_id(name);
    let mac = net.mac.unwrap_or_else(|| Mac::derive(uuid, name.as_str()));
    let nic = Part::device(&net.model, nic_id(name))
        .with("netdev", &id)
        .with("mac", mac.to_string());
    [netdev(net, &id), nic]
}

/// The id of a network's NIC.
pub fn nic_id(name: &DeviceName) -> String {
    format!("nic-{name}")
}

/// The id of a network's netdev.
pub fn netdev_id(name: &DeviceName) -> String {
    format!("net-{name}")
}

fn netdev(net: &Net, id: &str) -> Part {
    match net.kind {
        NetKind::User => {
            let part = Part::new(Kind::Netdev, "type", "user").with("id", id);
            let forwards = net.forward.iter().map(|forward| {
                let guest = forward.guest_port;
                let host = format!(
                    "{}:{}:{}",
                    forward.protocol, forward.host_address, forward.host_port
                );
                format!("{host}-:{guest}")
            });
            match net.forward.is_empty() {
                true => part,
                false => part.set("hostfwd", Setting::Each(forwards.collect())),
            }
        }
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
    config
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
