//! What is done when a guest hangs or panics.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::VmConfig;
use super::check::Faults;
use super::short::{Short, one_word};

/// A device that acts when the guest has not been heard of for some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Watchdog {
    /// What the guest sees.
    pub model: WatchdogModel,
    /// What is done when it goes off.
    pub action: WatchdogAction,
}

/// A watchdog device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WatchdogModel {
    /// Intel's, on PCI.
    #[default]
    I6300esb,
    /// iBASE's, on ISA.
    Ib700,
}

/// What a watchdog does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WatchdogAction {
    /// Resets the guest.
    #[default]
    Reset,
    /// Asks it to power down.
    Shutdown,
    /// Cuts its power.
    Poweroff,
    /// Stops it where it is.
    Pause,
    /// Interrupts it, which makes most kernels panic.
    InjectNmi,
    /// Nothing: there is an event.
    None,
}

/// What a guest's panic does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PanicAction {
    /// QEMU ends, and the unit has failed.
    #[default]
    ExitFailure,
    /// QEMU ends as if the guest had powered itself off.
    Shutdown,
    /// The guest stays as it is, paused.
    Pause,
    /// The guest does what its kernel is told to do then.
    None,
}

impl Short for Watchdog {
    const EXPECTED: &str = "an action such as \"reset\", `true`, `false` or a table";

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<WatchdogAction>()
    }

    fn from_text(text: &str) -> Option<Result<Self, String>> {
        Some(one_word(text).map(|action| Self {
            action,
            ..Self::default()
        }))
    }
}

impl WatchdogModel {
    /// QEMU's name of the device.
    pub fn driver(self) -> &'static str {
        match self {
            Self::I6300esb => "i6300esb",
            Self::Ib700 => "ib700",
        }
    }
}

impl WatchdogAction {
    /// QEMU's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Shutdown => "shutdown",
            Self::Poweroff => "poweroff",
            Self::Pause => "pause",
            Self::InjectNmi => "inject-nmi",
            Self::None => "none",
        }
    }
}

impl PanicAction {
    /// QEMU's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExitFailure => "exit-failure",
            Self::Shutdown => "shutdown",
            Self::Pause => "pause",
            Self::None => "none",
        }
    }
}

pub(super) fn check(config: &VmConfig, faults: &mut Faults) {
    let board = config.board();
    if let Some(watchdog) = config.watchdog {
        let fits = match watchdog.model {
            WatchdogModel::I6300esb => board.has_pci(),
            WatchdogModel::Ib700 => board.is_pc(),
        };
        faults.add_if(
            !fits,
            "watchdog.model",
            format!("machine `{}` cannot have this watchdog", config.machine),
        );
    }
}
