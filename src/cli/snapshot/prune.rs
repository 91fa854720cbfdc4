use std::process::ExitCode;

use crate::ops::Host;
use crate::ops::snapshot::prune::{prune, select};
use crate::vm::VmName;

use super::super::output::Output;

/// Delete the older snapshots of a VM
///
/// The oldest go first. Those that have a description, the one that the VM is at, external
/// ones and those in images below their overlays, and those that were made without maqet stay,
/// and do not count.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// How many to keep
    #[arg(long, value_name = "NUMBER")]
    keep: usize,
    /// Tell what would go, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let vm = &args.name;
    let found = select(host, vm, args.keep)?;
    if args.dry_run {
        let names: Vec<String> = found.old.into_iter().map(|it| it.name).collect();
        out.answer(&names, |w| {
            names.iter().try_for_each(|name| writeln!(w, "{name}"))
        })?;
    } else {
        let gone = prune(host, vm, &found.old)?;
        let names: Vec<String> = gone.iter().map(|it| format!("`{}`", it.name)).collect();
        let words = match names.as_slice() {
            [] => format!("no snapshot of VM `{vm}` is too old"),
            names => format!("snapshots of VM `{vm}` deleted: {}", names.join(", ")),
        };
        out.done(&gone, words)?;
    }
    for (name, why) in found.fixed {
        out.note(format_args!("kept `{name}`: {why}"));
    }
    Ok(ExitCode::SUCCESS)
}
