//! Images that snapshots are of: where they are, and what of them must not be written.

use std::path::Path;

use crate::config::{Document, path_text};
use crate::image::Chain;
use crate::ops::{Error, Host};
use crate::vm::VmName;

use super::{Facts, Overlay};

/// Has the snapshots of a VM know an image that was moved by its new place.
///
/// It can be done again.
pub(in crate::ops) fn follow(
    host: &Host,
    vm: &VmName,
    from: &Path,
    to: &Path,
) -> Result<(), Error> {
    let mut store = host.store()?;
    for snapshot in store.snapshots(vm)? {
        let facts = Facts::of(&snapshot)?;
        let path = |path: &Path| (path == from).then(|| to.to_owned());
        let moved = facts
            .clone()
            .renamed(|text| definition(host, vm, text, from, to), path)?;
        if moved != facts {
            store.set_facts(snapshot.id, &moved.text())?;
        }
    }
    Ok(())
}

/// The same definition, in which a disk has its image there.
fn definition(
    host: &Host,
    vm: &VmName,
    text: &str,
    from: &Path,
    to: &Path,
) -> Result<String, Error> {
    let dir = host.paths.vm(vm);
    let mut document = Document::parse(text, &dir.definition())?;
    for (name, disk) in &host.whole_config(vm, text)?.disks {
        if disk.path(name, dir.path()).is_some_and(|path| path == from) {
            document.set(
                &format!("disk.{name}.file"),
                path_text(to).unwrap_or_default(),
            )?;
            document.set(&format!("disk.{name}.format"), disk.format.as_str())?;
        }
    }
    Ok(document.to_string())
}

/// An image that a snapshot beside its images needs as it is, and all that it stands on.
pub(in crate::ops) struct StoodOn {
    pub vm: VmName,
    pub snapshot: String,
    pub overlay: Overlay,
    pub chain: Chain,
}

/// What the snapshots of all VMs need as it is.
pub(in crate::ops) fn stood_on(host: &Host) -> Result<Vec<StoodOn>, Error> {
    let Some(store) = host.existing_store()? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for (vm, snapshot) in store.all_snapshots()? {
        for overlay in Facts::of(&snapshot)?.overlays {
            found.push(StoodOn {
                vm: vm.clone(),
                snapshot: snapshot.name.clone(),
                chain: Chain::of(&overlay.base, &overlay.format),
                overlay,
            });
        }
    }
    Ok(found)
}
