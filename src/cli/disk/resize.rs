use std::process::ExitCode;

use crate::config::DeviceName;
use crate::ops::Host;
use crate::ops::disk::resize::{To, resize};
use crate::vm::VmName;

use super::super::output::{Output, bytes};

/// Give a disk another size
///
/// A running VM has it at once, and its guest is told; partitions and file systems are for
/// the guest to grow. A disk shrinks only with --shrink and while its VM does not run: what is
/// behind its new end is lost.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the disk
    disk: DeviceName,
    /// The size, such as 40G, or how much larger, such as +10G
    size: To,
    /// Let it be smaller than it is
    #[arg(long)]
    shrink: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let resized = resize(host, &args.name, &args.disk, args.size, args.shrink)?;
    let (disk, to) = (&resized.disk, bytes(resized.to));
    let words = match resized.from == resized.to {
        true => format!("disk `{disk}` has {to} already"),
        false => format!("disk `{disk}` has {to} instead of {}", bytes(resized.from)),
    };
    out.done(&resized, words)?;
    Ok(ExitCode::SUCCESS)
}
