//! A running QEMU whose disks go on in overlays.

use serde_json::json;

use crate::config::{Format, VmConfig};
use crate::ops::Error;
use crate::ops::Host;
use crate::ops::disk::{Nodes, defined, other_image};
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
        let base = Nodes::of(monitor, &config.name, &it)?.image;
        let overlay = disk::layer_name(&disk::id(&it.name), id.0);
        let image = (own, Format::Qcow2);
        let node = other_image(&it, config.board(), image, &overlay, None);
        monitor.execute("blockdev-add", node)?;
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

/// Whether a disk of a running VM is in one of these overlays.
pub(super) fn is_switched(monitor: &mut Monitor, layers: &[Layer]) -> Result<bool, Error> {
    for layer in layers {
        let nodes = Nodes::find(monitor, &disk::id(&layer.disk))?;
        let own = layer.own.as_ref().and_then(|own| own.to_str());
        if own.is_some() && nodes.as_ref().and_then(Nodes::file) == own {
            return Ok(true);
        }
    }
    Ok(false)
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
