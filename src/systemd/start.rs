//! Starting VMs: all at once, but for those that come after others.
//!
//! Who comes after whom is waited for here and not left to systemd, for which a VM
//! that does not run does not exist. The units say it too, for the time when they
//! stop.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use zbus::OwnedObjectPath;

use crate::vm::VmName;

use super::boot::boot_unit;
use super::bus::{Bus, Scope, manager_call};
use super::error::Error;
use super::jobs::is_error;
use super::status::{
    ActiveState, UnitStatus, active_since, fragment, has_file, is_alive, state_and_job, unit_status,
};
use super::unit::{Property, TRIM_TIMER, Transient, UnitName, trim_service, trim_timer, unit_name};

/// How a request to start a unit ended.
#[derive(Debug)]
pub enum Started {
    /// It is active now, and was not before.
    Now,
    /// It was active already, or someone else's request made it so meanwhile.
    Already,
    /// Its start failed; the unit as it was left.
    Failed(Box<UnitStatus>),
}

/// Starts are asked for again when the unit's last run was still in the way; this often.
const ATTEMPTS: usize = 5;

/// How far the start of one unit has come.
#[derive(Clone, Copy)]
enum Stage {
    /// Others are before it.
    Waits,
    /// None is any more, and at this time it starts.
    Due(SystemTime),
    /// systemd is at it.
    Job,
    /// It is up, or it is not.
    Over(bool),
}

