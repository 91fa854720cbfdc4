//! A guest's sound device, and where it is heard.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::check::Faults;
use super::short::{Short, one_word};
use super::{DisplayKind, VmConfig};

/// A sound device, and where its sound goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Audio {
    /// QEMU's audio driver.
    pub backend: AudioBackend,
    /// What the guest sees.
    pub device: SoundDevice,
}

/// An audio driver of QEMU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AudioBackend {
    /// Nowhere: a guest that wants a sound device has one.
    #[default]
    None,
    /// The kernel's ALSA.
    Alsa,
    /// D-Bus.
    Dbus,
    /// A JACK server.
    Jack,
    /// The kernel's OSS.
    Oss,
    /// A PulseAudio server.
    Pa,
    /// A PipeWire server.
    Pipewire,
    /// SDL.
    Sdl,
    /// A sndio server.
    Sndio,
    /// The client of the SPICE display.
    Spice,
}

/// A sound device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SoundDevice {
    /// Intel HD Audio, with a line in and out.
    #[default]
    Hda,
    /// virtio-sound.
    Virtio,
}

impl Short for Audio {
    const EXPECTED: &str = "an audio driver such as \"pipewire\", `false` or a table";

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<AudioBackend>()
    }

    fn from_text(text: &str) -> Option<Result<Self, String>> {
        Some(one_word(text).map(|backend| Self {
            backend,
            ..Self::default()
        }))
    }
}

impl AudioBackend {
    /// QEMU's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Alsa => "alsa",
            Self::Dbus => "dbus",
            Self::Jack => "jack",
            Self::Oss => "oss",
            Self::Pa => "pa",
            Self::Pipewire => "pipewire",
            Self::Sdl => "sdl",
            Self::Sndio => "sndio",
            Self::Spice => "spice",
        }
    }
}

pub(super) fn check(config: &VmConfig, faults: &mut Faults) {
    if let Some(audio) = config.audio {
        faults.add_if(
            !config.board().has_pci(),
            "audio",
            format!("machine `{}` cannot have a sound device", config.machine),
        );
        faults.add_if(
            audio.backend == AudioBackend::Spice && config.display.kind != DisplayKind::Spice,
            "audio.backend",
            "sound goes to a SPICE client only where `display` is `spice`",
        );
    }
}
