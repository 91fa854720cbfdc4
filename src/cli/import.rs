use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::ops::{self, Host, add::Source};
use crate::vm::VmName;

use super::output::Output;

/// Add the VMs of a text that `maqet export` has written
///
/// Either all VMs of all files are added or none. They have their UUIDs again, and
/// with them their MAC addresses, and start at boot if they did. Disks are neither
/// copied nor made: which ones are not there is said. A VM that is there already is refused, unless --replace names
/// it: then it gets the definition and the UUID, and keeps all else.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Files to read, or `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A VM whose definition may be replaced; for several, give it several times
    #[arg(long, value_name = "NAME")]
    replace: Vec<VmName>,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let sources: Vec<Source> = args
        .files
        .iter()
        .map(|file| read(file))
        .collect::<anyhow::Result<_>>()?;
    let imported = ops::import::import(host, &sources, &args.replace)?;
    for vm in &imported {
        let what = if vm.replaced { "replaced" } else { "added" };
        out.note(format_args!("VM `{}` {what}", vm.name));
        match vm.enabled {
            Some(true) => out.note("  it starts at boot"),
            Some(false) => out.note(format_args!(
                "  it does not start at boot yet: `maqet enable {}`",
                vm.name
            )),
            None => {}
        }
        for file in &vm.missing {
            out.note(format_args!("  {} is not there", file.display()));
        }
        for warning in &vm.warnings {
            out.warn(warning);
        }
    }
    if out.json {
        out.answer(&imported, |_| Ok(()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> anyhow::Result<Source> {
    if file != Path::new("-") {
        return Ok(ops::add::read(file)?);
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("cannot read standard input")?;
    Ok(Source {
        text,
        notes: Vec::new(),
        file: std::path::absolute("standard-input.toml")
            .context("cannot tell the current directory")?,
    })
}
