//! ExecStartPost: waits until QEMU has taken its arguments, and the guest is as far
//! as the definition wants it to be.
//!
//! A greeting would not do: QEMU greets before it has looked at its devices. The
//! answer to the first command comes from its main loop, after all of that.
//!
//! A guest that is not up in time is left running, with a word of it for whoever
//! waits: what it is about is to be seen on its console. Failing would cut its power.

use std::env;
use std::fs;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;

use crate::config::ReadyLevel;
use crate::ops::ready::{NotReady, Signs, wait};
use crate::ops::{Host, hmp, save, snapshot};
use crate::paths::RuntimeDir;
use crate::process::Process;
use crate::qemu::net::nic_id;
use crate::qmp::{Client, RunState};
use crate::vm::VmName;

use super::launch::runtime_dir;

/// Less than the unit's TimeoutStartSec, so that this message is the one that is seen.
const LIMIT: Duration = Duration::from_secs(25);

/// Waits for QEMU's first answer, for a saved state to be loaded if there is one, and
/// for the guest to be up.
///
/// `tell` is for what the journal should know.
pub fn ready(tell: &dyn Fn(String)) -> anyhow::Result<()> {
    let runtime = runtime_dir()?;
    let name = runtime.vm()?;
    wait_until_up(&runtime, &name, tell).inspect_err(|_| super::give_up(&name))
}

fn wait_until_up(runtime: &RuntimeDir, name: &VmName, tell: &dyn Fn(String)) -> anyhow::Result<()> {
    // When QEMU ends, so do its listening sockets, and this connection with them.
    let mut monitor =
        Client::connect(&runtime.ctl(), LIMIT).context("QEMU ended while starting")?;
    monitor.set_timeout(LIMIT);
    let status = monitor
        .status()
        .context("QEMU did not get to its main loop")?;
    let host = Host::from_env()?;
    let files = host.paths.saved(name);
    // One in this state may also wait for what the user's own arguments say.
    if status.run_state == RunState::Inmigrate && files.state().exists() {
        let saved = save::load(&mut monitor, &files).context("the saved state cannot be loaded")?;
        // One that was not up yet when it was saved is waited for, if it runs.
        if saved.ready || !saved.was_running {
            return Ok(());
        }
    }
    if status.run_state == RunState::Prelaunch {
        monitor.set_timeout(None);
        let memory = snapshot::resume::load(&host, name, &mut monitor)
            .context("the snapshot cannot be loaded")?;
        monitor.set_timeout(LIMIT);
        if memory.is_some_and(|memory| memory.ready || !memory.was_running) {
            return Ok(());
        }
    }
    let definition =
        fs::read_to_string(runtime.definition()).context("cannot read the definition")?;
    let config = host.whole_config(name, &definition)?;
    // No option of the command line says these.
    for (name, _) in config.nets.iter().filter(|(_, net)| !net.link) {
        let link = json!({ "name": nic_id(name), "up": false });
        monitor
            .execute("set_link", link)
            .context("a network cannot be unplugged")?;
    }
    if let Some(target) = config.balloon.as_ref().and_then(|it| it.target) {
        let target = json!({ "value": target.bytes() });
        monitor
            .execute("balloon", target)
            .context("the guest cannot be asked for memory")?;
    }
    if config.ready.level == ReadyLevel::Monitor {
        return Ok(());
    }
    let pid = env::var("MAINPID").ok().and_then(|pid| pid.parse().ok());
    let Some(process) = pid.and_then(Process::open) else {
        bail!("QEMU ended while starting");
    };
    // Whoever stops the VM meanwhile needs it.
    drop(monitor);
    let mut signs = Signs {
        runtime,
        console_log: &host.paths.vm(name).console_log(),
        process: &process,
        hmp: &mut |line, limit| {
            let mut monitor = Client::connect(&runtime.ctl(), limit)?;
            monitor.set_timeout(limit);
            hmp::print(&mut monitor, line)
        },
    };
    let limit = config.ready.timeout.duration();
    match wait(&mut signs, &config, &config.ready.level, limit) {
        Ok(()) => fs::write(runtime.ready(), "").context("cannot leave word of a guest that is up"),
        Err(NotReady::Ended) => bail!("QEMU ended before the guest was up"),
        Err(reason) => {
            tell(format!("the guest is not up: {reason}"));
            fs::write(runtime.not_ready(), reason.to_string())
                .context("cannot leave word of a guest that is not up")
        }
    }
}
