//! What the service manager knows of a unit.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use zbus::{Message, OwnedObjectPath, OwnedVariant, Variant};

use crate::process::is_ending;
use crate::vm::VmName;

use super::boot::{DEFAULT_TARGET, PULLS_IN, vms_in};
use super::bus::{Bus, SERVICE, Scope, UNIT, manager_call, property_call};
use super::error::Error;
use super::unit::UnitName;

/// systemd's word for a unit as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActiveState {
    /// Runs, and is ready.
    Active,
    /// Runs, and applies a new configuration.
    Reloading,
    /// Is starting, or waits to be restarted.
    Activating,
    /// Is stopping.
    Deactivating,
    /// Does not run, and ended as it should.
    Inactive,
    /// Does not run, and did not end as it should.
    Failed,
}

impl ActiveState {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "active" => Self::Active,
            "reloading" | "refreshing" => Self::Reloading,
            "activating" => Self::Activating,
            "deactivating" => Self::Deactivating,
            // `maintenance` is for mounts; no service has it.
            "inactive" | "maintenance" => Self::Inactive,
            "failed" => Self::Failed,
            _ => return None,
        })
    }

    /// Whether a process of the unit may be there.
    pub fn is_up(self) -> bool {
        !matches!(self, Self::Inactive | Self::Failed)
    }
}

impl fmt::Display for ActiveState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Reloading => "reloading",
            Self::Activating => "activating",
            Self::Deactivating => "deactivating",
            Self::Inactive => "inactive",
            Self::Failed => "failed",
        })
    }
}

/// A unit in a list.
#[derive(Clone, Debug)]
pub struct ListedUnit {
    /// Its name, with suffix.
    pub unit: String,
    /// Whether it runs.
    pub active: ActiveState,
    /// The finer word: `running`, `auto-restart`, `stop-sigterm` …
    pub sub: String,
}

/// What systemd says of one unit. A unit that is not loaded is `inactive`, with nothing else known.
#[derive(Clone, Debug, Serialize)]
pub struct UnitStatus {
    /// Its name, with suffix.
    pub unit: String,
    /// Whether it runs.
    pub active_state: ActiveState,
    /// The finer word: `running`, `auto-restart`, `dead` …
    pub sub_state: String,
    /// How the last run ended: `success`, `exit-code`, `signal`, `oom-kill`, `timeout` …
    pub result: String,
    /// QEMU's (or, very early, the launcher's) process.
    pub main_pid: Option<u32>,
    /// The process of the last run, also after it ended.
    pub exec_main_pid: Option<u32>,
    /// Exit status or signal number of the last run, when it has ended.
    pub exec_main_status: i32,
    /// Whether the last run was ended by a signal (CLD_KILLED or CLD_DUMPED).
    pub killed_by_signal: bool,
    /// 32 hexadecimal digits that name this run, or the last.
    pub invocation_id: Option<String>,
    /// When it became active.
    #[serde(serialize_with = "rfc3339")]
    pub active_since: Option<SystemTime>,
    /// When it stopped being active.
    #[serde(serialize_with = "rfc3339")]
    pub inactive_since: Option<SystemTime>,
    /// Restarts by systemd since the last start that was asked for.
    pub restarts: u32,
    /// Bytes charged to the unit's cgroup, where the memory controller is there.
    pub memory: Option<u64>,
    /// CPU time used, in nanoseconds, where the cpu accounting is there.
    pub cpu_nanoseconds: Option<u64>,
}

/// The units whose names match `pattern` (a shell glob) that are loaded, in one call.
pub fn list(scope: &Scope, pattern: &str) -> Result<Vec<ListedUnit>, Error> {
    zbus::block_on(async {
        let mut bus = Bus::connect(scope).await?;
        let reply = bus.call(list_call(pattern)?).await?;
        listed(reply)
    })
}

/// As [`list`], and in the same go the VMs that start at boot.
pub fn list_and_enabled(
    scope: &Scope,
    pattern: &str,
) -> Result<(Vec<ListedUnit>, Vec<VmName>), Error> {
    zbus::block_on(async {
        let mut bus = Bus::connect(scope).await?;
        let mut calls = vec![list_call(pattern)?];
        for property in PULLS_IN {
            calls.push(property_call(DEFAULT_TARGET, UNIT, property)?);
        }
        let serials = bus.send(&calls).await?;
        let units = listed(bus.reply(serials[0]).await?)?;
        let mut enabled = Vec::new();
        for serial in &serials[1..] {
            enabled.extend(vms_in(bus.reply(*serial).await?));
        }
        Ok((units, enabled))
    })
}

fn list_call(pattern: &str) -> Result<Message, Error> {
    let states: &[&str] = &[];
    manager_call("ListUnitsByPatterns", &(states, &[pattern][..]))
}

