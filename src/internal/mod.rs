//! What the unit of a VM runs. Not for people: systemd calls these.

pub mod launch;
pub mod listen;
mod notify;
pub mod power_down;
pub mod ready;
pub mod ship;
pub mod trim;

use crate::ops::Host;
use crate::process::Undisturbed;
use crate::systemd;
use crate::vm::VmName;

/// What a process of the unit does before it ends because the VM does not start: what
/// fails at the first try is not tried again, whatever the restart policy.
fn give_up(name: &VmName) {
    // What systemd does next is to end this process, which is to fail by itself.
    std::mem::forget(Undisturbed::begin());
    // If it cannot be told, whoever started the VM tells it.
    let _ = Host::from_env().map(|host| systemd::give_up(&host.scope, &systemd::unit_name(name)));
}
