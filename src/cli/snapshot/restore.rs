use std::process::ExitCode;

use crate::ops::Host;
use crate::ops::snapshot::restore::{GoesOn, Options, restore};
use crate::vm::VmName;

use super::super::interrupt;
use super::super::output::Output;

/// Go back to a snapshot
///
/// A running VM goes on there at once, if there is memory in the snapshot, and else only
/// by a reset (`--reset`). One that does not run goes on there with its next start, or
/// boots from its disks if there is no memory in it. What was written since is gone. The
/// memory fits the machine that it is of: if that is another one now, what differs is told,
/// and nothing is done. Interrupted before it has begun, nothing is done, and after that it
/// comes to its end.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the snapshot
    snapshot: String,
    /// Restore the disks alone, and boot with the next start
    #[arg(long)]
    disk_only: bool,
    /// Give the saved state of the VM up, if it has one
    #[arg(long)]
    discard_saved: bool,
    /// Cut the power of the VM, if it runs, and start it again there
    ///
    /// The guest is not asked. All that could be in the way is looked for before.
    #[arg(long)]
    reset: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let interrupted = interrupt::watch()?;
    let options = Options {
        disk_only: args.disk_only,
        discard_saved: args.discard_saved,
        reset: args.reset,
        interrupted: &interrupted,
    };
    let restored = restore(host, &args.name, &args.snapshot, &options)?;
    for disk in &restored.untouched {
        out.warn(format_args!(
            "{} is not in the snapshot, and is as it was",
            disk.display()
        ));
    }
    let then = match restored.goes_on {
        GoesOn::Now => ", and goes on there",
        GoesOn::AtStart => "; the next start goes on there",
        GoesOn::Boots => "",
        GoesOn::Booted => ", and boots there",
    };
    let words = format!(
        "VM `{}` is at snapshot `{}`{then}",
        restored.vm, restored.name
    );
    out.done(&restored, words)?;
    Ok(ExitCode::SUCCESS)
}
