//! How to get at a VM's disks: there is one way while it runs, and another while it does not.

use std::thread;
use std::time::{Duration, Instant};

use crate::lock::{self, VmLock};
use crate::qmp::{self, Monitor, RunState, lock_path};
use crate::vm::VmName;

use super::qmp::why_gone;
use super::stop::is_gone;
use super::{Error, Host};

/// How long a VM may take to start or to end, and another command to be done with its monitor.
const LIMIT: Duration = Duration::from_secs(30);

/// Between looks at what nothing tells of: a lock, a socket that is not there yet.
const PAUSE: Duration = Duration::from_millis(5);

/// Between looks at a state that is being loaded; its end is an event, and seen at once.
const LOOK: Duration = Duration::from_millis(200);

/// Who has a VM's disks, and so how they are reached. There is nothing in between.
pub(super) enum Reach {
    /// Nobody: they are the caller's while it holds the lock, and QEMU's tools work on them.
    Stopped(VmLock),
    /// QEMU: it is told what to do.
    Running(Box<Monitor>),
}

/// Tells whether a VM runs, in the only way that stays true: by having its lock or its monitor.
///
/// A VM that is starting or stopping is waited for, and so is one that loads a saved
/// state. The monitor has no limit for its commands: what QEMU does to disks takes as
/// long as it takes, and QEMU's end ends the connection.
///
/// # Errors
/// What keeps the monitor from being had in time: [`qmp::Error::Busy`],
/// [`Error::MonitorGone`]; [`lock::Error::Held`] by someone who is no QEMU.
pub(super) fn reach(host: &Host, name: &VmName) -> Result<Reach, Error> {
    let path = host.paths.vm(name).lock();
    let socket = host.paths.sockets(name).qmp();
    let deadline = Instant::now() + LIMIT;
    loop {
        let held = match VmLock::try_take(&path) {
            Ok(lock) => {
                lock.pass_on().map_err(Error::io("cannot keep a lock"))?;
                return Ok(Reach::Stopped(lock));
            }
            Err(error @ lock::Error::Held { .. }) => error,
            Err(error) => return Err(error.into()),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        match Monitor::open(&socket, &lock_path(&socket), left) {
            Ok(mut monitor) => {
                if is_loaded(&mut monitor, deadline)? {
                    monitor.set_timeout(None);
                    return Ok(Reach::Running(Box::new(monitor)));
                }
            }
            Err(qmp::Error::Connect { ref source, .. }) if is_gone(source) => {}
            // It has ended between the two.
            Err(qmp::Error::Closed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= deadline {
            return Err(match why_gone(host, name) {
                Some(error @ Error::MonitorGone { .. }) => error,
                // Held by a process that has no monitor: another maqet.
                _ => held.into(),
            });
        }
        thread::sleep(PAUSE);
    }
}

/// Waits until a QEMU that loads a saved state has done so; `false` if it has ended.
fn is_loaded(monitor: &mut Monitor, deadline: Instant) -> Result<bool, Error> {
    monitor.set_timeout(LIMIT);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let looked = monitor.status().and_then(|status| {
            let is_loading = status.run_state == RunState::Inmigrate && !left.is_zero();
            if is_loading {
                monitor.next_event(left.min(LOOK))?;
            }
            Ok(!is_loading)
        });
        match looked {
            Ok(false) => {}
            Ok(true) => return Ok(true),
            Err(qmp::Error::Closed { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}
