use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::config::DeviceName;
use crate::ops::Host;
use crate::ops::disk::Settings;
use crate::ops::disk::attach::attach;
use crate::vm::VmName;

use super::super::output::Output;
use super::tell_when;

/// Give a VM a file or block device that is there as a disk
///
/// It stays where it is, and `[disk.NAME]` is added to the definition. A running VM gets it
/// at once where its bus can do that, and else at its next start. Two VMs cannot have
/// one image, unless all have it with read-only=on; nor can one write an image that disks
/// of others stand on.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the disk
    disk: DeviceName,
    /// The image or block device
    file: PathBuf,
    /// Keys of its table, maqet.toml(5), such as read-only=on
    #[arg(value_name = "KEY=VALUE")]
    words: Vec<String>,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let settings = Settings {
        words: args.words,
        dir: std::env::current_dir().context("cannot tell the current directory")?,
    };
    let attached = attach(host, &args.name, &args.disk, &settings, &args.file)?;
    tell_when(out, &attached.when);
    let words = format_args!(
        "disk `{}` attached: {} ({})",
        attached.disk,
        attached.file.display(),
        attached.format
    );
    out.done(&attached, words)?;
    Ok(ExitCode::SUCCESS)
}
