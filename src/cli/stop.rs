use std::process::ExitCode;

use serde::Serialize;

use crate::config::TimeSpan;
use crate::ops::stop::{Force, Outcome};
use crate::ops::{self, Host};

use super::output::Output;
use super::several::{Several, Tally};

/// Stop VMs
///
/// Asks the guest to power down (guest agent or ACPI power button) and waits
/// for it. A guest that is still up when the time is over keeps running, and
/// the exit status is 1; its power is cut only with --force or --force-after.
/// Running VMs that require one of them are stopped, too, and before it.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    several: Several,
    /// How long to wait for the guest, such as 90s or 2m [default: the definition's stop.timeout, 60s]
    #[arg(long, value_name = "TIME", conflicts_with_all = ["force", "force_after"])]
    timeout: Option<TimeSpan>,
    /// Cut the power at once, without asking the guest
    #[arg(long, conflicts_with = "force_after")]
    force: bool,
    /// Ask the guest, and cut the power if it is still up after this long
    #[arg(long, value_name = "TIME")]
    force_after: Option<TimeSpan>,
}

#[derive(Serialize)]
struct Stopped<'a> {
    name: &'a str,
    outcome: Outcome,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let names = ops::stop::running(host, &args.several.selectors())?;
    let force = match (args.force, args.force_after) {
        (true, _) => Force::Now,
        (false, Some(limit)) => Force::After(limit.duration()),
        (false, None) => Force::Never,
    };
    let timeout = args.timeout.map(TimeSpan::duration);
    let mut tally = Tally::default();
    ops::stop::stop_all(host, &names, timeout, force, |name, outcome| {
        tally.count(outcome, |outcome| {
            let how = match outcome {
                Outcome::PoweredDown => "powered down",
                Outcome::NoGuest => "stopped: there was no guest to power down",
                Outcome::Saved => "saved and stopped",
                Outcome::PowerCut => "stopped: its power was cut",
                Outcome::StartCanceled => "stopped: it was only starting",
                Outcome::RestartCanceled => "stopped: it was waiting to be started again",
            };
            let stopped = Stopped {
                name: name.as_str(),
                outcome,
            };
            out.done(&stopped, format_args!("VM `{name}` {how}"))
        });
    })?;
    tally.finish()
}
