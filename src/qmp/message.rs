//! The wire: what QEMU's monitor and the guest agent say, and what is said to them.
//!
//! Every message is one JSON object. QEMU's own description is
//! docs/interop/qmp-spec.rst.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// QMP's first line: which QEMU this is.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Greeting {
    /// The version of QEMU.
    pub version: Version,
    /// What can be enabled during negotiation: `oob`, or nothing.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// The version of QEMU, as its greeting and `query-version` give it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Version {
    /// The release.
    pub qemu: Release,
    /// What the distribution calls its package; empty for a build from source.
    #[serde(default)]
    pub package: String,
}

/// A release of QEMU. Releases compare by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Release {
    /// 7 of 7.2.22.
    pub major: u32,
    /// 2 of 7.2.22.
    pub minor: u32,
    /// 22 of 7.2.22; 50 and up are development snapshots and release candidates.
    pub micro: u32,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// Something that happened in QEMU. Serializes as QEMU wrote it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Event {
    /// QEMU's word for it, such as `SHUTDOWN`.
    #[serde(rename = "event")]
    pub name: String,
    /// What belongs to it; empty if nothing does.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub data: Map<String, Value>,
    /// When it happened, by the host's clock.
    pub timestamp: Timestamp,
}

/// A moment by the host's clock, counted from the start of 1970 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Timestamp {
    /// Whole seconds; -1 if QEMU could not read the clock.
    pub seconds: i64,
    /// Microseconds on top of them; -1 if QEMU could not read the clock.
    pub microseconds: i64,
}

impl Timestamp {
    /// The same moment as the standard library has it; `None` if QEMU could not read the clock.
    pub fn time(self) -> Option<SystemTime> {
        let seconds = Duration::from_secs(self.seconds.try_into().ok()?);
        let rest = Duration::from_micros(self.microseconds.try_into().ok()?);
        SystemTime::UNIX_EPOCH.checked_add(seconds.checked_add(rest)?)
    }
}

/// The answer to `query-status`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Status {
    /// Whether the virtual CPUs run.
    pub running: bool,
    /// What the guest is doing.
    #[serde(rename = "status")]
    pub run_state: RunState,
}

/// QEMU's word for what the guest is doing.
///
/// Words that a later QEMU adds are kept in [`Other`](Self::Other), so that none is lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunState {
    /// Stopped by a debugger.
    Debug,
    /// Waiting for an incoming migration.
    Inmigrate,
    /// QEMU met an error of its own and stopped the guest.
    InternalError,
    /// A disk request failed, and its policy is to stop the guest.
    IoError,
    /// Paused with QMP `stop`.
    Paused,
    /// Paused after a successful migration.
    Postmigrate,
    /// Not one instruction has run yet: started with `-S`.
    Prelaunch,
    /// Paused to finish a migration.
    FinishMigrate,
    /// Paused while a snapshot is restored.
    RestoreVm,
    /// Running.
    Running,
    /// Paused while a snapshot is saved.
    SaveVm,
    /// Shut down, with `-no-shutdown`.
    Shutdown,
    /// Suspended to RAM by the guest.
    Suspended,
    /// The watchdog fired, and its action is to pause.
    Watchdog,
    /// The guest's kernel panicked.
    GuestPanicked,
    /// Paused to save or restore a COLO checkpoint.
    Colo,
    /// A word that is not in this list.
    #[serde(untagged)]
    Other(String),
}

impl RunState {
    /// QEMU's word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Debug => "debug",
            Self::Inmigrate => "inmigrate",
            Self::InternalError => "internal-error",
            Self::IoError => "io-error",
            Self::Paused => "paused",
            Self::Postmigrate => "postmigrate",
            Self::Prelaunch => "prelaunch",
            Self::FinishMigrate => "finish-migrate",
            Self::RestoreVm => "restore-vm",
            Self::Running => "running",
            Self::SaveVm => "save-vm",
            Self::Shutdown => "shutdown",
            Self::Suspended => "suspended",
            Self::Watchdog => "watchdog",
            Self::GuestPanicked => "guest-panicked",
            Self::Colo => "colo",
            Self::Other(word) => word,
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The body of a refusal.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Refusal {
    pub(super) class: String,
    pub(super) desc: String,
}

/// One message from QEMU.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    Greeting(Greeting),
    Event(Event),
    /// A return or an error, with the id that the command carried.
    Reply {
        id: Option<Value>,
        answer: Result<Value, Refusal>,
    },
}

impl Message {
    /// Reads one message; the text in the error says what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        /// A message is told by its keys. An untagged enum would do the same,
        /// but parse everything twice and say nothing of what is wrong.
        #[derive(Deserialize)]
        struct Keys {
            #[serde(rename = "QMP")]
            greeting: Option<Greeting>,
            #[serde(default, rename = "return", deserialize_with = "present")]
            value: Option<Value>,
            error: Option<Refusal>,
            event: Option<String>,
            #[serde(default)]
            data: Map<String, Value>,
            timestamp: Option<Timestamp>,
            id: Option<Value>,
        }

        /// Keeps `null`, which is a value here, from being taken for nothing.
        fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
            Value::deserialize(from).map(Some)
        }

        let text = str::from_utf8(bytes).map_err(|err| format!("text that is not UTF-8: {err}"))?;
        let keys: Keys = serde_json::from_str(text).map_err(|err| err.to_string())?;
        let id = keys.id;
        if let Some(value) = keys.value {
            let answer = Ok(value);
            Ok(Self::Reply { id, answer })
        } else if let Some(refusal) = keys.error {
            let answer = Err(refusal);
            Ok(Self::Reply { id, answer })
        } else if let Some(name) = keys.event {
            Ok(Self::Event(Event {
                name,
                data: keys.data,
                timestamp: keys.timestamp.ok_or("an event without a timestamp")?,
            }))
        } else if let Some(greeting) = keys.greeting {
            Ok(Self::Greeting(greeting))
        } else {
            Err("a message that is neither greeting, reply nor event".to_owned())
        }
    }
}

/// How a command is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// In its turn.
    Execute,
    /// Before those that QEMU is busy with.
    ExecuteOutOfBand,
}

/// One command as a line of JSON. `arguments` are left out if they are `null`.
pub(super) fn command_line(
    verb: Verb,
    command: &str,
    arguments: &Value,
    id: Option<u64>,
) -> Vec<u8> {
    #[derive(Default, Serialize)]
    struct Command<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        execute: Option<&'a str>,
        #[serde(rename = "exec-oob", skip_serializing_if = "Option::is_none")]
        out_of_band: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        arguments: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
    }

    let mut line = Command {
        arguments: (!arguments.is_null()).then_some(arguments),
        id,
        ..Command::default()
    };
    match verb {
        Verb::Execute => line.execute = Some(command),
        Verb::ExecuteOutOfBand => line.out_of_band = Some(command),
    }
    let mut line = serde_json::to_vec(&line).expect("strings and JSON values serialize");
    line.push(b'\n');
    line
}
