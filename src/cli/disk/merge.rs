use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::DeviceName;
use crate::ops::Host;
use crate::ops::disk::merge::merge;
use crate::qmp::Job;
use crate::vm::VmName;

use super::super::interrupt;
use super::super::job::Bar;
use super::super::output::Output;

/// Merge a disk into the image that it stands on
///
/// For a VM whose clones are gone: what was written since it was cloned is written into
/// the image that was frozen then, while the VM runs or not, and the disk goes on there; its
/// overlay is deleted. If it was cloned several times, that goes as far down as nobody else
/// stands on an image, no other VM and no snapshot, and as no snapshot is within the overlay;
/// what is in the way of more is said. Only images that maqet made are written, and that
/// which --into names. Interrupted, the disk goes on in its overlay, and can be merged again.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the disk; without, all disks that can be merged
    disk: Option<DeviceName>,
    /// The image to go no further down than; needed for one that maqet has not made
    #[arg(long, value_name = "FILE", requires = "disk")]
    into: Option<PathBuf>,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let interrupted = interrupt::watch()?;
    let mut bar = Bar::new(out);
    let mut watch = |job: &Job| {
        if let Some(show) = bar.shows() {
            show(job);
        }
        !interrupted()
    };
    let (disk, into) = (args.disk.as_ref(), args.into.as_deref());
    let merged = merge(host, &args.name, disk, into, &mut watch);
    bar.end();
    let merged = merged?;
    let words: Vec<String> = merged.disks.iter().map(said).collect();
    out.done(&merged, words.join("\n"))?;
    for obstacle in &merged.obstacles {
        out.note(format_args!("no further: {obstacle}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn said(it: &crate::ops::disk::merge::Disk) -> String {
    format!("disk `{}` is {}", it.disk, it.file.display())
}
