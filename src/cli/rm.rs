use std::process::ExitCode;

use crate::ops::{self, Host, Selector};

use super::output::Output;
use super::several::{Tally, Traits};

/// Forget VMs
///
/// Deletes the definition of a VM that does not run. Disks stay where they are;
/// with --disks, those that maqet itself made and that the VM has are deleted. A disk
/// that you made is never deleted, nor one that you detached and did not attach again, nor
/// what such a disk stands on; nor is anything of a VM whose definition says
/// `protect = true`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Names of VMs, or patterns such as 'ci-*'
    #[arg(required_unless_present_any = ["group", "label"], value_name = "NAME")]
    names: Vec<Selector>,
    #[command(flatten)]
    traits: Traits,
    /// Delete the disks that maqet made for it, too
    #[arg(long)]
    disks: bool,
    /// Give up the saved state of a VM that has one
    #[arg(long)]
    discard_saved: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let mut tally = Tally::default();
    for name in &ops::select(host, &args.traits.selectors(&args.names))? {
        tally.count(
            ops::rm::rm(host, name, args.disks, args.discard_saved),
            |removed| {
                for disk in &removed.deleted {
                    out.note(format_args!("deleted {}", disk.display()));
                }
                for disk in &removed.kept {
                    out.note(format_args!("kept {}", disk.display()));
                }
                for by in &removed.required_by {
                    out.warn(format_args!(
                        "VM `{by}` requires `{name}`, and will not start"
                    ));
                }
                for vm in &removed.left_alone {
                    out.note(format_args!(
                        "only VM `{vm}` stands on what both did: `maqet disk merge {vm}` ends that"
                    ));
                }
                if removed.was_enabled {
                    out.note(format_args!("VM `{name}` does not start at boot any more"));
                }
                out.done(&removed, format_args!("VM `{name}` removed"))
            },
        );
    }
    tally.finish()
}
