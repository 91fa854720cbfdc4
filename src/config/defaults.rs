//! What a user wants in every VM that does not say otherwise.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::check::{check_cpus, check_machine, check_memory};
use super::error::Error;
use super::source::Source;
use super::{AccelChoice, Size, VmConfig};

/// The `[defaults]` table of `config.toml`.
///
/// They hold for a definition that lacks the key, each time that it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub struct Defaults {
    /// Accelerator.
    pub accel: Option<AccelChoice>,
    /// Memory of the guest.
    pub memory: Option<Size>,
    /// Number of CPUs.
    pub cpus: Option<u32>,
    /// QEMU's machine type.
    pub machine: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
struct File {
    defaults: Defaults,
}

impl Defaults {
    /// Reads the text of a `config.toml`.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Error> {
        let source = Source::parse(text, file)?;
        let defaults = source.read::<File>(&mut Vec::new())?.defaults;
        let checks = [
            ("defaults.memory", defaults.memory.map(check_memory)),
            ("defaults.cpus", defaults.cpus.map(check_cpus)),
            (
                "defaults.machine",
                defaults.machine.as_deref().map(check_machine),
            ),
        ];
        let mistakes = checks
            .into_iter()
            .filter_map(|(key, check)| Some(source.mistake(key, check?.err()?)))
            .collect();
        source.check(mistakes)?;
        Ok(defaults)
    }

    pub(super) fn apply(&self, config: &mut VmConfig, source: &Source<'_>) {
        fn fill<T: Clone>(slot: &mut T, default: &Option<T>, says: bool) {
            if let Some(value) = default
                && !says
            {
                *slot = value.clone();
            }
        }
        fill(&mut config.accel, &self.accel, source.says("accel"));
        fill(&mut config.memory, &self.memory, source.says("memory"));
        fill(&mut config.cpus, &self.cpus, source.says("cpus"));
        fill(&mut config.machine, &self.machine, source.says("machine"));
    }
}
