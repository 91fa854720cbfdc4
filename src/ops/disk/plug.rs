//! A disk of a VM that may run: plugged at once, or from the next start on.

use std::time::Duration;

use serde::Serialize;

use crate::config::DeviceName;
use crate::ops::device::{self, Target};
use crate::ops::error::with_causes;
use crate::ops::{Error, Host};
use crate::vm::VmName;

/// From when on a VM has, or has not, a disk that its definition has, or has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// It does not run.
    Stopped,
    /// At once.
    Now,
    /// From the next start on, for this reason.
    NextStart(String),
}

/// Plugs a disk that the definition has, if the VM runs.
pub(super) fn plug(host: &Host, name: &VmName, disk: &DeviceName) -> Result<When, Error> {
    if !host.unit(name)?.active_state.is_up() {
        return Ok(When::Stopped);
    }
    let options = device::add::Options {
        dir: host.paths.vm(name).path().to_owned(),
        persist: false,
    };
    let what = format!("disk.{disk}");
    Ok(match device::add::add(host, name, &what, &[], &options) {
        Ok(_) => When::Now,
        // The definition has it, and that is what was asked for.
        Err(error) => When::NextStart(with_causes(&error)),
    })
}

/// Takes a disk from a VM and from its definition.
///
/// # Errors
/// Those of a guest that does not let go of it; the definition has it then as before.
pub(super) fn unplug(
    host: &Host,
    name: &VmName,
    disk: &DeviceName,
    timeout: Duration,
) -> Result<When, Error> {
    let options = device::rm::Options {
        timeout: Some(timeout),
        persist: true,
    };
    let target = Target::Disk(disk.clone());
    let removed = device::rm::rm(host, name, &target, options)?;
    Ok(match removed.outcome {
        device::rm::Outcome::AtNextStart => When::NextStart("its bus has no hot-plug".to_owned()),
        _ => When::Now,
    })
}
