//! Monitors that several processes share: one at a time, by a lock beside the socket.
//!
//! QEMU itself would let a second client connect and then say nothing to it.

use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::event::PollFd;
use serde_json::Value;

use super::client::{Client, Sent};
use super::error::{Awaited, Error, Holder};
use super::link::{Deadline, connect_by, connect_now, wait_for};

/// Waits between looks at what the kernel cannot be asked to report: from the
/// first to the last, each twice as long as the one before.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));

/// How many monitors [`ask_all`] has open at once: two descriptors each, of
/// the 1024 that a process may have by default.
const OPEN_AT_ONCE: usize = 256;

/// How long [`ask_all`] waits for a monitor that someone else has.
const LOCK_PATIENCE: Duration = Duration::from_millis(250);

/// The lock file of the monitor at `socket`: `qmp.lock` for `qmp.sock`.
pub fn lock_path(socket: &Path) -> PathBuf {
    socket.with_extension("lock")
}

/// A client that has its monitor to itself.
///
/// When it is dropped the connection is closed first and the lock released
/// then, so that the next one is served at once.
#[derive(Debug)]
pub struct Monitor {
    client: Client,
    _lock: Option<Lock>,
}

/// A client of a monitor that nobody else uses, and that needs no lock.
impl From<Client> for Monitor {
    fn from(client: Client) -> Self {
        Self {
            client,
            _lock: None,
        }
    }
}

impl Monitor {
    /// Takes the `lock` of the monitor at `socket`, and connects.
    ///
    /// The lock file is made if need be, with mode 0600; directories are not.
    /// `limit` holds for the lock and the connection together.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/qmp/prelaunch.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let vm = Prelaunch::start();
    /// # let socket = &vm.socket;
    /// use std::time::Duration;
    ///
    /// use maqet::qmp::{Error, Monitor, lock_path};
    ///
    /// let mut qmp = Monitor::open(socket, &lock_path(socket), Duration::from_secs(5))?;
    /// qmp.execute("system_powerdown", ())?;
    /// match Monitor::open(socket, &lock_path(socket), Duration::from_millis(10)) {
    ///     Err(Error::Busy { holder, .. }) => assert_eq!(holder.unwrap().pid, std::process::id()),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Busy`](Error::Busy) if another process holds the lock until the limit,
    /// [`Connect`](Error::Connect) if there is no such socket or nobody listens
    /// on it, [`Lock`](Error::Lock) if the lock file cannot be used, and
    /// [`Timeout`](Error::Timeout).
    pub fn open(
        socket: &Path,
        lock: &Path,
        limit: impl Into<Option<Duration>>,
    ) -> Result<Self, Error> {
        let deadline = Deadline::after(limit.into());
        let lock = Lock::acquire(socket, lock, deadline)?;
        let client = Client::new(connect_by(socket, deadline)?);
        Ok(Self {
            client,
            _lock: Some(lock),
        })
    }
}

