//! Making a snapshot beside images.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::config::{DeviceName, VmConfig};
use crate::image;
use crate::ops::disk::{Defined, Nodes, guard};
use crate::ops::operation::{Id, Plan as AnyPlan, Work};
use crate::ops::reach::Reach;
use crate::ops::{Doing, Error, Host, Obstacle, save};
use crate::qemu;
use crate::qmp::Client;
use crate::store::Row;

use super::super::create::{Created, Options};
use super::super::disks::{Disks, tell_waiting, waiting};
use super::super::{Facts, nothing_in_the_way, quiesce};
use super::{Overlay, Plan, Side, What, free_name, make, node_of, point, unplugged};

/// Makes a snapshot of the disks of a VM, each with an overlay of its own.
pub(in crate::ops::snapshot) fn create(
    host: &Host,
    work: &Work<'_>,
    row: &Row,
    mut reach: Reach,
    name: &str,
    options: &Options<'_>,
) -> Result<Created, Error> {
    let vm = &row.name;
    let config = host.config(row)?;
    let waiting = waiting(host, &config, &mut reach)?;
    let overlays = overlays(host, &config, &waiting, &mut reach)?;
    let below = Disks::look(host, &config, &mut reach)?.names();
    let disks: Vec<PathBuf> = overlays.iter().map(|it| it.base.clone()).collect();
    let facts = Facts {
        definition: row.definition.clone(),
        disks: disks.clone(),
        memory: None,
        overlays: overlays.clone(),
        is_merging: false,
    };
    let facts = facts.text();
    let plan = AnyPlan::Beside(Plan {
        what: What::Create {
            facts: facts.clone(),
            description: options.description.map(str::to_owned),
        },
        name: name.to_owned(),
        overlays: overlays.clone(),
        was_running: false,
    });
    work.perform(&plan, reach, |id, reach| {
        make(host, vm, id, &overlays)?;
        if (options.interrupted)() {
            return Err(Error::Interrupted);
        }
        point(host, vm, &overlays, Side::Overlays)?;
        match reach {
            Reach::Running(monitor) => {
                quiesce::during(host, vm, monitor, options.quiesce, |monitor| {
                    switch(monitor, id, &overlays)
                })?;
            }
            Reach::Stopped(_) => {}
        }
        host.store()?
            .add_snapshot(vm, name, options.description, &facts, id.0)?;
        Ok(())
    })?;
    tell_waiting(host, vm, &waiting);
    Ok(Created {
        vm: vm.clone(),
        name: name.to_owned(),
        disks,
        memory_bytes: None,
        below,
    })
}

/// The overlays that a snapshot needs, or what is in its way.
fn overlays(
    host: &Host,
    config: &VmConfig,
    waiting: &[DeviceName],
    reach: &mut Reach,
) -> Result<Vec<Overlay>, Error> {
    let vm = &config.name;
    let dir = host.paths.vm(vm);
    let mut obstacles: Vec<Obstacle> = Vec::new();
    let mut overlays = Vec::new();
    for (name, disk) in config.disks.iter().filter(|(_, disk)| !disk.read_only) {
        if waiting.contains(name) {
            continue;
        }
        let Some(base) = disk.path(name, dir.path()) else {
            continue;
        };
        if !base.exists() {
            return Err(Error::NoDisk {
                disk: name.to_string(),
                path: base,
            });
        }
        let it = Defined {
            name: name.clone(),
            disk: disk.clone(),
            path: base,
        };
        guard::sound(vm, &it)?;
        let file = free_name(host, vm, name);
        image::require_writable(&file)?;
        overlays.push(Overlay {
            file,
            format: it.disk.format.as_str().to_owned(),
            disk: it.name,
            base: it.path,
        });
    }
    match reach {
        Reach::Stopped(_) => save::require_none(host, vm)?,
        Reach::Running(monitor) => {
            let all: Vec<_> = overlays.iter().map(|it| (&it.disk, &it.base)).collect();
            obstacles.extend(unplugged(monitor, vm, &all)?);
            for path in Disks::of_qemu(monitor)?.paths() {
                if overlays.iter().all(|overlay| overlay.base != path) {
                    obstacles.push(undefined(monitor, config, path)?);
                }
            }
        }
    }
    if overlays.is_empty() {
        obstacles.push("it has no disk that it can write to".into());
    }
    nothing_in_the_way(Doing::Snapshot, vm, obstacles)?;
    Ok(overlays)
}

/// An image that a running QEMU has and the definition has not.
fn undefined(monitor: &mut Client, config: &VmConfig, file: PathBuf) -> Result<Obstacle, Error> {
    let mut all = Nodes::all(monitor)?.into_iter();
    let nodes = all.find(|nodes| nodes.file() == file.to_str());
    // A disk of which the definition names another image is not to be unplugged for that.
    let is_defined = |id: &str| config.disks.keys().any(|disk| qemu::disk::id(disk) == id);
    let device = nodes.map(|nodes| nodes.device);
    Ok(Obstacle::Undefined {
        device: device.filter(|id| !is_defined(id)),
        file,
    })
}

/// Has a running QEMU go on in overlays, at one moment for all of them.
fn switch(monitor: &mut Client, id: Id, overlays: &[Overlay]) -> Result<(), Error> {
    let mut actions: Vec<Value> = Vec::new();
    for (index, overlay) in overlays.iter().enumerate() {
        actions.push(json!({
            "type": "blockdev-snapshot-sync",
            "data": {
                "node-name": node_of(monitor, &overlay.base)?,
                "snapshot-file": overlay.file,
                "format": "qcow2",
                "mode": "existing",
                "snapshot-node-name": format!("{}-{index}", id.job()),
            },
        }));
    }
    monitor.execute("transaction", json!({ "actions": actions }))?;
    Ok(())
}
