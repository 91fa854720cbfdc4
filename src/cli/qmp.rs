use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::config::TimeSpan;
use crate::ops::qmp::Arguments;
use crate::ops::{self, Host};
use crate::qmp::schema::Argument;
use crate::vm::VmName;

use super::job;
use super::output::{Output, table};

/// Execute a QMP command on a running VM
///
/// Prints QEMU's answer as JSON. Works from any process, whichever started the
/// VM. Arguments are words, key=value, which become JSON of the type that QEMU's
/// own schema says: numbers (512, 0x200, 4K), on and off, enumerations; a key
/// leads into an object (file.filename=x.qcow2) or a list (keys.0.data=a); and
/// key:=JSON passes JSON on as it is. Or they are one JSON object. A command
/// that QEMU refuses is exit status 5; a monitor that does not answer in time,
/// or that someone else holds, is 6.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// Command, such as query-status
    #[arg(required_unless_present_any = ["list", "describe"])]
    command: Option<String>,
    /// Arguments of the command
    #[arg(value_name = "KEY=VALUE|JSON")]
    arguments: Vec<String>,
    /// List the commands that QEMU has, or those that match a pattern such as 'block*'
    #[arg(long, value_name = "PATTERN", num_args = 0..=1, default_missing_value = "*", conflicts_with = "command")]
    list: Option<glob::Pattern>,
    /// Describe the arguments and the answer of a command
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["command", "list"])]
    describe: Option<String>,
    /// Wait for the job that the command starts, the one of its job-id; see maqet-job(1)
    #[arg(long, conflicts_with_all = ["list", "describe"])]
    wait: bool,
    /// How long QEMU may take to answer
    #[arg(long, value_name = "TIME", default_value = "5s")]
    timeout: TimeSpan,
}

/// What `--describe` tells of a command.
#[derive(Serialize)]
struct Description<'a> {
    command: &'a str,
    arguments: &'a [Argument],
    answer: &'a str,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let limit = args.timeout.duration();
    if let Some(pattern) = &args.list {
        list(out, host, &args.name, pattern, limit)?;
    } else if let Some(command) = &args.describe {
        describe(out, host, &args.name, command, limit)?;
    } else if let Some(command) = &args.command {
        let arguments = match arguments(&args.arguments) {
            Ok(arguments) => arguments,
            Err(message) => super::usage_error("qmp", &message),
        };
        let execute = || ops::qmp::execute(host, &args.name, command, &arguments, limit);
        if args.wait {
            let Some(id) = arguments.job_id() else {
                super::usage_error("qmp", "--wait is for commands that have a job-id");
            };
            let end = job::wait(out, host, &args.name, id, || execute().map(drop))?;
            return job::result(out, &args.name, id, &end);
        }
        let answer = execute()?;
        out.answer(&answer, |w| {
            serde_json::to_writer_pretty(&mut *w, &answer)?;
            w.write_all(b"\n")
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Words, or one word that is a JSON object.
fn arguments(words: &[String]) -> Result<Arguments, String> {
    match words {
        [json] if !json.contains('=') || json.starts_with('{') => {
            match serde_json::from_str(json) {
                Ok(value @ Value::Object(_)) => Ok(Arguments::Json(value)),
                Ok(_) => Err(format!(
                    "`{json}` is no JSON object, such as '{{\"id\": \"net1\"}}'"
                )),
                Err(error) => Err(format!(
                    "`{json}` is neither key=value nor a JSON object: {error}"
                )),
            }
        }
        words => Ok(Arguments::Words(words.to_vec())),
    }
}

fn list(
    out: &Output,
    host: &Host,
    name: &VmName,
    pattern: &glob::Pattern,
    limit: Duration,
) -> anyhow::Result<()> {
    let schema = ops::qmp::schema(host, name, limit)?;
    let mut commands = schema.commands();
    commands.retain(|command| pattern.matches(command));
    out.answer(&commands, |w| {
        commands
            .iter()
            .try_for_each(|command| writeln!(w, "{command}"))
    })?;
    Ok(())
}

fn describe(
    out: &Output,
    host: &Host,
    name: &VmName,
    command: &str,
    limit: Duration,
) -> anyhow::Result<()> {
    let schema = ops::qmp::schema(host, name, limit)?;
    let (arguments, answer) = schema.describe(command).map_err(ops::Error::from)?;
    let description = Description {
        command,
        arguments: &arguments,
        answer: &answer,
    };
    out.answer(&description, |w| describe_to(w, &description))?;
    Ok(())
}

fn describe_to(w: &mut dyn Write, description: &Description<'_>) -> io::Result<()> {
    let rows = description.arguments.iter().map(|argument| {
        let optional = if argument.optional { "" } else { "yes" };
        [
            argument.name.clone(),
            optional.to_owned(),
            argument.only_with.clone().unwrap_or_default(),
            argument.kind.clone(),
        ]
    });
    table(w, ["ARGUMENT", "NEEDED", "ONLY WITH", "TYPE"], rows)?;
    writeln!(w, "\nanswer: {}", description.answer)
}
