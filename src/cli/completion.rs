use std::io::{self, Write};
use std::process::ExitCode;

use clap_complete::Shell;

/// Print a completion script for a shell
///
/// `make install` puts those for bash, zsh and fish where the shells look.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Shell that the script is for
    shell: Shell,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "maqet", &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
