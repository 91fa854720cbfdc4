use std::process::ExitCode;

use serde::Serialize;

use crate::ops::{self, Host, start::Outcome};

use super::output::Output;
use super::several::{Several, Tally};

/// Start VMs
///
/// Each runs as the systemd unit maqet-NAME.service, all are started at once,
/// and each is waited for until QEMU has taken its arguments. One that runs
/// already is left alone, and that is no failure.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    several: Several,
}

#[derive(Serialize)]
struct Started<'a> {
    name: &'a str,
    outcome: &'static str,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let names = ops::select(host, &args.several.selectors())?;
    let mut tally = Tally::default();
    ops::start::start(host, &names, |name, outcome| {
        tally.count(outcome, |outcome| {
            let (word, words) = match outcome {
                Outcome::Started => ("started", "started"),
                Outcome::AlreadyRunning => ("already-running", "is already running"),
            };
            let started = Started {
                name: name.as_str(),
                outcome: word,
            };
            out.done(&started, format_args!("VM `{name}` {words}"))
        });
    })?;
    tally.finish()
}