impl Deref for Monitor {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Monitor {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// An `flock`, with its holder's name in the file while it is held.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    pub(super) fn acquire(socket: &Path, path: &Path, deadline: Deadline) -> Result<Self, Error> {
        let failed = |source| Error::Lock {
            path: path.to_owned(),
            source,
        };
        let mut backoff = BACKOFF.0;
        loop {
            // Without a socket there is nothing to lock, nor perhaps a directory.
            socket.symlink_metadata().map_err(|source| Error::Connect {
                path: socket.to_owned(),
                source,
            })?;
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .map_err(failed)?;
            match file.try_lock() {
                // The directory may have been made anew while we waited, as
                // at a restart of the VM: then this lock keeps nobody out.
                Ok(()) if !is_at(&file, path) => continue,
                Ok(()) => {
                    let lock = Self(file);
                    lock.sign().map_err(failed)?;
                    return Ok(lock);
                }
                Err(TryLockError::WouldBlock) if deadline.has_passed() => {
                    return Err(Error::Busy {
                        socket: socket.to_owned(),
                        holder: read_holder(&mut file),
                    });
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            thread::sleep(deadline.left().map_or(backoff, |left| left.min(backoff)));
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    fn sign(&self) -> io::Result<()> {
        let mut words = std::env::args_os();
        let program = words.next().map(PathBuf::from).unwrap_or_default();
        let program = program.file_name().unwrap_or_default().to_string_lossy();
        let verb = words.next().unwrap_or_default();
        let text = format!(
            "{} {program} {}",
            std::process::id(),
            verb.to_string_lossy()
        );
        // After a holder that was killed there may be a longer text.
        self.0.set_len(0)?;
        self.0.write_all_at(text.trim_end().as_bytes(), 0)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever finds the name of a former holder is misled, but not for long.
        let _ = self.0.set_len(0);
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    let found = path.metadata().map(identity).ok();
    found.is_some() && found == file.metadata().map(identity).ok()
}

/// What the holder wrote; nothing if it has only just taken the lock.
fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).ok()?;
    let (pid, command) = text.trim().split_once(' ')?;
    Some(Holder {
        pid: pid.parse().ok()?,
        command: command.to_owned(),
    })
}

/// Asks many monitors the same, all at once; answers come in the order of `sockets`.
///
/// A monitor that is slow, dead or busy costs the others nothing: there is one
/// limit for all together. The lock of each is [`lock_path`] of its socket; one that is
/// in use for longer than 250 ms answers [`Busy`](Error::Busy).
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/qmp/prelaunch.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let vm = Prelaunch::start();
/// # let sockets = [vm.socket.clone(), "/nonexistent".into()];
/// use std::time::Duration;
///
/// use maqet::qmp::ask_all;
///
/// let answers = ask_all(&sockets, "query-status", Duration::from_secs(5));
/// assert_eq!(answers[0].as_ref().unwrap()["status"], "prelaunch");
/// assert!(answers[1].is_err());
/// # Ok(())
/// # }
/// ```
pub fn ask_all(
    sockets: &[PathBuf],
    command: &str,
    limit: impl Into<Option<Duration>>,
) -> Vec<Result<Value, Error>> {
    let deadline = Deadline::after(limit.into());
    let mut answers: Vec<_> = sockets.iter().map(|_| None).collect();
    let mut waiting: VecDeque<_> = sockets.iter().enumerate().collect();
    let mut asked: Vec<Asked<'_>> = Vec::new();
    // Who else asks a monitor is soon done; who works with one is not.
    let patience = Deadline::after(Some(LOCK_PATIENCE));
    let mut busy = Vec::new();
    loop {
        waiting.extend(busy.drain(..).map(|(index, socket, _)| (index, socket)));
        while asked.len() < OPEN_AT_ONCE
            && let Some((index, socket)) = waiting.pop_front()
        {
            match Asked::new(index, socket) {
                Ok(one) => asked.push(one),
                Err(err @ Error::Busy { .. }) if !patience.has_passed() => {
                    busy.push((index, socket, err));
                }
                Err(err) => answers[index] = Some(Err(err)),
            }
        }
        asked.retain_mut(|one| {
            let answer = if one.is_ready {
                one.advance(command)
            } else {
                None
            };
            let goes_on = answer.is_none();
            if !goes_on {
                answers[one.index] = answer;
            }
            goes_on
        });
        let is_done = asked.is_empty() && waiting.is_empty() && busy.is_empty();
        if is_done || deadline.has_passed() {
            break;
        }
        if asked.len() < OPEN_AT_ONCE && !waiting.is_empty() {
            continue;
        }
        let limit = match busy.is_empty() {
            true => deadline.left(),
            false => Some(BACKOFF.1),
        };
        if let Err(err) = wait_for_any(&mut asked, limit)
            && let Some(first) = asked.first()
        {
            // poll(2) only fails for want of memory.
            answers[first.index] = Some(Err(err));
            break;
        }
    }
    for one in asked {
        let awaited = match &one.talk {
            Some((client, sent)) => client.awaited_reply(sent),
            None => Awaited::Connection(one.socket.to_owned()),
        };
        answers[one.index].get_or_insert_with(|| Err(deadline.timeout(awaited)));
    }
    for (index, _, err) in busy {
        answers[index] = Some(Err(err));
    }
    for (index, socket) in waiting {
        let awaited = Awaited::Connection(socket.to_owned());
        answers[index] = Some(Err(deadline.timeout(awaited)));
    }
    let all = answers.into_iter();
    all.map(|answer| answer.expect("whoever was not asked or did not answer timed out"))
        .collect()
}

/// One of the monitors that [`ask_all`] asks.
struct Asked<'a> {
    index: usize,
    socket: &'a Path,
    /// The connection and the command sent on it; `None` while the socket's queue is full.
    talk: Option<(Client, Sent)>,
    is_ready: bool,
    _lock: Lock,
}

impl<'a> Asked<'a> {
    fn new(index: usize, socket: &'a Path) -> Result<Self, Error> {
        let at_once = Deadline::after(Some(Duration::ZERO));
        let lock = Lock::acquire(socket, &lock_path(socket), at_once)?;
        Ok(Self {
            index,
            socket,
            talk: None,
            is_ready: true,
            _lock: lock,
        })
    }

    /// Goes on as far as possible without waiting; the answer if that was the end.
    fn advance(&mut self, command: &str) -> Option<Result<Value, Error>> {
        if self.talk.is_none() {
            match self.begin(command) {
                Ok(talk) => self.talk = talk,
                Err(err) => return Some(Err(err)),
            }
        }
        let (client, sent) = self.talk.as_mut()?;
        client.try_receive(sent)
    }

    fn begin(&self, command: &str) -> Result<Option<(Client, Sent)>, Error> {
        let Some(stream) = connect_now(self.socket)? else {
            return Ok(None);
        };
        let mut client = Client::new(stream);
        let sent = client.send(command, ())?;
        Ok(Some((client, sent)))
    }
}

/// Waits until one of `asked` is ready, and marks those that are.
///
/// A socket whose queue is full cannot be polled for, and is ready for another try each time.
fn wait_for_any(asked: &mut [Asked<'_>], mut limit: Option<Duration>) -> Result<(), Error> {
    if asked.iter().any(|one| one.talk.is_none()) {
        limit = Some(limit.map_or(BACKOFF.1, |limit| limit.min(BACKOFF.1)));
    }
    let talks = asked.iter().filter_map(|one| one.talk.as_ref());
    let mut fds: Vec<PollFd<'_>> = talks.map(|(client, _)| client.interest()).collect();
    wait_for(&mut fds, limit)?;
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    let mut ready = ready.into_iter();
    for one in asked {
        one.is_ready = one.talk.is_none() || ready.next() == Some(true);
    }
    Ok(())
}
