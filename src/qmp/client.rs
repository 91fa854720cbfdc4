//! The client: commands, their replies, and the events in between.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::event::PollFd;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{Awaited, Error};
use super::link::{Deadline, Link, connect_by};
use super::message::{Event, Greeting, Message, Refusal, Status, command_line};

/// How long a command may take if nothing else is said.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// The id of `qmp_capabilities`, always the first command. It is not sent: QEMU
/// reads one byte in each turn of its loop, so bytes are what a question costs.
const NEGOTIATION: Id = Id(0);

/// A connection to one QMP monitor.
///
/// Negotiation is not waited for: it travels with the first command, so that
/// one question costs one round trip. Only what is not a `query-…` command
/// waits for the greeting: as long as that has not come, another client is
/// being served, and an action given up on must not be carried out later.
/// So after [`Timeout`](Error::Timeout) for [`Greeting`](Awaited::Greeting)
/// it never will be.
///
/// Every operation has a limit for all that it does; a limit of `None` is for
/// ever, one of zero takes what is there. After a timeout the connection is
/// still good, and a late reply is skipped.
#[derive(Debug)]
pub struct Client {
    link: Link,
    greeting: Option<Greeting>,
    /// Commands that wait for the greeting.
    held: Vec<(Id, Vec<u8>)>,
    /// Commands without a reply, or with one that nobody took yet; oldest first.
    pending: Vec<Pending>,
    events: VecDeque<Event>,
    next_id: Id,
    timeout: Option<Duration>,
}

/// Tells one sent command from the others of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(u64);

#[derive(Debug)]
struct Pending {
    id: Id,
    command: String,
    answer: Option<Result<Value, Refusal>>,
}

impl Client {
    /// Connects to the monitor at `path`, which may be of any length.
    ///
    /// A monitor serves one client at a time and lets one or two more queue; a
    /// place in that queue is waited for.
    ///
    /// # Errors
    ///
    /// [`Connect`](Error::Connect), and [`Timeout`](Error::Timeout) if the
    /// queue stays full until `limit`.
    pub fn connect(path: &Path, limit: impl Into<Option<Duration>>) -> Result<Self, Error> {
        connect_by(path, Deadline::after(limit.into())).map(Self::new)
    }

    /// A client on a connection that nothing was read from or written to yet.
    ///
    /// Nothing is sent before the first command.
    pub fn new(stream: UnixStream) -> Self {
        let mut client = Self {
            link: Link::new(stream),
            greeting: None,
            held: Vec::new(),
            pending: Vec::new(),
            events: VecDeque::new(),
            next_id: NEGOTIATION,
            timeout: Some(DEFAULT_TIMEOUT),
        };
        client.expect_reply("qmp_capabilities");
        let negotiate = command_line("qmp_capabilities", &Value::Null, None);
        client.link.queue(&negotiate);
        client
    }

    /// Sets the limit of all operations that are not given one; at first [`DEFAULT_TIMEOUT`].
    pub fn set_timeout(&mut self, limit: impl Into<Option<Duration>>) {
        self.timeout = limit.into();
    }

    /// QEMU's greeting, waited for if it has not come yet.
    ///
    /// # Errors
    ///
    /// All of the connection's.
    pub fn greeting(&mut self) -> Result<&Greeting, Error> {
        let deadline = Deadline::after(self.timeout);
        self.link.transfer()?;
        while self.greeting.is_none() {
            self.step(deadline, Awaited::Greeting)?;
        }
        Ok(self
            .greeting
            .as_ref()
            .expect("the loop ends when it is there"))
    }

    /// Sends a command and waits for its reply.
    ///
    /// Without arguments these are `()`.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), maqet::qmp::Error> {
    /// use std::time::Duration;
    ///
    /// use maqet::qmp::Client;
    /// use serde_json::json;
    ///
    /// let mut qmp = Client::connect("/tmp/qmp.sock".as_ref(), Duration::from_secs(5))?;
    /// qmp.execute("stop", ())?;
    /// let path = json!({ "path": "/machine", "property": "type" });
    /// println!("{}", qmp.execute("qom-get", path)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Refused`](Error::Refused) if QEMU says no, [`Arguments`](Error::Arguments),
    /// and all of the connection's.
    pub fn execute(&mut self, command: &str, arguments: impl Serialize) -> Result<Value, Error> {
        self.execute_within(command, arguments, self.timeout)
    }

    /// Like [`execute`](Self::execute), with a limit of its own.
    ///
    /// # Errors
    ///
    /// Those of [`execute`](Self::execute).
    pub fn execute_within(
        &mut self,
        command: &str,
        arguments: impl Serialize,
        limit: impl Into<Option<Duration>>,
    ) -> Result<Value, Error> {
        let deadline = Deadline::after(limit.into());
        let id = self.send(command, arguments)?;
        self.receive_or_forget(id, deadline)
    }

