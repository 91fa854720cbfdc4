//! `maqet.trim.timer`: copies the consoles of running VMs to the journal, and keeps their
//! logs bounded.
//!
//! A guest that prints without end would fill the disk, and no process of maqet
//! is there to watch. systemd is: `maqet start` asks it for one timer, for all
//! VMs of the user, and the timer is given up when none of them runs.

use std::fs;
use std::io;

use anyhow::Context;

use crate::console;
use crate::ops::Host;
use crate::paths::RuntimeDir;
use crate::systemd;

use super::ship;

/// Copies and trims the console log of every running VM, and stops its own timer when there is none.
pub fn trim() -> anyhow::Result<()> {
    let host = Host::from_env()?;
    let dirs = match fs::read_dir(host.paths.cache()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        other => Some(other.context("cannot read the runtime directory")?),
    };
    let mut vms = Vec::new();
    for dir in dirs.into_iter().flatten() {
        let dir = dir.context("cannot read the runtime directory")?;
        if dir.file_type().is_ok_and(|kind| kind.is_dir()) {
            vms.push(RuntimeDir::at(dir.path()));
        }
    }
    let copied = ship::running(&host, &vms);
    let mut trimmed = Ok(());
    for runtime in &vms {
        // One log that cannot be trimmed is no reason to let the others grow.
        let ports = runtime.port_logs().unwrap_or_default();
        for log in [runtime.console_log(), runtime.events_log()]
            .iter()
            .chain(&ports)
        {
            trimmed = trimmed.and(console::trim(log));
        }
    }
    trimmed.context("cannot trim a console log")?;
    let units = systemd::list(&host.scope, "maqet-*.service")?;
    if !units.iter().any(|unit| unit.active.is_up()) {
        systemd::stop(&host.scope, systemd::TRIM_TIMER, || {})?;
    }
    copied
}
