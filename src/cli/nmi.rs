use std::process::ExitCode;

use crate::ops::{self, Effect, Host};
use crate::qmp::RunState;

use super::output::Output;
use super::several::Running;

/// Send VMs a non-maskable interrupt
///
/// A guest that hangs may be set up to say why, or to panic (Linux:
/// kernel.unknown_nmi_panic).
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    vms: Running,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    args.vms.each(out, host, ops::nmi::nmi, words)
}

fn words(effect: &Effect) -> String {
    match effect.state {
        RunState::Running => "got a non-maskable interrupt".to_owned(),
        _ => format!(
            "gets a non-maskable interrupt when it goes on ({})",
            effect.state
        ),
    }
}
