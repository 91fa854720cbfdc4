use std::process::ExitCode;

use crate::ops::{self, Host};
use crate::vm::VmName;

use super::output::Output;

/// Give a VM another name
///
/// The VM must not run. Its disks in its own directory and its saved state go
/// along; its UUID and its MAC addresses stay. VMs that come after it or require it,
/// and whether it starts at boot, follow. What past runs printed stays in the
/// journal under the old name: `journalctl --user --unit maqet-OLD`. What disks of other
/// VMs stand on, such as linked clones, or disks that were detached, stays where it is, and
/// so does the name: `maqet disk rebase --flat` has those stand on nothing else. Images that
/// you have put on top yourself, and that no VM has, are not known.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    old: VmName,
    /// Its new name
    new: VmName,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let renamed = ops::rename::rename(host, &args.old, &args.new)?;
    for name in &renamed.followed {
        out.note(format_args!("VM `{name}` names it `{}` now", renamed.name));
    }
    out.done(
        &renamed,
        format_args!("VM `{}` is `{}` now", renamed.old, renamed.name),
    )?;
    Ok(ExitCode::SUCCESS)
}
