//! A disk in the definition of its VM.

use std::path::{Path, PathBuf};

use crate::config::{self, DeviceName, Document, VmConfig, path_text};
use crate::ops::device::definition::{edited, keep, note};
use crate::ops::{Error, Host};
use crate::store::Row;
use crate::vm::VmName;

use super::{Defined, Error as Why, find};

/// What a disk is to be in the definition.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Keys of its table with their values, `key=value`.
    pub words: Vec<String>,
    /// What relative paths in them are relative to.
    pub dir: PathBuf,
}

/// A disk that a definition is to have, which is checked.
pub(super) struct New {
    pub it: Defined,
    /// The definition that has it.
    pub config: VmConfig,
    with: Document,
}

impl New {
    /// The disk with these settings, in a definition that has none of that name.
    pub fn read(
        host: &Host,
        row: &Row,
        disk: &DeviceName,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let table = format!("disk.{disk}");
        let file = host.paths.vm(&row.name).definition();
        if Document::parse(&row.definition, &file)?.says(&table) {
            return Err(Why::Exists {
                vm: row.name.clone(),
                disk: disk.clone(),
            }
            .into());
        }
        let write =
            |document: &mut Document| document.set_words(&table, &settings.words, &settings.dir);
        let (with, config) =
            edited(host, &row.definition, &file, &write).map_err(|error| told(disk, error))?;
        Ok(Self {
            it: find(host, &config, disk)?,
            config,
            with,
        })
    }

    /// Writes it into the definition, whatever else is changed there meanwhile.
    pub fn keep(&self, host: &Host, row: &Row) -> Result<(), Error> {
        let table = format!("disk.{}", self.it.name);
        keep(host, &row.name, &|document| {
            document.copy(&self.with, &table)
        })
    }
}

/// Changes the table of a disk.
pub(super) fn change(
    host: &Host,
    name: &VmName,
    disk: &DeviceName,
    values: &[(&str, toml_edit::Value)],
) -> Result<(), Error> {
    keep(host, name, &|document| set(document, disk, values))
}

/// The same in that which a running VM goes by, too. To be called while its monitor is held.
pub(super) fn point(
    host: &Host,
    name: &VmName,
    disk: &DeviceName,
    values: &[(&str, toml_edit::Value)],
) -> Result<(), Error> {
    change(host, name, disk, values)?;
    note(host, name, &|document| set(document, disk, values));
    Ok(())
}

fn set(
    document: &mut Document,
    disk: &DeviceName,
    values: &[(&str, toml_edit::Value)],
) -> Result<(), config::Error> {
    let table = format!("disk.{disk}");
    // One that was taken out since is nobody's.
    if !document.says(&table) {
        return Ok(());
    }
    values
        .iter()
        .try_for_each(|(key, value)| document.set(&format!("{table}.{key}"), value.clone()))
}

/// Takes a disk out of the definition.
pub(super) fn forget(host: &Host, config: &VmConfig, disk: &DeviceName) -> Result<(), Error> {
    keep(host, &config.name, &|document| {
        document.remove(&format!("disk.{disk}"));
        Ok(())
    })
}

/// The word of a command line that names a file.
pub(super) fn file_word(file: &Path) -> Result<String, Error> {
    text(file)?;
    Ok(format!("file={}", file.display()))
}

/// A path as a definition has it.
pub(in crate::ops) fn text(path: &Path) -> Result<String, Error> {
    path_text(path).ok_or_else(|| {
        let why = std::io::Error::from(std::io::ErrorKind::InvalidInput);
        Error::io(format_args!(
            "cannot write {} into a definition",
            path.display()
        ))(why)
    })
}

/// A mistake in words rather than in a file.
fn told(disk: &DeviceName, error: Error) -> Error {
    match error {
        Error::Config(error) => {
            let mistakes = error.mistakes().iter();
            let said: Vec<&str> = mistakes.map(|mistake| mistake.message.as_str()).collect();
            Why::Settings {
                disk: disk.clone(),
                message: said.join("; "),
            }
            .into()
        }
        other => other,
    }
}
