//! What a guest is pointed at and typed to with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Faults;
use super::{Board, VmConfig};

/// What the guest is pointed at and typed to with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// A USB tablet: the pointer is where the host's is.
    Tablet,
    /// A USB keyboard.
    Keyboard,
    /// A USB mouse.
    Mouse,
    /// A tablet of virtio.
    VirtioTablet,
    /// A keyboard of virtio.
    VirtioKeyboard,
    /// A mouse of virtio.
    VirtioMouse,
}

impl Input {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tablet => "tablet",
            Self::Keyboard => "keyboard",
            Self::Mouse => "mouse",
            Self::VirtioTablet => "virtio-tablet",
            Self::VirtioKeyboard => "virtio-keyboard",
            Self::VirtioMouse => "virtio-mouse",
        }
    }

    /// Whether it is plugged into a USB controller.
    pub fn is_usb(self) -> bool {
        matches!(self, Self::Tablet | Self::Keyboard | Self::Mouse)
    }
}

pub(super) fn check(config: &VmConfig, faults: &mut Faults) {
    let (board, machine) = (config.board(), &config.machine);
    for (i, input) in config.input.iter().enumerate() {
        let key = || format!("input.{i}");
        let word = input.as_str();
        let fits = board != Board::None && (board.has_pci() || !input.is_usb());
        faults.add_if(
            !fits,
            key(),
            format!("machine `{machine}` cannot have a `{word}`"),
        );
        let twice = config.input[..i].contains(input);
        faults.add_if(twice, key(), format!("`{word}` is there twice"));
    }
}
