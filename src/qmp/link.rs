//! One socket as a stream of messages, with deadlines.
//!
//! Nothing here blocks but [`Link::wait`], and that not beyond its deadline:
//! a peer that drips one byte a second gains nothing by it.

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, send, sendmsg, socket_with, sockopt,
};

use super::error::{Awaited, Error};
use super::message::Message;

/// Longest message, in bytes: far above any real one (the longest known,
/// `query-qmp-schema`, has 240 KB), and a peer gone mad does not fill the memory.
/// The fuzzer (`tests/fuzz`) gets to a nearer one in a thousandth of the time.
pub(super) const MESSAGE_LIMIT: usize = if cfg!(fuzzing) { 1 << 10 } else { 64 << 20 };

/// Longest path that fits `sun_path` with its final NUL; see unix(7).
const SOCKET_PATH_LIMIT: usize = 107;

/// The moment when an operation gives up, and the limit that it came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub(super) limit: Duration,
    /// `None` is never.
    at: Option<Instant>,
}

impl Deadline {
    /// `None` is never.
    pub(super) fn after(limit: Option<Duration>) -> Self {
        let limit = limit.unwrap_or(Duration::MAX);
        Self {
            limit,
            at: Instant::now().checked_add(limit),
        }
    }

    /// Time left; `None` is without end.
    pub(super) fn left(self) -> Option<Duration> {
        self.at
            .map(|at| at.saturating_duration_since(Instant::now()))
    }

    pub(super) fn has_passed(self) -> bool {
        self.left() == Some(Duration::ZERO)
    }

    /// The error of an operation that waited for `awaited` until now.
    pub(super) fn timeout(self, awaited: Awaited) -> Error {
        Error::Timeout {
            awaited,
            limit: self.limit,
        }
    }
}

/// Waits until one of `fds` is ready or `limit` has passed; `None` waits for ever.
pub(super) fn wait_for(fds: &mut [PollFd<'_>], limit: Option<Duration>) -> Result<(), Error> {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(fds, limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(Error::Io(errno.into())),
    }
}

/// A connection to the socket at `path`, waited for until the deadline.
pub(super) fn connect_by(path: &Path, deadline: Deadline) -> Result<UnixStream, Error> {
    let failed = |source: io::Error| Error::Connect {
        path: path.to_owned(),
        source,
    };
    let socket = new_socket(SocketFlags::CLOEXEC).map_err(failed)?;
    loop {
        // Full queues are waited for in the kernel: connect(2) on a local
        // socket heeds SO_SNDTIMEO and then says EAGAIN. Zero would mean for ever.
        let left = deadline
            .left()
            .map(|left| left.max(Duration::from_micros(1)));
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, left)
            .map_err(|errno| failed(errno.into()))?;
        match connect_to(&socket, path) {
            Ok(()) => return Ok(UnixStream::from(socket)),
            Err(err) if is_transient(&err) && !deadline.has_passed() => {}
            Err(err) if is_transient(&err) => {
                return Err(deadline.timeout(Awaited::Connection(path.to_owned())));
            }
            Err(err) => return Err(failed(err)),
        }
    }
}

/// A connection to the socket at `path`, or `None` if its queue is full.
pub(super) fn connect_now(path: &Path) -> Result<Option<UnixStream>, Error> {
    let connected = new_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        .and_then(|socket| connect_to(&socket, path).map(|()| socket));
    match connected {
        Ok(socket) => Ok(Some(UnixStream::from(socket))),
        Err(err) if is_transient(&err) => Ok(None),
        Err(source) => Err(Error::Connect {
            path: path.to_owned(),
            source,
        }),
    }
}

