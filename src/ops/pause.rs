//! Pausing: the virtual CPUs halt, QEMU stays. QMP calls this `stop`.

use std::time::Duration;

use crate::qmp::RunState;
use crate::vm::VmName;

use super::{Effect, Error, Host, monitor, operation};

/// Pauses a VM. One that is paused already, whatever the reason, stays so.
///
/// # Errors
/// [`Error::WrongState`] for a guest that sleeps or has ended.
pub fn pause(host: &Host, name: &VmName, limit: Duration) -> Result<Effect, Error> {
    // It may be halted for what was killed, and that has to be over then.
    operation::settle(host, name)?;
    let mut monitor = monitor::open(host, name, limit)?;
    let state = monitor.status()?.run_state;
    match state {
        RunState::Running => {}
        RunState::Suspended
        | RunState::Shutdown
        | RunState::GuestPanicked
        | RunState::InternalError => {
            return Err(Error::WrongState {
                name: name.clone(),
                state,
                why: "there is nothing to pause",
            });
        }
        _ => {
            let changed = false;
            return Ok(Effect { changed, state });
        }
    }
    monitor.execute("stop", ())?;
    // The event comes before the reply; without one, someone else was faster.
    let changed = monitor.events().any(|event| event.name == "STOP");
    Ok(Effect::since(&mut monitor, changed)?)
}
