use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::config::{DeviceName, Format, Size};
use crate::ops::Host;
use crate::ops::disk::add::{Options, add};
use crate::ops::disk::{Settings, Source};
use crate::vm::VmName;

use super::super::output::{Output, bytes};
use super::progress::watched;
use super::tell_when;

/// Make a disk
///
/// Its image is made in the VM's directory, or where file= says, and `[disk.NAME]` is
/// added to the definition. A running VM gets it at once where its bus can do that, and
/// else at its next start.
///
/// With --from, the disk has what is in FILE: a qcow2, VMDK, VDI, VHDX, VHD or QED image, told
/// by its first bytes, or a raw disk; compressed with gzip, xz or zstd or not. It is copied,
/// never used in place. An image that names other files, as a backing file for one, is
/// refused without --trust-names: those would be copied, too.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the disk
    disk: DeviceName,
    /// Size of the disk; with --from, if it is to be larger than what is there
    #[arg(long, required_unless_present = "from")]
    size: Option<Size>,
    /// What the disk is made from
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// What the SHA-256 of FILE must be, as it is, compressed or not
    #[arg(long, value_name = "DIGITS", requires = "from", value_parser = sum)]
    sha256: Option<String>,
    /// QEMU's name of the format of FILE, which its first bytes tell otherwise
    #[arg(long, value_name = "FORMAT", requires = "from")]
    from_format: Option<String>,
    /// Have other files read that FILE names
    #[arg(long, requires = "from")]
    trust_names: bool,
    /// Format of the disk's own image: qcow2 or raw
    #[arg(long, value_parser = format)]
    format: Option<Format>,
    /// Keys of its table, maqet.toml(5), such as interface=scsi
    #[arg(value_name = "KEY=VALUE")]
    words: Vec<String>,
}

fn sum(text: &str) -> Result<String, &'static str> {
    match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_owned()),
        false => Err("it has 64 digits, 0 to 9 and a to f"),
    }
}

fn format(text: &str) -> Result<Format, &'static str> {
    match text {
        "qcow2" => Ok(Format::Qcow2),
        "raw" => Ok(Format::Raw),
        _ => Err("it is `qcow2` or `raw`"),
    }
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let mut words = args.words;
    if let Some(format) = args.format {
        words.insert(0, format!("format={}", format.as_str()));
    }
    let options = Options {
        size: args.size,
        from: args.from.map(|file| Source {
            file,
            sha256: args.sha256,
            format: args.from_format,
            trusted: args.trust_names,
        }),
        settings: Settings {
            words,
            dir: std::env::current_dir().context("cannot tell the current directory")?,
        },
    };
    let added = watched(out, |watch| {
        add(host, &args.name, &args.disk, &options, watch)
    })??;
    tell_when(out, &added.when);
    let words = format_args!(
        "disk `{}` made: {}, {} in {}",
        added.disk,
        bytes(added.virtual_size),
        added.format,
        added.file.display()
    );
    out.done(&added, words)?;
    Ok(ExitCode::SUCCESS)
}
