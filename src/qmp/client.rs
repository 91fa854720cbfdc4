//! The client: commands, their replies, and the events in between.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::iter;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::event::PollFd;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::{Awaited, Error};
use super::link::{Deadline, Link, connect_by};
use super::message::{Event, Greeting, Message, Refusal, Status, Verb, command_line};
use super::started::Listeners;

/// How long a command may take if nothing else is said.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// The id of `qmp_capabilities`, always the first command.
const NEGOTIATION: u64 = 0;

/// The class of QEMU's refusal of a command that there is not, or not now
/// (qapi/error.json); of a text that is no command it is another.
const UNKNOWN: &str = "CommandNotFound";

/// How many commands QEMU takes in before it stops reading, once there are
/// commands that may overtake them (monitor/monitor-internal.h,
/// `QMP_REQ_QUEUE_LEN_MAX`); without those it reads one at a time.
const QUEUE: usize = 8;

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
///
/// A client may move to another thread. To share one between threads, put it
/// in a [`Pool`](super::Pool) or a mutex.
#[derive(Debug)]
pub struct Client {
    link: Link,
    greeting: Option<Greeting>,
    /// Whether commands may overtake others; before the greeting, whether that is wanted.
    out_of_band: bool,
    /// Whether all replies to those who had the monitor before have come and gone.
    in_step: bool,
    /// Commands without a reply, or with one that nobody took yet; oldest first.
    pending: Vec<Pending>,
    events: VecDeque<Event>,
    pub(super) listeners: Listeners,
    next_id: u64,
    timeout: Option<Duration>,
}

/// A command that was sent: what its reply is [received](Client::receive) by.
///
/// Dropping it gives the reply up. The command is carried out all the same,
/// unless it has not left yet: then it never will.
#[derive(Debug)]
pub struct Sent(Arc<u64>);

#[derive(Debug)]
struct Pending {
    id: u64,
    /// Whether QEMU was told the id.
    ///
    /// Not where the next reply can only be this command's: QEMU reads one byte
    /// in each turn of its loop, so bytes are what a question costs.
    has_id: bool,
    /// Whoever waits for the reply.
    sent: Weak<u64>,
    command: String,
    verb: Verb,
    /// What is to be sent, until it may be.
    held: Option<Vec<u8>>,
    answer: Option<Result<Value, Refusal>>,
}

impl Pending {
    fn is_wanted(&self) -> bool {
        self.id == NEGOTIATION || self.sent.strong_count() > 0
    }

    fn is(&self, sent: &Sent) -> bool {
        ptr::eq(self.sent.as_ptr(), Arc::as_ptr(&sent.0))
    }

