mod batch;
mod describe;
mod shell;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use crate::config::TimeSpan;
use crate::ops::Host;
use crate::ops::qmp::{Command, Session};
use crate::vm::VmName;

use super::job;
use super::output::Output;

/// Execute QMP commands on a running VM
///
/// Prints QEMU's answer as JSON. Works from any process, whichever started the
/// VM. Arguments are words, key=value, which become JSON of the type that QEMU's
/// own schema says: numbers (512, 0x200, 4K), on and off, enumerations; a key
/// leads into an object (file.filename=x.qcow2) or a list (keys.0.data=a); a key
/// that is there several times is a list; and key:=JSON passes JSON on as it is.
/// Or they are one JSON object; or the first word is the whole command in JSON,
/// '{"execute": "query-status"}'.
///
/// With --file, or without a command when standard input is no terminal,
/// commands are read one a line: words, which may be quoted as in a shell, or a
/// whole command in JSON; empty lines and what follows a # are skipped. The
/// first failure ends it.
///
/// Without a command on a terminal it is a shell, with completion and a history,
/// that shows events as they come; RTC_CHANGE and NIC_RX_FILTER_CHANGED, which are
/// frequent, are left out. It keeps nobody from the monitor while it waits.
///
/// A command that QEMU refuses is exit status 5; a monitor that does not answer
/// in time, or that someone else holds, is 6.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// Command, such as query-status, or the whole of it in JSON
    command: Option<String>,
    /// Arguments of the command
    #[arg(value_name = "KEY=VALUE|JSON")]
    arguments: Vec<String>,
    /// Execute the commands in a file, one a line; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    file: Option<PathBuf>,
    /// Go on with the next command after one that failed
    #[arg(long, conflicts_with_all = ["command", "list", "describe"])]
    keep_going: bool,
    /// List the commands that QEMU has, or those that match a pattern such as 'block*'
    #[arg(long, value_name = "PATTERN", num_args = 0..=1, default_missing_value = "*", conflicts_with_all = ["command", "file"])]
    list: Option<glob::Pattern>,
    /// Describe the arguments and the answer of a command; of many arguments only
    /// those that go with others, such as blockdev-add driver=qcow2
    #[arg(long, value_name = "COMMAND", num_args = 1.., conflicts_with_all = ["command", "file", "list"])]
    describe: Vec<String>,
    /// Wait for the job that the command starts, the one of its job-id; see maqet-job(1)
    #[arg(long, requires = "command")]
    wait: bool,
    /// How long QEMU may take to answer
    #[arg(long, value_name = "TIME", default_value = "5s")]
    timeout: TimeSpan,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let mut session = Session::new(host, &args.name, args.timeout.duration());
    if let Some(pattern) = &args.list {
        list(out, &args.name, &mut session, pattern)?;
    } else if !args.describe.is_empty() {
        describe::describe(out, &mut session, &args.describe)?;
    } else if let Some(file) = &args.file {
        return batch::run(out, &mut session, file, args.keep_going);
    } else if let Some(command) = args.command {
        let mut words = vec![command];
        words.extend(args.arguments);
        let command = Command::of_words(&words)?;
        if args.wait {
            let Some(id) = command.arguments.job_id() else {
                super::usage_error("qmp", "--wait is for commands that have a job-id");
            };
            let end = job::wait(out, host, &args.name, id, || {
                let started = session.execute(&command).map(drop);
                session.release();
                started
            })?;
            return job::result(out, &args.name, id, &end);
        }
        let answer = session.execute(&command)?;
        // A pager may take its time to read.
        session.release();
        print(out, &answer)?;
    } else if !io::stdin().is_terminal() {
        return batch::run(out, &mut session, "-".as_ref(), args.keep_going);
    } else if io::stdout().is_terminal() {
        let history = host.paths.qmp_history();
        shell::run(out, &mut session, &args.name, &history)?;
    } else {
        super::usage_error("qmp", "there is no command");
    }
    Ok(ExitCode::SUCCESS)
}

/// QEMU's answer, with line breaks for people.
fn print(out: &Output, answer: &Value) -> io::Result<()> {
    out.answer(answer, |w| {
        serde_json::to_writer_pretty(&mut *w, answer)?;
        w.write_all(b"\n")
    })
}

fn list(
    out: &Output,
    name: &VmName,
    session: &mut Session<'_>,
    pattern: &glob::Pattern,
) -> anyhow::Result<()> {
    let schema = session.schema()?.clone();
    session.release();
    let mut commands = schema.commands();
    commands.retain(|command| pattern.matches(command));
    if commands.is_empty() {
        let part = format!("*{}*", pattern.as_str().trim_matches('*'));
        out.note(format_args!(
            "no command matches `{pattern}`; `maqet qmp {name} --list '{part}'` looks for a part of a name"
        ));
    }
    out.answer(&commands, |w| {
        commands
            .iter()
            .try_for_each(|command| writeln!(w, "{command}"))
    })?;
    Ok(())
}