/// Starts transient units, all at once, and waits until each is active or has failed.
///
/// One that comes after others of them waits until these are active, and does not
/// start at all if it requires one that is not; nor does it start while another
/// process starts one that it comes after. Circles are for the caller to find.
///
/// `done` is called with the index of each unit as it ends. A unit of that name
/// that failed before is reset first; one that is just stopping is waited for.
///
/// # Errors
/// Only when the manager cannot be reached; whatever happens to one unit goes to `done`.
pub fn start(
    scope: &Scope,
    units: &[Transient<'_>],
    done: &mut dyn FnMut(usize, Result<Started, Error>),
) -> Result<(), Error> {
    let Some(first) = units.first() else {
        return Ok(());
    };
    zbus::block_on(async {
        let mut bus = Bus::connect(scope).await?;
        // Listen before asking: a job may end before the reply that names it.
        bus.watch_jobs().await?;
        let index: HashMap<&VmName, usize> = units.iter().map(|unit| unit.name).zip(0..).collect();
        let mut others = others(&mut bus, units, &index).await?;
        let mut timer = None;
        let mut stages = vec![Stage::Waits; units.len()];
        let mut jobs = HashMap::new();
        loop {
            let mut settled = false;
            let (mut calls, mut called, mut due) = (Vec::new(), Vec::new(), None::<SystemTime>);
            for (i, unit) in units.iter().enumerate() {
                if let Stage::Waits = stages[i] {
                    let before = |name: &VmName| index.get(name).map(|&at| stages[at]);
                    let failed = unit
                        .requires
                        .iter()
                        .find(|name| matches!(before(name), Some(Stage::Over(false))));
                    if let Some(on) = failed {
                        let (unit, on) = (unit.unit(), on.clone());
                        done(i, Err(Error::Dependency { unit, on }));
                        stages[i] = Stage::Over(false);
                        settled = true;
                        continue;
                    }
                    let waits = unit.after.iter().any(|name| match before(name) {
                        Some(stage) => !matches!(stage, Stage::Over(_)),
                        None => others.iter().any(|other| other.is_before(unit)),
                    });
                    if waits {
                        continue;
                    }
                    stages[i] = Stage::Due(due_time(&mut bus, unit).await?);
                }
                if let Stage::Due(at) = stages[i] {
                    if at <= SystemTime::now() {
                        calls.push(start_call(unit)?);
                        called.push(i);
                    } else {
                        due = Some(due.map_or(at, |due| due.min(at)));
                    }
                }
            }
            if timer.is_none() {
                calls.push(timer_call(first)?);
            }
            let mut serials = bus.send(&calls).await?;
            if timer.is_none() {
                timer = serials.pop();
            }
            for (i, serial) in called.into_iter().zip(serials) {
                let reply = bus.reply(serial).await?;
                match accepted(&mut bus, &units[i], reply).await {
                    Ok(Some(job)) => {
                        jobs.insert(job, i);
                        stages[i] = Stage::Job;
                        continue;
                    }
                    Ok(None) => {
                        stages[i] = Stage::Over(true);
                        done(i, Ok(Started::Already));
                    }
                    Err(error) => {
                        stages[i] = Stage::Over(false);
                        done(i, Err(error));
                    }
                }
                settled = true;
            }
            if stages.iter().all(|stage| matches!(stage, Stage::Over(_))) {
                break;
            }
            while !settled {
                if let Some((job, result)) = bus.take_ended(|job| jobs.contains_key(job)) {
                    let i = jobs.remove(&job).expect("was just found");
                    let outcome = judge(&mut bus, units[i].unit(), result).await;
                    stages[i] = Stage::Over(matches!(outcome, Ok(Started::Now)));
                    done(i, outcome);
                    settled = true;
                }
                for other in &mut others {
                    if bus.take_change_of(&other.unit) {
                        other.busy = is_busy(&mut bus, &other.unit).await?;
                        settled = true;
                    }
                }
                if !settled {
                    settled = !bus.read_until(due).await?;
                }
            }
        }
        match timer {
            Some(serial) => timer_started(bus.reply(serial).await?),
            None => Ok(()),
        }
    })
}

/// The unit of a VM that is not ours to start, and that one of ours comes after.
struct Other {
    unit: UnitName,
    vm: VmName,
    /// Whether another process starts it just now.
    busy: bool,
}

impl Other {
    fn is_before(&self, unit: &Transient<'_>) -> bool {
        self.busy && unit.after.contains(&self.vm)
    }
}

async fn others(
    bus: &mut Bus,
    units: &[Transient<'_>],
    ours: &HashMap<&VmName, usize>,
) -> Result<Vec<Other>, Error> {
    let mut others: Vec<Other> = Vec::new();
    for name in units.iter().flat_map(|unit| &unit.after) {
        if ours.contains_key(name) || others.iter().any(|other| other.vm == *name) {
            continue;
        }
        // At boot, the job to start it may be there before its unit is.
        for unit in [unit_name(name), boot_unit(name)] {
            bus.watch_unit(&unit).await?;
            let busy = is_busy(bus, &unit).await?;
            let vm = name.clone();
            others.push(Other { unit, vm, busy });
        }
    }
    Ok(others)
}

async fn is_busy(bus: &mut Bus, unit: &str) -> Result<bool, Error> {
    let (state, has_job) = state_and_job(bus, unit).await?;
    Ok(has_job || state == ActiveState::Activating)
}

/// When a unit starts that nothing is before any more.
async fn due_time(bus: &mut Bus, unit: &Transient<'_>) -> Result<SystemTime, Error> {
    let mut due = SystemTime::UNIX_EPOCH;
    if !unit.start_delay.is_zero() {
        for name in &unit.after {
            if let Some(since) = active_since(bus, &unit_name(name)).await? {
                due = due.max(since + unit.start_delay);
            }
        }
    }
    Ok(due)
}

async fn judge(bus: &mut Bus, unit: UnitName, result: String) -> Result<Started, Error> {
    match result.as_str() {
        "done" => Ok(Started::Now),
        "failed" | "timeout" => failed(bus, &unit)
            .await
            .map(|status| Started::Failed(Box::new(status))),
        // It gave up itself, or it was called off.
        "canceled" => match settled(bus, &unit).await? {
            ActiveState::Failed => Ok(Started::Failed(Box::new(unit_status(bus, &unit).await?))),
            _ => Err(not_started(unit, result)),
        },
        _ => Err(not_started(unit, result)),
    }
}

fn not_started(unit: UnitName, result: String) -> Error {
    Error::Job {
        action: "start",
        unit,
        result,
    }
}

/// A unit whose start has failed, as it was left.
///
/// One that has a restart policy waits for its next try. There is none: the first
/// start failed before the eyes of who asked for it, and says why.
async fn failed(bus: &mut Bus, unit: &str) -> Result<UnitStatus, Error> {
    let status = unit_status(bus, unit).await?;
    if status.active_state.is_up() {
        let reply = bus
            .call(manager_call("StopUnit", &(unit, "replace"))?)
            .await?;
        // Otherwise it has just failed for good.
        if let Ok(reply) = reply {
            let job: OwnedObjectPath = reply.body().deserialize().map_err(Error::Bus)?;
            bus.job_result(&job).await?;
        }
    }
    Ok(status)
}

/// The call that starts the timer for the console logs, which all VMs share.
fn timer_call(unit: &Transient<'_>) -> Result<zbus::Message, Error> {
    let aux = [trim_service(unit.maqet)];
    manager_call(
        "StartTransientUnit",
        &(TRIM_TIMER, "fail", trim_timer(), &aux[..]),
    )
}

fn timer_started(reply: zbus::Result<zbus::Message>) -> Result<(), Error> {
    match reply {
        Err(error) if !is_error(&error, "org.freedesktop.systemd1.UnitExists") => {
            Err(Error::Refused {
                action: "start",
                unit: TRIM_TIMER.to_owned(),
                source: error,
            })
        }
        _ => Ok(()),
    }
}

fn start_call(unit: &Transient<'_>) -> Result<zbus::Message, Error> {
    let aux: &[(&str, Vec<Property<'_>>)] = &[];
    // `fail`: with the fixed name, this is what makes two starts at once safe.
    manager_call(
        "StartTransientUnit",
        &(unit.unit(), "fail", unit.properties(), aux),
    )
}

/// The job of a start that was accepted, or `None` when the unit turned out to be active.
async fn accepted(
    bus: &mut Bus,
    unit: &Transient<'_>,
    mut reply: zbus::Result<zbus::Message>,
) -> Result<Option<OwnedObjectPath>, Error> {
    let name = unit.unit();
    for attempt in 0..ATTEMPTS {
        let refusal = match reply {
            Ok(reply) => return reply.body().deserialize().map(Some).map_err(Error::Bus),
            Err(refusal) => refusal,
        };
        if !is_error(&refusal, "org.freedesktop.systemd1.UnitExists") {
            return Err(Error::Refused {
                action: "start",
                unit: name,
                source: refusal,
            });
        }
        // Someone else starts it, or it is on its way down.
        match settled(bus, &name).await? {
            ActiveState::Active | ActiveState::Reloading => return Ok(None),
            ActiveState::Failed => {
                let reset = manager_call("ResetFailedUnit", &(&name,))?;
                // Whether it worked shows in the next attempt.
                let _ = bus.call(reset).await?;
            }
            // Gone since, unless it is a file of that name that is in the way.
            _ if has_file(bus, &name).await? => {
                return Err(Error::Refused {
                    action: "start",
                    unit: name,
                    source: refusal,
                });
            }
            // Still there: a unit that comes after it keeps it.
            _ if attempt > 0 => forget(bus, &name).await?,
            _ => {}
        }
        reply = bus.call(start_call(unit)?).await?;
    }
    Err(Error::Job {
        action: "start",
        unit: name,
        result: "busy".to_owned(),
    })
}

/// Waits until a unit is neither on its way up nor on its way down, and returns what it is.
async fn settled(bus: &mut Bus, unit: &str) -> Result<ActiveState, Error> {
    bus.watch_unit(unit).await?;
    loop {
        let (state, has_job) = state_and_job(bus, unit).await?;
        let is_settled = match state {
            ActiveState::Activating | ActiveState::Deactivating => false,
            // Of a process that has just ended, the manager may not have heard.
            ActiveState::Active => is_alive(bus, unit).await?,
            _ => true,
        };
        if is_settled && !has_job {
            return Ok(state);
        }
        bus.next_change_of(unit).await?;
    }
}

/// Makes systemd forget a transient unit that is down, and that others keep loaded.
///
/// A unit that comes after this one refers to it, and so it stays, with the properties
/// of its last run, and StartTransientUnit refuses its name. Nothing over D-Bus
/// changes that; without its file, and after a reload, it is not known any more.
async fn forget(bus: &mut Bus, unit: &str) -> Result<(), Error> {
    let Some(file) = fragment(bus, unit).await?.map(PathBuf::from) else {
        return Ok(());
    };
    let Some(dir) = file
        .parent()
        .filter(|dir| dir.ends_with("systemd/transient"))
    else {
        return Ok(());
    };
    // Of two that do this, the second is not to take away what the first has started.
    let guard = lock(dir);
    let (state, has_job) = state_and_job(bus, unit).await?;
    if state == ActiveState::Inactive && !has_job {
        // What is not to be had shows in the next attempt.
        let _ = fs::remove_file(&file);
        let _ = fs::remove_dir_all(file.with_extension("service.d"));
        let _ = bus.call(manager_call("Reload", &())?).await?;
    }
    drop(guard);
    Ok(())
}

fn lock(dir: &Path) -> Option<File> {
    let dir = File::open(dir).ok()?;
    dir.lock().ok()?;
    Some(dir)
}
