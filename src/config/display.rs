//! Where a guest's screen is shown, and what it draws on.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check::Faults;
use super::short::{Short, one_word};
use super::{Loopback, VmConfig, text};

/// Where the guest's screen is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Display {
    /// How.
    #[serde(rename = "type")]
    pub kind: DisplayKind,
    /// What a server listens on.
    pub listen: Listen,
}

/// How the guest's screen is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DisplayKind {
    /// Not at all; screenshots work all the same.
    #[default]
    None,
    /// In a GTK window.
    Gtk,
    /// In an SDL window.
    Sdl,
    /// By a VNC server.
    Vnc,
    /// By a SPICE server.
    Spice,
}

/// What the server of a display listens on, written `unix` or as an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listen {
    /// A socket in the runtime directory.
    #[default]
    Unix,
    /// An address of the loopback.
    Tcp(Loopback),
}

/// The video device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Vga {
    /// No video device.
    None,
    /// Standard VGA; every guest knows it.
    #[default]
    Std,
    /// virtio-gpu with VGA.
    Virtio,
    /// virtio-gpu alone.
    VirtioGpu,
    /// QXL, for SPICE.
    Qxl,
    /// The frame buffer of standard VGA alone.
    Bochs,
    /// Cirrus Logic, for guests of the nineties.
    Cirrus,
}

impl Short for Display {
    const EXPECTED: &str = "a kind of display such as \"vnc\", or a table";

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<DisplayKind>()
    }

    fn from_text(text: &str) -> Option<Result<Self, String>> {
        Some(one_word(text).map(|kind| Self {
            kind,
            ..Self::default()
        }))
    }
}

impl FromStr for Listen {
    type Err = super::InvalidLoopback;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "unix" => Ok(Self::Unix),
            address => address.parse().map(Self::Tcp),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix => f.write_str("unix"),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

impl JsonSchema for Listen {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Listen".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let address = generator.subschema_for::<Loopback>();
        json_schema!({ "anyOf": [{ "const": "unix" }, address] })
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(
            deserializer,
            "\"unix\" or an address such as \"127.0.0.1:5901\"",
        )
    }
}

/// The lowest port of VNC: displays are counted from it.
pub(crate) const VNC_PORT: u16 = 5900;

pub(super) fn check(config: &VmConfig, faults: &mut Faults) {
    let (board, machine) = (config.board(), &config.machine);
    let display = config.display;
    let is_server = matches!(display.kind, DisplayKind::Vnc | DisplayKind::Spice);
    if let Listen::Tcp(address) = display.listen {
        faults.add_if(
            !is_server,
            "display.listen",
            "only `vnc` and `spice` are servers that listen",
        );
        faults.add_if(
            display.kind == DisplayKind::Vnc && address.port() < VNC_PORT,
            "display.listen",
            "QEMU's VNC server takes ports from 5900 on",
        );
    }
    faults.add_if(
        !board.has_vga(config.vga),
        "vga",
        format!("machine `{machine}` cannot have this video device"),
    );
}
