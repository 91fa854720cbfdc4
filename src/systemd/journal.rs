//! The journal, through journalctl(1).
//!
//! The journal's files have no stable format but what its own programs read, so
//! they are asked; one entry is one line of JSON (systemd.journal-fields(7)).

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::vm::VmName;

use super::bus::Scope;
use super::error::Error;

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it was written; unknown where there is only a file.
    pub time: Option<SystemTime>,
    /// The program's name for itself, or the process's: `maqet-web`, `systemd`.
    pub identifier: String,
    /// The process that wrote it.
    pub pid: Option<u32>,
    /// The text; bytes that are not UTF-8 are replaced.
    pub message: String,
    /// Which run of the unit it belongs to: 32 hexadecimal digits.
    pub invocation_id: Option<String>,
    /// The journal's word for where it is; none in a file.
    pub cursor: Option<String>,
}

impl Entry {
    /// A line of a file, of which nothing is known but who wrote it.
    fn of_file(writer: &str, line: &[u8]) -> Self {
        Self {
            time: None,
            identifier: writer.to_owned(),
            pid: None,
            message: String::from_utf8_lossy(line).into_owned(),
            invocation_id: None,
            cursor: None,
        }
    }

    /// Whether this is QEMU's side of the event log: a greeting, a reply or an event,
    /// one line of JSON each.
    pub fn is_monitor_traffic(&self) -> bool {
        [
            "{\"timestamp\": {",
            "{\"return\": ",
            "{\"QMP\": {",
            "{\"error\": {",
        ]
        .iter()
        .any(|start| self.message.starts_with(start))
    }
}

/// Which entries are wanted.
#[derive(Clone, Debug, Default)]
pub struct Query<'a> {
    /// Only this run of the unit; otherwise all.
    pub invocation_id: Option<&'a str>,
    /// Only those written since then.
    pub since: Option<SystemTime>,
    /// Only those after the one with this cursor.
    pub after: Option<&'a str>,
    /// Only the last so many.
    pub lines: Option<usize>,
    /// Go on with new entries as they come.
    pub follow: bool,
}

/// Whether an ordinary user can read what their units print.
///
/// With volatile storage the journal has no file of its own for each user, and
/// what is there only root and the group `systemd-journal` may read
/// (journald.conf(5), Storage=).
pub fn readable() -> bool {
    ["/var/log/journal", "/run/log/journal"].iter().any(|dir| {
        let Ok(id) = std::fs::read_to_string("/etc/machine-id") else {
            return false;
        };
        let dir = Path::new(dir).join(id.trim());
        // Persistent storage splits by user, so that being able to enter is enough.
        std::fs::read_dir(&dir).is_ok()
    })
}

/// Entries as they are read. Dropping it ends journalctl.
pub struct Entries {
    child: Child,
    lines: std::io::Split<BufReader<ChildStdout>>,
    /// Who wrote what is not an entry but a line of a file.
    writer: Option<String>,
    /// The run whose entries are wanted, if not all are.
    wanted: Option<String>,
    /// The run that the last entry belongs to; one that does not say belongs to the same.
    /// Of several units, by what they call themselves.
    current: HashMap<String, String>,
    several: bool,
}

/// The entries of a unit, and the manager's about it, oldest first; not what its guest
/// printed ([`read_console`]).
pub fn read(scope: &Scope, unit: &str, query: &Query<'_>) -> Result<Entries, Error> {
    let mut command = journalctl(scope, query);
    let (unit_field, about_field) = match scope {
        Scope::User(_) => ("_SYSTEMD_USER_UNIT", "USER_UNIT"),
        Scope::System => ("_SYSTEMD_UNIT", "UNIT"),
    };
    command.args([
        format!("{unit_field}={unit}"),
        "_TRANSPORT=stdout".to_owned(),
        "+".to_owned(),
        format!("{about_field}={unit}"),
        // The manager, and its child that is about to become the program.
        "SYSLOG_IDENTIFIER=systemd".to_owned(),
        "SYSLOG_IDENTIFIER=(maqet)".to_owned(),
        // journald looks a writer's unit up in /proc: of one that was gone by then it
        // knows no more than the name that came with the stream.
        "+".to_owned(),
        format!("SYSLOG_IDENTIFIER={}", unit.trim_end_matches(".service")),
        format!("_UID={}", rustix::process::geteuid().as_raw()),
        "_TRANSPORT=stdout".to_owned(),
    ]);
    let mut entries = Entries::of(command)?;
    entries.wanted = query.invocation_id.map(str::to_owned);
    Ok(entries)
}

/// What the guest of a VM printed on its console, oldest first, as far as it has been
/// copied to the journal ([`super::console`]).
pub fn read_console(scope: &Scope, vm: &VmName, query: &Query<'_>) -> Result<Entries, Error> {
    let mut command = journalctl(scope, query);
    let invocation = match scope {
        Scope::User(_) => "USER_INVOCATION_ID",
        Scope::System => "INVOCATION_ID",
    };
    command.args([
        format!("MAQET_VM={vm}"),
        "MAQET_STREAM=console".to_owned(),
        format!("_UID={}", rustix::process::geteuid().as_raw()),
    ]);
    command.args(query.invocation_id.map(|id| format!("{invocation}={id}")));
    Entries::of(command)
}

