//! The console log: what the guest printed on its serial port.
//!
//! QEMU appends to it and never looks back, so its head can be freed while the
//! guest prints: a hole is punched, which moves no byte and loses none of the
//! tail. The file's length counts all that was ever printed in a run; its blocks
//! are bounded.

pub mod copy;
pub mod shipped;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FallocateFlags, fallocate, ftruncate};

/// How much of a run is kept at least, in bytes.
pub const KEPT: u64 = 4 << 20;

/// Frees the head of a log that has grown past twice [`KEPT`].
///
/// # Errors
/// A file that cannot be opened. One that is not there is not an error.
pub fn trim(path: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    trim_to(&file, KEPT)
}

fn trim_to(file: &File, kept: u64) -> io::Result<()> {
    let metadata = file.metadata()?;
    // `blocks` counts 512 bytes each, whatever the file system's own block size (stat(2)).
    if metadata.blocks() * 512 <= 2 * kept {
        return Ok(());
    }
    let head = metadata.len() - kept.min(metadata.len());
    let punched = fallocate(
        file,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        0,
        head,
    );
    match punched {
        // A file system without holes (NFS before 4.2, FAT): better no log than a full disk.
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(ftruncate(file, 0)?),
        other => Ok(other?),
    }
}

/// Opens a log at the first byte that is still there, at a line's beginning.
pub fn open(path: &Path) -> io::Result<File> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let start = match rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)) {
        Ok(start) => start,
        // Nothing but a hole, or nothing at all.
        Err(rustix::io::Errno::NXIO) => length,
        Err(_) => 0,
    };
    file.seek(SeekFrom::Start(start))?;
    if start > 0 {
        // The first line was cut; a block's rest of zeros may stand before it.
        let mut position = start;
        let mut byte = [0];
        while file.read(&mut byte)? == 1 {
            position += 1;
            if byte[0] == b'\n' {
                break;
            }
        }
        file.seek(SeekFrom::Start(position))?;
    }
    Ok(file)
}

/// The last `count` lines of a log, without what terminals are told (escape sequences).
pub fn last_lines(path: &Path, count: usize) -> io::Result<Vec<String>> {
    let mut file = open(path)?;
    let from = file.stream_position()?;
    let length = file.metadata()?.len();
    // Lines on a console are short; a thousandth of a megabyte each is plenty.
    let tail = (count as u64) << 10;
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(tail))))?;
    let mut bytes = Vec::new();
    file.take(tail + 1024).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|line| plain(line))
        .collect())
}

/// The lines from where a log is open to its end; one that is not complete stays unread,
/// unless it is to be `all`.
pub fn read_lines(log: &mut File, all: bool) -> io::Result<Vec<String>> {
    let mut bytes = Vec::new();
    log.read_to_end(&mut bytes)?;
    if !all {
        let complete = bytes.iter().rposition(|byte| *byte == b'\n');
        let rest = bytes.split_off(complete.map_or(0, |end| end + 1));
        log.seek_relative(-(rest.len() as i64))?;
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(plain).collect())
}

/// Tells when a log has grown, or another run has begun a new one.
#[derive(Debug)]
pub struct Changes(OwnedFd);

/// What there is to do after a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Read on.
    Grown,
    /// Nobody reads what is written any more.
    ReaderGone,
}

impl Changes {
    /// Watches the log from now on.
    pub fn of(path: &Path) -> io::Result<Self> {
        use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        add_watch(&inotify, path, WatchFlags::MODIFY)?;
        if let Some(dir) = path.parent() {
            add_watch(&inotify, dir, WatchFlags::CREATE | WatchFlags::ONLYDIR)?;
        }
        Ok(Self(inotify))
    }

    /// Takes note of what has changed, for poll(2) to wait for the next change.
    pub fn take(&self) {
        // Not blocking: nothing may have.
        let _ = rustix::io::read(&self.0, &mut [0; 4096]);
    }

    /// Waits for a change since the last call, or for the reader of `output` to go.
    pub fn wait(&mut self, output: BorrowedFd<'_>) -> io::Result<Change> {
        loop {
            // Asked for nothing, poll(2) tells of a pipe's closed end all the same.
            let mut fds = [
                PollFd::new(&self.0, PollFlags::IN),
                PollFd::from_borrowed_fd(output, PollFlags::empty()),
            ];
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            if !fds[1].revents().is_empty() {
                return Ok(Change::ReaderGone);
            }
            // What happened does not matter, that something did does.
            let mut events = [0; 4096];
            match rustix::io::read(&self.0, &mut events) {
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                other => return Ok(other.map(|_| Change::Grown)?),
            }
        }
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether the log at `path` is still the one that is open as `file`.
pub fn is_same(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(now)) => open.ino() == now.ino() && open.dev() == now.dev(),
        // Just between one run's and the next.
        _ => true,
    }
}

/// A line without control characters and escape sequences (ECMA-48 CSI and OSC).
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.next_if_eq(&'[').is_some() {
            // Parameters and intermediates, up to the final byte.
            while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
        } else if c == '\u{1b}' && chars.next_if_eq(&']').is_some() {
            // Any text, up to BEL or ESC `\`.
            while chars.next_if(|c| !c.is_control()).is_some() {}
            if chars.next_if_eq(&'\u{1b}').is_some() {
                chars.next_if_eq(&'\\');
            }
        } else if !c.is_control() || c == '\t' {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn log(lines: usize) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for line in 0..lines {
            writeln!(file, "line {line:06}").unwrap();
        }
        file.flush().unwrap();
        file
    }

    #[test]
    fn a_long_log_keeps_its_tail_and_its_length() {
        let log = log(100_000);
        let length = log.as_file().metadata().unwrap().len();
        trim_to(log.as_file(), 64 << 10).unwrap();
        let metadata = log.as_file().metadata().unwrap();
        assert_eq!(metadata.len(), length);
        assert!(
            metadata.blocks() * 512 <= 128 << 10,
            "{} blocks",
            metadata.blocks()
        );

        let mut text = String::new();
        open(log.path()).unwrap().read_to_string(&mut text).unwrap();
        assert!(text.starts_with("line 0"), "{:?}", &text[..20]);
        assert!(text.ends_with("line 099999\n"));
        assert!(text.len() as u64 >= 60 << 10);
    }

    #[test]
    fn a_short_log_is_left_alone() {
        let log = log(10);
        trim_to(log.as_file(), 64 << 10).unwrap();
        let mut text = String::new();
        open(log.path()).unwrap().read_to_string(&mut text).unwrap();
        assert!(text.starts_with("line 000000\n"));
        assert_eq!(
            last_lines(log.path(), 2).unwrap(),
            ["line 000008", "line 000009"]
        );
    }

    #[test]
    fn a_log_that_is_not_there_needs_no_trimming() {
        let dir = tempfile::tempdir().unwrap();
        trim(&dir.path().join("console.log")).unwrap();
    }

    #[test]
    fn escape_sequences_are_for_terminals() {
        assert_eq!(plain("\u{1b}[1;32mok\u{1b}[0m\r"), "ok");
        // What systemd sends to a terminal that it is done with.
        assert_eq!(
            plain("\u{1b}]104\u{7}\u{1b}]0;title\u{1b}\\login:"),
            "login:"
        );
    }
}
