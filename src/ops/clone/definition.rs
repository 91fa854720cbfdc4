//! What a clone is by its definition, and what its source is then.

use std::path::Path;

use crate::config::{Assignment, DeviceName, Document, VmConfig};
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
    for word in set {
        document.assign(word)?;
    }
    Ok(document.to_string())
}

/// The definition of the source whose disks go on in overlays.
pub(super) fn of_source(definition: &str, file: &Path, layers: &[Layer]) -> Result<String, Error> {
    let mut document = Document::parse(definition, file)?;
    for layer in layers {
        if let Some(own) = &layer.own {
            name(&mut document, &layer.disk, own)?;
        }
    }
    Ok(document.to_string())
}

/// Has a disk name an overlay as its image.
fn name(document: &mut Document, disk: &DeviceName, file: &Path) -> Result<(), Error> {
    let key = |word: &str| format!("disk.{disk}.{word}");
    document.set(&key("file"), text(file)?)?;
    // What follows from the name of a file is this one.
    document.remove(&key("format"));
    Ok(())
}
