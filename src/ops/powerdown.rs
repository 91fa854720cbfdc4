//! The ACPI power button, pressed once. What waits for the guest is `stop`.

use std::time::Duration;

use crate::qmp::RunState;
use crate::vm::VmName;

use super::{Effect, Error, Host, monitor};

/// Presses the power button; a paused guest hears of it when it goes on.
///
/// # Errors
/// [`Error::WrongState`] where there is no guest that could ever hear of it.
pub fn powerdown(host: &Host, name: &VmName, limit: Duration) -> Result<Effect, Error> {
    let mut monitor = monitor::open(host, name, limit)?;
    let state = monitor.status()?.run_state;
    if matches!(
        state,
        RunState::Prelaunch
            | RunState::Shutdown
            | RunState::GuestPanicked
            | RunState::InternalError
    ) {
        return Err(Error::WrongState {
            name: name.clone(),
            state,
            why: "no guest hears its power button",
        });
    }
    monitor.execute("system_powerdown", ())?;
    Ok(Effect {
        changed: true,
        state,
    })
}
