use std::process::ExitCode;

use crate::ops::Host;
use crate::ops::disk::ls::{Listed, ls};
use crate::vm::VmName;

use super::super::output::{Output, bytes, or_dash, table};

/// List the disks of a VM
///
/// SIZE is that of the disk, ON HOST what its image takes up. BASES is how many
/// images are below it. A disk that is only in the definition of a running VM is `not
/// plugged`, one that is only in the VM `not defined`.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let disks = ls(host, &args.name)?;
    let runs = disks.iter().any(|disk| disk.plugged);
    out.answer(&disks, |w| {
        let header = [
            "DISK",
            "SIZE",
            "ON HOST",
            "FORMAT",
            "BASES",
            "SNAPSHOTS",
            "STATE",
            "FILE",
        ];
        table(w, header, disks.iter().map(|disk| row(disk, runs)))
    })?;
    for disk in &disks {
        if let Some(fault) = &disk.fault {
            out.warn(format_args!(
                "disk `{0}`: {fault}; `maqet disk check {1} {0}` tells what mends it",
                disk.disk, args.name
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(disk: &Listed, runs: bool) -> [String; 8] {
    let state = match (disk.plugged, disk.defined) {
        _ if disk.fault.is_some() => "broken",
        (false, _) if runs => "not plugged",
        (true, false) => "not defined",
        _ if disk.file.is_none() => "empty",
        _ if disk.read_only => "read-only",
        _ => "ok",
    };
    [
        disk.disk.clone(),
        or_dash(disk.virtual_size.map(bytes)),
        or_dash(disk.actual_size.map(bytes)),
        or_dash(disk.format.clone()),
        disk.bases.len().to_string(),
        disk.snapshots.to_string(),
        state.to_owned(),
        or_dash(disk.file.as_ref().map(|file| file.display().to_string())),
    ]
}
