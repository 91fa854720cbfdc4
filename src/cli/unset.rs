use std::process::ExitCode;

use crate::ops::{self, Host};
use crate::vm::VmName;

use super::output::Output;

/// Take keys out of the definition of a VM
///
/// Each has its default then. A table goes with all that is in it: disk.data is
/// the whole disk, whose image stays where it is. What can be changed while the VM
/// runs is changed at once, and the rest waits for its next start. Either all keys
/// are taken out or none.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// Keys of maqet.toml(5) with dots between tables, such as disk.root.cache
    #[arg(required = true, value_name = "KEY", value_parser = key)]
    keys: Vec<String>,
    /// Leave a running VM as it is until its next start
    #[arg(long)]
    no_live: bool,
}

fn key(word: &str) -> Result<String, String> {
    match crate::config::is_key(word) {
        true => Ok(word.to_owned()),
        false => Err("write a key with dots between tables, such as disk.root.cache".to_owned()),
    }
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let changed = ops::unset::unset(host, &args.name, &args.keys, !args.no_live)?;
    super::set::report(out, &changed)?;
    Ok(ExitCode::SUCCESS)
}
