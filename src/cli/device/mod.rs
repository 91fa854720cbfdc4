//! `maqet device`: devices that come and go while the VM runs.

mod add;
mod ls;
mod rm;

use std::process::ExitCode;

use clap::Subcommand;

use crate::ops::Host;

use super::output::Output;

/// Add, remove and list devices of a running VM
#[derive(Subcommand)]
pub(super) enum Command {
    Add(add::Args),
    Rm(rm::Args),
    Ls(ls::Args),
}

pub(super) fn run(out: &Output, host: &Host, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Add(args) => add::run(out, host, args),
        Command::Rm(args) => rm::run(out, host, args),
        Command::Ls(args) => ls::run(out, host, &args),
    }
}
