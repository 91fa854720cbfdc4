use std::process::ExitCode;

use serde::Serialize;

use crate::config::{ReadyLevel, TimeSpan};
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
/// status 5. The first to come ends the wait, and is printed. With --ready, it waits
/// until the guest is up: as far as the definition's `[ready]` says, or LEVEL. If
/// nothing has come when the time is over, the exit status is 7; if the VM has ended
/// and nothing can come any more, 8.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// What to wait for: EVENT, state=STATE, shutdown, panicked or job=ID; may be repeated
    #[arg(long = "for", value_name = "WHAT", required_unless_present = "ready")]
    what: Vec<What>,
    /// Until the guest is up: monitor, agent, notify, tcp:PORT or console:/REGEX/ [default: the definition's level]
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, conflicts_with_all = ["what", "since"])]
    ready: Option<Option<ReadyLevel>>,
    /// Events since then count, too: a time such as '2026-01-31 12:00', or -1h, or '10m ago'
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<Moment>,
    /// How long to wait, such as 90s or 2m [default: for ever; with --ready, the definition's]
    #[arg(long, value_name = "TIME")]
    timeout: Option<TimeSpan>,
}

#[derive(Serialize)]
struct Printed<'a> {
    vm: &'a VmName,
    #[serde(flatten)]
    came: &'a Came,
}

#[derive(Serialize)]
struct Ready<'a> {
    vm: &'a VmName,
    ready: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    if let Some(level) = &args.ready {
        let limit = args.timeout.map(TimeSpan::duration);
        ops::ready::ready(host, &args.name, level.as_ref(), limit)?;
        let ready = Ready {
            vm: &args.name,
            ready: true,
        };
        out.done(&ready, format_args!("VM `{}` is ready", args.name))?;
        return Ok(ExitCode::SUCCESS);
    }
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
