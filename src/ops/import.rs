//! Taking definitions from a text that `export` has written, or somebody by hand.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::{self, Document, VmConfig};
use crate::store::Row;
use crate::systemd::boot;
use crate::vm::VmName;

use super::add::{self, Source, row};
use super::claims::Claims;
use super::export::{Part, parts};
use super::{Error, Host, TRIES, check};

/// A VM that was taken.
#[derive(Debug, Serialize)]
pub struct Imported {
    /// Its name.
    pub name: VmName,
    /// Whether there was one of that name, which it has taken the place of.
    pub replaced: bool,
    /// Files that its definition names and that are not there.
    pub missing: Vec<PathBuf>,
    /// Whether it starts at boot, as it did where it is from; unknown for one that did not.
    pub enabled: Option<bool>,
    /// What may be in its way one day.
    pub warnings: Vec<String>,
}

/// Adds all VMs of some texts, with the UUIDs that they have there, or none of them.
///
/// Disks are neither copied nor made; those that are in a VM's own directory are taken for
/// made by maqet. What started at boot does so again. A VM of `replace` may be there already, and not
/// run: it gets another definition, and keeps all else.
///
/// # Errors
/// [`Error::AlreadyExists`], a UUID that another VM has, [`Error::Running`], and what is
/// wrong with a definition.
pub fn import(host: &Host, sources: &[Source], replace: &[VmName]) -> Result<Vec<Imported>, Error> {
    for _ in 0..TRIES {
        if let Some(imported) = try_import(host, sources, replace)? {
            return Ok(imported);
        }
    }
    Err(Error::Contended)
}

/// The same, if nobody else comes to want what these VMs want meanwhile.
fn try_import(
    host: &Host,
    sources: &[Source],
    replace: &[VmName],
) -> Result<Option<Vec<Imported>>, Error> {
    let mut rows: Vec<(Row, Option<Row>)> = Vec::new();
    let (mut imported, mut configs) = (Vec::new(), Vec::new());
    let (mut enabled, mut own) = (Vec::new(), Vec::new());
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
        if part.mark.is_some_and(|mark| mark.enabled) {
            enabled.push(row.name.clone());
        }
        own.extend(own_disks(host, &config));
        imported.push(Imported {
            name: row.name.clone(),
            replaced: old.is_some(),
            missing: missing(host, &config),
            enabled: None,
            warnings: Vec::new(),
        });
        configs.push(config);
        rows.push((row, old));
    }
    if let Some(name) = replace
        .iter()
        .find(|name| !rows.iter().any(|(row, _)| row.name == **name))
    {
        return Err(Error::NotInText(name.clone()));
    }
    let mut store = host.store()?;
    if !store.import(&rows, |store| claims.still_hold(store))? {
        return Ok(None);
    }
    for (name, disk) in &own {
        store.record_disk(name, &add::made_disk(disk)?)?;
    }
    // They are there: what does not start at boot is told.
    let is_done = enabled.is_empty() || boot::enable(&host.scope, &enabled).is_ok();
    for ((vm, config), (_, old)) in imported.iter_mut().zip(&configs).zip(&rows) {
        vm.enabled = enabled.contains(&vm.name).then_some(is_done);
        let before = old.as_ref().and_then(|old| host.config(old).ok());
        vm.warnings = check::new_warnings(&claims, config, before.as_ref());
    }
    Ok(Some(imported))
}

/// The disks that are there where only maqet makes some: in the VM's own directory.
fn own_disks(host: &Host, config: &VmConfig) -> Vec<(VmName, PathBuf)> {
    let dir = host.paths.vm(&config.name);
    let disks = config.disks.iter();
    disks
        .filter(|(_, disk)| disk.file.is_none())
        .filter_map(|(name, disk)| disk.path(name, dir.path()))
        .filter(|path| path.exists())
        .map(|path| (config.name.clone(), path))
        .collect()
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
    if Document::parse(&text, &source.file)?.says("extends") {
        return Err(Error::Extends(source.file.clone()));
    }
    let old = match &part.mark {
        Some(mark) if replace.contains(&mark.name) => host.store()?.get(&mark.name)?,
        _ => None,
    };
    let judge = check::faults(claims, old.as_ref());
    let config = VmConfig::parse_checked(&text, &source.file, &host.defaults()?, judge)?;
    let id = match &part.mark {
        Some(mark) => {
            if config.name != mark.name {
                return Err(Error::OtherMark {
                    mark: mark.name.clone(),
                    name: config.name,
                });
            }
            mark.uuid.to_owned()
        }
        None => claims.new_uuid(&config)?,
    };
    if !is_uuid(&id) {
        return Err(Error::NoUuid {
            name: config.name,
            uuid: id,
        });
    }
    if old.is_none() {
        check::addresses(claims, &id, &config)?;
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
