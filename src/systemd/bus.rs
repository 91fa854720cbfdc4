//! A connection to a service manager.

use std::collections::{HashMap, HashSet};
use std::env;
use std::future::poll_fn;
use std::num::{NonZeroU32, NonZeroUsize};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use futures_core::Stream;
use zbus::message::Type;
use zbus::{Connection, DynamicType, Message, MessageStream, OwnedObjectPath, connection, fdo};

use super::error::Error;
use super::unit::object_path;

/// Which service manager runs the VMs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The caller's own, `systemctl --user`, with its runtime directory
    /// (`$XDG_RUNTIME_DIR`, usually `/run/user/UID`).
    User(PathBuf),
    /// PID 1.
    System,
}

impl Scope {
    fn manager(&self) -> &'static str {
        match self {
            Self::User(_) => "user manager",
            Self::System => "system manager",
        }
    }

    fn missing(&self, source: zbus::Error) -> Error {
        Error::NoManager {
            manager: self.manager(),
            socket: self.socket(),
            source,
        }
    }

    /// The bus that the manager is on.
    ///
    /// Not the manager's private socket, which systemctl(1) uses: its messages
    /// name a sender that zbus takes for no bus name, and refuses.
    fn socket(&self) -> PathBuf {
        match self {
            Self::User(runtime) => runtime.join("bus"),
            Self::System => Path::new("/run/dbus/system_bus_socket").to_owned(),
        }
    }

    pub(super) async fn connect(&self) -> zbus::Result<Connection> {
        // By descriptor and not by address: the path needs no escaping then.
        let builder = match UnixStream::connect(self.socket()) {
            Ok(stream) => connection::Builder::unix_stream(stream),
            Err(error) => match self {
                // A bus elsewhere, as in a container that was given its host's.
                Self::User(_) if env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some() => {
                    connection::Builder::session()
                }
                _ => return Err(error.into()),
            },
        };
        builder.max_queued(QUEUE).build().await
    }

    /// What journalctl(1) needs to look at this manager's units.
    pub(super) fn journal_args(&self) -> &'static [&'static str] {
        match self {
            Self::User(_) => &["--user"],
            Self::System => &["--system"],
        }
    }
}

const DESTINATION: &str = "org.freedesktop.systemd1";
pub(super) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(super) const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// A call of one of the manager's methods.
pub(super) fn manager_call<B>(member: &str, body: &B) -> Result<Message, Error>
where
    B: serde::Serialize + DynamicType,
{
    Message::method_call(MANAGER_PATH, member)
        .destination(DESTINATION)
        .interface(MANAGER)
        .build(body)
        .map_err(Error::Bus)
}

/// A question for one property of a unit.
pub(super) fn property_call(unit: &str, interface: &str, property: &str) -> Result<Message, Error> {
    get_call(&object_path(unit), interface, property)
}

/// A question for one property of an object.
pub(super) fn get_call(path: &str, interface: &str, property: &str) -> Result<Message, Error> {
    Message::method_call(path, "Get")
        .destination(DESTINATION)
        .interface("org.freedesktop.DBus.Properties")
        .build(&(interface, property))
        .map_err(Error::Bus)
}

/// Messages that may wait to be read. Only a bound: a full queue stops the reader, nothing is lost.
const QUEUE: NonZeroUsize = NonZeroUsize::new(256).expect("is not zero");

/// How long a manager that was seen may take to execute itself anew.
const REEXECUTION: Duration = Duration::from_secs(10);

/// How long one that was not seen yet may be away for that; it takes some 30 ms on an idle host.
const ABSENCE: Duration = Duration::from_secs(2);

/// One connection, its replies and its JobRemoved signals, read in order by one task.
pub(super) struct Bus {
    scope: Scope,
    connection: Connection,
    messages: MessageStream,
    /// Jobs that ended and that no one has asked for yet: the result by job.
    ended: HashMap<OwnedObjectPath, String>,
    replies: HashMap<NonZeroU32, Message>,
    /// Calls that have no reply yet, to be made again if the manager drops them.
    open: HashMap<NonZeroU32, Message>,
    /// Paths of units that changed since someone last waited for it.
    changed: HashSet<String>,
}

impl Bus {
    /// Connects to the bus that the manager of `scope` is on.
    pub async fn connect(scope: &Scope) -> Result<Self, Error> {
        let connection = scope
            .connect()
            .await
            .map_err(|source| scope.missing(source))?;
        Ok(Self {
            scope: scope.clone(),
            messages: MessageStream::from(&connection),
            connection,
            ended: HashMap::new(),
            replies: HashMap::new(),
            open: HashMap::new(),
            changed: HashSet::new(),
        })
    }

    /// Asks to be told of every job's end, from the next call on.
    ///
    /// Nothing is waited for: the bus and the manager each take one caller's
    /// messages in their order, so this is in force when the next call is looked at.
    pub async fn watch_jobs(&mut self) -> Result<(), Error> {
        let rule = "type='signal',sender='org.freedesktop.systemd1',\
                    interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
        let add_match = Message::method_call("/org/freedesktop/DBus", "AddMatch")
            .destination("org.freedesktop.DBus")
            .interface("org.freedesktop.DBus")
            .build(&(rule,))
            .map_err(Error::Bus)?;
        self.send(&[add_match, manager_call("Subscribe", &())?])
            .await?;
        Ok(())
    }

