//! Processes: waiting for one that is not a child, what one has used, and not being interrupted.

use std::iter;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// One process, by a descriptor: its number may be given away again, this is not.
#[derive(Debug)]
pub struct Process(OwnedFd);

impl Process {
    /// The process with that number; `None` if there is none (any more).
    pub fn open(pid: u32) -> Option<Self> {
        let pid = Pid::from_raw(pid.try_into().ok()?)?;
        pidfd_open(pid, PidfdFlags::empty()).ok().map(Self)
    }

    /// Another descriptor of it, to poll(2) for its end.
    pub fn try_clone(&self) -> std::io::Result<OwnedFd> {
        self.0.try_clone()
    }

    /// Sends a signal to the process. One that has ended needs none.
    ///
    /// # Errors
    /// What pidfd_send_signal(2) says: it is another user's.
    pub fn signal(&self, signal: Signal) -> std::io::Result<()> {
        match pidfd_send_signal(&self.0, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until the process has ended, at most for `limit`. Whether it has.
    pub fn wait(&self, limit: Duration) -> bool {
        wait_readable([&self.0], limit)
    }
}

/// Waits until one of these can be read, at most for `limit`. Whether one can.
fn wait_readable<'a>(fds: impl IntoIterator<Item = &'a OwnedFd>, limit: Duration) -> bool {
    let fds = fds.into_iter();
    let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            // Interrupted by a signal: the deadline stays.
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => unreachable!("poll on a few descriptors: {error}"),
        }
    }
}

impl From<Process> for OwnedFd {
    /// The pidfd, to poll along with others.
    fn from(process: Process) -> Self {
        process.0
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// While this lives, signals that would end the process have to wait.
///
/// Of this thread only: in a program with several, another one may take them.
#[derive(Debug)]
pub struct Undisturbed {
    before: libc::sigset_t,
    signals: OwnedFd,
}

impl Undisturbed {
    /// Puts off SIGINT, SIGTERM and SIGHUP.
    pub fn begin() -> Self {
        // SAFETY: sets of signals are plain data, which sigemptyset(3) makes valid and
        // the other calls only read or fill; the descriptor is new and nobody else's.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                libc::sigaddset(&mut set, signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, &mut before);
            let signals = libc::signalfd(-1, &set, libc::SFD_CLOEXEC);
            assert!(
                signals >= 0,
                "signalfd: {}",
                std::io::Error::last_os_error()
            );
            let signals = OwnedFd::from_raw_fd(signals);
            Self { before, signals }
        }
    }

    /// Waits for `limit`, or until a signal has come that is put off, or `process` has ended.
    pub fn wait(&self, limit: Duration, process: Option<&Process>) {
        // The signal is not read, so that it comes when this is over.
        let process = process.map(|process| &process.0);
        wait_readable(iter::once(&self.signals).chain(process), limit);
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        // SAFETY: the set is the one that pthread_sigmask(3) filled.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }
}

/// What a process has used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Resident memory in bytes.
    pub memory: u64,
    /// CPU time, in the kernel and outside.
    pub cpu: Duration,
}

/// What a process has used, by the kernel's count.
pub fn usage(pid: u32) -> Option<Usage> {
    let stat = Stat::read(pid)?;
    let ticks = stat.number(14)? + stat.number(15)?;
    Some(Usage {
        memory: stat.number(24)? * rustix::param::page_size() as u64,
        cpu: Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64),
    })
}

/// The kernel is taking the process apart (`PF_EXITING`, include/linux/sched.h).
const EXITING: u64 = 0x4;

/// Whether a process has ended or is about to: it was killed, or ends by itself.
///
/// What it had open is closed some time before it has ended, and others hear of that first.
pub fn is_ending(pid: u32) -> bool {
    let Some(stat) = Stat::read(pid) else {
        return true;
    };
    let is_set = |field, bits| stat.number(field).is_some_and(|value| value & bits != 0);
    matches!(stat.0.first().map(String::as_str), Some("Z" | "X"))
        || is_set(9, EXITING)
        || is_set(31, 1 << (libc::SIGKILL - 1))
}

/// The fields of proc_pid_stat(5), from the third one on.
struct Stat(Vec<String>);

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything; the third field follows.
        let fields = stat.trim_end().rsplit_once(") ")?.1.split(' ');
        Some(Self(fields.map(str::to_owned).collect()))
    }

    /// A field that is a number, counted as in the manual.
    fn number(&self, field: usize) -> Option<u64> {
        self.0.get(field - 3)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_waited_for_until_it_ends() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let process = Process::open(child.id()).unwrap();
        assert!(!process.wait(Duration::ZERO));
        child.kill().unwrap();
        assert!(process.wait(Duration::from_secs(10)));
        child.wait().unwrap();
        assert!(Process::open(child.id()).is_none());
    }

    #[test]
    fn a_process_whose_files_are_closed_is_ending() {
        assert!(!is_ending(std::process::id()));
        for _ in 0..20 {
            let mut child = std::process::Command::new("sleep")
                .arg("1000")
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            child.kill().unwrap();
            // Its end of the pipe is gone.
            let mut stdout = child.stdout.take().unwrap();
            std::io::Read::read_to_end(&mut stdout, &mut Vec::new()).unwrap();
            assert!(is_ending(child.id()));
            child.wait().unwrap();
            assert!(is_ending(child.id()));
        }
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(usage(std::process::id()).unwrap().memory > 0);
    }

    #[test]
    fn number_zero_is_no_process() {
        assert!(Process::open(0).is_none());
    }
}
