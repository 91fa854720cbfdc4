use std::process::ExitCode;

use serde::Serialize;

use crate::config::TimeSpan;
use crate::ops::wait::{Came, What};
use crate::ops::{self, Host};
use crate::vm::VmName;

use super::events::{Moment, words};
use super::job::{Bar, result};
use super::output::Output;

/// Wait until something happens to a running VM
///
/// What to wait for is the name of an event, such as BLOCK_JOB_COMPLETED or a
/// pattern of names, from now on or --since; or state=paused, running and so on,
/// where now counts; shutdown, that the VM has ended; panicked, that its guest has;
/// or job=ID, that the job has ended, whose own error is then a failure, with exit
/// status 5. The first to come ends the wait, and is printed. If none has come when
/// the time is over, the exit status is 7; if the VM has ended and none can come any
/// more, 8.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// What to wait for: EVENT, state=STATE, shutdown, panicked or job=ID; may be repeated
    #[arg(long = "for", value_name = "WHAT", required = true)]
    what: Vec<What>,
    /// Events since then count, too: a time such as '2026-01-31 12:00', or -1h, or '10m ago'
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<Moment>,
    /// How long to wait, such as 90s or 2m [default: for ever]
    #[arg(long, value_name = "TIME")]
    timeout: Option<TimeSpan>,
}

#[derive(Serialize)]
struct Printed<'a> {
    vm: &'a VmName,
    #[serde(flatten)]
    came: &'a Came,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let mut bar = Bar::new(out);
    let since = args.since.map(|since| since.0);
    let limit = args.timeout.map(TimeSpan::duration);
    let came = ops::wait::wait(host, &args.name, &args.what, since, limit, bar.shows())?;
    bar.end();
    let vm = &args.name;
    if let Came::Job { id, end } = &came {
        return result(out, vm, id, end);
    }
    out.answer(&Printed { vm, came: &came }, |w| match &came {
        Came::Event { event } => writeln!(w, "{}", words(event)),
        Came::State { state } => writeln!(w, "{state}"),
        Came::Shutdown(ended) => writeln!(w, "shutdown: {ended}"),
        Came::Panicked => writeln!(w, "panicked"),
        Came::Job { .. } => Ok(()),
    })?;
    Ok(ExitCode::SUCCESS)
}
