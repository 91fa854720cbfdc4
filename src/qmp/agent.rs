//! The guest agent, `qemu-ga`: it speaks much like a monitor, from inside the guest.
//!
//! It has no greeting, sends no events, and may not be there at all. What it
//! still had to say to someone else comes first, so each conversation begins
//! with a mark: docs/interop/qemu-ga-ref, `guest-sync-delimited`.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::client::{DEFAULT_TIMEOUT, json_of, read_as, refused};
use super::error::{Awaited, Error};
use super::link::{Deadline, Link, connect_by};
use super::message::{Message, Verb, command_line};
use super::monitor::Lock;

/// The byte before the reply to `guest-sync-delimited`; never part of JSON.
const MARK: u8 = 0xff;

/// A connection to the guest agent of one VM.
///
/// That the guest runs no agent shows as a [`Timeout`](Error::Timeout) for
/// [`Agent`](Awaited::Agent); sooner in `query-chardev`, where `frontend-open` of
/// the channel is false while nobody in the guest has it open.
///
/// Payloads, such as the contents of files, are [`Base64`]:
///
/// ```
/// # use std::io::{BufRead, BufReader, Write};
/// # use std::os::unix::net::UnixStream;
/// # let (stream, guest) = UnixStream::pair().unwrap();
/// # std::thread::spawn(move || {
/// #     let mut lines = BufReader::new(guest.try_clone().unwrap());
/// #     let mut line = Vec::new();
/// #     lines.read_until(b'\n', &mut line).unwrap();
/// #     let sync: serde_json::Value = serde_json::from_slice(&line[1..]).unwrap();
/// #     writeln!(&guest, "\n{{\"return\": 0}}").unwrap();
/// #     (&guest).write_all(b"\xff").unwrap();
/// #     writeln!(&guest, "{{\"return\": {}}}", sync["arguments"]["id"]).unwrap();
/// #     writeln!(&guest, "{{\"return\": {{\"buf-b64\": \"aGVsbG8K\", \"eof\": true}}}}").unwrap();
/// #     lines.read_until(b'\n', &mut line).unwrap();
/// # });
/// use maqet::qmp::{Agent, Base64};
/// use serde::Deserialize;
/// use serde_json::json;
///
/// #[derive(Deserialize)]
/// struct Piece {
///     #[serde(rename = "buf-b64")]
///     bytes: Base64,
///     eof: bool,
/// }
///
/// let mut agent = Agent::new(stream);
/// let piece: Piece = agent.call("guest-file-read", json!({ "handle": 1000 }))?;
/// assert_eq!((&piece.bytes.0[..], piece.eof), (&b"hello\n"[..], true));
/// # Ok::<(), maqet::qmp::Error>(())
/// ```
///
/// A reply may have 64 MiB: less than the 48 MiB that `guest-file-read` reads at
/// most, once they are base64. Read in smaller pieces.
#[derive(Debug)]
pub struct Agent {
    link: Link,
    /// Dropped after the connection: the next one is served at once.
    _lock: Option<Lock>,
    /// The next message is the reply to the next command.
    in_step: bool,
    timeout: Option<Duration>,
}

/// The answer to `guest-info`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct AgentInfo {
    /// The version of the agent.
    pub version: String,
    /// The commands it knows.
    pub supported_commands: Vec<AgentCommand>,
}

/// One command of the guest agent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct AgentCommand {
    /// Its name, such as `guest-fsfreeze-freeze`.
    pub name: String,
    /// Whether the guest's configuration permits it.
    pub enabled: bool,
}

/// Bytes as the guest agent's commands pass them: `buf-b64`, `input-data`, `out-data`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        BASE64_STANDARD.encode(&self.0).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = BASE64_STANDARD.decode(text);
        bytes.map(Self).map_err(serde::de::Error::custom)
    }
}

/// How the guest agent is to end the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shutdown {
    /// Shut down and power off.
    Powerdown,
    /// Shut down and halt, without cutting the power.
    Halt,
    /// Shut down and start again.
    Reboot,
}

impl Agent {
    /// Connects to the agent's socket at `path`, which may be of any length.
    ///
    /// # Errors
    ///
    /// [`Connect`](Error::Connect), and [`Timeout`](Error::Timeout) if the
    /// socket's queue stays full until `limit`.
    pub fn connect(path: &Path, limit: impl Into<Option<Duration>>) -> Result<Self, Error> {
        connect_by(path, Deadline::after(limit.into())).map(Self::new)
    }

    /// Takes the `lock` of the agent's socket, and connects: like
    /// [`Monitor::open`](super::Monitor::open), for the channel serves one
    /// client at a time as a monitor does.
    ///
    /// # Errors
    ///
    /// Those of [`Monitor::open`](super::Monitor::open).
    pub fn open(
        socket: &Path,
        lock: &Path,
        limit: impl Into<Option<Duration>>,
    ) -> Result<Self, Error> {
        let deadline = Deadline::after(limit.into());
        let lock = Lock::acquire(socket, lock, deadline)?;
        let mut agent = Self::new(connect_by(socket, deadline)?);
        agent._lock = Some(lock);
        Ok(agent)
    }

