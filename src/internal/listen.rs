//! Listens for what a guest's systemd tells its host over vsock, as long as QEMU lives
//! (sd_notify(3), `vmm.notify_socket` in systemd(1)).
//!
//! A child of QEMU in its unit, and only where the VM has a vsock device. The guest says
//! once that it is up, whether somebody waits for that or not. And each message is a
//! connection of its own, which newer guests wait for the host to close: were nobody
//! there to read, the guest's boot would wait as well.

use std::env;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use vsock::{VMADDR_CID_ANY, VsockListener, VsockStream};

use crate::process::Process;
use crate::qemu::vhost::notify_port;

use super::launch::runtime_dir;

/// Begins to listen for the guest with this CID, in a process that ends with this one.
pub(super) fn begin(cid: u32) -> anyhow::Result<()> {
    let port = notify_port(cid);
    let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, port)
        .with_context(|| format!("cannot listen on port {port} of vsock"))?;
    listener.set_nonblocking(true)?;
    let maqet = env::current_exe().context("cannot tell where the maqet program is")?;
    Command::new(maqet)
        .args(["internal", "listen"])
        .args([cid, std::process::id()].map(|number| number.to_string()))
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .env_remove("NOTIFY_SOCKET")
        .spawn()
        .context("cannot listen on vsock")?;
    Ok(())
}

/// Listens on stdin until process `qemu` has ended, and leaves word in the runtime directory
/// when the guest with this CID has said that it is up.
pub fn listen(cid: u32, qemu: u32) -> anyhow::Result<()> {
    let notified = runtime_dir()?.notified();
    let process = Process::open(qemu);
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_pid().cast_unsigned());
    let Some(process) = process.filter(|_| parent == Some(qemu)) else {
        return Ok(());
    };
    let mut ear = Ear {
        listener: io::stdin().as_fd().try_clone_to_owned()?.into(),
        cid,
        open: Vec::new(),
    };
    loop {
        if ear.take()? {
            leave_word(&notified).context("cannot leave word of a guest that is up")?;
        }
        let mut fds = vec![
            PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN),
            PollFd::new(&ear.listener, PollFlags::IN),
        ];
        let open = ear.open.iter();
        fds.extend(open.map(|(stream, _)| PollFd::new(stream, PollFlags::IN)));
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => {}
            polled => drop(polled?),
        }
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
    }
}

/// Makes the file anew, so that it is as old as the guest's word.
fn leave_word(notified: &Path) -> io::Result<()> {
    match fs::remove_file(notified) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::write(notified, "")
}

struct Ear {
    listener: VsockListener,
    cid: u32,
    /// Connections that are not closed yet, and what came so far.
    open: Vec<(VsockStream, Vec<u8>)>,
}

/// More connections than a guest has at once that means well; the oldest gives way.
const MOST: usize = 16;

/// Longer than any message; what comes after is not looked at.
const LONGEST: u64 = 16 << 10;

impl Ear {
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
