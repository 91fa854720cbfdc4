use std::path::PathBuf;
use std::process::ExitCode;

use crate::ops::Host;
use crate::ops::disk::orphans::{self, File, Orphans};

use super::super::output::{Output, bytes, or_dash, table};

/// Find files that no VM names, and disks whose files are missing
///
/// Looks into the directories of VMs under $XDG_DATA_HOME/maqet, also of such that are
/// not known any more. Nothing is deleted but the FILEs that are named with --delete, all of
/// which must be in that list. One that another FILE of the list stands on goes only with that.
/// Where the database has lost VMs that were started, nothing is an orphan.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Delete these
    #[arg(long, value_name = "FILE", num_args = 1..)]
    delete: Vec<PathBuf>,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    if !args.delete.is_empty() {
        let deleted = orphans::delete(host, &args.delete)?;
        for file in &deleted {
            out.note(format_args!("deleted {}", file.display()));
        }
        if out.json {
            out.answer(&deleted, |_| Ok(()))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let found = orphans::orphans(host)?;
    out.answer(&found, |w| {
        let header = ["VM", "SIZE", "STATE", "FILE"];
        table(w, header, rows(&found))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn rows(found: &Orphans) -> impl Iterator<Item = [String; 4]> {
    let files = found.files.iter().map(|file: &File| {
        let state = match (file.unfinished, &file.vm) {
            (true, _) => "unfinished",
            (false, Some(_)) => "orphan",
            (false, None) => "orphan of a VM that is gone",
        };
        [
            or_dash(file.vm.as_ref().map(ToString::to_string)),
            bytes(file.actual_size),
            state.to_owned(),
            file.file.display().to_string(),
        ]
    });
    let missing = found.missing.iter().map(|it| {
        [
            it.vm.to_string(),
            "-".to_owned(),
            format!("disk `{}` is broken", it.disk),
            it.fault.clone(),
        ]
    });
    files.chain(missing)
}
