use std::process::ExitCode;

use serde_json::Value;

use crate::config::TimeSpan;
use crate::ops::{self, Host};
use crate::vm::VmName;

use super::output::Output;

/// Execute a QMP command on a running VM
///
/// Prints QEMU's answer as JSON. Works from any process, whichever started the
/// VM. A command that QEMU refuses is exit status 5; a monitor that does not
/// answer in time, or that someone else holds, is 6.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// Command, such as query-status
    command: String,
    /// Arguments of the command: one JSON object
    #[arg(value_name = "JSON", value_parser = json_object)]
    arguments: Option<Value>,
    /// How long QEMU may take to answer
    #[arg(long, value_name = "TIME", default_value = "5s")]
    timeout: TimeSpan,
}

fn json_object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("not a JSON object, such as '{\"id\": \"net1\"}'".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let limit = args.timeout.duration();
    let answer = ops::qmp::execute(
        host,
        &args.name,
        &args.command,
        args.arguments.as_ref(),
        limit,
    )?;
    out.answer(&answer, |w| {
        serde_json::to_writer_pretty(&mut *w, &answer)?;
        w.write_all(b"\n")
    })?;
    Ok(ExitCode::SUCCESS)
}
