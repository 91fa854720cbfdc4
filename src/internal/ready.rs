//! ExecStartPost: waits until QEMU has taken its arguments.
//!
//! A greeting would not do: QEMU greets before it has looked at its devices. The
//! answer to the first command comes from its main loop, after all of that.

use std::time::Duration;

use anyhow::Context;

use crate::ops::{Host, save};
use crate::qmp::{Client, RunState};

use super::launch::runtime_dir;

/// Less than the unit's TimeoutStartSec, so that this message is the one that is seen.
const LIMIT: Duration = Duration::from_secs(25);

/// Waits for QEMU's first answer, and for a saved state to be loaded if there is one.
pub fn ready() -> anyhow::Result<()> {
    let runtime = runtime_dir()?;
    let socket = runtime.ctl();
    // When QEMU ends, so do its listening sockets, and this connection with them.
    let mut monitor = Client::connect(&socket, LIMIT).context("QEMU ended while starting")?;
    monitor.set_timeout(LIMIT);
    let status = monitor
        .status()
        .context("QEMU did not get to its main loop")?;
    // Also the state of one that the user's own arguments have wait for something else.
    if status.run_state == RunState::Inmigrate {
        let files = Host::from_env()?.paths.saved(&runtime.vm()?);
        if files.state().exists() {
            save::load(&mut monitor, &files).context("the saved state cannot be loaded")?;
        }
    }
    Ok(())
}
