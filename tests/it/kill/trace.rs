//! ptrace(2) of a command and of the programs that it runs: what they change, in order,
//! and something that happens to them just before one of the changes.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// A system call that changes something which others see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whether the command makes it itself, and not a program that it runs.
    pub own: bool,
    /// Which call it is.
    pub call: &'static str,
    /// What is changed: a path, or `socket`.
    pub what: String,
}

/// Just before or just after one of the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The number of the change, from 0 on.
    pub at: usize,
    /// Whether the call was made.
    pub after: bool,
}

/// What happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// SIGKILL for the command. What it runs goes on, if it does not end with it.
    Kill,
    /// SIGKILL for the command and all that it runs.
    KillAll,
    /// SIGKILL for the program that makes the call.
    KillCaller,
    /// This signal for the command.
    Signal(i32),
    /// SIGKILL for another process, so much later.
    KillOther(u32, Duration),
    /// The file behind this descriptor grows until there is no more room for it.
    Fill(RawFd),
}

/// A command that has ended.
pub struct Traced {
    /// What it has changed; only as far as its fate, if that came.
    pub changes: Vec<Change>,
    /// Whether its fate came.
    pub is_met: bool,
    /// How it has ended.
    pub status: ExitStatus,
    /// What it said, on stdout and stderr together.
    pub words: String,
}

/// Runs a command to its end; `fate` is what happens at one of its changes.
pub fn run(mut command: Command, fate: Option<(Point, Fate)>) -> Traced {
    let mut words = tempfile::tempfile().unwrap();
    command.stdout(words.try_clone().unwrap());
    command.stderr(words.try_clone().unwrap());
    // SAFETY: prctl(2) and ptrace(2) are all that happens between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    // It is this thread that traces it, and waits for it by waitpid(2).
    #[allow(clippy::zombie_processes)]
    let child = command.spawn().expect("the command");
    let mut tracer = Tracer {
        main: child.id() as i32,
        tasks: Vec::new(),
        changes: Vec::new(),
        fate,
        makes_it: None,
        is_over: false,
    };
    let status = tracer.follow();
    words.rewind().unwrap();
    let mut text = String::new();
    words.read_to_string(&mut text).unwrap();
    Traced {
        is_met: fate.is_some() && tracer.fate.is_none(),
        changes: tracer.changes,
        status: ExitStatus::from_raw(status),
        words: text,
    }
}

struct Tracer {
    main: i32,
    /// All threads that are traced, each with its process.
    tasks: Vec<(i32, i32)>,
    changes: Vec<Change>,
    fate: Option<(Point, Fate)>,
    /// Who is making the change after which something is to happen.
    makes_it: Option<i32>,
    /// The command is dead, and what it ran is let go.
    is_over: bool,
}

const OPTIONS: i32 = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_EXITKILL;

impl Tracer {
    /// Until the command and all that is traced have ended, or were let go; its status.
    fn follow(&mut self) -> i32 {
        let mut ended = None;
        loop {
            let mut status = 0;
            // SAFETY: waits for what this thread traces; fills one integer.
            let task = unsafe { libc::waitpid(-1, &mut status, libc::__WALL | libc::__WNOTHREAD) };
            if task < 0 {
                let error = io::Error::last_os_error();
                assert_eq!(error.raw_os_error(), Some(libc::ECHILD), "{error}");
                return ended.expect("the command has ended");
            }
            if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
                self.tasks.retain(|it| it.0 != task);
                if task == self.main {
                    ended = Some(status);
                }
                continue;
            }
            let signal = self.stopped(task, status);
            let request = match self.is_over && self.process(task) != self.main {
                true => libc::PTRACE_DETACH,
                false => libc::PTRACE_SYSCALL,
            };
            // It may have been killed meanwhile.
            trace(request, task, signal as usize);
        }
    }

    /// Looks at a task that has stopped; the signal that it is to have when it goes on.
    fn stopped(&mut self, task: i32, status: i32) -> i32 {
        let signal = libc::WSTOPSIG(status);
        if !self.tasks.iter().any(|it| it.0 == task) {
            let process = process_of(task).unwrap_or(task);
            self.tasks.push((task, process));
            if task == self.main {
                assert!(trace(libc::PTRACE_SETOPTIONS, task, OPTIONS as usize));
            }
            // The one by which it is stopped as it begins.
            return 0;
        }
        if signal == libc::SIGTRAP | 0x80 {
            if self.makes_it == Some(task) {
                self.makes_it = None;
                self.meet(task);
            } else if let Some(change) = self.entered(task) {
                self.changes.push(change);
                match self.fate {
                    Some((point, _)) if self.changes.len() != point.at + 1 => {}
                    Some((Point { after: true, .. }, _)) => self.makes_it = Some(task),
                    Some(_) => self.meet(task),
                    None => {}
                }
            }
            return 0;
        }
        match status >> 16 {
            0 => signal,
            _ => 0,
        }
    }

    fn meet(&mut self, task: i32) {
        let Some((_, fate)) = self.fate.take() else {
            return;
        };
        let all: Vec<i32> = self.tasks.iter().map(|it| it.1).collect();
        match fate {
            Fate::Kill => {
                send(self.main, libc::SIGKILL);
                self.is_over = true;
            }
            Fate::KillAll => all.into_iter().for_each(|it| send(it, libc::SIGKILL)),
            Fate::KillCaller => send(self.process(task), libc::SIGKILL),
            Fate::Signal(signal) => send(self.main, signal),
            Fate::KillOther(pid, delay) => {
                std::thread::sleep(delay);
                send(pid as i32, libc::SIGKILL);
            }
            Fate::Fill(file) => {
                // SAFETY: whoever has the command traced keeps it open meanwhile.
                let file = unsafe { BorrowedFd::borrow_raw(file) };
                while rustix::io::write(file, &[0; 4096]).is_ok() {}
            }
        }
    }

    fn process(&self, task: i32) -> i32 {
        let known = self.tasks.iter().find(|it| it.0 == task);
        known.map_or(task, |it| it.1)
    }

    /// The change that a task is about to make.
    fn entered(&self, task: i32) -> Option<Change> {
        // SAFETY: all zeroes are a valid value of it.
        let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        // SAFETY: the kernel fills at most `size` bytes.
        let filled =
            unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, task, size, &raw mut info) };
        if filled <= 0 || info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return None;
        }
        // SAFETY: it is the entry of a call.
        let entry = unsafe { info.u.entry };
        let (call, what) = change(task, entry.nr as i64, &entry.args)?;
        Some(Change {
            own: self.process(task) == self.main,
            call,
            what,
        })
    }
}

