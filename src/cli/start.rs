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
/// already is left alone, and that is no failure. One whose state was saved
/// (maqet save) goes on where it was, with the definition it had then. When the
/// VMs of a group that run then may need more memory than the group has, that is
/// told.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    several: Several,
    /// Boot afresh also where a state was saved, and give that up
    #[arg(long)]
    discard_saved: bool,
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
    start(out, host, &names, args.discard_saved, &mut tally)?;
    tally.finish()
}

/// Starts VMs and tells of each.
pub(super) fn start(
    out: &Output,
    host: &Host,
    names: &[VmName],
    discard_saved: bool,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let over = ops::start::start(host, names, discard_saved, |name, outcome| {
        tally.count(outcome, |outcome| {
            let (word, words, why_not_kvm) = match outcome {
                Outcome::Started {
                    why_not_kvm,
                    resumed: false,
                } => ("started", "started", why_not_kvm),
                Outcome::Started { why_not_kvm, .. } => {
                    ("resumed", "goes on where it was saved", why_not_kvm)
                }
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
    for group in over {
        out.note(format_args!("warning: {group}"));
    }
    Ok(())
}
