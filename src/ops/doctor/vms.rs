//! What maqet keeps, and whether it is in accord with what runs.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;

use crate::config::{DeviceName, Mac, VmConfig};
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
    let mut addresses = HashMap::new();
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
                for (net, it) in &config.nets {
                    findings.extend(shared_address(
                        &mut addresses,
                        (&name, &row.uuid),
                        net,
                        it.mac,
                    ));
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

/// What is to be told of a NIC that has the address of one seen before. Those that are
/// written are looked at when they are; those that derive may meet.
fn shared_address(
    seen: &mut HashMap<Mac, (VmName, DeviceName)>,
    (name, uuid): (&VmName, &str),
    net: &DeviceName,
    said: Option<Mac>,
) -> Option<Finding> {
    let mac = said.unwrap_or_else(|| Mac::derive(uuid, net.as_str()));
    let Some((vm, other)) = seen.get(&mac) else {
        seen.insert(mac, (name.clone(), net.clone()));
        return None;
    };
    let message = format!(
        "network `{other}` of VM `{vm}` and network `{net}` of VM `{name}` have the same \
         address, {mac}"
    );
    let free = Mac::derive(uuid, &format!("{net}/another"));
    let mend = format!("maqet set {name} net.{net}.mac={free}");
    Some(Finding::warning("addresses", message).mend(mend))
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

/// Guests that are stopped because what was done to them was killed.
pub(super) fn cut_short(host: &Host) -> Vec<Finding> {
    let Ok(list) = ls(host, &[]) else {
        return Vec::new();
    };
    let cut_short = list.vms.into_iter().filter_map(|vm| match &vm.state {
        State::Up(state) => settle::cut_short(host, &vm.name, state).map(|what| (vm.name, what)),
        _ => None,
    });
    cut_short
        .map(|(name, what)| {
            let message = format!("VM `{name}` is stopped: {what} of it was killed");
            Finding::warning("stopped", message).mend(format!("maqet start {name}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_addresses_that_derive_and_are_the_same_are_told() {
        let uuid = |number: u32| format!("{number:032}");
        let lan: DeviceName = "lan".parse().unwrap();
        let mut seen = HashMap::new();
        // Of 2^24 addresses, some thousands are enough for two to be the same.
        let found = (0..100_000).find_map(|number| {
            let name = format!("vm{number}").parse().unwrap();
            let told = shared_address(&mut seen, (&name, &uuid(number)), &lan, None);
            Some((number, told?))
        });
        let (number, finding) = found.unwrap();
        let mac = Mac::derive(&uuid(number), "lan");
        let (other, _) = &seen[&mac];
        assert!(
            finding.message.contains(other.as_str()),
            "{}",
            finding.message
        );
        let mend = finding.mend.unwrap();
        let free: Mac = mend.split("mac=").nth(1).unwrap().parse().unwrap();
        assert!(!seen.contains_key(&free), "{mend}");
    }
}
