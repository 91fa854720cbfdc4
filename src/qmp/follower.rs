//! Following the event log of a running QEMU: all of its events, and no cost to it.
//!
//! The log is a file that QEMU writes itself ([`log`](super::log)), so any number
//! may follow, none of them is a client of a monitor, and an idle one sleeps in
//! poll(2). A run has a file of its own: when that is no longer there, the run is over.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::io::Errno;

use super::error::Error;
use super::link::{Deadline, wait_for};
use super::message::{Event, Message};

/// How much is read at once, in bytes.
const CHUNK: usize = 64 << 10;

/// Where in a run to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With its first event that the log still has.
    Begin,
    /// With the next event.
    Now,
}

/// What came of waiting for an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard<T = Event> {
    /// It.
    Event(T),
    /// Nothing, until the limit.
    Nothing,
    /// The end of the run; every event before it was heard.
    End(End),
}

/// How a run showed that it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// QEMU has ended, and no other run was seen to follow yet.
    Over,
    /// The log was begun anew: open it again for the next run's events.
    Anew,
}

/// The events of one run, as they come.
///
/// ```no_run
/// use std::path::Path;
/// use std::time::Duration;
///
/// use maqet::qmp::{Follower, Heard, Start};
///
/// # fn main() -> std::io::Result<()> {
/// let log = Path::new("/run/user/1000/maqet/web/events.log");
/// let mut events = Follower::open(log, Start::Now)?;
/// // Now do what makes QEMU send the event: none is missed.
/// let gone = events.find(Duration::from_secs(60), |event| {
///     (event.name == "DEVICE_DELETED").then(|| event.data.clone())
/// })?;
/// match gone {
///     Heard::Event(data) => println!("{}", data["path"]),
///     Heard::Nothing => println!("the guest keeps it"),
///     Heard::End(_) => println!("the VM has ended"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: File,
    inotify: OwnedFd,
    /// QEMU, by pidfd: its end is seen before systemd has tidied up.
    process: Option<OwnedFd>,
    /// Where to read on.
    offset: u64,
    /// What was read and not taken yet.
    text: Vec<u8>,
    /// How much of `text` was taken.
    taken: usize,
}

