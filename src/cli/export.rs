use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::ops::{self, Error, Host};

use super::output::Output;
use super::several::Several;

/// Write definitions to a text, for `maqet import`
///
/// Each VM's definition, with all paths absolute, begins with a line that has its
/// name and its UUID, from which its MAC addresses derive. The text of one VM is
/// also what `maqet add` takes. Disks and saved states are not in it.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    several: Several,
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file, if it is there
    #[arg(long, requires = "output")]
    force: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let names = ops::select(host, &args.several.selectors())?;
    let exported = ops::export::export(host, &names)?;
    let text = ops::export::text(&exported);
    let Some(file) = args.output else {
        out.answer(&exported, |w| w.write_all(text.as_bytes()))?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    match args.force {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    let opened = options.open(&file).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Error::FileExists(file.clone()).into(),
        _ => anyhow::Error::new(error).context(format!("cannot write {}", file.display())),
    });
    opened?
        .write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", file.display()))?;
    out.done(
        &exported,
        format_args!("{} written to {}", count(exported.len()), file.display()),
    )?;
    Ok(ExitCode::SUCCESS)
}

fn count(vms: usize) -> String {
    match vms {
        1 => "1 VM".to_owned(),
        many => format!("{many} VMs"),
    }
}
