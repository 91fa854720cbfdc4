//! Taking definitions from a text that `export` has written, or somebody by hand.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::{self, VmConfig};
use crate::store::Row;
use crate::vm::VmName;

use super::add::{self, Source, row, uuid};
use super::claims::Claims;
use super::export::{Part, parts};
use super::{Error, Host, check};

/// A VM that was taken.
#[derive(Debug, Serialize)]
pub struct Imported {
    /// Its name.
    pub name: VmName,
    /// Whether there was one of that name, which it has taken the place of.
    pub replaced: bool,
    /// Files that its definition names and that are not there.
    pub missing: Vec<PathBuf>,
}

/// Adds all VMs of some texts, with the UUIDs that they have there, or none of them.
///
/// Disks are neither copied nor made. A VM of `replace` may be there already, and not
/// run: it gets another definition, and keeps all else.
///
/// # Errors
/// [`Error::AlreadyExists`], a UUID that another VM has, [`Error::Running`], and what is
/// wrong with a definition.
pub fn import(host: &Host, sources: &[Source], replace: &[VmName]) -> Result<Vec<Imported>, Error> {
    let mut rows: Vec<(Row, Option<Row>)> = Vec::new();
    let mut imported = Vec::new();
    let all: Vec<(&Source, Part<'_>)> = sources
        .iter()
        .flat_map(|source| parts(&source.text).into_iter().map(move |it| (source, it)))
        .collect();
    let claims = Claims::for_vms(host, all.len());
    for (source, part) in all {
        let (row, config) = read(&claims, source, &part, replace)?;
        claims.expect(&row, &config);
        if rows.iter().any(|(other, _)| other.name == row.name) {
            return Err(Error::Twice(row.name));
        }
        let old = host.store()?.get(&row.name)?;
        if let Some(old) = &old {
            if !replace.contains(&old.name) {
                return Err(Error::AlreadyExists(old.name.clone()));
            }
            if host.unit(&old.name)?.active_state.is_up() {
                return Err(Error::Running(old.name.clone()));
            }
        }
        imported.push(Imported {
            name: row.name.clone(),
            replaced: old.is_some(),
            missing: missing(host, &config),
        });
        rows.push((row, old));
    }
    if let Some(name) = replace
        .iter()
        .find(|name| !rows.iter().any(|(row, _)| row.name == **name))
    {
        return Err(Error::NotInText(name.clone()));
    }
    host.store()?.import(&rows)?;
    Ok(imported)
}

fn read(
    claims: &Claims<'_>,
    source: &Source,
    part: &Part<'_>,
    replace: &[VmName],
) -> Result<(Row, VmConfig), Error> {
    let host = claims.host;
    // Mistakes are told by their lines in the whole text.
    let text = "\n".repeat(part.lines_before) + part.definition;
    let old = match &part.mark {
        Some((name, _)) if replace.contains(name) => host.store()?.get(name)?,
        _ => None,
    };
    let judge = check::faults(claims, old.as_ref());
    let config = VmConfig::parse_checked(&text, &source.file, &host.defaults()?, judge)?;
    let id = match &part.mark {
        Some((name, id)) => {
            if config.name != *name {
                return Err(Error::OtherMark {
                    mark: name.clone(),
                    name: config.name,
                });
            }
            (*id).to_owned()
        }
        None => uuid()?,
    };
    if !is_uuid(&id) {
        return Err(Error::NoUuid {
            name: config.name,
            uuid: id,
        });
    }
    let definition = config::resolve(part.definition, &source.file)?;
    Ok((row(&config, definition, id, &source.file)?, config))
}

/// QEMU takes no other form (RFC 9562, section 4).
fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

/// Files that are named and not there.
fn missing(host: &Host, config: &VmConfig) -> Vec<PathBuf> {
    let dir = host.paths.vm(&config.name);
    let disks = config.disks.iter();
    let disks = disks.filter_map(|(name, disk)| disk.path(name, dir.path()));
    let others = [&config.kernel, &config.initrd].into_iter().flatten();
    disks
        .chain(others.cloned())
        .filter(|path| !path.exists())
        .collect()
}

/// Reads a text for [`import`].
pub fn source(file: &std::path::Path) -> Result<Source, Error> {
    add::read(file)
}
