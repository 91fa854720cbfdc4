use std::process::ExitCode;

use crate::ops::set::{Change, Changed};
use crate::ops::{self, Host};
use crate::vm::VmName;

use super::output::Output;

/// Change the limits of a VM
///
/// Properties of its unit are given other values, with the names and the syntax
/// of unit files, such as MemoryHigh=3G or CPUQuota=150%; an empty value is no
/// limit. A running VM has them at once and until it stops. With --persist its
/// definition is changed too, which is the way for what systemd does not change
/// while a unit runs, such as Restart. Either all are changed or none.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// Properties of the unit: systemd.resource-control(5), systemd.exec(5), systemd.service(5)
    #[arg(required = true, value_name = "PROPERTY=VALUE")]
    changes: Vec<Change>,
    /// Change the definition too, or alone if the VM does not run
    #[arg(long)]
    persist: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let changed = ops::set::set(host, &args.name, &args.changes, args.persist)?;
    out.done(&changed, words(&changed))?;
    Ok(ExitCode::SUCCESS)
}

fn words(changed: &Changed) -> String {
    let mut parts = Vec::new();
    if !changed.now.is_empty() {
        parts.push(format!("{} changed", changed.now.join(", ")));
    }
    if !changed.next_start.is_empty() {
        parts.push(format!(
            "{} from its next start on",
            changed.next_start.join(", ")
        ));
    }
    format!("VM `{}`: {}", changed.name, parts.join("; "))
}
