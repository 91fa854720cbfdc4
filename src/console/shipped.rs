//! How far a console log has been copied to the journal.
//!
//! A small file beside the log, which also says whose log it is. Whoever copies,
//! or begins a new log, holds its lock: nothing is copied twice.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The run that the log is of: systemd's invocation id.
    pub run: String,
    /// The run that the previous log is of.
    pub previous_run: Option<String>,
    /// What came before this byte of the log is in the journal, or left out.
    pub offset: u64,
    /// How many bytes were left out since the last line that was copied.
    pub left_out: u64,
    /// How many units ([`cost`](super::copy::cost)) may be copied at once.
    pub credit: u64,
    /// When that was so, in seconds since the epoch.
    pub at: u64,
}

/// The file, locked.
#[derive(Debug)]
pub struct Shipped {
    file: File,
    /// What it says; nothing in a new or broken one.
    pub mark: Option<Mark>,
}

impl Shipped {
    /// Waits for the lock: others hold it for seconds at most.
    pub fn lock(path: &Path) -> io::Result<Self> {
        let file = open_locked(path)?;
        let mark = serde_json::from_reader(&file).ok();
        Ok(Self { file, mark })
    }

    /// Writes what there is to say now.
    pub fn keep(&mut self, mark: Mark) -> io::Result<()> {
        overwrite(&self.file, &mark)?;
        self.mark = Some(mark);
        Ok(())
    }
}

/// Opens a file of one's own, made where there is none, and waits for its lock.
pub(crate) fn open_locked(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    file.lock()?;
    Ok(file)
}

/// Replaces what a small file says.
pub(crate) fn overwrite(file: &File, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(value)?;
    file.write_all_at(&text, 0)?;
    file.set_len(text.len() as u64)
}

/// What the file says at this moment, whoever holds the lock.
pub fn peek(path: &Path) -> Option<Mark> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