/// What these units printed themselves, oldest first; all units that begin with
/// `maqet-`, if none is named.
pub fn read_printed(scope: &Scope, units: &[String], query: &Query<'_>) -> Result<Entries, Error> {
    let mut command = journalctl(scope, query);
    command.args(
        units
            .iter()
            .map(|unit| format!("SYSLOG_IDENTIFIER={}", unit.trim_end_matches(".service"))),
    );
    command.args([
        format!("_UID={}", rustix::process::geteuid().as_raw()),
        "_TRANSPORT=stdout".to_owned(),
    ]);
    let mut entries = Entries::of(command)?;
    entries.wanted = query.invocation_id.map(str::to_owned);
    entries.several = true;
    Ok(entries)
}

fn journalctl(scope: &Scope, query: &Query<'_>) -> Command {
    let mut command = Command::new("journalctl");
    command
        .args(scope.journal_args())
        .args(["--output=json", "--quiet", "--no-pager"]);
    if query.follow {
        command.arg("--follow");
        if query.lines.is_none() {
            command.arg("--no-tail");
        }
    }
    if let Some(lines) = query.lines {
        command.arg(format!("--lines={lines}"));
    }
    if let Some(since) = query
        .since
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
    {
        command.arg(format!("--since=@{}", since.as_secs()));
    }
    if let Some(cursor) = query.after {
        command.arg(format!("--after-cursor={cursor}"));
    }
    command
}

/// What a unit printed to `file`, where the journal is not for the user to read.
///
/// Of a [`Query`] only `lines` and `follow` apply: a file has no runs.
pub fn read_file(file: &Path, unit: &str, query: &Query<'_>) -> Result<Entries, Error> {
    let mut command = Command::new("tail");
    match query.lines {
        Some(lines) => command.arg(format!("--lines={lines}")),
        None => command.arg("--lines=+1"),
    };
    if query.follow {
        command.arg("--follow");
    }
    command.arg("--").arg(file);
    let mut entries = Entries::of(command)?;
    entries.writer = Some(unit.trim_end_matches(".service").to_owned());
    Ok(entries)
}

impl Entries {
    /// What `command` prints, line by line.
    fn of(mut command: Command) -> Result<Self, Error> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Error::Journal(format!("{program}: {error}")))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        Ok(Self {
            child,
            lines: BufReader::new(stdout).split(b'\n'),
            writer: None,
            wanted: None,
            current: HashMap::new(),
            several: false,
        })
    }
}

impl Iterator for Entries {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            // A line that is no entry is skipped: journalctl's own, or cut off by its end.
            let line = self.lines.next()?.ok()?;
            if let Some(writer) = &self.writer {
                return Some(Entry::of_file(writer, &line));
            }
            let Some(mut entry) = parse(&line) else {
                continue;
            };
            let writer = if self.several { &*entry.identifier } else { "" };
            match &entry.invocation_id {
                Some(id) if self.current.get(writer) == Some(id) => {}
                Some(id) => drop(self.current.insert(writer.to_owned(), id.clone())),
                None => entry.invocation_id = self.current.get(writer).cloned(),
            }
            if self.wanted.is_none() || self.wanted == entry.invocation_id {
                return Some(entry);
            }
        }
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One line of `journalctl --output=json`.
fn parse(line: &[u8]) -> Option<Entry> {
    let fields: serde_json::Map<String, Value> = serde_json::from_slice(line).ok()?;
    let text = |name: &str| fields.get(name).and_then(text_of);
    let micros: u64 = text("__REALTIME_TIMESTAMP")?.parse().ok()?;
    Some(Entry {
        time: Some(SystemTime::UNIX_EPOCH + Duration::from_micros(micros)),
        identifier: text("SYSLOG_IDENTIFIER")
            .or_else(|| text("_COMM"))
            .unwrap_or_default(),
        pid: text("_PID").and_then(|pid| pid.parse().ok()),
        message: text("MESSAGE").unwrap_or_default(),
        invocation_id: text("_SYSTEMD_INVOCATION_ID")
            .filter(|_| !fields.contains_key("USER_INVOCATION_ID"))
            .or_else(|| text("USER_INVOCATION_ID"))
            .or_else(|| text("INVOCATION_ID")),
        cursor: text("__CURSOR"),
    })
}

/// A field is a string, an array of bytes when it is not UTF-8, or an array of those.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) if items.iter().all(Value::is_u64) => {
            let bytes: Vec<u8> = items
                .iter()
                .filter_map(|item| item.as_u64()?.try_into().ok())
                .collect();
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        Value::Array(items) => items.first().and_then(text_of),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line_of_json() {
        let entry = parse(
            br#"{"__REALTIME_TIMESTAMP":"1700000000000001","SYSLOG_IDENTIFIER":"maqet-web","_PID":"42","MESSAGE":"hello","_SYSTEMD_INVOCATION_ID":"ab"}"#,
        )
        .unwrap();
        assert_eq!(entry.message, "hello");
        assert_eq!(entry.pid, Some(42));
        assert_eq!(entry.invocation_id.as_deref(), Some("ab"));
        assert_eq!(
            entry.time,
            Some(SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001))
        );
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        let entry = parse(br#"{"__REALTIME_TIMESTAMP":"1","MESSAGE":[104,105,255]}"#).unwrap();
        assert_eq!(entry.message, "hi\u{fffd}");
    }

    #[test]
    fn other_lines_are_no_entries() {
        assert!(parse(b"-- No entries --").is_none());
        assert!(parse(b"{\"MESSAGE\":\"no time\"}").is_none());
        assert!(parse(b"").is_none());
    }
}
