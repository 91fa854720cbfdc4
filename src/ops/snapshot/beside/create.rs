//! Making a snapshot beside images.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::image::Chain;
use crate::ops::operation::{Id, Plan as AnyPlan, Work};
use crate::ops::reach::Reach;
use crate::ops::{Error, Host, save};
use crate::qmp::Client;
use crate::store::Row;

use super::super::create::{Created, Options};
use super::super::disks::Disks;
use super::super::{Error as Why, Facts, quiesce};
use super::{Overlay, Plan, Side, What, free_name, make, node_of, point};

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
    let overlays = overlays(host, row, &mut reach)?;
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
    Ok(Created {
        vm: vm.clone(),
        name: name.to_owned(),
        disks,
        memory_bytes: None,
    })
}

/// The overlays that a snapshot needs, or what is in its way.
fn overlays(host: &Host, row: &Row, reach: &mut Reach) -> Result<Vec<Overlay>, Error> {
    let vm = &row.name;
    let config = host.config(row)?;
    let dir = host.paths.vm(vm);
    let mut obstacles = Vec::new();
    let mut overlays = Vec::new();
    for (name, disk) in config.disks.iter().filter(|(_, disk)| !disk.read_only) {
        let Some(base) = disk.path(name, dir.path()) else {
            continue;
        };
        if !base.exists() {
            return Err(Error::NoDisk {
                disk: name.to_string(),
                path: base,
            });
        }
        let format = disk.format.as_str();
        Chain::of(&base, format)
            .sound()
            .map_err(crate::image::Error::from)?;
        overlays.push(Overlay {
            disk: name.clone(),
            file: free_name(host, vm, name),
            format: format.to_owned(),
            base,
        });
    }
    match reach {
        Reach::Stopped(_) => save::require_none(host, vm)?,
        Reach::Running(monitor) => {
            for path in Disks::of_qemu(monitor)?.paths() {
                if overlays.iter().all(|overlay| overlay.base != path) {
                    let path = path.display();
                    obstacles.push(format!("{path} is not in its definition"));
                }
            }
        }
    }
    if overlays.is_empty() {
        obstacles.push("it has no disk that it can write to".to_owned());
    }
    match obstacles.is_empty() {
        true => Ok(overlays),
        false => Err(Why::Obstacles {
            doing: "a snapshot of",
            vm: vm.clone(),
            obstacles,
        }
        .into()),
    }
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
