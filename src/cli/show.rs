use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use serde::Serialize;

use crate::config::{VmConfig, render};
use crate::ops::{self, Host};
use crate::qemu::argv::paste;
use crate::vm::VmName;

use super::output::Output;

/// Show the definition of a VM
///
/// As it was added, with all paths made absolute. With --json, also all that it
/// does not say and has by default; what can be written as a value or as a table, such
/// as memory and cpu, is the table there: .memory.size, .cpu.model.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// Show the QEMU command line it becomes, ready to paste into a shell
    #[arg(long)]
    argv: bool,
    /// Show all values, those that it does not say too, and where each comes from
    #[arg(long, conflicts_with = "argv")]
    all: bool,
}

#[derive(Serialize)]
struct Definition<'a> {
    uuid: &'a str,
    #[serde(flatten)]
    config: &'a VmConfig,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    if args.argv {
        let argv = ops::show::argv(host, &args.name)?;
        self::argv(out, &argv)?;
    } else if args.all {
        let values = ops::show::values(host, &args.name)?;
        out.answer(&values, |w| w.write_all(render(&values).as_bytes()))?;
    } else {
        let shown = ops::show::show(host, &args.name)?;
        let definition = Definition {
            uuid: &shown.uuid,
            config: &shown.config,
        };
        out.answer(&definition, |w| {
            let end = if shown.text.ends_with('\n') { "" } else { "\n" };
            write!(w, "{}{end}", shown.text)
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows a command line.
pub(super) fn argv(out: &Output, argv: &[OsString]) -> anyhow::Result<()> {
    let words: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
    out.answer(&words, |w| {
        w.write_all(paste(argv).as_bytes())?;
        writeln!(w)
    })?;
    Ok(())
}
