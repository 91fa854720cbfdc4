//! What maqet keeps, and whether it is in accord with what runs.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use crate::config::VmConfig;
use crate::store;
use crate::systemd::{self, ActiveState, boot};
use crate::vm::VmName;

use super::super::ls::{State, ls, vm_of};
use super::super::save::settle;
use super::super::{Error, Host, disk, prepare};
use super::{Finding, with_causes};

pub(super) const REBUILD: &str = "maqet doctor --rebuild";

/// The user's defaults.
pub(super) fn config_file(host: &Host) -> Vec<Finding> {
    const CHECK: &str = "config.toml";
    let file = host.paths.config_file();
    vec![match host.defaults() {
        Ok(_) if file.exists() => Finding::ok(CHECK, file.display().to_string()),
        Ok(_) => Finding::ok(CHECK, "there is none, and none is needed"),
        Err(error) => {
            Finding::error(CHECK, with_causes(&error)).mend(format!("editor {}", file.display()))
        }
    }]
}

/// Whether the database opens and is sound.
pub(super) fn database(host: &Host) -> Vec<Finding> {
    const CHECK: &str = "database";
    let path = host.paths.database();
    match host
        .existing_store()
        .map(|store| store.map(|store| store.faults()))
    {
        Ok(None) => vec![Finding::ok(CHECK, "there is none yet")],
        Ok(Some(Ok(faults))) if faults.is_empty() => {
            vec![Finding::ok(CHECK, path.display().to_string())]
        }
        Ok(Some(Ok(faults))) => {
            let message = format!("{} is damaged: {}", path.display(), faults.join("; "));
            vec![Finding::error(CHECK, message).mend(REBUILD)]
        }
        Ok(Some(Err(error))) => vec![Finding::error(CHECK, with_causes(&error)).mend(REBUILD)],
        Err(error) => {
            let finding = Finding::error(CHECK, with_causes(&error));
            vec![match &error {
                Error::Store(error) if error.is_damage() => finding.mend(REBUILD),
                Error::Store(store::Error::Open { .. }) => finding.mend(format!(
                    "ls -ld {} {}",
                    host.paths.data.display(),
                    path.display()
                )),
                _ => finding,
            }]
        }
    }
}

/// The definitions that can be read, and what is wrong with them or the others.
pub(super) fn definitions(host: &Host) -> (Vec<(VmName, VmConfig)>, Vec<Finding>) {
    const CHECK: &str = "definition";
    let mut read = Vec::new();
    let mut findings = Vec::new();
    for name in names(host) {
        let row = match host.vm(&name) {
            Ok(row) => row,
            Err(error) => {
                findings.push(Finding::error(CHECK, with_causes(&error)).mend(REBUILD));
                continue;
            }
        };
        match host.config(&row) {
            Ok(config) => {
                if let Err(error) = prepare::check_files(host, &row, &config) {
                    let message = format!("VM `{name}`: {}", with_causes(&error));
                    let mend = match &error {
                        Error::Disk(disk::Error::Broken { disk, .. }) => {
                            format!("maqet disk rebase {name} {disk} --moved FILE")
                        }
                        _ => format!("maqet show {name}"),
                    };
                    findings.push(Finding::warning("files", message).mend(mend));
                }
                read.push((name, config));
            }
            Err(error) => {
                let message = format!("VM `{name}`: {}", with_causes(&error));
                findings.push(Finding::error(CHECK, message).mend(format!("maqet rm {name}")));
            }
        }
    }
    if findings.is_empty() {
        let message = format!("{}, with all files they name", read.len());
        findings.push(Finding::ok("definitions", message));
    }
    (read, findings)
}

/// The VMs that the database has; none where it cannot be read, which has a finding of its own.
fn names(host: &Host) -> Vec<VmName> {
    let store = host.existing_store().ok().flatten();
    let list = store.and_then(|store| store.list().ok());
    list.into_iter().flatten().map(|vm| vm.name).collect()
}

