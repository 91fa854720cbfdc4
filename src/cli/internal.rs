use std::process::ExitCode;
use std::time::Duration;

use crate::internal;
use crate::ops::{self, Host};
use crate::vm::VmName;

use super::output::Output;

/// What units run
#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Become the QEMU of a VM
    Launch {
        /// Name of the VM
        name: VmName,
    },
    /// Listen on stdin for what a guest tells over vsock
    Listen {
        /// Its CID
        cid: u32,
        /// The process to end with
        qemu: u32,
    },
    /// Wait until QEMU has taken its arguments
    Ready,
    /// Ask the guest to power down, and wait for QEMU to end
    PowerDown {
        /// Seconds to wait for the guest; 0 does not ask it
        #[arg(long)]
        timeout: u64,
        /// Save its state instead, if that works
        #[arg(long)]
        save: bool,
    },
    /// Thaw the guest of a VM when standard input ends
    Thaw {
        /// Name of the VM
        name: VmName,
    },
    /// Copy the rest of the console to the journal, after QEMU has ended
    Ended,
    /// Copy the consoles of running VMs to the journal, and keep their logs bounded
    Trim,
}

pub(super) fn run(out: &Output, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Launch { name } => match internal::launch::launch(&name, out.teller())? {},
        Command::Listen { cid, qemu } => internal::listen::listen(cid, qemu)?,
        Command::Ready => internal::ready::ready(&|words| out.note(words))?,
        Command::PowerDown { timeout, save } => {
            internal::power_down::power_down(Duration::from_secs(timeout), save, &|words| {
                out.note(words);
            })?;
        }
        Command::Thaw { name } => {
            ops::snapshot::quiesce::thaw_at_end(&Host::from_env()?, &name)?;
        }
        Command::Ended => internal::ship::ended()?,
        Command::Trim => internal::trim::trim()?,
    }
    Ok(ExitCode::SUCCESS)
}
