//! What a definition says of its unit: checked, and made into settings.

use crate::config::{Fault, UnitValue, VmConfig};
use crate::systemd::property::{self, Given, Setting};

/// What QEMU needs beside its guest's memory: this, and a twentieth of that memory.
const OVERHEAD: u64 = 512 << 20;

/// What is wrong with the properties of its unit, as far as it can be told without systemd.
pub(super) fn faults(config: &VmConfig) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, value) in &config.unit {
        let fault = |in_name, message| Fault {
            key: format!("unit.{name}"),
            in_name,
            message,
        };
        match property::parse(name, given(value)) {
            Err(error) => faults.push(fault(error.is_in_name(), error.to_string())),
            Ok(_) => faults.extend(
                too_little_memory(config, name, value).map(|message| fault(false, message)),
            ),
        }
    }
    faults
}

/// Why a limit of memory would have the guest killed; `None` if it would not.
pub(super) fn too_little_memory(
    config: &VmConfig,
    name: &str,
    value: &UnitValue,
) -> Option<String> {
    let (true, UnitValue::Text(text)) = (name == "MemoryMax", value) else {
        return None;
    };
    let limit = property::memory_limit(text, host_memory())?;
    let memory = config.memory.size.bytes();
    let share = memory / 20;
    let needed = needed_memory(config);
    (limit < needed).then(|| {
        format!(
            "a MemoryMax of {} MiB is too little, the guest would be killed: its memory of {} MiB, \
             and 512 MiB + 5% ({} MiB) for QEMU, are {} MiB",
            limit >> 20,
            mib(memory),
            mib(share),
            mib(needed)
        )
    })
}

/// What a VM may come to use of memory, in bytes.
pub(super) fn needed_memory(config: &VmConfig) -> u64 {
    let memory = config.memory.size.bytes();
    memory + OVERHEAD + memory / 20
}

/// In whole MiB, for words.
pub(super) fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

pub(super) fn host_memory() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(info.mem_unit.into())
}

/// A value of `[unit]` as the one of a unit file.
pub(super) fn given(value: &UnitValue) -> Given<'_> {
    match value {
        UnitValue::Text(text) => Given::Text(text),
        UnitValue::List(items) => Given::List(items),
    }
}

/// The settings of a VM's unit: what its definition says, and what goes with that.
///
/// # Errors
/// [`property::Error`] for what [`faults`] would have found.
pub(super) fn settings(config: &VmConfig) -> Result<Vec<Setting>, property::Error> {
    let said = config
        .unit
        .iter()
        .map(|(name, value)| property::parse(name, given(value)));
    let implied = implied(config)
        .into_iter()
        .map(|(name, text)| property::parse(name, Given::Text(text)));
    said.chain(implied).collect()
}

/// What a VM that is restarted has unless its definition says otherwise.
fn implied(config: &VmConfig) -> Vec<(&'static str, &'static str)> {
    let restart = match config.unit.get("Restart") {
        Some(UnitValue::Text(word)) if word != "no" => word.as_str(),
        _ => return Vec::new(),
    };
    let mut implied = vec![("StartLimitIntervalSec", "60s"), ("StartLimitBurst", "3")];
    if restart == "always" {
        // QEMU exits with 0 when the guest has powered itself off, and that is to last.
        implied.push(("RestartPreventExitStatus", "0"));
    }
    implied.retain(|(name, _)| !config.unit.contains_key(*name));
    implied
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> VmConfig {
        VmConfig::parse(text, Path::new("web.toml")).unwrap()
    }

    #[test]
    fn a_limit_below_what_the_vm_needs_is_told_with_the_arithmetic() {
        let limited =
            |limit: &str| config(&format!("memory = \"4G\"\nunit.MemoryMax = \"{limit}\""));
        let found = faults(&limited("3G"));
        assert_eq!(found[0].key, "unit.MemoryMax");
        assert_eq!(
            found[0].message,
            "a MemoryMax of 3072 MiB is too little, the guest would be killed: its memory of \
             4096 MiB, and 512 MiB + 5% (205 MiB) for QEMU, are 4813 MiB"
        );
        for enough in ["4813M", "8G", "infinity"] {
            assert!(faults(&limited(enough)).is_empty(), "{enough}");
        }
        assert_eq!(faults(&limited("0.01%")).len(), 1);
    }

    #[test]
    fn what_goes_with_a_restart_is_there_unless_the_definition_says_otherwise() {
        let names = |text: &str| -> Vec<&str> {
            implied(&config(text))
                .into_iter()
                .map(|(name, _)| name)
                .collect()
        };
        assert_eq!(names(""), [""; 0]);
        assert_eq!(names("unit.Restart = \"no\""), [""; 0]);
        assert_eq!(
            names("unit.Restart = \"on-failure\""),
            ["StartLimitIntervalSec", "StartLimitBurst"]
        );
        assert_eq!(
            names("unit = { Restart = \"always\", StartLimitBurst = 9 }"),
            ["StartLimitIntervalSec", "RestartPreventExitStatus"]
        );
    }
}
