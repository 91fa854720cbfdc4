use std::process::ExitCode;

use serde::Serialize;

use crate::ops::{self, Host};
use crate::vm::VmName;

use super::output::Output;
use super::several::Several;

/// Do not start VMs at boot any more
///
/// Disables the unit maqet@NAME.service. A VM that runs goes on running. One that
/// is enabled and has no definition any more can be named, too.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    several: Several,
}

#[derive(Serialize)]
struct Disabled<'a> {
    name: &'a VmName,
    outcome: &'static str,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let names = ops::disable::select(host, &args.several.selectors())?;
    let changed = ops::disable::disable(host, &names)?;
    for name in &names {
        let (outcome, words) = match changed.contains(name) {
            true => ("disabled", "does not start at boot any more"),
            false => ("already-disabled", "did not start at boot"),
        };
        let disabled = Disabled { name, outcome };
        out.done(&disabled, format_args!("VM `{name}` {words}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