fn listed(reply: zbus::Result<Message>) -> Result<Vec<ListedUnit>, Error> {
    type Row = (
        String,
        String,
        String,
        String,
        String,
        String,
        OwnedObjectPath,
        u32,
        String,
        OwnedObjectPath,
    );
    let reply = reply.map_err(Error::Bus)?;
    let rows: Vec<Row> = reply.body().deserialize().map_err(Error::Bus)?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            Some(ListedUnit {
                unit: row.0,
                active: ActiveState::parse(&row.3)?,
                sub: row.4,
            })
        })
        .collect())
}

/// What systemd knows of `unit`.
pub fn status(scope: &Scope, unit: &str) -> Result<UnitStatus, Error> {
    zbus::block_on(async { unit_status(&mut Bus::connect(scope).await?, unit).await })
}

/// The properties that [`UnitStatus`] is made from, asked for in one go.
const PROPERTIES: [(&str, &str); 13] = [
    (UNIT, "ActiveState"),
    (UNIT, "SubState"),
    (UNIT, "InvocationID"),
    (UNIT, "ActiveEnterTimestamp"),
    (UNIT, "InactiveEnterTimestamp"),
    (SERVICE, "Result"),
    (SERVICE, "MainPID"),
    (SERVICE, "ExecMainPID"),
    (SERVICE, "ExecMainCode"),
    (SERVICE, "ExecMainStatus"),
    (SERVICE, "NRestarts"),
    (SERVICE, "MemoryCurrent"),
    (SERVICE, "CPUUsageNSec"),
];

pub(super) async fn unit_status(bus: &mut Bus, unit: &str) -> Result<UnitStatus, Error> {
    let calls = PROPERTIES
        .iter()
        .map(|(interface, property)| property_call(unit, interface, property))
        .collect::<Result<Vec<_>, _>>()?;
    let serials = bus.send(&calls).await?;
    let mut values = Vec::with_capacity(serials.len());
    for serial in serials {
        values.push(bus.reply(serial).await?.ok().and_then(value));
    }
    let [
        active,
        sub,
        invocation,
        entered,
        left,
        result,
        main_pid,
        exec_pid,
        exec_code,
        exec_status,
        restarts,
        memory,
        cpu,
    ] = <[Option<OwnedVariant>; PROPERTIES.len()]>::try_from(values)
        .expect("one value for each property");
    let code = int(&exec_code).unwrap_or(0);
    Ok(UnitStatus {
        unit: unit.to_owned(),
        active_state: text(&active)
            .and_then(|word| ActiveState::parse(&word))
            .unwrap_or(ActiveState::Inactive),
        sub_state: text(&sub).unwrap_or_default(),
        result: text(&result).unwrap_or_default(),
        main_pid: number(&main_pid).and_then(pid),
        exec_main_pid: number(&exec_pid).and_then(pid),
        exec_main_status: int(&exec_status).unwrap_or(0),
        killed_by_signal: matches!(code, libc::CLD_KILLED | libc::CLD_DUMPED),
        invocation_id: bytes(&invocation).filter(|id| !id.is_empty()).map(hex),
        active_since: number(&entered).and_then(time),
        inactive_since: number(&left).and_then(time),
        restarts: number(&restarts)
            .and_then(|n| n.try_into().ok())
            .unwrap_or(0),
        memory: number(&memory).filter(|bytes| *bytes != u64::MAX),
        cpu_nanoseconds: number(&cpu).filter(|time| *time != u64::MAX),
    })
}

/// The state of `unit`, and whether a job of it is queued or running.
///
/// A unit whose start was just asked for is still `inactive`; its job is there already.
pub(super) async fn state_and_job(bus: &mut Bus, unit: &str) -> Result<(ActiveState, bool), Error> {
    let [state, job] = properties(bus, unit, ["ActiveState", "Job"]).await?;
    let state = text(&state).and_then(|word| ActiveState::parse(&word));
    let job = job.and_then(|job| <(u32, OwnedObjectPath)>::try_from(job).ok());
    Ok((
        state.unwrap_or(ActiveState::Inactive),
        job.is_some_and(|(id, _)| id != 0),
    ))
}

/// Whether `unit` is active, and its main process has neither ended nor is about to.
pub(super) async fn is_alive(bus: &mut Bus, unit: &str) -> Result<bool, Error> {
    let status = unit_status(bus, unit).await?;
    let is_active = status.active_state == ActiveState::Active;
    Ok(is_active && !status.main_pid.is_some_and(is_ending))
}

/// Whether `unit` has a restart policy, which has not done anything yet.
pub(super) async fn is_first_try(bus: &mut Bus, unit: &str) -> Result<bool, Error> {
    let call = property_call(unit, SERVICE, "Restart")?;
    let restart = bus.call(call).await?.ok().and_then(value);
    let is_restarted = text(&restart).is_some_and(|policy| policy != "no");
    Ok(is_restarted && unit_status(bus, unit).await?.restarts == 0)
}

