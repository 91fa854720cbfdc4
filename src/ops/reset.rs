//! The reset button.

use std::time::Duration;

use crate::vm::VmName;

use super::{Effect, Error, Host, monitor};

/// Resets a VM as its reset button would: nothing in the guest is asked.
///
/// A VM that was paused is reset all the same, and does not run afterwards.
///
/// # Errors
/// [`Error::EndedByReset`] where QEMU was told to end instead (`-no-reboot`).
pub fn reset(host: &Host, name: &VmName, limit: Duration) -> Result<Effect, Error> {
    let mut monitor = monitor::open(host, name, limit)?;
    monitor.execute("system_reset", ())?;
    match monitor::wait_for_event(&mut monitor, &["RESET", "SHUTDOWN"], limit)?.as_str() {
        "SHUTDOWN" => Err(Error::EndedByReset(name.clone())),
        _ => Ok(Effect::since(&mut monitor, true)?),
    }
}
