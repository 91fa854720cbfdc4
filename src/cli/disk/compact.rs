use std::process::ExitCode;

use crate::config::DeviceName;
use crate::ops::Host;
use crate::ops::disk::compact::compact;
use crate::vm::VmName;

use super::super::output::{Output, bytes};
use super::progress::watched;

/// Give the host back what the image of a disk takes up for nothing
///
/// Writes the image anew without zeroes and what the guest has discarded; what it
/// stands on stays as it is. There must be room for the new image beside the old one,
/// and there can be no snapshots in it: they would be lost.
///
/// While the VM runs, QEMU copies the image, within the disk's limits, and goes on in the
/// copy, which has a number in its name: that of an image in use stays with it.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the disk
    disk: DeviceName,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let compacted = watched(out, |watch| compact(host, &args.name, &args.disk, watch))??;
    let words = format_args!(
        "disk `{}` takes up {} instead of {}, in {}",
        compacted.disk,
        bytes(compacted.to),
        bytes(compacted.from),
        compacted.file.display()
    );
    out.done(&compacted, words)?;
    Ok(ExitCode::SUCCESS)
}