fn is_transient(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

fn new_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

fn connect_to(socket: &OwnedFd, path: &Path) -> io::Result<()> {
    if path.as_os_str().as_bytes().len() <= SOCKET_PATH_LIMIT {
        return Ok(connect(socket, &SocketAddrUnix::new(path)?)?);
    }
    // A path of any length has a short name once it is open.
    let node = File::options()
        .read(true)
        .custom_flags(OFlags::PATH.bits().cast_signed())
        .open(path)?;
    let short = format!("/proc/self/fd/{}", node.as_raw_fd());
    Ok(connect(socket, &SocketAddrUnix::new(short)?)?)
}

/// A socket, what is still to be written to it, and what came from it.
#[derive(Debug)]
pub(super) struct Link {
    stream: UnixStream,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    /// Where in `incoming` the first message begins that was not taken yet.
    start: usize,
    scan: Scan,
    /// The peer will say nothing more.
    closed: bool,
}

/// How far `incoming` was looked through for the end of a message.
///
/// QEMU ends each with a line break, but with `pretty=on` it breaks lines
/// inside as well: brackets are what can be relied on.
#[derive(Debug, Default)]
struct Scan {
    at: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Link {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            start: 0,
            scan: Scan::default(),
            closed: false,
        }
    }

    /// The process that began to listen, where it can be seen from here.
    pub(super) fn peer(&self) -> Option<u32> {
        let peer = sockopt::socket_peercred(&self.stream).ok()?;
        // The kernel says 0 for a process of another PID namespace.
        u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
    }

    /// Notes `bytes` for the next [`transfer`](Self::transfer).
    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.outgoing.extend_from_slice(bytes);
    }

    /// Takes back all that was [queued](Self::queue) since the last transfer.
    pub(super) fn unqueue(&mut self) {
        self.outgoing.clear();
    }

    /// What to poll for.
    pub(super) fn interest(&self) -> PollFd<'_> {
        let writing = !self.outgoing.is_empty();
        let flags = PollFlags::IN
            | if writing {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
        PollFd::from_borrowed_fd(self.stream.as_fd(), flags)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes and reads what can be without waiting.
    pub(super) fn transfer(&mut self) -> Result<(), Error> {
        self.write()?;
        self.read().map(drop)
    }

    /// Writes what can be without waiting.
    pub(super) fn write(&mut self) -> Result<(), Error> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match send(&self.stream, &self.outgoing, flags) {
            Ok(sent) => drop(self.outgoing.drain(..sent)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // What the peer said before it went is still to be read.
            Err(Errno::PIPE | Errno::CONNRESET) => self.outgoing.clear(),
            Err(errno) => return Err(Error::Io(errno.into())),
        }
        Ok(())
    }

    /// Sends `bytes` with `fd` attached to the first of them, which waits until all
    /// that was queued before is out. The others may still be queued afterwards.
    pub(super) fn send_with_fd(
        &mut self,
        bytes: &[u8],
        fd: BorrowedFd<'_>,
        deadline: Deadline,
        awaited: &Awaited,
    ) -> Result<(), Error> {
        while !self.outgoing.is_empty() {
            self.wait(deadline, awaited.clone())?;
        }
        let fds = [fd];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(
                control.push(SendAncillaryMessage::ScmRights(&fds)),
                "the space is for one descriptor"
            );
            match sendmsg(&self.stream, &[IoSlice::new(bytes)], &mut control, flags) {
                Ok(sent) => {
                    self.queue(&bytes[sent..]);
                    return Ok(());
                }
                Err(Errno::AGAIN) if deadline.has_passed() => {
                    return Err(deadline.timeout(awaited.clone()));
                }
                Err(Errno::AGAIN) => {
                    let room = PollFd::from_borrowed_fd(self.stream.as_fd(), PollFlags::OUT);
                    wait_for(&mut [room], deadline.left())?;
                }
                Err(Errno::INTR) => {}
                // What the peer said before it went is still to be read.
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
                Err(errno) => return Err(Error::Io(errno.into())),
            }
        }
    }

    /// Reads what can be without waiting; whether there was anything.
    pub(super) fn read(&mut self) -> Result<bool, Error> {
        if self.is_too_long() {
            return Ok(false);
        }
        self.incoming.drain(..self.start);
        self.scan.at -= self.start;
        self.start = 0;
        self.incoming
            .reserve(self.incoming.len().clamp(4 << 10, 1 << 20));
        let room = spare_capacity(&mut self.incoming);
        match recv(&self.stream, room, RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::CONNRESET) => self.closed = true,
            Ok(_) => return Ok(true),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(Error::Io(errno.into())),
        }
        Ok(false)
    }

    /// Waits until there is something to [`transfer`](Self::transfer), and does it.
    pub(super) fn wait(&mut self, deadline: Deadline, awaited: Awaited) -> Result<(), Error> {
        if self.closed {
            return Err(Error::Closed { awaited });
        }
        if deadline.has_passed() {
            return Err(deadline.timeout(awaited));
        }
        wait_for(&mut [self.interest()], deadline.left())?;
        self.transfer()
    }

    /// The next message, if it has come in full.
    ///
    /// What is no message stays where it is: the error comes again.
    pub(super) fn next_message(&mut self) -> Result<Option<Message>, Error> {
        while let Some(&byte) = self.incoming.get(self.scan.at) {
            if self.scan.depth == 0 {
                match byte {
                    b'{' => self.start = self.scan.at,
                    b' ' | b'\t' | b'\r' | b'\n' => self.start = self.scan.at + 1,
                    _ => {
                        let rest = &self.incoming[self.scan.at..];
                        let excerpt = String::from_utf8_lossy(&rest[..rest.len().min(60)]);
                        let what = format!("`{}`", excerpt.trim_end().escape_debug());
                        return Err(Error::Protocol(what));
                    }
                }
            }
            if !self.scan.ends_with(byte) {
                continue;
            }
            let end = std::mem::take(&mut self.scan).at;
            if end - self.start > MESSAGE_LIMIT {
                self.scan.at = self.start;
                return Err(Error::TooLong);
            }
            let message = Message::parse(&self.incoming[self.start..end]);
            self.scan.at = if message.is_ok() { end } else { self.start };
            self.start = self.scan.at;
            return message.map(Some).map_err(Error::Protocol);
        }
        if self.is_too_long() {
            return Err(Error::TooLong);
        }
        Ok(None)
    }

    /// More is there than a message may have.
    fn is_too_long(&self) -> bool {
        self.incoming.len() - self.start > MESSAGE_LIMIT
    }

    /// Forgets everything up to and including the first `mark`; whether there was one.
    pub(super) fn skip_past(&mut self, mark: u8) -> bool {
        let rest = &self.incoming[self.start..];
        let found = rest.iter().position(|&byte| byte == mark);
        self.start += found.map_or(rest.len(), |position| position + 1);
        self.scan = Scan {
            at: self.start,
            ..Scan::default()
        };
        found.is_some()
    }
}

impl Scan {
    /// Steps over `byte`, the next one of a message; whether it is the last.
    fn ends_with(&mut self, byte: u8) -> bool {
        self.at += 1;
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return false;
        }
        match byte {
            b'"' => self.in_string = self.depth > 0,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth -= 1;
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}
