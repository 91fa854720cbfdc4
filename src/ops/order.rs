//! Which VMs start or stop with those that are to, and in what order.

use std::collections::{HashMap, HashSet};

use indexmap::IndexSet;

use crate::config::VmConfig;
use crate::store::Row;
use crate::systemd::{self, unit_name};
use crate::vm::VmName;

use super::ls::vm_of;
use super::{Error, Host};

/// A VM, what it is made of, and whether it goes on from a saved state.
pub(super) type Vm = (Row, VmConfig, bool);

/// What is to be done to start some VMs.
#[derive(Default)]
pub(super) struct Plan {
    /// To start, each after those that it comes after.
    pub vms: Vec<Vm>,
    /// Not to start, each after those that it requires.
    pub failed: Vec<(VmName, Error)>,
}

/// Plans to start VMs, and those that they require.
///
/// `find` finds a VM, and `check` what would keep it from starting.
pub(super) fn plan(
    names: &[VmName],
    find: impl Fn(&VmName) -> Result<Vm, Error>,
    check: impl Fn(&Vm) -> Result<(), Error>,
) -> Plan {
    let mut walk = Walk {
        find,
        found: HashMap::new(),
        order: IndexSet::new(),
        path: Vec::new(),
    };
    let mut plan = Plan::default();
    let mut wanted: HashSet<VmName> = HashSet::new();
    for name in names {
        walk.path.clear();
        match walk.visit(name) {
            Ok(()) => walk.add_required(name, &mut wanted),
            Err(circle) => plan.failed.push((name.clone(), Error::Circle(circle))),
        }
    }
    let mut failed: HashSet<VmName> = HashSet::new();
    for name in walk.order.iter().filter(|name| wanted.contains(*name)) {
        let found = walk.found.remove(name).expect("every visited VM is there");
        let checked = found.and_then(|vm| {
            for required in &vm.1.requires {
                if failed.contains(required) {
                    let (name, on) = (name.clone(), required.clone());
                    return Err(Error::Dependency { name, on });
                }
            }
            check(&vm)?;
            Ok(vm)
        });
        match checked {
            Ok(vm) => plan.vms.push(vm),
            Err(error) => {
                failed.insert(name.clone());
                plan.failed.push((name.clone(), error));
            }
        }
    }
    plan
}

/// From VM to VM, by what each comes after.
struct Walk<F> {
    find: F,
    found: HashMap<VmName, Result<Vm, Error>>,
    /// Those that were seen whole, each after those that it comes after.
    order: IndexSet<VmName>,
    path: Vec<VmName>,
}

impl<F: Fn(&VmName) -> Result<Vm, Error>> Walk<F> {
    /// # Errors
    /// A circle, beginning and ending with the same VM.
    fn visit(&mut self, name: &VmName) -> Result<(), Vec<VmName>> {
        if let Some(at) = self.path.iter().position(|other| other == name) {
            let circle = self.path[at..].iter().chain([name]);
            return Err(circle.cloned().collect());
        }
        if self.order.contains(name) {
            return Ok(());
        }
        let vm = self.find(name);
        let before = match vm {
            Ok((_, config, _)) => config.before().cloned().collect(),
            Err(_) => Vec::new(),
        };
        self.path.push(name.clone());
        for other in &before {
            self.visit(other)?;
        }
        self.path.pop();
        self.order.insert(name.clone());
        Ok(())
    }

    fn find(&mut self, name: &VmName) -> &Result<Vm, Error> {
        self.found
            .entry(name.clone())
            .or_insert_with(|| (self.find)(name))
    }

    fn add_required(&self, name: &VmName, wanted: &mut HashSet<VmName>) {
        if wanted.insert(name.clone())
            && let Some(Ok((_, config, _))) = self.found.get(name)
        {
            for required in &config.requires {
                self.add_required(required, wanted);
            }
        }
    }
}

/// The VMs that a VM would start after, in a circle, if there is one.
pub(super) fn circle(host: &Host, config: &VmConfig) -> Option<Vec<VmName>> {
    // Most come after none.
    config.before().next()?;
    let find = |name: &VmName| {
        let row = host.vm(name)?;
        let config = match *name == config.name {
            true => config.clone(),
            false => host.config(&row)?,
        };
        Ok((row, config, false))
    };
    let mut walk = Walk {
        find,
        found: HashMap::new(),
        order: IndexSet::new(),
        path: Vec::new(),
    };
    walk.visit(&config.name).err()
}

/// A VM that is to stop.
pub(super) struct Stop {
    pub name: VmName,
    /// Those of the others that stop before it.
    pub after: Vec<VmName>,
    /// Those of them that require it.
    pub required_by: Vec<VmName>,
}

/// Which VMs stop with `names`, and in what order, as their units say: definitions
/// may have changed since.
pub(super) fn stops(host: &Host, names: &[VmName]) -> Result<Vec<Stop>, Error> {
    let mut stops: Vec<Stop> = Vec::new();
    let mut seen: HashSet<VmName> = names.iter().cloned().collect();
    let mut found: Vec<VmName> = names.to_vec();
    let mut running: Option<HashSet<VmName>> = None;
    while !found.is_empty() {
        let units: Vec<_> = found.iter().map(unit_name).collect();
        let dependents = systemd::dependents(&host.scope, &units)?;
        let mut next = Vec::new();
        for (name, dependents) in found.into_iter().zip(dependents) {
            let vms = |units: Vec<String>| units.iter().filter_map(|unit| vm_of(unit)).collect();
            let (after, mut required_by): (Vec<VmName>, Vec<VmName>) =
                (vms(dependents.before), vms(dependents.required_by));
            if !required_by.is_empty() {
                if running.is_none() {
                    let units = systemd::list(&host.scope, "maqet-*.service")?;
                    let up = units.iter().filter(|unit| unit.active.is_up());
                    running = Some(up.filter_map(|unit| vm_of(&unit.unit)).collect());
                }
                required_by.retain(|by| running.as_ref().is_some_and(|up| up.contains(by)));
            }
            for by in &required_by {
                if seen.insert(by.clone()) {
                    next.push(by.clone());
                }
            }
            stops.push(Stop {
                name,
                after,
                required_by,
            });
        }
        found = next;
    }
    // Only those that stop are waited for, and not in a circle: of two runs from
    // different times, each unit may say that it comes after the other.
    let mut ordered: Vec<Stop> = Vec::with_capacity(stops.len());
    let mut before: HashSet<VmName> = HashSet::new();
    while !stops.is_empty() {
        let is_next = |stop: &Stop| {
            let mut others = stop.after.iter().filter(|other| seen.contains(*other));
            others.all(|other| before.contains(other))
        };
        let mut stop = stops.swap_remove(stops.iter().position(is_next).unwrap_or(0));
        stop.after.retain(|other| before.contains(other));
        stop.required_by.retain(|other| before.contains(other));
        before.insert(stop.name.clone());
        ordered.push(stop);
    }
    Ok(ordered)
}
