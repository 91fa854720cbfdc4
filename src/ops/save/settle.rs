//! What becomes of a guest whose save was killed: it had been stopped for that.

use std::fs;
use std::path::Path;

use crate::lock::VmLock;
use crate::ops::{Error, Host, operation};
use crate::paths::{RuntimeDir, VmDir};
use crate::qmp::{Client, RunState};
use crate::saved::discard;
use crate::systemd::{self, ActiveState};
use crate::vm::VmName;

use super::{ANSWER, end_orphan};

/// Whether a save of a VM that runs was begun and has not said that the guest runs on.
pub(in crate::ops) fn is_left(runtime: &RuntimeDir) -> bool {
    runtime.saving().exists()
}

/// What was killed of which a guest that QEMU has in this state is stopped, in words.
pub(in crate::ops) fn cut_short(
    host: &Host,
    name: &VmName,
    state: &RunState,
) -> Option<&'static str> {
    let what = match state {
        RunState::Paused | RunState::FinishMigrate | RunState::Postmigrate
            if is_left(&host.paths.sockets(name)) =>
        {
            "a save"
        }
        RunState::Paused => operation::halted_for(host, name)?,
        _ => return None,
    };
    // Else that is at work. It may be a VM of another data directory: its log is where it is.
    let log = fs::read_link(host.paths.sockets(name).console_log()).ok();
    let dir = log.as_deref().and_then(Path::parent).map(Path::to_owned);
    let dir = dir.map_or_else(|| host.paths.vm(name), VmDir::at);
    VmLock::try_take(&dir.operation_lock()).ok()?;
    Some(what)
}

/// Has the guest go on, or brings a save to its end that lacks no more than that; says
/// which. The caller has the VM to itself.
pub(in crate::ops) fn settle(host: &Host, name: &VmName) -> Result<Option<String>, Error> {
    let runtime = host.paths.sockets(name);
    if !is_left(&runtime) {
        return Ok(None);
    }
    let unit = host.unit(name)?;
    // Whoever stops the unit may have it saved.
    if unit.active_state != ActiveState::Active {
        return Ok(None);
    }
    let mut monitor = Client::connect(&runtime.ctl(), ANSWER)?;
    monitor.set_timeout(ANSWER);
    end_orphan(&mut monitor)?;
    let state = monitor.status()?.run_state;
    if state == RunState::Postmigrate && runtime.saved().exists() {
        drop(monitor);
        systemd::stop(&host.scope, &unit.unit, || {})?;
        return Ok(Some(format!("VM `{name}` is saved, as was begun")));
    }
    // What it wrote fits no guest that runs on.
    let files = host.paths.saved(name);
    discard(&files).map_err(Error::io("cannot delete what a save has left"))?;
    let is_stopped = state != RunState::Running;
    if is_stopped {
        monitor.execute("cont", ())?;
    }
    fs::remove_file(runtime.saving()).map_err(Error::io("cannot delete what a save has left"))?;
    Ok(is_stopped.then(|| format!("VM `{name}` goes on: a save of it was killed")))
}