    /// Like [`execute`](Self::execute), and passes a descriptor along: for `add-fd` and `getfd`.
    ///
    /// QEMU gets a duplicate of its own.
    ///
    /// # Errors
    ///
    /// Those of [`execute`](Self::execute).
    pub fn execute_with_fd(
        &mut self,
        command: &str,
        arguments: impl Serialize,
        fd: BorrowedFd<'_>,
    ) -> Result<Value, Error> {
        let deadline = Deadline::after(self.timeout);
        let arguments = json_of(command, arguments)?;
        // An action, so it waits for the greeting as all of them do.
        self.greeting()?;
        let id = self.expect_reply(command);
        let line = command_line(command, &arguments, Some(id.0));
        let awaited = Awaited::Reply(command.to_owned());
        if let Err(error) = self.link.send_with_fd(&line, fd, deadline, &awaited) {
            self.forget(id);
            return Err(error);
        }
        self.receive_or_forget(id, deadline)
    }

    /// Sends a command without arguments and reads its reply as a `T`.
    ///
    /// # Errors
    ///
    /// [`Unexpected`](Error::Unexpected) if the reply is no `T`, and those of
    /// [`execute`](Self::execute).
    pub fn query<T: DeserializeOwned>(&mut self, command: &str) -> Result<T, Error> {
        let reply = self.execute(command, ())?;
        serde_json::from_value(reply).map_err(|source| Error::Unexpected {
            command: command.to_owned(),
            source,
        })
    }

    /// What the guest is doing: `query-status`.
    ///
    /// # Errors
    ///
    /// Those of [`query`](Self::query).
    pub fn status(&mut self) -> Result<Status, Error> {
        self.query("query-status")
    }

    /// Sends a command without waiting: neither for its reply nor, if QEMU is
    /// slow in reading, for its way out.
    ///
    /// # Errors
    ///
    /// [`Arguments`](Error::Arguments) and [`Io`](Error::Io). That QEMU is gone
    /// shows in [`receive`](Self::receive).
    pub fn send(&mut self, command: &str, arguments: impl Serialize) -> Result<Id, Error> {
        let arguments = json_of(command, arguments)?;
        let id = self.expect_reply(command);
        let line = command_line(command, &arguments, Some(id.0));
        let may_go = self.held.is_empty() && command.starts_with("query-");
        if self.greeting.is_some() || may_go {
            self.link.queue(&line);
        } else {
            self.held.push((id, line));
        }
        // Reading is left to those who look at what was read: poll(2) does not
        // report it again.
        self.link.write()?;
        Ok(id)
    }

    /// Waits for the reply to a command that was sent. Replies may be taken in any order.
    ///
    /// After a timeout the reply can be asked for again.
    ///
    /// # Errors
    ///
    /// Those of [`execute`](Self::execute).
    ///
    /// # Panics
    ///
    /// If the reply was received before, or `id` comes from another connection.
    pub fn receive(&mut self, id: Id) -> Result<Value, Error> {
        self.receive_by(id, Deadline::after(self.timeout))
    }

    /// The events that have come so far, oldest first. They are read along with
    /// replies; to look for new ones, call [`next_event`](Self::next_event).
    pub fn events(&mut self) -> impl Iterator<Item = Event> {
        // What is no message stays in the link, for the next command to complain of.
        while matches!(self.sort_next(), Ok(true)) {}
        self.events.drain(..)
    }

