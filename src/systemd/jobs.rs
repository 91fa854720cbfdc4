//! Stopping: ask for a job, wait for that job, judge its result.

use zbus::OwnedObjectPath;

use super::bus::{Bus, Scope, manager_call};
use super::error::Error;
use super::property::Setting;
use super::status::is_first_try;
use super::unit::Property;

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

/// Lets a unit that has just failed be failed: its restart policy is for one that was up.
///
/// This is called by a process of the unit, before it ends. systemd does not restart what
/// is to be stopped, and says how it failed all the same. The unit's own restarts go on.
pub fn give_up(scope: &Scope, unit: &str) -> Result<(), Error> {
    zbus::block_on(async {
        let mut bus = Bus::connect(scope).await?;
        if is_first_try(&mut bus, unit).await? {
            let stop = manager_call("StopUnit", &(unit, "replace"))?;
            // Refused, it is as if nobody had asked.
            let _ = bus.call(stop).await?;
        }
        Ok(())
    })
}

/// Changes properties of a unit, until it ends or the host does; all of them or none.
///
/// The unit need not be loaded.
pub fn set_properties(scope: &Scope, unit: &str, settings: &[Setting]) -> Result<(), Error> {
    zbus::block_on(async {
        let mut bus = Bus::connect(scope).await?;
        set(&mut bus, unit, settings).await
    })
}

async fn set(bus: &mut Bus, unit: &str, settings: &[Setting]) -> Result<(), Error> {
    let properties: Vec<Property<'_>> = settings.iter().flat_map(Setting::properties).collect();
    let call = manager_call("SetUnitProperties", &(unit, true, properties))?;
    match bus.call(call).await? {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::Refused {
            action: "change",
            unit: unit.to_owned(),
            source,
        }),
    }
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
