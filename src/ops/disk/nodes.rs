//! The nodes that a running QEMU has of a disk, found from its device down.
//!
//! Only those of a disk as it was started go by its name: one that goes on in an overlay, or
//! in a copy, has others ([`disk::layer_name`]).

use std::path::Path;

use serde_json::{Value, json};

use crate::config::{Board, DeviceName, Disk, Format, Limits};
use crate::ops::Error;
use crate::qemu::disk;
use crate::qmp::Client;
use crate::vm::VmName;

use super::{Defined, Error as Why};

/// Nodes that are above that of an image, and have its content: limits, and what QEMU itself
/// puts there while a job copies.
const FILTERS: [&str; 3] = ["throttle", "mirror_top", "commit_top"];

/// The nodes of a disk that has an image.
#[derive(Clone, Debug)]
pub(in crate::ops) struct Nodes {
    /// The id of its device.
    pub device: String,
    /// What the device has: the node of its limits, or that of the image.
    pub root: String,
    /// That of its own image's format.
    pub image: String,
    /// That of the image which is below that.
    pub backing: Option<String>,
    /// What QEMU says of its own image (`BlockDeviceInfo`, qapi/block-core.json).
    pub said: Value,
}

impl Nodes {
    /// Those of the disk whose device has this id; `None` if there is none, or it is empty.
    pub fn find(monitor: &mut Client, id: &str) -> Result<Option<Self>, Error> {
        let all = Self::all(monitor)?;
        Ok(all.into_iter().find(|nodes| nodes.device == id))
    }

    /// Those of a disk that a running VM has with this image, and writes to.
    ///
    /// # Errors
    /// [`Why::NotPlugged`].
    pub fn of(monitor: &mut Client, vm: &VmName, it: &Defined) -> Result<Self, Error> {
        let found = Self::with(monitor, &it.name, &it.path)?;
        let found = found.filter(|nodes| !nodes.is_read_only());
        let not_plugged = || Why::NotPlugged {
            vm: vm.clone(),
            disk: it.name.clone(),
        };
        found.ok_or_else(|| not_plugged().into())
    }

    /// Those of a disk that a running VM has with the image at `file`.
    pub fn with(
        monitor: &mut Client,
        name: &DeviceName,
        file: &Path,
    ) -> Result<Option<Self>, Error> {
        let nodes = Self::find(monitor, &disk::id(name))?;
        Ok(nodes.filter(|nodes| nodes.file() == file.to_str()))
    }

    /// Those of all disks, but for empty drives.
    pub fn all(monitor: &mut Client) -> Result<Vec<Self>, Error> {
        let blocks = monitor.execute("query-block", ())?;
        // In no other way QEMU 7.2 and 10.0 tell which node is below which.
        let graph = monitor.execute("x-debug-query-block-graph", ())?;
        let all = monitor.execute("query-named-block-nodes", json!({ "flat": true }))?;
        let blocks = blocks.as_array().into_iter().flatten();
        let found = blocks.filter_map(|block| {
            let root = block["inserted"]["node-name"].as_str()?;
            let device = device_of(block).filter(|id| !id.is_empty());
            Some(Self {
                device: device.or(block["device"].as_str())?.to_owned(),
                ..Self::below(root, &graph, &all)?
            })
        });
        Ok(found.collect())
    }

    /// The image below a node, filters left out.
    fn below(root: &str, graph: &Value, all: &Value) -> Option<Self> {
        let said = |name: &str| {
            let mut all = all.as_array().into_iter().flatten();
            all.find(|node| node["node-name"] == name)
        };
        let mut image = root.to_owned();
        while said(&image)?["drv"]
            .as_str()
            .is_some_and(|driver| FILTERS.contains(&driver))
        {
            image = child(graph, &image, "file").or_else(|| child(graph, &image, "backing"))?;
        }
        Some(Self {
            device: String::new(),
            root: root.to_owned(),
            backing: child(graph, &image, "backing"),
            said: said(&image)?.clone(),
            image,
        })
    }

