//! Whether there is room for a file, and whether one can be made at all.

use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::{Error, unfinished};

/// How much may be written to a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// In bytes.
    pub bytes: u64,
    /// Whether it is the user's quota that leaves no more.
    pub by_quota: bool,
}

/// The room that this user has where `path` is or would be; `None` where the file system
/// does not count.
pub fn room(path: &Path) -> Result<Option<Room>, Error> {
    let dir = existing(path);
    let stat =
        rustix::fs::statvfs(&dir).map_err(|error| Error::file("look at", &dir)(error.into()))?;
    // A tmpfs without a limit has no blocks.
    let free = (stat.f_blocks > 0).then(|| Room {
        bytes: stat.f_bavail * stat.f_frsize,
        by_quota: false,
    });
    let left = quota(&dir).map(|bytes| Room {
        bytes,
        by_quota: true,
    });
    let both = [free, left].into_iter().flatten();
    Ok(both.min_by_key(|room| room.bytes))
}

/// What the quota of this user leaves in the file system of a directory, in bytes; `None`
/// where there is none, or none can be asked for (quotactl(2), Linux 5.14).
fn quota(dir: &Path) -> Option<u64> {
    /// In bytes: a limit is in blocks of that (`QIF_DQBLKSIZE`, linux/quota.h).
    const BLOCK: u64 = 1024;

    let dir = File::open(dir).ok()?;
    // SAFETY: all zeroes are numbers.
    let mut it: libc::dqblk = unsafe { mem::zeroed() };
    let command = libc::QCMD(libc::Q_GETQUOTA, libc::USRQUOTA);
    let user = rustix::process::geteuid().as_raw();
    // SAFETY: the kernel writes one `dqblk` there and keeps nothing of it.
    let failed = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            dir.as_raw_fd(),
            command,
            user,
            &raw mut it,
        )
    };
    if failed != 0 || it.dqb_bhardlimit == 0 {
        return None;
    }
    Some((it.dqb_bhardlimit * BLOCK).saturating_sub(it.dqb_curspace))
}

/// Whether as good as nothing can be written where `path` is or would be.
pub fn is_used_up(path: &Path) -> bool {
    // What SQLite needs before a database can be read (sqlite.org/wal.html), and as much again.
    const LITTLE: u64 = 1 << 16;
    let room = room(path).ok().flatten();
    room.is_some_and(|room| room.bytes < LITTLE)
}

/// Fails if there is less room than that, in bytes.
pub fn require(path: &Path, needed: u64) -> Result<(), Error> {
    match room(path)? {
        Some(room) if room.bytes < needed => Err(Error::NoSpace {
            dir: path.parent().unwrap_or(path).to_owned(),
            needed,
            room,
        }),
        _ => Ok(()),
    }
}

/// Fails if no file can be made or deleted at `path`, or where the first directory on the way
/// to it would be made.
pub fn require_writable(path: &Path) -> Result<(), Error> {
    let dir = path.parent().map_or_else(|| PathBuf::from("/"), existing);
    let wanted = Access::WRITE_OK | Access::EXEC_OK;
    accessat(CWD, &dir, wanted, AtFlags::EACCESS).map_err(|error| Error::Directory {
        dir,
        source: error.into(),
    })
}

/// The same, and fails if `path` cannot name a file there, or the longer names that it has until
/// it is finished ([`unfinished`]).
pub fn require_place(path: &Path) -> Result<(), Error> {
    require_writable(path)?;
    nameable(path).map_err(Error::file("make", path))
}

fn nameable(path: &Path) -> io::Result<()> {
    // `Path` makes nothing of a slash at the end, the kernel does.
    if path.file_name().is_none() || path.as_os_str().as_bytes().ends_with(b"/") {
        return fs::metadata(path).and(Err(io::ErrorKind::IsADirectory.into()));
    }
    // With the longest tag that there can be.
    let longest = unfinished(path, format_args!("{}.unpacked", i64::MAX));
    let dir = longest
        .parent()
        .map_or_else(|| PathBuf::from("/"), existing);
    let missing = longest.strip_prefix(&dir).unwrap_or(&longest);
    for (depth, name) in missing.iter().enumerate() {
        let there = dir.join(name);
        match fs::symlink_metadata(&there) {
            // It is on the way and no directory, such as a link that leads to none.
            Ok(_) if depth == 0 && there != longest => {
                return fs::metadata(there).and(Err(io::ErrorKind::NotADirectory.into()));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match fs::symlink_metadata(&longest) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Fails if the file at `path` cannot be written.
pub fn require_file_writable(path: &Path) -> Result<(), Error> {
    let opened = File::options().write(true).open(path);
    opened.map(drop).map_err(Error::file("write", path))
}

/// Whether that says that no file is there, as the path leads nowhere or cannot name one.
pub fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidFilename)
        || Errno::from_io_error(error) == Some(Errno::LOOP)
}

/// The directory at `path`, or the nearest one above it that is there.
fn existing(path: &Path) -> PathBuf {
    let mut dirs = path.ancestors().map(|dir| match dir.as_os_str() {
        // Above a name without a slash.
        name if name.is_empty() => Path::new("."),
        _ => dir,
    });
    let found = dirs.find(|dir| dir.is_dir());
    found.unwrap_or(Path::new("/")).to_owned()
}
