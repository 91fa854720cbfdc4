use std::process::ExitCode;

use anyhow::Context;

use crate::config::Assignment;
use crate::ops::clone::{How, Options};
use crate::ops::{self, Host};
use crate::vm::VmName;

use super::disk::progress::watched;
use super::output::Output;

/// Make a VM like another
///
/// Its disks are overlays, made in milliseconds: what a disk of the source has by now is
/// frozen as a base, and both VMs go on in overlays on top of it, the source too. Disks
/// for reading only are shared. The base stays where it is and must not be written any
/// more, nor deleted as long as one of them is there. A running VM goes on meanwhile; to the
/// new one it is as if the power had been cut.
///
/// With --full, disks are copied instead; those of a running VM all as they are at one
/// moment, while it goes on. Interrupted, nothing is left.
///
/// The new VM has the definition of the source, with a UUID, MAC addresses and a vsock CID
/// of its own; those that the definition writes down are left out, and so is `protect`. It
/// does not start at boot. Saved states and snapshots are not copied. What only one of both
/// can have at a time, such as a forwarded port, is told.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the new one
    new: VmName,
    /// Copy the disks, so that none stands on another
    #[arg(long)]
    full: bool,
    /// Have the disks as they were at a snapshot: one beside its images, or with --full any
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Option<String>,
    /// Have the guest agent of a running VM freeze the guest's file systems at that moment
    ///
    /// They are whole in the new one then, and thawed whatever becomes of this command.
    #[arg(long, conflicts_with = "snapshot")]
    quiesce: bool,
    /// Give any key of the new one a value, as `maqet set` does, such as memory=4G; for several, give it several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Assignment>,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let dir = std::env::current_dir().context("cannot tell the current directory")?;
    let options = Options {
        full: args.full,
        snapshot: args.snapshot.as_deref(),
        quiesce: args.quiesce,
        set: &args.set,
        dir: &dir,
    };
    let cloned = watched(out, |watch| {
        ops::clone::clone(host, &args.name, &args.new, &options, watch)
    })??;
    for disk in &cloned.disks {
        let (name, file) = (&disk.disk, disk.file.display());
        match disk.how {
            How::Shared => out.note(format_args!("disk `{name}` is shared: {file}")),
            How::Copied => out.note(format_args!("disk `{name}` is copied: {file}")),
            How::Linked => out.note(format_args!(
                "disk `{name}` is {file}, on {}",
                disk.from.display()
            )),
        }
        if let Some(own) = &disk.source {
            out.note(format_args!(
                "disk `{name}` of VM `{}` goes on in {}",
                cloned.from,
                own.display()
            ));
        }
    }
    for warning in &cloned.warnings {
        out.warn(warning);
    }
    let words = format_args!("VM `{}` is a clone of `{}`", cloned.name, cloned.from);
    out.done(&cloned, words)?;
    Ok(ExitCode::SUCCESS)
}
