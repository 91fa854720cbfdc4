//! The monitor of one VM, for operations that send it commands.

use std::time::{Duration, Instant};

use crate::qmp::{self, Awaited, Monitor, lock_path};
use crate::vm::VmName;

use super::qmp::why_gone;
use super::stop::is_gone;
use super::{Error, Host};

/// A connection to a running VM for a program to keep, one command after the other.
///
/// It is to `user.sock`: whatever the program does there, and however long,
/// maqet's own commands are not kept waiting. Only one program at a time can
/// have it; the next one is told who that is. With several threads or VMs, keep
/// them in a [`Pool`](qmp::Pool):
///
/// ```no_run
/// use std::time::Duration;
///
/// use maqet::ops::{self, Host};
/// use maqet::qmp::Pool;
/// use maqet::vm::VmName;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let host = Host::from_env()?;
///     let pool = Pool::<VmName>::new(Duration::from_secs(10));
///     let web: VmName = "web".parse()?;
///     let limit = Duration::from_secs(5);
///     let mut qmp = pool.get(web.clone(), limit, |left| {
///         ops::connect(&host, &web, left)
///     })?;
///     println!("{}", qmp.status()?.run_state);
///     Ok(())
/// }
/// ```
///
/// # Errors
///
/// [`NotRunning`](Error::NotRunning), [`NoSuchVm`](Error::NoSuchVm), and
/// [`Busy`](qmp::Error::Busy) and [`Timeout`](qmp::Error::Timeout) after `limit`.
pub fn connect(
    host: &Host,
    name: &VmName,
    limit: impl Into<Option<Duration>>,
) -> Result<Monitor, Error> {
    let socket = host.paths.sockets(name).user();
    Monitor::open(&socket, &lock_path(&socket), limit).map_err(or_why_gone(host, name))
}

/// The VM's monitor, with `limit` to get at it and for each command.
pub(super) fn open(host: &Host, name: &VmName, limit: Duration) -> Result<Monitor, Error> {
    let socket = host.paths.sockets(name).qmp();
    let opened = Monitor::open(&socket, &lock_path(&socket), limit);
    let mut monitor = opened.map_err(or_why_gone(host, name))?;
    monitor.set_timeout(limit);
    Ok(monitor)
}

/// Why there is no socket, where there is none.
pub(super) fn or_why_gone(host: &Host, name: &VmName) -> impl Fn(qmp::Error) -> Error {
    |error| match error {
        qmp::Error::Connect { ref source, .. } if is_gone(source) => {
            why_gone(host, name).unwrap_or(error.into())
        }
        error => error.into(),
    }
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
