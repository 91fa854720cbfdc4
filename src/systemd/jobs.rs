//! Starting and stopping: ask for a job, wait for that job, judge its result.

use std::collections::HashMap;

use zbus::OwnedObjectPath;

use super::bus::{Bus, Scope, manager_call};
use super::error::Error;
use super::status::{ActiveState, UnitStatus, has_file, state_and_job, unit_status};
use super::unit::{Property, TRIM_TIMER, Transient, trim_service, trim_timer};

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

/// Starts transient units, all at once, and waits until each is active or has failed.
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
    zbus::block_on(async {
        let mut bus = Bus::connect(scope).await?;
        // Listen before asking: a job may end before the reply that names it.
        bus.watch_jobs().await?;
        let mut calls = Vec::with_capacity(units.len());
        for unit in units {
            calls.push(start_call(unit)?);
        }
        if let Some(unit) = units.first() {
            calls.push(timer_call(unit)?);
        }
        let mut serials = bus.send(&calls).await?;
        let timer = serials.pop();
        let mut jobs = HashMap::new();
        for (index, serial) in serials.into_iter().enumerate() {
            let reply = bus.reply(serial).await?;
            let unit = &units[index];
            match accepted(&mut bus, unit, reply).await {
                Ok(Some(job)) => {
                    jobs.insert(job, index);
                }
                Ok(None) => done(index, Ok(Started::Already)),
                Err(error) => done(index, Err(error)),
            }
        }
        while !jobs.is_empty() {
            let (job, result) = bus.any_job(|job| jobs.contains_key(job)).await?;
            let index = jobs.remove(&job).expect("was just found");
            let unit = units[index].unit();
            let outcome = match result.as_str() {
                "done" => Ok(Started::Now),
                "failed" | "timeout" => unit_status(&mut bus, &unit)
                    .await
                    .map(|status| Started::Failed(Box::new(status))),
                _ => Err(Error::Job {
                    action: "start",
                    unit,
                    result,
                }),
            };
            done(index, outcome);
        }
        match timer {
            Some(serial) => timer_started(bus.reply(serial).await?),
            None => Ok(()),
        }
    })
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
    let aux: &[(&str, Vec<Property>)] = &[];
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
    for _ in 0..ATTEMPTS {
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
        bus.watch_unit(&name).await?;
        let state = loop {
            let (state, has_job) = state_and_job(bus, &name).await?;
            let settled = !matches!(state, ActiveState::Activating | ActiveState::Deactivating);
            if settled && !has_job {
                break state;
            }
            bus.next_change_of(&name).await?;
        };
        match state {
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

/// Stops a unit and waits until it is down. A unit that is not loaded is down already.
///
/// `asked` is called when systemd has accepted the request: from then on nothing restarts
/// the unit, whatever its processes do.
pub fn stop(scope: &Scope, unit: &str, asked: impl FnOnce()) -> Result<(), Error> {
    zbus::block_on(async {
        let mut bus = Bus::connect(scope).await?;
        bus.watch_jobs().await?;
        let reply = bus
            .call(manager_call("StopUnit", &(unit, "replace"))?)
            .await?;
        let job: OwnedObjectPath = match reply {
            Ok(reply) => reply.body().deserialize().map_err(Error::Bus)?,
            Err(error) if is_error(&error, "org.freedesktop.systemd1.NoSuchUnit") => return Ok(()),
            Err(source) => {
                return Err(Error::Refused {
                    action: "stop",
                    unit: unit.to_owned(),
                    source,
                });
            }
        };
        asked();
        match bus.job_result(&job).await?.as_str() {
            "done" => Ok(()),
            result => Err(Error::Job {
                action: "stop",
                unit: unit.to_owned(),
                result: result.to_owned(),
            }),
        }
    })
}

/// Sends a signal to the unit's main process. A unit that is not loaded has none.
pub fn kill(scope: &Scope, unit: &str, signal: i32) -> Result<(), Error> {
    zbus::block_on(async {
        let mut bus = Bus::connect(scope).await?;
        match bus
            .call(manager_call("KillUnit", &(unit, "main", signal))?)
            .await?
        {
            Ok(_) => Ok(()),
            Err(error)
                if is_error(&error, "org.freedesktop.systemd1.NoSuchUnit")
                    || is_error(&error, "org.freedesktop.systemd1.NoSuchProcess") =>
            {
                Ok(())
            }
            Err(source) => Err(Error::Refused {
                action: "kill",
                unit: unit.to_owned(),
                source,
            }),
        }
    })
}

/// Forgets that a unit failed. One that did not, or is not loaded, is as good.
pub fn reset_failed(scope: &Scope, unit: &str) -> Result<(), Error> {
    zbus::block_on(async {
        let mut bus = Bus::connect(scope).await?;
        let _ = bus.call(manager_call("ResetFailedUnit", &(unit,))?).await?;
        Ok(())
    })
}

/// Whether the manager answered with the D-Bus error of that name.
pub(super) fn is_error(error: &zbus::Error, name: &str) -> bool {
    matches!(error, zbus::Error::MethodError(found, _, _) if found.as_str() == name)
}
