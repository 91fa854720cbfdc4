//! QMP commands on a running VM, from any process.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::process::Process;
use crate::qmp::schema::{self, Further, FurtherType, Schema};
use crate::qmp::{self, Follower, Monitor, RunState, Start};
use crate::systemd::ActiveState;
use crate::vm::VmName;

use super::monitor::{open, or_why_gone};
use super::{Error, Host};

/// A command as people write it.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Its name, such as `query-status`.
    pub name: String,
    /// What it is to do.
    pub arguments: Arguments,
}

/// What a command is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Arguments {
    /// As they are; null where there are none.
    Json(Value),
    /// `key=value`, to be typed by QEMU's own schema.
    Words(Vec<String>),
}

impl Command {
    /// Takes a name and its arguments, which are words or one JSON object; or one
    /// JSON object that is the whole command, as the monitor has it.
    ///
    /// # Errors
    ///
    /// [`Error::Command`] if it is none of these.
    pub fn of_words(words: &[String]) -> Result<Self, Error> {
        match words {
            [] => Err(Error::Command("there is no command".to_owned())),
            [json] if json.trim_start().starts_with('{') => Self::of_json(json),
            [json, ..] if json.trim_start().starts_with('{') => Err(Error::Command(format!(
                "`{json}` is a whole command, to which nothing can be added"
            ))),
            [name, rest @ ..] => Ok(Self {
                name: name.clone(),
                arguments: Arguments::of_words(rest)?,
            }),
        }
    }

    /// Takes one line: words as a shell splits them, or a JSON object; `None`
    /// for an empty line or a comment.
    ///
    /// # Errors
    ///
    /// [`Error::Command`] if it is neither.
    pub fn of_line(line: &str) -> Result<Option<Self>, Error> {
        let line = line.trim();
        if line.starts_with('{') {
            return Self::of_json(line).map(Some);
        }
        let words = shlex::split(line)
            .ok_or_else(|| Error::Command(format!("`{line}` ends within quotes")))?;
        if words.is_empty() {
            return Ok(None);
        }
        Self::of_words(&words).map(Some)
    }

    fn of_json(text: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            execute: String,
            #[serde(default)]
            arguments: Value,
            /// Answers come in order: it tells nothing.
            #[serde(default, rename = "id")]
            _id: Value,
        }
        match serde_json::from_str(text) {
            Ok(Whole {
                arguments: Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_),
                ..
            }) => Err(Error::Command(format!(
                "`{text}` is no command: its arguments are no object"
            ))),
            Ok(whole) => Ok(Self {
                name: whole.execute,
                arguments: Arguments::Json(whole.arguments),
            }),
            Err(error) => Err(Error::Command(format!(
                "`{text}` is no command, such as {{\"execute\": \"query-status\"}}: {error}"
            ))),
        }
    }
}

impl Arguments {
    /// The job that the command is to start, if it does.
    pub fn job_id(&self) -> Option<&str> {
        match self {
            Self::Json(arguments) => arguments.get("job-id")?.as_str(),
            Self::Words(words) => words.iter().find_map(|word| word.strip_prefix("job-id=")),
        }
    }

    fn of_words(words: &[String]) -> Result<Self, Error> {
        match words {
            [json] if !json.contains('=') || json.starts_with('{') => {
                match serde_json::from_str(json) {
                    Ok(value @ Value::Object(_)) => Ok(Self::Json(value)),
                    Ok(_) => Err(Error::Command(format!(
                        "`{json}` is no JSON object, such as '{{\"id\": \"net1\"}}'"
                    ))),
                    Err(error) => Err(Error::Command(format!(
                        "`{json}` is neither key=value nor a JSON object: {error}"
                    ))),
                }
            }
            words => Ok(Self::Words(words.to_vec())),
        }
    }
}

/// The monitor of one VM, for one command after the other.
///
/// Opens neither the database nor a bus while all is well. The schema is only
/// looked at for words and for commands that QEMU does not know.
#[derive(Debug)]
pub struct Session<'a> {
    host: &'a Host,
    name: &'a VmName,
    limit: Duration,
    monitor: Option<Monitor>,
    schema: Option<Schema>,
}

impl<'a> Session<'a> {
    /// Connects with the first command; each may take as long as `limit`.
    pub fn new(host: &'a Host, name: &'a VmName, limit: Duration) -> Self {
        Self {
            host,
            name,
            limit,
            monitor: None,
            schema: None,
        }
    }

    /// Connects, if there is no connection yet.
    ///
    /// # Errors
    ///
    /// Those of [`execute`](Self::execute).
    pub fn open(&mut self) -> Result<(), Error> {
        self.monitor().map(drop)
    }

