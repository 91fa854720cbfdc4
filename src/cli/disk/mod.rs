//! `maqet disk`: the disks of VMs, running and stopped.

mod add;
mod attach;
mod check;
mod compact;
mod detach;
mod info;
mod ls;
mod map;
mod merge;
mod r#move;
mod orphans;
pub(super) mod progress;
mod rebase;
mod resize;
mod rm;

use std::process::ExitCode;

use clap::Subcommand;

use crate::ops::Host;
use crate::ops::disk::When;

use super::output::Output;

/// Look at the disks of VMs and change them
///
/// While a VM runs, its QEMU is asked and told; while it does not, qemu-img(1) works on
/// the files. What another VM's disk stands on is never written.
#[derive(Subcommand)]
pub(super) enum Command {
    Ls(ls::Args),
    Info(info::Args),
    Add(add::Args),
    Attach(attach::Args),
    Detach(detach::Args),
    Rm(rm::Args),
    Resize(resize::Args),
    Move(r#move::Args),
    Compact(compact::Args),
    Rebase(rebase::Args),
    Merge(merge::Args),
    Check(check::Args),
    Map(map::Args),
    Orphans(orphans::Args),
}

pub(super) fn run(out: &Output, host: &Host, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Ls(args) => ls::run(out, host, &args),
        Command::Info(args) => info::run(out, host, &args),
        Command::Add(args) => add::run(out, host, args),
        Command::Attach(args) => attach::run(out, host, args),
        Command::Detach(args) => detach::run(out, host, &args),
        Command::Rm(args) => rm::run(out, host, &args),
        Command::Resize(args) => resize::run(out, host, &args),
        Command::Move(args) => r#move::run(out, host, &args),
        Command::Compact(args) => compact::run(out, host, &args),
        Command::Rebase(args) => rebase::run(out, host, &args),
        Command::Merge(args) => merge::run(out, host, &args),
        Command::Check(args) => check::run(out, host, &args),
        Command::Map(args) => map::run(out, host, &args),
        Command::Orphans(args) => orphans::run(out, host, &args),
    }
}

/// Tells why a running VM is to be started anew for something to be so.
fn tell_when(out: &Output, when: &When) {
    if let When::NextStart(why) = when {
        out.warn(format_args!("this is so from the next start on: {why}"));
    }
}