    /// Asks to be told of every change of `unit`, from the next call on.
    pub async fn watch_unit(&mut self, unit: &str) -> Result<(), Error> {
        let rule = format!(
            "type='signal',sender='org.freedesktop.systemd1',path='{}',\
             interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'",
            object_path(unit)
        );
        let add_match = Message::method_call("/org/freedesktop/DBus", "AddMatch")
            .destination("org.freedesktop.DBus")
            .interface("org.freedesktop.DBus")
            .build(&(rule,))
            .map_err(Error::Bus)?;
        self.send(&[add_match]).await?;
        Ok(())
    }

    /// Sends a call and returns its reply, or the error that the manager answered with.
    pub async fn call(&mut self, call: Message) -> Result<zbus::Result<Message>, Error> {
        let serial = self.send(&[call]).await?[0];
        self.reply(serial).await
    }

    /// Sends calls in one go; their replies are read with [`Bus::reply`].
    pub async fn send(&mut self, calls: &[Message]) -> Result<Vec<NonZeroU32>, Error> {
        self.connection.send_all(calls).await.map_err(Error::Bus)?;
        let serials = calls.iter().map(|call| call.primary_header().serial_num());
        self.open.extend(serials.clone().zip(calls.iter().cloned()));
        Ok(serials.collect())
    }

    /// Reads until the reply to `serial` is there.
    ///
    /// A manager that executes itself anew (`daemon-reexec`) leaves the bus for a moment,
    /// and drops what it has not answered: that is asked again. None of our calls does
    /// harm when it is made twice; a start says that the unit exists.
    pub async fn reply(&mut self, serial: NonZeroU32) -> Result<zbus::Result<Message>, Error> {
        let mut deadline = None;
        loop {
            let Some(message) = self.replies.remove(&serial) else {
                self.read().await?;
                continue;
            };
            let call = self.open.remove(&serial);
            if message.message_type() != Type::Error {
                return Ok(Ok(message));
            }
            let error = zbus::Error::from(message);
            let fdo = match &error {
                zbus::Error::FDO(error) => &**error,
                _ => return Ok(Err(error)),
            };
            // The bus answers for a manager that is not there.
            let is_missing = matches!(
                fdo,
                fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_)
            );
            let is_dropped = matches!(fdo, fdo::Error::NoReply(_));
            if !is_missing && !is_dropped {
                return Ok(Err(error));
            }
            let limit = if is_dropped { REEXECUTION } else { ABSENCE };
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + limit);
            match call {
                Some(call) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                    self.send(&[call]).await?;
                }
                _ if is_missing => return Err(self.scope.missing(error)),
                _ => return Ok(Err(error)),
            }
        }
    }

    /// Reads until `job` has ended, and returns its result.
    pub async fn job_result(&mut self, job: &OwnedObjectPath) -> Result<String, Error> {
        loop {
            if let Some(result) = self.ended.remove(job) {
                return Ok(result);
            }
            self.read().await?;
        }
    }

    /// One of the jobs that `wanted` names and that have ended, and its result.
    pub fn take_ended(
        &mut self,
        wanted: impl Fn(&OwnedObjectPath) -> bool,
    ) -> Option<(OwnedObjectPath, String)> {
        let job = self.ended.keys().find(|job| wanted(job))?.clone();
        let result = self.ended.remove(&job)?;
        Some((job, result))
    }

    /// Whether a change of `unit` was told since this was last asked.
    pub fn take_change_of(&mut self, unit: &str) -> bool {
        self.changed.remove(&object_path(unit))
    }

    /// Reads until a change of `unit` was told that has not been waited for yet.
    ///
    /// One that came among the replies to questions about the unit counts: some of
    /// these were answered before it. The unit must be watched. Its jobs would not
    /// do: a unit whose process ended by itself goes down without one.
    pub async fn next_change_of(&mut self, unit: &str) -> Result<(), Error> {
        let path = object_path(unit);
        while !self.changed.remove(&path) {
            self.read().await?;
        }
        Ok(())
    }

    /// Reads one message and files it.
    async fn read(&mut self) -> Result<(), Error> {
        self.read_until(None).await.map(drop)
    }

    /// Reads one message and files it, or returns `false` when it is `due`.
    pub async fn read_until(&mut self, due: Option<SystemTime>) -> Result<bool, Error> {
        let mut alarm = due;
        let message = poll_fn(|cx| {
            let polled = Pin::new(&mut self.messages).poll_next(cx);
            let left = due.map(|due| due.duration_since(SystemTime::now()).unwrap_or_default());
            match left {
                Some(Duration::ZERO) if polled.is_pending() => return Poll::Ready(None),
                // There is no runtime with timers here; a thread that sleeps is one.
                Some(left) if alarm.take().is_some() => {
                    let waker = cx.waker().clone();
                    thread::spawn(move || {
                        thread::sleep(left);
                        waker.wake();
                    });
                }
                _ => {}
            }
            polled.map(Some)
        })
        .await;
        let Some(message) = message else {
            return Ok(false);
        };
        let message = message
            .unwrap_or_else(
                || Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()),
            )
            .map_err(Error::Bus)?;
        let header = message.header();
        match message.message_type() {
            Type::MethodReturn | Type::Error => {
                if let Some(serial) = header.reply_serial() {
                    self.replies.insert(serial, message.clone());
                }
            }
            Type::Signal
                if header
                    .member()
                    .is_some_and(|member| *member == "JobRemoved") =>
            {
                let (_id, job, _unit, result): (u32, OwnedObjectPath, String, String) =
                    message.body().deserialize().map_err(Error::Bus)?;
                self.ended.insert(job, result);
            }
            Type::Signal
                if header
                    .member()
                    .is_some_and(|member| *member == "PropertiesChanged") =>
            {
                self.changed.extend(header.path().map(ToString::to_string));
            }
            _ => {}
        }
        Ok(true)
    }
}
