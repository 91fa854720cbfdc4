use std::process::ExitCode;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::ops::Host;
use crate::ops::snapshot::ls::{Listed, ls};
use crate::vm::VmName;

use super::super::output::{Output, bytes, or_dash, table};

/// List the snapshots of a VM
///
/// Each stands below the one that it came from; the one that the VM's disks have come
/// from is marked with `*`. MEMORY is what of the guest's memory is in it, `-` if it is
/// of the disks alone. One that cannot be restored as things are, or was made without
/// maqet, says so.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let snapshots = ls(host, &args.name)?;
    out.answer(&snapshots, |w| {
        let header = ["NAME", "CREATED", "MEMORY", "DESCRIPTION"];
        table(w, header, snapshots.iter().map(row))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn row(snapshot: &Listed) -> [String; 4] {
    let mark = if snapshot.is_current { " *" } else { "" };
    [
        format!("{}{}{mark}", "  ".repeat(snapshot.depth), snapshot.name),
        or_dash(snapshot.created_at.and_then(time)),
        or_dash(snapshot.memory_bytes.map(bytes)),
        words(snapshot),
    ]
}

/// The description, and what is to be known besides.
pub(super) fn words(snapshot: &Listed) -> String {
    let mut words: Vec<String> = snapshot.description.iter().cloned().collect();
    if !snapshot.missing.is_empty() {
        words.push(match snapshot.missing.len() {
            1 => "(not whole: one disk lacks it)".to_owned(),
            count => format!("(not whole: {count} disks lack it)"),
        });
    }
    if !snapshot.elsewhere.is_empty() {
        words.push(format!(
            "(the VM does not have {} of its disks now)",
            snapshot.elsewhere.len()
        ));
    }
    if snapshot.resumes {
        words.push("(the next start goes on here)".to_owned());
    }
    match snapshot.below.as_slice() {
        [] if snapshot.is_below => {
            words.push("(cannot be restored: an overlay stands on its image)".to_owned());
        }
        [] => {}
        names => {
            let names = names.join("`, then `");
            words.push(format!("(to be restored, first merge `{names}`)"));
        }
    }
    if !snapshot.misfits.is_empty() {
        words.push("(of another machine: only its disks can be restored)".to_owned());
    }
    if snapshot.is_external {
        words.push("(external)".to_owned());
    }
    if snapshot.is_unfinished {
        words.push("(unfinished)".to_owned());
    }
    if snapshot.is_merging {
        words.push("(partly merged: it can only be merged)".to_owned());
    }
    if snapshot.is_foreign {
        words.push("(made without maqet)".to_owned());
    }
    words.join(" ")
}

/// A time for people, in their own zone.
pub(super) fn time(time: SystemTime) -> Option<String> {
    let time = Timestamp::try_from(time).ok()?;
    let local = time.to_zoned_datetime(TimeZone::system());
    Some(local.strftime("%Y-%m-%d %H:%M:%S").to_string())
}
