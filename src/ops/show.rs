//! What a VM is made of.

use std::ffi::OsString;
use std::path::Path;

use crate::config::{Explained, Layer, Layers, VmConfig};
use crate::qemu::argv::Sockets;
use crate::store::Row;
use crate::vm::VmName;

use super::{Error, Host, prepare};

/// A definition: as it was written, and as it is read.
#[derive(Debug)]
pub struct Shown {
    /// The text, with absolute paths.
    pub text: String,
    /// What it says, with all defaults filled in.
    pub config: VmConfig,
    /// The VM's UUID.
    pub uuid: String,
}

/// Shows a VM's definition.
pub fn show(host: &Host, name: &VmName) -> Result<Shown, Error> {
    let row = host.vm(name)?;
    Ok(Shown {
        config: host.config(&row)?,
        text: row.definition,
        uuid: row.uuid,
    })
}

/// All values of a VM, and where each comes from: the definition, the user's defaults, or
/// neither.
pub fn values(host: &Host, name: &VmName) -> Result<Vec<Explained>, Error> {
    let row = host.vm(name)?;
    let layer = Layer::file(Path::new("definition"), row.definition);
    let layers = Layers::load(vec![layer], &host.paths.templates())?;
    Ok(layers.explain(&host.defaults()?)?)
}

/// The QEMU command line that the definition becomes.
///
/// Sockets are named by their paths, where the unit passes descriptors: so it
/// can be run by hand, in a runtime directory that exists.
pub fn argv(host: &Host, name: &VmName) -> Result<Vec<OsString>, Error> {
    let row: Row = host.vm(name)?;
    let config = host.config(&row)?;
    let sockets = Sockets::in_dir(host.paths.sockets(name).path(), &config);
    prepare::command_line(host, &row, &config, sockets, None)
}
