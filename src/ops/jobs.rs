//! The jobs of a running VM.

use crate::qmp::{Job, job};
use crate::vm::VmName;

use super::{Error, Host};

/// The jobs that QEMU has, those that have ended and were not dismissed included.
pub fn jobs(host: &Host, name: &VmName) -> Result<Vec<Job>, Error> {
    Ok(job::list(&mut *super::wait::open(host, name)?)?)
}
