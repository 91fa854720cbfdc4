//! Listing VMs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::config::{Defaults, VmConfig};
use crate::qmp::{self, RunState, Status};
use crate::saved;
use crate::store::{Labels, Summary};
use crate::systemd::{self, ActiveState, ListedUnit, unit_name};
use crate::vm::{GroupName, VmName};

use super::doctor::kept_definitions;
use super::error::with_causes;
use super::save::settle;
use super::{Error, Host, Selector};

/// What a VM is doing, in one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Its unit is being started.
    Starting,
    /// It ended, and systemd will start it again in a moment.
    Restarting,
    /// Its unit is being stopped.
    Stopping,
    /// Its unit is up; QEMU's own word, or `running` when its monitor is busy.
    Up(RunState),
    /// It ended, and not as it should.
    Failed,
    /// It does not run; its state is kept, and the next start goes on there.
    Saved,
    /// It does not run.
    Stopped,
}

impl State {
    /// The word that `ls` and `status` show.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Starting => "starting",
            Self::Restarting => "restarting",
            Self::Stopping => "stopping",
            Self::Up(state) => state.as_str(),
            Self::Failed => "failed",
            Self::Saved => "saved",
            Self::Stopped => "stopped",
        }
    }

    pub(super) fn new(
        active: ActiveState,
        sub: &str,
        run_state: Option<RunState>,
        saved: bool,
    ) -> Self {
        match active {
            // Also `auto-restart-queued`.
            ActiveState::Activating if sub.starts_with("auto-restart") => Self::Restarting,
            ActiveState::Activating => Self::Starting,
            ActiveState::Deactivating => Self::Stopping,
            ActiveState::Active | ActiveState::Reloading => {
                Self::Up(run_state.unwrap_or(RunState::Running))
            }
            ActiveState::Failed => Self::Failed,
            ActiveState::Inactive if saved => Self::Saved,
            ActiveState::Inactive => Self::Stopped,
        }
    }
}

impl Serialize for State {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One VM in the list.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: VmName,
    /// What it is doing.
    pub state: State,
    /// Guest memory in bytes, of one that runs as it was started.
    pub memory: Option<u64>,
    /// vCPUs, likewise.
    pub cpus: Option<u32>,
    /// Its group, if it has one.
    pub group: Option<GroupName>,
    /// Its labels.
    pub labels: Labels,
    /// Seconds since QEMU was launched, while it runs.
    pub uptime: Option<u64>,
    /// Whether it starts at boot.
    pub enabled: bool,
    /// Its unit.
    pub unit: String,
}

/// What is listed.
#[derive(Debug)]
pub struct List {
    /// The VMs, by name.
    pub vms: Vec<Listed>,
    /// What is amiss, and did not keep them from being listed: a sentence each.
    pub warnings: Vec<String>,
}

/// How long monitors may take to answer, all together.
const ANSWERS: Duration = Duration::from_secs(1);

