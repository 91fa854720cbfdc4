use std::process::ExitCode;

use crate::ops::{self, Effect, Host};
use crate::qmp::RunState;

use super::output::Output;
use super::several::Running;

/// Press the power button of VMs
///
/// Returns at once, and the guest decides what to make of it. maqet stop is
/// what asks again, waits and tells whether the guest is down.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    vms: Running,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    args.vms.each(out, host, ops::powerdown::powerdown, words)
}

fn words(effect: &Effect) -> String {
    match effect.state {
        RunState::Running => "had its power button pressed".to_owned(),
        _ => format!(
            "had its power button pressed; it hears of it when it goes on ({})",
            effect.state
        ),
    }
}
