//! The guest agent of a running VM, from any process.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::qemu::AGENT_CHARDEV;
use crate::qmp::{self, Agent, AgentInfo, Client, lock_path};
use crate::vm::VmName;

use super::{Error, Host};

/// Connects to the agent; nobody else talks to it until that is dropped.
///
/// QEMU is asked first whether anyone in the guest listens at all. `limit` is for
/// all of this, and then for each command.
///
/// # Errors
///
/// [`NoAgent`](Error::NoAgent), [`Busy`](qmp::Error::Busy) if another process
/// talks to the agent until `limit`, and those of the monitor.
pub fn connect(host: &Host, name: &VmName, limit: Duration) -> Result<Agent, Error> {
    let begin = Instant::now();
    let mut monitor = super::monitor::open(host, name, limit)?;
    let is_open = is_open(&mut monitor)?;
    drop(monitor);
    if is_open != Some(true) {
        return Err(Error::NoAgent {
            name: name.clone(),
            channel: is_open.is_some(),
        });
    }
    let socket = host.paths.sockets(name).agent();
    let left = limit.saturating_sub(begin.elapsed());
    let mut agent = Agent::open(&socket, &lock_path(&socket), left)
        .map_err(super::monitor::or_why_gone(host, name))?;
    agent.set_timeout(limit);
    Ok(agent)
}

/// Whether the agent answers.
///
/// # Errors
///
/// Those of [`connect`], and [`Timeout`](qmp::Error::Timeout) if it does not.
pub fn ping(host: &Host, name: &VmName, limit: Duration) -> Result<(), Error> {
    Ok(connect(host, name, limit)?.ping()?)
}

/// What the agent is and can do.
///
/// # Errors
///
/// Those of [`ping`].
pub fn info(host: &Host, name: &VmName, limit: Duration) -> Result<AgentInfo, Error> {
    Ok(connect(host, name, limit)?.info()?)
}

/// Whether something in the guest has the agent's channel open; `None` without a channel.
pub(super) fn is_open(monitor: &mut Client) -> Result<Option<bool>, qmp::Error> {
    let chardevs: Vec<Value> = monitor.query("query-chardev")?;
    let channel = chardevs
        .iter()
        .find(|chardev| chardev["label"] == AGENT_CHARDEV);
    Ok(channel.map(|channel| channel["frontend-open"] == json!(true)))
}
