use std::process::ExitCode;

use crate::ops::Host;
use crate::ops::snapshot::rm::rm;
use crate::vm::VmName;

use super::super::output::Output;

/// Delete a snapshot
///
/// The VM stays as it is, and so do all other snapshots. One in an image below an overlay can
/// be deleted when that was merged, and an external one while nothing stands on its images:
/// those that maqet made are deleted then.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the snapshot
    snapshot: String,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let removed = rm(host, &args.name, &args.snapshot)?;
    for file in &removed.left {
        out.warn(format_args!(
            "{} has it still, and is no disk of VM `{}` any more",
            file.display(),
            removed.vm
        ));
    }
    let words = format!("snapshot `{}` of VM `{}` deleted", removed.name, removed.vm);
    out.done(&removed, words)?;
    Ok(ExitCode::SUCCESS)
}