    /// An agent on a connection of any age.
    pub fn new(stream: UnixStream) -> Self {
        Self {
            link: Link::new(stream),
            _lock: None,
            in_step: false,
            timeout: Some(DEFAULT_TIMEOUT),
        }
    }

    /// Sets the limit of each operation; at first [`DEFAULT_TIMEOUT`], `None` is for ever.
    pub fn set_timeout(&mut self, limit: impl Into<Option<Duration>>) {
        self.timeout = limit.into();
    }

    /// Sends a command and waits for its reply. Without arguments these are `()`.
    ///
    /// # Errors
    ///
    /// [`Refused`](Error::Refused) if the agent says no,
    /// [`Arguments`](Error::Arguments), and all of the connection's.
    pub fn execute(&mut self, command: &str, arguments: impl Serialize) -> Result<Value, Error> {
        let deadline = Deadline::after(self.timeout);
        self.send(command, arguments, deadline)?;
        self.receive(command, deadline)
    }

    /// Sends a command and waits for its reply, which is read as a `T`.
    ///
    /// # Errors
    ///
    /// [`Unexpected`](Error::Unexpected) if the reply is no `T`, and those of
    /// [`execute`](Self::execute).
    pub fn call<T: DeserializeOwned>(
        &mut self,
        command: &str,
        arguments: impl Serialize,
    ) -> Result<T, Error> {
        let reply = self.execute(command, arguments)?;
        read_as(command, reply)
    }

    /// Whether there is an agent: `guest-ping`.
    ///
    /// # Errors
    ///
    /// Those of [`execute`](Self::execute).
    pub fn ping(&mut self) -> Result<(), Error> {
        self.execute("guest-ping", ()).map(drop)
    }

    /// The version and the commands of the agent: `guest-info`.
    ///
    /// # Errors
    ///
    /// [`Unexpected`](Error::Unexpected), and those of [`execute`](Self::execute).
    pub fn info(&mut self) -> Result<AgentInfo, Error> {
        self.call("guest-info", ())
    }

    /// Asks the guest to end: `guest-shutdown`. Returns when it was asked, not when it is done.
    ///
    /// The agent only answers to refuse, which is waited for during `listen`;
    /// silence until then, or the guest's end, is success.
    ///
    /// # Errors
    ///
    /// [`Refused`](Error::Refused), and all of the connection's while the agent
    /// has not shown that it listens.
    pub fn shutdown(&mut self, mode: Shutdown, listen: Duration) -> Result<(), Error> {
        let command = "guest-shutdown";
        let deadline = Deadline::after(self.timeout);
        self.send(command, json!({ "mode": mode }), deadline)?;
        match self.receive(command, Deadline::after(Some(listen))) {
            Ok(_) | Err(Error::Timeout { .. } | Error::Closed { .. }) => Ok(()),
            Err(err) => Err(err),
        }
    }

    fn send(
        &mut self,
        command: &str,
        arguments: impl Serialize,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let arguments = json_of(command, arguments)?;
        if !self.in_step {
            self.synchronize(deadline)?;
        }
        // Until the reply has come.
        self.in_step = false;
        self.link
            .queue(&command_line(Verb::Execute, command, &arguments, None));
        self.link.transfer()
    }

    fn receive(&mut self, command: &str, deadline: Deadline) -> Result<Value, Error> {
        let answer = self.next_reply(command, deadline)?;
        self.in_step = true;
        answer
    }

    /// Skips what is left of other conversations.
    fn synchronize(&mut self, deadline: Deadline) -> Result<(), Error> {
        let command = "guest-sync-delimited";
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        // Only has to differ from the last one; the schema has it as a signed number.
        let id = now.as_micros() as u64;
        // The mark also ends what another client began to send and did not finish.
        self.link.queue(&[MARK]);
        self.link.queue(&command_line(
            Verb::Execute,
            command,
            &json!({ "id": id }),
            None,
        ));
        self.link.transfer()?;
        loop {
            while !self.link.skip_past(MARK) {
                self.link.wait(deadline, Awaited::Agent)?;
            }
            if self.next_reply(command, deadline)?? == json!(id) {
                return Ok(());
            }
        }
    }

    /// The agent's next reply, within a failure to get one.
    fn next_reply(
        &mut self,
        command: &str,
        deadline: Deadline,
    ) -> Result<Result<Value, Error>, Error> {
        loop {
            match self.link.next_message()? {
                Some(Message::Reply { answer, .. }) => {
                    return Ok(answer.map_err(|refusal| refused(command.to_owned(), refusal)));
                }
                // The agent sends neither greeting nor events.
                Some(_) => {}
                None => self
                    .link
                    .wait(deadline, Awaited::Reply(command.to_owned()))?,
            }
        }
    }
}
