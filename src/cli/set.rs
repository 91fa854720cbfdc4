use std::process::ExitCode;

use anyhow::Context;

use crate::ops::change::{Change, Changed, KeptFile, When};
use crate::ops::set::{Options, Word};
use crate::ops::{self, Host};
use crate::vm::VmName;

use super::output::Output;

/// Change the definition of a VM, or the limits of its unit
///
/// Keys of the definition are written as in maqet.toml(5), with dots between
/// tables and without the quotes of texts: memory=4G, disk.root.cache=none,
/// 'net.lan.forward=["2222:22"]'. What a key is given is its whole value; += adds
/// to a list and -= takes out of it. What can be changed while the VM runs is
/// changed at once, and the rest waits for its next start.
///
/// Names with a capital are properties of the unit, with the syntax of unit files,
/// such as MemoryHigh=3G or CPUQuota=150%; an empty value is no limit. A running VM
/// has them at once and until it stops. With --persist they are changed in the
/// definition, as unit.MemoryHigh=3G does, too.
///
/// Either all are changed or none.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// Keys of maqet.toml(5), or properties of systemd.resource-control(5), systemd.exec(5), systemd.service(5)
    #[arg(required = true, value_name = "KEY=VALUE")]
    words: Vec<Word>,
    /// Have the definition keep the properties of the unit
    #[arg(long)]
    persist: bool,
    /// Leave a running VM as it is until its next start
    #[arg(long)]
    no_live: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let dir = std::env::current_dir().context("cannot tell the current directory")?;
    let options = Options {
        dir: &dir,
        persist: args.persist,
        live: !args.no_live,
    };
    let changed = ops::set::set(host, &args.name, &args.words, options)?;
    report(out, &changed)?;
    Ok(ExitCode::SUCCESS)
}

/// Tells what was changed.
pub(super) fn report(out: &Output, changed: &Changed) -> std::io::Result<()> {
    for warning in &changed.warnings {
        out.warn(warning);
    }
    for disk in &changed.made {
        out.note(format_args!("made {}", disk.display()));
    }
    kept(out, &changed.kept);
    for change in &changed.changes {
        out.note(format_args!("VM `{}`: {}", changed.name, words(change)));
    }
    let nothing = match (changed.changes.is_empty(), changed.persisted) {
        (false, _) => None,
        (true, true) => Some("only the text of its definition has changed"),
        (true, false) => Some("nothing to change"),
    };
    if let Some(words) = nothing {
        out.note(format_args!("VM `{}`: {words}", changed.name));
    }
    match out.json {
        true => out.answer(changed, |_| Ok(())),
        false => Ok(()),
    }
}

/// Tells where the files of disks are that are none now, and how those go.
pub(super) fn kept(out: &Output, files: &[KeptFile]) {
    for it in files {
        let file = it.file.display();
        match (it.is_made, it.is_orphan) {
            (true, true) => out.note(format_args!(
                "kept {file}: `maqet disk orphans --delete FILE` deletes it, once nothing uses it"
            )),
            (true, false) => out.note(format_args!("kept {file}: if it is to go, `rm` deletes it")),
            (false, _) => out.note(format_args!("kept {file}")),
        }
    }
}

/// A change on one line.
pub(super) fn words(change: &Change) -> String {
    let when = match change.when {
        When::Now => "",
        When::UntilStop => ", until it stops",
        When::NextStart => ", from its next start on",
    };
    format!("{}{when}", super::diff::words(&change.difference))
}
