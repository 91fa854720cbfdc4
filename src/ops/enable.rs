//! Having VMs started at boot.
//!
//! What is enabled is for systemd to know: an instance of `maqet@.service` for each
//! VM. "At boot" is when the user's manager starts, and that is with the machine only
//! for a user who lingers.

use crate::systemd::{boot, logind};
use crate::vm::VmName;

use super::{Error, Host};

/// Has defined VMs started at boot. Returns those that were not before.
pub fn enable(host: &Host, names: &[VmName]) -> Result<Vec<VmName>, Error> {
    for name in names {
        host.vm(name)?;
    }
    Ok(boot::enable(&host.scope, names)?)
}

/// Whether the caller lingers; `None` where no logind can tell.
///
/// Who has no session and does not linger is not known to logind, but then has no
/// user manager either.
pub fn lingers() -> Option<bool> {
    logind::lingers(uid()).ok()
}

/// Has the caller linger from now on.
pub fn linger() -> Result<(), Error> {
    logind::set_linger(uid()).map_err(Error::Linger)
}

pub(super) fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