    fn is_on_its_way(&self) -> bool {
        self.held.is_none() && self.answer.is_none()
    }
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
            out_of_band: false,
            in_step: false,
            pending: Vec::new(),
            events: VecDeque::new(),
            listeners: Listeners::default(),
            next_id: NEGOTIATION,
            timeout: Some(DEFAULT_TIMEOUT),
        };
        let (_, negotiate) = client.begin(Verb::Execute, "qmp_capabilities", &Value::Null);
        client.link.queue(&negotiate);
        client
    }

    /// Asks for out-of-band execution, where QEMU offers it: then
    /// [`execute_out_of_band`](Self::execute_out_of_band) overtakes commands
    /// that QEMU is busy with. Negotiation waits for the greeting then.
    ///
    /// QEMU looks at no more than 8 commands at a time (docs/interop/qmp-spec);
    /// what is sent beyond that is kept here until replies have come.
    ///
    /// # Panics
    ///
    /// If a command was sent already.
    #[must_use]
    pub fn with_out_of_band(mut self) -> Self {
        assert!(
            self.next_id == 1 && self.greeting.is_none(),
            "negotiation has begun"
        );
        self.link.unqueue();
        self.out_of_band = true;
        self
    }

    /// Whether QEMU executes commands out of band on this connection.
    ///
    /// # Errors
    ///
    /// All of the connection's, as the greeting is waited for.
    pub fn is_out_of_band(&mut self) -> Result<bool, Error> {
        self.greeting()?;
        Ok(self.out_of_band)
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

    /// The process that began to listen on the monitor's socket: QEMU, or what
    /// became QEMU; `None` if it is in a PID namespace that cannot be seen from here.
    pub fn peer(&self) -> Option<u32> {
        self.link.peer()
    }

    /// Sends a command and waits for its reply.
    ///
    /// Without arguments these are `()`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/qmp/prelaunch.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let vm = Prelaunch::start();
    /// # let socket = &vm.socket;
    /// use maqet::qmp::{Client, DEFAULT_TIMEOUT};
    /// use serde_json::json;
    ///
    /// let mut qmp = Client::connect(socket, DEFAULT_TIMEOUT)?;
    /// qmp.execute("stop", ())?;
    /// let path = json!({ "path": "/machine", "property": "type" });
    /// assert!(qmp.execute("qom-get", path)?.is_string());
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
        let sent = self.send(command, arguments)?;
        self.receive_by(&sent, deadline)
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
        let awaited = Awaited::Reply(command.to_owned());
        // An action, so it waits for the greeting as all of them do.
        self.greeting()?;
        while self.pending.iter().any(|pending| pending.held.is_some()) {
            self.step(deadline, awaited.clone())?;
        }
        let (sent, line) = self.begin(Verb::Execute, command, &arguments);
        if let Err(error) = self.link.send_with_fd(&line, fd, deadline, &awaited) {
            // It did not leave.
            self.pending.retain(|pending| !pending.is(&sent));
            return Err(error);
        }
        self.receive_by(&sent, deadline)
    }

    /// Sends a command and waits for its reply, which is read as a `T`.
    ///
    /// Both types are serde's: arguments are whatever serializes to a JSON object.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/qmp/prelaunch.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let vm = Prelaunch::start();
    /// # let socket = &vm.socket;
    /// use maqet::qmp::{Client, DEFAULT_TIMEOUT};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize)]
    /// struct At<'a> {
    ///     path: &'a str,
    /// }
    ///
    /// #[derive(Deserialize)]
    /// struct Property {
    ///     name: String,
    /// }
    ///
    /// let mut qmp = Client::connect(socket, DEFAULT_TIMEOUT)?;
    /// let found: Vec<Property> = qmp.call("qom-list", At { path: "/machine" })?;
    /// assert!(found.iter().any(|property| property.name == "memory"));
    /// # Ok(())
    /// # }
    /// ```
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

    /// Sends a command without arguments and reads its reply as a `T`.
    ///
    /// # Errors
    ///
    /// Those of [`call`](Self::call).
    pub fn query<T: DeserializeOwned>(&mut self, command: &str) -> Result<T, Error> {
        self.call(command, ())
    }

    /// Sends a command that overtakes those that QEMU is busy with, and waits for its reply.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/qmp/prelaunch.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let vm = Prelaunch::start();
    /// # let socket = &vm.socket;
    /// use maqet::qmp::{Client, DEFAULT_TIMEOUT};
    ///
    /// let mut qmp = Client::connect(socket, DEFAULT_TIMEOUT)?.with_out_of_band();
    /// let slow = qmp.send("query-qmp-schema", ())?;
    /// // Whether network connections could be cut, were a disk stuck behind one.
    /// qmp.execute_out_of_band("query-yank", ())?;
    /// qmp.receive(&slow)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Refused`](Error::Refused) also if the command does not permit it (few
    /// do: `"allow-oob"` in `query-qmp-schema`) or the connection was not made
    /// [with it](Self::with_out_of_band); otherwise those of [`execute`](Self::execute).
    pub fn execute_out_of_band(
        &mut self,
        command: &str,
        arguments: impl Serialize,
    ) -> Result<Value, Error> {
        let deadline = Deadline::after(self.timeout);
        let sent = self.send_as(Verb::ExecuteOutOfBand, command, arguments)?;
        self.receive_by(&sent, deadline)
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
    pub fn send(&mut self, command: &str, arguments: impl Serialize) -> Result<Sent, Error> {
        self.send_as(Verb::Execute, command, arguments)
    }

    fn send_as(
        &mut self,
        verb: Verb,
        command: &str,
        arguments: impl Serialize,
    ) -> Result<Sent, Error> {
        let arguments = json_of(command, arguments)?;
        let (sent, line) = self.begin(verb, command, &arguments);
        let begun = self.pending.last_mut().expect("it was begun");
        begun.held = Some(line);
        self.release();
        // Reading is left to those who look at what was read: poll(2) does not
        // report it again.
        self.link.write()?;
        Ok(sent)
    }

    /// Notes that a reply to a command is going to come; the line to be sent for it.
    fn begin(&mut self, verb: Verb, command: &str, arguments: &Value) -> (Sent, Vec<u8>) {
        self.forget();
        let id = self.next_id;
        // The negotiation needs none.
        let has_id = id != NEGOTIATION && !(self.in_step && self.pending.is_empty());
        let sent = Sent(Arc::new(id));
        self.next_id += 1;
        self.pending.push(Pending {
            id,
            has_id,
            sent: Arc::downgrade(&sent.0),
            command: command.to_owned(),
            verb,
            held: None,
            answer: None,
        });
        let line = command_line(verb, command, arguments, has_id.then_some(id));
        (sent, line)
    }

    /// Forgets what nobody wants any more and is not going to be answered.
    fn forget(&mut self) {
        self.pending
            .retain(|pending| pending.is_wanted() || pending.is_on_its_way());
    }

    /// Lets go what may.
    fn release(&mut self) {
        self.forget();
        let is_negotiated = self.is_negotiated();
        let in_band = |pending: &&Pending| pending.verb == Verb::Execute && pending.is_on_its_way();
        let mut room = match self.out_of_band {
            // Until then QEMU takes one command at a time.
            true if !is_negotiated => 0,
            true => QUEUE.saturating_sub(self.pending.iter().filter(in_band).count()),
            false => usize::MAX,
        };
        let (link, is_greeted) = (&mut self.link, self.greeting.is_some());
        for pending in &mut self.pending {
            let Some(line) = &pending.held else {
                continue;
            };
            let may_go = match pending.verb {
                Verb::ExecuteOutOfBand => is_negotiated,
                Verb::Execute => room > 0 && (is_greeted || pending.command.starts_with("query-")),
            };
            if may_go {
                link.queue(line);
                pending.held = None;
            }
            if pending.verb == Verb::Execute {
                // What follows one that has to wait, waits behind it.
                room = if may_go { room - 1 } else { 0 };
            }
        }
    }

    fn is_negotiated(&self) -> bool {
        self.pending
            .first()
            .is_none_or(|first| first.id != NEGOTIATION)
    }

    /// Waits for the reply to a command that was sent. Replies may be taken in any order.
    ///
    /// After a timeout the reply can be asked for again, if `sent` was lent and not given.
    ///
    /// # Errors
    ///
    /// Those of [`execute`](Self::execute).
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/qmp/prelaunch.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let vm = Prelaunch::start();
    /// # let socket = &vm.socket;
    /// use maqet::qmp::{Client, DEFAULT_TIMEOUT};
    ///
    /// let mut qmp = Client::connect(socket, DEFAULT_TIMEOUT)?;
    /// let version = qmp.send("query-version", ())?;
    /// let cpus = qmp.send("query-cpus-fast", ())?;
    /// assert_eq!(qmp.receive(&cpus)?[0]["cpu-index"], 0);
    /// assert!(qmp.receive(&version)?["qemu"]["major"].is_u64());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If the reply was received before, or was not sent on this connection.
    pub fn receive(&mut self, sent: impl Borrow<Sent>) -> Result<Value, Error> {
        self.receive_by(sent.borrow(), Deadline::after(self.timeout))
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
        self.next_event_by(Deadline::after(limit.into()))
    }

    /// The events that have come, and those to come until `limit` has passed.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/qmp/prelaunch.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let vm = Prelaunch::start();
    /// # let socket = &vm.socket;
    /// use std::time::Duration;
    ///
    /// use maqet::qmp::{Client, DEFAULT_TIMEOUT};
    ///
    /// let mut qmp = Client::connect(socket, DEFAULT_TIMEOUT)?;
    /// qmp.execute("cont", ())?;
    /// for event in qmp.events_within(Duration::from_secs(10)) {
    ///     if event?.name == "RESUME" {
    ///         return Ok(());
    ///     }
    /// }
    /// panic!("the guest did not resume")
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`next_event`](Self::next_event); an error is the last item.
    pub fn events_within(
        &mut self,
        limit: impl Into<Option<Duration>>,
    ) -> impl Iterator<Item = Result<Event, Error>> {
        let deadline = Deadline::after(limit.into());
        let (mut has_looked, mut is_over) = (false, false);
        iter::from_fn(move || {
            if is_over {
                return None;
            }
            if has_looked && deadline.has_passed() {
                // Nothing more is read: even a flood of events ends.
                while matches!(self.sort_next(), Ok(true)) {}
                return self.events.pop_front().map(Ok);
            }
            has_looked = true;
            let next = self.next_event_by(deadline).transpose();
            is_over = matches!(next, Some(Err(_)));
            next
        })
    }

    fn next_event_by(&mut self, deadline: Deadline) -> Result<Option<Event>, Error> {
        if self.events.is_empty() {
            self.link.transfer()?;
        }
        while self.events.is_empty() {
            if !self.listen(deadline)? {
                return Ok(None);
            }
        }
        Ok(self.events.pop_front())
    }

    /// Waits for one more message; whether it came before the deadline.
    pub(super) fn listen(&mut self, deadline: Deadline) -> Result<bool, Error> {
        match self.step(deadline, Awaited::Event) {
            Ok(()) => Ok(true),
            Err(Error::Timeout {
                awaited: Awaited::Event,
                ..
            }) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// Makes it as if it were new, but for being connected; whether it still is,
    /// by what has come without waiting.
    pub(super) fn renew(&mut self) -> bool {
        let mut take_in = || -> Result<(), Error> {
            self.link.write()?;
            while self.link.read()? {
                while self.sort_next()? {}
            }
            Ok(())
        };
        let is_good = take_in().is_ok() && !self.link.is_closed();
        self.events.clear();
        self.timeout = Some(DEFAULT_TIMEOUT);
        is_good
    }

    /// Reads and writes what can be without waiting, and returns the reply to
    /// `sent` or what makes it impossible, if either is there.
    pub(super) fn try_receive(&mut self, sent: &Sent) -> Option<Result<Value, Error>> {
        if let Err(err) = self.link.transfer() {
            return Some(Err(err));
        }
        loop {
            if let Some(answer) = self.take_answer(sent) {
                return Some(answer);
            }
            match self.sort_next() {
                Ok(true) => {}
                Ok(false) if self.link.is_closed() => {
                    let awaited = self.awaited_reply(sent);
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
    pub(super) fn awaited_reply(&self, sent: &Sent) -> Awaited {
        let pending = self.pending.iter().find(|pending| pending.is(sent));
        let pending = pending.expect("a reply is received once, where its command was sent");
        if self.greeting.is_none() {
            Awaited::Greeting
        } else {
            Awaited::Reply(pending.command.clone())
        }
    }

    fn receive_by(&mut self, sent: &Sent, deadline: Deadline) -> Result<Value, Error> {
        loop {
            if let Some(answer) = self.take_answer(sent) {
                return answer;
            }
            if !self.sort_next()? {
                let awaited = self.awaited_reply(sent);
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
            Some(Message::Event(event)) => {
                self.listeners.hear(&event);
                self.events.push_back(event);
            }
            Some(Message::Reply { id, answer }) => self.sort_reply(id, answer)?,
            Some(Message::Greeting(greeting)) => {
                if self.out_of_band {
                    self.out_of_band = greeting.capabilities.iter().any(|c| c == "oob");
                    let arguments = match self.out_of_band {
                        true => json!({ "enable": ["oob"] }),
                        false => Value::Null,
                    };
                    let line = command_line(Verb::Execute, "qmp_capabilities", &arguments, None);
                    self.link.queue(&line);
                }
                self.greeting = Some(greeting);
                self.release();
            }
        }
        Ok(true)
    }

    fn sort_reply(
        &mut self,
        id: Option<Value>,
        answer: Result<Value, Refusal>,
    ) -> Result<(), Error> {
        let is_negotiated = self.is_negotiated();
        let found = self.pending.iter().position(|pending| match &id {
            // QEMU answers in order: what comes before the negotiation's reply
            // was for a client that is gone.
            Some(id) => is_negotiated && *id == pending.id,
            None if !pending.has_id => pending.is_on_its_way(),
            // QEMU could not even read the id. What it read and will not have is
            // somebody's second negotiation: ours, if the one of a client that
            // gave up was carried out when this connection was there already.
            None => pending.is_on_its_way() && answer.as_ref().is_err_and(|no| no.class != UNKNOWN),
        });
        let Some(index) = found else {
            // Given up on, or never ours: some clients leave replies behind.
            return Ok(());
        };
        let is_negotiation = self.pending[index].id == NEGOTIATION;
        if is_negotiation {
            let negotiation = self.pending.remove(index);
            answer.map_err(|refusal| refused(negotiation.command, refusal))?;
        } else {
            // QEMU answers one after the other, to whomever it is.
            self.in_step = true;
            self.pending[index].answer = Some(answer);
        }
        if is_negotiation || self.out_of_band {
            self.release();
        }
        Ok(())
    }

    /// The answer to `sent`, if it has come; it is forgotten then.
    fn take_answer(&mut self, sent: &Sent) -> Option<Result<Value, Error>> {
        let index = self
            .pending
            .iter()
            .position(|pending| pending.answer.is_some() && pending.is(sent))?;
        let Pending {
            command, answer, ..
        } = self.pending.remove(index);
        answer.map(|answer| answer.map_err(|refusal| refused(command, refusal)))
    }
}

/// The arguments of `command` as JSON.
pub(super) fn json_of(command: &str, arguments: impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(arguments).map_err(|source| Error::Arguments {
        command: command.to_owned(),
        source,
    })
}

/// Reads a reply to `command` as a `T`.
pub(super) fn read_as<T: DeserializeOwned>(command: &str, reply: Value) -> Result<T, Error> {
    serde_json::from_value(reply).map_err(|source| Error::Unexpected {
        command: command.to_owned(),
        source,
    })
}

pub(super) fn refused(command: String, refusal: Refusal) -> Error {
    Error::Refused {
        command,
        class: refusal.class,
        desc: refusal.desc,
    }
}
