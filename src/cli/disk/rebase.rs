use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::DeviceName;
use crate::ops::Host;
use crate::ops::disk::rebase::{Onto, rebase};
use crate::vm::VmName;

use super::super::output::Output;
use super::progress::watched;

/// Put a disk onto another base image, or onto none
///
/// The disk reads as before: what differs between the bases is copied into its own image.
/// With --flat all that is below it is. With --moved, BASE is what the disk stood on before, at
/// another place, and nothing is copied: this mends a disk whose backing file was moved.
/// The VM must not run.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the disk
    disk: DeviceName,
    /// The image that it is to stand on
    #[arg(required_unless_present = "flat")]
    base: Option<PathBuf>,
    /// Have it stand on nothing
    #[arg(long, conflicts_with = "base")]
    flat: bool,
    /// The base was moved there, and is the same
    #[arg(long, conflicts_with = "flat")]
    moved: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let onto = match (&args.base, args.moved) {
        (Some(base), true) => Onto::Moved(base.clone()),
        (Some(base), false) => Onto::Image(base.clone()),
        (None, _) => Onto::Nothing,
    };
    let rebased = watched(out, |watch| {
        rebase(host, &args.name, &args.disk, &onto, watch)
    })??;
    let disk = &rebased.disk;
    let words = match rebased.bases.first() {
        Some(base) => format!("disk `{disk}` stands on {}", base.display()),
        None => format!("disk `{disk}` stands on nothing else"),
    };
    out.done(&rebased, words)?;
    Ok(ExitCode::SUCCESS)
}
