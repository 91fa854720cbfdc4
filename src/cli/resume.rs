use std::process::ExitCode;

use crate::ops::{self, Effect, Host};

use super::output::Output;
use super::several::Running;

/// Resume VMs that are paused, wake those that sleep
///
/// One that runs already is left alone, and that is no failure.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    vms: Running,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    args.vms.each(out, host, ops::resume::resume, words)
}

fn words(effect: &Effect) -> String {
    match effect.changed {
        true => "resumed".to_owned(),
        false => format!("is {} already", effect.state),
    }
}
