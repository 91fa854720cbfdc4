use std::process::ExitCode;

use crate::ops::Host;
use crate::ops::snapshot::ls::show;
use crate::vm::VmName;

use super::super::output::{Output, bytes};
use super::ls::{time, words};

/// Show a snapshot, with the definition that the VM had
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the snapshot
    snapshot: String,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let snapshot = show(host, &args.name, &args.snapshot)?;
    out.answer(&snapshot, |w| {
        let mut line = |key: &str, value: String| match value.is_empty() {
            true => Ok(()),
            false => writeln!(w, "{:<13} {value}", format!("{key}:")),
        };
        line("name", snapshot.name.clone())?;
        line("parent", snapshot.parent.clone().unwrap_or_default())?;
        line(
            "created",
            snapshot.created_at.and_then(time).unwrap_or_default(),
        )?;
        line("description", words(&snapshot))?;
        line(
            "memory",
            snapshot.memory_bytes.map(bytes).unwrap_or_default(),
        )?;
        for disk in &snapshot.disks {
            line("disk", disk.display().to_string())?;
        }
        for disk in &snapshot.elsewhere {
            line("no disk now", disk.display().to_string())?;
        }
        for disk in &snapshot.missing {
            line("missing in", disk.display().to_string())?;
        }
        for difference in &snapshot.misfits {
            line("differs", difference.clone())?;
        }
        match &snapshot.definition {
            Some(definition) => write!(w, "\n{definition}"),
            None => Ok(()),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
