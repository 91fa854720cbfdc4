use std::process::ExitCode;

use crate::ops::Host;
use crate::ops::snapshot::restore::restore;
use crate::vm::VmName;

use super::super::output::Output;

/// Go back to a snapshot
///
/// The disks of a VM that does not run read as they did then; what was written since
/// is gone.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the snapshot
    snapshot: String,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let restored = restore(host, &args.name, &args.snapshot)?;
    let words = format!("VM `{}` is at snapshot `{}`", restored.vm, restored.name);
    out.done(&restored, words)?;
    Ok(ExitCode::SUCCESS)
}
