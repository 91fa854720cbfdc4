//! Going on after a pause, and waking a guest that sleeps.

use std::time::Duration;

use crate::qmp::RunState;
use crate::vm::VmName;

use super::{Effect, Error, Host, monitor, operation};

/// Lets a paused VM go on, and wakes one that has suspended itself.
///
/// # Errors
/// [`Error::WrongState`] where only a reset helps.
pub fn resume(host: &Host, name: &VmName, limit: Duration) -> Result<Effect, Error> {
    // It may be halted for what was killed, and that has to be over then.
    operation::settle(host, name)?;
    let mut monitor = monitor::open(host, name, limit)?;
    let state = monitor.status()?.run_state;
    if matches!(state, RunState::Shutdown | RunState::InternalError) {
        return Err(Error::WrongState {
            name: name.clone(),
            state,
            why: "it can only go on after a reset",
        });
    }
    let changed = false;
    let mut effect = Effect { changed, state };
    if !matches!(effect.state, RunState::Running | RunState::Suspended) {
        monitor.execute("cont", ())?;
        // The event comes before the reply; without one, someone else was faster.
        let changed = monitor.events().any(|event| event.name == "RESUME");
        // Newer QEMUs can pause a guest that sleeps; it sleeps again then.
        effect = Effect::since(&mut monitor, changed)?;
    }
    if effect.state == RunState::Suspended {
        monitor.execute("system_wakeup", ())?;
        monitor::wait_for_event(&mut monitor, &["WAKEUP"], limit)?;
        effect = Effect::since(&mut monitor, true)?;
    }
    Ok(effect)
}
