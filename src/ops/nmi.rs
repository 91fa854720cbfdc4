//! The non-maskable interrupt: what makes a hung kernel say where it hangs.

use std::time::Duration;

use crate::vm::VmName;

use super::{Effect, Error, Host, monitor};

/// Sends a non-maskable interrupt; a paused guest gets it when it goes on.
pub fn nmi(host: &Host, name: &VmName, limit: Duration) -> Result<Effect, Error> {
    let mut monitor = monitor::open(host, name, limit)?;
    let state = monitor.status()?.run_state;
    monitor.execute("inject-nmi", ())?;
    Ok(Effect {
        changed: true,
        state,
    })
}
