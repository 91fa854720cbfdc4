use std::process::ExitCode;

use serde::Serialize;

use crate::ops::{self, Host, start::Outcome};
use crate::vm::VmName;

use super::output::Output;
use super::several::{Several, Tally};

/// Start VMs
///
/// Each runs as the systemd unit maqet-NAME.service, all are started at once,
/// and each is waited for until QEMU has taken its arguments. One that runs
/// already is left alone, and that is no failure.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    several: Several,
}

#[derive(Serialize)]
struct Started<'a> {
    name: &'a str,
    outcome: &'static str,
    why_not_kvm: Option<&'a str>,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let names = ops::select(host, &args.several.selectors())?;
    let mut tally = Tally::default();
    start(out, host, &names, &mut tally)?;
    tally.finish()
}

/// Starts VMs and tells of each.
pub(super) fn start(
    out: &Output,
    host: &Host,
    names: &[VmName],
    tally: &mut Tally,
) -> anyhow::Result<()> {
    ops::start::start(host, names, |name, outcome| {
        tally.count(outcome, |outcome| {
            let (word, words, why_not_kvm) = match outcome {
                Outcome::Started { why_not_kvm } => ("started", "started", why_not_kvm),
                Outcome::AlreadyRunning => ("already-running", "is already running", None),
            };
            let started = Started {
                name: name.as_str(),
                outcome: word,
                why_not_kvm: why_not_kvm.as_deref(),
            };
            let slow = why_not_kvm
                .as_ref()
                .map(|reason| format!(" (emulated, slowly: {reason})"));
            let slow = slow.unwrap_or_default();
            out.done(&started, format_args!("VM `{name}` {words}{slow}"))
        });
    })?;
    Ok(())
}
