use std::process::ExitCode;

use crate::config::TimeSpan;
use crate::ops::save::{GoOn, Progress};
use crate::ops::{self, Host};

use super::output::{Output, bytes};
use super::several::{self, Several};

/// Save running VMs and stop them
///
/// Writes memory and devices of a VM to disk and stops it. The next start goes on
/// where it was. What keeps a VM from being saved is said before anything is
/// done; whatever fails, the guest runs on.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    several: Several,
    /// Give up when it takes longer, such as 30s or 5m
    #[arg(long, value_name = "TIME")]
    timeout: Option<TimeSpan>,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let names = ops::stop::running(host, &args.several.selectors())?;
    let limit = args.timeout.map(TimeSpan::duration);
    let interrupted = super::interrupt::watch()?;
    let watch = |_: Progress| match interrupted() {
        true => GoOn::No,
        false => GoOn::Yes,
    };
    several::each(
        &names,
        |name| ops::save::save(host, name, limit, &mut { watch }),
        |name, done| {
            let size = bytes(done.bytes);
            out.done(&done, format_args!("VM `{name}` saved ({size})"))
        },
    )
}
