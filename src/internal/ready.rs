//! ExecStartPost: waits until QEMU has taken its arguments.
//!
//! A greeting would not do: QEMU greets before it has looked at its devices. The
//! answer to the first command comes from its main loop, after all of that.

use std::time::Duration;

use anyhow::Context;

use crate::qmp::Client;

use super::launch::runtime_dir;

/// Less than the unit's TimeoutStartSec, so that this message is the one that is seen.
const LIMIT: Duration = Duration::from_secs(25);

/// Waits for QEMU's first answer.
pub fn ready() -> anyhow::Result<()> {
    let socket = runtime_dir()?.ctl();
    // When QEMU ends, so do its listening sockets, and this connection with them.
    let mut monitor = Client::connect(&socket, LIMIT).context("QEMU ended while starting")?;
    monitor.set_timeout(LIMIT);
    monitor
        .status()
        .context("QEMU did not get to its main loop")?;
    Ok(())
}
