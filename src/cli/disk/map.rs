use std::process::ExitCode;

use crate::config::DeviceName;
use crate::image::Extent;
use crate::ops::Host;
use crate::ops::disk::map::{Map, map};
use crate::vm::VmName;

use super::super::output::{Output, bytes, table};

/// Show where the data of a disk is
///
/// Each part of the disk, in bytes from its beginning, and the image that has it: the
/// disk's own, or one below it. The VM must not run.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the disk
    disk: DeviceName,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let mapped = map(host, &args.name, &args.disk)?;
    out.answer(&mapped, |w| {
        let header = ["START", "LENGTH", "WHAT", "IMAGE"];
        table(
            w,
            header,
            mapped.extents.iter().map(|part| row(&mapped, part)),
        )
    })?;
    out.note(format_args!(
        "a copy takes {}, and may come to take {}",
        bytes(mapped.required),
        bytes(mapped.fully_allocated)
    ));
    Ok(ExitCode::SUCCESS)
}

fn row(map: &Map, extent: &Extent) -> [String; 4] {
    let what = match (extent.data, extent.zero) {
        (true, false) => "data",
        (true, true) => "zeroes, written",
        (false, true) => "zeroes",
        (false, false) => "nothing",
    };
    let image = map.images.get(extent.depth as usize);
    let image = match extent.data {
        true => image.map(|image| image.path.display().to_string()),
        false => None,
    };
    [
        extent.start.to_string(),
        extent.length.to_string(),
        what.to_owned(),
        image.unwrap_or_else(|| "-".to_owned()),
    ]
}
