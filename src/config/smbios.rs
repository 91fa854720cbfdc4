//! What the firmware's tables tell a guest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Faults;
use super::{Board, VmConfig};

/// What the guest is told of its maker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Smbios {
    /// Who has made it.
    pub manufacturer: Option<String>,
    /// What it is.
    pub product: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// The number it is sold under.
    pub sku: Option<String>,
    /// The family that it belongs to.
    pub family: Option<String>,
    /// Texts for programs in the guest.
    #[schemars(inner(length(min = 1)))]
    pub oem: Vec<String>,
}

impl Smbios {
    /// The strings of the table that is about the system, by QEMU's names of them.
    pub fn system(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("manufacturer", &self.manufacturer),
            ("product", &self.product),
            ("version", &self.version),
            ("serial", &self.serial),
            ("sku", &self.sku),
            ("family", &self.family),
        ]
        .into_iter()
        .filter_map(|(key, text)| Some((key, text.as_deref()?)))
    }
}

pub(super) fn check(config: &VmConfig, faults: &mut Faults) {
    for (i, text) in config.smbios.oem.iter().enumerate() {
        // An empty one would be the end of the list.
        let message = "a text has one character at least";
        faults.add_if(text.is_empty(), format!("smbios.oem.{i}"), message);
    }
    faults.add_if(
        matches!(config.board(), Board::Microvm | Board::None)
            && config.smbios != Smbios::default(),
        "smbios",
        format!("machine `{}` has no SMBIOS", config.machine),
    );
}
