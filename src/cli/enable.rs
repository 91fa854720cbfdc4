use std::process::ExitCode;

use serde::Serialize;

use crate::ops::{self, Host};
use crate::vm::VmName;

use super::output::Output;
use super::several::{Several, Tally};
use super::start;

/// Start VMs at boot
///
/// Enables the unit maqet@NAME.service, which starts the VM when your user
/// manager starts. That is at boot if you linger (see loginctl(1)), and when you
/// log in if you do not. Enabling twice is no failure.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    several: Several,
    /// Start them now, too
    #[arg(long)]
    now: bool,
    /// Linger from now on: have the user manager run from boot, and after you log out
    #[arg(long)]
    linger: bool,
}

#[derive(Serialize)]
struct Enabled<'a> {
    name: &'a VmName,
    outcome: &'static str,
    linger: Option<bool>,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let names = ops::select(host, &args.several.selectors())?;
    let changed = ops::enable::enable(host, &names)?;
    let mut tally = Tally::default();
    let lingers = match ops::enable::lingers() {
        Some(true) => Some(true),
        before if args.linger => match ops::enable::linger() {
            Ok(()) => Some(true),
            Err(error) => {
                tally.count(Err::<(), _>(error), |()| Ok(()));
                before
            }
        },
        before => before,
    };
    let when = match lingers {
        Some(false) => "when you log in",
        _ => "at boot",
    };
    for name in &names {
        let (outcome, already) = match changed.contains(name) {
            true => ("enabled", ""),
            false => ("already-enabled", " already"),
        };
        let enabled = Enabled {
            name,
            outcome,
            linger: lingers,
        };
        out.done(&enabled, format_args!("VM `{name}` starts {when}{already}"))?;
    }
    if lingers == Some(false) && !args.linger {
        out.note(
            "warning: you do not linger: VMs start only when you log in, and stop when you log out\n\
             hint: `maqet enable --linger`, with the same names, changes that",
        );
    }
    if args.now {
        start::start(out, host, &names, false, &mut tally)?;
    }
    tally.finish()
}
