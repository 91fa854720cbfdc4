//! What a guest's systemd has told its host over vsock: the process that listens for it
//! leaves word in the runtime directory.

use std::fs;
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::console::Changes;
use crate::paths::RuntimeDir;
use crate::qmp::log;

use super::{NotReady, Signs, check, left, unknown};

/// Whether the guest has said that it is up, and was not reset since.
pub(crate) fn has_said(runtime: &RuntimeDir) -> bool {
    let said = fs::metadata(runtime.notified()).and_then(|word| word.modified());
    said.is_ok_and(|said| log::last_reset(&runtime.events_log()).is_none_or(|reset| reset < said))
}

/// Waits until the guest says, or has said, that it is up.
pub(super) fn wait(signs: &Signs<'_>, deadline: Instant, late: String) -> Result<(), NotReady> {
    if !signs.runtime.cid().exists() {
        let reason = "it has no vsock device: `vsock` is off in the definition it runs with";
        return Err(NotReady::Unknown(reason.to_owned()));
    }
    // Of new files beside it.
    let changes = Changes::of(&signs.runtime.cid()).map_err(unknown)?;
    loop {
        if has_said(signs.runtime) {
            return Ok(());
        }
        check(signs, deadline, &late)?;
        let mut fds = [
            PollFd::from_borrowed_fd(signs.process.as_fd(), PollFlags::IN),
            PollFd::new(&changes, PollFlags::IN),
        ];
        let limit = Timespec::try_from(left(deadline)).ok();
        match poll(&mut fds, limit.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            polled => drop(polled.map_err(|errno| unknown(errno.into()))?),
        }
        changes.take();
    }
}
