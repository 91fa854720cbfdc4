//! ExecStop: asks the guest to power down, and waits for QEMU to end; or saves its state.
//!
//! For everyone who stops the unit: maqet, systemctl(1), logout, host shutdown.
//! Needs no database and starts no unit. When it gives up, systemd goes on with
//! SIGTERM, at which QEMU flushes its disks and ends.

use std::env;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::ops::save::GoOn;
use crate::ops::stop::{PowerDown, power_down as ask};
use crate::ops::{self, Host};
use crate::paths::RuntimeDir;
use crate::process::Process;
use crate::qmp::{Client, DEFAULT_TIMEOUT, RunState};

use super::launch::runtime_dir;

/// What is left for powering down when saving did not work, whatever time that took.
/// Less than what systemd allows beyond the unit's own timeout.
const AFTER_SAVE: Duration = Duration::from_secs(10);

/// Powers the guest down within `limit`, or saves its state if it is to be saved.
///
/// `tell` is for what the journal should know.
pub fn power_down(limit: Duration, save: bool, tell: &dyn Fn(String)) -> anyhow::Result<()> {
    let begun = Instant::now();
    // Unset when QEMU ended by itself: then there is nothing to do.
    let pid = env::var("MAINPID").ok().and_then(|pid| pid.parse().ok());
    let Some(process) = pid.and_then(Process::open) else {
        return Ok(());
    };
    // `stop.action = "kill"`: SIGTERM, which systemd sends next, is all there is to it.
    if limit.is_zero() {
        return Ok(());
    }
    let runtime = runtime_dir()?;
    if runtime.saved().exists() && is_saved(&runtime)? {
        return Ok(());
    }
    let mut left = limit;
    if save {
        match save_state(&runtime, limit) {
            Ok(bytes) => {
                tell(format!("saved its state, {bytes} bytes"));
                return Ok(());
            }
            Err(error) => tell(format!("{error:#}: asking the guest to power down")),
        }
        left = limit.saturating_sub(begun.elapsed()).max(AFTER_SAVE);
    }
    match ask(&runtime, &process, left)? {
        PowerDown::Done => Ok(()),
        PowerDown::NoGuest(state) => {
            bail!("there is no guest to ask, it is in state {state}: cutting the power")
        }
        PowerDown::StillUp => bail!(
            "the guest did not power down within {} s: cutting the power",
            left.as_secs()
        ),
    }
}

/// Whether QEMU has done nothing more since its state was saved.
fn is_saved(runtime: &RuntimeDir) -> anyhow::Result<bool> {
    let mut monitor = Client::connect(&runtime.ctl(), DEFAULT_TIMEOUT)?;
    Ok(monitor.status()?.run_state == RunState::Postmigrate)
}

fn save_state(runtime: &RuntimeDir, limit: Duration) -> anyhow::Result<u64> {
    let name = runtime.vm()?;
    let files = Host::from_env()?.paths.saved(&name);
    Ok(ops::save::write(
        &name,
        runtime,
        &files,
        Some(limit),
        &mut |_| GoOn::Yes,
    )?)
}
