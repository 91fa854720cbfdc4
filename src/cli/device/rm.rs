use std::process::ExitCode;

use crate::config::TimeSpan;
use crate::ops::Host;
use crate::ops::device::Target;
use crate::ops::device::rm::{Options, Outcome, rm};
use crate::vm::VmName;

use super::super::output::Output;

/// Unplug a device from a running VM
///
/// Asks the guest to let go of it, and waits until it has. A guest that does
/// not keeps the device, and the exit status is 1. What was behind the device is
/// closed; the file of a disk stays.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// disk.NAME, net.NAME, usb.NAME, pci.NAME, device.NAME or the id of a device
    device: Target,
    /// How long the guest may take
    #[arg(long, value_name = "TIME", default_value = "30s")]
    timeout: TimeSpan,
    /// Ask the guest and do not wait for it
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
    /// Take it out of the definition, too
    #[arg(long)]
    persist: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let options = Options {
        timeout: (!args.no_wait).then(|| args.timeout.duration()),
        persist: args.persist,
    };
    let removed = rm(host, &args.name, &args.device, options)?;
    let kept = match removed.persistent {
        true if removed.outcome != Outcome::AtNextStart => ", and no longer in the definition",
        _ => "",
    };
    let what = &args.device;
    let words = match removed.outcome {
        Outcome::Unplugged => format!("`{what}` is unplugged{kept}"),
        Outcome::Requested => format!("the guest was asked to let go of `{what}`{kept}"),
        Outcome::AtNextStart => format!(
            "`{what}` is no longer in the definition; it stays plugged until the VM stops, \
             as its bus has no hot-plug"
        ),
        Outcome::WasNotPlugged => format!("`{what}` was not plugged{kept}"),
    };
    out.done(&removed, words)?;
    Ok(ExitCode::SUCCESS)
}