/// Lists the VMs that any of `selectors` names; all, if there is none.
///
/// One question to systemd for all of them; QEMU is asked only where its event log
/// leaves open what the guest is doing.
pub fn ls(host: &Host, selectors: &[Selector]) -> Result<List, Error> {
    let (units, enabled) = systemd::list_and_enabled(&host.scope, "maqet-*.service")?;
    let enabled: HashSet<VmName> = enabled.into_iter().collect();
    let mut units: HashMap<String, ListedUnit> = units
        .into_iter()
        .map(|unit| (unit.unit.clone(), unit))
        .collect();
    let mut stored: HashMap<VmName, Summary> = host
        .list()?
        .into_iter()
        .map(|vm| (vm.name.clone(), vm))
        .collect();
    let mut warnings = Vec::new();
    if stored.is_empty() {
        let lost = kept_definitions(host).len();
        if lost > 0 {
            warnings.push(format!(
                "the database has no VMs, and VMs that it had are in {}: see `maqet doctor`",
                host.paths.vms().display()
            ));
        }
    }
    let defaults = host.defaults().unwrap_or_else(|error| {
        warnings.push(with_causes(&error));
        Defaults::default()
    });
    // What a definition means that says nothing.
    let silent = VmConfig::parse_with("name = \"x\"", Path::new(""), &defaults)?;
    let (memory, cpus) = (silent.memory.size.bytes(), silent.cpus);
    let mut vms = BTreeMap::new();
    for vm in stored.values() {
        let unit = unit_name(&vm.name);
        let (active, sub) = units
            .remove(&unit)
            .map_or((ActiveState::Inactive, String::new()), |unit| {
                (unit.active, unit.sub)
            });
        vms.insert(
            vm.name.clone(),
            (
                active,
                sub,
                unit,
                vm.memory.or(Some(memory)),
                vm.cpus.or(Some(cpus)),
            ),
        );
    }
    // What runs without a definition runs all the same.
    for unit in units.into_values().filter(|unit| unit.active.is_up()) {
        if let Some(name) = vm_of(&unit.unit) {
            vms.insert(name, (unit.active, unit.sub, unit.unit, None, None));
        }
    }
    vms.retain(|name, _| {
        let stored = stored.get(name);
        selectors.is_empty()
            || selectors
                .iter()
                .any(|selector| selector.means(name, stored))
    });
    let mut run_states = run_states(
        host,
        vms.iter()
            .filter_map(|(name, (active, ..))| (*active == ActiveState::Active).then_some(name)),
    );
    warnings.extend(
        run_states
            .iter()
            .filter_map(|(name, state)| Some((name, settle::cut_short(host, name, state)?)))
            .map(|(name, what)| {
                format!("VM `{name}` is stopped: {what} of it was killed; `maqet start {name}` has it go on")
            }),
    );
    let saved = saved::all(&host.paths.saved_states());
    let vms = vms
        .into_iter()
        .map(|(name, (active, sub, unit, memory, cpus))| {
            let shape = active.is_up().then(|| shape(host, &name)).flatten();
            let (memory, cpus) = match shape {
                Some((memory, cpus)) => (Some(memory), Some(cpus)),
                None => (memory, cpus),
            };
            let (group, labels) = stored
                .remove(&name)
                .map(|vm| (vm.group, vm.labels))
                .unwrap_or_default();
            Listed {
                state: State::new(
                    active,
                    &sub,
                    run_states.remove(&name),
                    saved.contains(&name),
                ),
                uptime: active.is_up().then(|| uptime(host, &name)).flatten(),
                group,
                labels,
                enabled: enabled.contains(&name),
                name,
                memory,
                cpus,
                unit,
            }
        })
        .collect();
    Ok(List { vms, warnings })
}

/// What QEMU says of its guest: in its event log, or when that leaves it open, asked.
fn run_states<'a>(
    host: &Host,
    running: impl Iterator<Item = &'a VmName>,
) -> HashMap<VmName, RunState> {
    let mut states = HashMap::new();
    let (mut open, mut sockets) = (Vec::new(), Vec::new());
    for name in running {
        let runtime = host.paths.sockets(name);
        match qmp::log::run_state(&runtime.events_log()) {
            Some(state) => {
                states.insert(name.clone(), state);
            }
            None => {
                open.push(name);
                sockets.push(runtime.qmp());
            }
        }
    }
    let answers = qmp::ask_all(&sockets, "query-status", ANSWERS);
    for (name, answer) in open.into_iter().zip(answers) {
        if let Some(state) = answer.ok().and_then(run_state) {
            states.insert(name.clone(), state);
        }
    }
    states
}

fn run_state(answer: serde_json::Value) -> Option<RunState> {
    serde_json::from_value::<Status>(answer)
        .ok()
        .map(|status| status.run_state)
}

/// The VM that a unit runs.
pub(super) fn vm_of(unit: &str) -> Option<VmName> {
    unit.strip_prefix("maqet-")?
        .strip_suffix(".service")?
        .parse()
        .ok()
}

/// The memory and vCPUs that a VM was started with: its definition may say others now.
fn shape(host: &Host, name: &VmName) -> Option<(u64, u32)> {
    let text = std::fs::read_to_string(host.paths.sockets(name).shape()).ok()?;
    let (memory, cpus) = text.split_once(' ')?;
    Some((memory.parse().ok()?, cpus.parse().ok()?))
}

/// The launcher writes the definition beside the sockets: it is as old as the run.
fn uptime(host: &Host, name: &VmName) -> Option<u64> {
    let written = std::fs::metadata(host.paths.sockets(name).definition())
        .ok()?
        .modified()
        .ok()?;
    SystemTime::now()
        .duration_since(written)
        .ok()
        .map(|age| age.as_secs())
}
