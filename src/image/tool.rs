//! qemu-img(1) run once: its words, its progress, and its end when it is called off.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::Error;

/// How far something is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// What is being done: `convert`, `unpack` …
    pub step: &'static str,
    /// How much of it is done, from 0 to 1.
    pub done: f64,
}

/// Hears how far something is, many times a second, and says whether it is to go on.
pub type Watch<'a> = &'a mut dyn FnMut(Progress) -> bool;

/// Nobody looks, and nobody calls it off.
pub fn unwatched(_: Progress) -> bool {
    true
}

/// How often at least whoever watches is asked whether to go on.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// One run of qemu-img, about one image.
pub(super) struct Tool<'a> {
    command: Command,
    step: &'static str,
    doing: &'static str,
    path: &'a Path,
}

impl<'a> Tool<'a> {
    /// `doing` completes "cannot … PATH".
    pub fn new(verb: &'static str, doing: &'static str, path: &'a Path) -> Self {
        let mut command = Command::new("qemu-img");
        // Its words are looked at, and strerror(3) is part of them.
        command.arg(verb).env("LC_ALL", "C").stdin(Stdio::null());
        // Ctrl-C is for this process, which knows what is to be undone.
        command.process_group(0);
        Self {
            command,
            step: verb,
            doing,
            path,
        }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// A file. qemu-img reads `a:b` as a protocol; an absolute path says that this is none.
    pub fn file(self, path: &Path) -> Result<Self, Error> {
        let path = absolute(path)?;
        Ok(self.arg(path))
    }

    /// What it prints, whether it fails or not; with its exit status.
    pub fn output(mut self) -> Result<(Vec<u8>, Option<i32>, String), Error> {
        let output = self.command.output().map_err(Error::Run)?;
        let words = self.words(&output.stderr);
        Ok((output.stdout, output.status.code(), words))
    }

    /// Runs it to its end; what it prints.
    pub fn run(mut self) -> Result<Vec<u8>, Error> {
        let output = self.command.output().map_err(Error::Run)?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(self.failed(&output.stderr)),
        }
    }

    /// Runs it with someone who watches. It ends with this process, however that ends.
    pub fn run_watched(mut self, watch: Watch<'_>) -> Result<(), Error> {
        self.command
            .arg("-p")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: prctl(2) is all that happens between fork and exec.
        unsafe {
            self.command.pre_exec(|| {
                set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)
            });
        }
        let mut child = self.command.spawn().map_err(Error::Run)?;
        let is_canceled = !self.follow(&mut child, watch).map_err(Error::Run)?;
        if is_canceled {
            child.kill().map_err(Error::Run)?;
        }
        let output = child.wait_with_output().map_err(Error::Run)?;
        match output.status.success() {
            // It may have ended just before it was killed.
            true if !is_canceled => Ok(()),
            _ if is_canceled => Err(Error::Canceled(self.path.to_owned())),
            _ => Err(self.failed(&output.stderr)),
        }
    }

    /// Tells of its progress until it prints no more; whether it is to go on.
    fn follow(&self, child: &mut Child, watch: Watch<'_>) -> io::Result<bool> {
        let mut stdout = child.stdout.take().expect("it is piped");
        let mut buffer = [0; 4096];
        let mut done = 0.0;
        loop {
            let mut fds = [PollFd::new(&stdout, PollFlags::IN)];
            match poll(&mut fds, Some(&TICK)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => match stdout.read(&mut buffer)? {
                    0 => return Ok(true),
                    length => done = last_percent(&buffer[..length]).unwrap_or(done),
                },
            }
            if !watch(self.progress(done)) {
                return Ok(false);
            }
        }
    }

    fn progress(&self, done: f64) -> Progress {
        Progress {
            step: self.step,
            done,
        }
    }

    fn failed(&self, stderr: &[u8]) -> Error {
        Error::Failed {
            doing: self.doing,
            path: self.path.to_owned(),
            words: self.words(stderr),
        }
    }

    /// What it said, on one line, without its own name and that of the image.
    fn words(&self, stderr: &[u8]) -> String {
        let text = String::from_utf8_lossy(stderr);
        let own = format!("{}: ", self.path.display());
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let lines = lines.map(|line| {
            let line = line.strip_prefix("qemu-img: ").unwrap_or(line);
            line.strip_prefix(&own).unwrap_or(line)
        });
        lines.collect::<Vec<_>>().join("; ")
    }
}

/// The last of the percentages in a piece of what qemu-img prints: `    (12.50/100%)\r`.
fn last_percent(piece: &[u8]) -> Option<f64> {
    let text = String::from_utf8_lossy(piece);
    let before = text.rfind("/100%)").map(|end| &text[..end])?;
    let number = &before[before.rfind('(')? + 1..];
    Some(number.parse::<f64>().ok()? / 100.0)
}

pub(super) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(Error::file("tell where is", path))
}

/// How an image names its backing file: from its own directory where that is beside it, so
/// that both can be moved together. QEMU looks from where it finds the image, which of one
/// that is a link is not where that leads.
pub(super) fn backing_name(image: &Path, backing: &Path) -> Result<PathBuf, Error> {
    let (image, backing) = (absolute(image)?, absolute(backing)?);
    let name = backing.file_name().map(Path::new);
    Ok(match name {
        // qemu-img reads `a:b` as a protocol.
        Some(name)
            if image.parent() == backing.parent()
                && !image.is_symlink()
                && !name.to_string_lossy().contains(':') =>
        {
            name.to_owned()
        }
        _ => backing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_whatever_piece_comes() {
        for (piece, done) in [
            ("    (0.00/100%)\r", Some(0.0)),
            ("    (12.50/100%)\r    (50.00/100%)\r", Some(0.5)),
            ("100%)\r    (25.00/100%)\r   (26.", Some(0.25)),
            ("(4", None),
        ] {
            assert_eq!(last_percent(piece.as_bytes()), done, "{piece:?}");
        }
    }
}
