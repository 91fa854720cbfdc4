//! What a guest's systemd tells its host over vsock (sd_notify(3), `vmm.notify_socket` in
//! systemd(1)).
//!
//! Each message is a connection of its own, and newer guests wait until the host has
//! closed it: whoever listens must read all of them, and at once, or the guest's boot
//! waits. One process at a time can listen; it leaves word for all others.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vsock::{VMADDR_CID_ANY, VsockListener, VsockStream};

use crate::console::Changes;
use crate::paths::RuntimeDir;
use crate::qemu::vhost::notify_port;

use super::{NotReady, Signs, check, left, unknown};

/// The ear on the host's port of one VM.
pub(crate) struct Notifications {
    listener: VsockListener,
    cid: u32,
    /// Connections that are not closed yet, and what came so far.
    open: Vec<(VsockStream, Vec<u8>)>,
}

/// More connections than a guest has at once that means well; the oldest gives way.
const MOST: usize = 16;

/// Longer than any message; what comes after is not looked at.
const LONGEST: u64 = 16 << 10;

/// How soon a port that another process listens on is tried again.
const AGAIN: Duration = Duration::from_secs(1);

impl Notifications {
    /// Listens from now on; `None` while another process does.
    pub(crate) fn open(cid: u32) -> io::Result<Option<Self>> {
        let listener = match VsockListener::bind_with_cid_port(VMADDR_CID_ANY, notify_port(cid)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Ok(None),
            other => other?,
        };
        listener.set_nonblocking(true)?;
        Ok(Some(Self {
            listener,
            cid,
            open: Vec::new(),
        }))
    }

    /// Takes what has come; whether the guest said that it is up.
    fn take(&mut self) -> io::Result<bool> {
        loop {
            match self.listener.accept() {
                // Anyone on the host, and every guest, can connect.
                Ok((_, peer)) if peer.cid() != self.cid => {}
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    if self.open.len() == MOST {
                        self.open.remove(0);
                    }
                    self.open.push((stream, Vec::new()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut is_up = false;
        self.open.retain_mut(|(stream, message)| {
            let room = LONGEST.saturating_sub(message.len() as u64);
            match stream.take(room).read_to_end(message) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                _ => is_up |= says_ready(message),
            }
            false
        });
        Ok(is_up)
    }
}

/// Whether a message says that the guest is up; it may say other things as well.
fn says_ready(message: &[u8]) -> bool {
    message
        .split(|byte| *byte == b'\n')
        .any(|line| line == b"READY=1")
}

/// The CID that a running VM has, if it has one.
pub(crate) fn cid(runtime: &RuntimeDir) -> Option<u32> {
    fs::read_to_string(runtime.cid()).ok()?.parse().ok()
}

/// Waits until the guest says, or has said to whoever listened, that it is up.
pub(super) fn wait(signs: &mut Signs<'_>, deadline: Instant, late: String) -> Result<(), NotReady> {
    let Some(cid) = cid(signs.runtime) else {
        let reason = "it has no vsock device: `vsock` is off in the definition it runs with";
        return Err(NotReady::Unknown(reason.to_owned()));
    };
    // Of new files beside it.
    let changes = Changes::of(&signs.runtime.cid()).map_err(unknown)?;
    loop {
        if signs.runtime.notified().exists() {
            return Ok(());
        }
        check(signs, deadline, &late)?;
        if signs.notifications.is_none() {
            signs.notifications = Notifications::open(cid).map_err(unknown)?;
        }
        let mut fds = vec![
            PollFd::from_borrowed_fd(signs.process.as_fd(), PollFlags::IN),
            PollFd::new(&changes, PollFlags::IN),
        ];
        let mut limit = left(deadline);
        match &signs.notifications {
            Some(notifications) => {
                fds.push(PollFd::new(&notifications.listener, PollFlags::IN));
                let open = notifications.open.iter();
                fds.extend(open.map(|(stream, _)| PollFd::new(stream, PollFlags::IN)));
            }
            None => limit = limit.min(AGAIN),
        }
        match poll(&mut fds, Timespec::try_from(limit).ok().as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            polled => drop(polled.map_err(|errno| unknown(errno.into()))?),
        }
        changes.take();
        if let Some(notifications) = &mut signs.notifications
            && notifications.take().map_err(unknown)?
        {
            fs::write(signs.runtime.notified(), "").map_err(unknown)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_of_its_own_says_that_the_guest_is_up() {
        for message in [
            "READY=1",
            "X_SYSTEMD_HOSTNAME=a\nREADY=1\nSTATUS=Ready.",
            "\nREADY=1\n",
        ] {
            assert!(says_ready(message.as_bytes()), "{message}");
        }
        for message in [
            "",
            "READY=0",
            "STATUS=READY=1",
            "READY=10",
            "ready=1",
            "X_READY=1",
        ] {
            assert!(!says_ready(message.as_bytes()), "{message}");
        }
    }
}
