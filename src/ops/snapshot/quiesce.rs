//! A guest whose file systems are frozen while its disks are looked at, and not longer.
//!
//! A process of its own thaws them: as soon as this one says so, or is no more. So a guest
//! is thawed whatever becomes of the command that had it frozen.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::ops::{Error, Host, agent};
use crate::qmp::{self, Agent, Client, lock_path};
use crate::vm::VmName;

/// How long the guest may take to write out what is in its caches.
const FREEZE: Duration = Duration::from_secs(60);

/// How long the guest is asked to thaw, should it not answer.
const THAW: Duration = Duration::from_secs(180);

/// Between tries to thaw.
const PAUSE: Duration = Duration::from_millis(200);

/// A guest that is frozen, and thawed when this is dropped.
struct Frozen(Child);

/// Does something while the guest's file systems are frozen, if that is wanted.
///
/// # Errors
/// Those of `work`; [`Error::NoAgent`], and what the agent says. Then nothing is done.
pub(in crate::ops) fn during<T, E>(
    host: &Host,
    vm: &VmName,
    monitor: &mut Client,
    is_wanted: bool,
    work: impl FnOnce(&mut Client) -> Result<T, E>,
) -> Result<T, Error>
where
    Error: From<E>,
{
    if !is_wanted {
        return Ok(work(monitor)?);
    }
    let frozen = freeze(host, vm, monitor)?;
    let done = work(monitor);
    frozen.thaw_or_tell(host, vm);
    Ok(done?)
}

/// Has a guest's agent freeze its file systems.
///
/// # Errors
/// [`Error::NoAgent`]; what the agent says. The guest is not frozen then, or not for long.
fn freeze(host: &Host, vm: &VmName, monitor: &mut Client) -> Result<Frozen, Error> {
    let is_open = agent::is_open(monitor)?;
    if is_open != Some(true) {
        return Err(Error::NoAgent {
            name: vm.clone(),
            channel: is_open.is_some(),
        });
    }
    let mut guard = Command::new(host.maqet()?);
    guard.args(["internal", "thaw", vm.as_str()]);
    // Ctrl-C is not for it.
    guard.process_group(0);
    guard.stdin(Stdio::piped()).stdout(Stdio::null());
    let guard = guard.spawn();
    let frozen = Frozen(guard.map_err(Error::io("cannot run what thaws the guest"))?);
    let mut agent = open(host, vm, FREEZE)?;
    agent.execute("guest-fsfreeze-freeze", ())?;
    Ok(frozen)
}

impl Frozen {
    /// Has the guest go on; whether it does.
    fn thaw(mut self) -> bool {
        drop(self.0.stdin.take());
        self.0.wait().is_ok_and(|status| status.success())
    }

    /// Has the guest go on, and tells if it does not say so.
    fn thaw_or_tell(self, host: &Host, vm: &VmName) {
        if !self.thaw() {
            (host.tell)(&format!(
                "the guest of VM `{vm}` does not say that it is thawed"
            ));
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // The end of its input is its sign. That of one that was thawed has come.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Waits for the end of standard input, and thaws the guest of a VM.
///
/// # Errors
/// If the guest does not say that it is thawed within three minutes.
pub fn thaw_at_end(host: &Host, vm: &VmName) -> Result<(), Error> {
    // Whatever it is that ends it.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let deadline = Instant::now() + THAW;
    loop {
        match thaw(host, vm) {
            Ok(()) => return Ok(()),
            // Who does not run is not frozen.
            Err(Error::Qmp(qmp::Error::Connect { .. })) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn thaw(host: &Host, vm: &VmName) -> Result<(), Error> {
    let mut agent = open(host, vm, qmp::DEFAULT_TIMEOUT)?;
    agent.execute("guest-fsfreeze-thaw", ())?;
    let status = agent.execute("guest-fsfreeze-status", ())?;
    match status == json!("thawed") {
        true => Ok(()),
        false => Err(Error::Command(format!(
            "the guest of VM `{vm}` is {status}"
        ))),
    }
}

fn open(host: &Host, vm: &VmName, limit: Duration) -> Result<Agent, Error> {
    let socket = host.paths.sockets(vm).agent();
    let mut agent = Agent::open(&socket, &lock_path(&socket), limit)?;
    agent.set_timeout(limit);
    Ok(agent)
}
