use std::process::ExitCode;
use std::time::Duration;

use crate::internal;
use crate::vm::VmName;

/// What units run
#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Become the QEMU of a VM
    Launch {
        /// Name of the VM
        name: VmName,
    },
    /// Wait until QEMU has taken its arguments
    Ready,
    /// Ask the guest to power down, and wait for QEMU to end
    PowerDown {
        /// Seconds to wait for the guest; 0 does not ask it
        #[arg(long)]
        timeout: u64,
    },
    /// Keep the console logs of running VMs bounded
    Trim,
}

pub(super) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Launch { name } => match internal::launch::launch(&name)? {},
        Command::Ready => internal::ready::ready()?,
        Command::PowerDown { timeout } => {
            internal::power_down::power_down(Duration::from_secs(timeout))?;
        }
        Command::Trim => internal::trim::trim()?,
    }
    Ok(ExitCode::SUCCESS)
}
