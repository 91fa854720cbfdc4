use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::Difference;
use crate::ops::{self, Host};
use crate::vm::VmName;

use super::output::Output;

/// Show what differs between a running VM and its definition
///
/// Key by key: the value that the VM runs with, and the one that its next start gives
/// it; "live" are those that it can be given while it runs, as by `maqet set`. With a
/// file, what that would change in the definition. How a value is written, comments
/// and order make no difference.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// Definition file to compare the stored definition with
    file: Option<PathBuf>,
    /// Exit with status 9 if anything differs
    #[arg(long)]
    exit_code: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let differing = match &args.file {
        Some(file) => ops::diff::with_file(host, &args.name, &ops::add::read_whole(host, file)?)?,
        None => ops::diff::running(host, &args.name)?,
    };
    out.answer(&differing, |w| {
        for it in &differing {
            let live = if it.live { ", live" } else { "" };
            writeln!(w, "{}{live}", words(&it.difference))?;
        }
        Ok(())
    })?;
    Ok(match args.exit_code && !differing.is_empty() {
        true => super::error::DIFFERS.into(),
        false => ExitCode::SUCCESS,
    })
}

/// A difference on one line.
pub(super) fn words(difference: &Difference) -> String {
    let Difference {
        key,
        old_text,
        new_text,
        ..
    } = difference;
    format!("{key}: {old_text} -> {new_text}")
}
