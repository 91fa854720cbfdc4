use std::process::ExitCode;

use crate::ops::Host;
use crate::ops::snapshot::create::{Options, create};
use crate::vm::VmName;

use super::super::interrupt;
use super::super::output::{Output, bytes};

/// Make a snapshot of a VM
///
/// Of all its disks at once and, if it runs, of its memory and devices; the guest
/// goes on when that is done. It is within the qcow2 images, under its name. What is
/// in its way is said before anything is done. Interrupted, it is undone.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the snapshot: any text, but with memory not of digits alone
    snapshot: String,
    /// What to say of it in lists
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Of the disks alone, though the VM runs
    #[arg(long, group = "disks_alone")]
    disk_only: bool,
    /// Have the guest agent freeze the guest's file systems meanwhile
    ///
    /// They are whole in the snapshot then, within its images or beside them, and thawed
    /// whatever becomes of this command.
    #[arg(long, requires = "disks_alone")]
    quiesce: bool,
    /// Beside the images, also of raw ones: each stays as it is, and an overlay takes what
    /// is written from then on
    ///
    /// Of the disks alone. `maqet snapshot merge` ends it. Snapshots within the images cannot
    /// be restored before that.
    #[arg(long, group = "disks_alone")]
    external: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let interrupted = interrupt::watch()?;
    let options = Options {
        description: args.description.as_deref(),
        disk_only: args.disk_only,
        quiesce: args.quiesce,
        external: args.external,
        interrupted: &interrupted,
    };
    let made = create(host, &args.name, &args.snapshot, &options)?;
    let of = match (made.memory_bytes, made.disks.len()) {
        (Some(memory), _) => format!("with memory, {}", bytes(memory)),
        (None, 1) => "of one disk".to_owned(),
        (None, disks) => format!("of {disks} disks"),
    };
    let words = format!("snapshot `{}` of VM `{}` made ({of})", made.name, made.vm);
    out.done(&made, words)?;
    if !made.below.is_empty() {
        out.warn(format_args!(
            "`{}` cannot be restored until `{}` is merged",
            made.below.join("`, `"),
            made.name
        ));
    }
    Ok(ExitCode::SUCCESS)
}
