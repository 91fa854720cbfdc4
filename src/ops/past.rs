//! How runs of a VM ended: what the journal and the console log still tell of them.

use std::time::SystemTime;

use serde::Serialize;
use serde_json::Value;

use crate::console;
use crate::systemd::journal::{Entry, Query};
use crate::systemd::{ActiveState, UnitStatus, rfc3339};
use crate::vm::VmName;

use super::logs::last_console_lines;
use super::{Error, Host};

/// The end of a run, by its SHUTDOWN event.
#[derive(Debug, Serialize)]
pub struct Ending {
    /// QEMU's reason: `guest-shutdown`, `host-qmp-quit`, `host-signal`, `guest-panic` …
    pub reason: String,
    /// When.
    #[serde(serialize_with = "rfc3339")]
    pub at: Option<SystemTime>,
}

/// A run that failed.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// systemd's word for it: `signal`, `exit-code`, `oom-kill`, `timeout` …
    pub result: String,
    /// How QEMU ended, as systemd writes it: `code=killed, status=9/KILL`.
    pub process: Option<String>,
    /// QEMU's reason for its end, if it gave one: `guest-panic` …
    pub reason: Option<String>,
    /// When.
    #[serde(serialize_with = "rfc3339")]
    pub at: Option<SystemTime>,
    /// Whether there were as many starts as the start limit allows, so that none came after it.
    pub gave_up: bool,
}

/// What is known of a VM's last run, or of the one that failed before this one.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub ended: Option<Ending>,
    pub failure: Option<Failure>,
    pub last_lines: Vec<String>,
    pub last_console_lines: Vec<String>,
}

/// How many entries of the journal are looked at.
const LOOK_BACK: usize = 500;

/// How many lines of a failed run are shown.
const LAST_LINES: usize = 10;

/// Looks at what came before this moment.
pub(super) fn look(host: &Host, name: &VmName, unit: &UnitStatus) -> Result<Past, Error> {
    let up = unit.active_state.is_up();
    if up && unit.restarts == 0 && unit.result == "success" {
        return Ok(Past::default());
    }
    let query = Query {
        lines: Some(LOOK_BACK),
        ..Default::default()
    };
    let entries: Vec<Entry> = host.output(name, &query)?.collect();
    let waits = unit.active_state == ActiveState::Activating && unit.main_pid.is_none();
    // One that waits for its next try still is the run that failed.
    let run = match up && !waits {
        true => failed_run(&entries, unit.invocation_id.as_deref()),
        false => last_run(&entries, unit),
    };
    let entries: Vec<Entry> = entries
        .into_iter()
        .filter(|entry| entry.invocation_id == run)
        .collect();
    let ended = shutdown(&entries);
    let mut past = Past::default();
    if up || unit.active_state == ActiveState::Failed {
        past.failure = failure(&entries, ended.as_ref());
        past.last_lines = last_lines(&entries);
        past.last_console_lines = match &run {
            Some(run) => last_console_lines(host, name, run, LAST_LINES)?,
            // There are only files, which do not say whose they are.
            None => {
                let dir = host.paths.vm(name);
                let log = match up && !waits {
                    true => dir.previous_console_log(),
                    false => dir.console_log(),
                };
                console::last_lines(&log, LAST_LINES).unwrap_or_default()
            }
        };
    }
    past.ended = ended.filter(|_| !up);
    Ok(past)
}

/// The last run that failed, other than `this`.
pub(super) fn failed_run(entries: &[Entry], this: Option<&str>) -> Option<String> {
    entries
        .iter()
        .filter(|entry| this.is_none() || entry.invocation_id.as_deref() != this)
        .rfind(|entry| failed_with(entry).is_some())?
        .invocation_id
        .clone()
}

/// The result, if this is systemd's word that the unit failed.
fn failed_with(entry: &Entry) -> Option<&str> {
    let (_, rest) = entry.message.split_once(": Failed with result '")?;
    rest.strip_suffix("'.")
        .filter(|_| entry.identifier == "systemd")
}

/// How the run failed to which `entries` belong.
fn failure(entries: &[Entry], ended: Option<&Ending>) -> Option<Failure> {
    let (at, result) = entries
        .iter()
        .find_map(|entry| Some((entry.time, failed_with(entry)?)))?;
    let of_systemd = || entries.iter().filter(|entry| entry.identifier == "systemd");
    let process = of_systemd().find_map(|entry| {
        let (_, how) = entry.message.split_once(": Main process exited, ")?;
        Some(how.to_owned())
    });
    Some(Failure {
        result: result.to_owned(),
        process,
        reason: ended.map(|ended| ended.reason.clone()),
        at,
        gave_up: of_systemd().any(|entry| {
            entry
                .message
                .ends_with(": Start request repeated too quickly.")
        }),
    })
}

/// How the last run of a VM ended.
pub(super) fn ending(
    host: &Host,
    name: &VmName,
    unit: &UnitStatus,
) -> Result<Option<Ending>, Error> {
    let query = Query {
        lines: Some(LOOK_BACK),
        ..Default::default()
    };
    let mut entries: Vec<Entry> = host.output(name, &query)?.collect();
    let run = last_run(&entries, unit);
    entries.retain(|entry| entry.invocation_id == run);
    Ok(shutdown(&entries))
}

/// The run that systemd or, of a unit that is no longer loaded, the journal knows as the last.
fn last_run(entries: &[Entry], unit: &UnitStatus) -> Option<String> {
    let last = || entries.last()?.invocation_id.clone();
    unit.invocation_id.clone().or_else(last)
}

/// The last SHUTDOWN event of a run.
fn shutdown(entries: &[Entry]) -> Option<Ending> {
    entries
        .iter()
        .rev()
        .filter(|entry| entry.is_monitor_traffic())
        .filter_map(|entry| {
            let message: Value = serde_json::from_str(&entry.message).ok()?;
            Some((entry.time, message))
        })
        .find(|(_, message)| message["event"] == "SHUTDOWN")
        .and_then(|(at, message)| {
            let reason = message["data"]["reason"].as_str()?.to_owned();
            Some(Ending { reason, at })
        })
}

fn last_lines(entries: &[Entry]) -> Vec<String> {
    let lines: Vec<String> = entries
        .iter()
        .filter(|entry| !entry.is_monitor_traffic())
        .map(|entry| format!("{}: {}", entry.identifier, entry.message))
        .collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].to_vec()
}