    /// Whether the guest may only read it.
    pub fn is_read_only(&self) -> bool {
        self.said["ro"] != false
    }

    /// The file of the image.
    pub fn file(&self) -> Option<&str> {
        self.said["file"].as_str()
    }

    /// The size of the disk, in bytes.
    pub fn size(&self) -> Option<u64> {
        self.said["image"]["virtual-size"].as_u64()
    }
}

/// The id of the device that an element of `query-block` is about.
pub(super) fn device_of(block: &Value) -> Option<&str> {
    // With a part of the device behind it, for some.
    let path = block["qdev"].as_str()?;
    path.trim_start_matches("/machine/peripheral/")
        .split('/')
        .next()
}

/// The node that is that child of another one, in what `x-debug-query-block-graph` answers.
fn child(graph: &Value, parent: &str, kind: &str) -> Option<String> {
    let nodes = || graph["nodes"].as_array().into_iter().flatten();
    let is_node = |node: &&Value| node["type"] == "block-driver" && node["name"] == parent;
    let parent = &nodes().find(is_node)?["id"];
    let mut edges = graph["edges"].as_array().into_iter().flatten();
    let edge = edges.find(|edge| edge["parent"] == *parent && edge["name"] == kind)?;
    let child = nodes().find(|node| node["id"] == edge["child"])?;
    child["name"].as_str().map(str::to_owned)
}

/// The node of another image that a disk is to go on in: `blockdev-add`'s arguments. It stands
/// on the node `backing`, or on none, whatever the image says.
pub(in crate::ops) fn other_image(
    it: &Defined,
    board: Board,
    (file, format): (&Path, Format),
    name: &str,
    backing: Option<&str>,
) -> Value {
    let other = Disk {
        file: Some(file.to_owned()),
        format,
        // Those stay above it.
        limits: Limits::default(),
        ..it.disk.clone()
    };
    let parts = disk::parts(&it.name, &other, board, Path::new(""), None);
    let [mut below, mut node] = [0, 1].map(|index| parts.nodes[index].arguments());
    if let Some(below) = below.as_object_mut() {
        below.remove("node-name");
    }
    node["node-name"] = json!(name);
    node["file"] = below;
    if format == Format::Qcow2 {
        node["backing"] = json!(backing);
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_of_a_disk_is_found_below_limits_and_a_job() {
        // As QEMU 7.2 answers while a disk with limits is copied, in part.
        let graph = json!({
            "nodes": [
                { "id": 1, "type": "block-driver", "name": "#block105" },
                { "id": 2, "type": "block-driver", "name": "disk-a-limit" },
                { "id": 3, "type": "block-driver", "name": "disk-a.4" },
                { "id": 4, "type": "block-driver", "name": "disk-a-file" },
                { "id": 5, "type": "block-driver", "name": "disk-a" },
                { "id": 6, "type": "block-backend", "name": "disk-a" },
            ],
            "edges": [
                { "name": "root", "parent": 6, "child": 1 },
                { "name": "backing", "parent": 1, "child": 2 },
                { "name": "file", "parent": 2, "child": 3 },
                { "name": "file", "parent": 3, "child": 4 },
                { "name": "backing", "parent": 3, "child": 5 },
            ],
        });
        let all = json!([
            { "node-name": "#block105", "drv": "mirror_top", "file": "" },
            { "node-name": "disk-a-limit", "drv": "throttle", "file": "json:{}" },
            { "node-name": "disk-a.4", "drv": "qcow2", "file": "/x", "image": { "virtual-size": 7 } },
        ]);
        let nodes = Nodes::below("#block105", &graph, &all).unwrap();
        assert_eq!(nodes.image, "disk-a.4");
        assert_eq!(nodes.backing.as_deref(), Some("disk-a"));
        assert_eq!((nodes.file(), nodes.size()), (Some("/x"), Some(7)));
        assert!(Nodes::below("gone", &graph, &all).is_none());
    }
}
