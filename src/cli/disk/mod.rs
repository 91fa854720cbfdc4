//! `maqet disk`: the disks of VMs, running and stopped.

mod info;
mod ls;

use std::process::ExitCode;

use clap::Subcommand;

use crate::ops::Host;

use super::output::Output;

/// Look at the disks of VMs
#[derive(Subcommand)]
pub(super) enum Command {
    Ls(ls::Args),
    Info(info::Args),
}

pub(super) fn run(out: &Output, host: &Host, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Ls(args) => ls::run(out, host, &args),
        Command::Info(args) => info::run(out, host, &args),
    }
}
