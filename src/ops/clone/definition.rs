//! What a clone is by its definition, and what its source is then.

use std::path::Path;

use crate::config::{self, Assignment, DeviceName, Document, VmConfig, path_text};
use crate::ops::disk::{defined, text};
use crate::ops::{Error, Host};
use crate::store::Row;
use crate::vm::VmName;

use super::plan::Layer;

/// The definition of the source, but for what only one of the two can have.
pub(super) fn of_clone(
    host: &Host,
    row: &Row,
    config: &VmConfig,
    new: &VmName,
    layers: &[Layer],
    set: &[Assignment],
) -> Result<String, Error> {
    let file = host.paths.vm(&row.name).definition();
    let mut document = Document::parse(&row.definition, &file)?;
    document.set("name", new.as_str())?;
    document.remove("protect");
    for net in config.nets.keys() {
        let table = format!("net.{net}");
        if document.remove(&format!("{table}.mac")) {
            document.add_table(&table)?;
        }
    }
    if document.remove("vsock.cid") && !document.says("vsock") {
        document.set("vsock", true)?;
    }
    for it in defined(host, config) {
        match layers.iter().find(|layer| layer.disk == it.name) {
            Some(layer) => name(&mut document, &it.name, &layer.file)?,
            // In the directory of the source, it may have no name of its own.
            None if it.disk.file.is_none() => {
                let key = format!("disk.{}.file", it.name);
                document.set(&key, text(&it.path)?)?;
            }
            None => {}
        }
    }
    let defaults = host.defaults()?;
    for word in set {
        document.assign(word, &defaults)?;
    }
    Ok(document.to_string())
}

/// Has disks of a definition be as another one says.
pub(super) fn take_back(
    document: &mut Document,
    before: &Document,
    layers: &[Layer],
) -> Result<(), config::Error> {
    for layer in layers.iter().filter(|layer| layer.own.is_some()) {
        for word in ["file", "format"] {
            document.restore(before, &format!("disk.{}.{word}", layer.disk))?;
        }
    }
    Ok(())
}

/// Has the disks of the source go on in overlays.
pub(super) fn in_overlays(document: &mut Document, layers: &[Layer]) -> Result<(), config::Error> {
    for layer in layers {
        if let Some(own) = &layer.own {
            name(document, &layer.disk, own)?;
        }
    }
    Ok(())
}

/// Has a disk name its image, whose format follows from that.
fn name(document: &mut Document, disk: &DeviceName, file: &Path) -> Result<(), config::Error> {
    // Directories of maqet's own are UTF-8 (paths::Error::NotUtf8).
    if let Some(text) = path_text(file) {
        document.set(&format!("disk.{disk}.file"), text)?;
    }
    document.remove(&format!("disk.{disk}.format"));
    Ok(())
}
