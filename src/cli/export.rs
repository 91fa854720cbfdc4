use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::slice::from_ref;

use anyhow::Context;

use crate::ops::export::Exported;
use crate::ops::{self, Error, Host};

use super::output::Output;
use super::several::Several;

/// Write definitions to a text, for `maqet import`
///
/// Each VM's definition, with all paths absolute, begins with a line that has its
/// name, its UUID, from which its MAC addresses derive, and whether it starts at boot.
/// The text of one VM is also what `maqet add` takes. Disks and saved states are not in it.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    several: Several,
    /// Write to a file instead of standard output, or to NAME.toml for each VM in a directory
    #[arg(short, long, value_name = "FILE|DIR/")]
    output: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long, requires = "output")]
    force: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let names = ops::select(host, &args.several.selectors())?;
    let exported = ops::export::export(host, &names)?;
    let Some(output) = args.output else {
        let text = ops::export::text(&exported);
        out.answer(&exported, |w| w.write_all(text.as_bytes()))?;
        return Ok(ExitCode::SUCCESS);
    };
    let is_dir = output.is_dir() || output.as_os_str().as_bytes().ends_with(b"/");
    let files: Vec<(PathBuf, &[Exported])> = match is_dir {
        true => exported
            .iter()
            .map(|vm| (output.join(format!("{}.toml", vm.name)), from_ref(vm)))
            .collect(),
        false => vec![(output.clone(), &exported)],
    };
    if let Some((file, _)) = files.iter().find(|(file, _)| file.exists())
        && !args.force
    {
        return Err(Error::FileExists(file.clone()).into());
    }
    if is_dir {
        std::fs::create_dir_all(&output)
            .with_context(|| format!("cannot make {}", output.display()))?;
    }
    for (file, vms) in &files {
        write(file, &ops::export::text(vms), args.force)?;
    }
    out.done(
        &exported,
        format_args!("{} written to {}", count(exported.len()), output.display()),
    )?;
    Ok(ExitCode::SUCCESS)
}

fn write(file: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    match force {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    let opened = options.open(file).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Error::FileExists(file.to_owned()).into(),
        _ => anyhow::Error::new(error).context(format!("cannot write {}", file.display())),
    });
    opened?
        .write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", file.display()))
}

fn count(vms: usize) -> String {
    match vms {
        1 => "1 VM".to_owned(),
        many => format!("{many} VMs"),
    }
}
