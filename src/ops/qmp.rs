//! One QMP command on a running VM, from any process.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::Value;

use crate::qmp::{self, Monitor, lock_path};
use crate::systemd::ActiveState;
use crate::vm::VmName;

use super::{Error, Host};

/// Executes a command on the VM's monitor and returns QEMU's answer.
///
/// Opens neither the database nor a bus while all is well.
pub fn execute(
    host: &Host,
    name: &VmName,
    command: &str,
    arguments: Option<&Value>,
    limit: Duration,
) -> Result<Value, Error> {
    let socket = host.paths.sockets(name).qmp();
    let answer = Monitor::open(&socket, &lock_path(&socket), limit)
        .and_then(|mut monitor| monitor.execute_within(command, arguments, limit));
    answer.map_err(|error| match error {
        qmp::Error::Connect { ref source, .. }
            if matches!(
                source.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            why_gone(host, name).unwrap_or(error.into())
        }
        other => other.into(),
    })
}

/// Why there is no monitor: no such VM, not running, or running without its sockets.
pub(super) fn why_gone(host: &Host, name: &VmName) -> Option<Error> {
    match host.unit(name) {
        Ok(unit) if unit.active_state == ActiveState::Active => Some(Error::MonitorGone {
            name: name.clone(),
            socket: host.paths.sockets(name).qmp(),
        }),
        _ => Some(match host.vm(name) {
            Ok(_) => Error::NotRunning(name.clone()),
            Err(error) => error,
        }),
    }
}
