use std::path::PathBuf;

use crate::vm::VmName;

/// What can go wrong between maqet and the service manager.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no manager to talk to: no user manager runs, or not for us.
    #[error("no systemd {manager} answers at {}", .socket.display())]
    NoManager {
        /// `user manager` or `system manager`.
        manager: &'static str,
        /// The socket that was tried.
        socket: PathBuf,
        /// Why connecting failed.
        #[source]
        source: zbus::Error,
    },
    /// The manager answered a request with an error.
    #[error("systemd refused to {action} {unit}")]
    Refused {
        /// What was asked, as a verb.
        action: &'static str,
        /// The unit it was asked for.
        unit: String,
        /// systemd's own words.
        #[source]
        source: zbus::Error,
    },
    /// A job ended with a result other than `done`.
    #[error("the job to {action} {unit} ended as `{result}`")]
    Job {
        /// What was asked, as a verb.
        action: &'static str,
        /// The unit it was asked for.
        unit: String,
        /// systemd's word: `failed`, `canceled`, `timeout`, `dependency`, `skipped`.
        result: String,
    },
    /// It requires a VM that is not up.
    #[error("{unit} requires VM `{on}`, which did not start")]
    Dependency {
        /// The unit.
        unit: String,
        /// The VM it requires.
        on: VmName,
    },
    /// `maqet@.service` is not where the manager looks for units.
    #[error("maqet@.service, which starts VMs at boot, is not installed")]
    NoTemplate,
    /// logind did not say or do what it was asked.
    #[error("logind refused")]
    Logind(#[source] zbus::Error),
    /// The connection broke, or a reply made no sense.
    #[error("the connection to systemd failed")]
    Bus(#[source] zbus::Error),
    /// `journalctl` could not be run, or failed.
    #[error("cannot read the journal: {0}")]
    Journal(String),
}