    /// Executes a command and returns QEMU's answer.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchVm`], [`Error::NotRunning`], [`Error::Words`],
    /// [`Error::NoCommand`], and [`Error::Qmp`] for all that the monitor says.
    pub fn execute(&mut self, command: &Command) -> Result<Value, Error> {
        let arguments = match &command.arguments {
            Arguments::Json(arguments) => arguments.clone(),
            Arguments::Words(words) if words.is_empty() => Value::Null,
            Arguments::Words(words) => {
                let driver = words.iter().find_map(|word| word.strip_prefix("driver="));
                let further = match driver {
                    Some(driver) if command.name == "device_add" => {
                        let further = device_properties(self.monitor()?, driver);
                        self.checked(further)?
                    }
                    _ => Further::new(),
                };
                self.schema()?.arguments(&command.name, words, &further)?
            }
        };
        match self.send(&command.name, arguments) {
            Err(Error::Qmp(error)) => Err(self.or_misspelt(error)),
            answer => answer,
        }
    }

    /// What the VM's QEMU says that it understands.
    ///
    /// # Errors
    ///
    /// Those of [`execute`](Self::execute).
    pub fn schema(&mut self) -> Result<&Schema, Error> {
        let schema = match self.schema.take() {
            Some(schema) => schema,
            None => {
                let host = self.host;
                let schema = schema_of(host, self.monitor()?);
                self.checked(schema)?
            }
        };
        Ok(self.schema.insert(schema))
    }

    /// The VM's events from now on, up to the end of this run. They need no monitor.
    ///
    /// # Errors
    ///
    /// Those of [`execute`](Self::execute), and [`Error::Io`].
    pub fn events(&mut self) -> Result<Follower, Error> {
        let peer = self.monitor()?.peer();
        let log = self.host.paths.sockets(self.name).events_log();
        let events = Follower::open(&log, Start::Now)
            .map_err(Error::io(format_args!("cannot follow {}", log.display())))?;
        Ok(match peer.and_then(Process::open) {
            Some(process) => events.of_process(process.into()),
            None => events,
        })
    }

    /// Lets other processes at the monitor; the next command connects anew.
    pub fn release(&mut self) {
        self.monitor = None;
    }

    fn monitor(&mut self) -> Result<&mut Monitor, Error> {
        let monitor = match self.monitor.take() {
            Some(monitor) => monitor,
            None => open(self.host, self.name, self.limit)?,
        };
        Ok(self.monitor.insert(monitor))
    }

    fn send(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        let arguments = (!arguments.is_null()).then_some(arguments);
        let answer = self.monitor()?.execute(command, arguments);
        self.checked(answer.map_err(Error::from))
    }

    /// What came of a command; a connection that is no good any more is let go.
    fn checked<T>(&mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        let Err(Error::Qmp(error)) = outcome else {
            return outcome;
        };
        if !matches!(
            error,
            qmp::Error::Refused { .. } | qmp::Error::Timeout { .. }
        ) {
            self.release();
        }
        // The first command connects: a socket that nobody serves shows only now.
        Err(or_why_gone(self.host, self.name)(error))
    }

    /// What QEMU refuses since it does not know it was probably misspelt.
    fn or_misspelt(&mut self, refusal: qmp::Error) -> Error {
        if let qmp::Error::Refused { command, class, .. } = &refusal
            && class == "CommandNotFound"
            && let Ok(schema) = self.schema()
        {
            let mut nearest = schema.nearest_commands(command);
            // It may be there, and not for now.
            nearest.retain(|near| near != command);
            return Error::NoCommand { refusal, nearest };
        }
        refusal.into()
    }
}

/// The schema of this QEMU, from the last time that it or its like was asked.
pub(super) fn schema_of(host: &Host, monitor: &mut Monitor) -> Result<Schema, Error> {
    let file = monitor
        .peer()
        .and_then(|pid| schema_file(&host.paths.cache(), pid));
    if let Some(schema) = file.as_deref().and_then(kept_schema) {
        return Ok(schema);
    }
    let schema = Schema::parse(monitor.execute("query-qmp-schema", ())?)?;
    if let Some(file) = file {
        let unfinished = file.with_extension(std::process::id().to_string());
        let kept = std::fs::write(&unfinished, schema.to_kept())
            .and_then(|()| std::fs::rename(&unfinished, &file));
        if kept.is_err() {
            // The next command asks again.
            let _ = std::fs::remove_file(&unfinished);
        }
    }
    Ok(schema)
}

/// Checks the names of events and of states by the schema of the VM's QEMU.
///
/// That is asked only where its like has not been: a QEMU that cannot answer now, or a
/// monitor that someone holds, is no reason not to listen.
pub(super) fn check_names<'a>(
    host: &Host,
    name: &VmName,
    pid: Option<u32>,
    limit: Option<Duration>,
    events: impl Iterator<Item = &'a glob::Pattern>,
    states: impl Iterator<Item = &'a RunState>,
) -> Result<(), Error> {
    let mut events = events.filter(|pattern| pattern.as_str() != "*").peekable();
    // The words that maqet knows are QEMU's.
    let mut states = states
        .filter(|state| matches!(state, RunState::Other(_)))
        .peekable();
    if events.peek().is_none() && states.peek().is_none() {
        return Ok(());
    }
    let kept = pid.and_then(|pid| kept_schema(&schema_file(&host.paths.cache(), pid)?));
    let schema = match kept {
        Some(schema) => schema,
        None => {
            let limit = limit.map_or(NAMES, |limit| limit.min(NAMES));
            let asked =
                open(host, name, limit).and_then(|mut monitor| schema_of(host, &mut monitor));
            let Ok(schema) = asked else {
                return Ok(());
            };
            schema
        }
    };
    events.try_for_each(|pattern| schema.check_event(pattern))?;
    states.try_for_each(|state| schema.check_state(state.as_str()))?;
    Ok(())
}

