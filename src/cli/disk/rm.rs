use std::process::ExitCode;

use crate::config::{DeviceName, TimeSpan};
use crate::ops::Host;
use crate::ops::disk::rm::{Options, rm};
use crate::vm::VmName;

use super::super::output::Output;
use super::tell_when;

/// Remove a disk from a VM, and delete its image if asked to
///
/// Takes `[disk.NAME]` out of the definition. The guest of a running VM is asked to let go
/// of it; one that does not keeps the disk, and the exit status is 1. The image stays
/// where it is; with --delete, one that maqet made is deleted, unless it has snapshots, or
/// other VMs have it or stand on it, or the VM has it until it stops. A block device is never
/// touched.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the disk
    disk: DeviceName,
    /// Delete the image, too
    #[arg(long)]
    delete: bool,
    /// How long the guest may take
    #[arg(long, value_name = "TIME", default_value = "30s")]
    timeout: TimeSpan,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let options = Options {
        delete: args.delete,
        timeout: args.timeout.duration(),
    };
    let removed = rm(host, &args.name, &args.disk, options)?;
    tell_when(out, &removed.when);
    if let Some(file) = &removed.file {
        let verb = if removed.deleted { "deleted" } else { "kept" };
        out.note(format_args!("{verb} {}", file.display()));
    }
    out.done(&removed, format_args!("disk `{}` removed", removed.disk))?;
    Ok(ExitCode::SUCCESS)
}
