use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::DeviceName;
use crate::ops::Host;
use crate::ops::disk::r#move::r#move;
use crate::vm::VmName;

use super::super::output::Output;
use super::progress::watched;

/// Move the image of a disk
///
/// To another file or directory, on another file system too. The definition names the new
/// place when all is there, and the old file is deleted last; of a symbolic link, only the
/// link is, and what it led to is told.
///
/// While the VM runs, QEMU copies the image, within the disk's limits, and goes on in the
/// copy: the guest halts for a moment. There can be no snapshots in the image then. Of a VM
/// that does not run, they go along, and what is copied is compared with the original.
///
/// Interrupted, the disk is where it was.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the disk
    disk: DeviceName,
    /// A file that is not there, or a directory
    to: PathBuf,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let moved = watched(out, |watch| {
        r#move(host, &args.name, &args.disk, &args.to, watch)
    })??;
    let words = format_args!("disk `{}` is in {} now", moved.disk, moved.to.display());
    out.done(&moved, words)?;
    if let Some(kept) = &moved.kept {
        out.warn(format_args!(
            "{} was behind a link, and is there still",
            kept.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}
