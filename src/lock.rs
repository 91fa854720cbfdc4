//! The locks of a VM: who has the one may touch the VM's disks, who has the other may do
//! to it what takes several steps.
//!
//! Each is an flock(2) on a file in the VM's directory. QEMU inherits the descriptor of
//! the first, so the kernel holds that lock for exactly as long as that QEMU lives, however
//! it dies; there is nothing to clean up. So does a qemu-img that outlives its maqet.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd};

use crate::paths::create_private_dir;

/// A lock that is held. Dropping it gives it back.
#[derive(Debug)]
pub struct VmLock(File);

/// Between looks at a lock that another process holds.
const PAUSE: Duration = Duration::from_millis(2);

/// Why the lock was not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds it.
    #[error("another process holds {}{}", .path.display(), by(*.pid))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who, where the kernel tells.
        pid: Option<u32>,
    },
    /// The lock file cannot be used.
    #[error("cannot lock {}", .path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The lock file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Held { path, .. } | Self::Io { path, .. } => path,
        }
    }
}

fn by(pid: Option<u32>) -> String {
    pid.map(|pid| format!(": process {pid}"))
        .unwrap_or_default()
}

impl VmLock {
    /// Takes the lock, or fails at once.
    pub fn try_take(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(dir) = path.parent() {
            create_private_dir(dir).map_err(io)?;
        }
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .map_err(io)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Held {
                        path: path.to_owned(),
                        pid: holder(&file),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(io(error)),
            }
            // `rm` deletes the file while it holds the lock: what was opened just
            // before that is no longer the lock that others look at.
            let ours = file.metadata().map_err(io)?;
            match std::fs::metadata(path) {
                Ok(now) if now.ino() == ours.ino() && now.dev() == ours.dev() => {
                    return Ok(Self(file));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io(error)),
            }
        }
    }

    /// Takes the lock, or waits `limit` at most for whoever has it.
    pub fn take(path: &Path, limit: Duration) -> Result<Self, Error> {
        let deadline = Instant::now() + limit;
        loop {
            match Self::try_take(path) {
                Err(Error::Held { .. }) if Instant::now() < deadline => thread::sleep(PAUSE),
                taken => return taken,
            }
        }
    }

    /// Has the programs that this process runs from now on hold the lock, too.
    ///
    /// Then it is free only when the last of them has ended.
    pub fn pass_on(&self) -> io::Result<()> {
        Ok(fcntl_setfd(&self.0, FdFlags::empty())?)
    }

    /// The open file, for a program that is to hold the lock from now on.
    pub fn into_file(self) -> File {
        self.0
    }
}

/// Who holds the flock on `file`, by the kernel's list (proc_locks(5)).
fn holder(file: &File) -> Option<u32> {
    let inode = format!(":{}", file.metadata().ok()?.ino());
    std::fs::read_to_string("/proc/locks")
        .ok()?
        .lines()
        .find_map(|line| {
            // "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF"
            let mut fields = line
                .split_whitespace()
                .skip(1)
                .filter(|field| *field != "->");
            let kind = fields.next()?;
            let pid = fields.nth(2)?;
            let place = fields.next()?;
            (kind == "FLOCK" && place.ends_with(&inode)).then(|| pid.parse().ok())?
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_had_by_one_and_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web/lock");
        let held = VmLock::try_take(&path).unwrap();
        match VmLock::try_take(&path) {
            Err(Error::Held { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(held);
        // A program that another test runs at this moment has it, too, until its exec.
        VmLock::take(&path, Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn a_lock_whose_file_was_deleted_is_taken_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _old = VmLock::try_take(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        VmLock::try_take(&path).unwrap();
    }
}