impl Follower {
    /// Opens the event log at `path`.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no run, and what inotify(7) has: a user has a
    /// limited number of instances, of which a follower takes one.
    pub fn open(path: &Path, start: Start) -> io::Result<Self> {
        let file = File::open(path)?;
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|errno| {
            match errno {
                Errno::MFILE => io::Error::other(
                    "no inotify instance is left for this user (sysctl fs.inotify.max_user_instances)",
                ),
                errno => errno.into(),
            }
        })?;
        // By descriptor: at `path` there may be another file by now. An open file that is
        // removed has not been deleted yet; that its count of names changed is all there is.
        let open = format!("/proc/self/fd/{}", file.as_raw_fd());
        add_watch(&inotify, open, WatchFlags::MODIFY | WatchFlags::ATTRIB)?;
        let offset = match start {
            Start::Begin => first_data(&file)?,
            Start::Now => last_line_end(&file)?,
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            inotify,
            process: None,
            offset,
            text: Vec::new(),
            taken: 0,
        })
    }

    /// Hears the end of the run from its process as well, by a pidfd: at once, and not
    /// when systemd has done with it.
    #[must_use]
    pub fn of_process(mut self, pidfd: OwnedFd) -> Self {
        self.process = Some(pidfd);
        self
    }

    /// The next event, waited for as long as `limit`: `None` is for ever, zero takes
    /// what is there.
    ///
    /// # Errors
    ///
    /// Those of reading a file.
    pub fn next_event(&mut self, limit: impl Into<Option<Duration>>) -> io::Result<Heard> {
        self.next_by(Deadline::after(limit.into()))
    }

    /// The first event that `wanted` makes something of, all within `limit`. Those before
    /// it are gone.
    ///
    /// # Errors
    ///
    /// Those of [`next_event`](Self::next_event).
    pub fn find<T>(
        &mut self,
        limit: impl Into<Option<Duration>>,
        mut wanted: impl FnMut(&Event) -> Option<T>,
    ) -> io::Result<Heard<T>> {
        let deadline = Deadline::after(limit.into());
        loop {
            match self.next_by(deadline)? {
                Heard::Event(event) => {
                    if let Some(found) = wanted(&event) {
                        return Ok(Heard::Event(found));
                    }
                }
                Heard::Nothing => return Ok(Heard::Nothing),
                Heard::End(end) => return Ok(Heard::End(end)),
            }
        }
    }

    fn next_by(&mut self, deadline: Deadline) -> io::Result<Heard> {
        loop {
            if let Some(event) = self.take() {
                return Ok(Heard::Event(event));
            }
            // Asked before reading: what was written before the end is read after it.
            let is_over = self.is_over()?;
            if self.read()? {
                continue;
            }
            if is_over {
                return Ok(Heard::End(self.end()));
            }
            if deadline.has_passed() {
                return Ok(Heard::Nothing);
            }
            self.wait(deadline)?;
        }
    }

    /// The next event of what was read.
    fn take(&mut self) -> Option<Event> {
        loop {
            let rest = &self.text[self.taken..];
            let length = rest.iter().position(|byte| *byte == b'\n');
            let line = &rest[..length.unwrap_or(rest.len())];
            // What was punched out reads as zeros, of which there may be many.
            let hole = line.iter().rposition(|byte| *byte == 0);
            let skipped = hole.map_or(0, |last| last + 1);
            let Some(length) = length else {
                self.text.drain(..self.taken + skipped);
                self.taken = 0;
                return None;
            };
            self.taken += length + 1;
            // Not the greeting, nor how the run began, nor a line whose beginning is gone.
            if let Ok(Message::Event(event)) = Message::parse(&line[skipped..]) {
                return Some(event);
            }
        }
    }

    /// Reads on; whether there was something.
    fn read(&mut self) -> io::Result<bool> {
        let length = self.file.metadata()?.len();
        if length < self.offset {
            // A file system without holes: the log was emptied.
            self.offset = 0;
            self.text.clear();
            self.taken = 0;
        }
        let before = self.text.len();
        self.text.resize(before + CHUNK, 0);
        let read = self.file.read_at(&mut self.text[before..], self.offset);
        let count = *read.as_ref().unwrap_or(&0);
        self.text.truncate(before + count);
        self.offset += count as u64;
        match read {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            read => Ok(read? > 0),
        }
    }

    fn is_over(&self) -> io::Result<bool> {
        if self.file.metadata()?.nlink() == 0 {
            return Ok(true);
        }
        let Some(process) = &self.process else {
            return Ok(false);
        };
        let mut fds = [PollFd::new(process, PollFlags::IN)];
        wait_for(&mut fds, Some(Duration::ZERO)).map_err(into_io)?;
        Ok(!fds[0].revents().is_empty())
    }

    fn end(&self) -> End {
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let now = std::fs::metadata(&self.path).map(identity).ok();
        match now {
            Some(now) if self.file.metadata().map(identity).ok() != Some(now) => End::Anew,
            _ => End::Over,
        }
    }

    fn wait(&self, deadline: Deadline) -> io::Result<()> {
        let mut fds = vec![PollFd::new(&self.inotify, PollFlags::IN)];
        if let Some(process) = &self.process {
            fds.push(PollFd::new(process, PollFlags::IN));
        }
        wait_for(&mut fds, deadline.left()).map_err(into_io)?;
        // What happened does not matter, that something did does.
        let mut events = [0; 4096];
        match rustix::io::read(&self.inotify, &mut events) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Where the log's text begins: its head may have been freed.
fn first_data(file: &File) -> io::Result<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(0)) {
        Ok(start) => Ok(start),
        // Nothing but a hole, or nothing at all.
        Err(Errno::NXIO) => Ok(file.metadata()?.len()),
        Err(_) => Ok(0),
    }
}

