use std::process::ExitCode;

use crate::ops::Host;
use crate::ops::snapshot::beside::merge::merge;
use crate::qmp::Job;
use crate::vm::VmName;

use super::super::interrupt;
use super::super::job::Bar;
use super::super::output::Output;

/// End an external snapshot
///
/// What was written since is written into its images, while the VM runs or not, and the
/// overlays are deleted. The VM stays as it is. Interrupted, a running VM goes on in the
/// overlays; the snapshot cannot be restored any more, and be merged again.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the snapshot
    snapshot: String,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let interrupted = interrupt::watch()?;
    let mut bar = Bar::new(out);
    let mut watch = |job: &Job| {
        if let Some(show) = bar.shows() {
            show(job);
        }
        !interrupted()
    };
    let merged = merge(host, &args.name, &args.snapshot, &mut watch);
    bar.end();
    let merged = merged?;
    let words = format!("snapshot `{}` of VM `{}` merged", merged.name, merged.vm);
    out.done(&merged, words)?;
    Ok(ExitCode::SUCCESS)
}
