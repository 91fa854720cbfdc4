//! ExecStop: asks the guest to power down, and waits for QEMU to end.
//!
//! For everyone who stops the unit: maqet, systemctl(1), logout, host shutdown.
//! Needs no database and starts no unit. When it gives up, systemd goes on with
//! SIGTERM, at which QEMU flushes its disks and ends.

use std::env;
use std::time::Duration;

use anyhow::bail;

use crate::ops::stop::{PowerDown, power_down as ask};
use crate::process::Process;

use super::launch::runtime_dir;

/// Powers the guest down within `limit`.
pub fn power_down(limit: Duration) -> anyhow::Result<()> {
    // Unset when QEMU ended by itself: then there is nothing to do.
    let pid = env::var("MAINPID").ok().and_then(|pid| pid.parse().ok());
    let Some(process) = pid.and_then(Process::open) else {
        return Ok(());
    };
    // `stop.action = "kill"`: SIGTERM, which systemd sends next, is all there is to it.
    if limit.is_zero() {
        return Ok(());
    }
    match ask(&runtime_dir()?, &process, limit)? {
        PowerDown::Done => Ok(()),
        PowerDown::NoGuest(state) => {
            bail!("there is no guest to ask, it is in state {state}: cutting the power")
        }
        PowerDown::StillUp => bail!(
            "the guest did not power down within {} s: cutting the power",
            limit.as_secs()
        ),
    }
}
