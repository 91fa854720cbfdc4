use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::ops::{self, Host, start::Outcome};
use crate::vm::VmName;

use super::output::Output;
use super::several::{Several, Tally};

/// Start VMs
///
/// Each runs as the systemd unit maqet-NAME.service, all are started at once,
/// and each is waited for until QEMU has taken its arguments. One that runs
/// already is left alone, and that is no failure. One whose state was saved
/// (maqet save) goes on where it was, with the definition it had then. When the
/// VMs of a group that run then may need more memory than the group has, that is
/// told, and so is which limits do nothing, as you were not given their controllers.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    several: Several,
    /// Boot afresh also where a state was saved, and give that up
    #[arg(long)]
    discard_saved: bool,
}

#[derive(Serialize)]
struct Started<'a> {
    name: &'a str,
    outcome: &'static str,
    why_not_kvm: Option<&'a str>,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let names = ops::select(host, &args.several.selectors())?;
    let mut tally = Tally::default();
    start(out, host, &names, args.discard_saved, &mut tally)?;
    tally.finish()
}

/// Starts VMs and tells of each.
pub(super) fn start(
    out: &Output,
    host: &Host,
    names: &[VmName],
    discard_saved: bool,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let mut patience = Patience::new(out, names);
    let warnings = ops::start::start(host, names, discard_saved, |name, outcome| {
        patience.end(name);
        tally.count(outcome, |outcome| {
            let (word, words, why_not_kvm) = match outcome {
                Outcome::Started {
                    why_not_kvm,
                    resumed: false,
                } => ("started", "started", why_not_kvm),
                Outcome::Started { why_not_kvm, .. } => {
                    ("resumed", "goes on where it was saved", why_not_kvm)
                }
                Outcome::AlreadyRunning => ("already-running", "is already running", None),
            };
            let started = Started {
                name: name.as_str(),
                outcome: word,
                why_not_kvm: why_not_kvm.as_deref(),
            };
            let slow = why_not_kvm
                .as_ref()
                .map(|reason| format!(" (emulated, slowly: {reason})"));
            let slow = slow.unwrap_or_default();
            out.done(&started, format_args!("VM `{name}` {words}{slow}"))
        });
    })?;
    for warning in warnings {
        out.warn(warning);
    }
    Ok(())
}

/// How long a start may take without a word.
const SILENCE: Duration = Duration::from_secs(2);

/// Tells on a terminal, once, which VMs a start still waits for.
struct Patience {
    ended: Option<mpsc::Sender<VmName>>,
}

impl Patience {
    fn new(out: &Output, names: &[VmName]) -> Self {
        if !(out.talks() && io::stderr().is_terminal()) {
            return Self { ended: None };
        }
        let (tell, told) = mpsc::channel();
        let mut waiting: Vec<VmName> = names.to_vec();
        let deadline = Instant::now() + SILENCE;
        let note = out.teller();
        // Ends with what it listens to, or has its say a moment too late.
        std::thread::spawn(move || {
            let left = || deadline.saturating_duration_since(Instant::now());
            loop {
                match told.recv_timeout(left()) {
                    Ok(name) => waiting.retain(|it| *it != name),
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => break,
                }
            }
            note(&waiting_for(&waiting));
        });
        Self { ended: Some(tell) }
    }

    fn end(&mut self, name: &VmName) {
        if let Some(ended) = &self.ended {
            // It listens for as long as it may have something to say.
            let _ = ended.send(name.clone());
        }
    }
}

fn waiting_for(names: &[VmName]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    format!(
        "waiting until {} as far as the definition wants; Ctrl-C ends the waiting, and not the start",
        match names.as_slice() {
            [one] => format!("VM {one} is up"),
            many => format!("VMs {} are up", many.join(", ")),
        }
    )
}
