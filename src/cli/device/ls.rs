use std::process::ExitCode;

use crate::ops::Host;
use crate::ops::device::ls::{Device, ls};
use crate::vm::VmName;

use super::super::output::{Output, or_dash, table};

/// List the devices of a running VM
///
/// Those that it was given, not those that are part of its board. FROM is where
/// a device comes from: `definition`; `definition, live` for one that was plugged
/// while the VM ran and is in the definition, too; `live` for one that is gone at
/// the next start; `start` for one that the VM started with and the definition
/// does not name. One that the definition has and the VM has not is `not plugged`.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let devices = ls(host, &args.name)?;
    out.answer(&devices, |w| {
        let header = [
            "DEVICE", "DRIVER", "BUS", "ADDRESS", "FROM", "UNPLUG", "BACKING",
        ];
        table(w, header, devices.iter().map(row))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn row(device: &Device) -> [String; 7] {
    let from = match (device.plugged, device.defined, device.hotplugged) {
        (false, _, _) => "not plugged",
        (true, true, false) => "definition",
        (true, true, true) => "definition, live",
        (true, false, true) => "live",
        (true, false, false) => "start",
    };
    [
        device.name.clone(),
        or_dash(device.driver.clone()),
        or_dash(device.bus.clone()),
        or_dash(device.address.clone()),
        from.to_owned(),
        if device.unpluggable { "yes" } else { "no" }.to_owned(),
        or_dash(device.backing.clone()),
    ]
}
