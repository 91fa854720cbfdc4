//! What can go wrong between maqet and a monitor.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::link::MESSAGE_LIMIT;

/// Why a monitor or a guest agent gave no answer, or not the one asked for.
///
/// Only after [`Refused`](Self::Refused), [`Timeout`](Self::Timeout),
/// [`Arguments`](Self::Arguments) and [`Unexpected`](Self::Unexpected) is the
/// connection still good for another command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The socket could not be connected. `NotFound` says that there is no
    /// such socket, `ConnectionRefused` that no QEMU listens on it any more.
    #[error("cannot connect to {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The lock file of a monitor could not be used.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process held the lock of the monitor or the agent until the deadline.
    #[error("{} is busy{}", socket.display(), held_by(.holder.as_ref()))]
    Busy {
        /// The socket.
        socket: PathBuf,
        /// Who holds it; `None` if it has not said.
        holder: Option<Holder>,
    },
    /// The deadline passed.
    ///
    /// A command that was sent may still be carried out.
    #[error("timed out after {limit:?} waiting for {awaited}")]
    Timeout {
        /// What had not come.
        awaited: Awaited,
        /// How long the operation was allowed to take.
        limit: Duration,
    },
    /// QEMU ended, or closed the monitor.
    #[error("QEMU ended or closed the connection before {awaited}")]
    Closed {
        /// What had not come.
        awaited: Awaited,
    },
    /// What came is not QMP.
    #[error("this is not QMP: {0}")]
    Protocol(String),
    /// A message was longer than 64 MiB.
    #[error("a message is longer than {} MiB", MESSAGE_LIMIT >> 20)]
    TooLong,
    /// QEMU, or the guest agent, understood the command and said no.
    #[error("{} refused `{command}`: {desc}", refuser(command))]
    Refused {
        /// The command.
        command: String,
        /// QEMU's error class, such as `CommandNotFound`; mostly `GenericError`.
        class: String,
        /// QEMU's explanation, for people.
        desc: String,
    },
    /// The arguments cannot be written as JSON. Nothing was sent.
    #[error("the arguments of `{command}` are no JSON")]
    Arguments {
        /// The command.
        command: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// The reply is not what the caller asked to have it read as.
    #[error("the reply to `{command}` is not what was expected")]
    Unexpected {
        /// The command.
        command: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// The connection failed in a way that has no name here.
    #[error("the connection to the monitor failed")]
    Io(#[source] io::Error),
}

/// What an operation was waiting for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Awaited {
    /// A place in the queue of the socket, which is served one client at a time.
    Connection(PathBuf),
    /// QMP's first line: another client is being served, or QEMU hangs.
    Greeting,
    /// The reply to this command.
    Reply(String),
    /// An event.
    Event,
    /// Any sign of the guest agent.
    Agent,
    /// A turn with a connection that another thread uses.
    Turn,
    /// The end of this job.
    Job(String),
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(path) => write!(f, "a connection to {}", path.display()),
            Self::Greeting => f.write_str("the greeting"),
            Self::Reply(command) => write!(f, "the reply to `{command}`"),
            Self::Event => f.write_str("an event"),
            Self::Agent => f.write_str("the guest agent"),
            Self::Turn => f.write_str("a turn with the connection"),
            Self::Job(id) => write!(f, "the end of job `{id}`"),
        }
    }
}

/// The process that holds a monitor, as it described itself in the lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its program and first argument, such as `maqet snapshot`.
    pub command: String,
}

/// Commands of the guest agent, and only those, begin alike.
fn refuser(command: &str) -> &'static str {
    match command.starts_with("guest-") {
        true => "the guest agent",
        false => "QEMU",
    }
}

fn held_by(holder: Option<&Holder>) -> String {
    holder.map_or_else(String::new, |holder| {
        format!(": process {} (`{}`) holds it", holder.pid, holder.command)
    })
}
