use std::process::ExitCode;

use crate::config::DeviceName;
use crate::ops::Host;
use crate::ops::disk::check::{Image, check};
use crate::vm::VmName;

use super::super::error::FAILED;
use super::super::output::{Output, table};

/// Check whether images are sound
///
/// Those of a disk, or of all disks of a VM, and of what they stand on. CORRUPT is how
/// often an image contradicts itself, which may have lost data: the exit status is 1 then.
/// LEAKED clusters take up room and are harmless.
///
/// The VM must not run: QEMU has some of an image in memory, and what is in the file
/// need not fit together meanwhile.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the disk; without it, all are checked
    disk: Option<DeviceName>,
    /// Mend what can be mended in the disks' own images
    #[arg(long)]
    repair: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let images = check(host, &args.name, args.disk.as_ref(), args.repair)?;
    out.answer(&images, |w| {
        let header = ["DISK", "RESULT", "CORRUPT", "LEAKED", "MENDED", "FILE"];
        table(w, header, images.iter().map(row))
    })?;
    let is_damaged = |image: &Image| image.checked.corruptions + image.checked.check_errors > 0;
    Ok(match images.iter().any(is_damaged) {
        true => FAILED.into(),
        false => ExitCode::SUCCESS,
    })
}

fn row(image: &Image) -> [String; 6] {
    let checked = &image.checked;
    let result = match checked {
        _ if !checked.can_be_checked => "has no check",
        _ if checked.is_sound() => "ok",
        _ if checked.corruptions + checked.check_errors == 0 => "leaks",
        _ => "damaged",
    };
    [
        image.disk.to_string(),
        result.to_owned(),
        checked.corruptions.to_string(),
        checked.leaks.to_string(),
        (checked.corruptions_fixed + checked.leaks_fixed).to_string(),
        image.file.display().to_string(),
    ]
}