/// What a call changes, if it is one that does.
fn change(task: i32, number: i64, args: &[u64; 6]) -> Option<(&'static str, String)> {
    let path = |at: usize| text(task, args[at]);
    let flags = args[2] as i32;
    let (call, what) = match number {
        libc::SYS_write
        | libc::SYS_pwrite64
        | libc::SYS_writev
        | libc::SYS_pwritev
        | libc::SYS_pwritev2
        | libc::SYS_sendto
        | libc::SYS_sendmsg
        | libc::SYS_sendmmsg => ("write", open_file(task, args[0])?),
        libc::SYS_ftruncate | libc::SYS_fallocate => ("allocate", open_file(task, args[0])?),
        libc::SYS_fchmod => ("chmod", open_file(task, args[0])?),
        // FICLONE and its like.
        libc::SYS_ioctl if args[1] >> 8 & 0xff == 0x94 => ("clone", open_file(task, args[0])?),
        libc::SYS_copy_file_range => ("copy", open_file(task, args[2])?),
        libc::SYS_open if args[1] as i32 & (libc::O_CREAT | libc::O_TRUNC) != 0 => {
            ("make", path(0))
        }
        libc::SYS_openat if flags & (libc::O_CREAT | libc::O_TRUNC) != 0 => ("make", path(1)),
        libc::SYS_unlink | libc::SYS_rmdir => ("unlink", path(0)),
        libc::SYS_unlinkat => ("unlink", path(1)),
        libc::SYS_mkdir => ("mkdir", path(0)),
        libc::SYS_mkdirat => ("mkdir", path(1)),
        libc::SYS_chmod => ("chmod", path(0)),
        libc::SYS_fchmodat => ("chmod", path(1)),
        libc::SYS_link | libc::SYS_rename | libc::SYS_symlink => ("name", path(1)),
        libc::SYS_linkat | libc::SYS_renameat | libc::SYS_renameat2 => ("name", path(3)),
        libc::SYS_symlinkat => ("name", path(2)),
        libc::SYS_execve => ("run", path(0)),
        _ => return None,
    };
    // The database's index of what is in its log, made anew from that.
    if what.ends_with(".db-shm") {
        return None;
    }
    let is_there = std::fs::symlink_metadata(&what).is_ok();
    let is_truncated = number == libc::SYS_openat && flags & libc::O_TRUNC != 0;
    let changes = match call {
        "make" => !is_there || is_truncated,
        "mkdir" => !is_there,
        "unlink" | "run" => is_there,
        _ => true,
    };
    changes.then_some((call, what))
}

/// The file or socket behind a descriptor, if others see what is written there.
fn open_file(task: i32, fd: u64) -> Option<String> {
    let link = format!("/proc/{task}/fd/{}", fd as i32);
    let file = std::fs::read_link(link).ok()?;
    let file = file.to_string_lossy().into_owned();
    if file.starts_with("socket:") {
        return Some("socket".to_owned());
    }
    // What it says is in a file without a name.
    let is_seen = file.starts_with('/') && !file.starts_with("/dev/") && !is_deleted(&file);
    is_seen.then_some(file)
}

fn is_deleted(file: &str) -> bool {
    file.ends_with(" (deleted)")
}

/// A text in the memory of a task.
fn text(task: i32, address: u64) -> String {
    let mut buffer = [0; 4097];
    let memory = File::open(format!("/proc/{task}/mem"));
    let read = memory.and_then(|memory| memory.read_at(&mut buffer[..4096], address));
    if read.is_err() {
        return String::new();
    }
    let text = CStr::from_bytes_until_nul(&buffer).unwrap_or_default();
    text.to_string_lossy().into_owned()
}

fn process_of(task: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{task}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

fn trace(request: u32, task: i32, data: usize) -> bool {
    // SAFETY: none of the requests that are made so touches this process's memory.
    unsafe { libc::ptrace(request, task, 0, data) == 0 }
}

fn send(pid: i32, signal: i32) {
    crate::sandbox::signal(pid as u32, signal);
}
