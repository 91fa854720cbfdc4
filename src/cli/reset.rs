use std::process::ExitCode;

use crate::ops::{self, Effect, Host};
use crate::qmp::RunState;

use super::output::Output;
use super::several::Running;

/// Reset VMs, as the reset button does
///
/// Nothing in the guest is asked, and what it has not written to its disks is
/// lost. A VM that was paused is reset as well, and waits for maqet resume.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    vms: Running,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    args.vms.each(out, host, ops::reset::reset, words)
}

fn words(effect: &Effect) -> String {
    match effect.state {
        RunState::Running => "reset".to_owned(),
        _ => format!("reset; it is not running ({})", effect.state),
    }
}
