use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::ops::add;
use crate::ops::apply::{Applied, Options, Outcome};
use crate::ops::{self, Host};
use crate::vm::VmName;

use super::output::Output;

/// Make or change VMs, so that they are as definition files say
///
/// Each file is one VM. One that is not there is added, as by `maqet add`; one that
/// differs is changed, at once where that can be while it runs; one that is as its file
/// says stays as it is, so that the same again does nothing. All files are checked
/// before anything is done. What stopped VMs are made of is changed for all or none;
/// each running VM succeeds or fails for itself.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Definition files, see maqet.toml(5); `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
    /// Leave running VMs as they are until their next start
    #[arg(long)]
    no_live: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a VmName,
    #[serde(flatten)]
    applied: Option<&'a Applied>,
    error: Option<String>,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let mut sources = Vec::new();
    for file in &args.files {
        sources.push(add::read_whole(host, file)?);
    }
    for note in sources.iter().flat_map(|source| &source.notes) {
        out.note(note);
    }
    let options = Options {
        live: !args.no_live,
        dry_run: args.dry_run,
    };
    let results = ops::apply::apply(host, &sources, options)?;
    let mut code = ExitCode::SUCCESS;
    let mut lines = Vec::new();
    let mut errors = Vec::new();
    for (name, result) in results {
        match result {
            Ok(applied) => {
                tell(out, &applied, args.dry_run);
                lines.push((name, Some(applied), None));
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                lines.push((name, None, Some(error.to_string())));
                errors.push(error);
            }
        }
    }
    if out.json {
        let lines: Vec<Line<'_>> = lines
            .iter()
            .map(|(name, applied, error)| Line {
                name,
                applied: applied.as_ref(),
                error: error.clone(),
            })
            .collect();
        out.answer(&lines, |_| Ok(()))?;
    }
    for error in &errors {
        code = super::error::report(error);
    }
    Ok(code)
}

fn tell(out: &Output, applied: &Applied, dry_run: bool) {
    let name = &applied.name;
    for warning in &applied.warnings {
        out.warn(warning);
    }
    for disk in &applied.made {
        out.note(format_args!("made {}", disk.display()));
    }
    if !dry_run {
        super::set::kept(out, &applied.kept);
    }
    let would = if dry_run { "would be " } else { "" };
    match applied.outcome {
        Outcome::Created => out.note(format_args!("VM `{name}`: {would}created")),
        Outcome::Unchanged => out.note(format_args!("VM `{name}`: unchanged")),
        Outcome::Changed if applied.changes.is_empty() => out.note(format_args!(
            "VM `{name}`: only the text of its definition {}",
            if dry_run {
                "would change"
            } else {
                "has changed"
            }
        )),
        Outcome::Changed => {
            for change in &applied.changes {
                out.note(format_args!("VM `{name}`: {}", super::set::words(change)));
            }
        }
    }
}
