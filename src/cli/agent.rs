use std::process::ExitCode;

use serde_json::json;

use crate::config::TimeSpan;
use crate::ops::{self, Host};
use crate::vm::VmName;

use super::output::{Output, table};

/// Talk to the guest agent of a running VM
///
/// That is qemu-ga, which the guest itself has to run (Debian: the package
/// qemu-guest-agent). If it does not, that is said at once, and the exit status
/// is 1; an agent that does not answer in time, or that someone else talks to,
/// is 6.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// How long the agent may take to answer
    #[arg(long, value_name = "TIME", default_value = "5s", global = true)]
    timeout: TimeSpan,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// See whether the agent answers
    Ping,
    /// Show the version of the agent, and the commands it knows
    ///
    /// ALLOWED is what the guest's configuration leaves of them.
    Info,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let limit = args.timeout.duration();
    match args.command {
        Command::Ping => {
            ops::agent::ping(host, &args.name, limit)?;
            let answer = json!({ "name": args.name, "answers": true });
            out.done(
                &answer,
                format_args!("the guest agent of VM `{}` answers", args.name),
            )?;
        }
        Command::Info => {
            let mut info = ops::agent::info(host, &args.name, limit)?;
            info.supported_commands.sort_by(|a, b| a.name.cmp(&b.name));
            out.answer(&info, |w| {
                writeln!(w, "qemu-ga {}\n", info.version)?;
                let rows = info.supported_commands.iter().map(|command| {
                    let note = if command.enabled { "yes" } else { "no" };
                    [command.name.clone(), note.to_owned()]
                });
                table(w, ["COMMAND", "ALLOWED"], rows)
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
