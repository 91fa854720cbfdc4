//! `maqet snapshot`: VMs as they were.

mod create;
mod ls;
mod merge;
mod prune;
mod restore;
mod rm;
mod show;

use std::process::ExitCode;

use clap::Subcommand;

use crate::ops::Host;

use super::output::Output;

/// Make, list, restore and delete snapshots
#[derive(Subcommand)]
pub(super) enum Command {
    Create(create::Args),
    Ls(ls::Args),
    Show(show::Args),
    Restore(restore::Args),
    Rm(rm::Args),
    Merge(merge::Args),
    Prune(prune::Args),
}

pub(super) fn run(out: &Output, host: &Host, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create(args) => create::run(out, host, &args),
        Command::Ls(args) => ls::run(out, host, &args),
        Command::Show(args) => show::run(out, host, &args),
        Command::Restore(args) => restore::run(out, host, &args),
        Command::Rm(args) => rm::run(out, host, &args),
        Command::Merge(args) => merge::run(out, host, &args),
        Command::Prune(args) => prune::run(out, host, &args),
    }
}
