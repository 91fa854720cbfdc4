//! What came of acting on a running VM.

use serde::Serialize;

use crate::qmp::{Error, Monitor, RunState};

/// What came of acting on a running VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// Whether anything had to be done.
    pub changed: bool,
    /// What the guest is doing now.
    pub state: RunState,
}

impl Effect {
    /// That something changed, and what the guest is doing since.
    pub(super) fn since(monitor: &mut Monitor, changed: bool) -> Result<Self, Error> {
        let state = match monitor.status() {
            Ok(status) => status.run_state,
            // A guest that goes on may be off a moment later, and its QEMU gone.
            Err(Error::Closed { .. }) => RunState::Shutdown,
            Err(error) => return Err(error),
        };
        Ok(Self { changed, state })
    }
}
