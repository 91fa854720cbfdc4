//! The definitions of a running VM: the stored one, and the one that it runs with.
//!
//! The second follows what is plugged and unplugged ([`InForce`]).

use std::path::Path;

use crate::config::{self, Document, VmConfig};
use crate::vm::VmName;

use super::super::in_force::InForce;
use super::super::{Host, add};
use super::{Error, Target};

/// How often a definition is read anew because someone else has changed it.
const TRIES: usize = 100;

/// A change of a definition's text, to be made to whichever text there is.
pub(in crate::ops) type Edit<'a> = &'a dyn Fn(&mut Document) -> Result<(), config::Error>;

/// Reads a text, changes it and checks the result.
pub(in crate::ops) fn edited(
    host: &Host,
    text: &str,
    file: &Path,
    edit: Edit<'_>,
) -> Result<(Document, VmConfig), crate::ops::Error> {
    let mut document = Document::parse(text, file)?;
    edit(&mut document)?;
    let config = VmConfig::parse_with(&document.to_string(), file, &host.defaults()?)?;
    Ok((document, config))
}

/// Changes the stored definition, whoever else does so at the same time.
pub(in crate::ops) fn keep(
    host: &Host,
    name: &VmName,
    edit: Edit<'_>,
) -> Result<(), crate::ops::Error> {
    let file = host.paths.vm(name).definition();
    for _ in 0..TRIES {
        let row = host.vm(name)?;
        let (document, config) = edited(host, &row.definition, &file, edit)?;
        let new = add::row(&config, document.to_string(), row.uuid.clone(), &file)?;
        if new == row || host.store()?.replace(&row.definition, &new)? {
            return Ok(());
        }
    }
    Err(Error::Contended(name.clone()).into())
}

/// Changes the definition that the VM goes by. To be called while its monitor is held.
pub(in crate::ops) fn note(host: &Host, name: &VmName, edit: Edit<'_>) {
    let note = || -> Result<(), crate::ops::Error> {
        if let Some(mut in_force) = InForce::take(host, name)? {
            let mut document = in_force.definition.document.clone();
            edit(&mut document)?;
            in_force.note(document)?;
        }
        Ok(())
    };
    // It is for `status` to show what differs; nothing is wrong with the VM itself.
    let _ = note();
}

/// Puts a device into a definition, as `with` has it.
pub(super) fn with(
    document: &mut Document,
    with: &Document,
    target: &Target,
) -> Result<(), config::Error> {
    if matches!(target, Target::Net(_)) {
        write_default_net(document)?;
    }
    match target.table() {
        Some(table) if !document.says(&table) => document.copy(with, &table),
        _ => Ok(()),
    }
}

/// Takes a device out of a definition.
pub(super) fn without(document: &mut Document, target: &Target) -> Result<(), config::Error> {
    if matches!(target, Target::Net(_)) {
        write_default_net(document)?;
    }
    if let Some(table) = target.table() {
        document.remove(&table);
    }
    if matches!(target, Target::Net(_)) {
        // Without the table there would be the default network.
        document.add_table("net")?;
    }
    Ok(())
}

/// Writes down the network that a definition without any has, before there is another or none.
pub(super) fn write_default_net(document: &mut Document) -> Result<(), config::Error> {
    let text = document.to_string();
    let config = VmConfig::parse(&text, Path::new("definition.toml"))?;
    if !document.says("net") {
        for name in config.nets.keys() {
            document.add_table(&format!("net.{name}"))?;
        }
    }
    Ok(())
}
