//! What a service manager says of itself, and of the services that it runs.

use std::fs;
use std::time::Duration;

use zbus::{Message, OwnedVariant, Variant};

use super::bus::{Bus, MANAGER, MANAGER_PATH, SERVICE, Scope, get_call, property_call};
use super::error::Error;

/// The manager's word for how it does: `running`, `degraded`, `starting` … (systemctl(1), is-system-running).
pub fn state(scope: &Scope) -> Result<String, Error> {
    zbus::block_on(async {
        let mut bus = Bus::connect(scope).await?;
        let call = get_call(MANAGER_PATH, MANAGER, "SystemState")?;
        let value = value(bus.call(call).await?)?;
        Ok(match &*value {
            Variant::Str(state) => state.to_string(),
            other => format!("{other:?}"),
        })
    })
}

/// How long the service `unit` may take to stop; `None` for as long as it likes.
pub fn stop_timeout(scope: &Scope, unit: &str) -> Result<Option<Duration>, Error> {
    zbus::block_on(async {
        let mut bus = Bus::connect(scope).await?;
        let timeout = property_call(unit, SERVICE, "TimeoutStopUSec")?;
        let timeout = value(bus.call(timeout).await?)?;
        Ok(match &*timeout {
            Variant::U64(micros) if *micros != u64::MAX => Some(Duration::from_micros(*micros)),
            _ => None,
        })
    })
}

/// The controllers of control groups that a manager was given for its units, such as
/// `memory`; `None` where that cannot be told, as without cgroups of version 2.
pub fn controllers(scope: &Scope) -> Result<Option<Vec<String>>, Error> {
    let group = zbus::block_on(async {
        let mut bus = Bus::connect(scope).await?;
        let call = get_call(MANAGER_PATH, MANAGER, "ControlGroup")?;
        value(bus.call(call).await?)
    })?;
    let Variant::Str(group) = &*group else {
        return Ok(None);
    };
    let words = fs::read_to_string(format!("/sys/fs/cgroup{group}/cgroup.controllers"));
    let words = words.ok();
    Ok(words.map(|words| words.split_whitespace().map(str::to_owned).collect()))
}

fn value(reply: zbus::Result<Message>) -> Result<OwnedVariant, Error> {
    let reply = reply.map_err(Error::Bus)?;
    reply.body().deserialize().map_err(Error::Bus)
}
