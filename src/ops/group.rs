//! Groups of VMs: a slice each, with a budget that its VMs share.
//!
//! A slice has no definition, so its limits are kept in the database. They are
//! applied when they are set, and again when a VM of the group is started, as
//! systemd forgets them when the host goes down.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::config::UnitValue;
use crate::store::Limit;
use crate::systemd::property::{self, Setting};
use crate::systemd::{self, slice_name, unit_name};
use crate::vm::{GroupName, VmName};

use super::controllers::Controllers;
use super::set::Change;
use super::{Error, Host, policy};

/// A group.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// Its slice.
    pub slice: String,
    /// The VMs whose definitions name it.
    pub vms: Vec<VmName>,
    /// Those of them that run.
    pub running: Vec<VmName>,
    /// Its limits: properties of its slice, with values as in unit files.
    pub limits: BTreeMap<String, String>,
}

/// All groups that VMs are in or that have limits, by name.
pub fn ls(host: &Host) -> Result<Vec<Group>, Error> {
    let Some(store) = host.existing_store()? else {
        return Ok(Vec::new());
    };
    let mut members: BTreeMap<GroupName, Vec<VmName>> = BTreeMap::new();
    for vm in store.list()? {
        if let Some(group) = vm.group {
            members.entry(group).or_default().push(vm.name);
        }
    }
    for group in store.budgeted()? {
        members.entry(group).or_default();
    }
    if members.is_empty() {
        return Ok(Vec::new());
    }
    let up: BTreeSet<String> = systemd::list(&host.scope, "maqet-*.service")?
        .into_iter()
        .filter(|unit| unit.active.is_up())
        .map(|unit| unit.unit)
        .collect();
    members
        .into_iter()
        .map(|(name, vms)| {
            let runs = |vm: &&VmName| up.contains(&unit_name(vm));
            Ok(Group {
                slice: slice_name(&name),
                running: vms.iter().filter(runs).cloned().collect(),
                limits: store.budget(&name)?.into_iter().collect(),
                vms,
                name,
            })
        })
        .collect()
}

/// One group.
pub fn show(host: &Host, name: &GroupName) -> Result<Group, Error> {
    ls(host)?
        .into_iter()
        .find(|group| group.name == *name)
        .ok_or_else(|| Error::NoGroup(name.clone()))
}

/// Sets limits of a group, of its running VMs at once; all of them or none.
///
/// An empty value is no limit. The group need not have VMs yet. Returned is which of
/// these limits do nothing, if there are such.
pub fn set(host: &Host, name: &GroupName, changes: &[Change]) -> Result<Option<String>, Error> {
    let limits: Vec<Limit> = changes
        .iter()
        .map(|change| (change.property.clone(), change.value.clone()))
        .collect();
    let settings = settings(&limits)?;
    let mut store = host.store()?;
    for vm in store.list()? {
        if vm.group.as_ref() == Some(name) {
            check_memory(host, &vm.name, &limits)?;
        }
    }
    store.set_budget(name, &limits, || {
        systemd::set_properties(&host.scope, &slice_name(name), &settings).map_err(Error::from)
    })?;
    let words = limits.iter().map(|(name, value)| (&**name, &**value));
    Ok(Controllers::new(host).idle(words))
}

/// Refuses a limit for all that does not even do for one.
fn check_memory(host: &Host, name: &VmName, limits: &[Limit]) -> Result<(), Error> {
    let config = host.config(&host.vm(name)?)?;
    for (property, value) in limits {
        let value = UnitValue::Text(value.clone());
        if let Some(message) = policy::too_little_memory(&config, property, &value) {
            return Err(Error::TooLittleMemory(format!("VM `{name}`: {message}")));
        }
    }
    Ok(())
}

/// Gives the slice of a group the limits that are kept for it, if there are any; those.
pub(super) fn apply(host: &Host, name: &GroupName) -> Result<Vec<Limit>, Error> {
    let limits = host.store()?.budget(name)?;
    if !limits.is_empty() {
        let settings = settings(&limits)?;
        systemd::set_properties(&host.scope, &slice_name(name), &settings)?;
    }
    Ok(limits)
}

/// A group whose VMs that run may come to need more memory than it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OverBudget {
    /// The group.
    pub group: GroupName,
    /// Its MemoryMax, in bytes.
    pub limit: u64,
    /// What each of its running VMs may need, in bytes: its memory, and what QEMU takes.
    pub needs: Vec<(VmName, u64)>,
}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self
            .needs
            .iter()
            .map(|(vm, bytes)| (vm, policy::mib(*bytes)));
        let all: u64 = each.clone().map(|(_, mib)| mib).sum();
        let needs: Vec<String> = each.map(|(vm, mib)| format!("`{vm}` {mib}")).collect();
        write!(
            f,
            "group `{}` has a MemoryMax of {} MiB, and its VMs that run may need {} MiB ({}): \
             one of them may be killed",
            self.group,
            self.limit >> 20,
            all,
            needs.join(", ")
        )
    }
}

/// Whether the running VMs of a group may need more memory than it has.
pub(super) fn over_budget(host: &Host, name: &GroupName) -> Result<Option<OverBudget>, Error> {
    let group = show(host, name)?;
    let limit = group.limits.get("MemoryMax");
    let limit = limit.and_then(|text| property::memory_limit(text, policy::host_memory()));
    let Some(limit) = limit else {
        return Ok(None);
    };
    let needs = group.running.into_iter().map(|vm| {
        let config = host.config(&host.vm(&vm)?)?;
        Ok((vm, policy::needed_memory(&config)))
    });
    let needs: Vec<(VmName, u64)> = needs.collect::<Result<_, Error>>()?;
    let all: u64 = needs.iter().map(|(_, bytes)| bytes).sum();
    Ok((all > limit).then_some(OverBudget {
        group: group.name,
        limit,
        needs,
    }))
}

fn settings(limits: &[Limit]) -> Result<Vec<Setting>, property::Error> {
    limits
        .iter()
        .map(|(property, value)| property::parse_for_slice(property, value))
        .collect()
}
