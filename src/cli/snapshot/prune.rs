use std::process::ExitCode;

use crate::ops::Host;
use crate::ops::snapshot::prune::{prune, too_old};
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
    if args.dry_run {
        let old = too_old(host, &args.name, args.keep)?;
        let names: Vec<String> = old.into_iter().map(|it| it.name).collect();
        out.answer(&names, |w| {
            names.iter().try_for_each(|name| writeln!(w, "{name}"))
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let gone = prune(host, &args.name, args.keep)?;
    let names: Vec<String> = gone.iter().map(|it| format!("`{}`", it.name)).collect();
    let vm = &args.name;
    let words = match names.as_slice() {
        [] => format!("no snapshot of VM `{vm}` is too old"),
        names => format!("snapshots of VM `{vm}` deleted: {}", names.join(", ")),
    };
    out.done(&gone, words)?;
    Ok(ExitCode::SUCCESS)
}