/// Since when `unit` has been active, if it is.
pub(super) async fn active_since(bus: &mut Bus, unit: &str) -> Result<Option<SystemTime>, Error> {
    let [state, entered] = properties(bus, unit, ["ActiveState", "ActiveEnterTimestamp"]).await?;
    let active = text(&state).is_some_and(|state| state == "active");
    Ok(number(&entered).filter(|_| active).and_then(time))
}

/// The file of a transient unit that is loaded.
pub(super) async fn fragment(bus: &mut Bus, unit: &str) -> Result<Option<String>, Error> {
    let [file, transient] = properties(bus, unit, ["FragmentPath", "Transient"]).await?;
    let transient = transient.is_some_and(|value| *value == Variant::Bool(true));
    Ok(text(&file).filter(|file| transient && !file.is_empty()))
}

/// The units that have to do with one when that is stopped.
#[derive(Clone, Debug, Default)]
pub struct Dependents {
    /// They are stopped before it.
    pub before: Vec<UnitName>,
    /// They are stopped with it.
    pub required_by: Vec<UnitName>,
}

/// What depends on each of `units`, as systemd knows it.
pub fn dependents(scope: &Scope, units: &[UnitName]) -> Result<Vec<Dependents>, Error> {
    zbus::block_on(async {
        let mut bus = Bus::connect(scope).await?;
        let mut calls = Vec::new();
        for unit in units {
            // A unit's `Before` are those that come after it.
            for property in ["Before", "RequiredBy"] {
                calls.push(property_call(unit, UNIT, property)?);
            }
        }
        let mut lists = Vec::new();
        for serial in bus.send(&calls).await? {
            let value = bus.reply(serial).await?.ok().and_then(value);
            lists.push(
                value
                    .and_then(|value| value.try_into().ok())
                    .unwrap_or_default(),
            );
        }
        let mut lists = lists.into_iter();
        let mut all = Vec::new();
        while let (Some(before), Some(required_by)) = (lists.next(), lists.next()) {
            all.push(Dependents {
                before,
                required_by,
            });
        }
        Ok(all)
    })
}

/// Whether `unit` is one with a unit file, and not a transient one.
pub(super) async fn has_file(bus: &mut Bus, unit: &str) -> Result<bool, Error> {
    let [load, transient] = properties(bus, unit, ["LoadState", "Transient"]).await?;
    let is_loaded = text(&load).is_some_and(|word| word != "not-found");
    Ok(is_loaded && transient.is_some_and(|value| *value == Variant::Bool(false)))
}

/// Properties that every unit has; `None` for one that could not be had.
async fn properties<const N: usize>(
    bus: &mut Bus,
    unit: &str,
    names: [&str; N],
) -> Result<[Option<OwnedVariant>; N], Error> {
    let calls = names.map(|name| property_call(unit, UNIT, name));
    let calls = calls.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut values = [const { None }; N];
    for (slot, serial) in values.iter_mut().zip(bus.send(&calls).await?) {
        *slot = bus.reply(serial).await?.ok().and_then(value);
    }
    Ok(values)
}

fn value(reply: Message) -> Option<OwnedVariant> {
    reply.body().deserialize().ok()
}

fn text(value: &Option<OwnedVariant>) -> Option<String> {
    match &**value.as_ref()? {
        Variant::Str(text) => Some(text.to_string()),
        _ => None,
    }
}

fn number(value: &Option<OwnedVariant>) -> Option<u64> {
    match &**value.as_ref()? {
        Variant::U64(number) => Some(*number),
        Variant::U32(number) => Some((*number).into()),
        _ => None,
    }
}

fn int(value: &Option<OwnedVariant>) -> Option<i32> {
    match &**value.as_ref()? {
        Variant::I32(number) => Some(*number),
        _ => None,
    }
}

fn bytes(value: &Option<OwnedVariant>) -> Option<Vec<u8>> {
    match &**value.as_ref()? {
        Variant::Array(array) => array
            .iter()
            .map(|item| match item {
                Variant::U8(byte) => Some(*byte),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

fn hex(bytes: Vec<u8>) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 0 is systemd's "none".
fn pid(number: u64) -> Option<u32> {
    number.try_into().ok().filter(|pid| *pid != 0)
}

/// A time as RFC 3339 in UTC.
pub(crate) fn rfc3339<S: serde::Serializer>(
    time: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time.and_then(|time| jiff::Timestamp::try_from(time).ok()) {
        Some(timestamp) => serializer.collect_str(&timestamp),
        None => serializer.serialize_none(),
    }
}

/// Microseconds since 1970; 0 is systemd's "never".
fn time(micros: u64) -> Option<SystemTime> {
    (micros != 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_micros(micros))
}
