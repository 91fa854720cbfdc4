use std::path::PathBuf;

use crate::qmp::{RunState, schema};
use crate::vm::VmName;

/// Why a device did not come or go.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is to be added has no such name.
    #[error("`{0}` is neither disk.NAME, net.NAME, device.NAME nor a driver")]
    What(String),
    /// Its settings make no sense.
    #[error("`{what}`: {message}")]
    Settings {
        /// The table or driver.
        what: String,
        /// What is wrong.
        message: String,
    },
    /// The driver does not have such properties.
    #[error("`{driver}`: {error}")]
    Properties {
        /// The VM.
        name: VmName,
        /// The driver.
        driver: String,
        /// What is wrong.
        error: schema::Error,
    },
    /// The definition says already what it is.
    #[error("`{what}` is in the definition of VM `{name}` already")]
    Defined {
        /// The VM.
        name: VmName,
        /// The table.
        what: String,
    },
    /// It is there already.
    #[error("VM `{name}` has a device `{id}` already")]
    Plugged {
        /// The VM.
        name: VmName,
        /// Its id.
        id: String,
    },
    /// There is no such device.
    #[error("VM `{name}` has no device `{what}`")]
    NoDevice {
        /// The VM.
        name: VmName,
        /// What was asked for.
        what: String,
        /// The nearest id there is.
        nearest: Option<String>,
    },
    /// Its bus takes no devices while the guest runs.
    #[error("`{what}`: a SATA drive cannot be added to a running VM")]
    Sata {
        /// The table.
        what: String,
    },
    /// All ports for devices that come while the guest runs are in use.
    #[error("VM `{name}` has no free port: all {ports} are taken")]
    NoPort {
        /// The VM.
        name: VmName,
        /// How many there are.
        ports: usize,
    },
    /// Another QEMU has the disk open.
    #[error("disk `{disk}`: {} is in use{}", .path.display(), of(.by.as_ref()))]
    InUse {
        /// The disk's name.
        disk: String,
        /// Its file.
        path: PathBuf,
        /// The VM whose QEMU it is, where maqet knows it.
        by: Option<VmName>,
    },
    /// QEMU cannot unplug it while the guest runs.
    #[error("`{id}` of VM `{name}` cannot be unplugged: it is on a bus without hot-plug")]
    Fixed {
        /// The VM.
        name: VmName,
        /// The device.
        id: String,
        /// Whether the definition has it.
        is_defined: bool,
    },
    /// The guest has to let go of the device, and does not run.
    #[error("the guest of VM `{name}` is {state}: it cannot let go of `{id}`")]
    GuestStopped {
        /// The VM.
        name: VmName,
        /// The device.
        id: String,
        /// What it is doing.
        state: RunState,
    },
    /// The guest did not let go of the device.
    #[error("the guest of VM `{name}` did not let go of `{id}` within {seconds} s")]
    Kept {
        /// The VM.
        name: VmName,
        /// The device.
        id: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The guest said that it would not let go of the device.
    #[error("the guest of VM `{name}` refused to let go of `{id}`")]
    Refused {
        /// The VM.
        name: VmName,
        /// The device.
        id: String,
    },
    /// The VM has changed, and its definition has not.
    #[error("`{what}` was {done}, but the definition of VM `{name}` could not be changed")]
    NotKept {
        /// The VM.
        name: VmName,
        /// The device.
        what: String,
        /// `plugged` or `unplugged`.
        done: &'static str,
        /// Why.
        #[source]
        source: Box<crate::ops::Error>,
    },
    /// The definition changed again and again.
    #[error("the definition of VM `{0}` is being changed by others")]
    Contended(VmName),
}

fn of(vm: Option<&VmName>) -> String {
    vm.map(|vm| format!(" by VM `{vm}`")).unwrap_or_default()
}
