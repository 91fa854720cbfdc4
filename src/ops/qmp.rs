//! One QMP command on a running VM, from any process.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::{Value, json};

use crate::qmp::schema::{self, Further, FurtherType, Schema};
use crate::qmp::{self, Monitor, lock_path};
use crate::systemd::ActiveState;
use crate::vm::VmName;

use super::{Error, Host};

/// What a command is to do.
#[derive(Clone, Debug)]
pub enum Arguments {
    /// As they are.
    Json(Value),
    /// `key=value`, to be typed by QEMU's own schema.
    Words(Vec<String>),
}

impl Arguments {
    /// The job that the command is to start, if it does.
    pub fn job_id(&self) -> Option<&str> {
        match self {
            Self::Json(arguments) => arguments.get("job-id")?.as_str(),
            Self::Words(words) => words.iter().find_map(|word| word.strip_prefix("job-id=")),
        }
    }
}

/// Executes a command on the VM's monitor and returns QEMU's answer.
///
/// Opens neither the database nor a bus while all is well. The schema is only
/// looked at for words, and kept for the next command until the next boot.
pub fn execute(
    host: &Host,
    name: &VmName,
    command: &str,
    arguments: &Arguments,
    limit: Duration,
) -> Result<Value, Error> {
    let mut monitor = open(host, name, limit)?;
    let arguments = match arguments {
        Arguments::Json(arguments) => arguments.clone(),
        Arguments::Words(words) if words.is_empty() => Value::Null,
        Arguments::Words(words) => {
            let further = match command {
                "device_add" => match words.iter().find_map(|word| word.strip_prefix("driver=")) {
                    Some(driver) => device_properties(&mut monitor, driver)?,
                    None => Further::new(),
                },
                _ => Further::new(),
            };
            schema_of(host, &mut monitor)?.arguments(command, words, &further)?
        }
    };
    let arguments = (!arguments.is_null()).then_some(arguments);
    // The first command connects: a socket that nobody serves shows only now.
    monitor
        .execute_within(command, arguments, limit)
        .map_err(|error| or_why_gone(host, name, error))
}

/// What the VM's QEMU says that it understands.
pub fn schema(host: &Host, name: &VmName, limit: Duration) -> Result<Schema, Error> {
    let mut monitor = open(host, name, limit)?;
    schema_of(host, &mut monitor)
}

pub(super) fn open(host: &Host, name: &VmName, limit: Duration) -> Result<Monitor, Error> {
    let socket = host.paths.sockets(name).qmp();
    let mut monitor = Monitor::open(&socket, &lock_path(&socket), limit)
        .map_err(|error| or_why_gone(host, name, error))?;
    monitor.set_timeout(limit);
    Ok(monitor)
}

pub(super) fn or_why_gone(host: &Host, name: &VmName, error: qmp::Error) -> Error {
    match error {
        qmp::Error::Connect { ref source, .. }
            if matches!(
                source.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            why_gone(host, name).unwrap_or(error.into())
        }
        other => other.into(),
    }
}

/// The schema of this QEMU, from the last time that one like it was asked.
pub(super) fn schema_of(host: &Host, monitor: &mut Monitor) -> Result<Schema, Error> {
    let target = monitor.execute("query-target", ())?;
    let version = &monitor.greeting()?.version;
    let release = &version.qemu;
    let key = format!(
        "{} {}.{}.{} {}",
        target["arch"].as_str().unwrap_or_default(),
        release.major,
        release.minor,
        release.micro,
        version.package
    );
    // Anything may be in a package's version; the other names here are those of VMs.
    let key = key.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let file = host.paths.cache().join(format!(".schema-{key}.json"));
    if let Ok(text) = std::fs::read(&file)
        && let Ok(answer) = serde_json::from_slice(&text)
        && let Ok(schema) = Schema::parse(answer)
    {
        return Ok(schema);
    }
    let answer = monitor.execute("query-qmp-schema", ())?;
    let unfinished = file.with_extension(std::process::id().to_string());
    // Not kept: the next command asks again.
    let _ = std::fs::write(&unfinished, answer.to_string())
        .and_then(|()| std::fs::rename(&unfinished, &file));
    Ok(Schema::parse(answer)?)
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
