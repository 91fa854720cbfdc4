//! The monitor of one VM, for operations that send it commands.

use std::time::{Duration, Instant};

use crate::qmp::{self, Awaited, Monitor, lock_path};
use crate::vm::VmName;

use super::qmp::why_gone;
use super::stop::is_gone;
use super::{Error, Host};

/// The VM's monitor, with `limit` to get at it and for each command.
pub(super) fn open(host: &Host, name: &VmName, limit: Duration) -> Result<Monitor, Error> {
    let socket = host.paths.sockets(name).qmp();
    let opened = Monitor::open(&socket, &lock_path(&socket), limit);
    let mut monitor = opened.map_err(|error| match error {
        qmp::Error::Connect { ref source, .. } if is_gone(source) => {
            why_gone(host, name).unwrap_or(error.into())
        }
        error => error.into(),
    })?;
    monitor.set_timeout(limit);
    Ok(monitor)
}

/// Waits for one of these events; returns its name.
pub(super) fn wait_for_event(
    monitor: &mut Monitor,
    names: &[&str],
    limit: Duration,
) -> Result<String, Error> {
    let deadline = Instant::now() + limit;
    while let Some(event) =
        monitor.next_event(deadline.saturating_duration_since(Instant::now()))?
    {
        if names.contains(&event.name.as_str()) {
            return Ok(event.name);
        }
    }
    let awaited = Awaited::Event;
    Err(qmp::Error::Timeout { awaited, limit }.into())
}
