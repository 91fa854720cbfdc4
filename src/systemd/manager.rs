//! What a service manager says of itself, and of the services that it runs.

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

/// What a service is given.
#[derive(Debug)]
pub struct Service {
    /// How long it may take to stop; `None` for as long as it likes.
    pub stop_timeout: Option<Duration>,
    /// Its cgroup, from the root of the tree; empty while it does not run.
    pub control_group: String,
}

/// What the service `unit` is given.
pub fn service(scope: &Scope, unit: &str) -> Result<Service, Error> {
    zbus::block_on(async {
        let mut bus = Bus::connect(scope).await?;
        let timeout = property_call(unit, SERVICE, "TimeoutStopUSec")?;
        let timeout = value(bus.call(timeout).await?)?;
        let group = property_call(unit, SERVICE, "ControlGroup")?;
        let group = value(bus.call(group).await?)?;
        Ok(Service {
            stop_timeout: match &*timeout {
                Variant::U64(micros) if *micros != u64::MAX => Some(Duration::from_micros(*micros)),
                _ => None,
            },
            control_group: match &*group {
                Variant::Str(group) => group.to_string(),
                _ => String::new(),
            },
        })
    })
}

fn value(reply: zbus::Result<Message>) -> Result<OwnedVariant, Error> {
    let reply = reply.map_err(Error::Bus)?;
    reply.body().deserialize().map_err(Error::Bus)
}