/// The VMs of which a start has kept the definition.
pub(in crate::ops) fn kept_definitions(host: &Host) -> Vec<(VmName, PathBuf)> {
    let dirs = fs::read_dir(host.paths.vms())
        .into_iter()
        .flatten()
        .flatten();
    let mut kept: Vec<(VmName, PathBuf)> = dirs
        .filter_map(|dir| {
            let name: VmName = dir.file_name().to_str()?.parse().ok()?;
            let file = host.paths.vm(&name).definition();
            file.exists().then_some((name, file))
        })
        .collect();
    kept.sort();
    kept
}

/// VMs that the database has lost.
pub(super) fn kept(host: &Host) -> Vec<Finding> {
    const CHECK: &str = "lost VMs";
    if host.existing_store().is_err() {
        return Vec::new();
    }
    let known: HashSet<VmName> = names(host).into_iter().collect();
    let lost: Vec<String> = kept_definitions(host)
        .into_iter()
        .filter(|(name, _)| !known.contains(name))
        .map(|(name, _)| name.to_string())
        .collect();
    vec![match lost.is_empty() {
        true => Finding::ok(CHECK, "none"),
        false => {
            let message = format!(
                "not in the database, but started before: {}",
                lost.join(", ")
            );
            Finding::error(CHECK, message).mend(REBUILD)
        }
    }]
}

/// Whether those that VMs come after exist.
pub(super) fn order(definitions: &[(VmName, VmConfig)]) -> Vec<Finding> {
    const CHECK: &str = "order";
    let known: HashSet<&VmName> = definitions.iter().map(|(name, _)| name).collect();
    let mut findings = Vec::new();
    for (name, config) in definitions {
        for other in config.before().filter(|other| !known.contains(other)) {
            findings.push(if config.requires.contains(other) {
                let message = format!("VM `{name}` requires `{other}`, which is not there");
                Finding::warning(CHECK, message).mend(format!("maqet show {name}"))
            } else {
                let message = format!("VM `{name}` comes after `{other}`, which is not there");
                Finding::note(CHECK, message).mend(format!("maqet show {name}"))
            });
        }
    }
    findings
}

/// Guests that are stopped because their save was killed.
pub(super) fn saves(host: &Host) -> Vec<Finding> {
    let Ok(list) = ls(host, &[]) else {
        return Vec::new();
    };
    let cut_short = list.vms.into_iter().filter(|vm| match &vm.state {
        State::Up(state) => settle::is_cut_short(host, &vm.name, state),
        _ => false,
    });
    cut_short
        .map(|vm| {
            let message = format!("VM `{}` is stopped: a save of it was killed", vm.name);
            Finding::warning("save", message).mend(format!("maqet start {}", vm.name))
        })
        .collect()
}

/// Units of VMs that have no definition.
pub(super) fn orphans(host: &Host) -> Vec<Finding> {
    const CHECK: &str = "units";
    // Without these, other checks have findings.
    let (Ok(_), Ok((units, enabled))) = (
        host.existing_store(),
        systemd::list_and_enabled(&host.scope, "maqet-*.service"),
    ) else {
        return Vec::new();
    };
    let known: HashSet<VmName> = names(host).into_iter().collect();
    let mut findings = Vec::new();
    for unit in units {
        let Some(name) = vm_of(&unit.unit).filter(|name| !known.contains(name)) else {
            continue;
        };
        let unit_name = &unit.unit;
        match unit.active {
            ActiveState::Inactive => {}
            ActiveState::Failed => findings.push(
                Finding::warning(CHECK, format!("{unit_name} failed, and has no definition"))
                    .mend(format!("systemctl --user reset-failed {unit_name}")),
            ),
            _ => findings.push(
                Finding::warning(CHECK, format!("{unit_name} runs, and has no definition"))
                    .mend(format!("maqet stop {name}")),
            ),
        }
    }
    for name in enabled.iter().filter(|name| !known.contains(*name)) {
        let unit = boot::boot_unit(name);
        findings.push(
            Finding::warning(
                CHECK,
                format!("{unit} is enabled, and VM `{name}` has no definition"),
            )
            .mend(format!("maqet disable {name}")),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "all have a definition"));
    }
    findings
}