/// How long a QEMU may take to say which names it knows.
const NAMES: Duration = Duration::from_secs(5);

fn kept_schema(file: &Path) -> Option<Schema> {
    Schema::from_kept(std::fs::read_to_string(file).ok()?)
}

/// Where the schema of the QEMU with that process ID is kept until the next boot.
///
/// Told by the very file that runs: two builds of one version differ. `None`
/// where it cannot be told; a script in front of QEMU is not QEMU.
fn schema_file(cache: &Path, pid: u32) -> Option<PathBuf> {
    let exe = PathBuf::from(format!("/proc/{pid}/exe"));
    let name = std::fs::read_link(&exe).ok()?;
    if !name.file_name()?.to_string_lossy().contains("qemu") {
        return None;
    }
    let file = std::fs::metadata(&exe).ok()?;
    Some(cache.join(format!(
        // The other names here are those of VMs.
        ".schema-{:x}-{:x}-{:x}-{:x}.{:x}",
        file.dev(),
        file.ino(),
        file.size(),
        file.mtime(),
        file.mtime_nsec(),
    )))
}

/// The types of the properties of a driver's devices.
///
/// The schema leaves them open (`device_add` takes whatever the driver does), so
/// the driver is asked.
pub(super) fn device_properties(monitor: &mut Monitor, driver: &str) -> Result<Further, Error> {
    let name = json!({ "typename": driver });
    let properties = match monitor.execute("device-list-properties", name) {
        Err(qmp::Error::Refused { class, .. }) if class == "DeviceNotFound" => {
            let all = json!({ "implements": "device", "abstract": false });
            let all = monitor.execute("qom-list-types", all)?;
            let all = all.as_array().into_iter().flatten();
            let known = all.filter_map(|driver| driver["name"].as_str());
            return Err(schema::Error::no_driver(driver, known).into());
        }
        properties => properties?,
    };
    let kind = |name: &str, kind: &str| match kind {
        // `06.0` is one.
        _ if name == "addr" => FurtherType::Text,
        "bool" => FurtherType::Bool,
        "size" => FurtherType::Int,
        kind if kind.starts_with("int") || kind.starts_with("uint") => FurtherType::Int,
        _ => FurtherType::Text,
    };
    Ok(properties
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|property| {
            let name = property["name"].as_str()?;
            Some((name.to_owned(), kind(name, property["type"].as_str()?)))
        })
        .collect())
}

/// Why there is no monitor: no such VM, not running, or running without its sockets.
pub(super) fn why_gone(host: &Host, name: &VmName) -> Option<Error> {
    match host.unit(name) {
        Ok(unit) if unit.active_state == ActiveState::Active => Some(Error::MonitorGone {
            name: name.clone(),
            socket: host.paths.sockets(name).qmp(),
        }),
        _ => Some(match host.vm(name) {
            Ok(_) => Error::NotRunning(name.clone()),
            Err(error) => error,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Command {
        Command {
            name: words[0].to_owned(),
            arguments: Arguments::Words(words[1..].iter().map(|&w| w.to_owned()).collect()),
        }
    }

    fn json(name: &str, arguments: Value) -> Command {
        Command {
            name: name.to_owned(),
            arguments: Arguments::Json(arguments),
        }
    }

    #[test]
    fn a_line_is_words_or_json_or_nothing() {
        for (line, expected) in [
            ("", None),
            ("  # stop", None),
            ("stop # now", Some(words(&["stop"]))),
            (
                "a b='c d' e=\"f\\\"g\" h=i\\ j k=#",
                Some(words(&["a", "b=c d", "e=f\"g", "h=i j", "k=#"])),
            ),
            (r#"a b:='{"c": 1}'"#, Some(words(&["a", r#"b:={"c": 1}"#]))),
            (r#"a '{"b": 1}'"#, Some(json("a", json!({"b": 1})))),
            (r#" {"execute": "stop"} "#, Some(json("stop", Value::Null))),
            (
                r##"{"execute": "a", "arguments": {"b": "#"}, "id": 7}"##,
                Some(json("a", json!({"b": "#"}))),
            ),
        ] {
            assert_eq!(Command::of_line(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for (line, said) in [
            ("a 'b", "ends within quotes"),
            ("a b", "neither key=value nor a JSON object"),
            ("a [1]", "no JSON object"),
            ("{", "is no command"),
            (r#"{"arguments": {}}"#, "missing field `execute`"),
            (
                r#"{"execute": "a", "arguments": 1}"#,
                "arguments are no object",
            ),
            (r#"{"exec-oob": "a"}"#, "unknown field `exec-oob`"),
            (r#"{"execute": "a"} {}"#, "trailing characters"),
            (r#"'{"execute": "a"}' b=c"#, "nothing can be added"),
        ] {
            let error = Command::of_line(line).unwrap_err().to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