    /// The oldest event that was not taken yet, or `None` if none came within `limit`.
    ///
    /// # Errors
    ///
    /// All of the connection's except [`Timeout`](Error::Timeout), which is left
    /// for a monitor that has not even greeted.
    pub fn next_event(
        &mut self,
        limit: impl Into<Option<Duration>>,
    ) -> Result<Option<Event>, Error> {
        let deadline = Deadline::after(limit.into());
        if self.events.is_empty() {
            self.link.transfer()?;
        }
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.step(deadline, Awaited::Event) {
                Err(Error::Timeout {
                    awaited: Awaited::Event,
                    ..
                }) => return Ok(None),
                stepped => stepped?,
            }
        }
    }

    /// Reads and writes what can be without waiting, and returns the reply to
    /// `id` or what makes it impossible, if either is there.
    pub(super) fn try_receive(&mut self, id: Id) -> Option<Result<Value, Error>> {
        if let Err(err) = self.link.transfer() {
            return Some(Err(err));
        }
        loop {
            if let Some(answer) = self.take_answer(id) {
                return Some(answer);
            }
            match self.sort_next() {
                Ok(true) => {}
                Ok(false) if self.link.is_closed() => {
                    let awaited = self.awaited_reply(id);
                    return Some(Err(Error::Closed { awaited }));
                }
                Ok(false) => return None,
                Err(err) => return Some(Err(err)),
            }
        }
    }

    /// What to poll for before [`try_receive`](Self::try_receive).
    pub(super) fn interest(&self) -> PollFd<'_> {
        self.link.interest()
    }

    /// What [`try_receive`](Self::try_receive) still waits for.
    pub(super) fn awaited_reply(&self, id: Id) -> Awaited {
        let pending = self.pending.iter().find(|pending| pending.id == id);
        let pending = pending.expect("only ids of unreceived commands are received");
        if self.greeting.is_none() {
            Awaited::Greeting
        } else {
            Awaited::Reply(pending.command.clone())
        }
    }

    /// Waits for the reply to `id`; after a timeout nobody is going to take it.
    fn receive_or_forget(&mut self, id: Id, deadline: Deadline) -> Result<Value, Error> {
        let answer = self.receive_by(id, deadline);
        self.forget(id);
        answer
    }

    fn forget(&mut self, id: Id) {
        // A command that still waits to be sent is not wanted any more either.
        self.held.retain(|(held, _)| *held != id);
        self.pending.retain(|pending| pending.id != id);
    }

    fn receive_by(&mut self, id: Id, deadline: Deadline) -> Result<Value, Error> {
        loop {
            if let Some(answer) = self.take_answer(id) {
                return answer;
            }
            if !self.sort_next()? {
                let awaited = self.awaited_reply(id);
                self.link.wait(deadline, awaited)?;
            }
        }
    }

    /// Takes one message in, waiting for it if none is there.
    fn step(&mut self, deadline: Deadline, awaited: Awaited) -> Result<(), Error> {
        if self.sort_next()? {
            return Ok(());
        }
        let greeted = self.greeting.is_some();
        self.link
            .wait(deadline, if greeted { awaited } else { Awaited::Greeting })
    }

    /// Puts the next message that has come where it belongs; whether there was one.
    fn sort_next(&mut self) -> Result<bool, Error> {
        match self.link.next_message()? {
            None => return Ok(false),
            Some(Message::Event(event)) => self.events.push_back(event),
            Some(Message::Reply { id, answer }) => self.sort_reply(id, answer)?,
            Some(Message::Greeting(greeting)) => {
                self.greeting = Some(greeting);
                for (_, line) in self.held.drain(..) {
                    self.link.queue(&line);
                }
            }
        }
        Ok(true)
    }

    fn sort_reply(
        &mut self,
        id: Option<Value>,
        answer: Result<Value, Refusal>,
    ) -> Result<(), Error> {
        let is_negotiated = self.pending.first().is_none_or(|p| p.id != NEGOTIATION);
        let found = self.pending.iter().position(|pending| match &id {
            // QEMU answers in order: what comes before the negotiation's reply
            // was for a client that is gone.
            Some(id) => is_negotiated && *id == pending.id.0,
            None if pending.id == NEGOTIATION => true,
            // QEMU could not even read the id.
            None => pending.answer.is_none() && answer.is_err(),
        });
        let Some(index) = found else {
            // Given up on, or never ours: some clients leave replies behind.
            return Ok(());
        };
        if self.pending[index].id == NEGOTIATION {
            let negotiation = self.pending.remove(index);
            return answer
                .map(drop)
                .map_err(|refusal| refused(negotiation.command, refusal));
        }
        self.pending[index].answer = Some(answer);
        Ok(())
    }

    /// The answer to `id`, if it has come; it is forgotten then.
    fn take_answer(&mut self, id: Id) -> Option<Result<Value, Error>> {
        let index = self
            .pending
            .iter()
            .position(|pending| pending.id == id && pending.answer.is_some())?;
        let Pending {
            command, answer, ..
        } = self.pending.remove(index);
        answer.map(|answer| answer.map_err(|refusal| refused(command, refusal)))
    }

    /// Notes that a reply to `command` is going to come.
    fn expect_reply(&mut self, command: &str) -> Id {
        let id = self.next_id;
        self.next_id = Id(id.0 + 1);
        self.pending.push(Pending {
            id,
            command: command.to_owned(),
            answer: None,
        });
        id
    }
}

fn json_of(command: &str, arguments: impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(arguments).map_err(|source| Error::Arguments {
        command: command.to_owned(),
        source,
    })
}

fn refused(command: String, refusal: Refusal) -> Error {
    Error::Refused {
        command,
        class: refusal.class,
        desc: refusal.desc,
    }
}
