use std::process::ExitCode;

use crate::config::TimeSpan;
use crate::ops::{self, Host};
use crate::vm::VmName;

use super::output::Output;

/// Execute a command of QEMU's monitor for people
///
/// The words are one line of HMP, such as info block. Prints what QEMU prints,
/// with --json as one JSON string. HMP has no errors: what reads as one, such as
/// `unknown command`, is taken for one, with exit status 5. Scripts do better
/// with maqet qmp.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// How long QEMU may take to answer
    #[arg(long, value_name = "TIME", default_value = "5s")]
    timeout: TimeSpan,
    /// Command and its arguments; options of maqet come before them
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "WORD"
    )]
    words: Vec<String>,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let line = args.words.join(" ");
    let printed = ops::hmp::execute(host, &args.name, &line, args.timeout.duration())?;
    out.answer(&printed, |w| {
        // QEMU ends lines as a terminal of old does.
        w.write_all(printed.replace("\r\n", "\n").as_bytes())
    })?;
    Ok(ExitCode::SUCCESS)
}
