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
/// To another file or directory, on another file system too; its snapshots go along. What is
/// copied is compared with the original, the definition then names the new place, and the
/// old file is deleted last. The VM must not run.
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
    Ok(ExitCode::SUCCESS)
}
