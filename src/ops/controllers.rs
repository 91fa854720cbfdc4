//! Limits that do nothing, as the user's manager was not given the controllers for them.

use std::cell::OnceCell;

use crate::config::{UnitValue, VmConfig};
use crate::systemd::{manager, property};

use super::Host;

/// The controllers there are, asked for when there is a limit to ask about.
pub(super) struct Controllers<'a> {
    host: &'a Host,
    there: OnceCell<Option<Vec<String>>>,
}

impl<'a> Controllers<'a> {
    pub fn new(host: &'a Host) -> Self {
        Self {
            host,
            there: OnceCell::new(),
        }
    }

    /// Tells of those properties, with their values, that do nothing here; `None` if there
    /// are none, or that cannot be told.
    pub fn idle<'p>(
        &self,
        properties: impl IntoIterator<Item = (&'p str, &'p str)>,
    ) -> Option<String> {
        let mut limits = properties
            .into_iter()
            .filter(|(_, value)| !matches!(*value, "" | "infinity"))
            .filter_map(|(name, _)| Some((name, property::controller(name)?)))
            .peekable();
        limits.peek()?;
        let ask = || manager::controllers(&self.host.scope).ok().flatten();
        idle(limits, self.there.get_or_init(ask).as_deref()?)
    }

    /// The same of what a definition says, and did not `before`.
    pub fn idle_in(&self, config: &VmConfig, before: Option<&VmConfig>) -> Option<String> {
        let is_new = |name: &str, value: &UnitValue| {
            before.is_none_or(|before| before.unit.get(name) != Some(value))
        };
        self.idle(limits(config).filter(|(name, _)| is_new(name, &config.unit[*name])))
    }
}

/// The properties of a VM's unit, with the values that say whether they are limits.
pub(super) fn limits(config: &VmConfig) -> impl Iterator<Item = (&str, &str)> {
    config.unit.iter().map(|(name, value)| match value {
        UnitValue::Text(text) => (name.as_str(), text.as_str()),
        UnitValue::List(items) => (name.as_str(), items.first().map_or("", String::as_str)),
    })
}

fn idle<'p>(
    limits: impl Iterator<Item = (&'p str, &'static str)>,
    there: &[String],
) -> Option<String> {
    let mut words: Vec<String> = limits
        .filter(|(_, controller)| !there.iter().any(|it| it == controller))
        .map(|(name, controller)| format!("`{name}` ({controller})"))
        .collect();
    words.sort();
    words.dedup();
    (!words.is_empty()).then(|| {
        format!(
            "limits whose controllers are not delegated to you do nothing: {}; `maqet doctor` \
             tells how to change that",
            words.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_without_their_controllers_are_told_once_with_them() {
        let there = ["cpu".to_owned(), "pids".to_owned()];
        let limits = [
            ("MemoryHigh", "memory"),
            ("CPUQuota", "cpu"),
            ("AllowedCPUs", "cpuset"),
            ("MemoryHigh", "memory"),
        ];
        let told = idle(limits.into_iter(), &there).unwrap();
        assert!(
            told.contains(": `AllowedCPUs` (cpuset), `MemoryHigh` (memory);"),
            "{told}"
        );
        assert_eq!(idle(limits[1..2].iter().copied(), &there), None);
    }
}
