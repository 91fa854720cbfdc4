use crate::config::DeviceName;
use crate::vm::VmName;

/// Why something was not done with a disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The VM has no such disk.
    #[error("VM `{vm}` has no disk `{disk}`")]
    NoSuch {
        /// The VM.
        vm: VmName,
        /// What was asked for.
        disk: DeviceName,
        /// The nearest one that it has.
        nearest: Option<String>,
    },
}
