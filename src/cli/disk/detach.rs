use std::process::ExitCode;

use crate::config::{DeviceName, TimeSpan};
use crate::ops::Host;
use crate::ops::disk::rm::{Options, rm};
use crate::vm::VmName;

use super::super::output::Output;
use super::tell_when;

/// Take a disk from a VM, and leave its image where it is
///
/// Takes `[disk.NAME]` out of the definition. The guest of a running VM is asked to let go
/// of it; one that does not keeps the disk, and the exit status is 1.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the disk
    disk: DeviceName,
    /// How long the guest may take
    #[arg(long, value_name = "TIME", default_value = "30s")]
    timeout: TimeSpan,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let options = Options {
        delete: false,
        timeout: args.timeout.duration(),
    };
    let removed = rm(host, &args.name, &args.disk, options)?;
    tell_when(out, &removed.when);
    if let Some(file) = &removed.file {
        out.note(format_args!("kept {}", file.display()));
    }
    out.done(&removed, format_args!("disk `{}` detached", removed.disk))?;
    Ok(ExitCode::SUCCESS)
}
