//! What was printed: by QEMU and systemd in the journal, by the guest on its console.

use std::fs::File;
use std::path::PathBuf;

use crate::console;
use crate::systemd::journal;
use crate::vm::VmName;

use super::{Error, Host};

/// Which runs of a VM are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// One run: 0 is this or the last one, -1 the one before.
    Back(i32),
    /// All of them.
    All,
}

/// The journal's entries for a VM.
///
/// QEMU's events are in the journal too; they are left out here.
pub fn journal(
    host: &Host,
    name: &VmName,
    run: Run,
    lines: Option<usize>,
    follow: bool,
) -> Result<impl Iterator<Item = journal::Entry>, Error> {
    let unit = host.unit(name)?;
    // A VM whose definition is gone may still have a history; one that never was has none.
    if !unit.active_state.is_up() {
        host.vm(name)?;
    }
    let invocation = match run {
        Run::All => None,
        // A file is begun anew with each run.
        Run::Back(0) if host.output_log(name).is_some() => None,
        Run::Back(back) => match (back, unit.invocation_id) {
            (0, Some(id)) => Some(id),
            (back, _) => Some(nth_run(host, name, back)?),
        },
    };
    let query = journal::Query {
        invocation_id: invocation.as_deref(),
        // Of what follows the last lines cannot be counted after filtering.
        lines: lines.filter(|_| follow),
        follow,
        ..Default::default()
    };
    let entries = host.output(name, &query)?;
    Ok(last(
        entries.filter(|entry| !entry.is_monitor_traffic()),
        lines,
        follow,
    ))
}

/// The invocation of the run that is `back` runs before the last (0, -1, …).
fn nth_run(host: &Host, name: &VmName, back: i32) -> Result<String, Error> {
    let mut runs: Vec<String> = Vec::new();
    for entry in host.output(name, &journal::Query::default())? {
        if let Some(id) = entry.invocation_id
            && !runs.contains(&id)
        {
            runs.push(id);
        }
    }
    let index = runs.len() as i64 - 1 + i64::from(back);
    usize::try_from(index)
        .ok()
        .and_then(|index| runs.get(index).cloned())
        .ok_or_else(|| Error::NoRun {
            name: name.clone(),
            back,
            known: runs.len(),
        })
}

/// Only the last so many, of what is there when nothing is to follow.
fn last(
    entries: impl Iterator<Item = journal::Entry>,
    lines: Option<usize>,
    follow: bool,
) -> impl Iterator<Item = journal::Entry> {
    let mut rest = Some(entries);
    let kept = match lines {
        Some(count) if !follow => {
            let all: Vec<_> = rest.take().into_iter().flatten().collect();
            let skip = all.len().saturating_sub(count);
            Some(all.into_iter().skip(skip))
        }
        _ => None,
    };
    kept.into_iter().flatten().chain(rest.into_iter().flatten())
}

/// The console log of a VM, opened at its first byte that is still there.
pub fn console(host: &Host, name: &VmName, run: Run) -> Result<(PathBuf, File), Error> {
    let dir = host.paths.vm(name);
    let path = match run {
        Run::Back(0) | Run::All => dir.console_log(),
        Run::Back(-1) => dir.previous_console_log(),
        Run::Back(back) => {
            return Err(Error::NoRun {
                name: name.clone(),
                back,
                known: 2,
            });
        }
    };
    match console::open(&path) {
        Ok(file) => Ok((path, file)),
        Err(error) => {
            host.vm(name)?;
            Err(Error::io(format_args!(
                "there is no console log {}",
                path.display()
            ))(error))
        }
    }
}
