use std::process::ExitCode;

use crate::ops::ls::{List, Listed};
use crate::ops::{self, Host, Selector};

use super::output::{Output, bytes, or_dash, span, table};
use super::several::Traits;

/// List VMs and what they are doing
///
/// A running VM is in the state that QEMU says: running, paused, prelaunch and
/// others. All other states are systemd's: starting, stopping, failed,
/// stopped; and saved, for one that goes on from there with the next start.
/// BOOT says whether it starts when the user manager does: at boot, if you linger.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Names of VMs, or patterns such as 'ci-*' [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<Selector>,
    #[command(flatten)]
    traits: Traits,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let List { vms, warnings } = ops::ls::ls(host, &args.traits.selectors(&args.names))?;
    for warning in warnings {
        out.warn(warning);
    }
    out.answer(&vms, |w| {
        table(
            w,
            ["NAME", "STATE", "MEMORY", "CPUS", "UPTIME", "BOOT", "UNIT"],
            vms.iter().map(row),
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn row(vm: &Listed) -> [String; 7] {
    [
        vm.name.to_string(),
        vm.state.as_str().to_owned(),
        or_dash(vm.memory.map(bytes)),
        or_dash(vm.cpus.map(|cpus| cpus.to_string())),
        or_dash(vm.uptime.map(span)),
        if vm.enabled { "yes" } else { "no" }.to_owned(),
        vm.unit.clone(),
    ]
}
