//! What a disk of a definition becomes in QEMU.
//!
//! From the guest down: the device `disk-NAME`; with limits the node
//! `disk-NAME-limit` in the throttle group `disk-NAME-limits`; the node `disk-NAME` of
//! the format; the node `disk-NAME-file` of what is below. A thread that serves
//! disks is the object `iothread-NAME`.

use std::path::Path;

use super::part::{Kind, Part, SCSI, Setting, USB, virtio};
use crate::config::{
    Aio, Board, Cache, DetectZeroes, DeviceName, Discard, Disk, Interface, Throttle, is_device_node,
};

/// What a disk consists of, in the order in which QEMU must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The thread that serves it, which other disks may share.
    pub iothread: Option<Part>,
    /// The group that its limits belong to.
    pub limits: Option<Part>,
    /// The nodes of its image, the lowest first; none for an empty drive.
    pub nodes: Vec<Part>,
    /// What the guest sees.
    pub device: Part,
}

/// The id of a disk's device, and the name of the node of its format.
pub fn id(name: &DeviceName) -> String {
    format!("disk-{name}")
}

/// The names that the nodes of a disk have, the upper ones first.
pub fn node_names(id: &str) -> [String; 3] {
    [format!("{id}-limit"), id.to_owned(), format!("{id}-file")]
}

/// The name of the node of an overlay that a running disk goes on in, by a number that is
/// larger than those of the overlays below it.
pub fn layer_name(id: &str, number: i64) -> String {
    format!("{id}.{number}")
}

/// The number of the overlay whose node has that name, if it is one of the disk's.
pub fn layer(id: &str, node: &str) -> Option<i64> {
    node.strip_prefix(id)?.strip_prefix('.')?.parse().ok()
}

/// The id of the throttle group with the limits of the disk that has this id.
pub fn limits_id(id: &str) -> String {
    format!("{id}-limits")
}

/// The parts of a disk.
///
/// A SATA disk is on the port `sata`; every other one where its interface says.
pub fn parts(
    name: &DeviceName,
    disk: &Disk,
    board: Board,
    vm_dir: &Path,
    sata: Option<String>,
) -> Parts {
    let limits = limits(name, disk);
    let nodes = nodes(name, disk, vm_dir);
    let drive = nodes.last().map(Part::id);
    let device = device(name, disk, board, sata, drive);
    Parts {
        iothread: disk.iothread(name).map(|thread| {
            Part::new(Kind::Object, "qom-type", "iothread").with("id", iothread_id(thread))
        }),
        limits,
        nodes,
        device,
    }
}

fn iothread_id(thread: &DeviceName) -> String {
    format!("iothread-{thread}")
}

fn limits(name: &DeviceName, disk: &Disk) -> Option<Part> {
    let throttles = disk.limits.throttles();
    if throttles.is_empty() {
        return None;
    }
    let group =
        Part::new(Kind::Object, "qom-type", "throttle-group").with("id", limits_id(&id(name)));
    // The command line cannot say the structure `limits`, so these are its members.
    let number = |group: Part, key: String, number: Option<u64>| match number {
        Some(number) => group.set(&format!("x-{key}"), Setting::Int(number.cast_signed())),
        None => group,
    };
    Some(throttles.into_iter().fold(group, |group, throttle| {
        let Throttle { name, .. } = throttle;
        let group = number(group, name.to_owned(), Some(throttle.rate));
        let group = number(group, format!("{name}-max"), throttle.burst);
        number(group, format!("{name}-max-length"), throttle.burst_length)
    }))
}

fn nodes(name: &DeviceName, disk: &Disk, vm_dir: &Path) -> Vec<Part> {
    let Some(path) = disk.path(name, vm_dir) else {
        return Vec::new();
    };
    let [limit_node, format_node, file_node] = node_names(&id(name));
    let file_driver = if is_device_node(&path) {
        "host_device"
    } else {
        "file"
    };
    let access = |node: Part| match disk.discard {
        _ if disk.read_only => node.set("read-only", Setting::Bool(true)),
        Discard::Unmap => node.with("discard", "unmap"),
        Discard::Ignore => node,
    };
    // A node does not take these from the one above it.
    let cache = |mut node: Part| {
        if disk.cache.is_direct() {
            node = node.set("cache.direct", Setting::Bool(true));
        }
        if disk.cache == Cache::Unsafe {
            node = node.set("cache.no-flush", Setting::Bool(true));
        }
        node
    };
    let file = Part::new(Kind::Blockdev, "driver", file_driver)
        .with("node-name", &file_node)
        .with("filename", path);
    let file = match disk.aio {
        Aio::Threads => file,
        aio => file.with("aio", aio.as_str()),
    };
    let format = Part::new(Kind::Blockdev, "driver", disk.format.as_str())
        .with("node-name", &format_node)
        .with("file", file_node);
    let format = match disk.detect_zeroes {
        DetectZeroes::Off => format,
        DetectZeroes::On => format.with("detect-zeroes", "on"),
        DetectZeroes::Unmap => format.with("detect-zeroes", "unmap"),
    };
    let mut nodes = vec![access(cache(file)), access(cache(format))];
    if !disk.limits.throttles().is_empty() {
        let limit = Part::new(Kind::Blockdev, "driver", "throttle")
            .with("node-name", limit_node)
            .with("throttle-group", limits_id(&id(name)))
            .with("file", format_node);
        nodes.push(access(limit));
    }
    nodes
}

fn device(
    name: &DeviceName,
    disk: &Disk,
    board: Board,
    sata: Option<String>,
    drive: Option<&str>,
) -> Part {
    let (driver, bus) = match disk.interface {
        Interface::Virtio => (virtio(board, "virtio-blk").unwrap_or_default(), None),
        Interface::Scsi => ("scsi-hd".to_owned(), Some(format!("{SCSI}.0"))),
        Interface::Sata => ("ide-hd".to_owned(), sata),
        Interface::Cdrom => ("ide-cd".to_owned(), sata),
        Interface::Nvme => ("nvme".to_owned(), None),
        Interface::Usb => ("usb-storage".to_owned(), Some(format!("{USB}.0"))),
    };
    let mut device = Part::device(driver, id(name));
    if let Some(bus) = bus {
        device = device.on(&bus);
    }
    if let Some(drive) = drive {
        device = device.with("drive", drive);
    }
    device = device.with("serial", disk.serial(name));
    if !disk.cache.is_write_back() {
        // `on`, `off` or `auto`, which QMP takes as texts.
        device = device.with("write-cache", "off");
    }
    if disk.removable {
        device = device.set("removable", Setting::Bool(true));
    }
    for (key, number) in [
        ("bootindex", disk.boot_index.map(i64::from)),
        ("rotation_rate", disk.rotation_rate.map(i64::from)),
        ("logical_block_size", disk.logical_block_size.map(i64::from)),
        (
            "physical_block_size",
            disk.physical_block_size.map(i64::from),
        ),
    ] {
        if let Some(number) = number {
            device = device.set(key, Setting::Int(number));
        }
    }
    match disk.iothread(name) {
        Some(thread) => device.with("iothread", iothread_id(thread)),
        None => device,
    }
}