/// Where the last complete line ends: one that is being written is yet to come.
fn last_line_end(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut tail = vec![0; CHUNK.min(length as usize)];
    let start = length - tail.len() as u64;
    file.read_exact_at(&mut tail, start)?;
    let end = tail.iter().rposition(|byte| *byte == b'\n');
    Ok(end.map_or(length, |end| start + end as u64 + 1))
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::thread;

    use super::super::log;
    use super::super::message::RunState;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    struct Log {
        path: PathBuf,
        writer: File,
        _dir: tempfile::TempDir,
    }

    /// A log as the launcher begins it, and QEMU's end of it.
    fn begun() -> Log {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.log");
        log::begin(&path, Some(&RunState::Prelaunch)).unwrap();
        Log {
            writer: append_to(&path),
            path,
            _dir: dir,
        }
    }

    fn append_to(path: &Path) -> File {
        OpenOptions::new().append(true).open(path).unwrap()
    }

    fn line(name: &str) -> String {
        format!(
            "{{\"timestamp\": {{\"seconds\": 1, \"microseconds\": 2}}, \"event\": \"{name}\"}}\r\n"
        )
    }

    impl Log {
        fn write(&mut self, text: &str) {
            self.writer.write_all(text.as_bytes()).unwrap();
        }

        fn follow(&self, start: Start) -> Follower {
            Follower::open(&self.path, start).unwrap()
        }
    }

    #[track_caller]
    fn name(heard: io::Result<Heard>) -> String {
        match heard.unwrap() {
            Heard::Event(event) => event.name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_run_can_be_followed_from_its_begin_or_from_now_on() {
        let mut log = begun();
        log.write("{\"QMP\": {}}\r\n{\"return\": {}}\r\n");
        log.write(&line("RESUME"));
        let mut all = log.follow(Start::Begin);
        let mut new = log.follow(Start::Now);
        log.write(&line("STOP"));
        assert_eq!(name(all.next_event(PATIENCE)), "RESUME");
        assert_eq!(name(all.next_event(PATIENCE)), "STOP");
        assert_eq!(name(new.next_event(PATIENCE)), "STOP");
        assert_eq!(new.next_event(Duration::ZERO).unwrap(), Heard::Nothing);
    }

    #[test]
    fn what_is_being_written_is_still_to_come() {
        let mut log = begun();
        let stop = line("STOP");
        log.write(&stop[..20]);
        let mut follower = log.follow(Start::Now);
        let soon = Duration::from_millis(1);
        assert_eq!(follower.next_event(soon).unwrap(), Heard::Nothing);
        log.write(&stop[20..]);
        assert_eq!(name(follower.next_event(PATIENCE)), "STOP");
    }

    #[test]
    fn a_sleeping_follower_is_woken_by_each_event() {
        let mut log = begun();
        let mut follower = log.follow(Start::Now);
        let heard = thread::spawn(move || {
            (0..1000)
                .map(|_| name(follower.next_event(PATIENCE)))
                .collect::<Vec<_>>()
        });
        for count in 0..1000 {
            log.write(&line(&format!("E{count}")));
        }
        let expected: Vec<String> = (0..1000).map(|count| format!("E{count}")).collect();
        assert_eq!(heard.join().unwrap(), expected);
    }

    #[test]
    fn the_end_comes_after_the_last_event() {
        let mut log = begun();
        let mut follower = log.follow(Start::Now);
        log.write(&line("SHUTDOWN"));
        std::fs::remove_file(&log.path).unwrap();
        assert_eq!(name(follower.next_event(None)), "SHUTDOWN");
        assert_eq!(follower.next_event(None).unwrap(), Heard::End(End::Over));
        assert_eq!(follower.next_event(None).unwrap(), Heard::End(End::Over));
    }

    #[test]
    fn a_sleeping_follower_is_woken_by_the_end() {
        let log = begun();
        let mut follower = log.follow(Start::Now);
        let heard = thread::spawn(move || follower.next_event(PATIENCE).unwrap());
        std::fs::remove_file(&log.path).unwrap();
        assert_eq!(heard.join().unwrap(), Heard::End(End::Over));
    }

    #[test]
    fn a_log_that_is_begun_anew_is_another_run_s() {
        let mut log = begun();
        let mut follower = log.follow(Start::Now);
        log.write(&line("SHUTDOWN"));
        log::begin(&log.path, None).unwrap();
        append_to(&log.path)
            .write_all(line("RESUME").as_bytes())
            .unwrap();
        assert_eq!(name(follower.next_event(None)), "SHUTDOWN");
        assert_eq!(follower.next_event(None).unwrap(), Heard::End(End::Anew));
        assert_eq!(name(log.follow(Start::Begin).next_event(None)), "RESUME");
    }

    #[test]
    fn the_end_of_the_process_is_the_end_of_the_run() {
        let log = begun();
        let child = std::process::Command::new("sh")
            .args(["-c", r#"printf '%s\n' "$1" >>"$2"; exec sleep 1000"#, "sh"])
            .args([line("SHUTDOWN").as_ref(), log.path.as_os_str()])
            .spawn();
        let mut child = child.unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let mut follower = log.follow(Start::Begin).of_process(pidfd);
        assert_eq!(name(follower.next_event(PATIENCE)), "SHUTDOWN");
        assert_eq!(follower.next_event(Duration::ZERO).unwrap(), Heard::Nothing);
        child.kill().unwrap();
        assert_eq!(
            follower.next_event(PATIENCE).unwrap(),
            Heard::End(End::Over)
        );
        child.wait().unwrap();
    }

    #[test]
    fn what_was_punched_out_reads_as_nothing() {
        let mut log = begun();
        let stop = line("STOP");
        for _ in 0..4096 {
            log.write(&stop);
        }
        let mut before = log.follow(Start::Begin);
        assert_eq!(name(before.next_event(None)), "STOP");
        let length = log.writer.metadata().unwrap().len();
        // The hole ends within a line.
        let hole = length - 5 * stop.len() as u64 - 10;
        let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        let writable = OpenOptions::new().write(true).open(&log.path).unwrap();
        rustix::fs::fallocate(&writable, punch, 0, hole).unwrap();
        log.write(&line("RESUME"));

        for mut follower in [before, log.follow(Start::Begin)] {
            let mut names = Vec::new();
            while let Heard::Event(event) = follower.next_event(Duration::ZERO).unwrap() {
                names.push(event.name);
            }
            assert_eq!(names.pop().unwrap(), "RESUME");
            assert!(names.len() >= 5, "{}", names.len());
            assert!(names.iter().all(|name| name == "STOP"));
        }
    }

    #[test]
    fn a_log_that_was_emptied_is_followed_from_its_begin() {
        let mut log = begun();
        log.write(&line("STOP"));
        let mut follower = log.follow(Start::Now);
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&log.path)
            .unwrap();
        assert_eq!(follower.next_event(Duration::ZERO).unwrap(), Heard::Nothing);
        log.write(&line("RESUME"));
        assert_eq!(name(follower.next_event(PATIENCE)), "RESUME");
    }

    #[test]
    fn the_event_that_is_looked_for_is_found_among_others() {
        let mut log = begun();
        let mut follower = log.follow(Start::Now);
        log.write(&(line("STOP") + &line("RESET") + &line("RESUME")));
        let found = follower.find(PATIENCE, |event| (event.name == "RESET").then_some(7));
        assert_eq!(found.unwrap(), Heard::Event(7));
        let found = follower.find(Duration::ZERO, |event| (event.name == "RESET").then_some(7));
        assert_eq!(found.unwrap(), Heard::Nothing);
    }

    #[test]
    fn without_a_run_there_is_nothing_to_follow() {
        let error = Follower::open(Path::new("/nonexistent/events.log"), Start::Now).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
