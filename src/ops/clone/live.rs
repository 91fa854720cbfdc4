//! A running QEMU whose disks go on in overlays.

use std::path::Path;

use serde_json::{Value, json};

use crate::config::{Disk, Format, Limits, VmConfig};
use crate::ops::Error;
use crate::ops::Host;
use crate::ops::disk::resize::node;
use crate::ops::disk::{Defined, defined};
use crate::ops::operation::Id;
use crate::ops::snapshot::quiesce;
use crate::qemu::disk;
use crate::qmp::Monitor;

use super::plan::Layer;

/// Has the disks of a running VM go on in their overlays, all at one moment.
///
/// `config` is the definition that the VM goes by, with the bases as its images.
pub(super) fn switch(
    host: &Host,
    monitor: &mut Monitor,
    id: Id,
    config: &VmConfig,
    layers: &[Layer],
    quiesce: bool,
) -> Result<(), Error> {
    let mut actions = Vec::new();
    for it in defined(host, config) {
        let Some(own) = layers
            .iter()
            .find(|layer| layer.disk == it.name)
            .and_then(|layer| layer.own.as_deref())
        else {
            continue;
        };
        let (base, _) = node(monitor, &it)?;
        let overlay = disk::layer_name(&disk::id(&it.name), id.0);
        monitor.execute("blockdev-add", overlay_node(config, &it, own, &overlay))?;
        actions.push(json!({
            "type": "blockdev-snapshot",
            "data": { "node": base, "overlay": overlay },
        }));
    }
    let transaction = json!({ "actions": actions });
    quiesce::during(host, &config.name, monitor, quiesce, |monitor| {
        monitor.execute("transaction", transaction)
    })?;
    Ok(())
}

/// The node of an overlay that is not on top of its base yet.
fn overlay_node(config: &VmConfig, it: &Defined, own: &Path, name: &str) -> Value {
    let overlay = Disk {
        file: Some(own.to_owned()),
        format: Format::Qcow2,
        // Those stay above it.
        limits: Limits::default(),
        ..it.disk.clone()
    };
    let parts = disk::parts(&it.name, &overlay, config.board(), Path::new(""), None);
    let [mut file, mut node] = [0, 1].map(|index| parts.nodes[index].arguments());
    if let Some(file) = file.as_object_mut() {
        file.remove("node-name");
    }
    node["node-name"] = json!(name);
    node["file"] = file;
    node["backing"] = Value::Null;
    node
}

/// Whether a disk of a running VM is in one of these overlays.
pub(super) fn is_switched(monitor: &mut Monitor, layers: &[Layer]) -> Result<bool, Error> {
    let blocks = monitor.execute("query-block", ())?;
    let blocks = blocks.as_array().into_iter().flatten();
    let mut files = blocks.map(|block| &block["inserted"]["file"]);
    Ok(files.any(|file| {
        let mut own = layers.iter().filter_map(|layer| layer.own.as_ref());
        own.any(|own| *file == json!(own))
    }))
}

/// Closes overlays that nothing is in.
pub(super) fn close(monitor: &mut Monitor, id: Id, layers: &[Layer]) -> Result<(), Error> {
    let all = monitor.execute("query-named-block-nodes", json!({ "flat": true }))?;
    for layer in layers {
        let name = disk::layer_name(&disk::id(&layer.disk), id.0);
        let mut nodes = all.as_array().into_iter().flatten();
        if nodes.any(|node| node["node-name"] == *name) {
            monitor.execute("blockdev-del", json!({ "node-name": name }))?;
        }
    }
    Ok(())
}
