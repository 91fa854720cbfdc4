//! Whether an image is sound in itself.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::tool::Tool;
use super::{Error, Fault};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all(deserialize = "kebab-case"))]
pub struct Checked {
    /// Whether the format has anything that could be checked.
    #[serde(skip_deserializing)]
    pub can_be_checked: bool,
    /// Places where the image contradicts itself: data may be lost.
    pub corruptions: u64,
    /// Clusters that take up room for nothing; harmless.
    pub leaks: u64,
    /// Errors of the check itself.
    pub check_errors: u64,
    /// How many corruptions were mended.
    pub corruptions_fixed: u64,
    /// How many leaks were mended.
    pub leaks_fixed: u64,
    /// Clusters that the disk has.
    pub total_clusters: u64,
    /// Clusters that are there.
    pub allocated_clusters: u64,
    /// Clusters that are not next to the one before.
    pub fragmented_clusters: u64,
    /// Where the image ends, in bytes.
    pub image_end_offset: u64,
}

impl Checked {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.corruptions == 0 && self.leaks == 0 && self.check_errors == 0
    }
}

/// Looks, and changes nothing.
pub fn check(path: &Path, format: &str) -> Result<Checked, Error> {
    run(path, format, &[])
}

/// Sees to it that a qcow2 image that no QEMU has open does not contradict itself; it may have
/// leaks.
///
/// # Errors
/// [`Fault::Unsound`], and what keeps it from being checked.
pub fn require_sound(path: &Path) -> Result<Checked, Error> {
    let checked = check(path, "qcow2")?;
    match checked.corruptions {
        0 => Ok(checked),
        places => Err(Fault::Unsound {
            image: path.to_owned(),
            places,
        }
        .into()),
    }
}

/// Whether a process has an image open, as QEMU and its tools say by locks: bytes from 100 on
/// for what they do, and from 200 on for what others may not (block/file-posix.c).
///
/// # Errors
/// What keeps the file from being opened to write to it.
pub fn is_locked(path: &Path) -> io::Result<bool> {
    let file = File::options().write(true).open(path)?;
    // SAFETY: a lock is plain data, for which zeroes are valid.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = 100;
    lock.l_len = 200;
    // SAFETY: the descriptor is open, and the lock lives until this returns.
    let asked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
    match asked {
        0 => Ok(i32::from(lock.l_type) != libc::F_UNLCK),
        // A file system without such locks has none.
        _ => Ok(false),
    }
}

/// Mends what can be mended; the answer is of the image as it is then.
pub fn repair(path: &Path, format: &str) -> Result<Checked, Error> {
    let fixed = run(path, format, &["-r", "all"])?;
    let now = run(path, format, &[])?;
    Ok(Checked {
        corruptions_fixed: fixed.corruptions_fixed,
        leaks_fixed: fixed.leaks_fixed,
        ..now
    })
}

/// Gives back what a QEMU that was killed had taken in an image and not used: it had not
/// come to write that down, and nobody else does so.
pub fn repair_leaks(path: &Path, format: &str) -> Result<Checked, Error> {
    run(path, format, &["-r", "leaks"])
}

fn run(path: &Path, format: &str, how: &[&str]) -> Result<Checked, Error> {
    let tool = Tool::new("check", "check", path);
    let tool = tool.args(["--output=json", "-f", format]).args(how);
    let (said, status, words) = tool.file(path)?.output()?;
    let failed = |words: String| Error::Failed {
        doing: "check",
        path: path.to_owned(),
        words,
    };
    // EXIT STATUS in qemu-img(1): 2 and 3 tell of what was found, 63 that there is no check.
    match status {
        Some(63) => Ok(Checked::default()),
        Some(0 | 2 | 3) => {
            let mut checked: Checked = serde_json::from_slice(&said)
                .map_err(|error| failed(format!("qemu-img gave no answer: {error}")))?;
            checked.can_be_checked = true;
            Ok(checked)
        }
        _ => Err(failed(words)),
    }
}
