//! Commands of QEMU's monitor for people.

use std::time::Duration;

use serde_json::{Value, json};

use crate::qmp::{self, Client};
use crate::vm::VmName;

use super::qmp::{Arguments, Command, Session};
use super::{Error, Host};

/// Executes a line on the VM's human monitor and returns what that prints.
///
/// # Errors
///
/// Those of [`Session::execute`], and [`Error::Hmp`] where the words begin as
/// complaints do: HMP itself does not tell them from answers.
pub fn execute(host: &Host, name: &VmName, line: &str, limit: Duration) -> Result<String, Error> {
    let command = Command {
        name: "human-monitor-command".to_owned(),
        arguments: Arguments::Json(json!({ "command-line": line })),
    };
    let printed = match Session::new(host, name, limit).execute(&command)? {
        Value::String(printed) => printed,
        other => other.to_string(),
    };
    if is_complaint(&printed) {
        return Err(Error::Hmp {
            line: line.to_owned(),
            words: printed.trim_end().replace('\r', ""),
        });
    }
    Ok(printed)
}

/// Has QEMU execute a line of its human monitor, and returns what that prints, complaints too.
pub(crate) fn print(client: &mut Client, line: &str) -> Result<String, qmp::Error> {
    let printed = client.execute("human-monitor-command", json!({ "command-line": line }))?;
    Ok(printed.as_str().unwrap_or_default().to_owned())
}

/// Whether this is how QEMU complains: monitor/hmp.c (`monitor_parse_command`) and
/// monitor/hmp-cmds.c (`hmp_handle_error`).
fn is_complaint(printed: &str) -> bool {
    ["Error: ", "unknown command: '", "Command '"]
        .iter()
        .any(|begin| printed.starts_with(begin))
        || printed.lines().last().is_some_and(|last| {
            last.starts_with("Try \"help ") && last.contains("for more information")
        })
}
