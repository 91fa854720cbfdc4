use std::process::ExitCode;

use crate::ops::{self, Effect, Host};

use super::output::Output;
use super::several::Running;

/// Pause VMs
///
/// Their virtual CPUs halt where they are; maqet resume lets them go on. One
/// that is paused already is left alone, and that is no failure.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    vms: Running,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    args.vms.each(out, host, ops::pause::pause, words)
}

fn words(effect: &Effect) -> String {
    match effect.changed {
        true => "paused".to_owned(),
        false => format!("is paused already ({})", effect.state),
    }
}
